"""From pillar to states: what the SLS files of the formula render.

The SLS files hand pillar to these functions and render what they return, so that a name or a value from pillar is never
part of a template: names may hold quotes, Jinja, YAML or any other characters.

Everything is checked here. A wrong entry becomes the state ``storage_pillar.invalid``, which fails, names the field and
changes nothing; the other entries are not held up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from . import validate
from .errors import InvalidArgumentError, StorageError

_PRESENT = ("size", "backend", "type", "owner", "source", "resize", "labels", "description", "protected")
_CONNECTED = (*_PRESENT, "read_only")
#: The state functions that pillar can ask for, and the parameters that each takes beside ``name``.
PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "present": _PRESENT,
    "connected": _CONNECTED,
    "mounted": (*_CONNECTED, "mount", "fstype", "mkfs_options", "mount_options"),
    "unmounted": ("owner",),
    "disconnected": ("owner", "force"),
    "absent": ("owner",),
}
#: What ``state: absent`` takes from a host first, so that one word in pillar removes a volume that is in use there.
_BEFORE = {"absent": ("disconnected",)}
_KNOWN = sorted({"state"}.union(*PARAMETERS.values()))
#: What a consumer can be prepared for (pillar ``storage:consumer:protocols``).
PROTOCOLS = ("iscsi", "multipath", "nvme", "rbd", "nfs", "luks")
# Salt calls functions named in a value that begins so. Pillar of a volume must not become a call.
_SLOT = "__slot__:"

States = dict[str, dict[str, list[dict[str, Any]]]]


def volume_states(storage: Any) -> States:
    """Return the states for the pillar key ``storage``: those of ``volumes``, in the order written.

    An entry without ``state`` is ``mounted`` if it has ``mount``, else ``connected``.

    >>> volume_states({"volumes": {"data": {"size": 1}}})
    {'storage-volumes-connected-data': {'storage_volume.connected': [{'name': 'data'}, {'size': 1}]}}
    """
    states: States = {}
    try:
        volumes = validate.mapping({} if storage is None else storage, "storage").get("volumes")
        # Keys are checked one by one below, so that one wrong name holds up no other volume.
        if not isinstance(volumes, Mapping | None):
            raise InvalidArgumentError(f"storage:volumes must be a mapping of names, not {type(volumes).__name__}", field="storage:volumes")
    except InvalidArgumentError as error:
        return {"storage-volumes-invalid": _invalid("storage:volumes", error)}
    for name, entry in (volumes or {}).items():
        try:
            states.update(_one(name, entry))
        except InvalidArgumentError as error:
            shown = name if isinstance(name, str) and name.isprintable() else repr(name)
            states[f"storage-volumes-invalid-{shown}"] = _invalid(f"storage:volumes:{shown}", error)
    return states


def controller_problem(storage: Any) -> str:
    """Return why the pillar key ``storage`` has no usable ``controller``, or an empty string when it has one.

    >>> controller_problem({"controller": []})
    'INVALID_ARGUMENT: storage:controller must be a mapping, not list'
    """
    from .controller.config import ControllerConfig

    try:
        config = validate.mapping(validate.mapping(storage, "storage").get("controller"), "storage:controller")
        _refuse_slots(config, "storage:controller")
        ControllerConfig.from_opts({"storage": config})
    except StorageError as error:
        return str(error)
    return ""


def consumer_problem(storage: Any) -> str:
    """Return what is wrong with ``consumer`` and ``lookup:consumer`` in the pillar key ``storage``; an empty string when nothing is.

    >>> consumer_problem({"consumer": {"protocols": ["iscsy"]}})
    "INVALID_ARGUMENT: storage:consumer:protocols: 'iscsy' is none of iscsi, multipath, nvme, rbd, nfs, luks"
    """
    try:
        storage = validate.mapping({} if storage is None else storage, "storage")
        consumer = storage.get("consumer")
        consumer = validate.mapping({} if consumer is None else consumer, "storage:consumer")
        validate.no_unknown(consumer, ["protocols"], "storage:consumer")
        protocols = consumer.get("protocols") or []
        if not isinstance(protocols, list | tuple):
            raise InvalidArgumentError(f"storage:consumer:protocols must be a list, not {type(protocols).__name__}", field="protocols")
        for protocol in protocols:
            if protocol not in PROTOCOLS:
                text = f"storage:consumer:protocols: {protocol!r} is none of {', '.join(PROTOCOLS)}"
                raise InvalidArgumentError(text, field="protocols")
        lookup = validate.mapping(storage.get("lookup") or {}, "storage:lookup")
        _refuse_slots(validate.mapping(lookup.get("consumer") or {}, "storage:lookup:consumer"), "storage:lookup:consumer")
    except StorageError as error:
        return str(error)
    return ""


def _one(name: Any, entry: Any) -> Iterator[tuple[str, dict[str, list[dict[str, Any]]]]]:
    where = f"storage:volumes:{validate.name(name, 'storage:volumes name')}"
    options = validate.mapping({} if entry is None else entry, where)
    validate.no_unknown(options, _KNOWN, where)
    _refuse_slots({name: options}, where)
    function = options.pop("state", "mounted" if "mount" in options else "connected")
    if not isinstance(function, str) or function not in PARAMETERS:
        raise InvalidArgumentError(f"{where}: state must be one of {', '.join(PARAMETERS)}, not {function!r}", field="state")
    if "size" in options:
        validate.size_gib(options["size"])
    elif function == "present":
        raise InvalidArgumentError(f"{where}: size is missing", field="size")
    if function == "mounted" and "mount" not in options:
        raise InvalidArgumentError(f"{where}: mount is missing; give the path of the mount point", field="mount")
    for step in (*_BEFORE.get(function, ()), function):
        # Keys that the function has no use for may stay, so that changing `state` is all it takes to remove a volume.
        parameters = [{key: options[key]} for key in PARAMETERS[step] if key in options]
        yield f"storage-volumes-{step}-{name}", {f"storage_volume.{step}": [{"name": name}, *parameters]}


def _refuse_slots(value: Any, where: str) -> None:
    if isinstance(value, str) and value.startswith(_SLOT):
        raise InvalidArgumentError(f"{where}: {value[:40]!r} begins with {_SLOT}, which Salt would call", field=where)
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_slots(key, where)
            _refuse_slots(item, where)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_slots(item, where)


def _invalid(name: str, error: InvalidArgumentError) -> dict[str, list[dict[str, Any]]]:
    return {"storage_pillar.invalid": [{"name": name}, {"comment": str(error)}]}
