"""A storage machine in a guest, with a salt-master of its own: LVM, files, kernel targets (LIO)
and an NFS server; and consumers.
"""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

from . import network
from .guest import BIN, CHECKOUT, Guest, LabError, wait_for

JOBS_PORT = 9001
ADDRESS = f"{network.NETWORKS[0]}.21"
BACKENDS = ("lvm", "file", "nfs")
#: Volume group. The first further disk is LVM's, the second holds files.
GROUP = "storage"
FILES = "/srv"
LVM_GIB, FILES_GIB = 20, 20

STORAGE_UNIT = """\
[Unit]
Description=Disks of the storage machine
Before=salt-master.service nfs-server.service
Wants=nfs-server.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -ec 'modprobe -a dm_mod dm_thin_pool iscsi_target_mod target_core_mod target_core_iblock loop nfsd; \
    vgs {group} || vgcreate {group} /dev/ubdb; \
    mount /dev/ubdc {files}; mkdir -p {files}/nfs/cinder /etc/lab/formula; ln -sfn {checkout}/storage /etc/lab/formula/storage'
[Install]
WantedBy=multi-user.target
"""

MASTER_UNIT = """\
[Unit]
Description=The Salt Master
Wants=network-online.target
After=network-online.target
[Service]
Environment=PYTHONDONTWRITEBYTECODE=1
ExecStart={bin}/salt-master --config-dir=/etc/salt --log-level=quiet
KillMode=process
[Install]
WantedBy=multi-user.target
"""

JOBS_UNIT = """\
[Unit]
Description=Jobs for the lab
Wants=network-online.target
After=salt-master.service network-online.target
[Service]
Environment=PYTHONDONTWRITEBYTECODE=1
ExecStart={bin}/python {checkout}/tests/lab/jobs.py {address} {port}
Restart=on-failure
[Install]
WantedBy=multi-user.target
"""

#: As the root of all exports (fsid=0), since the guest's own root, an overlay, cannot be exported.
EXPORTS = f"{FILES}/nfs {network.NETWORKS[0]}.0/24(rw,fsid=0,sync,no_subtree_check,no_root_squash)\n"


class San:
    """The storage machine ``san1`` and its consumers ``db3`` and ``db4``.

    :ivar server: guest that is master, controller and storage.
    :ivar consumers: guests that are its minions.
    :ivar consumer: the first of them.
    """

    def __init__(self, folder: Path) -> None:
        network.make()
        self.guests: dict[str, Guest] = {}
        for name, number, more in (("san1", 21, {"more_disks": (LVM_GIB, FILES_GIB), "memory": 2048}), ("db3", 23, {}), ("db4", 24, {})):
            (folder / name).mkdir(parents=True)
            self.guests[name] = Guest(name, number, folder / name, **more)  # type: ignore[arg-type]
        self.server, *self.consumers = self.guests.values()
        self.consumer = self.consumers[0]
        self._configure()
        files = folder / "san1" / "disk2"
        with files.open("wb") as file:
            file.truncate(FILES_GIB * 2**30)
        # Here, since a guest takes a minute for it.
        subprocess.run(["mkfs.xfs", "-q", str(files)], check=True)

    def start(self) -> None:
        """Start all and return when the consumers are ready to attach.

        They boot while the controller loads Cinder, which takes a guest two minutes; their
        minions are patient with a master that is too busy to answer.
        """
        self.server.start()
        self.server.wait()
        for guest in self.consumers:
            guest.start()
        for guest in self.consumers:
            guest.wait()
        wait_for(self._loaded, "the backends", 600)
        self.wait()

    def wait(self) -> None:
        """Return when the master does jobs and its minions answer."""
        wait_for(self._answers, "the minions of san1 to answer", 240)

    def stop(self) -> None:
        """Stop all."""
        for guest in self.guests.values():
            guest.kill()

    def save_logs(self, folder: Path) -> None:
        """Keep the logs of all hosts."""
        for name, guest in self.guests.items():
            guest.save_logs(folder / name)
        for name, command in {
            "storage": "lvs -a; losetup -l; ls -lR /srv; find /sys/kernel/config/target; exportfs -v; cat /proc/mounts",
            "targets": "targetctl save /dev/stdout | grep -v -e password -e userid",
        }.items():
            (folder / "san1" / f"{name}.log").write_text(self.server.ran(f"({command}) 2>&1").output)

    # Requests to the master.

    def jobs(self, guests: list[Guest], function: str, *args: Any, timeout: float = 900, **kwargs: Any) -> dict[str, Any]:
        """Run a function as ``salt -L GUESTS FUNCTION …`` does; return each minion's answer."""
        names = [guest.name for guest in guests]
        request = {"minions": names, "function": function, "args": args, "kwargs": kwargs, "timeout": timeout}
        found: dict[str, Any] = self._ask(request, timeout + 30)
        if missing := set(names) - set(found):
            raise LabError(f"no reply of {', '.join(sorted(missing))} to {function}")
        return found

    def run(self, function: str, *args: Any, **kwargs: Any) -> Any:
        """Run a function as ``salt-run FUNCTION …`` does; return its answer."""
        return self._ask({"function": function, "args": args, "kwargs": kwargs}, 300)

    def apply(self, volumes: dict[str, Any], guests: list[Guest] | None = None) -> dict[str, dict[str, Any]]:
        """Write the pillar ``storage:volumes`` of all minions, apply the SLS, and return the
        results of the states by host and volume.

        :param guests: where it is applied, by default on the first consumer.
        :raises LabError: a state failed.
        """
        self._pillar(volumes)
        found = self.jobs(guests or [self.consumer], "state.apply", "storage.volumes")
        for name, result in found.items():
            if not isinstance(result, dict) or not all(entry["result"] for entry in result.values()):
                raise LabError(f"state.apply on {name}: {json.dumps(result, indent=1, default=str)}")
        return {
            name: {entry["name"]: entry for key, entry in result.items() if key.startswith("storage_volume_|")}
            for name, result in found.items()
        }

    def targets(self) -> list[str]:
        """Return the names of the kernel's iSCSI targets on the storage machine."""
        return self.server.run("ls /sys/kernel/config/target/iscsi 2>/dev/null | grep ^iqn || true").split()

    # Within.

    def _configure(self) -> None:
        chap = {"target_helper": "lioadm", "target_protocol": "iscsi", "target_ip_address": ADDRESS}
        master = {
            "user": "root",
            "interface": ADDRESS,
            "auto_accept": True,
            "worker_threads": 1,
            "log_level_logfile": "info",
            "timeout": 60,
            "gather_job_timeout": 60,
            # Where they are, instead of `saltutil.sync_all`, which costs seconds in a guest.
            "runner_dirs": [str(CHECKOUT / "_runners")],
            "engines_dirs": [str(CHECKOUT / "_engines")],
            "utils_dirs": [str(CHECKOUT / "_utils")],
            "file_roots": {"base": ["/etc/lab/formula"]},
            "pillar_roots": {"base": ["/etc/lab/pillar"]},
            "engines": [{"storage": {}}],
            "storage": {
                "state_dir": "/var/lib/salt-storage/controller",
                "retry_interval": 30,
                "default_backend": "lvm",
                "backends": {
                    "lvm": {
                        "volume_driver": "saltstorage.drivers.lvm_iscsi.LVMISCSIDriver",
                        "volume_group": GROUP,
                        "lvm_type": "thin",
                        **chap,
                    },
                    "file": {
                        "volume_driver": "saltstorage.drivers.file_iscsi.FileISCSIDriver",
                        "file_driver_path": f"{FILES}/san",
                        **chap,
                    },
                    "nfs": {
                        "volume_driver": "cinder.volume.drivers.nfs.NfsDriver",
                        "nas_host": ADDRESS,
                        "nas_share_path": "/cinder",
                    },
                },
            },
        }
        server = self.server
        server.file("/etc/salt/master", json.dumps(master))
        server.file("/etc/exports", EXPORTS)
        server.file("/etc/nfs.conf", "[nfsd]\nvers3=n\nthreads=4\nlease-time=10\ngrace-time=10\n")
        server.unit("lab-storage.service", STORAGE_UNIT.format(group=GROUP, files=FILES, checkout=CHECKOUT))
        server.unit("salt-master.service", MASTER_UNIT.format(bin=BIN))
        server.unit("lab-jobs.service", JOBS_UNIT.format(bin=BIN, checkout=CHECKOUT, address=ADDRESS, port=JOBS_PORT))
        dirs = {
            key: [str(CHECKOUT / name)] for key, name in (("module_dirs", "_modules"), ("states_dirs", "_states"), ("utils_dirs", "_utils"))
        }
        patient = {"auth_timeout": 60, "auth_tries": 20}
        for guest in self.consumers:
            guest.minion({"master": ADDRESS, **patient, **dirs, "storage": {"consumer": {"answer_timeout": 60}}})

    def _pillar(self, volumes: dict[str, Any]) -> None:
        storage = {"consumer": {"protocols": ["iscsi", "nfs"]}, "volumes": volumes}
        self.server.write("/etc/lab/pillar/top.sls", json.dumps({"base": {"*": ["lab"]}}))
        self.server.write("/etc/lab/pillar/lab.sls", "#!json\n" + json.dumps({"storage": storage}))

    def _loaded(self) -> bool:
        """Return whether the controller has all backends; by its log, since a question would cost
        the guest's one CPU its time.
        """
        log = self.server.run("cat /var/log/salt/master 2>/dev/null || true")
        if " is down: " in log:
            raise LabError(log)
        return all(f"backend {name} is up" in log for name in BACKENDS)

    def _answers(self) -> bool:
        try:
            return all(answer is True for answer in self.jobs(self.consumers, "test.ping", timeout=20).values())
        except (OSError, LabError, ValueError):
            return False

    def _ask(self, request: dict[str, Any], timeout: float) -> Any:
        with socket.create_connection((ADDRESS, JOBS_PORT), timeout=20) as connection:
            connection.settimeout(timeout)
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as file:
                line = file.readline()
        if not line:
            raise ConnectionError("san1 closed the connection")
        found = json.loads(line)
        if "error" in found:
            raise LabError(found["error"])
        return found["return"]
