"""G10: operations that are repeated after an error, and those that never are."""

import pytest

from saltstorage import errors
from saltstorage.flow import flow
from saltstorage.flow.flow import Flow


class Controller:
    """A controller that fails so many times with an error, and counts."""

    def __init__(self, error, times):
        self.error, self.times, self.asked = error, times, 0

    def call(self, op, args, timeout=None):
        self.asked += 1
        if self.asked <= self.times:
            raise self.error
        empty = {"volumes": [], "snapshots": [], "connections": [], "fenced": [], "backends": {}, "types": {}, "retain": True}
        return {**empty, "default_backend": None, "time": 0.0, "more": None}


@pytest.fixture
def asked(monkeypatch):
    monkeypatch.setattr(flow, "RETRY_DELAYS", (0, 0))

    def ask(error, times):
        subject = Flow({"id": "web1"}, {})
        subject.controller = Controller(error, times)
        try:
            subject.inventory()
        except errors.StorageError:
            return subject.controller.asked, False
        return subject.controller.asked, True

    return ask


@pytest.mark.parametrize("code", errors.BY_CODE)
def test_g10_only_a_temporary_error_is_asked_for_again(asked, code):
    error = errors.from_wire({"code": code, "message": "no"})
    again = code in ("ABORTED", "UNAVAILABLE", "RESOURCE_EXHAUSTED")
    assert asked(error, 1) == ((2, True) if again else (1, False))
    assert asked(error, 9) == ((3, False) if again else (1, False))


def test_g10_that_nobody_answers_is_told_at_once(asked):
    assert asked(errors.UnavailableError("no storage controller answers"), 9) == (1, False)
