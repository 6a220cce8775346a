"""Rules on volumes that both ends of the bus hold: a state refuses in its dry run what the controller would refuse."""

from __future__ import annotations

from collections.abc import Iterable

from . import model
from .errors import AlreadyExistsError, FailedPreconditionError, PermissionDeniedError
from .model import Connection, Snapshot, Volume


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
    """Refuse to use data that is not encrypted as encrypted, and the other way round. The host finds out what is not recorded.

    :param found: the volume, or the source of a new one.
    :raises AlreadyExistsError: it is of the other kind.
    """
    what = f"{'volume' if isinstance(found, Volume) else 'snapshot'} {found.name!r}"
    if found.encrypted and not encrypted:
        raise AlreadyExistsError(f"{what} is encrypted; say encrypted: True, and where its passphrase is", field="encrypted")
    if encrypted and found.encrypted is False and (isinstance(found, Snapshot) or found.formatted):
        text = f"{what} has data that is not encrypted, and stays as it is; make a new volume with encrypted: True and copy the data there"
        raise AlreadyExistsError(text, field="encrypted")
