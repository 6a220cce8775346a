"""Options of ``cinder.conf`` that would be accepted and do nothing, since the service that reads
them does not run here. Each is refused with the way to have what it promises.
"""

from __future__ import annotations

from collections.abc import Mapping

_SCHEDULER = "Cinder's scheduler reads it, and none runs here: volumes go to the pool with most room, and types and policy choose pools"
_IMAGES = "it is about images of Glance, which are not used here"

#: By name, the reason.
OPTIONS: Mapping[str, str] = {
    "filter_function": _SCHEDULER,
    "goodness_function": _SCHEDULER,
    "extra_capabilities": _SCHEDULER,
    "backend_availability_zone": "there are no availability zones here; name a type for each place, with its backends",
    "image_upload_use_cinder_backend": _IMAGES,
    "image_upload_use_internal_tenant": _IMAGES,
    "image_volume_cache_enabled": _IMAGES,
    "image_volume_cache_max_count": _IMAGES,
    "image_volume_cache_max_size_gb": _IMAGES,
    "backup_use_temp_snapshot": "it is about Cinder's backups, which are not used here",
    # The rest are those of the section [DEFAULT], which guides name and a backend never has.
    "enabled_backends": "each backend is an entry of storage:backends",
    "default_volume_type": "storage:default_backend names the backend of volumes without a type",
    "backend_host": "all controllers that share a catalog have the same name to drivers",
    "my_ip": "name the address in the driver's own option, such as target_ip_address",
    "volume_name_template": "volumes are called volume-<id>, by which check and repair know them",
    "snapshot_name_template": "snapshots are called snapshot-<id>, by which check and repair know them",
    "zoning_mode": "Fibre Channel zones are configured for all backends, in storage:zoning",
    "fc_fabric_names": "Fibre Channel zones are configured for all backends, in storage:zoning",
}
