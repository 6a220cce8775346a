"""Salt itself is upgraded, from 3006 to 3008, and its Python is replaced, from 3.11 to 3.14: on the
master, and on a host that then boots without its master.

Both have stand-ins of Salt's packages (``onedir.py``), whose whole folder is swapped, with
all that ``salt-pip`` had installed there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import running
from .consumer import assert_nothing_attached, record, writing
from .guest import Guest
from .lab import failed
from .packaged import SALT, WHEELS, Site, changes
from .verified import Verified

pytestmark = pytest.mark.long
BACKEND = "file, tgt"
PROTOCOL = "iSCSI, CHAP, multipath; Salt's packages (stand-ins)"
MOUNTS = {"data": "/srv/data", "more": "/srv/more"}
VOLUMES = {name: {"size": 1, "mount": mount, "fstype": "ext4"} for name, mount in MOUNTS.items()}
#: A package for `salt-pip`.
EXTRA = "statsd"
#: The kernel keeps all of Salt from the unit that attaches at boot.
NO_SALT = f"[Service]\nInaccessiblePaths={SALT.parent} /etc/salt -/var/cache/salt\n"


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, verified: Verified) -> Iterator[Site]:
    """Yield the site, on Salt 3006."""
    found = Site()
    with running(request.session, found):
        verified.kernels.add(f"{found.consumer.run('uname -r').strip()} (user-mode Linux)")
        yield found


def controllers(site: Site) -> list[list[str]]:
    """Return the command lines of the processes of the site's controller."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        words = path.read_bytes().decode().split("\0")
        if "saltstorage.controller" in words and words[0].startswith(str(site.master.folder)):
            found.append(words)
    return found


def salt_of(site: Site) -> tuple[str, str]:
    """Return the lines of Salt, and of its Python, on the consumer."""
    found = site.master.job(site.consumer, "grains.item", "saltversion", "pythonversion", "pythonexecutable")
    assert found["pythonexecutable"].startswith(str(SALT))
    return found["saltversion"].split(".")[0], ".".join(map(str, found["pythonversion"][:2]))


def targets(host: Guest) -> dict[str, Any]:
    """Return the way to each volume, and its name in the kernel, as the records have them."""
    found = {name: record(host, name) for name in MOUNTS}
    return {name: (entry["connection_info"], entry["identity"]["dm_uuid"]) for name, entry in found.items()}


def facts(site: Site) -> Any:
    """Return the controller's volumes and connections."""
    return {name: site.master.run(f"storage.{name}") for name in ("volumes", "connections")}


def test_a_host_on_3006(site: Site) -> None:
    assert salt_of(site) == ("3006", "3.11")
    pip = f"{SALT}/salt-pip install --no-index --no-deps --find-links {WHEELS} {EXTRA}"
    site.consumer.run(f"{pip} && test -d {SALT}/extras-3.11/{EXTRA}", timeout=300)
    site.volumes_pillar(VOLUMES)
    assert set(site.apply()) == {f"storage-volumes-mounted-{name}" for name in VOLUMES}
    for name, mount in MOUNTS.items():
        site.consumer.run(f"echo data of {name} >{mount}/whose; sync")
    assert site.apply() == {}


def test_the_master_is_upgraded(site: Site, verified: Verified) -> None:
    """The master first, while the host is on 3006 still."""
    master = site.master
    before = facts(site)
    environment = os.readlink(master.environment_folder)
    with verified(BACKEND, PROTOCOL, "the master's Salt 3006 gives way to 3008, with another Python: the catalog is whole"):
        with writing((site.consumer, f"{MOUNTS['data']}/blob")):
            master.stop()
            master.install("3008")
            master.start()
            master.wait_for_minions([site.consumer])
        assert facts(site) == before
        (words,) = controllers(site)
        assert words[0] == f"{master.environment_folder}/bin/python"
    with verified(BACKEND, PROTOCOL, "state.apply storage.controller on 3008 changes nothing"):
        result = master.call("state.apply", "storage.controller")
        failed("master1", result)
        assert changes(result) == {}
        assert os.readlink(master.environment_folder) == environment
    with verified(BACKEND, PROTOCOL, "a host on 3006 is served by the master on 3008: the same pillar changes nothing"):
        assert site.apply() == {}


def test_a_host_is_upgraded_and_boots_without_its_master(site: Site, verified: Verified) -> None:
    """Row R4."""
    host = site.consumer
    before = targets(host)
    host.write("/etc/systemd/system/salt-storage-reattach.service.d/no-salt.conf", NO_SALT)
    site.master.stop()
    with verified(
        BACKEND,
        PROTOCOL,
        "a host's Salt 3006 gives way to 3008, with another Python; it boots with the master down: attached and mounted without Salt",
    ):
        with writing((host, f"{MOUNTS['data']}/blob")):
            site.install("3008")
        host.run(f"test -d {SALT}/lib/python3.14 && ! test -e {SALT}/lib/python3.11 && ! test -e {SALT}/extras-3.11")
        host.reboot()
        host.run("systemctl is-system-running --wait || true", timeout=240)
        host.run("systemctl is-active salt-storage-reattach srv-data.mount srv-more.mount")
        ran = host.run("systemctl show --property=ExecStart --value salt-storage-reattach")
        assert ran.startswith("{ path=/opt/salt-storage/bin/python ;"), ran
        for name, mount in MOUNTS.items():
            assert host.run(f"cat {mount}/whose").strip() == f"data of {name}"
        assert targets(host) == before
    site.master.start()
    site.master.wait_for_minions([host])
    with verified(BACKEND, PROTOCOL, "after the upgrade of both, the same pillar changes nothing, on master and host"):
        assert salt_of(site) == ("3008", "3.14")
        assert site.apply() == {}
        assert changes(site.master.call("state.apply", "storage.controller")) == {}


def test_nothing_is_left(site: Site) -> None:
    site.volumes_pillar({name: {**volume, "state": "absent"} for name, volume in VOLUMES.items()})
    site.apply()
    assert_nothing_attached(site.consumer)
    assert list(site.volumes.iterdir()) == []
