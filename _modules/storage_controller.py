"""
Facts of the master's host, for the SLS ``storage.controller``.

.. versionadded:: 1.0.0
"""

import grp
import json
import os
import pwd
import sys

from saltstorage import builds
from saltstorage.errors import FailedPreconditionError

__virtualname__ = "storage_controller"


def __virtual__():
    return __virtualname__


def owner(user="", group=""):
    """
    Return who owns the controller's files: the user that the master runs as.

    user : ''
        Another user; empty for the one in the master's configuration.
    group : ''
        Another group; empty for the user's own.

    Returns ``user``, ``group`` and ``problem`` (empty: none).

    CLI Example:

    .. code-block:: bash

        salt master1 storage_controller.owner
    """
    user = user or _master()["user"]
    try:
        found = pwd.getpwnam(user)
        group = group or grp.getgrgid(found.pw_gid).gr_name
        grp.getgrnam(group)
    except KeyError:
        text = f"NOT_FOUND: there is no user {user!r} with a group on this host; is a salt-master here? See storage:lookup:controller:user"
        return {"user": user, "group": group, "problem": text}
    return {"user": user, "group": group, "problem": ""}


def outdated():
    """
    Return whether the master has other code of the formula than this minion, or none.

    CLI Example:

    .. code-block:: bash

        salt master1 storage_controller.outdated
    """
    folder = os.path.join(_master()["extension_modules"], "utils", "saltstorage")
    return not os.path.isdir(folder) or builds.digest(folder) != builds.BUILD


def sync():
    """
    Give the master the formula's code from its own ``file_roots``, as its user.

    Returns the names of the modules that are new or changed.

    CLI Example:

    .. code-block:: bash

        salt master1 storage_controller.sync
    """
    return [name for names in _run("saltutil.sync_all").values() for name in names]


def connected():
    """
    Return the connections that the controller has, as texts such as ``data of db1 to db1``.

    CLI Example:

    .. code-block:: bash

        salt master1 storage_controller.connected
    """
    return [f"{row['volume']} of {row['owner']} to {row['host']}" for row in _run("storage.connections")]


def _master():
    import salt.config

    return salt.config.master_config(os.path.join(os.path.dirname(__opts__["conf_file"]), "master"))


def _run(function):
    """Call a runner as the user of the master: root's files would be closed to that."""
    # Beside this Python where Salt was installed with pip.
    program = __salt__["cmd.which"](os.path.join(os.path.dirname(sys.executable), "salt-run")) or __salt__["cmd.which"]("salt-run")
    if not program:
        raise FailedPreconditionError("there is no salt-run on this host; storage.controller is for the minion on the master's host")
    folder = os.path.dirname(__opts__["conf_file"])
    command = [program, f"--config-dir={folder}", "--out=json", "--log-level=quiet", function]
    done = __salt__["cmd.run_all"](command, python_shell=False, output_loglevel="quiet")
    try:
        found = json.loads(done["stdout"])
    except ValueError:
        found = None
    if done["retcode"] or found is None:
        text = found.get("error") if isinstance(found, dict) else None
        raise FailedPreconditionError(f"salt-run {function} failed: {text or (done['stderr'] or done['stdout']).strip()[-500:]}")
    return found
