"""Several requests that travel as one."""

import pytest

from saltstorage import errors
from saltstorage.validate import MAX_TOGETHER


def together(service, *requests):
    given = [{"op": op, "args": args} for op, args in requests]
    return service.execute("together", {"requests": given}, "web1")["replies"]


def test_each_is_done_for_itself_and_in_order(service, files):
    replies = together(
        service,
        ("create", {"name": "a", "size": 1}),
        ("create", {"name": "b", "size": 0}),
        ("create", {"name": "c", "size": 1, "source": {"volume": "a"}}),
        ("delete", {"name": "a"}),
    )
    assert replies[0]["data"]["volume"]["name"] == "a"
    assert (replies[1]["error"]["code"], replies[1]["error"]["field"]) == ("INVALID_ARGUMENT", "size")
    assert replies[2]["data"]["volume"]["source"]["name"] == "a"
    assert replies[3]["data"]["old"]["name"] == "a"
    assert len(files()) == 1


def test_the_caller_is_who_asked(service):
    (reply,) = together(service, ("create", {"name": "a", "size": 1, "owner": "db1"}))
    assert reply["error"]["code"] == "PERMISSION_DENIED"


@pytest.mark.parametrize("op", ["inventory", "together", "no_such", None, []])
def test_only_operations_that_states_send_can_travel_together(service, op):
    (reply,) = together(service, (op, {}))
    assert (reply["error"]["code"], reply["error"]["field"]) == ("INVALID_ARGUMENT", "op")


@pytest.mark.parametrize("requests", [None, {}, "x", [1], [{"op": "create"}], [{"op": "create", "args": {}, "more": 1}]])
def test_malformed_requests_are_refused(service, requests):
    with pytest.raises(errors.InvalidArgumentError) as caught:
        service.execute("together", {"requests": requests}, "web1")
    assert caught.value.field == "requests"


def test_too_many_at_once(service):
    """The bound is the controller's too: none of them is carried out."""
    with pytest.raises(errors.InvalidArgumentError) as caught:
        together(service, *(("create", {"name": f"v{number}", "size": 1}) for number in range(MAX_TOGETHER + 1)))
    assert caught.value.field == "requests"
    assert service.catalog.volumes() == []
    assert len(together(service, *[("delete", {"name": "none"})] * MAX_TOGETHER)) == MAX_TOGETHER


def test_arguments_that_are_none(service):
    (reply,) = together(service, ("create", []))
    assert reply["error"]["code"] == "INVALID_ARGUMENT"
