"""From pillar to states: the states that the SLS files of the formula render.

The SLS files hand pillar to these functions and render what they return, so that a name or a value
from pillar is never part of a template: names may hold quotes, Jinja, YAML or any other
characters.

Everything is checked here. A wrong entry becomes the state ``storage_pillar.invalid``, which
fails, names the field and changes nothing; the other entries are not held up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .. import spec, validate
from ..consumer import passphrase
from ..errors import InvalidArgumentError, StorageError
from . import lookup, ordering
from .slots import refuse_slots

_PRESENT = (*spec.PARAMETERS, "owner")
_CONNECTED = (*_PRESENT, "read_only", "encrypted", "passphrase")
#: The state functions that pillar can ask for, and the parameters that each takes beside ``name``.
PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "present": _PRESENT,
    "connected": _CONNECTED,
    "mounted": (*_CONNECTED, "mount", "fstype", "mkfs_options", "mount_options"),
    "unmounted": ("owner",),
    "disconnected": ("owner", "force"),
    "absent": ("owner", "retain", "disconnect", "series"),
}
#: The keys of a volume's ``snapshots``: parameters of the state ``storage_snapshot.rotated``.
SNAPSHOTS = ("keep", "every", "freeze", "timeout")
#: Where the volume is there to be copied. Others leave its snapshots as they are, but for
#: ``absent``, which deletes them.
_WITH_SNAPSHOTS = ("present", "connected", "mounted")
#: ``state: absent`` itself sets these, so that one word in pillar also removes a volume that this
#: host uses, and its snapshots.
_OF_ABSENT = {"disconnect", "series"}
_KNOWN = sorted({"state", "snapshots"}.union(*PARAMETERS.values()) - _OF_ABSENT)
#: The protocols that a consumer can be prepared for (pillar ``storage:consumer:protocols``).
PROTOCOLS = ("iscsi", "fibre_channel", "multipath", "nvme", "rbd", "nfs", "luks")
#: A range of numbers in the name of an entry, which stands for as many volumes.
_RANGE = re.compile(r"\{([0-9]{1,6})\.\.([0-9]{1,6})\}", re.ASCII)
#: Most volumes that one entry can stand for: a mistyped range must not fill an array.
MAX_RANGE = 1000

States = dict[str, dict[str, list[dict[str, Any]]]]


def volume_states(storage: Any) -> States:
    """Return the states for the pillar key ``storage``: those of ``volumes``, as written but each
    after those that it depends on.

    >>> volume_states({"volumes": {"data": {"size": 1}}})["storage-volumes-connected-data"]
    {'storage_volume.connected': [{'name': 'data'}, {'size': 1}]}
    """
    invalid: States = {}
    snapshots: States = {}
    valid: dict[str, tuple[Any, States]] = {}
    try:
        volumes = validate.mapping({} if storage is None else storage, "storage").get("volumes")
        # Keys are checked one by one below, so that one wrong name holds up no other volume.
        if not isinstance(volumes, Mapping | None):
            raise InvalidArgumentError(f"storage:volumes must be a mapping of names, not {type(volumes).__name__}", field="storage:volumes")
    except InvalidArgumentError as error:
        return {"storage-volumes-invalid": _invalid("storage:volumes", error)}
    volumes = volumes or {}
    taken = {name for name in volumes if not _ranges(name)}
    for name, entry in volumes.items():
        try:
            for one, options in _expanded(name, entry, taken):
                valid[one] = options, dict(_one(one, options))
                snapshots.update(_snapshots(one, options))
        except InvalidArgumentError as error:
            shown = name if isinstance(name, str) and name.isprintable() else repr(name)
            invalid[f"storage-volumes-invalid-{shown}"] = _invalid(f"storage:volumes:{shown}", error)
    entries, rings = ordering.sort([ordering.Entry(name, _function(options), options or {}) for name, (options, _) in valid.items()])
    for entry, ring in ((one, found) for found in rings for one in found):
        names = ", ".join(repr(other.name) for other in ring)
        text = f"storage:volumes:{entry.name}: these depend on one another in a ring, by source or by mount point: {names}"
        invalid[f"storage-volumes-invalid-{entry.name}"] = _invalid(f"storage:volumes:{entry.name}", InvalidArgumentError(text))
        snapshots.pop(f"storage-volumes-snapshots-{entry.name}", None)
    return {**invalid, **{key: body for entry in entries for key, body in valid[entry.name][1].items()}, **snapshots}


def _ranges(value: Any) -> list[tuple[str, str, str]]:
    """Return the ranges in a text: as written, first, last."""
    return [(match[0], match[1], match[2]) for match in _RANGE.finditer(value)] if isinstance(value, str) else []


def _expanded(name: Any, entry: Any, taken: set[Any]) -> list[tuple[Any, Any]]:
    """Return the volumes that an entry stands for, and add their names to those that are taken."""
    found = _ranges(name)
    if not found:
        return [(name, entry)]
    where = f"storage:volumes:{validate.name(name, 'storage:volumes name')}"
    if isinstance(entry, Mapping):
        # Before anything of the entry is shown.
        passphrase.check(entry.get("passphrase"), name)
    if len(found) > 1:
        raise InvalidArgumentError(f"{where}: a name can have one range only", field="name")
    written, first, last = found[0]
    count = int(last) - int(first) + 1
    if not 1 <= count <= MAX_RANGE:
        raise InvalidArgumentError(f"{where}: {written} stands for {max(0, count)} volumes; 1 to {MAX_RANGE} are possible", field="name")
    for text in _texts(entry):
        for other, *_ in _ranges(text):
            if other != written:
                raise InvalidArgumentError(
                    f"{where}: {text[:80]!r} has the range {other}; only {written}, that of the name, has a meaning", field="name"
                )
    # As in a shell: a leading zero says that all are as long.
    width = max(len(first), len(last)) if first.startswith("0") or last.startswith("0") else 0
    numbers = [f"{number:0{width}}" for number in range(int(first), int(last) + 1)]
    volumes = [(name.replace(written, number), _replaced(entry, written, number)) for number in numbers]
    if twice := [one for one, _ in volumes if one in taken]:
        raise InvalidArgumentError(f"{where}: there is an entry for {twice[0]!r} already", field="name")
    mounts = [options.get("mount") for _, options in volumes if isinstance(options, Mapping) and options.get("mount") is not None]
    if count > 1 and mounts and len(set(map(str, mounts))) == 1:
        raise InvalidArgumentError(f"{where}: all of them would be mounted on {mounts[0]!r}; write {written} in it too", field="mount")
    taken.update(one for one, _ in volumes)
    # All are checked before the first is used.
    for one, options in volumes:
        list(_one(one, options))
    return volumes


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _replaced(value: Any, written: str, number: str) -> Any:
    if isinstance(value, str):
        return value.replace(written, number)
    if isinstance(value, Mapping):
        return {key: _replaced(item, written, number) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(item, written, number) for item in value]
    return value


def controller_problem(storage: Any) -> str:
    """Return why the pillar key ``storage`` has no usable ``controller`` and ``lookup``, or an
    empty string when it has.

    >>> controller_problem({"controller": []})
    'INVALID_ARGUMENT: storage:controller must be a mapping, not list'
    """
    from ..controller.access.config import ControllerConfig

    try:
        config = validate.mapping(validate.mapping(storage, "storage").get("controller"), "storage:controller")
        refuse_slots(config, "storage:controller")
        ControllerConfig.from_opts({"storage": config})
        lookup.check(storage)
    except StorageError as error:
        return str(error)
    return ""


def consumer_problem(storage: Any) -> str:
    """Return the error in ``consumer`` and ``lookup`` of the pillar key ``storage``; an empty
    string when there is none.

    >>> consumer_problem({"consumer": {"protocols": ["iscsy"]}}).partition(" of ")[0]
    "INVALID_ARGUMENT: storage:consumer:protocols: 'iscsy' is none"
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
        lookup.check(storage)
    except StorageError as error:
        return str(error)
    return ""


def _one(name: Any, entry: Any) -> Iterator[tuple[str, dict[str, list[dict[str, Any]]]]]:
    where = f"storage:volumes:{validate.name(name, 'storage:volumes name')}"
    options = validate.mapping({} if entry is None else entry, where)
    validate.no_unknown(options, _KNOWN, where)
    refuse_slots({name: options}, where)
    function = _function(options)
    options.pop("state", None)
    if not isinstance(function, str) or function not in PARAMETERS:
        raise InvalidArgumentError(f"{where}: state must be one of {', '.join(PARAMETERS)}, not {function!r}", field="state")
    if "passphrase" in options:
        # Here already: more people can read a state than pillar.
        passphrase.check(options["passphrase"], name)
    if "size" in options:
        validate.size_gib(options["size"])
    elif function == "present":
        raise InvalidArgumentError(f"{where}: size is missing", field="size")
    if function == "mounted" and "mount" not in options:
        raise InvalidArgumentError(f"{where}: mount is missing; give the path of the mount point", field="mount")
    if options.get("snapshots") is not None:
        _check_snapshots(name, options, where)
    if function == "absent":
        options["disconnect"] = True
        if options.get("snapshots") is not None:
            options["series"] = name
    # Keys that the function has no use for may stay, so that changing `state` is all it takes to
    # remove a volume.
    parameters = [{key: options[key]} for key in PARAMETERS[function] if key in options]
    yield f"storage-volumes-{function}-{name}", {f"storage_volume.{function}": [{"name": name}, *parameters]}


def _function(entry: Any) -> Any:
    """Return the state function that an entry asks for."""
    options = entry or {}
    return options.get("state", "mounted" if "mount" in options else "connected")


def _snapshots(name: str, entry: Any) -> Iterator[tuple[str, dict[str, list[dict[str, Any]]]]]:
    """Yield the state that keeps snapshots of a volume whose entry was found right."""
    options = entry or {}
    function = _function(options)
    if function in _WITH_SNAPSHOTS and (wanted := options.get("snapshots")) is not None:
        yield _rotated(name, [{key: wanted[key]} for key in SNAPSHOTS if key in wanted])


def _rotated(name: str, parameters: list[dict[str, Any]]) -> tuple[str, dict[str, list[dict[str, Any]]]]:
    return f"storage-volumes-snapshots-{name}", {"storage_snapshot.rotated": [{"name": name}, {"volume": name}, *parameters]}


def _check_snapshots(name: str, options: Mapping[str, Any], where: str) -> None:
    from ..plans import snapshot_rotated as snapshot

    wanted = validate.mapping(options["snapshots"], f"{where}:snapshots")
    validate.no_unknown(wanted, SNAPSHOTS, f"{where}:snapshots")
    snapshot.check_series(name)
    snapshot.check_keep(wanted.get("keep", 7))
    for key in ("every", "timeout"):
        if key in wanted:
            validate.seconds(wanted[key], f"{where}:snapshots:{key}")
    if "freeze" in wanted:
        validate.boolean(wanted["freeze"], f"{where}:snapshots:freeze")
    if options.get("owner") is not None:
        raise InvalidArgumentError(f"{where}: snapshots of a volume of another owner are taken on the master", field="snapshots")


def _invalid(name: str, error: InvalidArgumentError) -> dict[str, list[dict[str, Any]]]:
    return {"storage_pillar.invalid": [{"name": name}, {"comment": str(error)}]}
