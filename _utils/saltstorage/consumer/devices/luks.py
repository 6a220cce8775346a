"""LUKS by ``cryptsetup``: make, open, grow and close an encrypted device.

The passphrase goes through a pipe, never through arguments.  Open devices are read from ``/sys``,
without a command: a state may look each time.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import FailedPreconditionError
from ..host import commands
from . import block

#: Name of the type in ``blkid``.
TYPE = "crypto_LUKS"
# Exit codes of cryptsetup(8).
_NO_KEY, _BUSY = 2, 5


@dataclass(frozen=True)
class Mapping:
    """An open device, which shows the data of an encrypted device decrypted."""

    path: str  #: Path under ``/dev/mapper``, the same at each opening.
    uuid: str  #: UUID of device mapper, such as ``CRYPT-LUKS2-…``.
    slaves: frozenset[tuple[int, int]]  #: Numbers of the devices below.

    def is_over(self, device: str) -> bool:
        """Return whether this shows the data of a device."""
        return self.uuid.startswith("CRYPT-") and block.is_block(device) and self.slaves == {block.number(device)}


def name(volume_id: str, tag: str) -> str:
    """Return the name of a volume's mapping.

    :param tag: tag of this consumer: two consumers on one machine may have one shared volume open,
        each over a device of its own.
    """
    return f"storage-{volume_id}-{tag[-8:]}"


def is_own(mapping: str, tag: str) -> bool:
    """Return whether a mapping has a name that :func:`name` returns for this tag."""
    return mapping.startswith("storage-") and mapping.endswith(f"-{tag[-8:]}")


def find(mapping: str) -> Mapping | None:
    """Return an open device by its name; None when no such device is open."""
    for path in glob.glob("/sys/block/dm-*/dm/name"):
        if _text(path) == mapping:
            base = os.path.dirname(os.path.dirname(path))
            numbers = (_text(entry).split(":") for entry in glob.glob(f"{base}/slaves/*/dev"))
            slaves = frozenset((int(pair[0]), int(pair[1])) for pair in numbers if len(pair) == 2)
            return Mapping(f"/dev/mapper/{mapping}", _text(f"{base}/dm/uuid"), slaves)
    return None


def require() -> None:
    """Check that this host can open encrypted devices.

    :raises FailedPreconditionError: cryptsetup is not installed, or the kernel has no device
        mapper.
    """
    commands.find("cryptsetup")
    if not _has_mapper():
        # The first user loads the module; a container may neither have nor load it.
        with contextlib.suppress(FailedPreconditionError):
            commands.run("load the device mapper", ["modprobe", "dm-crypt"], timeout=60, ok=range(256))
        if not _has_mapper():
            raise FailedPreconditionError("this kernel has no device mapper, by which encrypted volumes are opened; try: modprobe dm-crypt")


def make(device: str, passphrase: bytes, options: Sequence[str], *, timeout: float) -> None:
    """Make a device an encrypted one (LUKS2).

    Its contents are lost: the caller made sure that it is empty.

    :param options: further options of ``cryptsetup luksFormat``.
    """
    command = ["cryptsetup", "luksFormat", "--type=luks2", "--batch-mode", "--key-file=-", *options, "--", device]
    commands.run(f"encrypt {device}", command, timeout=timeout, input=passphrase)
    block.flush(device)


def unfinished(device: str, *, timeout: float) -> bool:
    """Return whether an encrypted device has no key yet: its making was cut off."""
    command = ["cryptsetup", "luksDump", "--dump-json-metadata", "--", device]
    code, out, _ = commands.run(f"look at the header of {device}", command, timeout=timeout, ok=(0, 1))
    # Only LUKS2 has such metadata.
    return code == 0 and not json.loads(out).get("keyslots")


def open_(device: str, mapping: str, passphrase: bytes, *, read_only: bool, timeout: float) -> None:
    """Open an encrypted device as ``/dev/mapper/<mapping>``.

    :raises FailedPreconditionError: the passphrase is wrong.
    """
    # One derivation of a key at a time: each may take up to half of the memory, and after a boot
    # many volumes are opened at once.
    options = ["--type=luks", "--key-file=-", "--serialize-memory-hard-pbkdf", *(["--readonly"] if read_only else [])]
    command = ["cryptsetup", "open", *options, "--", device, mapping]
    code, _, err = commands.run(f"open {device}", command, timeout=timeout, ok=(0, _NO_KEY), input=passphrase)
    if code:
        raise _wrong_passphrase(device, err)


def resize(mapping: str, device: str, passphrase: bytes, *, timeout: float) -> None:
    """Let an open device become as large as the device below it.

    :raises FailedPreconditionError: the passphrase is wrong.
    """
    command = ["cryptsetup", "resize", "--key-file=-", "--", mapping]
    code, _, err = commands.run(f"grow the open {device}", command, timeout=timeout, ok=(0, _NO_KEY), input=passphrase)
    if code:
        raise _wrong_passphrase(device, err)


def close(mapping: str, *, timeout: float) -> bool:
    """Close an open device, and return whether that was possible; False when it is in use."""
    code, _, _ = commands.run(f"close {mapping}", ["cryptsetup", "close", "--", mapping], timeout=timeout, ok=(0, _BUSY))
    return code == 0


def _has_mapper() -> bool:
    return any(line.split()[-1:] == ["device-mapper"] for line in _text("/proc/misc").splitlines())


def _wrong_passphrase(device: str, err: str) -> FailedPreconditionError:
    why = err.strip() or "cryptsetup does not say why"
    return FailedPreconditionError(f"the passphrase does not open {device} ({why})", field="passphrase")


def _text(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return file.read().strip()
    return ""
