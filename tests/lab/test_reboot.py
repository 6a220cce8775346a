"""Both ends boot again: consumers without their master, and the controller while
consumers write.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from .consumer import assert_nothing_attached, writing
from .guest import wait_for
from .lab import Lab
from .verified import Verified

MOUNT = "/srv/data"
#: A service as users have them: it says which directory it needs, and knows nothing of volumes.
SERVICE = f"""\
[Unit]
RequiresMountsFor={MOUNT}
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'cat {MOUNT}/whose >/root/seen'
[Install]
WantedBy=multi-user.target
"""


def test_consumers_boot_while_the_master_is_down(lab: Lab, verified: Verified) -> None:
    """Row R4."""
    lab.apply({"data": {"size": 1, "mount": MOUNT, "fstype": "xfs"}})
    for host in lab.consumers:
        host.run(f"echo data of {host.name} >{MOUNT}/whose; sync; rm -f /root/seen")
        host.write("/etc/systemd/system/needs-data.service", SERVICE)
        host.run("systemctl enable needs-data")
    lab.controller.stop()
    with verified(
        "file, tgt",
        "iSCSI, CHAP, one path and multipath",
        "reboot of a consumer with the master down: mounted before the service that needs it",
    ):
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda host: host.reboot(), lab.consumers))
        for host in lab.consumers:
            host.run("systemctl is-system-running --wait || true", timeout=240)
            host.run("systemctl is-active salt-storage-reattach srv-data.mount needs-data")
            assert host.run("cat /root/seen").strip() == f"data of {host.name}"
            assert host.run("systemctl --failed --no-legend --plain").strip() == ""


def test_the_controller_boots_while_consumers_write(lab: Lab, verified: Verified) -> None:
    """Row R16."""
    with verified(
        "file, tgt",
        "iSCSI, CHAP, one path and multipath",
        "tgtd, master and engine end and start anew: targets are restored and the consumers' writes go on",
    ):
        with writing(*((host, f"{MOUNT}/blob") for host in lab.consumers)):
            lab.controller.stop()
            lab.stop_tgtd()
            lab.start_tgtd(listen=False)
            assert lab.targets() == []
            lab.controller.start()
            wait_for(lambda: len(lab.targets()) == 2, "the targets", 90)
            lab.listen()
        lab.controller.wait_for_minions(lab.consumers)
        assert lab.apply_again() == {}


@pytest.fixture(scope="module", autouse=True)
def _clean(lab: Lab) -> None:
    yield
    for host in lab.consumers:
        host.run("systemctl disable --now needs-data; rm /etc/systemd/system/needs-data.service")
    lab.apply({"data": {"size": 1, "mount": MOUNT, "state": "absent"}})
    for host in lab.consumers:
        assert_nothing_attached(host)
    assert lab.files() == []
