"""
The storage controller's operations, for the administrator on the master.

They need the master option ``storage``. Functions that only read load no driver, except
:py:func:`backend_stats`, and work while the engine runs. Functions that change something load the
driver of the backend that they need, which takes a few seconds, and take the same locks as the
engine.

A function that fails returns ``error`` and ``code``, ``salt-run`` ends with exit code 1, and
everything else in Salt that runs it counts it as failed: the state ``salt.runner`` of an
orchestration, the reactor, salt-api, the scheduler and the job cache. Rows of a list all have the
same keys, so that ``--out=table`` works. Use ``--out=json`` for output that a program reads.

An operation that takes longer than a few seconds reports its progress every few seconds: as an
event ``storage/progress/<id>`` on the master's event bus and, unless ``--out`` is for a program, on
the terminal. Salt reads arguments as YAML: quote a name such as ``2024`` twice
(``name="'2024'"``), or use ``--no-parse=name``.

.. versionadded:: 1.0.0
"""

from saltstorage.runner import calls
from saltstorage.runner.minions import refuse_unknown
from saltstorage.runner.versions import rows

__virtualname__ = "storage"


def __virtual__():
    return __virtualname__


def _read(call, **args):
    """Return the controller's answer to a call."""
    return calls.read(__opts__, call, args)


def _call(op, **args):
    """Carry out an operation as the administrator, and show its progress when it takes long."""
    return calls.change(__opts__, op, args)


@calls.operation
def drivers(name=None, options=None):
    """
    Return the drivers that can be used: the project's own, and all that the installed Cinder lists.
    Takes some seconds.

    name : None
        Only drivers whose class path or name has this text in it.
    options : None
        Whether to list the options of each driver. None lists them when ``name`` is given.

    Returns a list of ``name``, ``class`` (to use as ``volume_driver``), ``description``,
    ``vendor``, ``version``, ``protocol``, ``wiki``, ``supported`` (False: its vendor supports it
    no more), ``missing`` (Python packages of the vendor that are not installed), ``install`` (what
    to install for them, and where), ``error`` (why it cannot be imported) and ``options`` that it
    reads (each with ``name``, ``type``, ``default``, ``required``, ``one_of``, ``secret``,
    ``choices`` and ``help``; without the key when none are listed). ``one_of`` names options of
    which one is required.

    CLI Example:

    .. code-block:: bash

        salt-run storage.drivers
        salt-run storage.drivers lvm
        salt-run storage.drivers options=True --out=json
    """
    given = {"name": name or "", "options": bool(name) if options is None else bool(options)}
    # It imports all drivers, and the controller that runs shall not keep them.
    return calls.read(__opts__, "drivers", given, own=True)


@calls.operation
def versions(minions=None):
    """
    Return the versions of the parts on this master, and of minions, and the part to restart, to
    sync or to apply where two of them differ.

    Code that was synced is used by ``salt-run`` at once, by the engine and its controller after a
    restart, and by the storage environment after ``state.apply storage.controller``.

    minions : None
        A glob of the minions to ask, such as ``'*'``; by default none is. A minion that does not
        answer in Salt's ``timeout`` is not listed.

    Returns a list of ``host`` (``master`` or a minion's id), ``part`` (runner, engine, controller,
    environment; of a minion modules and environment), ``version``, ``build`` (a digest of its
    code), ``python``, ``salt`` and ``hint`` (empty: nothing to do).

    CLI Example:

    .. code-block:: bash

        salt-run storage.versions --out=table
        salt-run storage.versions minions='*' --out=table
    """
    return rows(__opts__, minions)


@calls.operation
def backends():
    """
    Return the configured backends, and whether they are up. The controller asks each array every
    ``retry_interval`` seconds.

    Returns a list of ``name``, ``provider``, ``driver``, ``default``, ``state`` (up, down, or
    unknown: ``error`` says why), ``error``, ``capabilities``, ``checked`` (when the array was last
    asked, ISO 8601), ``age_seconds`` (how long ago that was) and ``allocated_gib``.

    CLI Example:

    .. code-block:: bash

        salt-run storage.backends
    """
    return _read("backends")


@calls.operation
def backend_stats(name=None):
    """
    Return fresh statistics of a backend. Loads its driver.

    name : None
        Name of the backend; the default backend if None.

    Returns ``name``, ``vendor``, ``driver_version``, ``protocol``, ``total_gib``, ``free_gib``,
    ``allocated_gib``, ``thin`` and ``pools``, each with ``name``, ``total_gib``, ``free_gib``,
    ``provisioned_gib``, ``reserved_percentage``, ``max_over_subscription_ratio`` and ``thin``. A
    number that the backend does not give is None.

    CLI Example:

    .. code-block:: bash

        salt-run storage.backend_stats
        salt-run storage.backend_stats name=ceph
    """
    return _read("backend_stats", name=name)


@calls.operation
def place(size, backend=None, type=None, pool=None, minion=None):
    """
    Return the pools in which a new volume could be, the best first, and why not in the others.
    Nothing is created. Loads the drivers.

    size
        Size: a whole number of GiB, or a text such as ``500GiB``.
    backend : None
        Backend of the volume; None for those of the type, or the default backend.
    type : None
        Type of the volume.
    pool : None
        Glob of the pools to look at; None for all.
    minion : None
        Apply the policy for this minion; None for no policy.

    Returns a list of ``backend``, ``pool``, ``room_gib`` (the GiB that it can still give, with the
    reserve, the over-subscription and running creations counted; None when nobody can tell),
    ``free_gib``, ``total_gib``, ``reserved_percentage``, ``max_over_subscription_ratio`` (None for
    a thick pool), ``reason`` (why it cannot be chosen) and ``chosen``.

    CLI Example:

    .. code-block:: bash

        salt-run storage.place 500GiB type=gold --out=table
        salt-run storage.place 500GiB backend=acme1 minion=db1
    """
    return _read("place", size=size, backend=backend, type=type, pool=pool, minion=minion)


@calls.operation
def volumes(owner=None, backend=None, state=None, host=None, labels=None, type=None, limit=None, after=None):
    """
    Return the volumes in the catalog.

    owner : None
        Only volumes of the minions that this glob matches, such as ``'db*'``, or ``shared``.
    backend : None
        Only volumes on this backend.
    state : None
        Only volumes in this state: creating, available, extending, deleting, reverting, adopting,
        releasing, migrating or error.
    host : None
        Only volumes that are connected to this minion.
    labels : None
        Only volumes that have all of these labels: ``env=prod,tier=db``, or a mapping. A key alone
        takes any value.
    type : None
        Only volumes of this type.
    limit : None
        Most volumes to return, in the order of owner and name.
    after : None
        ``OWNER/NAME`` of the last volume of the page before: the list goes on after it, also when
        that volume is gone.

    Returns a list of ``name``, ``owner``, ``size_gib``, ``backend``, ``state``, ``hosts``,
    ``type``, ``labels``, ``description``, ``protected``, ``retain``, ``source``, ``error``, ``id``
    and ``created`` (ISO 8601). The list is empty when nothing matches. It is an error when nothing
    matches and no minion with an accepted key is called as ``owner`` or ``host`` says.

    CLI Example:

    .. code-block:: bash

        salt-run storage.volumes
        salt-run storage.volumes owner='db*' labels='env=prod' --out=json
        salt-run storage.volumes limit=100 after=db1/data
    """
    where = {"owner": owner, "backend": backend, "state": state, "host": host, "labels": labels, "type": type}
    found = _read("volumes", **where, limit=limit, after=after)
    return refuse_unknown(__opts__, found, owner=owner, host=host)


@calls.operation
def volume(name, owner):
    """
    Return one volume with its connections and snapshots.

    name
        Name of the volume.
    owner
        Minion that it belongs to, or ``shared``.

    Returns the keys of a volume in :py:func:`volumes`, with ``connections``, ``snapshots`` and
    ``behind``: the hosts that have not followed the volume yet since it has grown. Fails with
    NOT_FOUND when the volume does not exist.

    CLI Example:

    .. code-block:: bash

        salt-run storage.volume data db1
    """
    return _read("volume", name=name, owner=owner)


@calls.operation
def connections(host=None, owner=None):
    """
    Return the connections: which volume is mapped to which host.

    host : None
        Only connections to this minion.
    owner : None
        Only connections of volumes of this owner.

    Returns a list of ``volume``, ``owner``, ``host``, ``size_gib`` (of the volume on that host, as
    far as the host has said), ``state`` (connecting, connected or disconnecting), ``read_only``,
    ``id`` and ``created`` (ISO 8601).

    CLI Example:

    .. code-block:: bash

        salt-run storage.connections
        salt-run storage.connections host=db1
    """
    where = {key: value for key, value in (("host", host), ("owner", owner)) if value is not None}
    return refuse_unknown(__opts__, _read("connections", **where), **where)


@calls.operation
def snapshots(owner=None, volume=None):
    """
    Return the snapshots in the catalog.

    owner : None
        Only snapshots of this owner's volumes.
    volume : None
        Only snapshots of volumes of this name.

    Returns a list of ``name``, ``owner``, ``volume``, ``size_gib``, ``backend``, ``state``,
    ``error``, ``frozen`` (whether the host held the file system still), ``series`` (of the state
    ``storage_snapshot.rotated``), ``id`` and ``created`` (ISO 8601).

    CLI Example:

    .. code-block:: bash

        salt-run storage.snapshots owner=db1
    """
    where = {key: value for key, value in (("owner", owner), ("volume", volume)) if value is not None}
    return refuse_unknown(__opts__, _read("snapshots", **where), owner=owner)


@calls.operation
def create(
    name,
    owner,
    size,
    backend=None,
    pool=None,
    type=None,
    source=None,
    resize=True,
    labels=None,
    description=None,
    protected=None,
    retain=None,
):
    """
    Make sure that a volume exists and is at least as large as asked.

    name
        Name of the volume; unique for its owner.
    owner
        Minion that it belongs to, or ``shared``.
    size
        Whole GiB, or a string such as ``20GiB``; rounded up to whole GiB.
    backend : None
        Name of a backend; the type's or the default backend if None.
    pool : None
        Glob of its pools that a new volume may be in; all that its type allows if None.
    type : None
        Name of a type in the controller's configuration, which says how the array makes the volume;
        none, or the source's, if None.
    source : None
        ``{volume: NAME}`` or ``{snapshot: NAME}`` of the same owner, to start with a copy of it.
    resize : True
        Whether an existing, smaller volume is grown.
    labels : None
        Mapping of texts, which replaces all labels; see :py:func:`update`.
    description : None
        A text about the volume.
    protected : None
        True: the volume cannot be deleted before this is False again.
    retain : None
        True: its data stays on the backend when it is deleted; see :py:func:`delete`.

    Returns ``volume`` as it is now, and ``old`` as it was before (None: it was created). Fails with
    ALREADY_EXISTS when it exists with other properties, OUT_OF_RANGE when it is larger,
    RESOURCE_EXHAUSTED when there is no room.

    CLI Example:

    .. code-block:: bash

        salt-run storage.create data owner=db1 size=20GiB
    """
    return _call("create", **locals())


@calls.operation
def update(name, owner, labels=None, description=None, protected=None, retain=None):
    """
    Change the notes on a volume: labels, description, protection and retention. An argument that
    is not given leaves its note as it is.

    A state that names the same notes sets them again with its next apply.

    name
        Name of the volume.
    owner
        Minion that it belongs to, or ``shared``.
    labels : None
        Mapping of texts, which replaces all labels; ``{}`` removes them. At most 64; a key has up
        to 63 bytes and no ``=`` or ``,``, a value up to 128 bytes.
    description : None
        A text of up to 255 bytes; an empty text removes it.
    protected : None
        True: neither its minion nor this runner can delete the volume before this is False again.
    retain : None
        True: its data stays on the backend when it is deleted, here or by its minion; see
        :py:func:`delete`.

    Returns ``volume`` as it is now, and ``old`` as it was before. Fails with NOT_FOUND, or with
    INVALID_ARGUMENT and nothing changed.

    CLI Example:

    .. code-block:: bash

        salt-run storage.update data owner=db1 labels='{env: prod}' description='Orders of shop 7'
        salt-run storage.update data owner=db1 protected=False
    """
    return _call("update", **locals())


@calls.operation
def extend(name, owner, size):
    """
    Grow a volume. The host that uses it sees the new size with its next ``state.apply``; the state
    ``storage_volume.mounted`` then grows the file system too. Until then, :py:func:`check` and
    :py:func:`volume` name the host.

    name
        Name of the volume.
    owner
        Minion that it belongs to, or ``shared``.
    size
        New size, in whole GiB or as a string such as ``20GiB``; a volume that is that large
        already is left alone.

    Returns ``volume`` as it is now, ``old`` as it was before, and ``behind``, the hosts that have
    not followed it yet. Fails with NOT_FOUND or RESOURCE_EXHAUSTED, or with FAILED_PRECONDITION
    when the backend can grow only volumes that no host uses.

    CLI Example:

    .. code-block:: bash

        salt-run storage.extend data owner=db1 size=40GiB
    """
    return _call("extend", name=name, owner=owner, size=size)


@calls.operation
def delete(name, owner, retain=None):
    """
    Delete a volume and all data on it, unless it is retained. It must not be connected to a host,
    have snapshots, or be protected.

    name
        Name of the volume.
    owner
        Minion that it belongs to, or ``shared``.
    retain : None
        True: its data stays on the backend and only the catalog forgets it, as by
        :py:func:`unmanage`. False: its data is deleted. None: the ``retain`` recorded with the
        volume, see :py:func:`create`, else False.

    Returns ``old``: the volume as it was, None when it did not exist; ``record_only``: True when
    the backend had it no more; ``retained``: None, or ``array_name``, its name on the backend, and
    ``take_over``, the command that takes it over again. Fails with FAILED_PRECONDITION, naming
    hosts or snapshots.

    CLI Example:

    .. code-block:: bash

        salt-run storage.delete data owner=db1
        salt-run storage.delete data owner=db1 retain=True
    """
    return _call("delete", name=name, owner=owner, retain=retain)


@calls.operation
def disconnect(name, owner, host, fenced=False):
    """
    Unmap a volume from a host that cannot do so itself, because it is dead.

    A host that lives must let go first: apply ``storage_volume.disconnected`` on it. A host that is
    taken for dead and still writes destroys the data as soon as another host uses the volume, so it
    must be fenced.

    name
        Name of the volume.
    owner
        Minion that it belongs to, or ``shared``.
    host
        Minion that it is mapped to.
    fenced : False
        Confirm with True that the host is powered off or cut off from the storage network.

    Returns ``connection`` as it was, None when there was none. When there was one, an event
    ``storage/fenced/<volume id>`` with ``volume``, ``owner`` and ``host`` is on the master's event
    bus after that. Fails with FAILED_PRECONDITION when the host may still write to the volume.

    CLI Example:

    .. code-block:: bash

        salt-run storage.disconnect data owner=db1 host=db1 fenced=True
    """
    given = {"name": name, "owner": owner, "host": host, "fenced": fenced}
    return calls.disconnect(__opts__, given)


@calls.operation
def snapshot_create(name, owner, volume):
    """
    Make sure that a snapshot of a volume exists. File systems on it are not frozen: the snapshot is
    like the disk after a power cut.

    name
        Name of the snapshot; unique for the owner.
    owner
        Minion that the volume belongs to, or ``shared``.
    volume
        Name of the volume.

    Returns ``snapshot``, and ``old`` (None: it was taken now). Fails with ALREADY_EXISTS when the
    name is that of another volume's snapshot.

    CLI Example:

    .. code-block:: bash

        salt-run storage.snapshot_create before-upgrade owner=db1 volume=data
    """
    return _call("snapshot_create", name=name, owner=owner, volume=volume)


@calls.operation
def snapshot_delete(name, owner):
    """
    Delete a snapshot.

    name
        Name of the snapshot.
    owner
        Minion that its volume belongs to, or ``shared``.

    Returns ``old``: the snapshot as it was, None when it did not exist; ``record_only``: True when
    the backend had it no more.

    CLI Example:

    .. code-block:: bash

        salt-run storage.snapshot_delete before-upgrade owner=db1
    """
    return _call("snapshot_delete", name=name, owner=owner)


@calls.operation
def snapshot_revert(name, owner, confirm=False):
    """
    Set a volume back to its latest snapshot. Everything written to it since is lost.

    The volume must not be connected to any host, and must still have the size that it had then.
    The snapshot stays. To look at a snapshot without losing anything, or when the volume has grown
    since, make a new volume of it.

    name
        Name of the snapshot.
    owner
        Minion that its volume belongs to, or ``shared``.
    confirm : False
        Confirm with True that everything written since may be lost.

    Returns ``volume`` and ``snapshot`` as they are now. Fails with FAILED_PRECONDITION, and changes
    nothing, when the volume is connected, there are later snapshots, or the backend refuses; with
    UNIMPLEMENTED when the backend cannot do this. After any other failure the volume cannot be used
    until a repetition has succeeded.

    CLI Example:

    .. code-block:: bash

        salt-run storage.snapshot_revert before-upgrade owner=db1 confirm=True
    """
    return _call("snapshot_revert", name=name, owner=owner, confirm=confirm)
