# Volumes of this minion, from pillar. The master's own configuration is storage.controller.
include:
  - storage.volumes
