#!py
# The Python of the controller and of os-brick, beside Salt's own: storage_environment.present. Part of storage.controller and storage.consumer.
# Where somebody installed the packages into Salt's own Python, as with pip, there are no states here.


def run():
    if "storage_pillar.lookup" not in __salt__:
        reason = __salt__.value().missing_fun_string("storage_pillar.lookup")
        text = f"{reason} If the formula's modules are not loaded on this minion, run saltutil.sync_all on it, and apply again."
        return {"storage-environment-unsupported": {"test.fail_without_changes": [{"comment": f"FAILED_PRECONDITION: {text}"}]}}
    for part in ("controller", "consumer"):
        problem = __salt__[f"storage_pillar.{part}_problem"]() if (__pillar__.get("storage") or {}).get(part) is not None else ""
        if problem:
            return {"storage-environment-invalid": {"storage_pillar.invalid": [{"name": f"storage:{part}"}, {"comment": problem}]}}
    lookup = __salt__["storage_pillar.lookup"]()["environment"]
    # A masterless minion is its own controller, by its option `storage`.
    own = (__pillar__.get("storage") or {}).get("controller") or (__opts__.get("storage") or {}).get("backends")
    role = "controller" if own else "consumer"
    service = role == "controller" and __salt__["storage_pillar.lookup"]()["controller"]["controller_user"]
    # A service has its own Python: another user cannot read this one's modules.
    if not service and __salt__["storage_environment.spare"](role):
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
