#!py
# Remove the unit that attaches volumes at boot. Apply this only when no volume is attached at boot any more. Packages stay.


def run():
    problem = __salt__["storage_pillar.consumer_problem"]()
    if problem:
        return {"storage-consumer-invalid": {"storage_pillar.invalid": [{"name": "storage:consumer"}, {"comment": problem}]}}
    if __grains__.get("init") != "systemd":
        return {}
    lookup = __salt__["storage_pillar.lookup"]()["consumer"]
    return {
        "storage-consumer-service-clean": {"service.disabled": [{"name": "salt-storage-reattach"}]},
        "storage-consumer-unit-clean": {
            "file.absent": [
                {"name": f"{lookup['unit_dir']}/salt-storage-reattach.service"},
                {"require": [{"service": "storage-consumer-service-clean"}]},
            ]
        },
    }
