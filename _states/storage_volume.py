"""
Block volumes on a storage array: created, attached to this minion, and mounted.

The controller on the master creates volumes and maps them to this minion. The minion attaches them
with os-brick. An attached volume is found at ``/dev/storage/<name>``. Every state is idempotent,
and finishes what a crash left half done. With ``test=True`` a state only reads.

A failed state's comment begins with a code, such as ``NOT_FOUND``, and names the next step.

.. versionadded:: 1.0.0
"""

from saltstorage.flow.flow import Flow
from saltstorage.plans import skeleton
from saltstorage.plans.absent import absent as plan_absent
from saltstorage.plans.connected import connected as plan_connected
from saltstorage.plans.disconnected import disconnected as plan_disconnected
from saltstorage.plans.extended import extended as plan_extended
from saltstorage.plans.mounted import Mount
from saltstorage.plans.mounted import mounted as plan_mounted
from saltstorage.plans.present import present as plan_present
from saltstorage.plans.request import Request
from saltstorage.plans.run import Run
from saltstorage.plans.unmounted import unmounted as plan_unmounted
from saltstorage.spec import VolumeSpec

__virtualname__ = "storage_volume"


def __virtual__():
    return __virtualname__


def _run(function, name, kwargs, plan):
    ahead = kwargs.get("__plan__")
    if isinstance(ahead, Flow):
        # An earlier state asks for the plan alone.
        return plan(ahead, Run.of(globals(), ahead=True))
    run = Run.of(globals())
    # The id tells the runs of one minion process apart, since facts that one run read are not used
    # in another.
    flow = Flow(__opts__, __context__, globals().get("__instance_id__"), lambda: _following(run, function, flow))
    return skeleton.run(name, run.test, lambda: plan(flow, run), kwargs, function)


def _following(run, function, flow):
    """Yield name and plan of the next states whose requests can be sent with this one's."""
    for parameters in run.following(function):
        yield parameters["name"], lambda given=parameters: function(**given, __plan__=flow)


def present(
    name,
    size=None,
    backend=None,
    pool=None,
    type=None,
    source=None,
    resize=True,
    labels=None,
    description=None,
    protected=None,
    retain=None,
    owner=None,
    **kwargs,
):
    """
    Make sure that a volume exists, and is at least as large as asked.

    name
        Name of the volume, 1 to 128 bytes of any characters but ``/`` and controls; unique for its
        owner.
    size : None
        Size in whole GiB, or as a string such as ``20GiB`` or ``1TiB``, which is rounded up to
        whole GiB. Must be given.
    backend : None
        Name of a backend in the controller's configuration. None is the default backend; a volume
        that exists may be on any.
    pool : None
        Glob of the backend's pools that a new volume may be in. None is all that its type and the
        policy allow. A volume that exists stays where it is.
    type : None
        Name of a type in the controller's configuration, which says how the array makes the volume.
        None is no type, or the source's.
    source : None
        ``{volume: NAME}`` or ``{snapshot: NAME}`` of this minion, to start with a copy of it. The
        copy is made after the states of this run that make its source, or not at all.
    resize : True
        Grow a volume that is smaller. With False, another size is an error.
    labels : None
        Mapping of texts for people and for filters, such as ``{env: prod}``. It replaces all labels
        of the volume. None leaves them.
    description : None
        A text about the volume. None leaves the present one.
    protected : None
        True: the volume cannot be deleted, here or on the master, before this is set to False. None
        leaves it as it is.
    retain : None
        True: when the volume is deleted, its data stays on the backend; see :py:func:`absent`. None
        leaves it as it is.
    owner : None
        Minion that the volume belongs to: None or this minion's id. A volume of ``shared`` is only
        checked.

    A volume never shrinks, and is never made anew: another backend, type or source than asked for
    is an error. Labels, description, protection and ``retain`` can be changed at any time. Changes
    have each of them with ``old`` and ``new``.

    .. code-block:: yaml

        pg-data:
          storage_volume.present:
            - size: 20GiB
            - type: gold
            - labels: {env: prod}
            - protected: True
    """
    given = locals()
    return _run(present, name, kwargs, lambda flow, run: plan_present(flow, run, name, owner, VolumeSpec.decode(given)))


def absent(name, owner=None, retain=None, disconnect=False, series=None, **kwargs):
    """
    Make sure that a volume does not exist. All data on it is lost, unless it is retained.

    The state is refused, before anything changes, while the volume is connected to a host, has
    snapshots, is protected, or is the source of a copy that the same run has still to make.

    name
        Name of the volume.
    owner : None
        Minion that the volume belongs to: None or this minion's id.
    retain : None
        True: its data stays on the backend, and the controller only forgets the volume. Comment and
        changes have its name there, and the command that takes it over again. False: its data is
        deleted. None: as recorded with the volume (``retain`` of :py:func:`present`), else False.
    disconnect : False
        Unmount and disconnect the volume first, as :py:func:`disconnected` does. The state is
        refused while anything else uses the volume.
    series : None
        Delete the snapshots of this series first, which the state ``storage_snapshot.rotated`` of
        that name took.

    .. code-block:: yaml

        old-data:
          storage_volume.absent:
            - disconnect: True
            - retain: True
    """
    return _run(absent, name, kwargs, lambda flow, run: plan_absent(flow, run, name, owner, retain, disconnect, series))


def connected(
    name,
    size=None,
    backend=None,
    pool=None,
    type=None,
    source=None,
    resize=True,
    labels=None,
    description=None,
    protected=None,
    retain=None,
    owner=None,
    read_only=False,
    encrypted=False,
    passphrase=None,
    **kwargs,
):
    """
    Make sure that a volume is attached to this minion, now and after every boot.

    Its device is ``/dev/storage/<name>``.

    With ``size``, the volume is created or grown first, as by :py:func:`present`, in the same
    request.

    name
        Name of the volume.
    size : None
        Size in whole GiB, or as a string such as ``20GiB``. None connects an existing volume as it
        is.
    backend : None
        Name of a backend, for a volume that is created.
    pool : None
        Glob of the backend's pools that a new volume may be in. None is all that its type and the
        policy allow. A volume that exists stays where it is.
    type : None
        Name of a type in the controller's configuration, which says how the array makes the volume.
        None is no type, or the source's.
    source : None
        ``{volume: NAME}`` or ``{snapshot: NAME}`` of this minion, to start with a copy of it. The
        copy is made after the states of this run that make its source, or not at all.
    resize : True
        Grow a volume that is smaller. With False, another size is an error.
    labels : None
        Mapping of texts for people and for filters, such as ``{env: prod}``. It replaces all labels
        of the volume. None leaves them.
    description : None
        A text about the volume. None leaves the present one.
    protected : None
        True: the volume cannot be deleted, here or on the master, before this is set to False. None
        leaves it as it is.
    retain : None
        True: when the volume is deleted, its data stays on the backend; see :py:func:`absent`. None
        leaves it as it is.
    owner : None
        None or this minion's id for its own volume, or ``shared``.
    read_only : False
        Attach it for reading only.
    encrypted : False
        Use it encrypted (LUKS2). A volume that never had data, and whose device was read and found
        empty, is encrypted first. ``/dev/storage/<name>`` then leads to the opened device. A volume
        with data of the other kind is an error.
    passphrase : None
        Place of the passphrase, never the passphrase: ``sdb://PROFILE/KEY`` or
        ``pillar://KEY:KEY``. None is the minion's pillar ``storage:passphrases:<name>``. The
        minion reads it when it opens or grows the volume.

    Changes have ``path`` (``old`` is None, or the former device), and the changes of
    :py:func:`present`. They have ``size`` also when the volume was grown on the master and its
    device follows now.

    .. code-block:: yaml

        pg-data:
          storage_volume.connected:
            - size: 20GiB
    """
    given = locals()

    def plan(flow, run):
        wanted = VolumeSpec.decode_optional(given)
        request = Request(flow, name, owner, read_only, wanted=wanted, resize=resize, encrypted=encrypted, passphrase=passphrase)
        return plan_connected(flow, run, request)

    return _run(connected, name, kwargs, plan)


def disconnected(name, owner=None, force=False, **kwargs):
    """
    Make sure that a volume is not attached to this minion, and not mapped to it.

    The volume and its data stay.

    A mount that :py:func:`mounted` made is removed first. A volume with other users stays
    attached, and the state fails and names them. If the volume was fenced from this minion, its
    stale device is removed even so, and nothing is written to it.

    name
        Name of the volume.
    owner : None
        None or this minion's id for its own volume, or ``shared``.
    force : False
        Go on when cached data cannot be written to the volume any more, and lose that data.

    .. code-block:: yaml

        pg-data:
          storage_volume.disconnected: []
    """
    return _run(disconnected, name, kwargs, lambda flow, _: plan_disconnected(flow, name, owner, force))


def mounted(
    name,
    mount=None,
    size=None,
    backend=None,
    pool=None,
    fstype=None,
    mkfs_options=None,
    mount_options="defaults",
    type=None,
    source=None,
    resize=True,
    labels=None,
    description=None,
    protected=None,
    retain=None,
    owner=None,
    read_only=False,
    encrypted=False,
    passphrase=None,
    **kwargs,
):
    """
    Make sure that a volume is attached and mounted, now and at every boot, with its full size.

    The volume is connected first, as by :py:func:`connected`. A file system is made only on a
    volume that never had one and whose device was read and found empty. Any other content is left
    alone. A shared volume is mounted by one minion alone, or by several with ``read_only``.

    name
        Name of the volume.
    mount : None
        Absolute path of the mount point, which is created when missing. Must be given. If it is
        inside another mount point of this run, that one must be mounted before.
    size : None
        Size in whole GiB, or as a string such as ``20GiB``. None takes an existing volume as it is.
    backend : None
        Name of a backend, for a volume that is created.
    fstype : None
        ext2, ext3, ext4, xfs, btrfs or vfat. None takes the file system that is there, and makes
        ext4 where there is none.
    mkfs_options : None
        List of further options for mkfs, such as ``['-m', '0']``.
    mount_options : defaults
        Options for mount, as a string or list. The options that make the boot wait for the volume
        are added in the table of file systems.
    pool : None
        Glob of the backend's pools that a new volume may be in. None is all that its type and the
        policy allow. A volume that exists stays where it is.
    type : None
        Name of a type in the controller's configuration, which says how the array makes the volume.
        None is no type, or the source's.
    source : None
        ``{volume: NAME}`` or ``{snapshot: NAME}`` of this minion, to start with a copy of it. The
        copy is made after the states of this run that make its source, or not at all.
    resize : True
        Grow the volume to ``size``, and the file system to the volume, also when it was grown on
        the master. With False, a volume that is smaller than ``size`` is an error, and the file
        system stays as it is. A file system that is mounted read-only, or of a type that never
        grows (vfat), stays as it is too.
    labels : None
        Mapping of texts for people and for filters, such as ``{env: prod}``. It replaces all labels
        of the volume. None leaves them.
    description : None
        A text about the volume. None leaves the present one.
    protected : None
        True: the volume cannot be deleted, here or on the master, before this is set to False. None
        leaves it as it is.
    retain : None
        True: when the volume is deleted, its data stays on the backend; see :py:func:`absent`. None
        leaves it as it is.
    owner : None
        None or this minion's id for its own volume, or ``shared``.
    read_only : False
        Attach and mount it for reading only.
    encrypted : False
        Use it encrypted, as with :py:func:`connected`.
    passphrase : None
        Place of the passphrase, as with :py:func:`connected`.

    If the volume was unmounted by hand and has another mount point now, a new line takes the place
    of the old one in fstab. Lines that others wrote stay.

    Changes have ``mount``, ``filesystem`` and ``fstab``, and the keys of :py:func:`connected`.

    .. code-block:: yaml

        pg-data:
          storage_volume.mounted:
            - mount: /var/lib/postgresql
            - size: 20GiB
            - fstype: xfs
            - mount_options: noatime
    """
    given = locals()

    def plan(flow, run):
        wanted = VolumeSpec.decode_optional(given)
        request = Request(
            flow, name, owner, read_only, wanted=wanted, mounts=True, resize=resize, encrypted=encrypted, passphrase=passphrase
        )
        return plan_mounted(flow, run, request, Mount(mount, fstype, mkfs_options, mount_options))

    return _run(mounted, name, kwargs, plan)


def unmounted(name, owner=None, **kwargs):
    """
    Make sure that a volume is not mounted, now or at boot. It stays attached.

    If the controller cannot be reached, a mounted volume stays mounted and the state fails. If the
    volume was fenced from this minion, its stale device is removed, and nothing is written to it.

    name
        Name of the volume.
    owner : None
        None or this minion's id for its own volume, or ``shared``.

    .. code-block:: yaml

        pg-data:
          storage_volume.unmounted: []
    """
    return _run(unmounted, name, kwargs, lambda flow, _: plan_unmounted(flow, name, owner))


def extended(name, size=None, exact=False, owner=None, **kwargs):
    """
    Make sure that an existing volume has at least a size, with its device and file system here.

    Nothing is created or attached. A device or file system that one apply could not grow is grown
    by the next. A file system that is not mounted grows when :py:func:`mounted` mounts it.

    name
        Name of the volume.
    size : None
        Size in whole GiB, or as a string such as ``20GiB``. Must be given. A volume that is larger
        is left alone: nothing shrinks.
    exact : False
        With True, a volume that is larger is an error.
    owner : None
        None or this minion's id for its own volume, or ``shared``. A shared volume is grown on the
        master (``salt-run storage.extend``), and this state then grows its device and file system
        here.

    The state is refused, before anything grows, when the mounted file system could not follow,
    such as vfat.

    .. code-block:: yaml

        pg-data:
          storage_volume.extended:
            - size: 40GiB
    """
    return _run(extended, name, kwargs, lambda flow, _: plan_extended(flow, name, size, exact, owner))
