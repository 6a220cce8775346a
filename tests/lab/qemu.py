"""Guests under QEMU in software emulation, for a protocol that user-mode Linux lacks: NVMe over
fabrics.

A guest runs Debian's own kernel on the machine's root, read-only over 9p, and keeps all that it
writes in memory. Commands are run in it through a virtio serial port. It has no network but its
own loopback.
"""

from __future__ import annotations

import base64
import contextlib
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from .guest import CHECKOUT, LabError, Ran

FILES = Path(__file__).parent / "files"
#: Loaded before the machine's root is mounted; modules that they need are added.
MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
#: A kernel's guards against attacks cost an emulated kernel much of its time.
QUICKLY = "mitigations=off nopti no5lvl init_on_alloc=0 audit=0 apparmor=0 nokaslr"


class Kernel:
    """Debian's kernel, downloaded and unpacked where it is not there yet; the machine's packages
    stay as they are.

    ``python -m tests.lab.qemu FOLDER`` does so before there is no network.

    :param cache: folder that is kept between runs.
    :ivar version: its release.
    """

    def __init__(self, cache: Path) -> None:
        depends = _output(["apt-cache", "depends", "--important", "linux-image-amd64"])
        package = next(word for word in depends.split() if word.startswith("linux-image-") and word != "linux-image-amd64")
        self.version = package.removeprefix("linux-image-")
        self._folder = cache / package
        if not self._folder.exists():
            self._unpack(package)
        self.image = self._folder / "boot" / f"vmlinuz-{self.version}"
        self.modules = self._folder / "lib/modules" / self.version

    def _unpack(self, package: str) -> None:
        new = self._folder.parent / f"{package}.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        _output(["apt-get", "download", package], cwd=new)
        [archive] = new.glob("*.deb")
        _output(["dpkg", "-x", str(archive), str(new)])
        archive.unlink()
        _output(["depmod", "-b", str(new), self.version])
        new.rename(self._folder)

    def initramfs(self, folder: Path) -> Path:
        """Make the first root file system in a folder, and return it."""
        tree = folder / "initramfs"
        for name in ("bin", "proc", "sys", "dev", "lib"):
            (tree / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", tree / "bin/busybox")
        shutil.copy(FILES / "qemu-initramfs.sh", tree / "init")
        (tree / "init").chmod(0o755)
        order: dict[str, None] = {}
        for module in MODULES:
            shown = _output(["modprobe", "-d", str(self._folder), "-S", self.version, "--show-depends", module])
            order.update(dict.fromkeys(line.split()[1] for line in shown.splitlines() if line.startswith("insmod ")))
        for path in order:
            shutil.copy(path, tree / "lib")
        (tree / "modules").write_text("".join(f"/lib/{Path(path).name}\n" for path in order))
        (tree / "next").write_text(f"{FILES / 'qemu-init.sh'}\n")
        names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
        image = folder / "initramfs.cpio"
        with image.open("wb") as file:
            subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=tree, input=names.encode(), stdout=file, check=True)
        return image


class QemuGuest:
    """One running guest.

    :param name: its host name.
    :param folder: for its initramfs and its console's log.
    :param memory: MiB; also holds all that is written in the guest.
    """

    def __init__(self, name: str, kernel: Kernel, folder: Path, memory: int = 3072) -> None:
        self.name = name
        self.console = folder / "console.log"
        self._log = folder / "commands.log"
        self._agent, theirs = socket.socketpair()
        command = [
            *("qemu-system-x86_64", "-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max", "-smp", "2", "-m", str(memory)),
            *("-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{self.console}"),
            *("-kernel", str(kernel.image), "-initrd", str(kernel.initramfs(folder))),
            *("-append", f"console=ttyS0 panic=-1 quiet {QUICKLY} lab.name={name} lab.checkout={CHECKOUT} lab.modules={kernel.modules}"),
            *("-virtfs", "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap"),
            *("-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent"),
            *("-chardev", f"socket,id=agent,fd={theirs.fileno()}"),
        ]
        with (folder / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        theirs.close()
        self._answers = self._agent.makefile("rb")

    def wait(self, timeout: float = 240) -> None:
        """Return when commands can be run."""
        if self._line(timeout) != "ready":
            raise LabError(f"{self.name} did not boot; see {self.console}")

    def ran(self, script: str, *, timeout: float = 300) -> Ran:
        """Run a script with bash as root and return its exit code and output, errors included."""
        started = time.monotonic()
        self._agent.sendall(base64.b64encode(script.encode()) + b"\n")
        code, _, encoded = self._line(timeout).partition(" ")
        output = base64.b64decode(encoded).decode("utf-8", "replace")
        with self._log.open("a") as log:
            log.write(f"[{time.monotonic() - started:.1f} s] {script}\n[{code}] {output}\n")
        return Ran(int(code), output)

    def run(self, script: str, *, timeout: float = 300) -> str:
        """Run a script with bash as root and return its output.

        :raises LabError: it failed.
        """
        done = self.ran(script, timeout=timeout)
        if done.code:
            raise LabError(f"{self.name}: {script}: exit code {done.code}\n{done.output}")
        return done.output

    def kill(self) -> None:
        """Pull the plug."""
        with contextlib.suppress(OSError):
            self._agent.close()
        self._process.kill()
        self._process.wait()

    def _line(self, timeout: float) -> str:
        self._agent.settimeout(timeout)
        try:
            line = self._answers.readline()
        except TimeoutError:
            raise LabError(f"{self.name} did not answer within {timeout:g} s; see {self.console}") from None
        if not line:
            raise LabError(f"{self.name} has ended; see {self.console.parent}")
        return line.decode().rstrip("\n")


def _output(command: list[str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{shlex.join(command)}: exit code {done.returncode}\n{done.stderr or done.stdout}")
    return done.stdout


if __name__ == "__main__":
    Kernel(Path(sys.argv[1]))
