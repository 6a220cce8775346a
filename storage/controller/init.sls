#!py
# Makes the master's host a controller: the storage environment, the formula's code on the master, pillar storage:controller as the controller's
# own configuration file, the process (storage.controller.process), and the storage engine. For the minion on the master's host.
# Rendered by Python, so that no character of a password can act as a template, or make YAML fail with an error that quotes it.


def _plain(value):
    """Return pillar as plain mappings and lists; Salt's own kinds, which mask values when shown, are not all serialized."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _invalid(problem):
    return {"storage-controller-invalid": {"storage_pillar.invalid": [{"name": "storage:controller"}, {"comment": problem}]}}


def run():
    if "storage_pillar.controller_problem" not in __salt__:
        # Not storage_pillar.invalid: the state is as missing as the module.
        reason = __salt__.value().missing_fun_string("storage_pillar.controller_problem")
        text = f"{reason} If the formula's modules are not loaded on this minion, run saltutil.sync_all on it, and apply again."
        return {"storage-controller-unsupported": {"test.fail_without_changes": [{"comment": f"FAILED_PRECONDITION: {text}"}]}}
    problem = __salt__["storage_pillar.controller_problem"]()
    if problem:
        return _invalid(problem)
    process = __salt__["storage_controller.process"]()
    if not process["problem"] and process["unit"] and __grains__.get("init") != "systemd":
        process["problem"] = "FAILED_PRECONDITION: storage:lookup:controller:controller_user makes a unit of systemd, which does not run on this host"
    if process["problem"]:
        return _invalid(process["problem"])
    lookup = __salt__["storage_pillar.lookup"]()["controller"]
    # Not pillar.get, which masks values here.
    controller = _plain(__pillar__["storage"]["controller"])
    controller.setdefault("state_dir", process["state_dir"])
    own = [{"user": process["users"]["user"]}, {"group": process["users"]["group"]}]
    # A user who can rename a folder chooses its contents, so only the last one is the controller's.
    roots = [{"user": "root"}, {"group": "root"}, {"mode": "0755"}, {"makedirs": True}]
    states = {"include": ["storage.environment", "storage.controller.process"]}
    parent = __salt__["file.dirname"](process["state_dir"])
    # The project's own folder, which consumers use too. A folder of the administrator's stays as it is.
    if parent.endswith("/salt-storage"):
        states["storage-controller-state-parent"] = {"file.directory": [{"name": parent}, *roots]}
    # A controller that was another user's until now: its files change hands.
    moved = [{"recurse": ["user", "group"]}] if process["move"] else []
    states["storage-controller-state-dir"] = {
        "file.directory": [{"name": process["state_dir"]}, *own, {"mode": "0700"}, {"makedirs": True}, *moved]
    }
    states["storage-controller-config-dir"] = {"file.directory": [{"name": __salt__["file.dirname"](lookup["config"])}, *roots]}
    states["storage-controller-config"] = {
        "file.serialize": [
            {"name": lookup["config"]},
            {"dataset": controller},
            {"serializer": "yaml"},
            *own,
            {"mode": "0600"},
            {"makedirs": True},
            # The file may hold passwords of arrays.
            {"show_changes": False},
            {"require": [{"file": "storage-controller-config-dir"}]},
        ]
    }
    states["storage-controller-code"] = {"storage_controller.synced": [{"name": "master"}]}
    if lookup["engine"]:
        # No secret: a master that cannot read a file of master.d does not start.
        option = {"engines": [{"storage": {}}], "storage": process["option"]}
        states["storage-controller-engine"] = {
            "file.serialize": [
                {"name": lookup["master_config"]},
                {"dataset": option},
                {"serializer": "yaml"},
                {"mode": "0644"},
                {"makedirs": True},
                # A service's engine waits for its controller.
                {"require": [{"storage_controller": "storage-controller-code"}, *([] if process["unit"] else [{"file": "storage-controller-config"}])]},
            ]
        }
        if lookup["service"]:
            # The restart ends a controller that the engine started, so it comes before its files change hands.
            files = [{"file": "storage-controller-state-dir"}, {"file": "storage-controller-config"}] if process["unit"] else []
            states["storage-controller-service"] = {
                "service.running": [{"name": lookup["service"]}, {"watch": [{"file": "storage-controller-engine"}]}, {"require_in": files}]
            }
    return states
