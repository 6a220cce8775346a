"""A provider that can do no more than every provider must."""

from __future__ import annotations

from typing import Any

from saltstorage.controller.cinder.provider import CinderlibProvider
from saltstorage.providers import Capability, ProviderSnapshot, ProviderVolume


class BareProvider(CinderlibProvider):
    """The file driver, of which only the necessary may be asked."""

    def capabilities(self) -> frozenset[Capability]:
        return frozenset()

    def create_volume(self, volume: ProviderVolume, *, source: ProviderVolume | ProviderSnapshot | None = None) -> int:
        assert source is None
        return super().create_volume(volume)

    def _never(self, *args: Any) -> Any:
        raise AssertionError("the driver was asked for what it cannot do")

    extend_volume = create_snapshot = revert_volume = list_volumes = manage_volume = unmanage_volume = _never
