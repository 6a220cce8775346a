"""
Snapshots of this minion's volumes: taken, kept in a number, deleted.

A snapshot has the content of the volume at one moment. The states ``storage_volume`` make a new
volume of it with ``source: {snapshot: NAME}``. ``salt-run storage.snapshot_revert`` sets a volume
back to it. Snapshots of shared volumes are taken on the master, with
``salt-run storage.snapshot_create``. Snapshots of several volumes at one moment, as a group, are
not supported.

With ``test=True`` a state only reads. A failed state's comment begins with a code, such as
``NOT_FOUND``, and names the next step.

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
        Name of the snapshot, 1 to 128 bytes of any characters but ``/`` and controls; unique for
        this minion.
    volume : None
        Name of the volume. Must be given. A snapshot of the name that is of another volume is an
        error.
    freeze : False
        Freeze the mounted file system while the snapshot is taken, so that the snapshot is as
        after an unmount. Without it, the snapshot is as after a power cut. Writers block until the
        snapshot is taken. The file system is thawed in every case. If it cannot be frozen, no
        snapshot is taken. A snapshot of the name that was taken without freezing is an error.
    timeout : 60
        Longest time to wait for the snapshot, in seconds or as a string such as ``5m``. With
        ``freeze``, the file system is thawed then, and the state fails. Without, the controller
        goes on with the snapshot, and the comment says ``ready: False``.

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

    The state is refused while the backend needs the snapshot, such as for volumes that were made of
    it. They are named.

    name
        Name of the snapshot.

    .. code-block:: yaml

        before-upgrade:
          storage_snapshot.absent: []
    """
    return _run(absent, name, kwargs, lambda flow: snapshot_absent.absent(flow, name))


def rotated(name, volume=None, keep=7, every="1d", freeze=False, timeout=60, **kwargs):
    """
    Make sure that a series has a fresh snapshot, and not too many of them.

    A snapshot is taken when the newest one is too old, and then the oldest ones beyond ``keep``
    are deleted. Apply the state as often as you like, such as from Salt's scheduler. The snapshots
    are named ``<name>-<time>``, such as ``pg-data-20260131T020000Z`` (UTC). If another volume's
    series has taken that name, the time is the next free second.

    Nothing is deleted before the new snapshot is known to be ready. If it is not ready within
    ``timeout``, the comment says ``ready: False``, and the next apply deletes the surplus.

    Only snapshots that this state took for this series are ever deleted: the series is recorded
    with each snapshot, independent of its name. A snapshot that is in use stays, and the comment
    says so.

    name
        Name of the series, at most 111 bytes; unique for this minion.
    volume : None
        Name of the volume. Must be given.
    keep : 7
        Number of snapshots to keep. With 0, all of the series are deleted, and none is taken.
    every : 1d
        Age at which the newest snapshot is too old: a string such as ``30m``, ``6h``, ``1d`` or
        ``1w``, or seconds.
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
