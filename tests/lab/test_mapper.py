"""The unit tests that need a device mapper, in a guest: not every machine that runs the tests has
one.
"""

from __future__ import annotations

import pytest

from .guest import BIN, CHECKOUT, Guest, LabError
from .lab import Lab
from .verified import Verified

pytestmark = pytest.mark.long
#: A guest's kernel finds its modules only when they are loaded within the guest; dm-crypt does
#: not start without the first two.
MODULES = ("cbc", "aes_ti", "xts", "dm-crypt", "dm-snapshot", "loop")
SECONDS = 2400


def run_tests(host: Guest, path: str) -> None:
    """Run the tests of a file in a guest; a skipped test is a failure, unless its kernel cannot
    run it.
    """
    options = "-m pytest -q -p no:cacheprovider -o timeout=200 --show-capture=no -k 'not on_a_kernel_that_cannot'"
    found = host.ran(f"cd {CHECKOUT} && PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=_utils {BIN}/python {options} {path}", timeout=SECONDS)
    if found.code or " skipped" in found.output.strip().splitlines()[-1]:
        raise LabError(found.output)


@pytest.mark.timeout(SECONDS + 60)
def test_unit_tests_of_the_device_mapper_pass_in_a_guest(lab: Lab, verified: Verified) -> None:
    host = lab.consumers[0]
    host.run(f"modprobe -a {' '.join(MODULES)}")
    # The guest's own services have no part in it: they look at each device that comes.
    services = ["salt-minion"] + [
        name for name in ("multipathd.socket", "multipathd.service") if host.ran(f"systemctl -q is-active {name}").code == 0
    ]
    host.run(f"systemctl stop {' '.join(services)}")
    try:
        with verified("LVM", "local", "unit tests of thick volumes that are set back to a snapshot"):
            run_tests(host, "tests/unit/controller/cinder/test_lvm_thick.py")
        with verified("file", "local; LUKS2", "unit tests of encrypted volumes"):
            run_tests(host, "tests/unit/plans/test_encrypted.py")
    finally:
        host.run(f"systemctl start {' '.join(reversed(services))}")
