"""NVMe over TCP, on a real kernel: the project's states against Linux's own target, which a
provider of the lab sets up.

Target and consumer are one guest under QEMU, without a master, so that Salt is loaded once:
emulated, Python runs some twenty times slower.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import running
from .consumer import writing
from .guest import CHECKOUT, LabError
from .lab import FOLDER as LAB
from .qemu import Kernel, QemuGuest
from .verified import Verified

FOLDER = LAB / "nvme"
BACKEND = "lab provider (Linux nvmet, files)"
PROTOCOL = "NVMe/TCP, two paths; masterless, one guest"
PORTALS = [["127.0.0.1", 4420], ["127.0.0.2", 4420]]
NVMET = "/sys/kernel/config/nvmet"
CONTROLLERS = "/sys/class/nvme-fabrics/ctl/nvme*"
NQN = "nqn.2014-08.org.nvmexpress:uuid:"
OTHER = "00000000-1111-2222-3333-444444444444"
MINION = {
    "id": "nvme1",
    "file_client": "local",
    # Not synced: Python would compile every file anew, and slowly.
    "module_dirs": [str(CHECKOUT)],
    "enable_lspci": False,
    "enable_gpu_grains": False,
    "enable_fqdns_grains": False,
    "log_file": "/run/lab/salt.log",
    "log_level_logfile": "info",
    "storage": {
        # The backends' provider is a module of the tests.
        "python_path": [str(CHECKOUT)],
        "backends": {
            name: {
                "provider": "tests.lab.nvmet_provider.NvmetProvider",
                "folder": f"/volumes/{name}",
                "portals": PORTALS,
                "shared": name == "shared",
            }
            for name in ("own", "shared")
        },
        "default_backend": "own",
        "consumer": {"multipath": True},
    },
}
START = f"""
mkdir -p /run/lab /volumes && mount -t tmpfs -o size=4G volumes /volumes
cat >/run/lab/minion <<'END'
{json.dumps(MINION)}
END
mkfifo /run/lab/requests /run/lab/answers
cd {CHECKOUT}
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={CHECKOUT}/_utils setsid .venv/bin/python -m tests.lab.salt_in_guest \
    /run/lab/minion /run/lab/requests /run/lab/answers >/run/lab/python.log 2>&1 </dev/null 3<&- &
modprobe nvmet-tcp && mount -t configfs none /sys/kernel/config
"""


class Host:
    """The guest, with Salt in it."""

    def __init__(self) -> None:
        kernel = Kernel(CHECKOUT / "build" / "lab")
        self.kernel = kernel.version
        FOLDER.mkdir(parents=True)
        self.guest = QemuGuest("nvme1", kernel, FOLDER)
        self.run = self.guest.run
        self.ran = self.guest.ran

    def start(self) -> None:
        """Return when Salt is loaded."""
        self.guest.wait()
        self.run(START)
        self._answer("")

    def call(self, function: str, *args: Any) -> Any:
        """Call a function of Salt's execution modules and return its answer."""
        return self._ask({"fun": function, "args": args})

    def apply(self, **states: tuple[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Apply states of volumes, given as ``name=(function, parameters)``, and return their
        results by name.
        """
        high = {
            name: {"storage_volume": [function, *({key: value} for key, value in given.items())]}
            for name, (function, given) in states.items()
        }
        found = self._ask({"high": high})
        assert isinstance(found, dict), found
        return {result["name"]: result for result in found.values()}

    def applied(self, **states: tuple[str, dict[str, Any]]) -> None:
        """Apply states that change something, then again, when they must not."""
        for name, result in self.apply(**states).items():
            assert result["result"] is True, result
            assert result["changes"], name
        for result in self.apply(**states).values():
            assert (result["result"], result["changes"]) == (True, {}), result

    def _ask(self, request: dict[str, Any]) -> Any:
        return self._answer(f"echo {shlex.quote(json.dumps(request))} >/run/lab/requests; ")

    def _answer(self, before: str) -> Any:
        # The program holds no pipe open while it works: when it has ended, nobody answers.
        answer = json.loads(self.run(f"{before}timeout 580 cat /run/lab/answers || (cat /run/lab/python.log; false)", timeout=600))
        if "error" in answer:
            raise LabError(answer["error"])
        return answer["return"]

    def controllers(self) -> list[str]:
        """Return the state of each connected controller."""
        return self.run(f"cat {CONTROLLERS}/state 2>/dev/null || true").split()

    def writes(self) -> dict[str, int]:
        """Return how many writes went over each path, by the address of its portal."""
        lines = self.run(f"for path in {CONTROLLERS}; do echo $(cat $path/address) $(cat $path/nvme*c*n*/stat); done").splitlines()
        return {line.removeprefix("traddr=").partition(",")[0]: int(line.split()[5]) for line in lines}

    def stop(self) -> None:
        """Switch the guest off."""
        self.guest.kill()

    def save_logs(self, folder: Path) -> None:
        """Keep the logs in a folder."""
        for path in FOLDER.glob("*.log"):
            shutil.copy(path, folder / path.name)
        show = (
            f"dmesg; cat /run/lab/*.log; nvme list-subsys; find {NVMET}; ls -lR /dev/disk /dev/storage /volumes; lsblk -O; cat /etc/fstab"
        )
        (folder / "guest.log").write_text(self.ran(show, timeout=120).output)


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest, verified: Verified) -> Iterator[Host]:
    """Yield the guest, with Salt loaded."""
    found = Host()
    verified.kernels.add(found.kernel)
    with running(request.session, found):
        yield found


MOUNTED = {"mount": "/srv/data", "fstype": "ext4"}
WRITE = "dd if=/dev/urandom of=/srv/data/{0} bs=1M count=16 conv=fsync status=none && sha256sum /srv/data/{0} >/run/lab/{0}.sum"
CHECK = "sync && echo 3 >/proc/sys/vm/drop_caches && sha256sum --check --quiet /run/lab/*.sum"


def test_g8_what_the_kernel_lacks_is_named(host: Host, verified: Verified) -> None:
    host.run("echo 'install nvme_tcp /bin/false' >/etc/modprobe.d/lab.conf")
    with verified(BACKEND, PROTOCOL, "refuse while the kernel has no NVMe/TCP, and say so"):
        result = host.apply(data=("mounted", {"size": 1, **MOUNTED}))["data"]
        assert result["result"] is False
        assert result["comment"].startswith("FAILED_PRECONDITION")
        assert "nvme_tcp" in result["comment"]
        assert host.controllers() == []
    host.run("rm /etc/modprobe.d/lab.conf")


def test_attach_format_and_mount(host: Host, verified: Verified) -> None:
    """Row R3."""
    with verified(BACKEND, PROTOCOL, "create, attach over both paths, format, mount"):
        host.applied(data=("mounted", {"size": 1, **MOUNTED}))
        assert host.controllers() == ["live", "live"]
        assert host.run("readlink /dev/storage/data").startswith("/dev/disk/by-id/nvme-uuid.")
        assert host.run("findmnt -n -o FSTYPE /srv/data").strip() == "ext4"
        host.run(WRITE.format("first"))


def test_another_host_cannot_connect(host: Host, verified: Verified) -> None:
    subsystem = host.run(f"ls {NVMET}/subsystems").strip()
    other = f"-q {NQN}{OTHER} -I {OTHER} -t tcp -a 127.0.0.1 -s 4420"
    with verified(BACKEND, PROTOCOL, "another host neither sees nor connects to the volume"):
        assert subsystem in host.run("nvme discover -t tcp -a 127.0.0.1 -s 4420")
        assert subsystem not in host.ran(f"nvme discover {other}").output
        # Past nvme-cli, which refuses by itself, since this host is connected already, if by
        # another name.
        options = f"transport=tcp,traddr=127.0.0.1,trsvcid=4420,nqn={subsystem},hostnqn={NQN}{OTHER},hostid={OTHER},duplicate_connect"
        assert host.ran(f"echo {options} >/dev/nvme-fabrics").code != 0
        assert f"{NQN}{OTHER} for subsystem {subsystem} not allowed" in host.run("dmesg")
        assert host.controllers() == ["live", "live"]


def test_writing_goes_on_when_a_path_is_lost(host: Host, verified: Verified) -> None:
    subsystem = host.run(f"ls {NVMET}/subsystems").strip()
    with verified(BACKEND, PROTOCOL, "the path in use is lost while writing: the writes go on, the data is right, the path comes back"):
        with writing((host.guest, "/srv/data/second")) as (file,):
            before = host.writes()
            file.goes_on()
            done = {address: count - before[address] for address, count in host.writes().items()}
            used = max(done, key=lambda address: done[address])
            assert done[used] > 0, done
            link = f"{NVMET}/ports/{[address for address, _ in PORTALS].index(used) + 1}/subsystems/{subsystem}"
            host.run(f"rm {link}")
            # A write that begins now has one path.
            file.goes_on()
            host.run(f"until grep -q connecting {CONTROLLERS}/state; do sleep 0.5; done", timeout=120)
            assert sorted(host.controllers()) == ["connecting", "live"]
            host.run(f"ln -s {NVMET}/subsystems/{subsystem} {link}")
            host.run(f"until [ $(cat {CONTROLLERS}/state | grep -c live) = 2 ]; do sleep 0.5; done", timeout=120)
        host.run(CHECK)


def test_grow_while_mounted_and_written(host: Host, verified: Verified) -> None:
    with verified(BACKEND, PROTOCOL, "grow online, mounted and written to: device and file system have the new size"):
        with writing((host.guest, "/srv/data/busy")):
            host.applied(data=("mounted", {"size": 2, **MOUNTED}))
            assert int(host.run("blockdev --getsize64 /dev/storage/data")) == 2 * 2**30
            assert int(host.run("df --output=size -B1 /srv/data | tail -1")) > 1.8 * 2**30
        host.run(CHECK)


def test_r14_volumes_of_one_subsystem_come_and_go_alone(host: Host, verified: Verified) -> None:
    with verified(f"{BACKEND}, one subsystem a host", PROTOCOL, "detach one of two volumes of a subsystem, the other in use"):
        both = {"size": 1, "backend": "shared"}
        for name, result in host.apply(log1=("connected", both), log2=("connected", both)).items():
            assert result["result"] is True, (name, result)
        assert host.controllers() == ["live"] * 4
        one = host.run("basename $(readlink -f /dev/storage/log1)").strip()
        host.run("setsid sleep 10000 </dev/storage/log2 >/dev/null 2>&1 3<&- & echo $! >/run/lab/sleep")
        host.applied(log1=("disconnected", {}))
        assert host.ran(f"ls /sys/block/{one}").code != 0
        host.run("dd if=/dev/storage/log2 of=/dev/null bs=1M count=4 iflag=direct status=none")
        refused = host.apply(log2=("disconnected", {}))["log2"]
        assert refused["result"] is False
        assert "sleep" in refused["comment"]
        host.run("kill $(cat /run/lab/sleep)")
        host.applied(log2=("disconnected", {}))
        assert host.controllers() == ["live", "live"]


def test_attach_again_from_the_records(host: Host, verified: Verified) -> None:
    """Row R4."""
    with verified(BACKEND, PROTOCOL, "attach again from the records, as after a boot; the data is there"):
        host.run("umount /srv/data && nvme disconnect-all && ! ls /dev/nvme*n*")
        found = host.call("storage.reattach")
        assert "data" in json.dumps(found)
        host.run(f"mount /srv/data && {CHECK}")
        assert host.controllers() == ["live", "live"]


def test_nothing_is_left(host: Host, verified: Verified) -> None:
    with verified(BACKEND, PROTOCOL, "unmount, detach, delete: no controller, device, link, export or file is left"):
        host.applied(data=("disconnected", {}))
        assert host.controllers() == []
        assert (
            host.run(
                f"ls /dev/storage; ls {NVMET}/subsystems {NVMET}/hosts {NVMET}/ports | grep -v :; ls /dev/nvme*n* 2>/dev/null || true"
            ).strip()
            == ""
        )
        assert host.run("ls /var/lib/salt-storage/minion/attachments; grep -c srv /etc/fstab || true").strip() == "0"
        host.applied(data=("absent", {}), log1=("absent", {}), log2=("absent", {}))
        assert host.run("ls /volumes/own /volumes/shared | grep volume- || true") == ""


def test_g8_without_nvme_cli_it_is_named(host: Host, verified: Verified) -> None:
    host.run("mv /usr/sbin/nvme /run/lab/")
    with verified(BACKEND, PROTOCOL, "refuse without nvme-cli, and name it"):
        result = host.apply(data=("connected", {"size": 1}))["data"]
        assert result["result"] is False
        assert result["comment"].startswith("FAILED_PRECONDITION")
        assert "nvme-cli" in result["comment"]
    host.run("mv /run/lab/nvme /usr/sbin/")
    host.apply(data=("disconnected", {}))
    assert host.run(f"ls {NVMET}/subsystems") == ""
