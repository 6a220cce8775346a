"""
The storage environment of a host, and the formula's code on a master.

.. versionadded:: 1.0.0
"""

from saltstorage.errors import StorageError

__virtualname__ = "storage_environment"


def __virtual__():
    return __virtualname__


def present(name, role="consumer", python=None, index_url=None, wheels=None):
    """
    Make sure that the storage environment is there, complete, and made from the present lock file,
    code and Python.

    The SLS ``storage.environment`` renders this state.

    name
        Its folder, such as ``/opt/salt-storage``.
    role : consumer
        ``consumer``, or ``controller`` on a master.
    python : None
        Path of the Python to make it from; None for the distribution's.
    index_url : None
        URL of a package index; None for the one in pip's configuration.
    wheels : None
        Folder with all wheels; no index is asked then.

    .. code-block:: yaml

        /opt/salt-storage:
          storage_environment.present:
            - role: consumer
    """
    result = {"name": name, "changes": {}, "result": True, "comment": ""}
    given = {"name": name, "role": role, "python": python, "index_url": index_url, "wheels": wheels}
    try:
        why = __salt__["storage_environment.needed"](**given)
        if not why:
            return {**result, "comment": f"The storage environment {name} is as it should be"}
        change = {"environment": {"old": "" if why == "there is none yet" else why, "new": name}}
        if __opts__["test"]:
            return {**result, "result": None, "changes": change, "comment": f"The storage environment {name} would be built: {why}"}
        __salt__["storage_environment.build"](**given)
    except StorageError as error:
        return {**result, "result": False, "comment": str(error)}
    return {**result, "changes": change, "comment": f"The storage environment {name} was built: {why}"}


def absent(name):
    """
    Make sure that there is no storage environment.

    Fails while volumes are attached to this host, since nothing could detach them.

    name
        Its folder, such as ``/opt/salt-storage``.

    .. code-block:: yaml

        /opt/salt-storage:
          storage_environment.absent
    """
    result = {"name": name, "changes": {}, "result": True, "comment": ""}
    try:
        if not __salt__["storage_environment.status"](name)["present"]:
            return {**result, "comment": f"There is no storage environment {name}"}
        if attached := sorted(found["name"] for found in __salt__["storage.attachments"]()):
            text = f"FAILED_PRECONDITION: volumes are attached to this host: {', '.join(attached[:10])}; disconnect them first"
            return {**result, "result": False, "comment": text}
        change = {"environment": {"old": name, "new": None}}
        if __opts__["test"]:
            return {**result, "result": None, "changes": change, "comment": f"The storage environment {name} would be removed"}
        __salt__["storage_environment.remove"](name)
    except StorageError as error:
        return {**result, "result": False, "comment": str(error)}
    return {**result, "changes": change, "comment": f"The storage environment {name} was removed"}


def none_attached(name):
    """
    Fail while volumes are attached to this host. The ``clean`` SLS files render this state first.

    name
        What shall be removed, for the message.

    .. code-block:: yaml

        storage.consumer:
          storage_environment.none_attached
    """
    result = {"name": name, "changes": {}, "result": True, "comment": "No volume is attached to this host"}
    try:
        attached = sorted(found["name"] for found in __salt__["storage.attachments"]())
    except StorageError as error:
        return {**result, "result": False, "comment": str(error)}
    if attached:
        text = (
            f"FAILED_PRECONDITION: {name} stays, since volumes are attached to this host: {', '.join(attached[:10])}; "
            "apply them with `state: disconnected` or `state: absent` first"
        )
        return {**result, "result": False, "comment": text}
    return result
