"""The engine's answers while the controller cannot start."""

from __future__ import annotations

import pytest

from saltstorage.bus import engine
from saltstorage.errors import FailedPreconditionError, InternalError, InvalidArgumentError, StorageError, UnavailableError


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        (UnavailableError("the database does not answer"), UnavailableError),
        (FailedPreconditionError("the catalog cannot be written"), FailedPreconditionError),
        (InvalidArgumentError("wrong", field="storage:database"), FailedPreconditionError),
        (InternalError("x"), FailedPreconditionError),
    ],
)
def test_a_fault_that_may_pass_is_no_refusal_of_the_request(fault: StorageError, answer: type[StorageError]) -> None:
    """An earlier life of the engine may have carried the request out, so its outcome is not
    known.
    """
    with pytest.raises(StorageError, match="could not start") as caught:
        engine._refuse_all(fault)("create", {}, "alpha")
    assert type(caught.value) is answer
    assert caught.value.field == fault.field
