"""Running a command with a timeout, and with errors in words."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Collection, Sequence

from ... import progress
from ...errors import DeadlineExceededError, FailedPreconditionError, InternalError
from . import heartbeat

#: Package of a command; it has the same name on Debian and Red Hat.
PACKAGES = {
    "blkid": "util-linux",
    "cryptsetup": "cryptsetup",
    "mkfs.ext2": "e2fsprogs",
    "mkfs.ext3": "e2fsprogs",
    "mkfs.ext4": "e2fsprogs",
    "resize2fs": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "xfs_growfs": "xfsprogs",
    "mkfs.btrfs": "btrfs-progs",
    "btrfs": "btrfs-progs",
    "mkfs.vfat": "dosfstools",
    "lsscsi": "lsscsi",
    "modprobe": "kmod",
    "nvme": "nvme-cli",
}
#: A minion started by hand or by cron may lack the administrator's directories.
SEARCH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"))


def find(command: str) -> str:
    """Return the path of a command.

    :raises FailedPreconditionError: it is not installed; the message names the package, if it is
        known.
    """
    path = shutil.which(command, path=SEARCH)
    if path is None:
        package = PACKAGES.get(command)
        raise FailedPreconditionError(f"the command {command} is missing; install the package {package or 'that has it'}")
    return path


def run(
    step: str,
    command: Sequence[str],
    *,
    timeout: float,
    ok: Collection[int] = (0,),
    input: bytes = b"",
    folder: str | None = None,
) -> tuple[int, str, str]:
    """Run a command and return its exit code, output and error output.

    A command that takes long is reported, see :mod:`.heartbeat`.

    :param step: the purpose of the command, for errors and reports: ``"make the file system"``.
    :param timeout: seconds, after which the command is killed.
    :param ok: exit codes that are no error.
    :param input: input of the command, through a pipe; the only way for a secret. At most the size
        of a pipe (64 KiB): a rest would not be written any more once the command is reported.
    :param folder: working directory of the command; default: that of this process.
    :raises DeadlineExceededError: it ran for too long.
    :raises FailedPreconditionError: it is not installed.
    :raises InternalError: any other exit code.
    """
    argv = [find(command[0]), *command[1:]]
    env = {**os.environ, "LC_ALL": "C", "PATH": SEARCH}
    stdin = subprocess.PIPE if input else subprocess.DEVNULL
    process = subprocess.Popen(argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, cwd=folder)
    began = time.monotonic()
    with contextlib.ExitStack() as shown:
        try:
            try:
                out, err = process.communicate(input or None, timeout=min(timeout, progress.TELL_AFTER))
            except subprocess.TimeoutExpired:
                # A heartbeat costs a thread, so it starts only now.
                shown.enter_context(heartbeat.watch(command[0], step, since=began))
                out, err = process.communicate(timeout=began + timeout - time.monotonic())
        except subprocess.TimeoutExpired:
            process.kill()
            # A process that waits for a dead device cannot be killed; this process must not wait
            # for it.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=2)
            raise DeadlineExceededError(f"cannot {step}: {command[0]} did not end within {timeout:g} s") from None
        if process.returncode not in ok:
            text = (err or out).decode("utf-8", "replace").strip()[-500:]
            raise InternalError(f"cannot {step}: {command[0]} failed with exit code {process.returncode}: {text}")
    return process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")
