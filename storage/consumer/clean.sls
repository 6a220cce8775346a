{#- Take the unit away. Do this only when no volume is attached at boot any more. #}
storage-consumer-service-clean:
  service.disabled:
    - name: salt-storage-reattach

storage-consumer-unit-clean:
  file.absent:
    - name: /etc/systemd/system/salt-storage-reattach.service
    - require:
      - service: storage-consumer-service-clean
