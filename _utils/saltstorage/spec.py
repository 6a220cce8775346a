"""The one definition of a volume's attributes, and of what a state, a minion's request or the
runner can ask of a volume.

A new attribute is a field here, a column in the catalog's schema, a parameter of the states and
of the runner, and a line in the docs. Records, requests, ``changes``, reports and pillar follow
from the fields.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from . import validate
from .errors import InvalidArgumentError

#: Returns the checked value of the named parameter, or raises :class:`InvalidArgumentError` for it.
Check = Callable[[Any, str], Any]


def _describe(check: Check, *, fixed: bool = False) -> dict[str, Any]:
    """Return the metadata of a field.

    :param fixed: whether an existing volume must have the value already; otherwise it gets the
        value.
    """
    return {"check": check, "fixed": fixed}


@dataclass(frozen=True, kw_only=True)
class Attributes:
    """The owner's notes and wishes for a volume, which are recorded with it. Each can be changed
    at any time.
    """

    #: Texts for people and for filters.
    labels: Mapping[str, str] = field(default_factory=dict, metadata=_describe(validate.labels))
    #: A text about the volume.
    description: str = field(default="", metadata=_describe(validate.description))
    #: Whether the volume must not be deleted.
    protected: bool = field(default=False, metadata=_describe(validate.boolean))
    #: Whether a deletion leaves the data on the backend.
    retain: bool = field(default=False, metadata=_describe(validate.boolean))


#: Names of the attributes.
ATTRIBUTES = tuple(f.name for f in dataclasses.fields(Attributes))


def decode_attributes(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes in ``given``, checked. An attribute that is missing or None stays as
    it is, and is left out.

    :param given: parameters by name; others than attributes are ignored.
    :raises InvalidArgumentError: a value is wrong; ``field`` says which.

    >>> decode_attributes({"labels": {"env": "prod"}, "retain": None})
    {'labels': {'env': 'prod'}}
    """
    return _decode([f for f in _list_fields(Attributes) if given.get(f.name) is not None], given)


def attributes_of(volume: Attributes) -> dict[str, Any]:
    """Return the attributes of a volume as plain data.

    >>> attributes_of(Attributes(protected=True))
    {'labels': {}, 'description': '', 'protected': True, 'retain': False}
    """
    values = {name: getattr(volume, name) for name in ATTRIBUTES}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}


def differing(volume: Attributes, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of some checked attributes that a volume does not have yet.

    >>> differing(Attributes(protected=True), {"protected": True, "retain": True})
    {'retain': True}
    """
    return {name: value for name, value in attributes.items() if getattr(volume, name) != value}


def _source(value: Any, parameter: str) -> dict[str, str]:
    """Return ``kind`` and ``name`` of ``{"volume": NAME}`` or ``{"snapshot": NAME}``."""
    given = validate.mapping(value, parameter)
    validate.no_unknown(given, ("volume", "snapshot"), parameter)
    if len(given) != 1:
        raise InvalidArgumentError(f"{parameter} must be {{'volume': NAME}} or {{'snapshot': NAME}}", field=parameter)
    ((kind, name),) = given.items()
    return {"kind": kind, "name": validate.name(name, f"{parameter}:{kind}")}


@dataclass(frozen=True, kw_only=True)
class VolumeSpec:
    """A volume as it is asked for: checked, but not yet compared with an existing one.

    It is decoded once, where a request comes in, and handed down as it is.

    :ivar size: GiB.
    :ivar backend: name of a backend. None: the type's or the default one; an existing volume may
        be on any.
    :ivar pool: glob of the pools of the backend that a new volume may be in. None: all; an existing
        volume may be in any.
    :ivar type: name of a type in the controller's configuration. None: no type, or the source's;
        an existing volume may have any.
    :ivar source: ``kind`` (``volume`` or ``snapshot``) and ``name`` of the same owner's volume or
        snapshot to copy. None: an empty volume.
    :ivar resize: whether an existing, smaller volume is grown.
    :ivar attributes: the given values of :class:`Attributes`, by name.

    >>> VolumeSpec.decode({"size": "20GiB", "protected": True}).to_wire()
    {'size': 20, 'resize': True, 'protected': True}
    """

    size: int = field(metadata=_describe(validate.size_gib))
    backend: str | None = field(default=None, metadata=_describe(validate.name, fixed=True))
    pool: str | None = field(default=None, metadata=_describe(validate.name))
    type: str | None = field(default=None, metadata=_describe(validate.name, fixed=True))
    source: Mapping[str, str] | None = field(default=None, metadata=_describe(_source))
    resize: bool = field(default=True, metadata=_describe(validate.boolean))
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def decode(cls, given: Mapping[str, Any]) -> Self:
        """Return the specification that a user, or :meth:`to_wire` at the other end, wrote.

        :param given: parameters by name. Others than :data:`PARAMETERS` are ignored; the caller
            refuses them where it must.
        :raises InvalidArgumentError: a value is wrong or ``size`` is missing; ``field`` says
            which.
        """
        if given.get("size") is None:
            raise InvalidArgumentError("size is missing", field="size")
        # None is no value for a parameter that has another default: an empty line in a state is
        # no decision.
        named = [f for f in _list_fields(cls) if f.name in given and not (given[f.name] is None and f.default is None)]
        return cls(**_decode(named, given), attributes=decode_attributes(given))

    @classmethod
    def decode_optional(cls, given: Mapping[str, Any]) -> Self | None:
        """Return the specification as :meth:`decode` does; None when nothing but ``resize`` is
        given: the volume is used as it is.
        """
        if all(given.get(name) is None for name in PARAMETERS if name != "resize"):
            return None
        return cls.decode(given)

    def to_wire(self) -> dict[str, Any]:
        """Return the given parameters, from which :meth:`decode` makes the same specification."""
        given = {f.name: getattr(self, f.name) for f in _list_fields(VolumeSpec)}
        if self.source is not None:
            given["source"] = {self.source["kind"]: self.source["name"]}
        return {name: value for name, value in given.items() if value is not None} | dict(self.attributes)


def _list_fields(cls: type[Attributes | VolumeSpec]) -> list[dataclasses.Field[Any]]:
    """Return the fields that a user can give."""
    return [f for f in dataclasses.fields(cls) if "check" in f.metadata]


def _decode(fields: Iterable[dataclasses.Field[Any]], given: Mapping[str, Any]) -> dict[str, Any]:
    return {f.name: f.metadata["check"](given[f.name], f.name) for f in fields}


#: Names of the parameters whose value an existing volume must have already.
FIXED = tuple(f.name for f in _list_fields(VolumeSpec) if f.metadata["fixed"])
#: Names of all parameters that make a specification.
PARAMETERS = (*(f.name for f in _list_fields(VolumeSpec)), *ATTRIBUTES)
