"""A controller and os-brick in the process of the test, where a test reaches into them to make
them fail at a chosen step. The processes that users have are tested in ``tests/unit/link``,
``tests/functional`` and ``tests/integration``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping
from typing import Any

import pytest

from saltstorage.consumer import localhost
from saltstorage.consumer.connectors.brick import Brick
from saltstorage.controller.operations.backends import LOAD_TIMEOUT
from saltstorage.controller.service import Service
from saltstorage.errors import from_wire
from saltstorage.faults import as_storage_error
from saltstorage.flow import session
from saltstorage.progress import Heartbeat, on_terminal

#: Where a minion's context has its service.
KEY = "tests.service"
_STARTED = "tests.service.started"


class InProcess:
    """Does the same as :class:`saltstorage.flow.session.LocalController`, without a process of its
    own.
    """

    def __init__(self, opts: Mapping[str, Any], context: MutableMapping[str, Any] | None = None) -> None:
        self._opts = opts
        self._context: MutableMapping[str, Any] = {} if context is None else context

    def call(self, op: str, args: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """Carry out ``op`` and return its result."""
        plain = json.loads(json.dumps(dict(args), allow_nan=False))
        try:
            service = self._service(start=op != "inventory")
            with Heartbeat(on_terminal).operation(op, self._opts["id"], plain):
                return dict(json.loads(json.dumps(service.execute(op, plain, self._opts["id"]))))
        except Exception as exc:
            raise from_wire(as_storage_error(exc, f"operation {op}").to_wire()) from None

    def _service(self, *, start: bool) -> Service:
        service: Service | None = self._context.get(KEY)
        if service is None:
            service = self._context[KEY] = Service(self._opts)
        if start and not self._context.get(_STARTED):
            service.start(patience=LOAD_TIMEOUT)
            self._context[_STARTED] = True
        return service


def use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let masterless minions have both in this process."""
    monkeypatch.setattr(session, "LocalController", InProcess)
    monkeypatch.setattr(localhost, "Remote", Brick)
