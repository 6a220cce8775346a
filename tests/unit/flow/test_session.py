"""Which way to the controller is taken, and the settings of the client."""

from __future__ import annotations

from typing import Any

import pytest

from saltstorage.bus.client import BusClient
from saltstorage.errors import FailedPreconditionError, InternalError, InvalidArgumentError, NotFoundError
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
def test_the_way(opts: dict[str, Any], kind: type) -> None:
    assert type(controller_for({"id": "alpha", **opts}, {})) is kind


@pytest.mark.parametrize("value", [0, -1, "10", True, []])
def test_answer_timeout_is_checked(value: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        BusClient({"id": "alpha", "storage": {"consumer": {"answer_timeout": value}}})
    assert caught.value.field == "storage:consumer:answer_timeout"


def test_no_minion_daemon(minion_opts: dict[str, Any]) -> None:
    with pytest.raises(FailedPreconditionError, match="no salt-minion daemon"):
        BusClient(minion_opts, {}).call("inventory", {})


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


def test_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    module = types.ModuleType("saltstorage.controller.service")
    module.Service = Service  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    context: dict[str, Any] = {}
    opts = {"id": "alpha", "file_client": "local"}
    for _ in range(2):
        found = controller_for(opts, context).call("echo", {"x": (1,)})
        assert found == {"args": {"x": [1]}, "caller": "alpha", "started": 1, "pair": [1, 2]}
    with pytest.raises(NotFoundError):
        controller_for(opts, context).call("missing", {})
    with pytest.raises(InternalError) as caught:
        controller_for(opts, context).call("fault", {})
    assert "MARKER" not in str(caught.value)
    with pytest.raises(InvalidArgumentError):
        controller_for(opts, context).call("echo", {"x": object()})
