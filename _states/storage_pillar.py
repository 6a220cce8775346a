"""The state that a wrong entry in pillar becomes."""

from __future__ import annotations

from typing import Any

__virtualname__ = "storage_pillar"


def invalid(name: str, comment: str) -> dict[str, Any]:
    """Fail, with the reason why an entry in pillar cannot be used, and change nothing.

    The formula's SLS files render this; there is no use for it elsewhere.

    :param name: where the entry stands in pillar.
    :param comment: the error, beginning with its code.
    :returns: the state's result; ``result`` is always False, in test mode too.

    .. code-block:: yaml

        storage-volumes-invalid:
          storage_pillar.invalid:
            - name: storage:volumes
            - comment: 'INVALID_ARGUMENT: storage:volumes must be a mapping of names, not list'

    .. versionadded:: 1.0.0
    """
    return {"name": name, "changes": {}, "result": False, "comment": comment}
