"""
The storage environment: the Python of the controller and of os-brick, beside Salt's own.

Salt's own Python gets no package from it.

.. versionadded:: 1.0.0
"""

from saltstorage import builds
from saltstorage.environment import building, location
from saltstorage.errors import FailedPreconditionError

__virtualname__ = "storage_environment"


def __virtual__():
    return __virtualname__


def folder(role="consumer"):
    """
    Return the folder of the storage environment.

    role : consumer
        ``consumer``, or ``controller`` on a master.

    CLI Example:

    .. code-block:: bash

        salt '*' storage_environment.folder
    """
    return location.folder(__opts__, role)


def spare(role="consumer"):
    """
    Return whether Salt's own Python serves, so that no storage environment is needed: somebody
    installed the packages there, and there is no storage environment.

    role : consumer
        ``consumer``, or ``controller`` on a master.

    CLI Example:

    .. code-block:: bash

        salt '*' storage_environment.spare
    """
    try:
        return bool(location.interpreter(__opts__, role=role).package)
    except FailedPreconditionError:
        return False


def status(name=None):
    """
    Return what is known of the storage environment.

    name : None
        Its folder; None for the configured one.

    Returns ``present``, ``problem`` (empty: none), ``role``, ``version``, ``build``, ``python``
    (path and version of the Python that it was made from) and ``current`` (whether it has the code
    that Salt has loaded on this minion).

    CLI Example:

    .. code-block:: bash

        salt '*' storage_environment.status
    """
    found = building.status(name or folder())
    stamp = {key: found.stamp.get(key) for key in ("role", "version", "build", "python")}
    return {"present": found.present, "problem": found.problem, **stamp, "current": stamp["build"] == builds.own()}


def needed(name=None, role="consumer", python=None, index_url=None, wheels=None):
    """
    Return why the storage environment would be built; an empty text when it is there and right.

    name : None
        Its folder; None for the configured one.
    role : consumer
        ``consumer``, or ``controller`` on a master.
    python : None
        Path of the Python to make it from; None for the distribution's.
    index_url : None
        URL of a package index; None for the one in pip's configuration.
    wheels : None
        Folder with all wheels; no index is asked then.

    CLI Example:

    .. code-block:: bash

        salt '*' storage_environment.needed
    """
    return building.needed(_plan(name, role, python, index_url, wheels))


def build(name=None, role="consumer", python=None, index_url=None, wheels=None):
    """
    Build the storage environment, if that is needed, and switch to it when it is complete. What was
    in use before stays in use until then, and after any failure.

    name : None
        Its folder; None for the configured one.
    role : consumer
        ``consumer``, or ``controller`` on a master. The environment of a controller serves a
        consumer too, and is not made smaller.
    python : None
        Path of the Python to make it from; None for the distribution's.
    index_url : None
        URL of a package index; None for the one in pip's configuration.
    wheels : None
        Folder with all wheels; no index is asked then.

    Returns whether it was built.

    CLI Example:

    .. code-block:: bash

        salt '*' storage_environment.build
    """
    return building.build(_plan(name, role, python, index_url, wheels))


def remove(name=None):
    """
    Remove the storage environment.

    name : None
        Its folder; None for the configured one.

    Returns whether there was one.

    CLI Example:

    .. code-block:: bash

        salt '*' storage_environment.remove
    """
    return building.remove(name or folder())


def _plan(name, role, python, index_url, wheels):
    where = name or folder(role)
    role = building.role_for(where, role)
    source = f"salt://storage/requirements/{role}.txt"
    lock = __salt__["cp.cache_file"](source, saltenv=__opts__.get("saltenv") or "base")
    if not lock:
        raise FailedPreconditionError(f"{source} cannot be had; put the whole formula into file_roots")
    return building.Plan(folder=where, role=role, lock=lock, python=python or None, index_url=index_url or None, wheels=wheels or None)
