"""Several faults of pillar in one error, so that one apply shows all of them."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import InvalidArgumentError


def gather(*checks: Callable[[], object]) -> None:
    """Make all checks, and raise what they found as one error.

    :param checks: functions that raise :class:`InvalidArgumentError`. An error that another check
        raised already is left out.
    :raises InvalidArgumentError: with the messages of all, and the field of the first.
    """
    found: dict[str, InvalidArgumentError] = {}
    for check in checks:
        try:
            check()
        except InvalidArgumentError as error:
            found.setdefault(error.message, error)
    if found:
        first = next(iter(found.values()))
        raise InvalidArgumentError(". Also: ".join(found), field=first.field)
