"""
The storage controller's loop on the master's event bus.

It serves the requests of minions: states and modules of ``storage`` there need it. It hands them to
the controller, a process of its own that it starts and looks after, unless one runs as a service of
the system. Drivers are loaded once there and stay loaded; operations run in parallel, one at a time
per volume.

:configuration: in the master's configuration, beside the option ``storage``:

.. code-block:: yaml

    engines:
      - storage: {}

The modules must have been synced to the master before it starts: ``salt-run saltutil.sync_all``.

.. versionadded:: 1.0.0
"""

from saltstorage.bus import engine

__virtualname__ = "storage"


def __virtual__():
    """Load on the master only."""
    if __opts__.get("__role") != "master":
        return False, "the storage engine runs on the master"
    return __virtualname__


def start():
    """
    Serve requests until the master stops.

    Runs as the user of the master. When the controller cannot start, the reason is logged once and
    given to every minion that asks, and the start is tried again every minute.

    CLI Example:

    .. code-block:: bash

        salt-run storage.backends
    """
    engine.run(__opts__, _make_service)


def _make_service():
    from saltstorage.link.remote import RemoteService

    return RemoteService(__opts__)
