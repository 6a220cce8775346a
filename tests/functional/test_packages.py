"""Every SLS on every distribution that ``FORMULA`` names, and the packages that it asks for there.

The table is written by hand, from these sources: Debian's and Ubuntu's from packages.debian.org and
packages.ubuntu.com (Debian's also by ``apt-cache`` in the tests of ``tools/packages.txt``); Red
Hat's from the Storage guides of RHEL and the index of packages.fedoraproject.org; SUSE's from the
Storage Administration Guide of SLES 15 and software.opensuse.org. Nobody has installed on Red Hat
or SUSE yet, and docs/how-to/install.rst says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

Render = Callable[[str, dict[str, Any]], dict[str, Any]]

#: Packages of each protocol, by family.
PACKAGES = {
    "Debian": {
        "iscsi": {"open-iscsi", "lsscsi"},
        "fibre_channel": {"lsscsi"},
        "multipath": {"multipath-tools"},
        "nvme": {"nvme-cli"},
        "rbd": {"ceph-common"},
        "nfs": {"nfs-common"},
        "luks": {"cryptsetup-bin"},
    },
    "RedHat": {
        "iscsi": {"iscsi-initiator-utils", "lsscsi"},
        "fibre_channel": {"lsscsi"},
        "multipath": {"device-mapper-multipath"},
        "nvme": {"nvme-cli"},
        "rbd": {"ceph-common"},
        "nfs": {"nfs-utils"},
        "luks": {"cryptsetup"},
    },
    "Suse": {
        "iscsi": {"open-iscsi", "lsscsi"},
        "fibre_channel": {"lsscsi"},
        "multipath": {"multipath-tools"},
        "nvme": {"nvme-cli"},
        "rbd": {"ceph-common"},
        "nfs": {"nfs-client"},
        "luks": {"cryptsetup"},
    },
}
#: Units that must run: the same everywhere.
SERVICES = {"iscsi": {"iscsid"}, "multipath": {"multipathd"}}
#: Grains ``os_family``, ``os`` and ``osrelease``, as Salt sets them.
SYSTEMS = [
    ("Debian", "Debian", "12"),
    ("Debian", "Debian", "13"),
    ("Debian", "Ubuntu", "22.04"),
    ("Debian", "Ubuntu", "24.04"),
    ("RedHat", "RedHat", "8.10"),
    ("RedHat", "RedHat", "9.6"),
    ("RedHat", "AlmaLinux", "9.6"),
    ("RedHat", "Rocky", "10.0"),
    ("RedHat", "CentOS Stream", "9"),
    ("RedHat", "Fedora", "43"),
    ("Suse", "SUSE", "15.7"),
    ("Suse", "Leap", "15.6"),
]


@pytest.fixture(params=SYSTEMS, ids=lambda system: "-".join(system[1:]))
def family(request: pytest.FixtureRequest, minion_opts: dict[str, Any]) -> Iterator[str]:
    """Let the minion be on a distribution, with systemd, and return its family."""
    grains = minion_opts["grains"]
    family, name, release = request.param
    asked = {"os_family": family, "os": name, "osrelease": release, "osmajorrelease": int(release.split(".")[0]), "init": "systemd"}
    before = {key: grains.get(key) for key in asked}
    grains.update(asked)
    yield family
    grains.update(before)


def pillar(protocols: list[str]) -> dict[str, Any]:
    controller = {"backends": {"local": {"volume_driver": "saltstorage.drivers.file.FileDriver", "file_driver_path": "/srv/volumes"}}}
    return {"storage": {"consumer": {"protocols": protocols}, "controller": controller, "volumes": {"data": {"size": 1}}}}


def items(body: dict[str, Any], function: str, key: str) -> Any:
    module, _ = function.split(".")
    return next(item[key] for item in body[module] if isinstance(item, dict) and key in item)


def test_every_sls_renders(family: str, render: Render, checkout: Path) -> None:
    names = [str(path.relative_to(checkout).with_suffix("")).replace("/", ".") for path in (checkout / "storage").rglob("*.sls")]
    assert {"storage.volumes", "storage.consumer.init", "storage.controller.init"} <= set(names)
    for name in names:
        high = render(name.removesuffix(".init"), pillar([*PACKAGES[family]]))
        assert [state_id for state_id in high if "invalid" in state_id] == [], name


def test_packages_and_services_of_each_protocol(family: str, render: Render) -> None:
    high = render("storage.consumer", pillar([*PACKAGES[family]]))
    for protocol, packages in PACKAGES[family].items():
        base = f"storage-consumer-{protocol}"
        assert set(items(high[f"{base}-packages"], "pkg.installed", "pkgs")) == packages
        started = {items(body, "service.running", "name") for key, body in high.items() if key.startswith(f"{base}-service-")}
        assert started == SERVICES.get(protocol, set())


def test_the_table_has_all_protocols(loaded: dict[str, Any], minion_opts: dict[str, Any], family: str) -> None:
    assert loaded["modules"]["storage_pillar.lookup"]()["consumer"]["protocols"].keys() == PACKAGES[family].keys()
