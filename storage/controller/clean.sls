#!py
# Remove the controller's configuration. The catalog stays: nothing else records which volume belongs to whom.


def run():
    lookup = __salt__["storage_pillar.lookup"]()["controller"]
    states = {"storage-controller-config-clean": {"file.absent": [{"name": lookup["config"]}]}}
    if lookup["service"]:
        states["storage-controller-service-clean"] = {
            "service.running": [{"name": lookup["service"]}, {"watch": [{"file": "storage-controller-config-clean"}]}]
        }
    return states
