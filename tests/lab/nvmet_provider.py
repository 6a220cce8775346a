"""A provider of the lab alone: volumes are files, exported by the kernel's own NVMe target over
TCP, which is set up through configfs.

Cinder's target helper for the same (``nvmet``) needs a Python module that no index and no
distribution has.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saltstorage.errors import FailedPreconditionError, UnimplementedError
from saltstorage.model import BackendStats
from saltstorage.providers import Capability, Provider, ProviderSnapshot, ProviderVolume

NVMET = Path("/sys/kernel/config/nvmet")
GIB = 2**30


class NvmetProvider(Provider):
    """Files as NVMe namespaces.

    Options: ``folder`` of the files, on a file system with a block size (overlayfs has none);
    ``portals``, a list of ``[address, port]``; ``shared``: all volumes of a host are namespaces
    of one subsystem, as with many arrays, and else each volume has its own.
    """

    def load(self) -> None:
        self.folder = Path(self.config.options["folder"])
        self.portals = [(str(address), int(port)) for address, port in self.config.options["portals"]]
        self.shared = bool(self.config.options.get("shared"))
        self.folder.mkdir(parents=True, exist_ok=True)
        if not NVMET.is_dir():
            raise FailedPreconditionError("the kernel's NVMe target is not loaded; run modprobe nvmet-tcp")

    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.EXTEND, Capability.EXTEND_ONLINE})

    def stats(self) -> BackendStats:
        return BackendStats(name=self.config.name, vendor="lab", protocol="NVMe-oF", thin=True)

    # Volumes.

    def create_volume(self, volume: ProviderVolume, *, source: ProviderVolume | ProviderSnapshot | None = None) -> int:
        if source is not None:
            raise UnimplementedError("the lab's NVMe provider makes no copies")
        with self._file(volume).open("wb") as file:
            file.truncate(volume.size * GIB)
        return volume.size

    def delete_volume(self, volume: ProviderVolume) -> bool:
        there = self._file(volume).exists()
        self._file(volume).unlink(missing_ok=True)
        return there

    def volume_size(self, volume: ProviderVolume) -> int | None:
        return self._file(volume).stat().st_size // GIB if self._file(volume).exists() else None

    def extend_volume(self, volume: ProviderVolume, size: int) -> int:
        size = max(size, self._file(volume).stat().st_size // GIB)
        os.truncate(self._file(volume), size * GIB)
        for namespace in self._namespaces(volume):
            _write(namespace / "revalidate_size", 1)
        return size

    def create_snapshot(self, snapshot: ProviderSnapshot) -> None:
        raise UnimplementedError("the lab's NVMe provider takes no snapshots")

    def delete_snapshot(self, snapshot: ProviderSnapshot) -> bool:
        return False

    # Exports.

    def connect(
        self, volume: ProviderVolume, connection_id: str, connector: Mapping[str, Any], *, read_only: bool = False
    ) -> dict[str, Any]:
        nqn = connector.get("nqn")
        if not nqn:
            raise FailedPreconditionError(f"{connector.get('host')} has no NVMe qualified name; install the package nvme-cli there")
        self._hosts_file(volume).write_text(json.dumps(nqn))
        return self._export(volume, nqn)

    def disconnect(self, volume: ProviderVolume, connection_id: str, connector: Mapping[str, Any], *, last: bool) -> None:
        for namespace in self._namespaces(volume):
            _write(namespace / "enable", 0)
            namespace.rmdir()
            _remove_when_empty(namespace.parent.parent)
        self._hosts_file(volume).unlink(missing_ok=True)

    def restore(self, volume: ProviderVolume) -> None:
        if self._hosts_file(volume).exists():
            self._export(volume, json.loads(self._hosts_file(volume).read_text()))

    def _export(self, volume: ProviderVolume, nqn: str) -> dict[str, Any]:
        subsystem = NVMET / "subsystems" / f"nqn.2024-01.lab:{self.config.name}:{nqn[-12:] if self.shared else volume.id}"
        if not subsystem.exists():
            subsystem.mkdir()
        _write(subsystem / "attr_allow_any_host", 0)
        host = NVMET / "hosts" / nqn
        host.mkdir(exist_ok=True)
        _link(subsystem / "allowed_hosts" / nqn, host)
        namespaces = subsystem / "namespaces"
        namespace = next(iter(self._namespaces(volume)), None)
        if namespace is None:
            namespace = namespaces / str(next(n for n in range(1, 1024) if not (namespaces / str(n)).exists()))
            namespace.mkdir()
            _write(namespace / "device_path", self._file(volume))
            _write(namespace / "device_uuid", volume.id)
            _write(namespace / "buffered_io", 1)
        _write(namespace / "enable", 1)
        for number, (address, port) in enumerate(self.portals, 1):
            _link(_port(number, address, port) / "subsystems" / subsystem.name, subsystem)
        return {
            "driver_volume_type": "nvmeof",
            "data": {
                "target_nqn": subsystem.name,
                "vol_uuid": volume.id,
                "ns_id": int(namespace.name),
                "portals": [[address, port, "tcp"] for address, port in self.portals],
            },
        }

    def _file(self, volume: ProviderVolume) -> Path:
        return self.folder / f"volume-{volume.id}"

    def _hosts_file(self, volume: ProviderVolume) -> Path:
        return self.folder / f"volume-{volume.id}.host"

    def _namespaces(self, volume: ProviderVolume) -> list[Path]:
        found = (NVMET / "subsystems").glob("*/namespaces/*")
        return [namespace for namespace in found if (namespace / "device_uuid").read_text().strip() == volume.id]


def _write(path: Path, value: object) -> None:
    path.write_text(f"{value}\n")


def _link(link: Path, target: Path) -> None:
    with contextlib.suppress(FileExistsError):
        link.symlink_to(target)


def _port(number: int, address: str, service: int) -> Path:
    port = NVMET / "ports" / str(number)
    if not port.exists():
        port.mkdir()
        for name, value in (("trtype", "tcp"), ("adrfam", "ipv4"), ("traddr", address), ("trsvcid", service)):
            _write(port / f"addr_{name}", value)
    return port


def _remove_when_empty(subsystem: Path) -> None:
    """Remove a subsystem without namespaces, and the objects that only it used."""
    if any((subsystem / "namespaces").iterdir()):
        return
    for link in NVMET.glob(f"ports/*/subsystems/{subsystem.name}"):
        link.unlink()
    for link in (subsystem / "allowed_hosts").iterdir():
        host = link.resolve()
        link.unlink()
        if not list(NVMET.glob(f"subsystems/*/allowed_hosts/{host.name}")):
            host.rmdir()
    subsystem.rmdir()
    for port in (NVMET / "ports").iterdir():
        if not any((port / "subsystems").iterdir()):
            port.rmdir()
