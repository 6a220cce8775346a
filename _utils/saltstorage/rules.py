"""Rules on volumes that both ends of the bus hold: a state refuses in its dry run what the
controller would refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from . import model
from .errors import AlreadyExistsError, FailedPreconditionError, OutOfRangeError, PermissionDeniedError
from .model import Connection, Snapshot, Volume
from .spec import FIXED, VolumeSpec


def refuse_different(spec: VolumeSpec, volume: Volume, source: Volume | Snapshot | None) -> None:
    """Refuse a specification that an existing volume cannot fulfil, naming every difference.
    A volume can grow and never shrinks.

    :param source: the volume or snapshot that has the name of the wanted source now; None
        when there is none any more.
    :raises AlreadyExistsError: backend, type or source differ, or the volume is smaller and
        may not be grown.
    :raises OutOfRangeError: the volume is larger than asked for.
    """
    differs: dict[str, Any] = {}
    for name in FIXED:
        asked, has = getattr(spec, name), getattr(volume, name)
        if asked is not None and asked != has:
            differs[name] = [has, asked]
    if spec.source is not None:
        have = volume.source or {}
        # A source is known by its id, since it may have been renamed. Where nothing has the
        # name any more, only the name is left.
        by = "name" if source is None else "id"
        wanted = (spec.source["kind"], spec.source["name"] if source is None else source.id)
        if (have.get("kind"), have.get(by)) != wanted:
            differs["source"] = [dict(have) or None, spec.source]
    if spec.size > volume.size and not spec.resize:
        differs["size"] = [volume.size, spec.size]
    if differs:
        texts = {key: f"{key} is {old!r}, asked for is {new!r}" for key, (old, new) in differs.items()}
        if "source" in differs and spec.source is not None:
            texts["source"] = _other_source(volume, spec.source, source)
        listed = "; ".join(texts.values())
        text = f"volume {volume.name!r} of {volume.owner} exists and differs: {listed}"
        raise AlreadyExistsError(text, field=next(iter(differs)), details=differs)
    # An array may have delivered more than was asked for.
    asked = volume.requested or volume.size
    if spec.size < asked:
        raise OutOfRangeError(
            f"volume {volume.name!r} of {volume.owner} has {asked} GiB and cannot shrink to {spec.size} GiB;"
            " ask for at least its size, or make a new volume and copy",
            field="size",
            details={"size": [asked, spec.size]},
        )


def refuse_smaller(spec: VolumeSpec, source: Volume | Snapshot) -> None:
    """Refuse a size below that of the source.

    :raises OutOfRangeError: the new volume would be smaller.
    """
    if spec.size < source.size:
        raise OutOfRangeError(f"the source {source.name!r} has {source.size} GiB; the new volume needs at least that", field="size")


def refuse_barred(volume: Volume, others: Iterable[Connection], *, read_only: bool, mounts: bool) -> None:
    """Refuse to connect a volume in a way that would let a file system be written by one host
    while another has it.

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


def refuse_protected(volume: Volume) -> None:
    """Refuse to delete a volume that is protected.

    :raises FailedPreconditionError: saying how to end the protection.
    """
    if volume.protected:
        raise FailedPreconditionError(
            f"volume {volume.name!r} is protected; if it is to go, apply storage_volume.present with protected: False first"
            " (or, on the master, salt-run storage.update with protected=False)"
        )


def retains(volume: Volume, retain: bool | None, minion: str | None, *, may: bool) -> bool:
    """Return whether the data of a volume that is to be deleted stays on its backend.

    :param retain: the caller's wish; None: as recorded with the volume.
    :param minion: the caller; None for the administrator.
    :param may: whether the policy allows the caller to leave data on the backend.
    :raises FailedPreconditionError: the deletion was begun, and now the data shall stay.
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
    """Refuse to use data that is not encrypted as encrypted, and the other way round. The host
    finds out what is not recorded.

    :param found: the volume, or the source of a new one.
    :raises AlreadyExistsError: it is of the other kind.
    """
    what = f"{'volume' if isinstance(found, Volume) else 'snapshot'} {found.name!r}"
    if found.encrypted and not encrypted:
        raise AlreadyExistsError(f"{what} is encrypted; say encrypted: True, and where its passphrase is", field="encrypted")
    if encrypted and found.encrypted is False and (isinstance(found, Snapshot) or found.formatted):
        text = f"{what} has data that is not encrypted, and stays as it is; make a new volume with encrypted: True and copy the data there"
        raise AlreadyExistsError(text, field="encrypted")


def _other_source(volume: Volume, asked: Mapping[str, str], source: Volume | Snapshot | None) -> str:
    """Return how the source of an existing volume differs from the wanted source.

    :param asked: ``kind`` and ``name``.
    :param source: the volume or snapshot that has that name now; None when there is none any more.
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
