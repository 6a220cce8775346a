"""
Snapshots of this minion's volumes: taken, kept in a number, deleted.

A snapshot has what was on the volume at one moment. A new volume is made of it with ``source: {snapshot: NAME}`` of the states
``storage_volume``; a volume is set back to it with ``salt-run storage.snapshot_revert``. Snapshots of shared volumes are taken on
the master, with ``salt-run storage.snapshot_create``. Several volumes at one moment, as a group, are not supported.

With ``test=True`` only reading operations are called. A failed state's comment begins with a code, such as ``NOT_FOUND``, and says
what to do next.

.. versionadded:: 1.0.0
"""

from saltstorage.flow.flow import Flow
from saltstorage.plans import skeleton, snapshot_absent, snapshot_present, snapshot_rotated

__virtualname__ = "storage_snapshot"


def __virtual__():
    return __virtualname__


def _run(function, name, kwargs, plan):
    flow = Flow(__opts__, __context__, globals().get("__instance_id__"))
    return skeleton.run(name, __opts__["test"], lambda: plan(flow), kwargs, function)


def present(name, volume=None, freeze=False, timeout=60, **kwargs):
    """
    Make sure that a snapshot of a volume exists.

    name
        Name of the snapshot, 1 to 128 bytes of any characters but ``/`` and controls; unique for this minion.
    volume : None
        Name of the volume. Must be given. A snapshot of the name that is of another volume is an error.
    freeze : False
        Hold the file system that is mounted from the volume still while the snapshot is taken, so that it is as after an unmount;
        without it, it is as after a power cut. Who writes waits meanwhile. The file system is thawed in every case. A snapshot whose
        file system could not be frozen is not taken; one that was taken otherwise is an error.
    timeout : 60
        How long to wait for the snapshot, in seconds or as a string such as ``5m``. With ``freeze``, the file system is thawed then, and
        the state fails; without, the controller goes on with it, and the comment says ``ready: False``.

    .. code-block:: yaml

        before-upgrade:
          storage_snapshot.present:
            - volume: pg-data
            - freeze: True
    """
    return _run(present, name, kwargs, lambda flow: snapshot_present.present(flow, name, volume, freeze, timeout))


def absent(name, **kwargs):
    """
    Make sure that a snapshot does not exist.

    Refused while the backend needs it, such as for volumes that were made of it; they are named.

    name
        Name of the snapshot.

    .. code-block:: yaml

        before-upgrade:
          storage_snapshot.absent: []
    """
    return _run(absent, name, kwargs, lambda flow: snapshot_absent.absent(flow, name))


def rotated(name, volume=None, keep=7, every="1d", freeze=False, timeout=60, **kwargs):
    """
    Make sure that the newest snapshot of a series is not older than a time, and that there are not more than a number of them.

    Takes a snapshot when the newest one is too old, and then deletes the oldest ones beyond ``keep``. Apply it as often as you like,
    such as from Salt's scheduler. The snapshots are named ``<name>-<time>``, such as ``pg-data-20260131T020000Z`` (UTC); a name that
    another volume's series has taken already gets the next second that is free.

    Nothing is deleted before the new one is known to be ready. When it is not within ``timeout``, the comment says ``ready: False``, and
    the next apply deletes what is too many then.

    Only what this state took for this series is ever deleted: that is recorded with each snapshot, whatever its name. What is in use
    stays, and the comment says so.

    name
        Name of the series, at most 111 bytes; unique for this minion.
    volume : None
        Name of the volume. Must be given.
    keep : 7
        How many to keep. With 0, all of the series are deleted, and none is taken.
    every : 1d
        Age at which the newest one is too old: a string such as ``30m``, ``6h``, ``1d`` or ``1w``, or seconds.
    freeze : False
        As by :py:func:`present`.
    timeout : 60
        As by :py:func:`present`.

    .. code-block:: yaml

        pg-data-daily:
          storage_snapshot.rotated:
            - volume: pg-data
            - keep: 14
            - every: 1d
    """
    return _run(rotated, name, kwargs, lambda flow: snapshot_rotated.rotated(flow, name, volume, keep, every, freeze, timeout))
