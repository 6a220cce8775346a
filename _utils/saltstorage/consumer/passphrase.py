"""References to the passphrases of volumes, and reading them.

A passphrase is never given as a value.  Many can see the parameters of states and functions:
``state.show_low``, the arguments of a job in the master's job cache, debug logs. So a parameter
holds only where the passphrase is, and this host reads the passphrase at the moment when it is
needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import FailedPreconditionError, InvalidArgumentError

#: Returns the passphrase that a reference leads to: ``reader(reference, name of the volume)``.
Reader = Callable[[str, str], bytes]

_SDB, _PILLAR = "sdb://", "pillar://"
#: Default place of passphrases in pillar, keyed by the volume's name.
_DEFAULT = ("storage", "passphrases")
#: Limit of cryptsetup for a typed passphrase: it must be usable by hand, too.
_LONGEST = 512


def check(value: Any, name: str) -> str:
    """Return the reference to a volume's passphrase.

    :param value: ``sdb://PROFILE/KEY``; ``pillar://KEY:KEY``; None for the pillar
        ``storage:passphrases:<name>``.
    :param name: name of the volume.
    :raises InvalidArgumentError: it is something else. The message does not show it: it may be a
        passphrase.

    >>> check("sdb://vault/secret/data", "data")
    'sdb://vault/secret/data'
    """
    if value is None:
        return f"{_PILLAR}{':'.join((*_DEFAULT, name))}"
    if not isinstance(value, str) or not value.startswith((_SDB, _PILLAR)) or not value.isprintable():
        raise InvalidArgumentError(
            "passphrase must say where the passphrase is (sdb://PROFILE/KEY or pillar://KEY:KEY), and never be one; it is not shown here."
            " If it is one, it may be in the job cache by now: use another",
            field="passphrase",
        )
    return value


def reader(opts: Mapping[str, Any]) -> Reader:
    """Return a reader of passphrases for a minion with these options."""
    return lambda reference, name: read(reference, opts, name)


def direct(reference: str, opts: Mapping[str, Any], name: str) -> str:
    """Return the most direct reference: the ``sdb://`` reference, when pillar holds one."""
    if reference.startswith(_PILLAR):
        found = _in_pillar(reference, opts, name)
        if isinstance(found, str) and found.startswith(_SDB):
            return found
    return reference


def read(reference: str, opts: Mapping[str, Any], name: str) -> bytes:
    """Return the passphrase that a reference leads to, without a line end.

    :param reference: a reference that :func:`check` returned.
    :param opts: the minion's options, with its pillar and the profiles of sdb.
    :param name: name of the volume.
    :raises FailedPreconditionError: there is no value, or it cannot be a passphrase; the value is
        not shown.
    """
    reference = direct(reference, opts, name)
    value = _in_pillar(reference, opts, name) if reference.startswith(_PILLAR) else _in_sdb(reference, opts, name)
    if value is None or value == "":
        raise FailedPreconditionError(
            f"the passphrase of volume {name!r} is not at {reference} on this minion; put it there, or say in `passphrase` where it is",
            field="passphrase",
        )
    data = value.rstrip("\r\n").encode("utf-8", "surrogateescape") if isinstance(value, str) else b""
    if not data or len(data) > _LONGEST or b"\n" in data or b"\0" in data:
        raise FailedPreconditionError(
            f"the value at {reference} for volume {name!r} is no passphrase: one line of 1 to {_LONGEST} bytes",
            field="passphrase",
        )
    return data


def _in_pillar(reference: str, opts: Mapping[str, Any], name: str) -> Any:
    # The name of a volume may hold the separator.
    default = reference == check(None, name)
    keys = (*_DEFAULT, name) if default else reference.removeprefix(_PILLAR).split(":")
    found: Any = opts.get("pillar")
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _in_sdb(reference: str, opts: Mapping[str, Any], name: str) -> Any:
    import salt.utils.sdb

    try:
        return salt.utils.sdb.sdb_get(reference, opts, strict=True)
    except Exception as error:  # a driver may raise anything, and its text may quote the passphrase
        raise FailedPreconditionError(
            f"the passphrase of volume {name!r} cannot be read from {reference} on this minion ({type(error).__name__});"
            f" try: salt-call sdb.get {reference}",
            field="passphrase",
        ) from None
