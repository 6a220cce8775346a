"""cinderlib's ``Backend``, adapted to a process of Salt. Only :mod:`.bridge` imports it."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Any, NoReturn

import cinder.privsep
import os_brick
import os_brick.privileged
from cinder import utils as cinder_utils
from cinder.volume import configuration
from cinderlib import cinderlib
from cinderlib.persistence.dbms import DBPersistence
from oslo_concurrency import processutils
from oslo_config import cfg
from oslo_utils import importutils

from . import declared, values

__all__ = ["Backend", "DBPersistence"]


class Backend(cinderlib.Backend):
    """One configured driver; see cinderlib."""

    #: oslo.config is one object for all backends.
    _config_lock = threading.Lock()

    def _get_backend_config(self, driver_cfg: dict[str, Any]) -> Any:
        """Return the driver's view of its options.

        cinderlib passes them through a group that all backends share, and drops those that the
        driver registers later or elsewhere. Overrides of the backend's own group stay.
        """
        name = driver_cfg["volume_backend_name"]
        definitions = declared.find_options(importutils.import_class(driver_cfg["volume_driver"]))
        with self._config_lock:
            cfg.CONF.register_group(cfg.OptGroup(name))
            config = configuration.Configuration([], config_group=name)
            self._clear_options(name)
            for key, value in driver_cfg.items():
                # A driver that was here before may have left another definition of that name.
                cfg.CONF.unregister_opt(definitions[key], group=name)
                with contextlib.suppress(cfg.DuplicateOptError):
                    cfg.CONF.register_opt(definitions[key], group=name)
                cfg.CONF.set_override(key, values.normalize(definitions[key], value), group=name)
            return config

    @classmethod
    def forget(cls, name: str) -> None:
        """Drop a backend, so that it can be loaded with other options."""
        cls.backends.pop(name, None)
        with cls._config_lock:
            cls._clear_options(name)

    @staticmethod
    def _clear_options(name: str) -> None:
        if name in cfg.CONF:
            for key in list(cfg.CONF[name]):
                cfg.CONF.clear_override(key, group=name)

    @classmethod
    def _set_cinder_config(cls, host: str, locks_path: str, cinder_config_params: dict[str, Any]) -> None:
        parse_args = cfg._CachedArgumentParser.parse_args
        super()._set_cinder_config(host, locks_path, cinder_config_params)
        # cinderlib makes every parser of oslo.config in the process ignore its arguments; this
        # process parses none.
        cfg._CachedArgumentParser.parse_args = parse_args  # type: ignore[method-assign]
        # cinderlib assigns these two, which lasts until oslo.config drops its cache.
        cfg.CONF.set_override("lock_path", locks_path, "oslo_concurrency")
        cfg.CONF.set_override("backend_url", f"file://{locks_path}", "coordination")
        os_brick.setup(cfg.CONF)

    @classmethod
    def _set_logging(cls, disable_logs: bool) -> None:
        """Leave the logging of the process alone; :mod:`.logs` does the necessary part."""

    @classmethod
    def _set_priv_helper(cls, root_helper: str) -> None:
        """Run commands as root only where this process is root.

        Otherwise oslo would call ``sudo`` by default. No rule of sudo lets a user run these
        commands and no others, so a controller that is not root gets an error instead.

        :param root_helper: cinderlib's own parameter; not used.
        """
        cinder_utils.get_root_helper = lambda: ""
        is_root = os.geteuid() == 0
        for context in (cinder.privsep.sys_admin_pctxt, os_brick.privileged.default):
            context.set_client_mode(not is_root)
            if not is_root:
                context.start = _refuse_root


def _refuse_root(*_args: Any, **_kwargs: Any) -> NoReturn:
    """Take the place of the start of oslo.privsep's daemon, which would use sudo."""
    raise processutils.NoRootWrapSpecified("a command has to be run as root")
