"""The calls of the administrator, by name."""

from __future__ import annotations

import pytest

from saltstorage.controller import desk
from saltstorage.errors import InvalidArgumentError, NotFoundError


def test_rows_of_which_one_failed_are_a_failure():
    good = {"name": "a", "id": "1", "error": None, "code": None}
    assert desk.complete([good], "findings") == [good]
    bad = {"name": "", "id": "2", "error": "NOT_FOUND: gone", "code": "NOT_FOUND"}
    with pytest.raises(NotFoundError, match=r"^NOT_FOUND: 1 of 2 findings failed: 2: NOT_FOUND: gone$") as raised:
        desk.complete([good, bad], "findings")
    assert raised.value.details == {"rows": [good, bad]}


def test_a_call_is_known_by_its_name_and_arguments(service):
    assert [row["name"] for row in desk.call(service, "backends", {})] == list(service.config.backends)
    with pytest.raises(InvalidArgumentError, match="no call 'close'"):
        desk.call(service, "close", {})
    with pytest.raises(InvalidArgumentError, match="volume: missing a required argument: 'owner'"):
        desk.call(service, "volume", {"name": "data"})
    with pytest.raises(NotFoundError, match="there is no volume 'data' of db1"):
        desk.call(service, "volume", {"name": "data", "owner": "db1"})


@pytest.mark.parametrize("args", [{"name": "", "option": True}, {"nam": ""}, {"name": "", "options": True, "more": 1}])
def test_wrong_arguments_of_the_list_of_drivers_are_named(args):
    with pytest.raises(InvalidArgumentError, match="drivers: "):
        desk.drivers(args)
