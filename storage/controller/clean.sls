#!py
# Remove the controller's configuration and the engine. The catalog stays: nothing else records which volume belongs to whom.
# Refused while volumes are attached to this host; the other hosts' volumes can be let go of only while the controller runs.


def run():
    lookup = __salt__["storage_pillar.lookup"]()["controller"]
    states = {"storage-controller-unused": {"storage_controller.unused": [{"name": "storage.controller"}]}}
    before = {"require": [{"storage_controller": "storage-controller-unused"}]}
    for part in ("master_config", "config"):
        states[f"storage-controller-{part.replace('_', '-')}-clean"] = {"file.absent": [{"name": lookup[part]}, before]}
    if lookup["service"]:
        states["storage-controller-service-clean"] = {
            "service.running": [{"name": lookup["service"]}, {"watch": [{"file": "storage-controller-master-config-clean"}]}]
        }
    return states
