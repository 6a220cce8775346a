"""The adapter to os-brick: imported when something is attached or detached, and never for a look.

os-brick's functions run in this process, as root, without its privilege daemon.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib.util
import logging
import os
import re
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ...errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    StorageError,
    UnavailableError,
    UnimplementedError,
)
from ..host import commands, heartbeat
from ..host.config import ConsumerConfig
from . import iscsi, nvme, shares

_SECRET_KEY = re.compile(r"passw|passphrase|secret|token|keyring|credential|encryption_key", re.IGNORECASE)
#: Types of connections whose disks os-brick's ``LinuxSCSI.extend_volume`` rescans, which asks the program lsscsi for their numbers.
SCSI = ("iscsi", "iser", "fibre_channel")
#: How long a device may take to show its new size, and the pause before it is asked again, seconds.
_EXTEND_TIMEOUT = 60.0
_EXTEND_PAUSE = 1.0
_import_lock = threading.Lock()
log = logging.getLogger(__name__)


class Brick:
    """os-brick with the settings of one consumer.

    :param config: gives the host's name, the lock path and the multipath settings.
    """

    def __init__(self, config: ConsumerConfig) -> None:
        self.config = config
        self.shares = shares.Shares(config)

    def connector_properties(self) -> dict[str, Any]:
        """Return what a controller must know of this host to map a volume to it; read once a process.

        :returns: such as ``{"host": "db1", "ip": "10.0.0.5", "initiator": "iqn.1994-05.com.redhat:1", "multipath": False, …}``.
        :raises FailedPreconditionError: multipath is enforced and multipathd does not run.
        """
        return copy.deepcopy(_properties(self.config))

    def connect(self, connection_info: Mapping[str, Any], *, use_multipath: bool) -> dict[str, Any]:
        """Attach and return os-brick's ``device_info``, such as ``{"type": "block", "path": "/dev/sdc", "scsi_wwn": …}``."""
        with heartbeat.watched("os-brick", "attach, and wait for the device"), translated("attach", connection_info):
            if nvme.is_nvme(connection_info):
                nvme.check(connection_info["data"])
            data = {**connection_info["data"], "enforce_multipath": use_multipath and self.config.enforce_multipath}
            device_info = self._connector(connection_info, use_multipath).connect_volume(data)
            if connection_info["driver_volume_type"] == "iscsi":
                iscsi.leave_to_the_records(connection_info["data"])
            return _plain(device_info)

    def disconnect(self, connection_info: Mapping[str, Any], device_info: Mapping[str, Any], *, use_multipath: bool, force: bool) -> None:
        """Detach, with the very data that :meth:`connect` got and gave.

        :param force: go on when data cannot be flushed, and lose it.
        """
        with heartbeat.watched("os-brick", "detach"), translated("detach", connection_info):
            connector = self._connector(connection_info, use_multipath)
            if connection_info["driver_volume_type"] == "iscsi":
                iscsi.restore_records(connection_info["data"])
            # With force alone, os-brick still raises at the end what it went over.
            connector.disconnect_volume(dict(connection_info["data"]), dict(device_info) or None, force=force, ignore_errors=force)
            if connection_info["driver_volume_type"] in shares.PROTOCOLS:
                self.shares.leave(connection_info, connector._remotefsclient.get_mount_point(connection_info["data"]["export"]))

    def volume_paths(self, connection_info: Mapping[str, Any], *, use_multipath: bool) -> list[str]:
        """Return the paths at which a volume would appear on this host, whatever is there now."""
        with translated("look for the device", connection_info):
            connector = self._connector(connection_info, use_multipath)
            # os-brick's NVMe connector alone wants its own form here.
            data = nvme.properties(connection_info["data"]) if nvme.is_nvme(connection_info) else dict(connection_info["data"])
            return [str(path) for path in connector.get_volume_paths(data)]

    def stays(self, connection_info: Mapping[str, Any]) -> bool:
        """Return whether a volume's device stays until the volume is unmapped, since others are reached the same way."""
        with translated("look for the device", connection_info):
            return nvme.is_nvme(connection_info) and nvme.is_shared(connection_info["data"])

    def clean_up(self, connection_info: Mapping[str, Any]) -> None:
        """Remove what is left of a volume on this host after it was unmapped; nothing is fine."""
        with translated("clean up", connection_info):
            if nvme.is_nvme(connection_info):
                nvme.clean_up(self._connector(connection_info, False), connection_info["data"])

    def check_extend(self, connection_info: Mapping[str, Any]) -> None:
        """Look for what :meth:`extend` needs, before the volume grows.

        :raises FailedPreconditionError: a program is missing on this host; it is named.
        """
        if connection_info["driver_volume_type"] in SCSI:
            commands.find("lsscsi")

    def extend(self, connection_info: Mapping[str, Any], *, use_multipath: bool, enough: Callable[[], bool]) -> None:
        """Let every path of an attached volume show the present size; for up to a minute, until ``enough`` says that it does.

        While the session of a disk is logged in anew, as after a target closed it to grow, the kernel leaves out what it is told to read
        again, and says nothing of that (``scsi_rescan_device`` of Linux, for any disk that is not running).

        :raises UnavailableError: paths are down.
        """
        until = time.monotonic() + _EXTEND_TIMEOUT
        with heartbeat.watched("os-brick", "read the new size"):
            while True:
                try:
                    with translated("read the new size", connection_info):
                        self._connector(connection_info, use_multipath).extend_volume(dict(connection_info["data"]))
                    if enough() or time.monotonic() >= until:
                        return
                except UnavailableError:
                    if time.monotonic() >= until:
                        raise
                time.sleep(_EXTEND_PAUSE)

    def _connector(self, connection_info: Mapping[str, Any], use_multipath: bool) -> Any:
        connector = _load(self.config.lock_path)
        protocol = connection_info["driver_volume_type"]
        if protocol == "rbd":
            from .rbd import KernelRBDConnector

            return KernelRBDConnector(os.path.join(self.config.lock_path, "rbd"))
        # The controller's answer has a directory of the controller.
        options = {"conn": {"mount_point_base": self.shares.mount_base}} if protocol in shares.PROTOCOLS else {}
        # The keyword is `use_multipath`; another is swallowed, and the volume silently gets one path.
        return connector.InitiatorConnector.factory(protocol, "", use_multipath=use_multipath, **options)


@functools.lru_cache(maxsize=8)
def _properties(config: ConsumerConfig) -> dict[str, Any]:
    with translated("read the initiator's properties"):
        if config.multipath:
            nvme.load_core()
        connector = _load(config.lock_path)
        from os_brick import utils
        from oslo_utils import importutils

        # The loop of os-brick's get_connector_properties, less what would write to /etc for hardware that the host cannot have.
        properties: dict[str, Any] = {
            "platform": os.uname().machine,
            "os_type": sys.platform,
            "ip": _address(),
            "host": config.host,
        }
        for path in connector.unix_connector_list:
            cls = importutils.import_class(path)
            if not utils.platform_matches(properties["platform"], cls.platform):
                continue
            if cls.__name__ == "LightOSConnector" and not (os.path.exists("/etc/nvme/hostnqn") or shutil.which("nvme")):
                continue
            found = cls.get_connector_properties(
                "", host=config.host, multipath=config.multipath, enforce_multipath=config.enforce_multipath, execute=None
            )
            properties = utils.merge_dict(properties, found)
        properties["multipath"] = config.multipath and _multipath_runs(config, properties)
        return properties


def _multipath_runs(config: ConsumerConfig, properties: Mapping[str, Any]) -> bool:
    """Return whether volumes can have several paths here.  os-brick looks only once it attaches, when the volume is mapped."""
    from os_brick.initiator.linuxscsi import LinuxSCSI

    if properties.get("nvme_native_multipath") or LinuxSCSI.is_multipath_running(root_helper=""):
        return True
    if config.enforce_multipath:
        raise FailedPreconditionError(
            "multipath is enforced and multipathd does not run; start it (package multipath-tools or device-mapper-multipath)"
        )
    log.warning("Multipath is configured and multipathd does not run; volumes get a single path")
    return False


def check_connection_info(connection_info: Any) -> dict[str, Any]:
    """Return connection information in Cinder's format, ``{"driver_volume_type": …, "data": {…}}``.

    :raises InvalidArgumentError: it has another form.
    :raises UnimplementedError: the volume is encrypted by Cinder, and the consumer has no key manager; or its file is no plain image.
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
    # Over any other format, a loop device would be a disk with the format's own tables on it.
    form = connection_info["data"].get("format")
    if connection_info["driver_volume_type"] in shares.PROTOCOLS and form not in (None, "raw"):
        raise UnimplementedError(
            f"the volume is a {form} file, and this consumer attaches raw ones only; set nfs_qcow2_volumes and"
            " nfs_snapshot_support of its backend to false"
        )
    return dict(connection_info)


@contextlib.contextmanager
def translated(step: str, connection_info: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Turn errors of os-brick and oslo into ours, by their types, with all secrets masked.

    :param step: what is being done: ``"attach"``.
    :param connection_info: its secrets are masked wherever they appear.
    """
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        # `from None`: a traceback in a log must not show the original text.
        raise _translate(error, step, connection_info or {}) from None


def _translate(error: Exception, step: str, connection_info: Mapping[str, Any]) -> StorageError:
    if isinstance(error, ImportError):
        return FailedPreconditionError(
            f"cannot {step}: os-brick cannot be loaded ({error.name} is missing); install os-brick for Salt's Python"
        )
    from os_brick import exception
    from oslo_concurrency import processutils

    text = _masked(error, connection_info)
    message = f"cannot {step}: {text}"
    if isinstance(error, exception.ExecutionTimeout):
        return DeadlineExceededError(message)
    if isinstance(error, processutils.ProcessExecutionError):
        # os-brick turns "no such command" into this type and keeps the cause as the context.
        if isinstance(error.__context__, FileNotFoundError) or error.exit_code == 127:
            command = str(error.cmd or "").split(" ")[0]
            return FailedPreconditionError(f"cannot {step}: the command {command} is missing; install the package that has it")
        return UnavailableError(message)
    if isinstance(error, exception.InvalidConnectorProtocol):
        return UnimplementedError(
            f"cannot {step}: os-brick has no connector for {connection_info.get('driver_volume_type')!r} on this host"
        )
    if isinstance(error, exception.VolumeEncryptionNotSupported | exception.VolumeLocalCacheNotSupported):
        return UnimplementedError(message)
    if isinstance(error, exception.NoFibreChannelHostsFound | exception.BlockDeviceReadOnly):
        return FailedPreconditionError(message)
    if isinstance(error, exception.BrickException | OSError):
        # Targets, portals, paths and devices that do not come or do not go: the storage network decides.
        return UnavailableError(message)
    if isinstance(error, KeyError | TypeError | ValueError | AttributeError | NotImplementedError):
        # What was wrong with the data may be quoted in the text, so name the type only.
        return InternalError(
            f"cannot {step}: os-brick raised {type(error).__name__} for this {connection_info.get('driver_volume_type')!r} connection"
        )
    return InternalError(message)


def _masked(error: Exception, connection_info: Mapping[str, Any]) -> str:
    from oslo_utils import strutils

    text = str(strutils.mask_password(str(error)))
    for secret in secrets_of(connection_info):
        text = text.replace(secret, "***")
    # ExceptionChainer prints tracebacks; the end of it says what happened.
    return text.strip()[-1000:]


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


def _load(lock_path: str) -> Any:
    """Import os-brick, prepare it once, and return its connector module."""
    with _import_lock:
        connector = _import()
        _setup(lock_path)
        return connector


@functools.cache
def _import() -> Any:
    # os-brick needs no eventlet, but oslo.privsep and oslo.service import it when they can: a third of the time, and
    # a deprecation warning. Keep it out while os-brick loads, unless someone else in this process has chosen it.
    quick = "eventlet" not in sys.modules and "oslo_service" not in sys.modules and importlib.util.find_spec("cotyledon") is not None
    if quick:
        from oslo_service import backend

        backend.register_backend_default_hook(lambda: backend.BackendType.THREADING)
        sys.modules["eventlet"] = None  # type: ignore[assignment]
    try:
        from os_brick import privileged
        from os_brick.initiator import connector
    finally:
        if quick:
            del sys.modules["eventlet"]
    # A host without iSCSI or NVMe needs no warning that it has none; what is missing shows when it is needed.
    for name in ("iscsi", "nvmeof"):
        logging.getLogger(f"os_brick.initiator.connectors.{name}").addFilter(lambda record: "Could not find" not in str(record.msg))
    privileged.default.set_client_mode(False)
    privileged.brick_privsep_hide_output.set_client_mode(False)
    return connector


def _setup(lock_path: str) -> None:
    """Give os-brick its lock path; without one, it fails at the first lock."""
    import os_brick
    from oslo_concurrency import lockutils
    from oslo_config import cfg

    conf = cfg.CONF  # The one that os-brick reads.
    if getattr(getattr(conf, "os_brick", None), "lock_path", None) == lock_path:
        return
    os.makedirs(lock_path, mode=0o700, exist_ok=True)
    # A lock path that is there was set by Cinder in the same process; it stays for Cinder.
    lockutils.set_defaults(conf.oslo_concurrency.lock_path or lock_path)
    os_brick.setup(conf)
    conf.set_override("lock_path", lock_path, "os_brick")


def _address() -> str:
    """Return the address that this host uses towards others; nothing is sent."""
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((far, 9))
            return str(probe.getsockname()[0])
    return "127.0.0.1"


def _plain(device_info: Any) -> dict[str, Any]:
    """Return os-brick's answer as data that JSON keeps as it is."""
    result: dict[str, Any] = {}
    for key, value in dict(device_info or {}).items():
        result[str(key)] = value.decode() if isinstance(value, bytes) else value
    return result
