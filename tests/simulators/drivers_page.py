"""The page of the documentation that lists all drivers, made from the installed Cinder:
``python -m tests.simulators.drivers_page``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saltstorage.controller.cinder.drivers_list import list_drivers

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "drivers.rst"
#: Drivers whose data paths the lab or the tests use for real: docs/verified.rst has the operations.
REAL = {
    "cinder.volume.drivers.lvm.LVMVolumeDriver",
    "cinder.volume.drivers.nfs.NfsDriver",
    "cinder.volume.drivers.rbd.RBDDriver",
    "saltstorage.drivers.file.FileDriver",
    "saltstorage.drivers.file_iscsi.FileISCSIDriver",
    "saltstorage.drivers.lvm_iscsi.LVMISCSIDriver",
}
#: Drivers that the conformance suite runs against a simulator.
SIMULATOR = {
    "cinder.volume.drivers.ibm.storwize_svc.storwize_svc_fc.StorwizeSVCFCDriver",
    "cinder.volume.drivers.ibm.storwize_svc.storwize_svc_iscsi.StorwizeSVCISCSIDriver",
    "cinder.volume.drivers.solidfire.SolidFireDriver",
}

HEAD = """\
Drivers
=======

Made by ``python -m tests.simulators.drivers_page`` from the installed Cinder; do not edit. There
are {all} drivers: {loads} can be imported in the locked environment, {simulator} run against a
simulator of their array, and {real} with real data paths.

* **real**: volumes were created, attached, written to and removed. :doc:`../verified` has the
  operations.
* **simulator**: the conformance suite runs the driver's own code against a program that answers
  as the array does. The driver's logic and this project's part are shown; the array and the path
  of the data are not. The simulators of Storwize know neither QoS nor a volume's way back to a
  snapshot, so these two were not run with it.
* **imports**: the driver's code can be imported, and its options can be listed. Nothing else was
  run here; a driver may need a package of its vendor besides.
* **fails**: its code cannot be imported.

.. list-table::
   :header-rows: 1
   :widths: 75 10 15

   * - Driver
     - Protocol
     - Shown
"""


def text(drivers: list[dict[str, Any]]) -> str:
    """Return the page.

    :param drivers: as :func:`list_drivers` returns them.
    """
    shown = {driver["class"]: _shown(driver) for driver in drivers}
    counts = {kind: list(shown.values()).count(kind) for kind in ("real", "simulator", "fails")}
    head = HEAD.format(all=len(shown), loads=len(shown) - counts["fails"], simulator=counts["simulator"], real=counts["real"])
    rows = [
        f"   * - {driver['class']}\n     - {driver['protocol'] or 'by option'}\n     - {shown[driver['class']]}\n" for driver in drivers
    ]
    return head + "".join(rows)


def _shown(driver: dict[str, Any]) -> str:
    if driver["class"] in REAL:
        return "real"
    if driver["class"] in SIMULATOR:
        return "simulator"
    return "fails" if driver["error"] else "imports"


if __name__ == "__main__":
    PAGE.write_text(text(list_drivers(options=False)))
