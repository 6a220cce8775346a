"""Life of volumes and snapshots. Rows of the semantics table are named where one is shown."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from saltstorage.controller.providers.base import Capability, ProviderSnapshot, ProviderVolume
from saltstorage.errors import AlreadyExistsError, NotFoundError, StorageError

GIB = 2**30


def life(world) -> None:
    """Create, grow, connect, disconnect, snapshot, clone and delete a volume, as far as the backend can."""
    provider = world.provider
    can = provider.capabilities()
    volume = world.volume()
    assert provider.volume_size(volume) == 1
    if Capability.EXTEND in can:
        assert provider.extend_volume(volume, 2) == 2
        assert provider.volume_size(volume) == 2
    connection_id, info = world.connect(volume, "host1")
    assert info["driver_volume_type"]
    world.disconnect(volume, connection_id, "host1")
    if Capability.SNAPSHOT in can:
        snapshot = world.snapshot(ProviderVolume(id=volume.id, size=2))
        copy = world.volume(2, source=snapshot)
        assert provider.delete_volume(copy) is True
        assert provider.delete_snapshot(snapshot) is True
    if Capability.CLONE in can:
        clone = world.volume(2, source=volume)
        assert provider.delete_volume(clone) is True
    assert provider.delete_volume(volume) is True
    assert provider.volume_size(volume) is None


def test_life_once(world):
    life(world)


def test_life_ten_times(world):
    for _ in range(10):
        life(world)


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
    assert world.provider.volume_size(volume) == 1


def test_source_that_is_not_there(world, needs):
    """P7: nothing is created."""
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
    assert world.provider.extend_volume(volume, 3) == 3
    assert world.provider.extend_volume(volume, 3) == 3
    assert world.provider.extend_volume(volume, 1) == 3
    assert world.provider.volume_size(volume) == 3
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
    """P6, N2, N8: what is written after the snapshot is not in it; both can be deleted in the right order."""
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
    assert provider.volume_size(volume) == 1, "D5: a refused delete changes nothing"
    assert provider.delete_snapshot(snapshot) is True
    assert provider.delete_snapshot(snapshot) is False
    with Open(world, copy) as info:
        assert read(data(info), 12345, 6) == b"copy!!"


def test_revert_is_that_moment_again(world, needs, data):
    """The volume keeps its size and the snapshot stays, so that it can be repeated."""
    needs(Capability.REVERT)
    volume = world.volume()
    with Open(world, volume) as info:
        write(data(info), 12345, b"before")
    snapshot = world.snapshot(volume)
    with Open(world, volume) as info:
        write(data(info), 12345, b"after!")
    if Capability.EXTEND in world.provider.capabilities():
        world.provider.extend_volume(volume, 2)
        volume = ProviderVolume(id=volume.id, size=2)
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


def test_parallel_callers(world, connector):
    """Different volumes in several threads at once."""
    start = threading.Barrier(8)
    volumes = [world.new() for _ in range(8)]

    def work(volume: ProviderVolume) -> None:
        start.wait(30)
        provider = world.provider
        for _ in range(2):
            provider.create_volume(volume)
            info = provider.connect(volume, volume.id, connector("host1"))
            assert volume.id in str(info) or info["driver_volume_type"] != "local"
            provider.disconnect(volume, volume.id, connector("host1"), last=True)
            assert provider.delete_volume(volume) is True

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(work, volume) for volume in volumes]:
            future.result()


def test_stats(world):
    volume = world.volume(3)
    stats = world.provider.stats()
    assert stats.name == "conformance"
    assert stats.protocol
    assert stats.allocated_gib == 3
    if stats.total_gib is not None and stats.free_gib is not None:
        assert 0 <= stats.free_gib <= stats.total_gib
    world.provider.delete_volume(volume)
    assert world.provider.stats().allocated_gib == 0


class Open:
    """A volume connected to a host while in the block."""

    def __init__(self, world, volume: ProviderVolume) -> None:
        self.world = world
        self.volume = volume

    def __enter__(self) -> dict:
        self.id, info = self.world.connect(self.volume, "host1")
        return info

    def __exit__(self, *_: object) -> None:
        self.world.disconnect(self.volume, self.id, "host1")


def write(path, offset: int, content: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(content)


def read(path, offset: int, count: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(count)
