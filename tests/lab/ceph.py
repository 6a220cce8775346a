"""A Ceph cluster of one node from Debian's packages: one monitor, one manager, one OSD on a file,
all in one directory.

Nothing is read from or written to ``/etc/ceph``, ``/var/lib/ceph`` or ``/run/ceph``, and the
daemons are children of the process that starts them.  Packages:
``ceph-mon ceph-mgr ceph-osd ceph-common python3-rados python3-rbd`` (all installed without their
services running).

>>> cluster = Ceph(Path("/var/tmp/lab/ceph"), "10.77.0.1")
>>> cluster.start()
>>> cluster.rbd("ls", "volumes")
''
>>> cluster.stop()
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path

#: Programs that must be there, and the Debian package that has each.
PROGRAMS = {"ceph-mon": "ceph-mon", "ceph-mgr": "ceph-mgr", "ceph-osd": "ceph-osd", "rbd": "ceph-common"}
#: The pool and the user that a backend of Cinder's RBD driver is given.
POOL = "volumes"
USER = "cinder"
#: The Python bindings belong to Debian's Python and work in any CPython of the same version.
BINDINGS = Path("/usr/lib/python3/dist-packages")

_CONF = """\
[global]
fsid = {fsid}
mon_host = [v2:{address}:3300/0,v1:{address}:6789/0]
mon_initial_members = a
public_addr = {address}
cluster_addr = {address}
keyring = {folder}/admin.keyring
run_dir = {folder}/run
admin_socket = {folder}/run/$cluster-$name.asok
log_file = {folder}/log/$name.log
mon_cluster_log_file = {folder}/log/cluster.log
crash_dir = {folder}/crash
# One copy on one disk is all that this cluster has.
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_crush_chooseleaf_type = 0
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
mon_allow_pool_delete = true
auth_allow_insecure_global_id_reclaim = false
# A small machine.
osd_memory_target = 939524096
osd_fast_shutdown_notify_mon = true
bluestore_cache_autotune = false
bluestore_cache_size = 67108864
osd_op_num_shards = 1
osd_op_num_threads_per_shard = 2
ms_async_op_threads = 2
mon_data_avail_crit = 1
mon_data_avail_warn = 2
osd_class_update_on_start = true

[mon.a]
mon_data = {folder}/mon
keyring = {folder}/mon/keyring

[mgr.a]
mgr_data = {folder}/mgr
keyring = {folder}/mgr/keyring
mgr_initial_modules =

[osd.0]
osd_data = {folder}/osd
keyring = {folder}/osd/keyring
bluestore_block_size = {size}
"""


class Ceph:
    """A cluster of one node.

    :param folder: everything is kept in it; its path must be short, since sockets are in it (at
        most about 80 characters).
    :param address: address of this machine that the daemons listen on and that clients use.
    :param size_gib: size of the OSD's file, GiB; it is sparse.
    """

    def __init__(self, folder: Path, address: str, *, size_gib: int = 20) -> None:
        self.folder = folder
        self.address = address
        self.size_gib = size_gib
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def conf(self) -> Path:
        """The cluster's own configuration, with the administrator's keyring."""
        return self.folder / "ceph.conf"

    @property
    def client_conf(self) -> Path:
        """The controller's configuration: the addresses of the monitors and the keyring of the
        user ``cinder``.
        """
        return self.folder / "client" / "ceph.conf"

    @property
    def client_keyring(self) -> Path:
        """The keyring of the user ``cinder``, who may use the pool ``volumes`` and
        nothing else.
        """
        return self.folder / "client" / f"ceph.client.{USER}.keyring"

    @property
    def python_path(self) -> Path:
        """A directory for ``storage:python_path`` with Debian's bindings, and no other package of
        Debian's.
        """
        return self.folder / "python"

    def backend(self) -> dict[str, str]:
        """Return the options of a backend on this cluster, as they are written under
        ``storage:backends``.
        """
        return {
            "volume_driver": "cinder.volume.drivers.rbd.RBDDriver",
            "rbd_pool": POOL,
            "rbd_user": USER,
            "rbd_ceph_conf": str(self.client_conf),
            "rbd_keyring_conf": str(self.client_keyring),
        }

    # Life.

    def start(self) -> None:
        """Make the cluster, start it, and wait until its pool can be used: 10 to 20 seconds."""
        for name in ("mon", "mgr", "osd", "run", "log", "crash", "client", "python"):
            (self.folder / name).mkdir(mode=0o700, parents=True)
        fsid = str(uuid.uuid4())
        self.conf.write_text(_CONF.format(fsid=fsid, address=self.address, folder=self.folder, size=self.size_gib << 30))
        for found in (*BINDINGS.glob("rados.cpython-*.so"), *BINDINGS.glob("rbd.cpython-*.so")):
            (self.python_path / found.name).symlink_to(found)
        self._make_monitor(fsid)
        self._start("mon")
        self._make_daemon("mgr", {"mon": "allow profile mgr", "osd": "allow *", "mds": "allow *"})
        self._make_osd()
        self._start("mgr")
        self._start("osd")
        self.ceph("config", "set", "mon", "auth_allow_insecure_global_id_reclaim", "false")
        # Clones that do not keep their snapshots from being deleted; Cinder's driver warns
        # without.
        self.ceph("osd", "set-require-min-compat-client", "mimic")
        self.ceph("osd", "pool", "create", POOL, "8")
        self.rbd("pool", "init", POOL)
        self._make_client()

    def stop(self) -> None:
        """Stop the daemons, the OSD first; each is given 20 seconds to end by itself."""
        for kind in ("osd", "mgr", "mon"):
            daemon = self._daemons.pop(kind, None)
            if daemon is None:
                continue
            # The manager ends by itself only when its modules do.
            daemon.send_signal(signal.SIGKILL if kind == "mgr" else signal.SIGTERM)
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def save_logs(self, folder: Path) -> None:
        """Keep the daemons' logs in a folder, under ``ceph``."""
        shutil.copytree(self.folder / "log", folder / "ceph", dirs_exist_ok=True)

    # Commands.

    def ceph(self, *args: str) -> str:
        """Run ``ceph`` as the administrator and return its output."""
        return _run("ceph", "--conf", self.conf, "--connect-timeout", "60", *args)

    def rbd(self, *args: str) -> str:
        """Run ``rbd`` as the administrator and return its output."""
        return _run("rbd", "--conf", self.conf, *args)

    def watchers(self, image: str) -> list[str]:
        """Return the addresses of the clients that have an image of the pool open, such as
        ``10.77.0.11:0/1234``.
        """
        lines = self.rbd("status", f"{POOL}/{image}").splitlines()
        return [word.removeprefix("watcher=") for line in lines for word in line.split() if word.startswith("watcher=")]

    # Within.

    def _make_monitor(self, fsid: str) -> None:
        keyring, monmap = self.folder / "bootstrap.keyring", self.folder / "monmap"
        _run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        admin = self.folder / "admin.keyring"
        caps = [word for kind in ("mon", "osd", "mgr", "mds") for word in ("--cap", kind, "allow *")]
        _run("ceph-authtool", "--create-keyring", admin, "--gen-key", "-n", "client.admin", *caps)
        _run("ceph-authtool", keyring, "--import-keyring", admin)
        addresses = f"[v2:{self.address}:3300,v1:{self.address}:6789]"
        _run("monmaptool", "--create", "--addv", "a", addresses, "--fsid", fsid, monmap)
        _run("ceph-mon", "--conf", self.conf, "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        keyring.unlink()

    def _make_daemon(self, kind: str, caps: dict[str, str]) -> None:
        name = {"mgr": "mgr.a", "osd": "osd.0"}[kind]
        self._keyring(name, caps, self.folder / kind / "keyring")

    def _make_osd(self) -> None:
        identity = str(uuid.uuid4())
        assert self.ceph("osd", "new", identity).strip() == "0"
        self._make_daemon("osd", {"mon": "allow profile osd", "mgr": "allow profile osd", "osd": "allow *"})
        _run("ceph-osd", "--conf", self.conf, "-i", "0", "--mkfs", "--osd-uuid", identity, "--osd-objectstore", "bluestore")

    def _make_client(self) -> None:
        # The rights that Ceph's own manual gives to Cinder: no other pool, no other users' keys.
        self._keyring(f"client.{USER}", {"mon": "profile rbd", "osd": f"profile rbd pool={POOL}", "mgr": f"profile rbd pool={POOL}"})
        lines = [line for line in self.conf.read_text().splitlines() if line.startswith(("[global]", "fsid", "mon_host"))]
        self.client_conf.write_text("\n".join([*lines, f"keyring = {self.client_keyring}", ""]))

    def _keyring(self, name: str, caps: dict[str, str], path: Path | None = None) -> None:
        path = path or self.client_keyring
        path.touch(mode=0o600)
        path.write_text(self.ceph("auth", "get-or-create", name, *(word for cap in caps.items() for word in cap)))

    def _start(self, kind: str) -> None:
        name = {"mon": "a", "mgr": "a", "osd": "0"}[kind]
        with (self.folder / "log" / f"{kind}.out").open("ab") as out:
            command = [f"ceph-{kind}", "--conf", str(self.conf), "-i", name, "-f"]
            self._daemons[kind] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self._wait(kind)

    def _wait(self, kind: str) -> None:
        """Wait until a daemon does its work; a daemon that ends before is an error."""
        ready = {
            "mon": lambda: self.ceph("quorum_status") != "",
            "mgr": lambda: '"available": true' in self.ceph("mgr", "dump"),
            "osd": lambda: " 1 up" in self.ceph("osd", "stat") and " 1 in" in self.ceph("osd", "stat"),
        }[kind]
        end = time.monotonic() + 120
        while not ready():
            if self._daemons[kind].poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"ceph-{kind} does not start; see {self.folder}/log")
            time.sleep(0.2)


def missing() -> list[str]:
    """Return the Debian packages that a cluster needs and that are not installed."""
    folders = os.environ["PATH"].split(os.pathsep)
    packages = [
        package for program, package in PROGRAMS.items() if not any(os.access(f"{folder}/{program}", os.X_OK) for folder in folders)
    ]
    packages += [f"python3-{module}" for module in ("rados", "rbd") if not list(BINDINGS.glob(f"{module}.cpython-*.so"))]
    return packages


def _run(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise RuntimeError(f"{' '.join(str(word) for word in command)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout
