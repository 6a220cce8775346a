"""The initiators by which an array knows a host, and how the connector of a host may change.

Everything that was mapped must be unmapped one day. So a connector that replaces an earlier one
keeps every initiator of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Most values that one key of a connector may have.
MAX_ITEMS = 256
#: By Cinder's ``driver_volume_type``: the keys by which its drivers mask. The host's address is
#: not among them: a host that gets another address keeps its sessions and its mapping.
_MASKED_BY = {
    "iscsi": ("initiator",),
    "iser": ("initiator",),
    # VNX and Unity make one name of both.
    "fibre_channel": ("wwpns", "wwnns"),
    # PowerMax takes the NQN with the host's id, KumoScale the UUID.
    "nvmeof": ("nqn", "nvme_hostid", "uuid"),
    # Ceph knows a client by its key.
    "rbd": (),
}
#: Beginnings of the storage protocols of drivers, letters and digits alone, and their
#: ``driver_volume_type``. An entry that two of them fit, such as ``iSCSI/FC``, has the first; but
#: drivers report one.
_PROTOCOLS = (
    *(("iscsi", "iscsi"), ("iser", "iser"), ("fibrechannel", "fibre_channel"), ("fc", "fibre_channel"), ("nvme", "nvmeof")),
    *(("ceph", "rbd"), ("rbd", "rbd"), ("nfs", "nfs"), ("cifs", "smbfs"), ("file", "local")),
)
#: Types whose hosts are let in by no initiator: by a key, by an address, or not at all.
_WITHOUT = ("rbd", "nfs", "smbfs", "local")
#: Every key by which some driver masks. Types without a row above, such as NFS, may open an export
#: to an address, so the address counts here.
ALL_INITIATORS = ("initiator", "wwpns", "wwnns", "nqn", "nvme_hostid", "uuid", "sdc_guid", "ip")


def initiator_keys(kind: str | None) -> Sequence[str]:
    """Return the keys of a connector by which drivers of a protocol mask.

    :param kind: the ``driver_volume_type`` of a mapping; None when no attempt was finished, so
        that it is not known.

    >>> initiator_keys("iscsi")
    ('initiator',)
    """
    return _MASKED_BY.get(kind or "", ALL_INITIATORS)


def kind_of_protocol(protocol: str) -> str | None:
    """Return the ``driver_volume_type`` of a storage protocol, as drivers spell it in their
    statistics; None when it is not known.

    >>> kind_of_protocol("iSCSI"), kind_of_protocol("FC"), kind_of_protocol("nvmeof-tcp")
    ('iscsi', 'fibre_channel', 'nvmeof')
    """
    plain = "".join(filter(str.isalnum, protocol.lower()))
    for start, kind in _PROTOCOLS:
        if plain.startswith(start):
            return kind
    return None


def bound_keys(protocol: str) -> tuple[str, ...]:
    """Return the keys of a connector whose initiators let a host in, for a storage protocol. An
    unknown one has all of them but the address.

    >>> bound_keys("iSCSI"), bound_keys("NFS"), "wwpns" in bound_keys("scaleio")
    (('initiator',), (), True)
    """
    kind = kind_of_protocol(protocol)
    if kind in _WITHOUT:
        return ()
    return tuple(key for key in initiator_keys(kind) if key != "ip")


def merge_connectors(before: Mapping[str, Any], now: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any] | None:
    """Return the connector that replaces an earlier one without losing an initiator; None: unmap
    first.

    A value that the host no longer reports is kept: a Fibre Channel port whose link is down is not
    reported, and its paths are in use again when the link is back. Ports are added as long as one
    of them is the same.

    >>> merge_connectors({"wwpns": ["a", "b"]}, {"wwpns": ["b", "c"], "ip": "192.0.2.7"}, ["wwpns"])
    {'wwpns': ['a', 'b', 'c'], 'ip': '192.0.2.7'}
    >>> merge_connectors({"initiator": "iqn.2024-01.org.example:old"},
    ...                  {"initiator": "iqn.2024-01.org.example:new"}, ["initiator"])
    """
    result = dict(now)
    for key in keys:
        old, new = before.get(key), now.get(key)
        if not old or old == new:
            continue
        if not new:
            result[key] = old
        elif isinstance(old, list) and isinstance(new, list):
            every = list(dict.fromkeys([*old, *new]))
            if not set(old) & set(new) or len(every) > MAX_ITEMS:
                return None
            result[key] = every
        else:
            return None
    return result
