"""The minion option ``storage: consumer:``, checked once."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ... import validate
from ...environment import location
from ...errors import InvalidArgumentError

#: Keys that are file system paths. Their defaults move with the minion's ``root_dir``; a given
#: path stays as it is.
_PATHS = ("state_dir", "device_dir", "fstab", "lock_path")
_LISTS = ("luks_format_options",)
_FLAGS = ("multipath", "enforce_multipath")
_SECONDS = ("answer_timeout", "lock_timeout", "step_timeout", "format_timeout")


@dataclass(frozen=True, kw_only=True)
class ConsumerConfig:
    """Settings of the consumer.

    >>> opts = {"id": "db1", "storage": {"consumer": {"multipath": True}}}
    >>> ConsumerConfig.from_opts(opts).multipath
    True
    >>> pillar = {"storage": {"consumer": {"protocols": ["iscsi", "multipath"]}}}
    >>> ConsumerConfig.from_opts({"id": "db1", "pillar": pillar}).multipath
    True
    """

    host: str  #: Name of this host to controllers and arrays: the minion id.
    state_dir: str = "/var/lib/salt-storage/minion"  #: Attachment records and their locks; kept across reboots.
    device_dir: str = "/dev/storage"  #: Where the links to the volumes are made.
    fstab: str = "/etc/fstab"  #: Table of file systems that the states write.
    #: Locks of os-brick; one directory a host, shared by all processes that use os-brick there.
    lock_path: str = "/var/lib/salt-storage/os-brick"
    #: Whether volumes are attached over all their paths; by default, whether pillar prepares the
    #: host for that.
    multipath: bool = False
    #: Whether to fail when ``multipath`` is set and multipathd does not run.
    enforce_multipath: bool = False
    answer_timeout: float = 10.0  #: How long to wait for a first answer of a controller, seconds.
    #: How long to wait for another job that works on the same volume, seconds.
    lock_timeout: float = 60.0
    step_timeout: float = 120.0  #: How long one command may run, seconds.
    #: Further options of ``cryptsetup luksFormat``, such as ``["--pbkdf-memory=65536"]`` (KiB) for
    #: a volume that is to be opened on hosts with less memory than this one.
    luks_format_options: tuple[str, ...] = ()
    #: Folder of the Python that has os-brick.
    environment: str = location.DEFAULT_FOLDER
    #: Whether os-brick runs in this process, which the storage environment's Python runs; no
    #: option.
    in_process: bool = False
    format_timeout: float = 3600.0  #: How long making or growing a file system may run, seconds.

    @classmethod
    def from_opts(cls, opts: Mapping[str, Any]) -> ConsumerConfig:
        """Return the settings in a minion's options.

        :param opts: the minion's options; ``storage`` and its key ``consumer`` may be absent.
        :raises InvalidArgumentError: an unknown key, or a value of a wrong type.
        """
        storage = validate.mapping(opts.get("storage") or {}, "storage")
        given = validate.mapping(storage.get("consumer") or {}, "storage:consumer")
        validate.no_unknown(given, ("environment", *_PATHS, *_FLAGS, *_SECONDS, *_LISTS), "storage:consumer")
        values: dict[str, Any] = {"host": str(opts.get("id") or socket.gethostname()), "multipath": _is_prepared_for_multipath(opts)}
        root = str(opts.get("root_dir") or "/")
        for key in _PATHS:
            default = str(getattr(cls, key))
            values[key] = _path(given[key], key) if key in given else os.path.join(root, default.lstrip("/"))
        for key in _FLAGS:
            if key in given:
                values[key] = validate.boolean(given[key], f"storage:consumer:{key}")
        for key in _SECONDS:
            if key in given:
                values[key] = _seconds(given[key], key)
        for key in _LISTS:
            if key in given:
                values[key] = _options(given[key], key)
        values["environment"] = location.folder(opts, location.CONSUMER)
        return cls(**values)

    def to_wire(self) -> dict[str, Any]:
        """Return the settings as plain data, for a process of the storage environment. They hold
        no secrets.
        """
        return dataclasses.asdict(self)

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> ConsumerConfig:
        """Return the settings from what :meth:`to_wire` returned, perhaps in another version."""
        known = {field.name for field in dataclasses.fields(cls)}
        values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items() if key in known}
        return cls(**{**values, "in_process": True})


def _is_prepared_for_multipath(opts: Mapping[str, Any]) -> bool:
    """Return whether pillar names multipath; :mod:`saltstorage.pillar` checks pillar itself."""
    found: Any = opts
    for key in ("pillar", "storage", "consumer", "protocols"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return isinstance(found, list | tuple) and "multipath" in found


def _path(value: Any, key: str) -> str:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise InvalidArgumentError(f"storage:consumer:{key} must be an absolute path, not {value!r}", field=key)
    return os.path.normpath(value)


def _options(value: Any, key: str) -> tuple[str, ...]:
    # cryptsetup would take a word without a dash for the device.
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) and item.startswith("-") for item in value):
        raise InvalidArgumentError(f"storage:consumer:{key} must be a list of options, such as ['--pbkdf-memory=65536']", field=key)
    return tuple(value)


def _seconds(value: Any, key: str) -> float:
    # `not value > 0` also refuses NaN.
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0 or value == float("inf"):
        raise InvalidArgumentError(f"storage:consumer:{key} must be a number of seconds above 0, not {value!r}", field=key)
    return float(value)
