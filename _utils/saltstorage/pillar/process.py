"""The controller's process on the master's host: a child of the engine, or a service of a user, and
the unit of that service.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import InvalidArgumentError

#: Keys that the engine itself needs, and cannot read in a file that is closed to it.
ENGINE_KEYS = ("workers", "request_max_age", "hang_timeout")
#: Folders below which systemd makes those of a service.
_TOP = {"RuntimeDirectory": "/run/", "StateDirectory": "/var/lib/"}
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,30}\$?")
_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./-]+")


@dataclass(frozen=True, kw_only=True)
class Users:
    """The users of one host that the controller's files and its socket are for.

    :ivar user: user of the controller's process, who owns its files.
    :ivar group: that user's group.
    :ivar master: user of the salt-master, who may ask.
    :ivar master_group: that user's group.
    :ivar missing: whether ``user`` has to be made.
    :ivar problem: why there are none, in words; empty when all are known.
    """

    user: str = ""
    group: str = ""
    master: str = ""
    master_group: str = ""
    missing: bool = False
    problem: str = ""


def users(master: str, master_group: str = "", controller_user: str = "") -> Users:
    """Return the users of the controller's files and socket on this host.

    :param master: user of the salt-master.
    :param master_group: that user's group; empty for the one in the list of users.
    :param controller_user: user of the controller's service; empty: it is the engine's child.
    """
    try:
        found = pwd.getpwnam(master)
        master_group = master_group or grp.getgrgid(found.pw_gid).gr_name
        grp.getgrnam(master_group)
    except KeyError:
        text = (
            f"NOT_FOUND: there is no user {master!r} with a group on this host; is a salt-master here? See storage:lookup:controller:user"
        )
        return Users(problem=text)
    if not controller_user:
        return Users(user=master, group=master_group, master=master, master_group=master_group)
    try:
        group, missing = grp.getgrgid(pwd.getpwnam(controller_user).pw_gid).gr_name, False
    except KeyError:
        group, missing = controller_user, True
    return Users(user=controller_user, group=group, master=master, master_group=master_group, missing=missing)


def check(lookup: Mapping[str, Any], where: str) -> None:
    """Refuse settings of the process that cannot be.

    :param lookup: ``storage:lookup:controller``.
    :param where: its place in pillar, for the message.
    :raises InvalidArgumentError: one is wrong.
    """
    user = lookup.get("controller_user", "")
    if user != "" and not (isinstance(user, str) and _USER.fullmatch(user)):
        text = f"{where}:controller_user must be the name of a user, such as salt-storage or root, or '' for none, not {user!r}"
        raise InvalidArgumentError(text, field=f"{where}:controller_user")
    socket = lookup.get("socket", "/")
    if not isinstance(socket, str) or not socket.startswith("/") or not socket.isprintable():
        raise InvalidArgumentError(f"{where}:socket must be an absolute path, not {socket!r}", field=f"{where}:socket")


def refuse_uris(value: Any, where: str) -> None:
    """Refuse references to secrets, which only Salt can resolve, for a controller without Salt.

    :raises InvalidArgumentError: a value is one.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            refuse_uris(item, f"{where}:{key}")
    elif isinstance(value, str) and value.startswith("sdb://"):
        text = f"{where} is an sdb:// URI, which a controller that is a service cannot resolve, since it runs without Salt"
        raise InvalidArgumentError(f"{text}; write {{{{ salt['sdb.get']('…') }}}} into the pillar file instead", field=where)


def belongs_to_another(state_dir: str, user: str) -> bool:
    """Return whether the files of a controller's directory have to change hands: the controller was
    another user's before.
    """
    try:
        uid = pwd.getpwnam(user).pw_uid
    except KeyError:
        uid = -1
    try:
        # Pillar may name any directory, and no other one is walked.
        return os.stat(state_dir).st_uid != uid and os.path.isdir(os.path.join(state_dir, "locks"))
    except OSError:
        return False


def describe(lookup: Mapping[str, Any], controller: Mapping[str, Any], *, environment: str, minion: str, master: str) -> dict[str, Any]:
    """Return how the controller runs on this host, as plain data for the SLS.

    :param lookup: settings of the controller, complete.
    :param controller: its configuration.
    :param environment: folder of the storage environment.
    :param minion: id of the minion on this host, by which arrays know it.
    :param master: user of the salt-master.
    :returns: ``problem`` alone, or ``problem`` (empty), ``users``, ``state_dir``, ``move``,
        ``option`` and ``unit``; see the module ``storage_controller``.
    """
    found = users(master, lookup["group"], lookup["controller_user"])
    if found.problem:
        return {"problem": found.problem}
    state_dir = controller.get("state_dir") or lookup["state_dir"]
    external = bool(lookup["controller_user"])
    option = {"config": lookup["config"]}
    if external:
        option = {
            "socket": lookup["socket"],
            "controller_user": found.user,
            **{key: controller[key] for key in ENGINE_KEYS if key in controller},
        }
    return {
        "problem": "",
        "users": asdict(found),
        "state_dir": state_dir,
        "move": belongs_to_another(state_dir, found.user),
        "option": option,
        "unit": _unit(found, lookup, environment, state_dir, minion, controller.get("hang_timeout")) if external else None,
    }


def _unit(
    found: Users, lookup: Mapping[str, Any], environment: str, state_dir: str, minion: str, hang_timeout: int | None
) -> dict[str, Any]:
    from ..controller.access.config import ControllerConfig

    root = found.user == "root"
    command = [f"{environment}/bin/python", "-I", "-m", "saltstorage.controller", "--config", lookup["config"]]
    command += ["--socket", lookup["socket"], "--group", found.master_group, "--user", found.master, "--id", minion]
    places = {"RuntimeDirectory": os.path.dirname(lookup["socket"]), "StateDirectory": state_dir}
    return {
        "user": found.user,
        "group": found.group,
        # Only members can give the socket to that group.
        "further_group": "" if root or found.master_group == found.group else found.master_group,
        "root": root,
        "command": " ".join(map(quote, command)),
        # Drivers call programs of their packages, such as cinder-rtstool.
        "path": quote(f"PATH={environment}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", dollar="$"),
        "state_dir": quote(state_dir, dollar="$"),
        # systemd makes these, and gives them to the user.
        "folders": {
            key: quote(path.removeprefix(_TOP[key]), dollar="$")
            for key, path in places.items()
            if path.startswith(_TOP[key]) and os.path.normpath(path) == path
        },
        "master_service": lookup["service"],
        "hang_timeout": ControllerConfig.hang_timeout if hang_timeout is None else hang_timeout,
    }


def quote(word: str, *, dollar: str = "$$") -> str:
    """Return one word as a unit of systemd has it: nothing in it is a specifier or a variable.

    :param dollar: how a dollar sign is written; only commands have variables.

    >>> quote("100% of $HOME"), quote("/run/x.sock")
    ('"100%% of $$HOME"', '/run/x.sock')
    """
    if _PLAIN.fullmatch(word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", dollar)
    return f'"{escaped}"'
