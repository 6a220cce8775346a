#!py
# The controller's process as a service of the system (storage:lookup:controller:controller_user), or none where the engine starts it.
# Part of storage.controller, which it needs. A process that has the catalog's files open is stopped before they change hands.

NAME = "salt-storage-controller"


def run():
    if "storage_pillar.controller_problem" not in __salt__ or __salt__["storage_pillar.controller_problem"]():
        return {"include": ["storage.controller"]}
    process = __salt__["storage_controller.process"]()
    if process["problem"] or __grains__.get("init") != "systemd":
        return {"include": ["storage.controller"]}
    lookup = __salt__["storage_pillar.lookup"]()
    unit = f"{lookup['consumer']['unit_dir']}/{NAME}.service"
    before = [{"file": "storage-controller-state-dir"}, {"file": "storage-controller-config"}]
    states = _service(process, lookup["controller"], unit, before) if process["unit"] else _none(unit, before)
    return {"include": ["storage.controller"], **states}


def _service(process, lookup, unit, before):
    states = {}
    users = process["users"]
    engine = [{"file": "storage-controller-engine"}] if lookup["engine"] else []
    if users["user"] != "root":
        # An account that the administrator made keeps its shell and its home.
        new = [{"system": True}, {"usergroup": True}, {"createhome": False}, {"home": process["state_dir"]}, {"shell": "/usr/sbin/nologin"}]
        made = [{"name": users["user"]}, *(new if users["missing"] else []), {"require_in": before + engine}]
        states["storage-controller-user"] = {"user.present": made}
    if process["move"]:
        states["storage-controller-process-stopped"] = {"service.dead": [{"name": NAME}, {"require_in": before}]}
    if "RuntimeDirectory" not in process["unit"]["folders"]:
        folder = __salt__["file.dirname"](lookup["socket"])
        owner = [{"user": users["user"]}, {"group": users["group"]}, {"mode": "0755"}]
        states["storage-controller-socket-dir"] = {
            "file.directory": [{"name": folder}, *owner, {"require": before}, {"require_in": [{"service": "storage-controller-process"}]}]
        }
    states["storage-controller-unit"] = {
        "file.managed": [
            {"name": unit},
            {"source": f"salt://storage/files/{NAME}.service"},
            {"template": "jinja"},
            {"context": {"unit": process["unit"]}},
            {"mode": "0644"},
        ]
    }
    watched = [{"file": "storage-controller-unit"}, {"file": "storage-controller-config"}, {"storage_environment": "storage-environment"}]
    states["storage-controller-process"] = {"service.running": [{"name": NAME}, {"enable": True}, {"require": before}, {"watch": watched}]}
    return states


def _none(unit, before):
    return {
        "storage-controller-process": {"service.dead": [{"name": NAME}, {"enable": False}, {"require_in": before}]},
        "storage-controller-unit": {"file.absent": [{"name": unit}, {"require": [{"service": "storage-controller-process"}]}]},
    }
