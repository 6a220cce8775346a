from __future__ import annotations

import os
import subprocess

import pytest

from saltstorage.consumer.devices import probe as probing
from saltstorage.consumer.devices.probe import probe
from saltstorage.errors import DataLossError, UnavailableError
from tests.unit.consumer.helpers import GIB


def test_a_new_device_is_empty(device):
    found = probe(device)
    assert (found.kind, found.empty, str(found)) == (probing.EMPTY, True, "nothing")


@pytest.mark.parametrize("offset", [0, 511, 2**20 - 1, GIB - 2**20, GIB - 1])
def test_one_byte_at_either_end_is_data(device, offset):
    """A database on a raw device has no signature for blkid."""
    with open(device, "r+b") as handle:
        handle.seek(offset)
        handle.write(b"\x01")
    found = probe(device)
    assert (found.kind, found.empty) == (probing.UNKNOWN, False)


@pytest.mark.parametrize(
    ("command", "kind", "fstype"),
    [
        (["mkfs.ext4", "-q"], probing.FILESYSTEM, "ext4"),
        (["mkfs.ext2", "-q"], probing.FILESYSTEM, "ext2"),
        (["mkfs.xfs", "-q"], probing.FILESYSTEM, "xfs"),
        (["mkswap"], probing.OTHER, "swap"),
    ],
)
def test_a_signature_is_recognised(device, command, kind, fstype):
    subprocess.run([*command, device], check=True, capture_output=True)
    found = probe(device)
    assert (found.kind, found.fstype, found.empty) == (kind, fstype, False)
    assert found.uuid
    assert fstype in str(found)


#: Offset and bytes of signatures whose tools are not everywhere.
SIGNATURES = {
    "LVM2_member": {512: b"LABELONE" + (1).to_bytes(8, "little") + bytes(4) + (32).to_bytes(4, "little") + b"LVM2 001" + b"x" * 32},
    "crypto_LUKS": {0: b"LUKS\xba\xbe" + (1).to_bytes(2, "big") + b"aes" + bytes(29) + b"x" * 32},
    "dos partition table": {446: b"\x80\x01\x01\x00\x83\x01\x01\x00\x00\x08\x00\x00\x00\x10\x00\x00", 510: b"\x55\xaa"},
}


@pytest.mark.parametrize("fstype", SIGNATURES)
def test_a_signature_without_its_tool_is_never_empty(device, fstype):
    with open(device, "r+b") as handle:
        for offset, data in SIGNATURES[fstype].items():
            handle.seek(offset)
            handle.write(data)
    found = probe(device)
    # If blkid finds a signature incomplete, the device is at least not empty.
    assert found.kind in (probing.OTHER, probing.UNKNOWN)
    if found.kind == probing.OTHER:
        assert found.fstype == fstype


def test_a_label_may_have_blanks_and_quotes(device):
    subprocess.run(["mkfs.ext4", "-q", "-L", "pg 'data'", device], check=True)
    assert probe(device).label == "pg 'data'"


def test_r19_unreadable_is_never_empty(device, file):
    """Trap 10, rule R19: to blkid an unreadable device is an empty one."""
    os.truncate(file, 0)
    with pytest.raises(UnavailableError, match="cannot be read"):
        probe(device)
    assert subprocess.run(["blkid", "-p", device], check=False, capture_output=True).returncode == 2


def test_a_missing_device_is_an_error():
    with pytest.raises(UnavailableError):
        probe("/dev/no-such-device")


def test_contradicting_signatures_are_no_empty_device(device):
    """blkid of util-linux 2.42 says that it found nothing then, and older ones say why."""
    subprocess.run(["mkfs.ext4", "-q", device], check=True)
    with open(device, "r+b") as handle:
        handle.write(b"hsqs")  # squashfs
    if subprocess.run(["blkid", "-p", device], check=False, capture_output=True).returncode == 2:
        assert probe(device).kind == "unknown"
    else:
        with pytest.raises(DataLossError, match="contradicting"):
            probe(device)
