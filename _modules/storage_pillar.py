"""
Pillar of the formula, checked and turned into states. The formula's SLS files call this.

Nothing here changes anything or asks a controller.
"""

from saltstorage.pillar import lookup as settings
from saltstorage.pillar import rendering

__virtualname__ = "storage_pillar"


def __virtual__():
    return __virtualname__


def volumes():
    """
    Return the states for this minion's pillar ``storage:volumes``, as the SLS ``storage.volumes``
    renders them.

    They show the states that an apply would run, without running them. Each stands after those
    that it depends on. A wrong entry is a state that fails with INVALID_ARGUMENT and names the
    field. A minion without the pillar key ``storage`` gets one state that says so.

    Returns states by their id.

    CLI Example:

    .. code-block:: bash

        salt db1 storage_pillar.volumes
    """
    return rendering.volume_states(__pillar__.get("storage"), __pillar__)


def lookup():
    """
    Return the settings of the formula for this minion, as its SLS use them.

    The defaults in ``storage/defaults.yaml`` and ``storage/osfamilymap.yaml``, with pillar
    ``storage:lookup`` over them.

    Returns ``controller`` and ``consumer``, each a mapping of its settings. Fails with
    INVALID_ARGUMENT when ``storage:lookup`` is malformed.

    CLI Example:

    .. code-block:: bash

        salt db1 storage_pillar.lookup
    """

    def read(name):
        return __salt__["slsutil.renderer"](f"salt://storage/{name}.yaml", default_renderer="yaml")

    family = __grains__.get("os_family")
    return settings.merge(read("defaults"), read("osfamilymap"), family, __pillar__.get("storage"))


def controller_problem():
    """
    Return the fault in this minion's pillar ``storage:controller``, or an empty string.

    Options of drivers are not checked. The controller checks them when it loads the backend.

    Returns a text that begins with the code of the error, such as
    ``INVALID_ARGUMENT: storage:backends must be a mapping, not a list``.

    CLI Example:

    .. code-block:: bash

        salt master1 storage_pillar.controller_problem
    """
    return rendering.controller_problem(__pillar__.get("storage"))


def consumer_problem():
    """
    Return the fault in this minion's pillar ``storage:consumer``, or an empty string.

    Returns a text that begins with the code of the error, such as ``INVALID_ARGUMENT:
    storage:consumer:protocols: 'iscsy' is none of iscsi, fibre_channel, multipath, nvme, rbd, nfs,
    luks``.

    CLI Example:

    .. code-block:: bash

        salt db1 storage_pillar.consumer_problem
    """
    return rendering.consumer_problem(__pillar__.get("storage"))
