#!py
# Remove the units that attach volumes at boot. Apply this only when no volume is attached at boot any more. Packages stay.


def run():
    problem = __salt__["storage_pillar.consumer_problem"]()
    if problem:
        return {"storage-consumer-invalid": {"storage_pillar.invalid": [{"name": "storage:consumer"}, {"comment": problem}]}}
    if __grains__.get("init") != "systemd":
        return {}
    lookup = __salt__["storage_pillar.lookup"]()["consumer"]
    states = {}
    for key, name in (("", "salt-storage-reattach"), ("-unlock", "salt-storage-unlock")):
        states[f"storage-consumer{key}-service-clean"] = {"service.disabled": [{"name": name}]}
        states[f"storage-consumer{key}-unit-clean"] = {
            "file.absent": [
                {"name": f"{lookup['unit_dir']}/{name}.service"},
                {"require": [{"service": f"storage-consumer{key}-service-clean"}]},
            ]
        }
    return states
