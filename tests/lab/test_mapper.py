"""The unit tests of encrypted volumes, which need a device mapper, in a guest: not every machine that runs the tests has one."""

from __future__ import annotations

import pytest

from .guest import BIN, CHECKOUT, LabError
from .lab import Lab
from .verified import Verified

pytestmark = pytest.mark.long
#: A guest's kernel finds its modules only when they are loaded within the guest; dm-crypt does not start without the first two.
MODULES = ("cbc", "aes_ti", "xts", "dm-crypt", "loop")
SECONDS = 2400


@pytest.mark.timeout(SECONDS + 60)
def test_encrypted_volumes(lab: Lab, verified: Verified) -> None:
    host = lab.consumers[0]
    host.run(f"modprobe -a {' '.join(MODULES)}")
    # The guest's own services have no part in it: they look at each device that comes.
    services = ["salt-minion"] + [
        name for name in ("multipathd.socket", "multipathd.service") if host.ran(f"systemctl -q is-active {name}").code == 0
    ]
    host.run(f"systemctl stop {' '.join(services)}")
    try:
        with verified("file", "local; LUKS2", "unit tests of encrypted volumes"):
            tests = "-m pytest -q -p no:cacheprovider -o timeout=200 --show-capture=no tests/unit/flow/test_encrypted.py"
            found = host.ran(f"cd {CHECKOUT} && PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=_utils {BIN}/python {tests}", timeout=SECONDS)
            if found.code:
                raise LabError(found.output)
    finally:
        host.run(f"systemctl start {' '.join(reversed(services))}")
