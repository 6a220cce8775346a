"""Mends the findings of a check, as far as nothing is lost that could belong to somebody."""

from __future__ import annotations

import logging
from typing import Any

from ... import model, validate
from ...errors import AbortedError, FailedPreconditionError, InvalidArgumentError, StorageError
from ...faults import as_storage_error
from ...providers import ProviderSnapshot, ProviderVolume
from ..access.locks import reference_key, volume_key
from ..operations.core import Caller, Core, as_provider_volume
from .check import Check, Finding
from .recovery import Recovery

log = logging.getLogger(__name__)


class Repair:
    """Repair by the findings of a check."""

    def __init__(self, core: Core, check: Check, recovery: Recovery) -> None:
        self.core = core
        self.check = check
        self.recovery = recovery

    def run(
        self, *, backend: Any = None, kinds: Any = None, remove: Any = None, fenced: Any = None, apply: Any = False
    ) -> list[dict[str, Any]]:
        """Settle interrupted work, and remove the named findings.

        :param backend: only on this backend; default on all.
        :param kinds: only these kinds of findings; default all.
        :param remove: ids of findings that are removed only when named, such as orphans.
        :param fenced: controller that is gone for good and cannot write any more, see
            :meth:`.Mover.settle`.
        :param apply: False only tells the repairs that would be made.
        :returns: the mended findings, each with ``done`` (False in a dry run) and perhaps
            ``error`` and ``code``.
        :raises InvalidArgumentError: no such finding has an id in ``remove``.
        """
        apply = validate.boolean(apply, "apply")
        fenced = None if fenced is None else validate.name(fenced, "fenced")
        named = _ids(remove)
        found = self.check.findings(backend=backend, kinds=kinds)
        unknown = named - {f.id for f in found if f.named}
        if unknown:
            raise InvalidArgumentError(
                f"nothing that could be removed was found with the ids {', '.join(sorted(unknown))}; salt-run storage.check lists them",
                field="remove",
            )
        answers = []
        for finding in found:
            if finding.repair and (not finding.named or finding.id in named):
                answers.append({**finding.to_wire(), **(self._mend(finding, fenced) if apply else {"done": False})})
        return answers

    def _mend(self, finding: Finding, fenced: str | None) -> dict[str, Any]:
        try:
            if finding.kind == "orphan":
                self._delete_orphan(finding)
            elif finding.kind == "gone":
                self._forget(finding)
            elif finding.kind == "resized":
                self._take_size(finding)
            elif finding.kind == "left_over":
                self._delete_left_over(finding)
            elif finding.kind == "fenced_host":
                self.core.catalog.apply(remove=self.core.catalog.fences(id=finding.id))
            else:
                self._settle(finding, fenced)
        except Exception as error:  # One failure must not keep the others from being mended.
            told = error if isinstance(error, StorageError) else as_storage_error(error, f"repair of {finding.what} {finding.id}")
            return {"done": False, "error": str(told), "code": told.code}
        log.warning("storage: repair: %s %s: %s", finding.what, finding.id, finding.repair)
        return {"done": True}

    def _settle(self, finding: Finding, fenced: str | None) -> None:
        """Settle as the next start of the engine would."""
        name = finding.name
        if finding.what == "snapshot":
            snapshot = self.core.catalog.snapshot(finding.owner, finding.name)
            if snapshot is None:
                return
            name = snapshot.volume
        with self.core.locks.held(volume_key(finding.owner, name), why=f"repair of {name!r}", timeout=0):
            if finding.what == "snapshot":
                self.recovery.settle_snapshot(finding.owner, finding.name, held=name)
            elif finding.what == "move":
                for move in self.core.catalog.moves(source_id=finding.id, state=model.REMOVING):
                    self.recovery.mover.recover(move)
            elif (volume := self.core.catalog.volume(finding.owner, name)) is not None:
                connection = self.core.catalog.connection(volume.id, finding.host) if finding.host else None
                if connection is not None:
                    self.recovery.settle_connection(volume, connection)
                elif finding.what == "volume" and volume.state == model.MIGRATING:
                    self.recovery.mover.settle(volume, fenced=fenced)
                elif finding.what == "volume":
                    self.recovery.settle_volume(volume)

    def _delete_orphan(self, finding: Finding) -> None:
        # An adoption's lock, so that nobody takes over the orphan meanwhile.
        with self.core.locks.held(reference_key(finding.backend, finding.reference), why=f"deletion of the orphan {finding.id}"):
            if not any(f.id == finding.id for f in self.check.findings(backend=finding.backend, kinds="orphan")):
                raise AbortedError(f"{finding.what} {finding.id} is no orphan any more")
            provider = self.core.provider(finding.backend)
            if finding.what == "volume":
                provider.delete_volume(ProviderVolume(id=finding.id, size=finding.size))
            else:
                provider.delete_snapshot(ProviderSnapshot(id=finding.id, volume_id="", size=finding.size))
            if any(f.id == finding.id for f in self.check.findings(backend=finding.backend, kinds="orphan")):
                raise FailedPreconditionError(f"{finding.what} {finding.id} is still there: the driver cannot delete it alone")

    def _forget(self, finding: Finding) -> None:
        with self.core.held(Caller(), "repair", (finding.owner, finding.name)):
            volume = self.core.catalog.volume(finding.owner, finding.name)
            if volume is None or volume.id != finding.id:
                raise AbortedError(f"volume {finding.id} was changed meanwhile")
            self.recovery.volumes.check_unused(volume)
            # Not deleted, in case the backend's list was not complete.
            self.core.provider(volume.backend).unmanage_volume(as_provider_volume(volume))
            self.core.catalog.remove(volume)

    def _take_size(self, finding: Finding) -> None:
        with self.core.held(Caller(), "repair", (finding.owner, finding.name)):
            volume = self.core.volume(finding.owner, finding.name)
            provider = self.core.provider(volume.backend)
            size = next((found.size for found in provider.list_volumes() if found.id == volume.id), 0)
            if (volume.id, volume.state) != (finding.id, model.AVAILABLE) or size <= volume.size:
                raise AbortedError(f"volume {finding.id} was changed meanwhile")
            provider.take_size(as_provider_volume(volume), size)
            # Hosts that use it follow as after any other growth.
            self.core.catalog.update(volume, size=size, requested=None)

    def _delete_left_over(self, finding: Finding) -> None:
        if finding.what == "connection":
            for connection in self.core.catalog.connections(id=finding.id):
                if self.core.catalog.volume_by_id(connection.volume_id) is None:
                    self.core.catalog.remove(connection)
            return
        for snapshot in self.core.catalog.snapshots(id=finding.id):
            with self.core.held(Caller(), "repair", (snapshot.owner, snapshot.volume)):
                if self.core.catalog.volume_by_id(snapshot.volume_id) is None:
                    self.recovery.snapshots.remove(snapshot)


def _ids(value: Any) -> set[str]:
    given = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(given, list | tuple) or not all(isinstance(item, str) for item in given):
        raise InvalidArgumentError("remove must be an id, or a list of ids", field="remove")
    return set(given)
