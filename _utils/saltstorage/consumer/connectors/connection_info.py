"""Connection information: how a host reaches a mapped volume, in the format of Cinder's drivers.

``driver_volume_type`` is the protocol and selects os-brick's connector; ``data`` goes to that
connector.
:func:`check` has an example for each protocol.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...errors import InvalidArgumentError, UnimplementedError
from . import shares

_SECRET_KEY = re.compile(r"passw|passphrase|secret|token|keyring|credential|encryption_key", re.IGNORECASE)


def check(connection_info: Any) -> dict[str, Any]:
    r"""Check connection information, and return it as a dictionary.

    :raises InvalidArgumentError: it has another form.
    :raises UnimplementedError: the volume is encrypted by Cinder, and the consumer has no key
        manager; or its file is no plain image.

    iSCSI over two paths, with CHAP; a single path has ``target_portal``, ``target_iqn`` and
    ``target_lun``:

    >>> iscsi = check({
    ...     "driver_volume_type": "iscsi",
    ...     "data": {
    ...         "target_discovered": False,
    ...         "target_portals": ["10.52.1.11:3260", "10.52.2.11:3260"],
    ...         "target_iqns": ["iqn.2010-10.org.example:7f3a", "iqn.2010-10.org.example:7f3a"],
    ...         "target_luns": [0, 0],
    ...         "auth_method": "CHAP",
    ...         "auth_username": "db1",
    ...         "auth_password": "secret of the target",
    ...     },
    ... })

    NVMe over TCP, in the second of Cinder's two forms; the first has ``nqn``, ``target_portal``,
    ``target_port``, ``transport_type`` and ``ns_id``:

    >>> nvmeof = check({
    ...     "driver_volume_type": "nvmeof",
    ...     "data": {
    ...         "target_nqn": "nqn.2014-08.org.nvmexpress:uuid:7f3a",
    ...         "vol_uuid": "7f3a0c5e-3f1f-4c43-8a9f-6b6f6d2d9b11",
    ...         "portals": [["10.52.1.11", 4420, "tcp"], ["10.52.2.11", 4420, "tcp"]],
    ...         "ns_id": 1,
    ...     },
    ... })

    Fibre Channel; ``initiator_target_map`` says which target ports each initiator of this host
    reaches:

    >>> fibre_channel = check({
    ...     "driver_volume_type": "fibre_channel",
    ...     "data": {
    ...         "target_discovered": True,
    ...         "target_lun": 1,
    ...         "target_wwn": ["20210002AC00383D", "20220002AC00383D"],
    ...         "initiator_target_map": {
    ...             "100010604b010459": ["20210002AC00383D"],
    ...             "100010604b01045d": ["20220002AC00383D"],
    ...         },
    ...     },
    ... })

    Ceph RBD; without ``keyring``, the host's own key in ``/etc/ceph`` is used:

    >>> rbd = check({
    ...     "driver_volume_type": "rbd",
    ...     "data": {
    ...         "name": "volumes/volume-7f3a0c5e-3f1f-4c43-8a9f-6b6f6d2d9b11",
    ...         "hosts": ["10.52.1.11", "10.52.1.12", "10.52.1.13"],
    ...         "ports": ["6789", "6789", "6789"],
    ...         "cluster_name": "ceph",
    ...         "auth_enabled": True,
    ...         "auth_username": "cinder",
    ...         "keyring": "[client.cinder]\n\tkey = secret of the user\n",
    ...     },
    ... })

    NFS; ``name`` is the volume's file in the share:

    >>> nfs = check({
    ...     "driver_volume_type": "nfs",
    ...     "data": {
    ...         "export": "10.52.1.11:/srv/volumes",
    ...         "name": "volume-7f3a0c5e-3f1f-4c43-8a9f-6b6f6d2d9b11",
    ...         "options": "-o vers=4.2",
    ...         "format": "raw",
    ...     },
    ... })

    A file or device of this host:

    >>> local = check({"driver_volume_type": "local", "data": {"device_path": "/srv/volumes/7f3a"}})
    """
    if (
        not isinstance(connection_info, Mapping)
        or not isinstance(connection_info.get("driver_volume_type"), str)
        or not isinstance(connection_info.get("data"), Mapping)
    ):
        raise InvalidArgumentError(
            "connection_info must have a driver_volume_type and data, as Cinder's drivers return it", field="connection_info"
        )
    if connection_info["data"].get("encrypted"):
        raise UnimplementedError("the volume is encrypted by Cinder, which this consumer cannot open")
    # A loop device over any other format would be a disk with the format's own tables on it.
    form = connection_info["data"].get("format")
    if connection_info["driver_volume_type"] in shares.PROTOCOLS and form not in (None, "raw"):
        raise UnimplementedError(
            f"the volume is a {form} file, and this consumer attaches raw ones only; set nfs_qcow2_volumes and"
            " nfs_snapshot_support of its backend to false"
        )
    return dict(connection_info)


def secrets_of(data: Any, *, secret: bool = False) -> set[str]:
    """Return the values in connection information that must never be shown.

    >>> secrets_of({"data": {"auth_username": "u", "auth_password": "geheim"}})
    {'geheim'}
    """
    if isinstance(data, Mapping):
        return {s for key, value in data.items() for s in secrets_of(value, secret=secret or bool(_SECRET_KEY.search(str(key))))}
    if isinstance(data, list | tuple):
        return {s for value in data for s in secrets_of(value, secret=secret)}
    return {data} if secret and isinstance(data, str) and data else set()
