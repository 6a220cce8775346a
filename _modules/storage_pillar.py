"""Pillar of the formula, checked and turned into states. The SLS files call this; see :doc:`/how-to/pillar`."""

from __future__ import annotations

from typing import Any

from saltstorage import pillar as _pillar

__virtualname__ = "storage_pillar"


def volumes() -> dict[str, Any]:
    """Return the states for the volumes in this minion's pillar ``storage:volumes``, as an SLS renders them.

    Changes nothing and asks no controller. Useful to see what ``state.apply storage.volumes`` would run. A wrong entry is
    returned as a state that fails with INVALID_ARGUMENT.

    :returns: states by their id.

    CLI Example:

    .. code-block:: bash

        salt db1 storage_pillar.volumes

    .. versionadded:: 1.0.0
    """
    return _pillar.volume_states(__pillar__.get("storage"))  # type: ignore[name-defined]  # noqa: F821


def controller_problem() -> str:
    """Return why this minion's pillar ``storage:controller`` is no usable configuration, or an empty string.

    Changes nothing. Options of drivers are not checked here: the controller does that when it loads the backend.

    :returns: the error, beginning with its code, such as ``INVALID_ARGUMENT: storage:backends must be a mapping, not list``.

    CLI Example:

    .. code-block:: bash

        salt master1 storage_pillar.controller_problem

    .. versionadded:: 1.0.0
    """
    return _pillar.controller_problem(__pillar__.get("storage"))  # type: ignore[name-defined]  # noqa: F821
