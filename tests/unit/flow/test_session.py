"""The choice of the way to the controller, and the settings of the client."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from saltstorage.bus.client import BusClient
from saltstorage.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from saltstorage.flow.flow import Flow
from saltstorage.flow.session import LocalController, controller_for


@pytest.mark.parametrize(
    ("opts", "kind"),
    [
        ({}, BusClient),
        ({"file_client": "remote"}, BusClient),
        ({"file_client": "local"}, LocalController),
        ({"local": True}, LocalController),
        ({"master_type": "disable"}, LocalController),
        ({"file_client": "local", "use_master_when_local": True}, BusClient),
    ],
)
def test_the_options_choose_between_bus_and_process(opts: dict[str, Any], kind: type) -> None:
    assert type(controller_for({"id": "alpha", **opts}, {}, answer_timeout=10)) is kind


def test_the_client_waits_as_long_as_the_consumer_is_configured_to(minion_opts: dict[str, Any]) -> None:
    minion_opts["storage"] = {"consumer": {"answer_timeout": 7}}
    client = Flow(minion_opts, {}).controller
    assert isinstance(client, BusClient)
    assert client.answer_timeout == 7


def test_no_minion_daemon(minion_opts: dict[str, Any]) -> None:
    with pytest.raises(FailedPreconditionError, match="no salt-minion daemon"):
        BusClient(minion_opts, {}, answer_timeout=10).call("inventory", {})


@pytest.fixture
def masterless(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "volumes").mkdir()
    backend = {"volume_driver": "saltstorage.drivers.file.FileDriver", "file_driver_path": str(tmp_path / "volumes")}
    return {"id": "alpha", "file_client": "local", "storage": {"state_dir": str(tmp_path / "state"), "backends": {"local": backend}}}


@pytest.mark.slow
def test_the_controller_of_a_masterless_job_is_one_child_of_it(masterless: dict[str, Any]) -> None:
    context: dict[str, Any] = {}

    def call(op: str, **args: Any) -> dict[str, Any]:
        return controller_for(masterless, context, answer_timeout=10).call(op, args)

    assert call("inventory")["volumes"] == []
    [(pid, child)] = context.values()
    assert pid == os.getpid() != child.process.pid
    assert call("create", name="data", size=1)["volume"]["owner"] == "alpha"
    with pytest.raises(NotFoundError):
        call("extend", name="none", size=2)
    with pytest.raises(InvalidArgumentError, match="not plain data"):
        call("create", name=object())
    assert [kept[1] for kept in context.values()] == [child]
    child.process.kill()
    child.process.wait()
    assert [volume["name"] for volume in call("inventory")["volumes"]] == ["data"]
    for _, kept in context.values():
        kept.stop()
