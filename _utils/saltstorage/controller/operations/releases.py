"""Letting volumes go without deleting them: the record leaves the catalog, and the data stays on
the backend.
"""

from __future__ import annotations

import logging
import shlex
from typing import Any

from ... import model
from ...model import Volume
from ...providers.base import Capability
from .core import Core, as_provider_volume, require

log = logging.getLogger(__name__)


class Releases:
    """Releases of volumes, with the volume's lock held."""

    def __init__(self, core: Core) -> None:
        self.core = core

    def release(self, volume: Volume) -> dict[str, Any]:
        """Let go of a volume that was checked and is at rest.

        :returns: ``array_name``: the name that the project gave it on the backend, empty when
            that is not known any more; ``take_over``: the command that takes it over again.
        :raises UnimplementedError: the backend cannot do this.
        """
        provider = self.core.provider(volume.backend)
        require(provider, Capability.MANAGE, volume.backend, "let go of volumes without deleting them")
        if volume.state != model.RELEASING:
            volume = self.core.catalog.update(volume, state=model.RELEASING)
        array_name = provider.unmanage_volume(as_provider_volume(volume))
        self.core.catalog.remove(volume)
        log.warning(
            "storage: volume %s of %s was released; its data stays on %s as %s",
            volume.id,
            volume.owner,
            volume.backend,
            array_name or "what storage.manageable shows with this id",
        )
        return {"array_name": array_name, "take_over": take_over_command(volume, array_name)}

    def settle(self, volume: Volume) -> None:
        """Finish a release that was cut off."""
        self.release(volume)


def take_over_command(volume: Volume, array_name: str) -> str:
    """Return the command that takes over a volume which was let go.

    >>> volume = Volume(id="1", owner="db1", name="my data", backend="lvm", size=1)
    >>> take_over_command(volume, "volume-1")
    "salt-run storage.manage 'name=my data' owner=db1 reference=volume-1 backend=lvm"
    """
    if not array_name:
        # The release was cut off after the backend had forgotten the volume.
        return f"salt-run storage.manageable {shlex.quote(f'backend={volume.backend}')}"
    given = {"name": volume.name, "owner": volume.owner, "reference": array_name, "backend": volume.backend}
    return " ".join(["salt-run storage.manage", *(shlex.quote(f"{key}={value}") for key, value in given.items())])
