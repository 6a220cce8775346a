"""A SolidFire cluster: its JSON-RPC over HTTPS, with volumes, snapshots, clones, accounts and
access groups that are remembered. Nothing stores data.

Written after the public reference of the Element API
(https://docs.netapp.com/us-en/element-software/api/), as far as Cinder's driver uses it.
"""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Callable
from typing import Any

from .https import HTTPSArray, Request

GIB = 2**30
_QOS = {"minIOPS": 50, "maxIOPS": 15000, "burstIOPS": 15000}


class Refused(Exception):
    """An error answer.

    :ivar name: its name in the API, such as ``xUnknownVolume``.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class Cluster:
    """The state of a cluster, and a method for each of the API.

    :ivar size: the space that volumes may have in all, bytes.
    :ivar volumes: by their ids; likewise snapshots, accounts and access groups.
    :ivar asked: the methods that were called so far.
    """

    LOGIN = "admin"
    PASSWORD = "sf-passw0rd"

    def __init__(self, size: int = 1000 * GIB) -> None:
        self.size = size
        self.volumes: dict[int, dict[str, Any]] = {}
        self.snapshots: dict[int, dict[str, Any]] = {}
        self.accounts: dict[int, dict[str, Any]] = {}
        self.groups: dict[int, dict[str, Any]] = {}
        self.asked: list[str] = []
        self._ids = itertools.count(1)
        self._turn = threading.Lock()

    def contents(self) -> set[str]:
        """Return the names of all volumes and snapshots."""
        kept = {"volume": self.volumes, "snapshot": self.snapshots}
        return {f"{kind} {entry['name']} {number}" for kind, entries in kept.items() for number, entry in entries.items()}

    def answer(self, request: Request) -> dict[str, Any]:
        """Return the answer to a request."""
        method, params = request.json["method"], request.json["params"]
        with self._turn:
            self.asked.append(method)
            call: Callable[..., dict[str, Any]] | None = getattr(self, f"_{method}", None)
            try:
                if call is None:
                    raise Refused("xUnknownAPIMethod", f"{method} is not known")
                # The values that a caller gives and gets do not change with the state.
                return {"id": None, "result": copy.deepcopy(call(**copy.deepcopy(params)))}
            except Refused as error:
                return {"id": None, "error": {"code": 500, "name": error.name, "message": str(error)}}

    def _GetClusterInfo(self) -> dict[str, Any]:
        return {"clusterInfo": {"name": "sim", "mvip": "127.0.0.1", "svip": "192.0.2.10", "uuid": "5ea1-cluster", "uniqueID": "5ea1"}}

    def _GetClusterVersionInfo(self) -> dict[str, Any]:
        return {"clusterAPIVersion": "12.5", "clusterVersion": "12.5.0.897"}

    def _GetClusterCapacity(self) -> dict[str, Any]:
        blocks = dict.fromkeys(("uniqueBlocks", "uniqueBlocksUsedSpace", "zeroBlocks", "nonZeroBlocks"), 0)
        operations = dict.fromkeys(("currentIOPS", "averageIOPS", "maxIOPS", "peakIOPS"), 0)
        space = {"maxProvisionedSpace": self.size, "maxUsedSpace": self.size, "usedSpace": self._used()}
        return {"clusterCapacity": {**blocks, **operations, **space}}

    def _used(self) -> int:
        return sum(volume["totalSize"] for volume in self.volumes.values())

    def _reserve(self, size: int) -> int:
        """Return a size as the cluster delivers it.

        :raises Refused: the cluster has no space for it.
        """
        if self._used() + size > self.size:
            raise Refused("xExceededLimit", f"{size} bytes are more than the cluster may provision")
        return -(-size // 4096) * 4096

    def _ListAccounts(self) -> dict[str, Any]:
        return {"accounts": list(self.accounts.values())}

    def _GetAccountByName(self, username: str) -> dict[str, Any]:
        for account in self.accounts.values():
            if account["username"] == username:
                return {"account": account}
        raise Refused("xUnknownAccount", f"there is no account {username}")

    def _AddAccount(self, username: str, initiatorSecret: str, targetSecret: str, attributes: Any) -> dict[str, Any]:
        number = next(self._ids)
        self.accounts[number] = {
            "accountID": number,
            "username": username,
            "initiatorSecret": initiatorSecret,
            "targetSecret": targetSecret,
            "attributes": attributes,
        }
        return {"accountID": number}

    def _find(self, entries: dict[int, dict[str, Any]], number: Any, name: str) -> dict[str, Any]:
        try:
            return entries[int(number)]
        except KeyError:
            raise Refused(name, f"there is no {number}") from None

    def _ListVolumes(self, startVolumeID: Any = 0, limit: int = 10**6, volumeName: str = "") -> dict[str, Any]:
        found = [v for number, v in sorted(self.volumes.items()) if number >= int(startVolumeID) and volumeName in ("", v["name"])]
        return {"volumes": found[:limit]}

    def _ListActiveVolumes(self, startVolumeID: Any = 0, limit: int = 10**6) -> dict[str, Any]:
        found = self._ListVolumes(startVolumeID)["volumes"]
        return {"volumes": [volume for volume in found if volume["status"] == "active"][:limit]}

    def _ListVolumesForAccount(self, accountID: int) -> dict[str, Any]:
        self._find(self.accounts, accountID, "xUnknownAccount")
        return {"volumes": [volume for volume in self._ListVolumes()["volumes"] if volume["accountID"] == accountID]}

    def _CreateVolume(
        self,
        name: str,
        accountID: int,
        totalSize: int,
        attributes: Any,
        qos: Any,
        **_: Any,
    ) -> dict[str, Any]:
        self._find(self.accounts, accountID, "xUnknownAccount")
        size, number = self._reserve(totalSize), next(self._ids)
        self.volumes[number] = {
            "volumeID": number,
            "name": name,
            "accountID": accountID,
            "totalSize": size,
            "status": "active",
            "access": "readWrite",
            "attributes": attributes,
            "qos": {**_QOS, **qos},
            "volumePairs": [],
            "iqn": f"iqn.2010-01.com.solidfire:5ea1.{name.lower()}.{number}",
        }
        return {"volumeID": number}

    def _ModifyVolume(self, volumeID: int, totalSize: int = 0, qos: Any = None, **changes: Any) -> dict[str, Any]:
        volume = self._find(self.volumes, volumeID, "xVolumeIDDoesNotExist")
        if totalSize > volume["totalSize"]:
            self._reserve(totalSize - volume["totalSize"])
            volume["totalSize"] = totalSize
        elif 0 < totalSize < volume["totalSize"]:
            raise Refused("xVolumeShrinkProhibited", "a volume cannot shrink")
        volume["qos"].update(qos or {})
        volume.update({key: value for key, value in changes.items() if key in volume})
        return {"volume": volume}

    def _CloneVolume(
        self,
        volumeID: int,
        name: str,
        newAccountID: int,
        newSize: int,
        snapshotID: int | None = None,
    ) -> dict[str, Any]:
        origin = self._find(self.volumes, volumeID, "xVolumeIDDoesNotExist")
        if snapshotID is not None:
            self._find(self.snapshots, snapshotID, "xSnapshotIDDoesNotExist")
        made = self._CreateVolume(name, newAccountID, newSize, origin["attributes"], origin["qos"])
        return {**made, "cloneID": next(self._ids), "asyncHandle": next(self._ids)}

    def _DeleteVolume(self, volumeID: int) -> dict[str, Any]:
        self._find(self.volumes, volumeID, "xVolumeIDDoesNotExist")["status"] = "deleted"
        return {}

    def _PurgeDeletedVolume(self, volumeID: int) -> dict[str, Any]:
        if self._find(self.volumes, volumeID, "xVolumeIDDoesNotExist")["status"] != "deleted":
            raise Refused("xVolumeNotDeleted", "delete it first")
        del self.volumes[volumeID]
        self.snapshots = {number: each for number, each in self.snapshots.items() if each["volumeID"] != volumeID}
        for group in self.groups.values():
            group["volumes"] = [number for number in group["volumes"] if number != volumeID]
        return {}

    def _ListSnapshots(self, volumeID: int | None = None) -> dict[str, Any]:
        return {"snapshots": [each for each in self.snapshots.values() if volumeID in (None, each["volumeID"])]}

    def _CreateSnapshot(self, volumeID: int, name: str) -> dict[str, Any]:
        size = self._find(self.volumes, volumeID, "xVolumeIDDoesNotExist")["totalSize"]
        number = next(self._ids)
        self.snapshots[number] = {"snapshotID": number, "volumeID": volumeID, "name": name, "totalSize": size, "status": "done"}
        return {"snapshotID": number}

    def _DeleteSnapshot(self, snapshotID: int) -> dict[str, Any]:
        self._find(self.snapshots, snapshotID, "xSnapshotIDDoesNotExist")
        del self.snapshots[snapshotID]
        return {}

    def _RollbackToSnapshot(self, volumeID: int, snapshotID: int, **_: Any) -> dict[str, Any]:
        self._find(self.volumes, volumeID, "xVolumeIDDoesNotExist")
        if self._find(self.snapshots, snapshotID, "xSnapshotIDDoesNotExist")["volumeID"] != volumeID:
            raise Refused("xInvalidParameter", "the snapshot is of another volume")
        return {}

    def _ListVolumeAccessGroups(self) -> dict[str, Any]:
        return {"volumeAccessGroups": list(self.groups.values())}

    def _CreateVolumeAccessGroup(self, name: str, initiators: list[str], volumes: list[int], attributes: Any) -> dict[str, Any]:
        if any(set(initiators) & set(group["initiators"]) for group in self.groups.values()):
            raise Refused("xExceededLimit", f"{initiators} are in a group already")
        number = next(self._ids)
        members = {"initiators": initiators, "volumes": volumes, "deletedVolumes": []}
        self.groups[number] = {"volumeAccessGroupID": number, "name": name, "attributes": attributes, **members}
        return {"volumeAccessGroupID": number}

    def _AddVolumesToVolumeAccessGroup(self, volumeAccessGroupID: int, volumes: list[int]) -> dict[str, Any]:
        group = self._find(self.groups, volumeAccessGroupID, "xVolumeAccessGroupIDDoesNotExist")
        if set(volumes) & set(group["volumes"]):
            raise Refused("xAlreadyInVolumeAccessGroup", f"{volumes} are in the group")
        group["volumes"] += volumes
        return {}

    def _RemoveVolumesFromVolumeAccessGroup(self, volumeAccessGroupID: int, volumes: list[int]) -> dict[str, Any]:
        group = self._find(self.groups, volumeAccessGroupID, "xVolumeAccessGroupIDDoesNotExist")
        if not set(volumes) <= set(group["volumes"]):
            raise Refused("xNotInVolumeAccessGroup", f"{volumes} are not in the group")
        group["volumes"] = [number for number in group["volumes"] if number not in volumes]
        return {}

    def _DeleteVolumeAccessGroup(self, volumeAccessGroupID: int) -> dict[str, Any]:
        self._find(self.groups, volumeAccessGroupID, "xVolumeAccessGroupIDDoesNotExist")
        del self.groups[volumeAccessGroupID]
        return {}

    def _GetVolumeStats(self, volumeID: int) -> dict[str, Any]:
        self._find(self.volumes, volumeID, "xVolumeIDDoesNotExist")
        groups = [number for number, group in self.groups.items() if volumeID in group["volumes"]]
        return {"volumeStats": {"volumeID": volumeID, "volumeAccessGroups": groups}}


def serve(cluster: Cluster) -> HTTPSArray:
    """Serve a cluster on a port of the loopback interface."""
    return HTTPSArray(cluster.answer, login=(Cluster.LOGIN, Cluster.PASSWORD))
