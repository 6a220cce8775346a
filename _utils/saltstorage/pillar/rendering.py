"""From pillar to states: the states that the SLS files of the formula render.

The SLS files hand pillar to these functions and render what they return, so that a name or a value
from pillar is never part of a template: names may hold quotes, Jinja, YAML or any other
characters.

Everything is checked here. A wrong entry becomes the state ``storage_pillar.invalid``, which
fails, names the field and changes nothing; the other entries are not held up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .. import spec, validate
from ..consumer import passphrase
from ..errors import InvalidArgumentError, StorageError
from . import controller, faults, lookup, ordering, process, ranges
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
#: The functions that make a volume. Others leave its snapshots as they are, but for ``absent``,
#: which deletes them.
_MAKES = ("present", "connected", "mounted")
#: ``state: absent`` itself sets these, so that one word in pillar also removes a volume that this
#: host uses, and its snapshots.
_OF_ABSENT = {"disconnect", "series"}
_KNOWN = sorted({"state", "snapshots"}.union(*PARAMETERS.values()) - _OF_ABSENT)
#: The protocols that a consumer can be prepared for (pillar ``storage:consumer:protocols``).
PROTOCOLS = ("iscsi", "fibre_channel", "multipath", "nvme", "rbd", "nfs", "luks")
#: The keys below the pillar key ``storage``.
KEYS = ("volumes", "passphrases", "consumer", "controller", "lookup")

States = dict[str, dict[str, list[dict[str, Any]]]]


def volume_states(storage: Any, pillar: Mapping[str, Any] | None = None) -> States:
    """Return the states for the pillar key ``storage``: those of ``volumes``, as written but each
    after those that it depends on.

    :param storage: None when pillar has no such key, or an empty one.
    :param pillar: all of pillar, to find volumes that stand in the wrong place; default: not
        looked at.

    >>> volume_states({"volumes": {"data": {"size": 1}}})["storage-volumes-connected-data"]
    {'storage_volume.connected': [{'name': 'data'}, {'size': 1}]}
    """
    try:
        given, whole = _whole(storage, pillar)
        volumes = given.get("volumes")
        # Keys are checked one by one below, so that one wrong name holds up no other volume.
        if not isinstance(volumes, Mapping | None):
            text = f"storage:volumes must be a mapping of names, not {validate.kind(volumes)}"
            raise InvalidArgumentError(text, field="storage:volumes")
    except InvalidArgumentError as error:
        return {"storage-volumes-invalid": _invalid("storage:volumes", error)}
    valid, invalid = _checked(volumes or {})
    invalid = {**whole, **invalid}
    entries = [ordering.Entry(name, _function(options), options or {}) for name, options in valid.items()]
    for entry, text in ordering.conflicts(entries):
        where = f"storage:volumes:{entry.name}"
        invalid[f"storage-volumes-invalid-{entry.name}"] = _invalid(where, InvalidArgumentError(f"{where}: {text}", field="mount"))
    entries, rings = ordering.sort([entry for entry in entries if f"storage-volumes-invalid-{entry.name}" not in invalid])
    for entry, ring in ((one, found) for found in rings for one in found):
        names = ", ".join(repr(other.name) for other in ring)
        text = f"storage:volumes:{entry.name}: these depend on one another in a ring, by source or by mount point: {names}"
        invalid[f"storage-volumes-invalid-{entry.name}"] = _invalid(f"storage:volumes:{entry.name}", InvalidArgumentError(text))
    states = dict(state for entry in entries for state in _one(entry.name, valid[entry.name]))
    applied = {entry.name for entry in entries}
    notes = dict(state for entry in entries for state in _rounded(entry.name, valid[entry.name]))
    snapshots = dict(state for name, options in valid.items() if name in applied for state in _snapshots(name, options))
    return {**invalid, **notes, **states, **snapshots}


def _whole(storage: Any, pillar: Mapping[str, Any] | None) -> tuple[dict[str, Any], States]:
    """Return the pillar key ``storage`` as a mapping, and states that tell faults above its
    volumes. None of the faults holds up a volume.
    """
    if storage is None and pillar is not None:
        return {}, _without(pillar)
    given = validate.mapping({} if storage is None else storage, "storage")
    try:
        validate.no_unknown(given, KEYS, "storage")
    except InvalidArgumentError as error:
        return given, {"storage-invalid": _invalid("storage", error)}
    if pillar is not None and not given and _volumes_on_top(pillar):
        return given, _without(pillar)
    return given, {}


def _without(pillar: Mapping[str, Any]) -> States:
    """Return the state that says why a minion without the pillar key ``storage`` has no volume."""
    if "storage" in pillar and _volumes_on_top(pillar):
        text = "storage is empty, and 'volumes' stands beside it in pillar; indent 'volumes' below 'storage'"
        return {"storage-invalid": _invalid("storage", InvalidArgumentError(text, field="storage"))}
    if "storage" in pillar:
        text = "the pillar key 'storage' of this minion is empty; describe its volumes in storage:volumes"
    else:
        text = (
            "this minion has no pillar 'storage', so it gets no volumes; assign the pillar file to it in the top.sls of pillar, "
            "then look with: salt-call pillar.get storage"
        )
    return {"storage-volumes-none": _note("storage:volumes", text)}


def _volumes_on_top(pillar: Mapping[str, Any]) -> bool:
    """Return whether what looks like ``storage:volumes`` stands outside of ``storage``."""
    volumes = pillar.get("volumes")
    return isinstance(volumes, Mapping) and any(isinstance(entry, Mapping) and {*entry} & {*_KNOWN} for entry in volumes.values())


def _checked(volumes: Mapping[Any, Any]) -> tuple[dict[str, Any], States]:
    """Return the entry of each volume whose entry is right, and the states of the others.

    A range becomes its volumes: all of them, or none.
    """
    valid: dict[str, Any] = {}
    invalid: States = {}
    taken = {name for name in volumes if not ranges.find(name)}
    for name, entry in volumes.items():
        try:
            expanded = ranges.expand(name, entry, taken)
            for one, options in expanded:
                # All are checked before the first is used.
                list(_one(one, options))
            valid.update(expanded)
            taken.update(one for one, _ in expanded)
        except InvalidArgumentError as error:
            shown = name if isinstance(name, str) and name.isprintable() else repr(name)
            invalid[f"storage-volumes-invalid-{shown}"] = _invalid(f"storage:volumes:{shown}", error)
    return valid, invalid


def controller_problem(storage: Any) -> str:
    """Return why the pillar key ``storage`` has no usable ``controller`` and ``lookup``, or an
    empty string when it has.

    >>> controller_problem({"controller": []})
    'INVALID_ARGUMENT: storage:controller must be a mapping, not a list'
    """
    try:
        given = validate.mapping({} if storage is None else storage, "storage")
        if "controller" not in given:
            # It may be misspelled.
            validate.no_unknown(given, KEYS, "storage")
            raise InvalidArgumentError("storage:controller is missing in the pillar of this minion", field="storage:controller")
        faults.gather(lambda: controller.check(given["controller"]), lambda: _check_service(given))
    except StorageError as error:
        return str(error)
    return ""


def _check_service(storage: Mapping[str, Any]) -> None:
    """Check the formula's settings, and whether a controller that is a service can use its
    configuration.
    """
    if lookup.check(storage)["controller"].get("controller_user"):
        process.refuse_uris(storage["controller"], "storage:controller")


def consumer_problem(storage: Any) -> str:
    """Return the error in ``consumer`` and ``lookup`` of the pillar key ``storage``; an empty
    string when there is none.

    >>> consumer_problem({"consumer": {"protocols": ["iscsy"]}}).partition(" of ")[0]
    "INVALID_ARGUMENT: storage:consumer:protocols: 'iscsy' is none"
    """
    try:
        storage = validate.mapping({} if storage is None else storage, "storage")
        if "consumer" not in storage:
            # It may be misspelled. The states of the volumes tell every other unknown key.
            validate.no_unknown([key for key in storage if validate.nearest(key, KEYS) == "consumer"], KEYS, "storage")
        consumer = storage.get("consumer")
        consumer = validate.mapping({} if consumer is None else consumer, "storage:consumer")
        validate.no_unknown(consumer, ["protocols"], "storage:consumer")
        protocols = consumer.get("protocols") or []
        if not isinstance(protocols, list | tuple):
            raise InvalidArgumentError(f"storage:consumer:protocols must be a list, not {validate.kind(protocols)}", field="protocols")
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
    # Alone: what follows shows values.
    refuse_slots({name: options}, where)
    if "passphrase" in options:
        # Here already: more people can read a state than pillar.
        passphrase.check(options["passphrase"], name)
    function = _function(options)
    options.pop("state", None)
    faults.gather(
        lambda: _check_keys(options, where),
        lambda: _check_function(function, where),
        lambda: _check_values(name, function, options, where),
        lambda: _check_snapshots(name, options, where),
    )
    if function == "absent":
        options["disconnect"] = True
        if options.get("snapshots") is not None:
            options["series"] = name
    # Keys that the function has no use for may stay, so that changing `state` is all it takes to
    # remove a volume.
    parameters = [{key: options[key]} for key in PARAMETERS[function] if key in options]
    yield f"storage-volumes-{function}-{name}", {f"storage_volume.{function}": [{"name": name}, *parameters]}


def _check_keys(options: Mapping[str, Any], where: str) -> None:
    for state in PARAMETERS:
        if state in options:
            raise InvalidArgumentError(f"{where} has no parameter {state!r}; write 'state: {state}'", field=state)
    validate.no_unknown(options, _KNOWN, where)


def _check_function(function: Any, where: str) -> None:
    if not isinstance(function, str) or function not in PARAMETERS:
        text = f"{where}: state must be one of {', '.join(PARAMETERS)}, not {validate.shown(function)}"
        raise InvalidArgumentError(text, field="state")


def _check_values(name: str, function: Any, options: Mapping[str, Any], where: str) -> None:
    if function in _MAKES:
        ranges.refuse_nearly(name, where)
    if "size" in options:
        validate.size_gib(options["size"], f"{where}: size")
    elif function == "present":
        raise InvalidArgumentError(f"{where}: size is missing", field="size")
    if function == "mounted":
        if "mount" not in options:
            raise InvalidArgumentError(f"{where}: mount is missing; give the path of the mount point", field="mount")
        if not isinstance(options["mount"], str):
            text = f"{where}: mount must be an absolute path, not {validate.shown(options['mount'])}"
            raise InvalidArgumentError(text, field="mount")


def _rounded(name: str, entry: Any) -> Iterator[tuple[str, dict[str, list[dict[str, Any]]]]]:
    """Yield the state that tells that a volume gets another size than its entry has."""
    options = entry or {}
    size = options.get("size")
    if _function(options) in _MAKES and (gib := validate.rounded(size)) is not None:
        text = f"size {size!r} is rounded up to {gib} GiB, since volumes have whole GiB; write {gib}GiB"
        yield f"storage-volumes-rounded-{name}", _note(f"storage:volumes:{name}", text)


def _function(entry: Any) -> Any:
    """Return the state function that an entry asks for."""
    options = entry or {}
    return options.get("state", "mounted" if "mount" in options else "connected")


def _snapshots(name: str, entry: Any) -> Iterator[tuple[str, dict[str, list[dict[str, Any]]]]]:
    """Yield the state that keeps snapshots of a volume whose entry was found right."""
    options = entry or {}
    function = _function(options)
    if function in _MAKES and (wanted := options.get("snapshots")) is not None:
        yield _rotated(name, [{key: wanted[key]} for key in SNAPSHOTS if key in wanted])


def _rotated(name: str, parameters: list[dict[str, Any]]) -> tuple[str, dict[str, list[dict[str, Any]]]]:
    return f"storage-volumes-snapshots-{name}", {"storage_snapshot.rotated": [{"name": name}, {"volume": name}, *parameters]}


def _check_snapshots(name: str, options: Mapping[str, Any], where: str) -> None:
    from ..plans import snapshot_rotated as snapshot

    if options.get("snapshots") is None:
        return
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


def _note(name: str, text: str) -> dict[str, list[dict[str, Any]]]:
    return {"storage_pillar.note": [{"name": name}, {"comment": text}]}
