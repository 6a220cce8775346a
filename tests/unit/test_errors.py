"""Errors as data: they cross the bus whole, and each class says whether the outcome is known."""

import pytest

from saltstorage import errors

UNKNOWN = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL"}


@pytest.mark.parametrize("code", errors.BY_CODE)
def test_an_error_crosses_the_bus_whole_and_counts_as_answered(code):
    error = errors.BY_CODE[code]("no room", field="size", details={"free": 1})
    arrived = errors.from_wire(error.to_wire())
    assert (type(arrived), arrived.to_wire()) == (type(error), error.to_wire())
    assert (error.answered, arrived.answered) == (False, True)


def test_a_code_of_a_newer_controller_becomes_an_internal_error_that_names_it():
    arrived = errors.from_wire({"code": "TEAPOT", "message": "short", "field": 7, "details": []})
    assert (str(arrived), arrived.field, arrived.details) == ("INTERNAL: TEAPOT: short", None, {})


@pytest.mark.parametrize("code", errors.BY_CODE)
def test_the_outcome_is_unknown_where_the_operation_may_have_been_carried_out(code):
    assert errors.BY_CODE[code].final is (code not in UNKNOWN)
