"""
The formula's code on a master, and whether its controller is in use.

.. versionadded:: 1.0.0
"""

from saltstorage.errors import StorageError

__virtualname__ = "storage_controller"


def __virtual__():
    return __virtualname__


def synced(name):
    """
    Make sure that the master has the same code of the formula as this minion on its host.

    name
        For the report; any.

    .. code-block:: yaml

        master:
          storage_controller.synced
    """
    result = {"name": name, "changes": {}, "result": True, "comment": "The master has the formula's code"}
    try:
        if not __salt__["storage_controller.outdated"]():
            return result
        if __opts__["test"]:
            return {
                **result,
                "result": None,
                "changes": {"code": "to be synced"},
                "comment": "The formula's code would be synced to the master",
            }
        changed = __salt__["storage_controller.sync"]()
        if __salt__["storage_controller.outdated"]():
            text = "FAILED_PRECONDITION: the master's file_roots have other code than this minion; run saltutil.sync_all on both"
            return {**result, "result": False, "changes": {"code": changed} if changed else {}, "comment": text}
    except StorageError as error:
        return {**result, "result": False, "comment": str(error)}
    return {
        **result,
        "changes": {"code": changed},
        "comment": "The formula's code was synced to the master; a running engine takes it up when it restarts",
    }


def unused(name):
    """
    Fail while hosts are connected to volumes: without the controller, nothing could disconnect
    them.

    name
        What shall be removed, for the message.

    .. code-block:: yaml

        storage.controller:
          storage_controller.unused
    """
    result = {"name": name, "changes": {}, "result": True, "comment": "No host is connected to a volume"}
    try:
        connected = __salt__["storage_controller.connected"]()
    except StorageError as error:
        if "no storage controller is configured here" in str(error):
            return {**result, "comment": "There is no controller here"}
        return {**result, "result": False, "comment": str(error)}
    if connected:
        text = (
            f"FAILED_PRECONDITION: {name} stays, since hosts are connected to volumes: {', '.join(connected[:10])}; "
            "apply these with `state: disconnected` or `state: absent` first"
        )
        return {**result, "result": False, "comment": text}
    return result
