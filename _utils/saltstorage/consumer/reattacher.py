"""Attaching all recorded volumes again after a boot, from the records alone."""

from __future__ import annotations

import concurrent.futures

from ..errors import InternalError, StorageError
from .attachment import Reattached
from .encryption import Encryption
from .host.records import ATTACHING, DETACHED, DETACHING, INTENT
from .inspection import Inspection
from .localhost import LocalHost
from .status import LOCKED
from .steps import Steps

#: Volumes that are attached at the same time; one dead portal must not hold up the others.
_WORKERS = 8


class Reattacher:
    """Attaches the recorded volumes of this host again.

    :param host: this host.
    :param inspection: finds the volumes whose devices are gone.
    :param encryption: opens the encrypted ones.
    :param steps: does the work on the host.
    """

    def __init__(self, host: LocalHost, inspection: Inspection, encryption: Encryption, steps: Steps) -> None:
        self._host = host
        self._inspection = inspection
        self._encryption = encryption
        self._steps = steps

    def reattach(self) -> list[Reattached]:
        """Attach every recorded volume whose device is gone, such as after a boot.

        No controller is needed. An error stops only its own volume.
        """
        found, errors = self._host.records.all()
        result = [Reattached(name="", state="failed", error=error) for error in errors]
        with concurrent.futures.ThreadPoolExecutor(max_workers=_WORKERS) as pool:
            return result + list(pool.map(self._reattach, [record.name for record in found]))

    def _reattach(self, name: str) -> Reattached:
        try:
            with self._host.lock(name):
                record = self._host.records.load(name)
                if record is None or record.state in (INTENT, DETACHED):
                    return Reattached(name=name, state="skipped")
                if record.state == DETACHING:
                    self._steps.detach(record, force=False)
                    return Reattached(name=name, state="skipped")
                status = self._inspection.check(name)
                if status.refused:
                    raise status.error(name)
                state = "ok" if status.present or status.state == LOCKED else "attached"
                if state == "attached":
                    self._steps.attach(record.replace(state=ATTACHING))
                return self._open(name, state)
        except StorageError as error:
            return Reattached(name=name, state="failed", error=error)
        except OSError as error:
            return Reattached(name=name, state="failed", error=InternalError(f"cannot attach {name!r}: {error}"))

    def _open(self, name: str, state: str) -> Reattached:
        """Open an encrypted volume, if its passphrase can be read here without a master."""
        record, _, device = self._host.load_attached(name)
        if record.encrypted and (record.encrypting or not self._encryption.is_open(record, device)):
            try:
                self._encryption.open(record, device)
            except StorageError as error:
                return Reattached(name=name, state="locked", error=error)
            state = "attached"
        return Reattached(name=name, state=state, path=self._host.links.path(name))
