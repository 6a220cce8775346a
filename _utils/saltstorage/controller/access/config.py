"""The controller's configuration: the master option ``storage``, checked.

Masterless, the same keys stand in the minion's option ``storage``, beside ``consumer``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ... import validate
from ...errors import FailedPreconditionError, InvalidArgumentError
from ...places import STATE_DIR, under_root
from . import python_path
from .policy import Policy

#: Seconds; the journal keeps requests for much longer.
MAX_REQUEST_AGE = 3600
DEFAULT_PROVIDER = "cinderlib"
_FABRIC = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class BackendEntry:
    """One entry of ``backends``: the provider's name, and its options as written."""

    name: str
    provider: str = DEFAULT_PROVIDER
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TypeEntry:
    """One entry of ``types``: properties that a volume gets when it is created, under a name that
    minions choose.

    :ivar name: the type's name.
    :ivar backends: backends that its volumes may be on; none: the backend that the volume names,
        or the default backend.
    :ivar pools: globs of pools that its volumes may be in; none: all.
    :ivar extra_specs: Cinder's extra specs of a volume type: texts that the driver documents, such
        as ``provisioning:type``.
    :ivar qos_specs: Cinder's specs of a back-end QoS, such as ``maxIOPS``.
    """

    name: str
    backends: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    extra_specs: Mapping[str, str] = field(default_factory=dict)
    qos_specs: Mapping[str, str] = field(default_factory=dict)

    @property
    def specs(self) -> bool:
        """Whether the backend must be able to take specs."""
        return bool(self.extra_specs or self.qos_specs)


@dataclass(frozen=True, kw_only=True)
class ControllerConfig:
    """Everything under ``storage:`` that concerns the controller.

    :ivar state_dir: directory of the catalog, locks and drivers' state; default
        ``/var/lib/salt-storage/controller``.
    :ivar database: SQLAlchemy URL of the catalog; default an SQLite file in ``state_dir``.
    :ivar metadata_database: SQLAlchemy URL of cinderlib's metadata; default ``database`` if that
        was set, else an SQLite file in ``state_dir``.
    :ivar coordination: tooz URL of the locks; default files in ``state_dir``.
    :ivar backends: the backends by name, in the order written.
    :ivar default_backend: backend of volumes that name none; default the only backend, if there is
        only one.
    :ivar types: the types that volumes may choose, by name; default none.
    :ivar policy: the rights of each minion.
    :ivar python_path: folders of modules that drivers and providers need and that the storage
        environment lacks.
    :ivar zoning: Fibre Channel zones: options of Cinder's zone manager, and ``fabrics`` with those
        of each fabric; empty: zones are not managed.
    :ivar lock_timeout: longest wait of an operation for another on the same volume, seconds,
        default 30.
    :ivar workers: operations that the engine runs at once, default 8.
    :ivar request_max_age: oldest request that is accepted, seconds, default 300, at most 3600.
    :ivar retry_interval: time after which a backend that is down is tried again, seconds, default
        60.
    :ivar hang_timeout: how long the controller's process may be silent before it is ended and
        started again, seconds, default 30; for whoever starts it.
    """

    state_dir: str
    database: str
    metadata_database: str
    coordination: str
    backends: Mapping[str, BackendEntry] = field(default_factory=dict)
    default_backend: str | None = None
    types: Mapping[str, TypeEntry] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    python_path: tuple[str, ...] = ()
    zoning: Mapping[str, Any] = field(default_factory=dict)
    lock_timeout: int = 30
    workers: int = 8
    request_max_age: int = 300
    retry_interval: int = 60
    hang_timeout: int = 30

    @classmethod
    def from_opts(cls, opts: Mapping[str, Any]) -> ControllerConfig:
        """Return the configuration in Salt's ``opts``.

        :raises FailedPreconditionError: there is no option ``storage`` with ``backends``.
        :raises InvalidArgumentError: a key is unknown or has a wrong value; ``field`` is its path.
        """
        section = opts.get("storage")
        if not section:
            raise FailedPreconditionError(
                "no storage controller is configured here; set the option 'storage' with 'backends' in the master's configuration"
            )
        given = validate.mapping(section, "storage")
        if "root_helper" in given:
            # Refused by name, since it takes more than another spelling.
            raise InvalidArgumentError(
                "storage:root_helper is no key of this version: a command prefix that gives root to the controller's user made that user "
                "root. Remove it. Drivers that run commands as root need a controller that is root: "
                "set storage:lookup:controller:controller_user to root, and apply storage.controller",
                field="storage:root_helper",
            )
        validate.no_unknown(
            given, {*_SIMPLE, *_NUMBERS, "backends", "types", "policy", "python_path", "zoning", "consumer"}, "the option 'storage'"
        )
        for key in _SIMPLE:
            if key in given and not isinstance(given[key], str):
                raise InvalidArgumentError(f"storage:{key} must be a string", field=f"storage:{key}")
        numbers = {key: _positive(given[key], f"storage:{key}") for key in _NUMBERS if key in given}
        if numbers.get("request_max_age", 0) > MAX_REQUEST_AGE:
            # The journal must know every request that is young enough to be accepted, or it could
            # be replayed.
            raise InvalidArgumentError(f"storage:request_max_age may be at most {MAX_REQUEST_AGE}", field="storage:request_max_age")
        state_dir = given.get("state_dir") or under_root(opts, STATE_DIR)
        sqlite = f"sqlite:///{state_dir}/{{}}.sqlite"
        backends = _backends(given.get("backends", {}))
        return cls(
            state_dir=state_dir,
            database=given.get("database") or sqlite.format("catalog"),
            metadata_database=given.get("metadata_database") or given.get("database") or sqlite.format("cinderlib"),
            coordination=given.get("coordination") or f"file://{state_dir}/locks",
            backends=backends,
            default_backend=_default_backend(given.get("default_backend"), backends),
            types=_types(given.get("types"), backends),
            policy=Policy.from_config(given.get("policy")),
            python_path=python_path.folders(given.get("python_path")),
            zoning=_zoning(given.get("zoning")),
            **numbers,
        )

    def backend(self, name: str | None) -> BackendEntry:
        """Return the entry of the named backend, or of the default backend for None.

        :raises InvalidArgumentError: there is no such backend, or no name was given and there is
            no default.
        """
        wanted = self.default_backend if name is None else name
        known = ", ".join(self.backends) or "none"
        if wanted is None:
            raise InvalidArgumentError(f"name a backend, since there is no default_backend; known: {known}", field="backend")
        if not isinstance(wanted, str) or wanted not in self.backends:
            raise InvalidArgumentError(f"backend {wanted!r} is not configured on the controller; known: {known}", field="backend")
        return self.backends[wanted]

    def type(self, name: str) -> TypeEntry:
        """Return the entry of the named type.

        :raises InvalidArgumentError: there is no such type.
        """
        if name not in self.types:
            known = ", ".join(self.types) or "none"
            raise InvalidArgumentError(f"type {name!r} is not configured on the controller; known: {known}", field="type")
        return self.types[name]

    def choose_backends(self, backend: str | None, kind: TypeEntry | None) -> tuple[str, ...]:
        """Return the names of the backends that a new volume may be on: the volume's own, those of
        its type, or the default.

        :raises InvalidArgumentError: backend and type do not fit, or there is no such backend, or
            no default.
        """
        of_type = kind.backends if kind is not None else ()
        if kind is not None and backend is not None and of_type and backend not in of_type:
            known = " and ".join(map(repr, of_type))
            text = f"volumes of type {kind.name!r} are on backend {known}, not on {backend!r}; name one of the two only"
            raise InvalidArgumentError(text, field="backend")
        if backend is not None or not of_type:
            return (self.backend(backend).name,)
        return of_type


_SIMPLE = ("state_dir", "database", "metadata_database", "coordination", "default_backend")
_OTHERS = ("backends", "types", "policy", "python_path", "zoning", "consumer")
_NUMBERS = ("lock_timeout", "workers", "request_max_age", "retry_interval", "hang_timeout")


def _positive(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidArgumentError(f"{where} must be a whole number of at least 1, not {value!r}", field=where)
    return value


def _backends(value: Any) -> dict[str, BackendEntry]:
    entries = {}
    for name, options in validate.mapping(value, "storage:backends").items():
        where = f"storage:backends:{name}"
        validate.name(name, where)
        options = validate.mapping(options, where)
        provider = options.pop("provider", DEFAULT_PROVIDER)
        if not isinstance(provider, str):
            raise InvalidArgumentError(f"{where}:provider must be a string", field=f"{where}:provider")
        entries[name] = BackendEntry(name=name, provider=provider, options=options)
    return entries


def _zoning(value: Any) -> dict[str, Any]:
    """Check the form; the options are those of the zone driver, which is not loaded here."""
    where = "storage:zoning"
    zoning = validate.mapping({} if value is None else value, where)
    if not zoning:
        return {}
    fabrics = validate.mapping(zoning.get("fabrics"), f"{where}:fabrics")
    if not fabrics:
        raise InvalidArgumentError(f"{where}:fabrics must name each fabric, with its options", field=f"{where}:fabrics")
    for name in fabrics:
        if not _FABRIC.fullmatch(name):
            raise InvalidArgumentError(f"{where}:fabrics:{name}: use letters, digits, . _ and - for its name", field=f"{where}:fabrics")
    return {**zoning, "fabrics": {name: validate.mapping(given, f"{where}:fabrics:{name}") for name, given in fabrics.items()}}


def _default_backend(value: str | None, backends: Mapping[str, BackendEntry]) -> str | None:
    if value is None:
        return next(iter(backends)) if len(backends) == 1 else None
    if value not in backends:
        known = ", ".join(backends) or "none"
        raise InvalidArgumentError(
            f"storage:default_backend {value!r} is not one of the backends: {known}", field="storage:default_backend"
        )
    return value


def _types(value: Any, backends: Mapping[str, BackendEntry]) -> dict[str, TypeEntry]:
    entries = {}
    for name, options in validate.mapping({} if value is None else value, "storage:types").items():
        where = f"storage:types:{name}"
        validate.name(name, where)
        options = validate.mapping({} if options is None else options, where)
        validate.no_unknown(options, ("backend", "pool", "extra_specs", "qos_specs"), where)
        of_type, pools = (_names(options.get(key), f"{where}:{key}") for key in ("backend", "pool"))
        for backend in of_type:
            if backend not in backends:
                known = ", ".join(backends) or "none"
                raise InvalidArgumentError(f"{where}:backend {backend!r} is not one of the backends: {known}", field=f"{where}:backend")
        specs = {key: _specs(options.get(key), f"{where}:{key}") for key in ("extra_specs", "qos_specs")}
        entries[name] = TypeEntry(name=name, backends=of_type, pools=pools, **specs)
    return entries


def _names(value: Any, where: str) -> tuple[str, ...]:
    """Return one name or several as a list."""
    given = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(given, list) or not all(isinstance(item, str) and item for item in given):
        raise InvalidArgumentError(f"{where} must be a name or a list of names", field=where)
    return tuple(given)


def _specs(value: Any, where: str) -> dict[str, str]:
    specs = {}
    for key, item in validate.mapping({} if value is None else value, where).items():
        # Cinder has texts only, and drivers differ in how they write true: '<is> True', 'true',
        # 'yes'.
        if isinstance(item, bool) or not isinstance(item, str | int):
            raise InvalidArgumentError(f"{where}:{key} must be a text, as the driver documents it; quote it", field=f"{where}:{key}")
        if not 0 < len(key) <= 255 or len(str(item)) > 255:
            raise InvalidArgumentError(f"{where}:{key} is too long; at most 255 characters are possible", field=f"{where}:{key}")
        specs[key] = str(item)
    return specs
