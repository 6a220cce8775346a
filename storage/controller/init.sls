#!py
# Makes the master's host a controller: the storage environment, the formula's code on the master, pillar storage:controller as the controller's
# own configuration file, and the storage engine. For the minion on the master's host.
# Rendered by Python, so that no character of a password can act as a template, or make YAML fail with an error that quotes it.


def _plain(value):
    """Return pillar as plain mappings and lists; Salt's own kinds, which mask values when shown, are not all serialized."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _invalid(problem):
    return {"storage-controller-invalid": {"storage_pillar.invalid": [{"name": "storage:controller"}, {"comment": problem}]}}


def run():
    problem = __salt__["storage_pillar.controller_problem"]()
    if problem:
        return _invalid(problem)
    lookup = __salt__["storage_pillar.lookup"]()["controller"]
    owner = __salt__["storage_controller.owner"](lookup["user"], lookup["group"])
    if owner["problem"]:
        return _invalid(owner["problem"])
    # Not pillar.get, which masks values here.
    controller = _plain(__pillar__["storage"]["controller"])
    controller.setdefault("state_dir", lookup["state_dir"])
    own = [{"user": owner["user"]}, {"group": owner["group"]}]
    states = {
        "include": ["storage.environment"],
        "storage-controller-state-dir": {
            "file.directory": [{"name": controller["state_dir"]}, *own, {"mode": "0700"}, {"makedirs": True}]
        },
        "storage-controller-config": {
            "file.serialize": [
                {"name": lookup["config"]},
                {"dataset": controller},
                {"serializer": "yaml"},
                *own,
                {"mode": "0600"},
                {"makedirs": True},
                {"dir_mode": "0755"},
                # The file may hold passwords of arrays.
                {"show_changes": False},
            ]
        },
        "storage-controller-code": {"storage_controller.synced": [{"name": "master"}]},
    }
    if lookup["engine"]:
        # No secret: a master that cannot read a file of master.d does not start.
        text = f"engines:\n  - storage: {{}}\nstorage:\n  config: {lookup['config']}\n"
        states["storage-controller-engine"] = {
            "file.managed": [
                {"name": lookup["master_config"]},
                {"contents": text},
                {"mode": "0644"},
                {"makedirs": True},
                {"require": [{"file": "storage-controller-config"}, {"storage_controller": "storage-controller-code"}]},
            ]
        }
        if lookup["service"]:
            states["storage-controller-service"] = {
                "service.running": [{"name": lookup["service"]}, {"watch": [{"file": "storage-controller-engine"}]}]
            }
    return states
