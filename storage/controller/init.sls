{#- Pillar storage:controller -> the master's option `storage`, and the storage engine. For the minion on the master's host. #}
{%- from "storage/map.jinja" import storage with context %}
{%- set problem = salt["storage_pillar.controller_problem"]() %}
{%- if problem %}
storage-controller-invalid:
  storage_pillar.invalid:
    - name: storage:controller
    - comment: {{ problem | tojson }}
{%- else %}
{%- set controller = salt["pillar.get"]("storage:controller") %}
{%- set engines = {"engines": [{"storage": {}}]} if storage.controller.engine else {} %}
storage-controller-state-dir:
  file.directory:
    - name: {{ controller.get("state_dir", storage.controller.state_dir) | tojson }}
    - user: {{ storage.controller.user | tojson }}
    - group: {{ storage.controller.group | tojson }}
    - mode: '0700'
    - makedirs: true

storage-controller-config:
  file.serialize:
    - name: {{ storage.controller.config | tojson }}
    - dataset: {{ dict(engines, storage=controller) | tojson }}
    - serializer: yaml
    - user: {{ storage.controller.user | tojson }}
    - group: {{ storage.controller.group | tojson }}
    - mode: '0600'
    - makedirs: true
    - show_changes: false {#- the file may hold passwords of arrays #}
{%- if storage.controller.service %}

storage-controller-service:
  service.running:
    - name: {{ storage.controller.service | tojson }}
    - watch:
      - file: storage-controller-config
{%- endif %}
{%- endif %}
