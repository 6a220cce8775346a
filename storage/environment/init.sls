#!py
# The Python of the controller and of os-brick, beside Salt's own: storage_environment.present. Part of storage.controller and storage.consumer.
# Where somebody installed the packages into Salt's own Python, as with pip, there are no states here.


def run():
    for part in ("controller", "consumer"):
        problem = __salt__[f"storage_pillar.{part}_problem"]() if (__pillar__.get("storage") or {}).get(part) is not None else ""
        if problem:
            return {"storage-environment-invalid": {"storage_pillar.invalid": [{"name": f"storage:{part}"}, {"comment": problem}]}}
    lookup = __salt__["storage_pillar.lookup"]()["environment"]
    # A masterless minion is its own controller, by its option `storage`.
    own = (__pillar__.get("storage") or {}).get("controller") or (__opts__.get("storage") or {}).get("backends")
    role = "controller" if own else "consumer"
    if __salt__["storage_environment.spare"](role):
        return {}
    states = {}
    if lookup.get("packages") and not lookup["python"]:
        states["storage-environment-packages"] = {"pkg.installed": [{"pkgs": lookup["packages"]}]}
    states["storage-environment"] = {
        "storage_environment.present": [
            {"name": __salt__["storage_environment.folder"](role)},
            {"role": role},
            {"python": lookup["python"]},
            {"index_url": lookup["index_url"]},
            {"wheels": lookup["wheels"]},
            {"require": [{"pkg": name} for name in states]},
        ]
    }
    return states
