"""Life of volumes and snapshots, with the rows of the semantics table that each test shows."""

from __future__ import annotations

import os

import pytest

from saltstorage.providers import (
    AlreadyExistsError,
    Capability,
    NotFoundError,
    ProviderSnapshot,
    StorageError,
    UnimplementedError,
    reference_text,
)

from .world import Open

GIB = 2**30


def test_delete_can_be_repeated(world):
    """D2, D3: a volume that is not there is no error."""
    volume = world.volume()
    assert world.provider.delete_volume(volume) is True
    assert world.provider.delete_volume(volume) is False
    assert world.provider.delete_volume(world.new()) is False


def test_create_again_is_refused_and_harmless(world, data):
    volume = world.volume()
    _id, info = world.connect(volume, "host1")
    write(data(info), 0, b"kept")
    with pytest.raises(AlreadyExistsError):
        world.provider.create_volume(volume)
    assert read(data(info), 0, 4) == b"kept"
    assert world.provider.volume_size(volume) == volume.size


def test_a_missing_source_creates_nothing(world, needs):
    """P7."""
    needs(Capability.SNAPSHOT)
    for source in (ProviderSnapshot(id="7" * 8 + "-0000-4000-8000-" + "7" * 12, volume_id="x", size=1), world.new()):
        volume = world.new()
        with pytest.raises(NotFoundError):
            world.provider.create_volume(volume, source=source)
        assert world.provider.volume_size(volume) is None


def test_extend_again_or_smaller_does_nothing(world, needs):
    """X3."""
    needs(Capability.EXTEND)
    volume = world.volume(2)
    size = world.provider.extend_volume(volume, volume.size + 1)
    assert size > volume.size
    assert world.provider.extend_volume(volume, size) == size
    assert world.provider.extend_volume(volume, 1) == size
    assert world.provider.volume_size(volume) == size
    with pytest.raises(NotFoundError):
        world.provider.extend_volume(world.new(), 2)


def test_extend_keeps_data_while_connected(world, needs, data):
    needs(Capability.EXTEND_ONLINE)
    volume = world.volume(1)
    _id, info = world.connect(volume, "host1")
    path = data(info)
    write(path, GIB - 4096, b"end")
    assert world.provider.extend_volume(volume, 2) == 2
    assert os.path.getsize(path) == 2 * GIB
    assert read(path, GIB - 4096, 3) == b"end"


def test_snapshot_is_a_moment(world, needs, data):
    """P6, N2, N8: later writes are not in the snapshot; volume and snapshot can be deleted in the
    right order.
    """
    needs(Capability.SNAPSHOT)
    provider = world.provider
    volume = world.volume()
    with Open(world, volume) as info:
        write(data(info), 12345, b"before")
    snapshot = world.snapshot(volume)
    with pytest.raises(AlreadyExistsError):
        provider.create_snapshot(snapshot)
    with Open(world, volume) as info:
        write(data(info), 12345, b"after!")
    copy = world.volume(2, source=snapshot)
    with Open(world, copy) as info:
        assert read(data(info), 12345, 6) == b"before"
        assert os.path.getsize(data(info)) == 2 * GIB
        write(data(info), 12345, b"copy!!")
    with Open(world, volume) as info:
        assert read(data(info), 12345, 6) == b"after!"
    with pytest.raises(StorageError):
        provider.delete_volume(volume)
    assert provider.volume_size(volume) == volume.size, "D5: a refused delete changes nothing"
    assert provider.delete_snapshot(snapshot) is True
    assert provider.delete_snapshot(snapshot) is False
    with Open(world, copy) as info:
        assert read(data(info), 12345, 6) == b"copy!!"


def test_revert_is_that_moment_again(world, needs, data):
    """The snapshot stays, so that it can be repeated."""
    needs(Capability.REVERT)
    volume = world.volume()
    with Open(world, volume) as info:
        write(data(info), 12345, b"before")
    snapshot = world.snapshot(volume)
    with Open(world, volume) as info:
        write(data(info), 12345, b"after!")
    for _ in range(2):
        world.provider.revert_volume(volume, snapshot)
        assert world.provider.volume_size(volume) == volume.size
        with Open(world, volume) as info:
            assert read(data(info), 12345, 6) == b"before"
            assert os.path.getsize(data(info)) == volume.size * GIB
            write(data(info), 12345, b"again!")
    assert world.provider.delete_snapshot(snapshot) is True


def test_clone_is_independent(world, needs, data):
    needs(Capability.CLONE)
    volume = world.volume()
    with Open(world, volume) as info:
        write(data(info), 777, b"origin")
    clone = world.volume(1, source=volume)
    with Open(world, volume) as info:
        write(data(info), 777, b"change")
    assert world.provider.delete_volume(volume) is True
    with Open(world, clone) as info:
        assert read(data(info), 777, 6) == b"origin"


def test_stats_count_the_volumes_of_the_provider(world, provider):
    """Allocated space is the provider's own; a provider may leave it out, and the backend's size
    too.
    """
    before = provider.stats()
    assert before.name == "conformance"
    assert before.protocol
    if before.total_gib is not None and before.free_gib is not None:
        assert 0 <= before.free_gib <= before.total_gib
    volume = world.volume(3)
    if before.allocated_gib is not None:
        assert provider.stats().allocated_gib == before.allocated_gib + volume.size
        provider.delete_volume(volume)
        assert provider.stats().allocated_gib == before.allocated_gib


def test_p16_the_list_shows_what_is_there(world, needs, provider):
    needs(Capability.LIST)
    volume = world.volume(2)
    [found] = [f for f in provider.list_volumes() if f.id == volume.id]
    assert (found.size, found.known) == (volume.size, True)
    if Capability.SNAPSHOT in provider.capabilities():
        snapshot = world.snapshot(volume)
        listed = [f.id for f in provider.list_snapshots()]
        # Many drivers cannot list snapshots, and answer with none; as a volume it must not be
        # offered by any.
        assert not listed or snapshot.id in listed
        assert not [f.reference for f in provider.list_volumes() if snapshot.id in reference_text(f.reference)]
        provider.delete_snapshot(snapshot)
    provider.delete_volume(volume)
    assert volume.id not in [f.id for f in provider.list_volumes()]


def test_g6_an_undeclared_ability_is_unimplemented(world, provider):
    """Only abilities that a provider need not have at all."""
    volume, can = world.volume(), provider.capabilities()
    calls = {
        Capability.REVERT: lambda: provider.revert_volume(volume, ProviderSnapshot(id=volume.id, volume_id=volume.id, size=1)),
        Capability.LIST: provider.list_volumes,
        Capability.MANAGE: lambda: provider.unmanage_volume(volume),
    }
    for capability, call in calls.items():
        if capability not in can:
            with pytest.raises(UnimplementedError):
                call()


def write(path, offset: int, content: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(content)


def read(path, offset: int, count: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(count)
