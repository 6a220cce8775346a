#!py
# Remove the controller's configuration, its service, and the engine. The catalog stays: nothing else records which volume belongs to whom; and so
# does the user that owns it. Refused while hosts are connected to volumes, which can be let go of only while the controller runs.


def run():
    if "storage_pillar.lookup" not in __salt__:
        reason = __salt__.value().missing_fun_string("storage_pillar.lookup")
        text = f"{reason} If the formula's modules are not loaded on this minion, run saltutil.sync_all on it, and apply again."
        return {"storage-controller-unsupported": {"test.fail_without_changes": [{"comment": f"FAILED_PRECONDITION: {text}"}]}}
    lookup = __salt__["storage_pillar.lookup"]()
    settings = lookup["controller"]
    states = {"storage-controller-unused": {"storage_controller.unused": [{"name": "storage.controller"}]}}
    before = {"require": [{"storage_controller": "storage-controller-unused"}]}
    for part in ("master_config", "config"):
        states[f"storage-controller-{part.replace('_', '-')}-clean"] = {"file.absent": [{"name": settings[part]}, before]}
    if settings["service"]:
        states["storage-controller-service-clean"] = {
            "service.running": [{"name": settings["service"]}, {"watch": [{"file": "storage-controller-master-config-clean"}]}]
        }
    if __grains__.get("init") == "systemd":
        name = "salt-storage-controller"
        states["storage-controller-process-clean"] = {"service.dead": [{"name": name}, {"enable": False}, before]}
        states["storage-controller-unit-clean"] = {
            "file.absent": [
                {"name": f"{lookup['consumer']['unit_dir']}/{name}.service"},
                {"require": [{"service": "storage-controller-process-clean"}]},
            ]
        }
    return states
