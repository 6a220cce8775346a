"""What a volume shall be like, and whether an existing one is or can become so: the same rules on both ends of the bus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from . import model, validate
from .errors import AlreadyExistsError, FailedPreconditionError, InvalidArgumentError, OutOfRangeError, PermissionDeniedError
from .model import Connection, Snapshot, Volume


class Attributes:
    """What a volume shall have written on it; each can be changed at any time. None leaves it as it is.

    :param labels: mapping of texts, which replaces all that there are; see :func:`saltstorage.validate.labels`.
    :param description: a text; see :func:`saltstorage.validate.description`.
    :param protected: whether the volume may not be deleted.
    :param retain: whether its data stays on the backend when it is deleted.
    :raises InvalidArgumentError: a value is wrong; ``field`` says which.

    >>> Attributes(labels={"env": "prod"}).given
    {'labels': {'env': 'prod'}}
    """

    PARAMETERS = ("labels", "description", "protected", "retain")

    def __init__(self, *, labels: Any = None, description: Any = None, protected: Any = None, retain: Any = None) -> None:
        self.given: dict[str, Any] = {}
        if labels is not None:
            self.given["labels"] = validate.labels(labels)
        if description is not None:
            self.given["description"] = validate.description(description)
        if protected is not None:
            self.given["protected"] = validate.boolean(protected, "protected")
        if retain is not None:
            self.given["retain"] = validate.boolean(retain, "retain")

    def differing(self, volume: Volume) -> dict[str, Any]:
        """Return those that an existing volume has not, with the value that it shall have."""
        return {key: value for key, value in self.given.items() if getattr(volume, key) != value}


class Wanted:
    """What a volume shall be like, checked but not yet compared with what is there.

    :param size: see :func:`saltstorage.validate.size_gib`.
    :param backend: name of a backend; None for the type's, or the default one (of an existing volume: whichever it is on).
    :param type: name of a type in the controller's configuration; None for none, or the source's (of an existing volume: whichever it has).
    :param source: ``{"volume": NAME}`` or ``{"snapshot": NAME}`` of the same owner to copy from; None for an empty volume.
    :param resize: whether an existing, smaller volume is grown.
    :param attributes: see :class:`Attributes`.
    :raises InvalidArgumentError: a value is wrong; ``field`` says which.

    >>> Wanted(size="20GiB").size
    20
    """

    PARAMETERS = ("size", "backend", "type", "source", "resize", *Attributes.PARAMETERS)

    def __init__(
        self, *, size: Any, backend: Any = None, type: Any = None, source: Any = None, resize: Any = True, **attributes: Any
    ) -> None:
        if size is None:
            raise InvalidArgumentError("size is missing", field="size")
        self.size = validate.size_gib(size)
        self.backend: str | None = None if backend is None else validate.name(backend, "backend")
        self.type: str | None = None if type is None else validate.name(type, "type")
        self.source = _source(source)
        self.resize = validate.boolean(resize, "resize")
        self.attributes = Attributes(**attributes)

    def to_wire(self) -> dict[str, Any]:
        """Return the parameters that make the same at the other end; what was not given is left out."""
        source = {self.source["kind"]: self.source["name"]} if self.source else None
        wire = {"size": self.size, "backend": self.backend, "type": self.type, "source": source, "resize": self.resize}
        return {key: value for key, value in wire.items() if value is not None} | self.attributes.given

    def check(self, volume: Volume, source: Volume | Snapshot | None) -> None:
        """Refuse what an existing volume cannot become, naming every difference; growing it is no difference.

        :param source: what the name of the wanted source means now, None when there is no such thing any more.
        :raises AlreadyExistsError: backend, type or source differ, or it is smaller and may not be grown.
        :raises OutOfRangeError: it is larger than asked for.
        """
        differs: dict[str, Any] = {}
        if self.backend is not None and self.backend != volume.backend:
            differs["backend"] = [volume.backend, self.backend]
        if self.type is not None and self.type != volume.type:
            differs["type"] = [volume.type, self.type]
        if self.source is not None:
            have = volume.source or {}
            # By what it was made of, also when that has another name by now; when the name means nothing any more, by the name.
            by = "name" if source is None else "id"
            asked = (self.source["kind"], self.source["name"] if source is None else source.id)
            if (have.get("kind"), have.get(by)) != asked:
                differs["source"] = [dict(have) or None, self.source]
        if self.size > volume.size and not self.resize:
            differs["size"] = [volume.size, self.size]
        if differs:
            texts = {key: f"{key} is {old!r}, asked for is {new!r}" for key, (old, new) in differs.items()}
            if "source" in differs and self.source is not None:
                texts["source"] = _other_source(volume, self.source, source)
            listed = "; ".join(texts.values())
            text = f"volume {volume.name!r} of {volume.owner} exists and differs: {listed}"
            raise AlreadyExistsError(text, field=next(iter(differs)), details=differs)
        if self.size < volume.size:
            raise OutOfRangeError(
                f"volume {volume.name!r} of {volume.owner} has {volume.size} GiB and cannot shrink to {self.size} GiB;"
                " ask for at least its size, or make a new volume and copy",
                field="size",
                details={"size": [volume.size, self.size]},
            )

    def check_source(self, source: Volume | Snapshot) -> None:
        """Refuse a size below that of the source.

        :raises OutOfRangeError: the new volume would be smaller.
        """
        if self.size < source.size:
            raise OutOfRangeError(f"the source {source.name!r} has {source.size} GiB; the new volume needs at least that", field="size")


def refuse_barred(volume: Volume, others: Iterable[Connection], *, read_only: bool, mounts: bool) -> None:
    """Refuse to connect a volume in a way that would let a file system be written by one host while another has it.

    :param others: the volume's connections to other hosts.
    :param mounts: whether the host is going to mount a file system of it.
    :raises FailedPreconditionError: the hosts in the way are named.
    """
    barred = [c for c in others if c.bars(read_only=read_only, mounts=mounts)]
    if barred:
        named = ", ".join(f"{c.host} ({'mounted' if c.mounts else 'connected'}, {'reads' if c.read_only else 'writes'})" for c in barred)
        raise FailedPreconditionError(
            f"volume {volume.name!r} is in use by {named}. A file system is mounted either on one host alone, or for reading only on all;"
            " disconnect the volume there first, or say read_only: True on every host",
            details={"hosts": [c.host for c in barred]},
        )


def retains(volume: Volume, retain: bool | None, minion: str | None, *, may: bool) -> bool:
    """Return whether the data of a volume that is to be deleted stays on its backend.

    :param retain: what was asked for; None: what is recorded of the volume.
    :param minion: who asks; None for the administrator.
    :param may: whether the policy allows that.
    :raises FailedPreconditionError: its deletion was begun, and now it shall stay.
    :raises PermissionDeniedError: the policy does not allow it.
    """
    if volume.state in (model.CREATING, model.ERROR):
        return False  # there was never anything on it
    if volume.state == model.DELETING:
        if retain:
            text = f"the deletion of volume {volume.name!r} was begun, so its data may be gone; say retain: False to finish that"
            raise FailedPreconditionError(text, field="retain")
        return False
    retain = volume.retain if retain is None else retain
    if retain and not may:
        raise PermissionDeniedError(
            f"the policy limits what {minion} may own, and what stays on the backend no longer counts; have volume {volume.name!r} deleted"
            " on the master (salt-run storage.delete), or allow it in the policy with retain: true",
            field="retain",
        )
    return retain


def refuse_other_encryption(found: Volume | Snapshot, encrypted: bool) -> None:
    """Refuse to use encrypted what has data that is not, and the other way round; what is not known is for the host to find out.

    :param found: the volume, or what a new one is to be a copy of.
    :raises AlreadyExistsError: it is of the other kind.
    """
    what = f"{'volume' if isinstance(found, Volume) else 'snapshot'} {found.name!r}"
    if found.encrypted and not encrypted:
        raise AlreadyExistsError(f"{what} is encrypted; say encrypted: True, and where its passphrase is", field="encrypted")
    if encrypted and found.encrypted is False and (isinstance(found, Snapshot) or found.formatted):
        text = f"{what} has data that is not encrypted, and stays as it is; make a new volume with encrypted: True and copy the data there"
        raise AlreadyExistsError(text, field="encrypted")


def _other_source(volume: Volume, asked: Mapping[str, str], source: Volume | Snapshot | None) -> str:
    """Return how the source of an existing volume differs from the one that is asked for.

    :param asked: ``kind`` and ``name``.
    :param source: what that name means now.
    """
    have = volume.source or {}
    kind, name = asked["kind"], asked["name"]
    if not have:
        return f"it was made empty, asked for is a copy of {kind} {name!r}"
    if volume.adopted:
        return f"it was adopted from the backend, asked for is a copy of {kind} {name!r}"
    if source is not None and (have.get("kind"), have.get("name")) == (kind, name):
        return (
            f"source is an earlier {kind} of the name {name!r} (id {have.get('id')}), and the {kind} that has the name now (id {source.id})"
            " is another one; leave source out to keep the copy as it is"
        )
    return f"it is a copy of {have.get('kind')} {have.get('name')!r}, asked for is a copy of {kind} {name!r}"


def _source(value: Any) -> dict[str, str] | None:
    if value is None:
        return None
    given = validate.mapping(value, "source")
    validate.no_unknown(given, ("volume", "snapshot"), "source")
    if len(given) != 1:
        raise InvalidArgumentError("source must be {'volume': NAME} or {'snapshot': NAME}", field="source")
    ((kind, name),) = given.items()
    return {"kind": kind, "name": validate.name(name, f"source:{kind}")}
