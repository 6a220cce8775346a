"""Identities at the array: the name under which a driver knows a minion, and the initiators, each
of which belongs to one minion.

A signature proves a minion's id to the controller, and nothing to the array, which tells hosts
apart by a name and by initiators that the host itself claims. So the name is made here, and the
first minion that uses an initiator keeps it.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import AlreadyExistsError, FailedPreconditionError, InvalidArgumentError, NotFoundError, PermissionDeniedError
from ...model import Initiator
from ..catalog.catalog import Catalog
from .core import new_id

#: Longest name of a host at an array, bytes: that of 3PAR, the shortest of Cinder's drivers which
#: do not shorten names by a digest of their own.
MAX_NAME = 31
_DIGITS = 10
_IQN = re.compile(r"(?:iqn\.|eui\.|naa\.)[0-9A-Za-z.:_-]{1,219}")
_NQN = re.compile(r"nqn\.[0-9A-Za-z.:_-]{1,219}")
_WWN = re.compile(r"(?:0x)?([0-9a-fA-F]{16})")
_UUID = re.compile(r"[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}")
_ISCSI = "make a new name with iscsi-iname, write it into /etc/iscsi/initiatorname.iscsi and restart iscsid"
_NVME = "make new ones: nvme gen-hostnqn > /etc/nvme/hostnqn; uuidgen > /etc/nvme/hostid"
#: By the key of a connector: its name, and the way of a cloned machine to another one. The `uuid`
#: of os-brick is that of the root file system, which machines from one image have in common.
KINDS: Mapping[str, tuple[str, str]] = {
    "initiator": ("iSCSI name", _ISCSI),
    "wwpns": ("Fibre Channel port name", ""),
    "wwnns": ("Fibre Channel node name", ""),
    "nqn": ("NVMe host name (NQN)", _NVME),
    "nvme_hostid": ("NVMe host id", _NVME),
    "sdc_guid": ("SDC GUID", "install the SDC anew"),
}


def host_name(minion: str) -> str:
    """Return the name under which arrays know a minion: a readable part, and a digest of the whole
    id. It has no dot, since drivers cut names at the first one.

    >>> host_name("db1.prod.example"), host_name("db1.test.example")
    ('db1-bea6a1a2a9', 'db1-c116d2e1d7')
    """
    digest = hashlib.sha256(minion.encode()).hexdigest()[:_DIGITS]
    readable = re.sub(r"[^0-9a-z]+", "-", minion.partition(".")[0].lower()).strip("-")[: MAX_NAME - _DIGITS - 1].rstrip("-")
    return f"{readable or 'host'}-{digest}"


def values(connector: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the initiators of a host, each as the key of the connector and the value in one
    spelling.

    :raises InvalidArgumentError: one has not the form of its kind.

    >>> list(values({"wwpns": ["50:01:43:80:18:6A:F8:3C"]}))
    [('wwpns', '50014380186af83c')]
    """
    for kind in KINDS:
        given = connector.get(kind)
        if given in (None, "", []):
            continue
        several = kind in ("wwpns", "wwnns")
        if several is not isinstance(given, list):
            raise InvalidArgumentError(f"connector:{kind} must be {'a list' if several else 'one value'}", field=f"connector:{kind}")
        for value in given if isinstance(given, list) else [given]:
            yield kind, normal(kind, value)


def known_values(connector: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the initiators of a recorded connector; none of a connector that was recorded in
    another form, which is compared with nothing.
    """
    try:
        return list(values(connector))
    except InvalidArgumentError:
        return []


def normal(kind: str, value: Any) -> str:
    """Return an initiator in one spelling, by which two are compared.

    :param kind: one of :data:`KINDS`.
    :raises InvalidArgumentError: it has not the form of its kind.
    """
    text = value.replace(":", "") if isinstance(value, str) and kind in ("wwpns", "wwnns") else value
    form = {"initiator": _IQN, "nqn": _NQN, "wwpns": _WWN, "wwnns": _WWN}.get(kind, _UUID)
    match = form.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise InvalidArgumentError(f"connector:{kind}: {KINDS[kind][0]} expected, not {value!r}", field=f"connector:{kind}")
    return (match[1] if form is _WWN else match[0].replace("-", "") if form is _UUID else match[0]).lower()


class Identities:
    """The initiators that are bound to minions, in the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def claim(self, minion: str, connector: Mapping[str, Any], kinds: frozenset[str]) -> None:
        """Bind the initiators of a host to a minion, before a driver is asked to let them in.

        :param kinds: the keys of the connector by which the backend lets hosts in.
        :raises PermissionDeniedError: another minion has one; it is not named.
        :raises InvalidArgumentError: one has not the form of its kind.
        """
        wanted = [(kind, value) for kind, value in values(connector) if kind in kinds]
        for _ in range(2):
            have = {(i.kind, i.value): i.minion for i in self._catalog.initiators(value=[value for _, value in wanted])} if wanted else {}
            for kind, value in wanted:
                if have.get((kind, value), minion) != minion:
                    raise _refused(kind, value)
            new = [
                Initiator(id=new_id(), kind=kind, value=value, minion=minion, created=time.time())
                for kind, value in dict.fromkeys(wanted)
                if (kind, value) not in have
            ]
            if not new:
                return
            try:
                self._catalog.apply(add=new)
            except AlreadyExistsError:
                continue  # another minion, or another request of this one, was faster
            return
        raise FailedPreconditionError("the host's initiators are being bound by another request; try again")

    def seed(self) -> list[tuple[Initiator, str]]:
        """Bind the initiators of the connections that were recorded before; return those that two
        minions use, each with the other minion.
        """
        bound = {(i.kind, i.value): i for i in self._catalog.initiators()}
        new, conflicts = [], []
        for connection in self._catalog.connections():
            for key in known_values(connection.connector):
                have = bound.get(key)
                if have is None:
                    have = bound[key] = Initiator(id=new_id(), kind=key[0], value=key[1], minion=connection.host, created=time.time())
                    new.append(have)
                elif have.minion != connection.host:
                    conflicts.append((have, connection.host))
        if new:
            self._catalog.apply(add=new)
        return conflicts

    def bind(self, *, minion: str, kind: str, value: str, force: bool = False) -> Initiator:
        """Bind an initiator to a minion, before that uses it, or in place of another minion.

        :param force: take it from the minion that has it, which must have no connection.
        :raises AlreadyExistsError: another minion has it, and ``force`` is False.
        :raises FailedPreconditionError: that minion has connections, which may use it.
        """
        if kind not in KINDS:
            raise InvalidArgumentError(f"there is no kind {kind!r}; known: {', '.join(KINDS)}", field="kind")
        value = normal(kind, value)
        wanted = Initiator(id=new_id(), kind=kind, value=value, minion=minion, created=time.time())
        former = next((i for i in self._catalog.initiators(kind=kind, value=value)), None)
        if former is None:
            self._catalog.apply(add=[wanted])
            return wanted
        if former.minion == minion:
            return former
        if not force:
            raise AlreadyExistsError(
                f"{KINDS[kind][0]} {value} belongs to {former.minion}; when that host does not use it any more, say so with storage.rebind",
                field="value",
            )
        if used := [c.volume for c in self._catalog.connections(host=former.minion)]:
            raise FailedPreconditionError(
                f"{former.minion} is connected to {', '.join(sorted(used)[:5])}, perhaps by this {KINDS[kind][0]};"
                " disconnect it there first"
            )
        self._catalog.apply(remove=[former], add=[wanted])
        return wanted

    def unbind(self, *, kind: str, value: str) -> Initiator:
        """Forget the minion of an initiator; the next that uses it gets it.

        :raises NotFoundError: it is bound to none.
        :raises FailedPreconditionError: its minion has connections.
        """
        if kind not in KINDS:
            raise InvalidArgumentError(f"there is no kind {kind!r}; known: {', '.join(KINDS)}", field="kind")
        found = next((i for i in self._catalog.initiators(kind=kind, value=normal(kind, value))), None)
        if found is None:
            raise NotFoundError(f"{KINDS[kind][0]} {value} belongs to no minion", field="value")
        if self._catalog.connections(host=found.minion):
            raise FailedPreconditionError(f"{found.minion} has connections, perhaps by this {KINDS[kind][0]}; disconnect it there first")
        self._catalog.remove(found)
        return found


def _refused(kind: str, value: str) -> PermissionDeniedError:
    name, cure = KINDS[kind]
    cloned = f" On a cloned machine, {cure}." if cure else ""
    return PermissionDeniedError(
        f"the {name} {value} of this host belongs to another minion.{cloned} After hardware has moved from another host, or a host was"
        " installed again under another minion id, the administrator gives it to this minion with salt-run storage.rebind",
        field=f"connector:{kind}",
    )
