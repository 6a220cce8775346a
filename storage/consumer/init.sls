{#- The unit that attaches volumes at boot, before the file systems on them are mounted. Volumes need it where systemd runs. #}
{%- from "storage/map.jinja" import storage with context %}
{%- if grains.get("init") == "systemd" %}
storage-consumer-unit:
  file.managed:
    - name: /etc/systemd/system/salt-storage-reattach.service
    - source: salt://storage/files/salt-storage-reattach.service
    - template: jinja
    - context:
        salt_call: {{ (storage.consumer.salt_call or salt["cmd.which"]("salt-call") or "/usr/bin/salt-call") | tojson }}
        config_dir: {{ opts.get("config_dir", "/etc/salt") | tojson }}
    - mode: '0644'

storage-consumer-service:
  service.enabled:
    - name: salt-storage-reattach
    - require:
      - file: storage-consumer-unit
{%- else %}
{}
{%- endif %}
