{#- Take the controller's configuration away. The catalog stays, since it is the only record of whose volumes are whose. #}
{%- from "storage/map.jinja" import storage with context %}
storage-controller-config-clean:
  file.absent:
    - name: {{ storage.controller.config | tojson }}
{%- if storage.controller.service %}

storage-controller-service-clean:
  service.running:
    - name: {{ storage.controller.service | tojson }}
    - watch:
      - file: storage-controller-config-clean
{%- endif %}
