"""iSCSI targets of tgtd, one a volume, open to the hosts that the volume is connected to and
hidden from all others.

Cinder's own ``tgtadm`` helper opens each target to every initiator, needs an ``include`` in tgtd's
configuration to work at all, leaves accounts behind, and resizes by removing the target under its
users. Names and connection information come from it.

Each target is described in a file of its own, ``volume-<uuid>.conf``, in the format of
``tgt-admin``. The live target is made from it, and tgtd's own service makes it again after a
restart when its configuration includes the files. The files hold CHAP secrets: mode 0600, and
never in an argument of a command that ``sudo`` would log.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import textwrap
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cinder import exception, utils
from cinder.volume.targets import tgt
from oslo_concurrency import lockutils, processutils

log = logging.getLogger(__name__)

#: An address that no host has. Without any address, ``tgt-admin`` opens the target to all. Not
#: 0.0.0.0, which tgtd finds equal to any IPv6 address.
_NOBODY = "255.255.255.255"
_LUN = 1  # LUN 0 is tgtd's controller
_CLOSE_TIMEOUT = 30
_SERVICE_FILES = ("/etc/tgt/targets.conf", "/etc/tgt/conf.d/*.conf")


class NotRunning(exception.DriverNotInitialized):
    """No daemon answers on tgtd's control socket."""

    message = "tgtd does not answer; start it (systemctl enable --now tgt)"


@dataclass
class LiveTarget:
    """tgtd's report of one target."""

    tid: str
    ready: bool = False
    acl: set[str] = field(default_factory=set)
    accounts: set[str] = field(default_factory=set)
    #: Initiator names by session; they are closed when the target grows or goes.
    sessions: dict[str, str] = field(default_factory=dict)
    path: str = ""  #: Backing file of the volume's LUN; empty when there is no such LUN.
    online: bool = False
    megabytes: int = 0  #: Size of that LUN, as shown: rounded to 10^6 bytes.


class TgtTarget(tgt.TgtAdm):
    """``target_helper: tgtadm``."""

    LUN = _LUN
    DISCARD = True
    INITIATOR = re.compile(".+")

    def check(self) -> None:
        """Refuse to start without a tgtd that answers; prepare the directory of the files.

        :raises InvalidConfigurationValue: the directory can be read by others.
        :raises NotRunning: tgtd does not run.
        :raises VolumeDriverException: its tools are missing.
        """
        folder = self.folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            raise exception.InvalidConfigurationValue(f"volumes_dir {folder} holds secrets and can be entered by others; chmod 0700 it")
        try:
            self._tgtadm("--mode", "sys", "--op", "show")
        except FileNotFoundError:
            raise exception.VolumeDriverException("tgtadm is not there; install the package tgt on the controller") from None
        if not self._is_included():
            log.warning(
                "storage: tgtd does not restore the targets by itself when it restarts, the storage engine has to;"
                " write into /etc/tgt/conf.d/salt-storage.conf: include %s/*.conf",
                folder,
            )

    def _is_included(self) -> bool:
        """Return whether tgtd's service reads the files by itself when it starts, as far as its
        usual configuration tells.
        """
        line = re.compile(rf"^\s*include\s+{re.escape(str(self.folder))}/", re.MULTILINE)
        for pattern in _SERVICE_FILES:
            for path in Path("/").glob(pattern.lstrip("/")):
                with contextlib.suppress(OSError):
                    if line.search(path.read_text(errors="replace")):
                        return True
        return False

    def intact(self) -> bool:
        """Return whether every target that has a file is live; False after a restart of tgtd that
        did not restore them.
        """
        wanted = {self._name(path.stem) for path in self.folder.glob("volume-*.conf")}
        return wanted <= self.list_targets().keys()

    def give_up(self, volume: Any) -> None:
        """Do nothing: with the file, tgtd's own service can make the target too."""

    def expose(self, volume: Any, path: Path, initiators: Collection[str]) -> None:
        """Make the target whole and open to these initiators alone; sessions of others are cut."""
        name = self._name(volume.name)
        user, password = volume.provider_auth.split()[1:]
        self._write(volume, path, user, password, initiators)
        with self._lock():
            live = self.list_targets().get(name)
            if live is not None and (live.path != str(path) or live.accounts != {user}):
                self._delete(name)  # the remains of an interrupted call: nobody could use it
                live = None
            if live is None:
                self._execute_root("tgt-admin", "-c", str(self._file(volume.name)), "--update", name)
                live = self.list_targets().get(name)
                if live is None or live.path != str(path):
                    raise exception.ISCSITargetCreateFailed(volume_id=volume.id)
            self._set_initiators(live, initiators)
            if not (live.ready and live.online and self._has_size(live, path)):
                self._reopen(name, path)

    def withdraw(self, volume: Any, path: Path) -> None:
        """Remove the target with its sessions, account and configuration file, as far as they
        exist.
        """
        self._file(volume.name).unlink(missing_ok=True)
        with self._lock():
            self._delete(self._name(volume.name))

    def grow(self, volume: Any, path: Path) -> None:
        """Have the target show the present size of the file.

        tgtd reads a size only when it opens a file, so the sessions are closed for some ten
        milliseconds: hosts log in again by themselves and repeat unfinished commands. Reopening
        under running I/O is possible and can lose writes.
        """
        name = self._name(volume.name)
        with self._lock():
            live = self.list_targets().get(name)
            if live is not None and not self._has_size(live, path):
                self._reopen(name, path)

    def _set_initiators(self, live: LiveTarget, initiators: Collection[str]) -> None:
        wanted = {_NOBODY, *initiators}
        for entry in sorted(wanted - live.acl):
            self._target(live, "bind", *_acl_argument(entry))
        for entry in sorted(live.acl - wanted):
            self._target(live, "unbind", *_acl_argument(entry))
        self._close(live, [session for session, initiator in live.sessions.items() if initiator not in wanted])

    def _reopen(self, name: str, path: Path) -> None:
        """Open the backing file anew, while no session could have I/O under way."""
        live = self.list_targets()[name]
        self._target(live, "update", "--name", "state", "--value", "offline")
        try:
            self._wait_until_idle(name)
            options = ("--mode", "logicalunit", "--op", "update", "--tid", live.tid, "--lun", str(_LUN))
            self._tgtadm("--lld", "iscsi", *options, "--params", f"online=0,path={path}")
        finally:
            self._target(live, "update", "--name", "state", "--value", "ready")

    def _delete(self, name: str) -> None:
        live = self.list_targets().get(name)
        if live is None:
            return
        for entry in sorted(live.acl):
            self._target(live, "unbind", *_acl_argument(entry))
        self._wait_until_idle(name)
        self._target(live, "delete", "--force")
        for user in sorted(live.accounts):
            # An interrupted call may have removed it.
            with contextlib.suppress(processutils.ProcessExecutionError):
                self._tgtadm("--lld", "iscsi", "--mode", "account", "--op", "delete", "--user", user)

    def _wait_until_idle(self, name: str) -> None:
        """Close all sessions of a target that lets none in; a session lives on until its last
        command is done.
        """
        deadline = time.monotonic() + _CLOSE_TIMEOUT
        while live := self.list_targets().get(name):
            if not live.sessions:
                return
            self._close(live, list(live.sessions))
            if time.monotonic() > deadline:
                raise exception.VolumeDriverException(f"tgtd has not closed the sessions of {name} within {_CLOSE_TIMEOUT} seconds")
            time.sleep(0.01)

    def _close(self, live: LiveTarget, sessions: Collection[str]) -> None:
        for session in sessions:
            # A session that has ended or is ending is no longer there.
            with contextlib.suppress(processutils.ProcessExecutionError):
                options = ("--mode", "conn", "--op", "delete", "--tid", live.tid, "--sid", session, "--cid", "0")
                self._tgtadm("--lld", "iscsi", *options)

    @staticmethod
    def _has_size(live: LiveTarget, path: Path) -> bool:
        return abs(live.megabytes - path.stat().st_size / 10**6) <= 1

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Keep other threads and processes from taking the same target number."""
        with lockutils.lock("storage-tgt", external=True):
            yield

    def _target(self, live: LiveTarget, operation: str, *options: str) -> None:
        self._tgtadm("--lld", "iscsi", "--mode", "target", "--op", operation, "--tid", live.tid, *options)

    def _tgtadm(self, *options: str) -> str:
        try:
            return self._execute_root("tgtadm", *options)
        except processutils.ProcessExecutionError as error:
            if error.exit_code == errno.ENOTCONN:
                raise NotRunning from None
            raise

    @staticmethod
    def _execute_root(*command: str) -> str:
        return str(utils.execute(*command, run_as_root=True)[0])

    def list_targets(self) -> dict[str, LiveTarget]:
        """Return tgtd's live targets by name."""
        return parse(self._tgtadm("--lld", "iscsi", "--mode", "target", "--op", "show"))

    @property
    def folder(self) -> Path:
        """Directory of the files that describe the targets of this backend."""
        # One folder a backend: its files are the targets that this backend has to restore.
        return Path(self.configuration.volumes_dir, self.configuration.config_group)

    def _name(self, volume_name: str) -> str:
        return f"{self.configuration.target_prefix}{volume_name}"

    def _file(self, volume_name: str) -> Path:
        return self.folder / f"{volume_name}.conf"

    def _write(self, volume: Any, path: Path, user: str, password: str, initiators: Collection[str]) -> None:
        # 32 hexadecimal digits: tgtd makes the World Wide Name of them. Its own would be the
        # number of the target.
        serial = volume.id.replace("-", "")
        allowed = "".join(f"\n    initiator-name {name}" for name in sorted(initiators))
        text = textwrap.dedent("""\
            # Written by the storage controller; do not edit.
            <target {name}>
                driver iscsi
                <backing-store {path}>
                    lun {lun}
                    allow-in-use yes
                    scsi_id {serial}
                    scsi_sn {serial}
                    vendor_id SALT
                    product_id STORAGE
                    write-cache {cache}
                    params thin_provisioning=1
                </backing-store>
                incominguser {user} {password}
                initiator-address {nobody}{allowed}
            </target>
            """).format(
            name=self._name(volume.name),
            path=path,
            lun=_LUN,
            serial=serial,
            cache=self.configuration.iscsi_write_cache,
            user=user,
            password=password,
            nobody=_NOBODY,
            allowed=allowed,
        )
        target = self._file(volume.name)
        partial = target.with_suffix(".partial")
        file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(file, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(file)
        partial.rename(target)


def parse(text: str) -> dict[str, LiveTarget]:
    """Return the targets in the output of ``tgtadm --mode target --op show`` by name."""
    found: dict[str, LiveTarget] = {}
    live = LiveTarget("")
    part = session = lun = ""
    for line in text.splitlines():
        depth = (len(line) - len(line.lstrip())) // 4
        key, _, value = (word.strip() for word in line.partition(": "))
        if depth == 0 and line.startswith("Target "):
            live = found[value] = LiveTarget(key.removeprefix("Target "))
        elif depth == 1:
            part = key.rstrip(":")
        elif part == "ACL information":
            live.acl.add(line.strip())
        elif part == "Account information":
            live.accounts.add(line.strip())
        elif key == "I_T nexus":
            session = value
            live.sessions[session] = ""
        elif part == "I_T nexus information" and key == "Initiator":
            live.sessions[session] = value.partition(" alias: ")[0]
        elif key == "State":
            live.ready = value == "ready"
        elif key == "LUN":
            lun = value
        elif lun == str(_LUN) and part == "LUN information":
            if key == "Backing store path":
                live.path = "" if value == "None" else value
            elif key == "Online":
                live.online = value == "Yes"
            elif key == "Size":
                live.megabytes = int(value.split()[0])
    return found


def _acl_argument(entry: str) -> tuple[str, str]:
    return ("--initiator-name", entry) if entry.startswith(("iqn.", "eui.", "naa.")) else ("--initiator-address", entry)
