#!py
# Remove the units that attach volumes at boot; refused while volumes are attached. Packages and the storage environment stay.


def run():
    problem = __salt__["storage_pillar.consumer_problem"]()
    if problem:
        return {"storage-consumer-invalid": {"storage_pillar.invalid": [{"name": "storage:consumer"}, {"comment": problem}]}}
    if __grains__.get("init") != "systemd":
        return {}
    lookup = __salt__["storage_pillar.lookup"]()["consumer"]
    states = {"storage-consumer-unused": {"storage_environment.none_attached": [{"name": "storage.consumer"}]}}
    before = {"require": [{"storage_environment": "storage-consumer-unused"}]}
    for key, name in (("", "salt-storage-reattach"), ("-unlock", "salt-storage-unlock")):
        states[f"storage-consumer{key}-service-clean"] = {"service.disabled": [{"name": name}, before]}
        states[f"storage-consumer{key}-unit-clean"] = {
            "file.absent": [
                {"name": f"{lookup['unit_dir']}/{name}.service"},
                {"require": [{"service": f"storage-consumer{key}-service-clean"}]},
            ]
        }
    return states
