#!py
# Remove the units that attach volumes at boot; refused while volumes are attached. Packages and the storage environment stay.


def run():
    if "storage_pillar.consumer_problem" not in __salt__:
        # Salt or its Python is too old; or the modules are not synced, which Salt does by itself in a highstate alone.
        reason = __salt__.value().missing_fun_string("storage_pillar.consumer_problem")
        text = f"{reason} If the formula's modules are not loaded on this minion, run saltutil.sync_all on it, and apply again."
        return {"storage-consumer-unsupported": {"test.fail_without_changes": [{"comment": f"FAILED_PRECONDITION: {text}"}]}}
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
