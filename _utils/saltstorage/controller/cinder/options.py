"""Checks the options of a Cinder driver before the driver sees them."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import FailedPreconditionError, InvalidArgumentError
from . import bridge, declared, logs, packages, required, useless, values

# A keyring is an INI file: "[client.cinder]", then "key = AQB…".
_CEPH_USER = re.compile(r"^\s*\[([^\]\n]*)\]", re.MULTILINE)
_CEPH_KEY = re.compile(r"^\s*key\s*=\s*\"?([^\s\"]+)", re.MULTILINE)


def check(backend: str, options: Mapping[str, Any]) -> type[Any]:
    """Return the driver's class when all options are known, valid and complete.

    Values of options that the driver calls secret are masked in logs and messages from then on.

    :raises InvalidArgumentError: ``field`` names the option.
    :raises FailedPreconditionError: the driver lacks a Python package, which the message names.
    """
    driver = find_driver(backend, options)
    known = declared.find_options(driver)
    for name, value in options.items():
        option = known.get(name)
        if name in useless.OPTIONS:
            text = f"backend {backend!r} has the option {name!r}, which does nothing here: {useless.OPTIONS[name]}; remove it"
            raise InvalidArgumentError(text, field=name)
        if option is None:
            raise InvalidArgumentError(
                f"backend {backend!r} has the option {name!r}, which its driver does not have{_hint(name, driver, known)}", field=name
            )
        for text in values.find_texts(value) if option.secret else ():
            logs.add_secret(text)
        try:
            values.check(option, value)
        except (ValueError, TypeError) as error:
            shown = logs.mask(str(error)) if isinstance(error, values.FormError) or not option.secret else ""
            raise InvalidArgumentError(
                f"backend {backend!r} has a wrong value for the option {name!r}{shown and f': {shown}'}", field=name
            ) from None
    refused = getattr(driver, "refused_options", None)
    for name, why in (refused(options) if refused is not None else {}).items():
        raise InvalidArgumentError(f"backend {backend!r}: the option {name!r} {why}", field=name)
    _check_support(backend, driver, options)
    if options.get(declared.RBD_KEYRING.dest):
        _check_keyring(backend, str(options[declared.RBD_KEYRING.dest]), f"client.{options.get('rbd_user') or 'admin'}")
    required.check(backend, driver, options, known)
    return driver


def _hint(name: str, driver: type[Any], known: Mapping[str, Any]) -> str:
    """Return what to do about an option that the driver does not have."""
    renamed = [option.dest for option in known.values() if name in (old.name for old in option.deprecated_opts)]
    near = renamed or difflib.get_close_matches(name, known, n=1)
    did_you = f"; did you mean {near[0]!r}?" if near else ""
    return f"{did_you or ';'} 'salt-run storage.drivers {driver.__module__}.{driver.__name__}' lists those that it reads"


def _check_support(backend: str, driver: type[Any], options: Mapping[str, Any]) -> None:
    """Refuse a driver that Cinder marks as unsupported, as Cinder does, unless the option says that
    the administrator knows.
    """
    field = "enable_unsupported_driver"
    if not getattr(driver, "SUPPORTED", True) and str(options.get(field)).lower() not in ("true", "1", "yes", "on"):
        raise InvalidArgumentError(
            f"backend {backend!r} has a driver that Cinder marks as unsupported: its vendor tests it no more, and a later Cinder may "
            f"lack it; set {field}: true to use {driver.__name__} all the same",
            field=field,
        )


def _check_keyring(backend: str, path: str, user: str) -> None:
    """Refuse a Ceph keyring that cannot be given to hosts, and mask its keys: the driver logs the
    whole file at DEBUG.

    The driver goes on without a keyring that it cannot read, and every host then fails to attach.
    """
    field = "rbd_keyring_conf"
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise FailedPreconditionError(
            f"backend {backend!r} has the {field} {path!r}, which the controller cannot read: {reason}; "
            "make it with 'ceph auth get-or-create', readable for the user that runs the master",
            field=field,
        ) from None
    for key in _CEPH_KEY.findall(text):
        logs.add_secret(key)
    users = _CEPH_USER.findall(text)
    if users != [user]:
        raise InvalidArgumentError(
            f"the {field} of backend {backend!r} is given to the hosts that connect, so it must hold the key of {user} and no other; "
            f"{path!r} has {', '.join(users) or 'none'}",
            field=field,
        )


def add_safe_defaults(driver: type[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with defaults that keep others from the files of a driver on a network
    file system.

    Cinder's ``auto`` means that for a new installation, which a driver cannot tell without
    Cinder's services; it would give everybody access (mode 0666), and work as root.
    """
    names = {option.dest for option in driver.get_driver_options()} & {"nas_secure_file_operations", "nas_secure_file_permissions"}
    return {**options, **{name: "true" for name in names if options.get(name, "auto") == "auto"}}


def _behind(backend: str, driver: Any, options: Mapping[str, Any]) -> Any:
    """Return the class that NetApp's unified driver stands for, as its guides name it: it makes an
    object of another class. Any other driver is returned as it is.
    """
    registry = getattr(sys.modules.get(getattr(driver, "__module__", "")), "NETAPP_UNIFIED_DRIVER_REGISTRY", None)
    if registry is None or not inspect.isclass(driver) or hasattr(driver, "get_driver_options"):
        return driver
    found: Any = registry
    for field, default in (("netapp_storage_family", "ontap_cluster"), ("netapp_storage_protocol", None)):
        value = str(options.get(field) or default or "").lower()
        if value not in found:
            text = f"backend {backend!r} needs the option {field!r}, one of {', '.join(sorted(found))}"
            raise InvalidArgumentError(text, field=field)
        found = found[value]
    module, _, name = str(found).rpartition(".")
    return getattr(bridge.import_driver_module(module), name)


def find_driver(backend: str, options: Mapping[str, Any]) -> type[Any]:
    """Return the class that the option ``volume_driver`` names."""
    path = options.get("volume_driver")
    if not isinstance(path, str) or "." not in path or not all(path.split(".")):
        raise InvalidArgumentError(
            f"backend {backend!r} needs the option 'volume_driver': the dotted path of a Cinder driver, as storage.drivers lists them",
            field="volume_driver",
        )
    module_name, _, class_name = path.rpartition(".")
    try:
        driver = getattr(bridge.import_driver_module(module_name), class_name, None)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            driver = None
        else:
            raise FailedPreconditionError(
                f"the driver of backend {backend!r} cannot be imported: {packages.explain(error)}", details={"packages": [error.name]}
            ) from None
    driver = _behind(backend, driver, options)
    if not inspect.isclass(driver) or not hasattr(driver, "get_driver_options"):
        raise InvalidArgumentError(
            f"backend {backend!r} has the volume_driver {path!r}, which does not exist; storage.drivers lists the drivers",
            field="volume_driver",
        )
    return driver
