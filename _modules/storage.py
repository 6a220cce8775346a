"""
The volumes of this minion: connect, disconnect, look; and their snapshots.

The states ``storage_volume`` do most of this better. These functions are for a look, for scripts,
and for templates and slots in other states. The device of an attached volume is always
``/dev/storage/<name>``.

Functions that attach or detach need root. No function needs credentials, or a way to the storage
array's management.

.. versionadded:: 1.0.0
"""

import dataclasses
import json
import os

from saltstorage import validate
from saltstorage.consumer import boot as booting
from saltstorage.consumer.attachment import Attachment
from saltstorage.consumer.filesystems import freeze as freezing
from saltstorage.consumer.host.config import ConsumerConfig
from saltstorage.environment import location
from saltstorage.environment import versions as storage_versions
from saltstorage.errors import FailedPreconditionError, StorageError
from saltstorage.flow import connecting, disconnecting, fencing
from saltstorage.flow import snapshots as snapshotting
from saltstorage.flow.flow import Flow
from saltstorage.plans.request import Request
from saltstorage.spec import VolumeSpec

__virtualname__ = "storage"


def __virtual__():
    return __virtualname__


def _flow():
    return Flow(__opts__, __context__)


def connector():
    """
    Return the facts about this host that a mapping needs: initiator names, addresses, multipath.

    CLI Example:

    .. code-block:: bash

        salt '*' storage.connector
    """
    return _flow().consumer.connector_properties()


def versions():
    """
    Return the versions of the code that this minion runs, and the step to take where its storage
    environment has other code.

    Returns a list of ``part`` (modules, environment), ``version``, ``build`` (a digest of its
    code), ``python``, ``salt`` and ``hint`` (empty: nothing to do).

    CLI Example:

    .. code-block:: bash

        salt '*' storage.versions
    """
    return storage_versions.here(__opts__, location.CONSUMER, "modules")


def volumes():
    """
    Return the volumes that this minion owns, and the shared volumes that it may use.

    Returns a list of ``id``, ``owner``, ``name``, ``backend``, ``size`` (GiB), ``state``,
    ``source``, ``type``, ``labels``, ``description``, ``protected``, ``retain``, ``formatted``,
    ``created`` (seconds since the epoch) and ``error``.

    CLI Example:

    .. code-block:: bash

        salt '*' storage.volumes
    """
    return _flow().inventory().wire["volumes"]


def snapshots():
    """
    Return the snapshots of this minion's volumes, as the controller has them.

    Returns a list of ``id``, ``owner``, ``name``, ``volume_id``, ``volume``, ``backend``, ``size``
    (GiB), ``state``, ``created`` (seconds since the epoch), ``error``, ``frozen`` (None: that was
    asked for and not confirmed) and ``series``.

    CLI Example:

    .. code-block:: bash

        salt '*' storage.snapshots
    """
    return _flow().inventory().wire["snapshots"]


def snapshot_create(name, volume, freeze=False, timeout=60):
    """
    Make sure that a snapshot of a volume of this minion exists, and return it.

    name
        Name of the snapshot; unique for this minion.
    volume
        Name of the volume.
    freeze : False
        Freeze the mounted file system meanwhile. If that is not possible, no snapshot is taken.
    timeout : 60
        Longest time to wait, and to freeze the file system, in seconds or as a string such as
        ``5m``.

    Returns the entry of :py:func:`snapshots`. Its ``state`` is creating while the controller still
    works on it.

    CLI Example:

    .. code-block:: bash

        salt db1 storage.snapshot_create before-upgrade pg-data freeze=True
    """
    name, volume = validate.name(name), validate.name(volume, "volume")
    seconds = validate.seconds(timeout, "timeout")
    taken = snapshotting.take(_flow(), name, volume, freezing=validate.boolean(freeze, "freeze"), timeout=seconds)
    return taken.snapshot.to_wire()


def snapshot_delete(name):
    """
    Delete a snapshot of a volume of this minion.

    name
        Name of the snapshot.

    Returns True when it was deleted, False when it did not exist. Fails with FAILED_PRECONDITION
    while the backend needs it.

    CLI Example:

    .. code-block:: bash

        salt db1 storage.snapshot_delete before-upgrade
    """
    return snapshotting.delete(_flow(), validate.name(name))[0] is not None


def snapshot_revert(name, confirm=False):
    """
    Set a volume of this minion back to its latest snapshot. Later data is lost.

    The volume must not be connected: apply ``storage_volume.disconnected`` first. It keeps its
    size, and the snapshot stays.

    name
        Name of the snapshot.
    confirm : False
        Confirm with True that later data may be lost.

    Returns the volume; see :py:func:`volumes`. Fails with UNIMPLEMENTED when the backend cannot do
    this. After any other failure but FAILED_PRECONDITION, the volume cannot be used until a
    repetition has succeeded.

    CLI Example:

    .. code-block:: bash

        salt db1 storage.snapshot_revert before-upgrade confirm=True
    """
    done, _ = snapshotting.revert(_flow(), validate.name(name), confirm=validate.boolean(confirm, "confirm"))
    return done.to_wire()


def thaw(name):
    """
    Thaw the file system on a volume, also when somebody else froze it.

    The formula thaws every file system that it froze, even when the minion is killed meanwhile.
    This function is for the other cases: another program such as ``fsfreeze``, or the minion and
    all its processes killed at once.

    name
        Name of the volume.

    Returns True when it was frozen.

    CLI Example:

    .. code-block:: bash

        salt db1 storage.thaw pg-data
    """
    return bool(freezing.thaw([snapshotting.mount_point(_flow(), validate.name(name))]))


def connect(
    name,
    size=None,
    backend=None,
    pool=None,
    type=None,
    source=None,
    resize=True,
    owner=None,
    read_only=False,
    encrypted=False,
    passphrase=None,
):
    """
    Attach a volume to this minion, and return what is attached.

    name
        Name of the volume.
    size : None
        Size in whole GiB, or as a string such as ``20GiB``: the volume is created or grown first.
        None connects an existing volume.
    backend : None
        Name of a backend, for a volume that is created.
    pool : None
        Glob of the backend's pools, for a volume that is created.
    type : None
        Name of a type in the controller's configuration, for a volume that is created.
    source : None
        ``{volume: NAME}`` or ``{snapshot: NAME}`` of this minion, to start with a copy of it.
    resize : True
        Grow a volume that is smaller.
    owner : None
        None or this minion's id for its own volume, or ``shared``.
    read_only : False
        Attach it for reading only.
    encrypted : False
        Use it encrypted (LUKS2); a new volume is encrypted first.
    passphrase : None
        Place of the passphrase, never the passphrase: ``sdb://PROFILE/KEY`` or
        ``pillar://KEY:KEY``. None is the minion's pillar ``storage:passphrases:<name>``.

    Returns ``path`` (the link in ``/dev/storage``), ``device``, ``protocol``, ``size`` (GiB),
    ``volume_id``, ``connection_id`` and more; see :py:func:`attachment`.

    CLI Example:

    .. code-block:: bash

        salt db1 storage.connect data size=20GiB
    """
    wanted = VolumeSpec.decode_optional(locals())
    flow = _flow()
    request = Request(flow, name, owner, read_only, wanted=wanted, resize=resize, encrypted=encrypted, passphrase=passphrase)
    done = connecting.connect(flow, request.owner, request.name, request.how)
    return done.attachment.to_wire()


def disconnect(name, owner=None, force=False):
    """
    Detach a volume that nobody uses from this minion, and have it unmapped.

    The call is refused while the volume is mounted or held open, and the holders are named. If the
    volume was fenced from this minion, its stale device is removed even so, its mounts included,
    and nothing is written to it.

    name
        Name of the volume.
    owner : None
        None or this minion's id for its own volume, or ``shared``.
    force : False
        Go on when cached data cannot be written to the volume any more, and lose that data.

    Returns True when something was detached or unmapped, False when there was nothing.

    CLI Example:

    .. code-block:: bash

        salt db1 storage.disconnect data
    """
    flow, name, force = _flow(), validate.name(name), validate.boolean(force, "force")
    owner = flow.owner(owner)
    if stale := fencing.fenced(flow, owner, name):
        fencing.discard_with_entries(flow, owner, name, *stale)
        return True
    return bool(disconnecting.disconnect(flow, owner, name, force=force, before=tuple).path)


def device(name):
    """
    Return the path of an attached volume, for slots and templates.

    name
        Name of the volume.

    Returns a path such as ``/dev/storage/data``. Fails with NOT_FOUND when it is not attached.

    CLI Example:

    .. code-block:: bash

        salt db1 storage.device data
    """
    return _flow().consumer.device(validate.name(name))


def attachment(name):
    """
    Return an attachment of this minion with the status of its device, or an empty dictionary.

    name
        Name of the volume.

    Returns the record (``owner``, ``name``, ``state``, ``volume_id``, ``connection_id``, ``size``
    in GiB, ``path``, ``device``, ``protocol``, ``read_only``, ``encrypted``, ``wwn``,
    ``mount_points``, …) and ``status``: ok, pending, gone, wrong, size, lost (its storage does not
    answer) or locked (encrypted, and not open), with ``detail``. Secrets are left out.

    CLI Example:

    .. code-block:: bash

        salt db1 storage.attachment data
    """
    consumer = _flow().consumer
    found = consumer.attachment(validate.name(name))
    return _with_status(consumer, found) if found else {}


def attachments():
    """
    Return all attachments of this minion, by the volume's name.

    Returns a list of the answers of :py:func:`attachment`. A damaged record has only ``error``, and
    None in the other keys.

    CLI Example:

    .. code-block:: bash

        salt '*' storage.attachments
    """
    consumer = _flow().consumer
    found, errors = consumer.attachments()
    rows = [_with_status(consumer, a) for a in found]
    keys = [*(field.name for field in dataclasses.fields(Attachment)), "status", "detail"]
    return rows + [{**dict.fromkeys(keys), "error": str(error)} for error in errors]


def leftovers():
    """
    Return leftovers of volumes that no attachment record explains, as after a crash or work by
    hand.

    The function looks at all sessions and node records of iSCSI; at the loop devices, encrypted
    mappings and links that this minion made; and at lines of fstab. Nothing is changed. A host
    that uses iSCSI for other things too finds those here as well.

    Returns a list of ``kind`` (session, node, loop, mapping, link or fstab), ``name``, and
    ``remedy``: the way to remove it by hand, once it is known that nobody needs it.

    CLI Example:

    .. code-block:: bash

        salt '*' storage.leftovers
    """
    return [dataclasses.asdict(found) for found in _flow().consumer.leftovers()]


def holders(name):
    """
    Return the users of an attached volume: mounts, swap, devices on top of it, processes.

    name
        Name of the volume.

    Returns a list of texts, such as ``mounted on /srv``.

    CLI Example:

    .. code-block:: bash

        salt db1 storage.holders data
    """
    return [str(holder) for holder in _flow().consumer.holders(validate.name(name))]


def reattach():
    """
    Attach every recorded volume whose device is gone, as after a boot. Needs no controller.

    Encrypted volumes are opened as far as their passphrases can be read here without a master:
    from sdb, or from local pillar. The others stay attached and locked until a state is applied.

    Returns a list of ``name``, ``state`` (ok, attached, skipped, locked or failed), ``path`` and,
    where it failed or is locked, ``error``. The exit code is 1 when a volume failed.

    CLI Example:

    .. code-block:: bash

        salt-call --local storage.reattach
    """
    results = _flow().consumer.reattach()
    if any(result.state == "failed" for result in results):
        __context__["retcode"] = 1
    return [
        {"name": result.name, "state": result.state, "path": result.path, "error": str(result.error) if result.error else None}
        for result in results
    ]


def boot():
    """
    Return what the units of the SLS ``storage.consumer`` need to attach volumes at boot.

    Returns ``settings`` (path of the file with the consumer's settings) and its ``contents``, which
    hold no secrets; ``command`` and ``environ`` of the program that attaches; and ``locked`` (path
    of the file that the program leaves when encrypted volumes wait for Salt).

    CLI Example:

    .. code-block:: bash

        salt db1 storage.boot
    """
    config = ConsumerConfig.from_opts(__opts__)
    try:
        python = location.interpreter(__opts__, role=location.CONSUMER)
    except FailedPreconditionError:
        # It is made later in the same run of states.
        python = location.Interpreter(python=os.path.join(config.environment, "bin", "python"))
    environ = {"PYTHONPATH": python.package, "PYTHONSAFEPATH": "1"} if python.package else {}
    return {
        "settings": os.path.join(config.state_dir, booting.SETTINGS),
        "contents": json.dumps(config.to_wire(), indent=2, sort_keys=True) + "\n",
        "command": python.command("consumer.boot"),
        "environ": environ,
        "locked": os.path.join(config.state_dir, booting.LOCKED),
    }


def _with_status(consumer, found):
    try:
        status = consumer.check(found.name)
    except StorageError as error:
        return {**found.to_wire(), "status": None, "detail": None, "error": str(error)}
    return {**found.to_wire(), "status": status.state, "detail": status.detail, "error": None}
