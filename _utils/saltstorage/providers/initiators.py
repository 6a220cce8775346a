"""By what an array knows a host, and whether two connectors are of one host as far as that goes.

What is unmapped one day must be all that was mapped, so a connector that takes the place of another one never loses an initiator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Values that one key of a connector may have.
MAX_ITEMS = 256
#: By Cinder's ``driver_volume_type``: what its drivers mask by. The address a host has is no part of it: a host that gets another one keeps
#: its sessions and its mapping.
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
#: What any driver masks by. Where the type has no row above, as with NFS, an export may be open to an address.
EVERYTHING = ("initiator", "wwpns", "wwnns", "nqn", "nvme_hostid", "uuid", "sdc_guid", "ip")


def masked_by(kind: str | None) -> Sequence[str]:
    """Return the keys of a connector by which a driver masks.

    :param kind: the ``driver_volume_type`` of a mapping; None when it is not known, as no attempt was finished.
    """
    return _MASKED_BY.get(kind or "", EVERYTHING)


def joined(before: Mapping[str, Any], now: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any] | None:
    """Return the connector that takes the place of an earlier one without losing an initiator; None: the mapping must be undone first.

    What the host does not tell any more stays: a port of Fibre Channel whose link is down is not told, and its paths are in use again
    when the link is back. So ports are added as long as one is the same.

    >>> joined({"wwpns": ["a", "b"]}, {"wwpns": ["b", "c"], "ip": "192.0.2.7"}, ["wwpns"])
    {'wwpns': ['a', 'b', 'c'], 'ip': '192.0.2.7'}
    >>> joined({"initiator": "iqn.2024-01.org.example:old"}, {"initiator": "iqn.2024-01.org.example:new"}, ["initiator"])
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
