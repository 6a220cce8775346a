"""Backends of vendors' drivers, each with the simulator of its array, for the conformance suite."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import pytest

from saltstorage.controller.access.config import TypeEntry
from saltstorage.providers import Capability
from tests.conformance.backend import Backend

from . import solidfire as solidfire_array
from .extract import take
from .ssh import SSHArray

_STORWIZE = "cinder.volume.drivers.ibm.storwize_svc"
_INSTORAGE = "cinder.volume.drivers.inspur.instorage"
#: Neither simulator knows the command by which QoS is set (chvdisk -rate).
_THIN = (TypeEntry(name="thin", extra_specs={"drivers:rsize": "2", "drivers:autoexpand": "True"}),)


@contextmanager
def storwize(driver: str) -> Iterator[Backend]:
    """Yield a backend on the simulator of an IBM Storwize that Cinder has for its own tests.

    :param driver: module and class below Cinder's package of the Storwize drivers.
    """
    found = take("ibm/test_storwize_svc.py", "StorwizeSVCManagementSimulator")
    simulator = found["StorwizeSVCManagementSimulator"](["openstack"])
    from cinder.volume.drivers.ibm.storwize_svc import storwize_svc_common as common

    with pytest.MonkeyPatch.context() as patch:
        in_no_time(patch, common.StorwizeHelpers, "check_fcmapping_interval")
        yield Backend(
            "cinderlib",
            {"volume_driver": f"{_STORWIZE}.{driver}", "storwize_svc_volpool_name": ["openstack"], **shell(simulator)},
            types=_THIN,
            limits={Capability.REVERT: "does not know prestartfcmap -restore"},
            contents=partial(_names, simulator, "volumes", "hosts", "mappings", "fcmappings"),
        )


@contextmanager
def instorage(driver: str) -> Iterator[Backend]:
    """Yield a backend on the simulator of an Inspur InStorage, likewise.

    It is not in :data:`SIMULATED` while the provider refuses the options of these drivers, which
    register them outside of the group that all backends share.
    """
    simulator = take("inspur/instorage/fakes.py", "FakeInStorage")["FakeInStorage"](["openstack"])
    from cinder.volume.drivers.inspur.instorage import instorage_common as common

    with pytest.MonkeyPatch.context() as patch:
        in_no_time(patch, common.InStorageAssistant, "check_lcmapping_interval")
        yield Backend(
            "cinderlib",
            {
                "volume_driver": f"{_INSTORAGE}.{driver}",
                "instorage_mcs_volpool_name": ["openstack"],
                # The simulator takes the host's name for its secret.
                **({"instorage_mcs_iscsi_chap_enabled": False} if "iscsi" in driver else {}),
                **shell(simulator),
            },
            types=_THIN,
            contents=partial(_names, simulator, "volumes", "hosts", "mappings", "lcmappings"),
        )


@contextmanager
def solidfire() -> Iterator[Backend]:
    """Yield a backend on the SolidFire cluster of this folder."""
    cluster = solidfire_array.Cluster()
    server = solidfire_array.serve(cluster)
    with pytest.MonkeyPatch.context() as patch, contextlib.closing(server):
        # The driver reads all of the system's certificates for each request, which takes longer
        # than the request, and then does not use them.
        patch.setenv("SSL_CERT_FILE", os.devnull)
        yield Backend(
            "cinderlib",
            solidfire_options(server.port),
            types=[
                TypeEntry(name="qos", qos_specs={"minIOPS": "200", "maxIOPS": "400", "burstIOPS": "500"}),
                TypeEntry(name="extra", extra_specs={"SFAttribute:owner": "me", "minIOPS": "100", "maxIOPS": "300", "burstIOPS": "300"}),
            ],
            refused=[TypeEntry(name="upside down", qos_specs={"minIOPS": "900", "maxIOPS": "400", "burstIOPS": "500"})],
            contents=cluster.contents,
        )


def solidfire_options(port: int) -> dict[str, Any]:
    """Return Cinder's options to reach a SolidFire cluster of this folder."""
    return {
        "volume_driver": "cinder.volume.drivers.solidfire.SolidFireDriver",
        "san_ip": "127.0.0.1",
        "sf_api_port": port,
        "san_login": solidfire_array.Cluster.LOGIN,
        "san_password": solidfire_array.Cluster.PASSWORD,
    }


def shell(simulator: Any) -> dict[str, Any]:
    """Serve the commands of one of Cinder's simulators over SSH.

    :return: Cinder's options to reach it.
    """
    from cinder import exception

    def run(words: list[str]) -> tuple[str, str]:
        try:
            out, error = simulator.execute_command(words, check_exit_code=False)
        except (AttributeError, exception.CinderException) as fault:
            # As an older array would: the simulators know some commands and arguments only.
            return "", f"CMMVC5709E {words} is not known: {fault}"
        return str(out), str(error)

    array = SSHArray(run)
    return {"san_ip": "127.0.0.1", "san_ssh_port": array.port, "san_login": array.LOGIN, "san_password": array.PASSWORD}


def in_no_time(patch: pytest.MonkeyPatch, cls: type[Any], interval: str) -> None:
    """Take the waiting from a driver that asks again every few seconds: nothing takes time here.

    :param interval: the attribute that each object of the class sets.
    """
    patch.setattr(cls, interval, property(lambda _self: 0, lambda _self, _value: None), raising=False)


def _names(simulator: Any, *kinds: str) -> set[str]:
    return {f"{kind}: {name}" for kind in kinds for name in getattr(simulator, f"_{kind}_list")}


#: By the names of the suite's backends.
SIMULATED: dict[str, Callable[[], AbstractContextManager[Backend]]] = {
    "storwize-iscsi": partial(storwize, "storwize_svc_iscsi.StorwizeSVCISCSIDriver"),
    "storwize-fc": partial(storwize, "storwize_svc_fc.StorwizeSVCFCDriver"),
    "solidfire": solidfire,
}
