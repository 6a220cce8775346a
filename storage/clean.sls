# Undo what `storage` installs on a minion. Volumes stay as they are: let go of them first, with `state: disconnected` in pillar.
include:
  - storage.consumer.clean
