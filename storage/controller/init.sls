#!py
# Pillar storage:controller -> the master's option `storage`, and the storage engine. For the minion on the master's host.
# Rendered by Python, so that no character of a password can act as a template, or make YAML fail with an error that quotes it.


def _plain(value):
    """Return pillar as plain mappings and lists; Salt's own kinds, which mask values when shown, are not all serialized."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def run():
    problem = __salt__["storage_pillar.controller_problem"]()
    if problem:
        return {"storage-controller-invalid": {"storage_pillar.invalid": [{"name": "storage:controller"}, {"comment": problem}]}}
    lookup = __salt__["storage_pillar.lookup"]()["controller"]
    # Not pillar.get, which masks values here.
    controller = _plain(__pillar__["storage"]["controller"])
    engines = {"engines": [{"storage": {}}]} if lookup["engine"] else {}
    owner = [{"user": lookup["user"]}, {"group": lookup["group"]}]
    states = {
        "storage-controller-state-dir": {
            "file.directory": [
                {"name": controller.get("state_dir", lookup["state_dir"])},
                *owner,
                {"mode": "0700"},
                {"makedirs": True},
            ]
        },
        "storage-controller-config": {
            "file.serialize": [
                {"name": lookup["config"]},
                {"dataset": {**engines, "storage": controller}},
                {"serializer": "yaml"},
                *owner,
                {"mode": "0600"},
                {"makedirs": True},
                # The file may hold passwords of arrays.
                {"show_changes": False},
            ]
        },
    }
    if lookup["service"]:
        states["storage-controller-service"] = {
            "service.running": [{"name": lookup["service"]}, {"watch": [{"file": "storage-controller-config"}]}]
        }
    return states
