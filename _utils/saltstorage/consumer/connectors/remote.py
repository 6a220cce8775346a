"""os-brick for Salt's jobs: Salt's Python has none, so a child in the storage environment does it.

Work that needs no os-brick is done here, so that a run that changes nothing starts no child.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from typing import Any

from ..host import heartbeat
from ..host.config import ConsumerConfig
from . import children, growing, nvme, shares


class Remote:
    """The same as :class:`.brick.Brick`, in a child that is started when it is first needed.

    :param config: gives the storage environment, and the settings of os-brick.
    """

    def __init__(self, config: ConsumerConfig) -> None:
        self.config = config
        self.shares = shares.Shares(config)

    def connector_properties(self) -> dict[str, Any]:
        """Return this host's facts for a mapping. See :meth:`.Brick.connector_properties`."""
        return copy.deepcopy(_properties(self.config))

    def connect(self, connection_info: Mapping[str, Any], *, use_multipath: bool) -> dict[str, Any]:
        """Attach and return os-brick's ``device_info``. See :meth:`.Brick.connect`."""
        with heartbeat.watch("os-brick", "attach, and wait for the device"):
            found: dict[str, Any] = self._ask("attach", "connect", connection_info, use_multipath=use_multipath)
            return found

    def disconnect(self, connection_info: Mapping[str, Any], device_info: Mapping[str, Any], *, use_multipath: bool, force: bool) -> None:
        """Detach. See :meth:`.Brick.disconnect`."""
        more = {"device_info": dict(device_info), "use_multipath": use_multipath, "force": force}
        with heartbeat.watch("os-brick", "detach"):
            self._ask("detach", "disconnect", connection_info, **more)

    def volume_paths(self, connection_info: Mapping[str, Any], *, use_multipath: bool) -> list[str]:
        """Return the paths at which a volume would appear. See :meth:`.Brick.volume_paths`."""
        return [str(path) for path in self._ask("look for the device", "volume_paths", connection_info, use_multipath=use_multipath)]

    def stays(self, connection_info: Mapping[str, Any]) -> bool:
        """Return whether a volume's device stays until it is unmapped. See :meth:`.Brick.stays`."""
        return nvme.is_nvme(connection_info) and bool(self._ask("look for the device", "stays", connection_info))

    def clean_up(self, connection_info: Mapping[str, Any]) -> None:
        """Remove the remains of a volume here. See :meth:`.Brick.clean_up`."""
        if nvme.is_nvme(connection_info):
            self._ask("clean up", "clean_up", connection_info)

    def check_extend(self, connection_info: Mapping[str, Any]) -> None:
        """Check that :meth:`extend` has all it needs. See :meth:`.Brick.check_extend`."""
        growing.check(connection_info)

    def extend(self, connection_info: Mapping[str, Any], *, use_multipath: bool, enough: Callable[[], bool]) -> None:
        """Let every path of a volume show the present size. See :meth:`.Brick.extend`."""
        growing.repeat(lambda: self._ask("read the new size", "rescan", connection_info, use_multipath=use_multipath), enough)

    def _ask(self, step: str, op: str, connection_info: Mapping[str, Any], **more: Any) -> Any:
        return children.ask(self.config, step, op, {"connection_info": dict(connection_info), **more})


@functools.lru_cache(maxsize=8)
def _properties(config: ConsumerConfig) -> dict[str, Any]:
    found: dict[str, Any] = children.ask(config, "read the initiator's properties", "connector_properties", {})
    return found
