"""Two versions that meet at the socket."""

from __future__ import annotations

import logging

import pytest

from saltstorage import builds
from saltstorage.controller.process import Process
from saltstorage.errors import FailedPreconditionError
from saltstorage.link import starting


@pytest.fixture
def hello() -> dict:
    return Process("child").hello()


def test_the_same_code_is_no_news(hello: dict, caplog: pytest.LogCaptureFixture) -> None:
    assert (hello["version"], hello["build"]) == (builds.VERSION, builds.own())
    starting.check(hello)
    assert caplog.records == []


def test_other_code_is_told_and_goes_on(hello: dict, caplog: pytest.LogCaptureFixture) -> None:
    starting.check({**hello, "build": "0" * 12})
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "storage.versions" in record.message


@pytest.mark.parametrize("said", [{"protocol": 2, "version": "9.0.0"}, {}])
def test_a_controller_of_another_protocol_is_refused_with_the_step_to_take(hello: dict, said: dict) -> None:
    with pytest.raises(FailedPreconditionError, match="apply storage.controller on the master's host"):
        starting.check(said and {**hello, **said})
