"""
Facts of the master's host, for the SLS ``storage.controller``.

.. versionadded:: 1.0.0
"""

import json
import os
import sys

from saltstorage import builds
from saltstorage.environment import location
from saltstorage.errors import FailedPreconditionError
from saltstorage.pillar import process as of_host

__virtualname__ = "storage_controller"


def __virtual__():
    return __virtualname__


def process():
    """
    Return how the controller runs on this host, as this minion's pillar ``storage:controller`` and
    ``storage:lookup`` have it; the SLS ``storage.controller`` renders it.

    Returns ``problem`` (empty: none; otherwise nothing else), ``users`` (``user`` and ``group`` of
    the controller, ``master`` and ``master_group``, ``missing``: whether the controller's user has
    to be made), ``state_dir``, ``move`` (whether the files there belong to another user),
    ``option`` (the master's option ``storage``) and ``unit`` (values for the template of the unit;
    None: the engine starts the controller).

    CLI Example:

    .. code-block:: bash

        salt master1 storage_controller.process
    """
    lookup = __salt__["storage_pillar.lookup"]()["controller"]
    return of_host.describe(
        lookup,
        __pillar__["storage"]["controller"],
        environment=location.folder(__opts__, location.CONTROLLER),
        minion=__opts__["id"],
        master=lookup["user"] or _master()["user"],
    )


def outdated():
    """
    Return whether the master has other code of the formula than this minion, or none.

    CLI Example:

    .. code-block:: bash

        salt master1 storage_controller.outdated
    """
    folder = os.path.join(_master()["extension_modules"], "utils", "saltstorage")
    return not os.path.isdir(folder) or builds.digest(folder) != builds.own()


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
