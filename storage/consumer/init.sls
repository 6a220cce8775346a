#!py
# Makes a host a consumer: the storage environment, packages and services of the protocols that pillar names, and the units that attach volumes at boot.


def run():
    if "storage_pillar.consumer_problem" not in __salt__:
        # Salt or its Python is too old; or the modules are not synced, which Salt does by itself in a highstate alone.
        reason = __salt__.value().missing_fun_string("storage_pillar.consumer_problem")
        text = f"{reason} If the formula's modules are not loaded on this minion, run saltutil.sync_all on it, and apply again."
        return {"storage-consumer-unsupported": {"test.fail_without_changes": [{"comment": f"FAILED_PRECONDITION: {text}"}]}}
    problem = __salt__["storage_pillar.consumer_problem"]()
    if problem:
        return {"storage-consumer-invalid": {"storage_pillar.invalid": [{"name": "storage:consumer"}, {"comment": problem}]}}
    lookup = __salt__["storage_pillar.lookup"]()["consumer"]
    states = {"include": ["storage.environment"]}
    for protocol in ((__pillar__.get("storage") or {}).get("consumer") or {}).get("protocols") or []:
        states.update(_protocol(protocol, lookup["protocols"].get(protocol)))
    if __grains__.get("init") == "systemd":
        states.update(_unit(lookup))
    return states


def _protocol(name, needs):
    """Return the states of one protocol."""
    base = f"storage-consumer-{name}"
    if needs is None:
        text = (
            f"INVALID_ARGUMENT: the packages for {name} on {__grains__.get('os_family')} are not known; name them in pillar"
            f" storage:lookup:consumer:protocols:{name}, as in storage/osfamilymap.yaml"
        )
        return {base: {"storage_pillar.invalid": [{"name": f"storage:consumer:protocols:{name}"}, {"comment": text}]}}
    states = {}
    before = []
    if needs.get("packages"):
        states[f"{base}-packages"] = {"pkg.installed": [{"pkgs": needs["packages"]}]}
        before = [{"pkg": f"{base}-packages"}]
    if name == "multipath":
        # Without the file, multipathd does not start everywhere. An administrator's own stays as it is.
        states[f"{base}-config"] = {
            "file.managed": [
                {"name": "/etc/multipath.conf"},
                {"source": "salt://storage/files/multipath.conf"},
                {"replace": False},
                {"mode": "0644"},
                {"require": before},
            ]
        }
        before = [*before, {"file": f"{base}-config"}]
    for module in needs.get("modules", []):
        states[f"{base}-module-{module}"] = {"kmod.present": [{"name": module}, {"persist": True}, {"require": before}]}
    for service in needs.get("services", []):
        states[f"{base}-service-{service}"] = {"service.running": [{"name": service}, {"enable": True}, {"require": before}]}
    return states


def _unit(lookup):
    boot = __salt__["storage.boot"]()
    context = {
        "boot": boot,
        "salt_call": lookup["salt_call"] or __salt__["cmd.which"]("salt-call") or "/usr/bin/salt-call",
        "config_dir": __opts__.get("config_dir", "/etc/salt"),
    }
    states = {
        "storage-consumer-settings": {
            "file.managed": [
                {"name": boot["settings"]},
                {"contents": boot["contents"]},
                {"mode": "0600"},
                {"makedirs": True},
                {"dir_mode": "0700"},
            ]
        }
    }
    for key, name in (("", "salt-storage-reattach"), ("-unlock", "salt-storage-unlock")):
        states[f"storage-consumer{key}-unit"] = {
            "file.managed": [
                {"name": f"{lookup['unit_dir']}/{name}.service"},
                {"source": f"salt://storage/files/{name}.service"},
                {"template": "jinja"},
                {"context": context},
                {"mode": "0644"},
                {"require": [{"file": "storage-consumer-settings"}]},
            ]
        }
        states[f"storage-consumer{key}-service"] = {
            "service.enabled": [{"name": name}, {"require": [{"file": f"storage-consumer{key}-unit"}]}]
        }
    return states
