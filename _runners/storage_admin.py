"""
More of the runner ``storage``: rare operations that only an administrator carries out.

They look for faults and mend them, take over volumes that exist, give volumes to other minions, and
move them to other backends. The rules are those of the runner's other functions: see there for
errors, output and progress.

.. versionadded:: 1.0.0
"""

from saltstorage.bus.keys import MinionKeys
from saltstorage.runner import calls

__virtualname__ = "storage"


def __virtual__():
    return __virtualname__


def _change(call, **args):
    return calls.change(__opts__, call, args, call)


def _known():
    """Return the minions with an accepted key; None without a master, which has no keys."""
    return MinionKeys(__opts__).all_accepted()


@calls.operation
def check(backend=None, kinds=None):
    """
    Return everything that is not as it should be. Nothing is changed. Loads the drivers, to see
    which volumes the backends hold.

    backend : None
        Only on this backend; None for all.
    kinds : None
        Only these kinds of findings, a list or one of: ``backend`` (it cannot be asked),
        ``half_done`` (an operation was cut off and nobody goes on with it), ``lost_backend`` (it is
        not configured, and volumes are on it), ``same_storage`` (two backends have the volume),
        ``error``, ``orphan`` (named as the project names volumes, and no record knows it), ``gone``
        (a record whose volume the backend does not have), ``resized`` (a volume whose size was
        changed on the backend itself), ``left_over`` (of a volume that is gone
        from the catalog), ``dead_host`` (connected to a minion without accepted key),
        ``fenced_host`` (a volume was taken from it, and it has not confirmed that its stale device
        is gone),
        ``behind`` (it has not followed a volume that has grown), ``unknown_owner`` (owned by a
        minion without key), ``moved`` (the original that a move left), ``shared_host`` (two minions
        that an array may take for one host) and ``unattached`` (no host uses it).

    Returns a list of ``kind``, ``what``, ``text``, ``backend``, ``owner``, ``name``, ``host``,
    ``id``, ``size_gib``, ``reference``, ``repair`` (the mending by :py:func:`repair`) and
    ``named`` (it mends this only when the id is named). Orphans and gone volumes are found only on
    backends whose driver can list its volumes.

    CLI Example:

    .. code-block:: bash

        salt-run storage.check
        salt-run storage.check kinds='[orphan, gone]' --out=json
    """
    return _change("check", known=_known(), backend=backend, kinds=kinds)


@calls.operation
def validate(name, file=None, life=False, minion=None, timeout=600):
    """
    Try a backend step by step: its options, the names of hosts in them, the login, its statistics,
    and when told, the life of a volume, which is cleaned up. In a process of its own, beside the
    controller that serves; nothing is written to the catalog.

    name
        The backend, as it is configured or is to be called.
    file : None
        A YAML file on the master with the backend's options, to try it before it is configured: the
        options alone, or pillar with ``storage:controller:backends:<name>``.
    life : False
        Also create a volume of 1 GiB, take a snapshot, copy both, grow the volume, and delete all
        of it, as far as the backend can.
    minion : None
        Also map the volume to this minion, which has to answer and does not attach it. This
        includes ``life``, but the volume does not grow.
    timeout : 600
        Longest run, seconds. A driver that hangs is ended then.

    Returns a list of ``step``, ``result`` (``ok`` or ``failed``), ``seconds``, ``text`` (the
    finding, or the cause) and ``code`` (of the error). The first step that fails is the last one,
    apart from those that clean up, and makes the function fail.

    CLI Example:

    .. code-block:: bash

        salt-run storage.validate acme1 --out=table
        salt-run storage.validate acme2 file=/root/acme2.yaml
        salt-run storage.validate acme1 minion=db1
    """
    from saltstorage.runner import trials

    return trials.validate(__opts__, name, file=file, life=life, minion=minion, timeout=timeout)


@calls.operation
def initiators(minion=None, kind=None):
    """
    Return the initiators by which arrays know hosts, and the minion that each belongs to: the first
    that used it. Another minion with the same one is refused.

    minion : None
        Only those of this minion.
    kind : None
        Only of this kind: ``initiator`` (iSCSI), ``wwpns``, ``wwnns`` (Fibre Channel), ``nqn``,
        ``nvme_hostid`` (NVMe) or ``sdc_guid``.

    Returns a list of ``minion``, ``kind``, ``value`` and ``created`` (ISO 8601).

    CLI Example:

    .. code-block:: bash

        salt-run storage.initiators --out=table
    """
    where = {"minion": minion, "kind": kind}
    return calls.read(__opts__, "initiators", {key: value for key, value in where.items() if value is not None})


@calls.operation
def bind(minion, kind, value):
    """
    Give an initiator to a minion before its first use, so that no other minion can use it.

    minion
        The minion's id.
    kind
        As :func:`initiators` has it.
    value
        The initiator, in any spelling.

    CLI Example:

    .. code-block:: bash

        salt-run storage.bind db1 wwpns 50:01:43:80:18:6a:f8:3c
    """
    return _change("bind", minion=minion, kind=kind, value=value)


@calls.operation
def rebind(minion, kind, value):
    """
    Take an initiator from the minion that has it and give it to another one: hardware has moved, or
    a host was installed again under another minion id. The former minion must have no connection.

    minion
        The id of the minion that gets it.
    kind
        As :func:`initiators` has it.
    value
        The initiator, in any spelling.

    CLI Example:

    .. code-block:: bash

        salt-run storage.rebind db2 initiator iqn.2004-10.com.example:db1
    """
    return _change("bind", minion=minion, kind=kind, value=value, force=True)


@calls.operation
def unbind(kind, value):
    """
    Forget which minion an initiator belongs to; the next one that uses it gets it. The former
    minion must have no connection.

    kind
        As :func:`initiators` has it.
    value
        The initiator, in any spelling.

    CLI Example:

    .. code-block:: bash

        salt-run storage.unbind initiator iqn.2004-10.com.example:db1
    """
    return _change("unbind", kind=kind, value=value)


@calls.operation
def repair(backend=None, kinds=None, remove=None, fenced=None, apply=False):
    """
    Mend the findings of :py:func:`check`, or tell how they would be mended.

    Operations that were cut off are finished or undone, as the engine does when it starts. A
    volume that is not proven to be the project's own, such as an orphan, is removed only when its
    id is named.

    backend : None
        Only on this backend; None for all.
    kinds : None
        Only these kinds of findings, as for :py:func:`check`.
    remove : None
        Id, or list of ids, of findings that are removed only when named. **The data of an orphan
        is deleted.** Of a volume that is gone, only the record is removed. For a fenced host, its
        fence is forgotten: the host must never come back with its stale device.
    fenced : None
        Name of another controller that is gone for good while it was moving volumes. Give it to
        confirm that this controller is powered off or cut off from the storage network: its moves
        are undone here. A controller that is taken for dead and still copies writes to storage
        that is another volume's by then.
    apply : False
        Whether to mend. False only tells how.

    Returns the findings that are (or would be) mended, as :py:func:`check` returns them, with
    ``done``, ``error`` and ``code`` (both None). When mending one of them fails, the others are
    mended all the same, and the function fails: its ``details`` then have all of them as ``rows``.

    CLI Example:

    .. code-block:: bash

        salt-run storage.repair
        salt-run storage.repair apply=True
        salt-run storage.repair kinds=orphan remove=8f14e45f-ceea-467f-a8b2-3c1ad5b1f9f2 apply=True
        salt-run storage.repair fenced=master2 apply=True
    """
    return _change("repair", backend=backend, kinds=kinds, remove=remove, fenced=fenced, apply=apply)


@calls.operation
def manageable(backend=None):
    """
    Return the volumes on a backend that are not the project's, and whether they can be taken over.
    Loads the driver.

    backend : None
        Name of the backend; the default backend if None.

    Returns a list of ``reference`` (for :py:func:`manage`), ``size_gib``, ``adoptable``,
    ``reason`` (why it is not) and ``id`` (the UUID in its name). Fails with UNIMPLEMENTED when the
    driver cannot list.

    CLI Example:

    .. code-block:: bash

        salt-run storage.manageable backend=lvm
    """
    return _change("manageable", backend=backend)


@calls.operation
def manage(name, owner, reference, backend=None):
    """
    Take over a volume that exists on a backend, with its data. Most drivers rename it there. It is
    never formatted.

    name
        Name that it gets.
    owner
        Minion that it will belong to, or ``shared``.
    reference
        Its name on the backend, or a mapping as :py:func:`manageable` lists it, such as
        ``{source-name: lv1}``.
    backend : None
        Name of the backend; the default backend if None.

    Returns ``volume``, and ``new`` (False: it was taken over before). Fails with ALREADY_EXISTS
    when the name is taken or the volume is in the catalog already, FAILED_PRECONDITION when the
    backend says that it is in use, INVALID_ARGUMENT when the backend has no such volume.

    CLI Example:

    .. code-block:: bash

        salt-run storage.manage data owner=db1 reference=old-lv backend=lvm
    """
    given = {"name": name, "owner": owner, "reference": reference, "backend": backend}
    return _change("manage", **given)


@calls.operation
def unmanage(name, owner):
    """
    Remove a volume from the catalog, and leave its data on the backend. It must not be connected,
    have snapshots, or be protected.

    name
        Name of the volume.
    owner
        Minion that it belongs to, or ``shared``.

    Returns ``old``: the volume as it was, None when it did not exist; ``array_name``: its name on
    the backend; ``take_over``: the command that takes it over again.

    CLI Example:

    .. code-block:: bash

        salt-run storage.unmanage data owner=db1
    """
    return _change("unmanage", name=name, owner=owner)


@calls.operation
def import_cinderlib(url, owner, backend=None, source_backend=None, names=None, apply=False):
    """
    Take over the volumes and snapshots in the database of another cinderlib, with their ids.
    Nothing on the array changes.

    Volumes that are connected, encrypted or not in the status ``available`` are left out. They are
    never formatted. QoS and extra specs of their types are not taken over.

    url
        SQLAlchemy URL of the database, which is only read. A URL with a password must be in Salt's
        ``sdb``: give its ``sdb://`` URI.
    owner
        Minion that the volumes will belong to, or ``shared``; :py:func:`give` passes them on.
    backend : None
        Name of the configured backend that has the volumes; the default backend if None.
    source_backend : None
        Name of that backend in the other database; None when it has only one.
    names : None
        Names that volumes and snapshots get, as a mapping from their ids; the others keep theirs.
    apply : False
        Whether to take them over. False only tells which.

    Returns for each volume ``id``, ``name``, ``size_gib``, ``snapshots``, ``done``, ``reason``
    (why it is left out), ``error`` and ``code`` (both None). When taking over one of them fails,
    the others are taken over all the same, and the function fails: its ``details`` then have all
    of them as ``rows``.

    CLI Example:

    .. code-block:: bash

        salt-run storage.import_cinderlib sqlite:////srv/other.sqlite owner=db1 backend=lvm
        salt-run storage.import_cinderlib sdb://vault/other?key=url owner=db1 apply=True
    """
    given = {"url": url, "owner": owner, "backend": backend, "source_backend": source_backend, "names": names, "apply": apply}
    if isinstance(url, str) and url.startswith("sdb://"):
        import salt.utils.sdb

        given |= {"url": salt.utils.sdb.sdb_get(url, __opts__), "from_sdb": True}
    return _change("import_cinderlib", **given)


@calls.operation
def rename_backend(old, new, force=False, apply=False):
    """
    Give everything that is recorded for a backend to another name of it, after its name was changed
    in the configuration. Nothing on the array changes, and hosts may be connected.

    Until then, its volumes cannot be used, and :py:func:`check` lists them as ``lost_backend``.

    old
        The former name, which is no longer configured.
    new
        The name that the same storage has in the configuration now.
    force : False
        Also when the driver cannot list its volumes, or does not list some of them.
    apply : False
        Whether to do it. False only tells the volumes.

    Returns for each volume ``owner``, ``name``, ``id``, ``backend`` and ``done``.

    CLI Example:

    .. code-block:: bash

        salt-run storage.rename_backend san fast_san
        salt-run storage.rename_backend san fast_san apply=True
    """
    return _change("rename_backend", old=old, new=new, force=force, apply=apply)


@calls.operation
def give(name, owner, new_owner, new_name=None, force=False):
    """
    Give a volume, with its snapshots, to another minion, or another name to a volume. It must not
    be connected.

    name
        Name of the volume.
    owner
        Minion that it belongs to, or ``shared``.
    new_owner
        Minion that it will belong to, or ``shared``. This master must have accepted its key, or the
        next minion with that id would own the data. The policy must let it use the backend, and own
        that much.
    new_name : None
        Name that it will have; None keeps the name.
    force : False
        With True, give it also to a minion without an accepted key on this master, such as a minion
        that is not installed yet.

    Returns ``old``, ``volume`` as it is now, and ``snapshots``, the names of those that went
    along. Fails with NOT_FOUND when the volume does not exist, or the new owner has no accepted
    key. Without a master there are no keys, and none is asked for.

    CLI Example:

    .. code-block:: bash

        salt-run storage.give data db1 db2
        salt-run storage.give data db1 new_owner=db2 new_name=data-of-db1
    """
    given = {"name": name, "owner": owner, "new_owner": new_owner, "new_name": new_name, "force": force}
    return _change("give", **given, known=_known())


@calls.operation
def migrate(name, owner, backend, delete_old=False):
    """
    Move a volume that no host is connected to, and that has no snapshots, to another backend.

    It is copied on the controller, which must reach the storage network of both backends, run as
    root and have ``os-brick``. The copy is compared with the original before anything is switched,
    and the original is kept until you have it removed. After an interruption at any point, the
    volume is as it was, or moved. The volume's id changes.

    name
        Name of the volume.
    owner
        Minion that it belongs to, or ``shared``.
    backend
        Name of the backend to move it to.
    delete_old : False
        Whether to delete the original afterwards; otherwise :py:func:`migrate_finish` does so.

    Returns ``old``, ``volume`` as it is now, ``move`` (the record of the original; None: the
    original is deleted) and ``checksum`` (SHA-256 of the data; None: it was on that backend
    already).

    CLI Example:

    .. code-block:: bash

        salt-run storage.migrate data db1 backend=fast
    """
    given = {"name": name, "owner": owner, "backend": backend, "delete_old": delete_old}
    return _change("migrate", **given)


@calls.operation
def migrate_finish(name, owner):
    """
    Delete the original that :py:func:`migrate` left on the former backend.

    name
        Name of the volume.
    owner
        Minion that it belongs to, or ``shared``.

    Returns ``removed``: the original that is deleted, None when there was none.

    CLI Example:

    .. code-block:: bash

        salt-run storage.migrate_finish data db1
    """
    return _change("migrate_finish", name=name, owner=owner)
