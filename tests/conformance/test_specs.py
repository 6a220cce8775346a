"""Extra specs and QoS specs, with which a volume is created. The backend's file or the
configuration names those to try.
"""

from __future__ import annotations

import dataclasses

import pytest

from saltstorage.providers import AlreadyExistsError, Capability, StorageError


def test_the_remains_of_an_interrupted_creation_are_removed_and_created_again(world, needs):
    """As the service does it: under the same id, with the same specs."""
    needs(Capability.SPECS)
    for kind in world.types:
        volume = world.new(kind=kind)
        for _ in range(3):
            assert world.provider.create_volume(volume) >= volume.size
            with pytest.raises(AlreadyExistsError):
                world.provider.create_volume(volume)
            assert world.provider.delete_volume(dataclasses.replace(volume, extra_specs={}, qos_specs={})) is True
        assert world.provider.volume_size(volume) is None


def test_volumes_of_different_specs_do_not_mix(world, needs):
    """Each volume is deleted alone and leaves the others as they are, those without specs
    included.
    """
    needs(Capability.SPECS)
    volumes = [world.volume(kind=kind) for kind in (*world.types, None, *world.types)]
    for volume in volumes:
        connection, info = world.connect(volume, "host1")
        world.provider.restore(volume)
        assert world.connect(volume, "host1", connection_id=connection)[1] == info
        world.disconnect(volume, connection, "host1")
    for number, volume in enumerate(volumes):
        assert world.provider.delete_volume(volume) is True
        assert [world.provider.volume_size(v) for v in volumes[number + 1 :]] == [v.size for v in volumes[number + 1 :]]


def test_specs_that_the_backend_must_refuse(world, needs, provider, backend):
    """Nothing is left behind, and the same volume can be created with others."""
    if not backend.refused:
        pytest.skip("this suite does not know the specs that the backend must refuse; see conformance:refused in the guide for providers")
    needs(Capability.SPECS)
    for kind in backend.refused:
        volume = world.new(kind=kind)
        with pytest.raises(StorageError) as caught:
            provider.create_volume(volume)
        assert caught.value.message
        assert provider.volume_size(volume) is None, "the refused volume is there"
        assert provider.delete_volume(volume) is False, "the refused volume was on the backend"
        good = world.types[0]
        again = dataclasses.replace(volume, extra_specs=good.extra_specs, qos_specs=good.qos_specs)
        assert provider.create_volume(again) >= volume.size
        assert provider.delete_volume(volume) is True
