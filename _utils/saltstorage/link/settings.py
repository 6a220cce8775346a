"""Salt's side of the controller: its configuration, and the place of its socket."""

from __future__ import annotations

import contextlib
import getpass
import os
import pwd
from collections.abc import Mapping
from typing import Any

from .. import validate
from ..errors import FailedPreconditionError, InvalidArgumentError, PermissionDeniedError
from ..places import CONFIG, STATE_DIR, under_root

#: Keys of the option ``storage`` that say where things are. With no other key there, the
#: configuration is in the file.
_PLACES = frozenset({"config", "environment", "socket", "controller_user", "consumer"})
SOCKET = "controller.sock"


def config_file(opts: Mapping[str, Any]) -> str | None:
    """Return the path of the controller's own configuration file; None when the configuration is
    in Salt's option ``storage``. A file that the option names is used in any case.

    :raises InvalidArgumentError: the option is malformed.
    """
    section = validate.mapping(opts.get("storage") or {}, "storage")
    given = section.get("config")
    if given is None:
        return None if section.keys() - _PLACES else under_root(opts, CONFIG)
    if not isinstance(given, str) or not given.startswith("/"):
        raise InvalidArgumentError(f"storage:config must be an absolute path, not {given!r}", field="storage:config")
    return given


def changed(opts: Mapping[str, Any]) -> int:
    """Return a number that changes with the configuration file; 0 when there is none."""
    path = config_file(opts)
    with contextlib.suppress(OSError):
        return os.stat(path).st_mtime_ns if path is not None else 0
    return 0


def section(opts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the controller's configuration, from its file or from Salt's option
    ``storage``.

    :raises FailedPreconditionError: the file is no YAML.
    :raises PermissionDeniedError: this process may not read the file.
    :raises InvalidArgumentError: it is no mapping.
    """
    own = validate.mapping(opts.get("storage") or {}, "storage")
    path = config_file(opts)
    if path is None:
        return own
    import salt.config
    import salt.utils.yaml

    try:
        with open(path, encoding="utf-8") as file:
            found = salt.utils.yaml.safe_load(file)
    except FileNotFoundError:
        return own
    except PermissionError:
        raise PermissionDeniedError(
            f"{path} cannot be read by the user {getpass.getuser()}, who runs this; let that user own it: chown {getpass.getuser()} {path}"
        ) from None
    except OSError as exc:
        raise FailedPreconditionError(f"{path} cannot be read: {exc.strerror}") from None
    except Exception as exc:  # a parser's text quotes lines, which may hold passwords
        mark = getattr(exc, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise FailedPreconditionError(f"{path} is no valid YAML{where}") from None
    given = validate.mapping({} if found is None else found, path)
    # As Salt does it for its own files: a value may be the URI of a secret.
    resolved = salt.config.apply_sdb({**opts, "storage": given})["storage"]
    return {**own, **resolved}


def is_external(opts: Mapping[str, Any]) -> bool:
    """Return whether another user's service is the controller: this side neither reads its
    configuration nor starts one.
    """
    return bool(validate.mapping(opts.get("storage") or {}, "storage").get("controller_user"))


def known(opts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration, as far as this side may read it: only Salt's option where another
    user's service is the controller.

    :raises StorageError: as for :func:`section`.
    """
    return validate.mapping(opts.get("storage") or {}, "storage") if is_external(opts) else section(opts)


def for_process(opts: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that the controller's process needs to know; it may hold secrets.

    :param given: the configuration, from :func:`section`.
    """
    pillar = (opts.get("pillar") or {}).get("storage") if isinstance(opts.get("pillar"), Mapping) else None
    consumer = pillar.get("consumer") if isinstance(pillar, Mapping) else None
    return {
        "storage": {key: value for key, value in given.items() if key not in _PLACES or key == "consumer"},
        "root_dir": str(opts.get("root_dir") or "/"),
        "id": str(opts.get("id") or ""),
        "pillar": {"storage": {"consumer": {"protocols": list(consumer.get("protocols") or [])}}} if isinstance(consumer, Mapping) else {},
    }


def socket_path(opts: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Return the path of the controller's socket.

    :raises InvalidArgumentError: the option ``storage: socket:`` is no absolute path.
    """
    path = given.get("socket")
    if path is None:
        state_dir = given.get("state_dir")
        return os.path.join(state_dir if isinstance(state_dir, str) and state_dir else under_root(opts, STATE_DIR), SOCKET)
    if not isinstance(path, str) or not path.startswith("/"):
        raise InvalidArgumentError(f"storage:socket must be an absolute path, not {path!r}", field="storage:socket")
    return path


def users(opts: Mapping[str, Any], given: Mapping[str, Any]) -> set[int]:
    """Return the ids of the users whose controller is trusted, beside root and the own user: the
    master's, and the one that ``storage: controller_user:`` names.

    :raises InvalidArgumentError: there is no such user.
    """
    found = set()
    for name, where in ((opts.get("user"), ""), (given.get("controller_user"), "storage:controller_user")):
        if name:
            try:
                found.add(pwd.getpwnam(str(name)).pw_uid)
            except KeyError:
                if where:
                    raise InvalidArgumentError(f"there is no user {name!r} on this machine", field=where) from None
    return found
