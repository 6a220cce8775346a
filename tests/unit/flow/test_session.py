"""The choice of the way to the controller, and the settings of the client."""

from __future__ import annotations

from typing import Any

import pytest

from saltstorage.bus.client import BusClient
from saltstorage.errors import FailedPreconditionError, InternalError, InvalidArgumentError, NotFoundError
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


class Service:
    def __init__(self, opts: dict[str, Any]) -> None:
        self.started = 0

    def start(self, *, patience: float) -> None:
        self.started += 1

    def close(self) -> None:
        self.started = 0

    def execute(self, op: str, args: dict[str, Any], caller: str) -> dict[str, Any]:
        if op == "missing":
            raise NotFoundError("no")
        if op == "fault":
            raise RuntimeError("MARKER")
        return {"args": args, "caller": caller, "started": self.started, "pair": (1, 2)}


def test_the_controller_in_process_behaves_like_the_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    module = types.ModuleType("saltstorage.controller.service")
    module.Service = Service  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    context: dict[str, Any] = {}
    opts = {"id": "alpha", "file_client": "local"}
    for _ in range(2):
        found = controller_for(opts, context, answer_timeout=10).call("echo", {"x": (1,)})
        assert found == {"args": {"x": [1]}, "caller": "alpha", "started": 1, "pair": [1, 2]}
    with pytest.raises(NotFoundError):
        controller_for(opts, context, answer_timeout=10).call("missing", {})
    with pytest.raises(InternalError) as caught:
        controller_for(opts, context, answer_timeout=10).call("fault", {})
    assert "MARKER" not in str(caught.value)
    with pytest.raises(InvalidArgumentError):
        controller_for(opts, context, answer_timeout=10).call("echo", {"x": object()})
