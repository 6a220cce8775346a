"""Announcing the devices of attached volumes, ``/dev/storage/<name>``, to systemd.

A mount unit made from fstab waits for the unit of its device, and that unit exists only for names
that udev knows.  udev cannot know which device is which volume; the consumer knows, once it has
checked the device.  So a rule imports properties from a file for each device, whose name is unique
to the device in this boot, and the file adds the volume's name: ``SYSTEMD_ALIAS``,
systemd.device(5).  All these files are under ``/run``, and go with the boot in which they were
true.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator

from ..host import commands
from . import block

_CONTROL = "/run/udev/control"
_RULES = "/run/udev/rules.d/90-salt-storage.rules"
_FOLDER = "/run/salt-storage/devices"
_RULE = f"""\
# Written by the Salt storage formula: attached volumes by their names, for systemd.
SUBSYSTEM=="block", ACTION!="remove", IMPORT{{file}}="{_FOLDER}/$kernel-$env{{DISKSEQ}}"
"""
log = logging.getLogger(__name__)


def announce(device: str, link: str) -> None:
    """Let systemd know a device by the path of its link too; without udev, nothing happens.

    A failure is only logged: its worst effect is a mount at boot that waits in vain.

    :param device: path of a block device.
    :param link: path of the volume's link, such as ``/dev/storage/data``.
    """
    if not os.path.exists(_CONTROL) or not block.is_block(device):
        return
    try:
        file, text = _file(device), f"SYSTEMD_ALIAS={_quote(link)}\n"
        if _read(file) == text:
            return
        _write(file, text)
        with _lock():
            if _read(_RULES) != _RULE:
                _write(_RULES, _RULE)
                commands.run("make udev read a rule", ["udevadm", "control", "--reload"], timeout=60)
        with open(os.path.join(block.sysfs(device), "uevent"), "w", encoding="ascii") as uevent:
            uevent.write("change")
    except Exception as error:
        log.warning("storage: systemd may not know %s at boot: %s", link, error)


def forget(device: str) -> None:
    """Undo :func:`announce` for a device that is about to go; an unannounced device is fine."""
    with contextlib.suppress(OSError):
        os.unlink(_file(device))


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """Keep other processes from announcing a device before udev has read the rule."""
    with open(os.path.join(_FOLDER, ".lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _file(device: str) -> str:
    base = block.sysfs(device)
    # Kernels before 5.15 have no sequence numbers; udev then leaves the place empty.
    return os.path.join(_FOLDER, f"{os.path.basename(base)}-{_read(os.path.join(base, 'diskseq')).strip()}")


def _quote(path: str) -> str:
    r"""Return a path as one word of a list: udev strips the outer quotes, systemd the inner.

    >>> _quote("/dev/storage/it's mine")
    '\'"/dev/storage/it\'s mine"\''
    """
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f"'\"{escaped}\"'"


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.new")
    with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    os.rename(temporary, path)
