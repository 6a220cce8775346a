"""Mount points that the consumer creates and removes again."""

from __future__ import annotations

import pytest

from saltstorage.errors import FailedPreconditionError
from tests.unit.consumer.helpers import attach, drop


def test_c14_created_mount_points_are_removed_again(consumer, file, folder):
    attach(consumer, file)
    old, new, used = folder / "old", folder / "a" / "new", folder / "used"
    old.mkdir()
    assert consumer.add_mount_point("data", str(old)) is False
    assert consumer.add_mount_point("data", str(new)) is True
    assert consumer.add_mount_point("data", str(new)) is False
    assert consumer.add_mount_point("data", str(used)) is True
    (used / "file").write_text("x")
    assert consumer.remove_mount_points("data") == [str(new)]
    assert old.is_dir()
    assert used.is_dir()
    assert consumer.remove_mount_points("data") == []
    drop(consumer)


def test_c14_a_file_in_the_way_of_the_mount_point_is_named(consumer, file, folder):
    attach(consumer, file)
    (folder / "file").write_text("important")
    (folder / "link").symlink_to(folder / "nowhere")
    for path in (folder / "file", folder / "file/below/it", folder / "link", folder / "link/below"):
        with pytest.raises(FailedPreconditionError, match="in the way of the mount point") as caught:
            consumer.add_mount_point("data", str(path))
        assert caught.value.field == "mount"
        assert str(folder / path.relative_to(folder).parts[0]) in caught.value.message
        assert consumer.attachment("data").mount_points == ()
    assert (folder / "file").read_text() == "important"
    drop(consumer)


@pytest.mark.parametrize("path", ["/proc/storage", f"/tmp/{'x' * 300}"])
def test_c14_a_mount_point_that_cannot_be_created_is_not_recorded(consumer, file, folder, path):
    attach(consumer, file)
    consumer.add_mount_point("data", str(folder / "good"))
    with pytest.raises(FailedPreconditionError, match="cannot be created") as caught:
        consumer.add_mount_point("data", path)
    assert caught.value.field == "mount"
    assert consumer.attachment("data").mount_points == (str(folder / "good"),)
    consumer.remove_mount_points("data")
    drop(consumer)
