"""
More of the module ``storage``: the administrator's operations on a minion without a master.

.. versionadded:: 1.0.0
"""

from saltstorage.runner import masterless

__virtualname__ = "storage"


def __virtual__():
    return __virtualname__


def admin(function, *args, **kwargs):
    """
    Carry out an operation of the runner ``storage`` on a minion without a master.

    For ``salt-run storage.check`` in documentation or a message, type ``salt-call --local
    storage.admin check``. Every function of the runner is there, with the same arguments and the
    same answer. An operation that fails ends with an exit code other than 0.

    function
        Name of the operation, such as ``check``, ``volumes`` or ``manage``.

    Needs root, and the folder ``_runners`` of the formula in ``file_roots``. Fails with
    FAILED_PRECONDITION on a minion that has a master.

    CLI Example:

    .. code-block:: bash

        salt-call --local storage.admin check
        salt-call --local storage.admin manage data owner=db1 reference=old-lv backend=lvm
        salt-call --local storage.admin volumes labels='env=prod' --out=json
    """
    given = {key: value for key, value in kwargs.items() if not key.startswith("__")}
    return masterless.call(__opts__, function, args, given)
