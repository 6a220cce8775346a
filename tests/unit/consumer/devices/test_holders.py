from __future__ import annotations

import ctypes
import os
import signal
import subprocess

import pytest

from saltstorage.consumer.devices import holders
from tests import needs
from tests.loops import let_go


def find(device):
    """Return the holders that stay: other tests open all devices, each for a moment."""
    return holders.lasting(lambda: holders.find(device))


def kinds(device):
    return sorted(holder.kind for holder in find(device))


def test_an_unused_device_has_no_holder(device):
    assert find(device) == []


def test_this_process_is_left_out(device):
    with open(device, "rb"):
        assert find(device) == []


def test_another_process_is_named(device):
    with open(device, "rb") as handle:
        process = subprocess.Popen(["sleep", "infinity"], stdin=handle)
    try:
        (holder,) = find(device)
        assert (holder.kind, str(holder)) == ("process", f"open in sleep (process {process.pid})")
    finally:
        process.kill()
        process.wait()


def test_a_process_that_only_looks_is_no_reason_to_refuse(device):
    """Monitoring agents, blkid, lsblk and other minions' jobs open each device for a moment.

    Here, one such process follows the other.
    """
    script = 'trap exit TERM; while :; do head -c 1M "$0" >/dev/null; done'
    process = subprocess.Popen(["sh", "-c", script, device])
    try:
        for _ in range(3):
            assert find(device) == []
    finally:
        process.terminate()  # not killed: the present reader would outlive the shell and keep the device
        process.wait()


def test_a_process_that_only_looks_is_not_named_beside_a_mount():
    mount = holders.Holder("mount", "mounted on /srv")
    looks = [[mount, holders.Holder("process", f"open in blkid (process {pid})")] for pid in (1, 2)]
    assert holders.lasting(lambda: looks.pop(0)) == [mount]


def test_a_process_that_stays_is_named(device):
    with open(device, "rb") as handle:
        process = subprocess.Popen(["sleep", "infinity"], stdin=handle)
    try:
        (holder,) = find(device)
        assert str(process.pid) in holder.text
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("name", ["mnt", "a b", "ä\\n"])
def test_a_mount_is_named(device, folder, name):
    subprocess.run(["mkfs.ext4", "-q", device], check=True)
    point = folder / name
    point.mkdir()
    subprocess.run(["mount", device, str(point)], check=True)
    try:
        assert [str(holder) for holder in find(device)] == [f"mounted on {point}"]
    finally:
        subprocess.run(["umount", str(point)], check=True)
    assert find(device) == []


@pytest.mark.alone  # its namespace has a copy of each mount of the machine, which keeps their devices
def test_a_mount_in_another_namespace_is_named(device, folder):
    subprocess.run(["mkfs.ext4", "-q", device], check=True)
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    subprocess.run(["mount", "--make-private", str(folder)], check=True)
    point = folder / "mnt"
    point.mkdir()
    # The namespace's other mounts stay as they are: in a chroot, the root is no mount, and
    # unshare could not change it.
    script = f"mount {device} {point} && echo ready && exec sleep infinity"
    process = subprocess.Popen(["unshare", "-m", "--propagation", "unchanged", "sh", "-c", script], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"ready\n"
        (holder,) = find(device)
        assert holder.kind == "mount"
        assert f"mounted on {point} in the mount namespace of" in str(holder)
        assert f"(process {process.pid})" in str(holder)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.alone  # as above
@pytest.mark.parametrize(("propagation", "count"), [("slave", 1), ("shared", 1), ("private", 2)])
def test_a_copy_of_a_mount_that_goes_with_it_is_no_second_holder(device, folder, propagation, count):
    """Services with mounts of their own, such as udev, follow the host's mounts.

    They are no reason to refuse an unmount.
    """
    subprocess.run(["mkfs.ext4", "-q", device], check=True)
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    subprocess.run(["mount", "--make-shared", str(folder)], check=True)
    point = folder / "mnt"
    point.mkdir()
    subprocess.run(["mount", device, str(point)], check=True)
    script = f"mount --make-r{propagation} {folder} && echo ready && exec sleep infinity"
    process = subprocess.Popen(["unshare", "-m", "--propagation", "unchanged", "sh", "-c", script], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"ready\n"
        assert len(find(device)) == count
        subprocess.run(["umount", str(point)], check=True)
        assert len(find(device)) == count - 1, "a copy that is no holder goes with the mount"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_lazily_unmounted_file_system_still_holds_it(device, folder):
    """No file in /proc names it; the kernel is asked."""
    subprocess.run(["mkfs.ext4", "-q", device], check=True)
    point = folder / "mnt"
    point.mkdir()
    subprocess.run(["mount", device, str(point)], check=True)
    (point / "file").write_text("x")
    with (point / "file").open("rb"):
        subprocess.run(["umount", "-l", str(point)], check=True)
        assert kinds(device) == ["kernel"]
    assert kinds(device) == []


def test_swap_is_named(device):
    subprocess.run(["mkswap", device], check=True, capture_output=True)
    if subprocess.run(["swapon", device], check=False, capture_output=True).returncode:
        pytest.skip(needs.NO_SWAP)
    try:
        assert kinds(device) == ["swap"]
    finally:
        subprocess.run(["swapoff", device], check=True)


def test_a_loop_device_over_it_is_named(device):
    upper = subprocess.run(["losetup", "-f", "--show", device], check=True, capture_output=True, text=True).stdout.strip()
    try:
        (holder,) = find(device)
        assert (holder.kind, str(holder)) == ("loop", f"used by the loop device {upper}")
    finally:
        let_go(upper)


def test_a_name_that_is_no_text_can_be_shown(device):
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(15, b"\xff\xfe\n", 0, 0, 0)  # PR_SET_NAME
        os.open(device, os.O_RDONLY)
        os.write(tell, b"x")
        signal.pause()
    try:
        os.read(ready, 1)
        (holder,) = find(device)
        assert holder.kind == "process"
        holders.describe(find(device)).encode()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
