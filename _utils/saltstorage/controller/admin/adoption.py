"""Takes over volumes that exist on a backend, and lets volumes go without deleting them.

The data is not the project's to lose here: a half-done adoption is finished or forgotten, and
nothing is deleted. An adopted volume is recorded as formatted, so that no consumer makes a file
system on it, or encrypts it. Whether it is encrypted shows when a host uses it as an encrypted
volume.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

from ... import model, validate
from ...errors import AlreadyExistsError, FailedPreconditionError, InvalidArgumentError, NotFoundError
from ...model import Volume
from ...providers import Capability, Found, Provider, reference_text
from ...rules import refuse_protected
from ..access.locks import reference_key
from ..operations.core import Caller, Core, as_provider_volume, new_id, require
from ..operations.releases import Releases
from ..operations.volumes import Volumes

log = logging.getLogger(__name__)

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_NAME = re.compile(rf"\bvolume-({_UUID.pattern})$")


class Adoption:
    """The administrator's operations on volumes that others made."""

    def __init__(self, core: Core, volumes: Volumes, takeover: Takeover, releases: Releases) -> None:
        self.core = core
        self.volumes = volumes
        self.takeover = takeover
        self.releases = releases

    def manageable(self, backend: Any = None) -> list[dict[str, Any]]:
        """Return the backend's volumes that can be taken over, and those that cannot, with the
        reason.

        :param backend: name of a backend; the default backend if None.
        :returns: a list of ``reference``, ``size``, ``id`` (the UUID in its name), ``adoptable``
            and ``reason``.
        :raises UnimplementedError: the backend cannot list its volumes.
        """
        entry = self.core.config.backend(backend)
        provider = self.core.provider(entry.name)
        require(provider, Capability.LIST, entry.name, "list its volumes; look for the name of the volume there")
        return [
            {"reference": dict(f.reference), "size": f.size, "id": f.id, "adoptable": not f.obstacle, "reason": f.obstacle}
            for f in provider.list_volumes()
            if not f.known
        ]

    def manage(self, *, name: Any, owner: Any, reference: Any, backend: Any = None) -> dict[str, Any]:
        """Take over a volume of a backend, with its data, as ``(owner, name)``.

        :param reference: its name there: a text, for ``{"source-name": …}``, or a mapping as
            :meth:`manageable` lists it.
        :returns: ``volume`` as it is now; ``new``: False when this was done before.
        :raises AlreadyExistsError: the name is taken, or the volume is in the catalog already.
        :raises FailedPreconditionError: the backend says that it is in use.
        """
        name = validate.name(name)
        owner = validate.name(owner, "owner")
        wanted = _reference(reference)
        entry = self.core.config.backend(backend)
        provider = self.core.provider(entry.name)
        require(provider, Capability.MANAGE, entry.name, "take over volumes that exist")
        text = reference_text(wanted)
        with (
            self.core.held(Caller(), "adoption", (owner, name)),
            # This prevents two names for one volume at once; a caller with either lock alone could
            # not see the other.
            self.core.locks.held(reference_key(entry.name, text), why=f"adoption of {text}"),
        ):
            old = self.core.catalog.volume(owner, name)
            if old is not None and old.state in (model.ADOPTING, model.RELEASING):
                old = self.volumes.settle(old)
            if old is not None:
                if old.backend == entry.name and old.source == _source(text) and old.state == model.AVAILABLE:
                    return {"volume": old.to_wire(), "new": False}
                raise AlreadyExistsError(f"volume {name!r} of {owner} exists; choose another name", field="name")
            self.takeover.check_free(provider, entry.name, wanted)
            volume = Volume(
                id=new_id(),
                owner=owner,
                name=name,
                backend=entry.name,
                size=0,
                state=model.ADOPTING,
                source=_source(text),
                formatted=True,
                encrypted=None,
                created=time.time(),
            )
            self.core.catalog.add(volume)
            try:
                volume = self.takeover.take_over(provider, volume)
            except BaseException:
                try:
                    self.takeover.forget(volume)
                except Exception as error:
                    log.error("storage: volume %s was not adopted and cannot be forgotten yet: %s", volume.id, type(error).__name__)
                raise
        return {"volume": volume.to_wire(), "new": True}

    def unmanage(self, *, name: Any, owner: Any) -> dict[str, Any]:
        """Remove a volume from the catalog; its data stays on the backend.

        :returns: ``old``: the volume as it was, None when there was none; and the answer of
            :meth:`.Releases.release`.
        :raises FailedPreconditionError: it is connected, has snapshots, or is protected.
        """
        name = validate.name(name)
        owner = validate.name(owner, "owner")
        nothing: dict[str, Any] = {"old": None, "array_name": "", "take_over": ""}
        if self.core.catalog.volume(owner, name) is None:
            return nothing
        with self.core.held(Caller(), "release", (owner, name)):
            volume = self.core.catalog.volume(owner, name)
            if volume is None:
                return nothing
            if volume.state != model.RELEASING:
                volume = self.volumes.usable(owner, name)
                refuse_protected(volume)
                self.volumes.check_unused(volume)
            return {"old": volume.to_wire(), **self.releases.release(volume)}


class Takeover:
    """The steps of an adoption, with the volume's lock held."""

    def __init__(self, core: Core) -> None:
        self.core = core

    def settle(self, volume: Volume) -> Volume | None:
        """Finish an interrupted adoption; when that is not possible, forget it: the array's volume
        stays.
        """
        provider = self.core.provider(volume.backend)
        if (volume.source or {}).get("kind") == model.IMPORTED:
            # All rows are written in one transaction, so one of them says that all are there.
            size = provider.volume_size(as_provider_volume(volume))
            if size is not None:
                return self.core.catalog.update(volume, state=model.AVAILABLE)
            self.core.catalog.apply(remove=[*self.core.catalog.snapshots(volume_id=volume.id), volume])
            return None
        try:
            return self.take_over(provider, volume)
        except (InvalidArgumentError, NotFoundError, AlreadyExistsError, FailedPreconditionError) as error:
            log.error("storage: the adoption of %s as volume %s is given up: %s", (volume.source or {}).get("name"), volume.id, error)
        self.forget(volume)
        return None

    def take_over(self, provider: Provider, volume: Volume) -> Volume:
        """Have the backend take over the volume that the record's source names; return the changed
        record.
        """
        reference = str((volume.source or {})["name"])
        size = provider.manage_volume(as_provider_volume(volume), json.loads(reference))
        self.core.catalog.apply(
            update=[
                (volume, {"state": model.AVAILABLE, "size": size}),
                # A host that was fenced before the release must still remove its stale device. The
                # former id of the volume stands in most names on an array.
                *((fence, {"volume_id": volume.id}) for fence in self.core.catalog.fences(volume_id=_UUID.findall(reference.lower()))),
            ]
        )
        return self.core.volume(volume.owner, volume.name)

    def forget(self, volume: Volume) -> None:
        """Undo the metadata of an adoption that failed; the array's volume stays."""
        self.core.provider(volume.backend).unmanage_volume(as_provider_volume(volume))
        self.core.catalog.remove(volume)

    def check_free(self, provider: Provider, backend: str, reference: Mapping[str, Any]) -> None:
        """Refuse a volume that is in the catalog or in use, as far as the backend can tell before
        the take-over.
        """
        if Capability.LIST not in provider.capabilities():
            self._refuse_recorded(_ids_in(reference), reference)
            return
        found = next((f for f in provider.list_volumes() if dict(f.reference) == dict(reference)), None)
        if found is None:
            # Drivers accept other forms of reference than they list, so this alone says nothing.
            self._refuse_recorded(_ids_in(reference), reference)
            return
        # Another backend over the same storage may have it, and then its metadata does not know it.
        self._refuse_recorded([found.id], reference)
        self._check_unknown(found, backend)
        if found.obstacle and not found.known:
            text = f"backend {backend!r} does not let {dict(reference)!r} be taken over: {found.obstacle}"
            raise FailedPreconditionError(text, field="reference")

    def _refuse_recorded(self, ids: Iterable[str], reference: Mapping[str, Any]) -> None:
        """Refuse a volume whose id the catalog has, on whatever backend."""
        for volume_id in filter(None, ids):
            volume = self.core.catalog.volume_by_id(volume_id)
            if volume is not None:
                raise AlreadyExistsError(
                    f"{dict(reference)!r} is volume {volume.name!r} of {volume.owner} already, on backend {volume.backend!r}",
                    field="reference",
                )
            moved = next((m for m in self.core.catalog.moves() if volume_id in (m.source_id, m.target_id)), None)
            if moved is not None:
                raise AlreadyExistsError(
                    f"{dict(reference)!r} belongs to the move of volume {moved.name!r} of {moved.owner}; finish that", field="reference"
                )

    def _check_unknown(self, found: Found, backend: str) -> None:
        if not found.known:
            return
        raise AlreadyExistsError(
            f"{dict(found.reference)!r} is known to the metadata of backend {backend!r} and to no record of the catalog;"
            " salt-run storage.check tells more",
            field="reference",
        )


def _ids_in(reference: Mapping[str, Any]) -> list[str]:
    """Return the ids in names of Cinder's form, which are those of volumes."""
    found = (_NAME.search(str(value).lower()) for value in reference.values())
    return [match[1] for match in found if match is not None]


def _reference(value: Any) -> dict[str, Any]:
    if isinstance(value, str) and value:
        return {"source-name": value}
    given = validate.mapping(value, "reference")
    if not given or not all(isinstance(item, str | int) for item in given.values()):
        raise InvalidArgumentError("reference must be a name, or a mapping of keys to texts such as {source-name: lv1}", field="reference")
    return given


def _source(text: str) -> dict[str, str]:
    return {"kind": model.ARRAY, "name": text}
