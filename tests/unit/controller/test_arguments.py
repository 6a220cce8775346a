"""Arguments of operations: decoded once, by the names of the parameters."""

from __future__ import annotations

import inspect

import pytest

from saltstorage.controller.arguments import decode
from saltstorage.errors import InvalidArgumentError
from saltstorage.spec import PARAMETERS, VolumeSpec

#: A right value for each parameter of any operation.
VALUES = {
    **dict.fromkeys(("name", "owner", "host", "volume", "volume_id", "id", "series"), "data"),
    **dict.fromkeys(("read_only", "mounts", "encrypted", "encryption", "frozen", "fenced", "confirm"), True),
    **dict.fromkeys(("resize", "protected", "retain"), True),
    **dict.fromkeys(("backend", "pool", "type", "description"), "gold"),
    "labels": {"env": "prod"},
    "source": {"volume": "origin"},
    "after": ["anything"],
    "connector": {"host": "web1"},
    "create": {"size": 1},
    "requests": [{"op": "delete", "args": {"name": "data"}}],
    "size": "2GiB",
    "until": 10,
}


def parameters(service, op):
    """The parameters of an operation, as the refusal of an unknown one lists them."""
    with pytest.raises(InvalidArgumentError) as caught:
        decode(op, service.operations[op], {"#": 1})
    return caught.value.message.rpartition("known: ")[2].split(", ")


def test_every_parameter_of_every_operation_is_decoded(service):
    for op, operation in service.operations.items():
        given = {name: VALUES[name] for name in parameters(service, op)}
        decoded = decode(op, operation, given)
        assert decoded.keys() == set(inspect.signature(operation).parameters) - {"caller"}, op


def test_a_specification_and_a_nested_one_are_decoded_alike(service):
    wanted = {"size": "1GiB", "labels": {"env": "prod"}}
    flat = decode("create", service.operations["create"], {"name": "data", **wanted})
    nested = decode("connect", service.operations["connect"], {"name": "data", "connector": {}, "create": wanted})
    assert flat["spec"] == nested["create"] == VolumeSpec(size=1, attributes={"labels": {"env": "prod"}})
    assert set(PARAMETERS) < set(parameters(service, "create"))


@pytest.mark.parametrize(
    ("op", "given", "field"),
    [
        ("create", {"size": 1}, "name"),
        ("create", {"name": "data"}, "size"),
        ("create", {"name": "data", "size": 1, "resize": None}, "resize"),
        ("connect", {"name": "data"}, "connector"),
        ("connect", {"name": "data", "connector": {}, "create": {"size": 1, "name": "data"}}, "name"),
        ("connect", {"name": "data", "connector": {}, "read_only": "no"}, "read_only"),
        ("extend", {"name": "data", "size": 0}, "size"),
        ("disconnect", {"name": "data", "host": "a/b"}, "host"),
        ("snapshot_create", {"name": "cut", "volume": 7}, "volume"),
        ("delete", {"name": "data", "caller": "db1"}, "caller"),
    ],
)
def test_a_wrong_argument_is_named(service, op, given, field):
    with pytest.raises(InvalidArgumentError) as caught:
        decode(op, service.operations[op], given)
    assert caught.value.field == field


def test_an_argument_that_is_none_counts_as_left_out_where_none_is_the_default(service):
    given = {"name": "data", "owner": None, "retain": None}
    assert decode("delete", service.operations["delete"], given) == {"name": "data"}
