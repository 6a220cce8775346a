"""The program that tries one backend: ``python -m saltstorage.controller.admin.trial``.

:mod:`.validation` starts it, writes what is asked to its standard input, and reads one JSON object
a line: a step that begins, a thing that was made or is gone again, or a step that has ended.
"""

from __future__ import annotations

import functools
import ipaddress
import json
import logging
import os
import re
import socket
import sys
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ...errors import FailedPreconditionError, StorageError
from ...faults import as_storage_error
from ...providers import BackendConfig, Capability, Provider, ProviderSnapshot, ProviderVolume
from ...providers.registry import find_provider
from ..access import python_path
from ..access.config import ControllerConfig
from ..operations.identities import host_name, values

#: GiB. Some arrays deliver more.
SIZE = 1
#: Ends of the names of options whose values are hosts.
_HOSTS = re.compile(r"(_ips?|_mip|_svip|_fqdn|_hosts?|_hostnames?|_address(es)?|_servers?|_urls?|_endpoints?)$")

Tell = Callable[[Mapping[str, Any]], None]


class Trial:
    """The steps of a trial.

    :param asked: ``name`` of the backend; ``settings`` of a controller with this backend alone;
        ``state_dir``, an empty folder; ``life``, whether volumes are made; ``connector``, the
        properties of a host that one is mapped to, or None.
    :param tell: takes everything that is to be said.
    """

    def __init__(self, asked: Mapping[str, Any], tell: Tell) -> None:
        self._asked = asked
        self._tell = tell
        self._provider: Provider | None = None

    def run(self) -> None:
        """Go through the steps until one fails, and clean up."""
        for name, action in (("options", self._options), ("names", self._names), ("login", self._login), ("statistics", self._statistics)):
            if not self.step(name, action):
                return
        if self._asked["life"] or self._asked["connector"] is not None:
            _Life(self.provider, self.step, self._tell).run(self._asked["connector"])

    def step(self, name: str, action: Callable[[], str]) -> bool:
        """Do a step, tell how it went, and return whether it went well."""
        self._tell({"begun": name})
        start = time.monotonic()
        row: dict[str, Any] = {"step": name, "result": "ok", "seconds": None, "text": "", "code": None}
        try:
            row["text"] = action()
        except Exception as exc:  # of a driver
            error = as_storage_error(exc, f"the step {name}")
            row |= {"result": "failed", "text": error.message, "code": error.code}
        row["seconds"] = round(time.monotonic() - start, 2)
        self._tell(row)
        return row["code"] is None

    @property
    def provider(self) -> Provider:
        """The provider, once its options were looked at."""
        assert self._provider is not None  # noqa: S101 the first step makes it
        return self._provider

    def _options(self) -> str:
        config = ControllerConfig.from_opts(self._asked["settings"])
        python_path.use(config.python_path)
        entry = config.backends[self._asked["name"]]
        state_dir = self._asked["state_dir"]
        self._provider = find_provider(entry.provider)(
            BackendConfig(
                name=entry.name,
                options=entry.options,
                state_dir=os.path.join(state_dir, "backends", entry.name),
                database=f"sqlite:///{state_dir}/metadata.sqlite",
                zoning=config.zoning,
            )
        )
        os.makedirs(self._provider.config.state_dir, mode=0o700)
        self._provider.check()
        return f"{len(entry.options)} options"

    def _names(self) -> str:
        found = []
        for option, name in hosts(self.provider.config.options):
            try:
                answers = socket.getaddrinfo(name, None, proto=socket.IPPROTO_TCP)
            except OSError as error:
                text = f"the controller cannot resolve the name {name!r} in the option {option!r}: {error.strerror or error}"
                raise FailedPreconditionError(text, field=option) from None
            found.append(f"{name} is {answers[0][4][0]}")
        return ", ".join(found) or "no option has a host's name"

    def _login(self) -> str:
        self.provider.load()
        able = ", ".join(sorted(self.provider.capabilities()))
        return f"the driver reached its storage; it can {able}"

    def _statistics(self) -> str:
        found = self.provider.stats()
        free, total = ("unknown" if number is None else f"{number:g}" for number in (found.free_gib, found.total_gib))
        return f"{found.protocol or 'unknown protocol'}, {free} of {total} GiB free"


class _Life:
    """The life of a volume."""

    def __init__(self, provider: Provider, step: Callable[[str, Callable[[], str]], bool], tell: Tell) -> None:
        self._provider = provider
        self._step = step
        self._tell = tell
        self._volume = ProviderVolume(id=str(uuid.uuid4()), size=SIZE, name="validate")
        # The acts to undo, in the order in which they were done.
        self._undo: list[tuple[str, Callable[[], object], str]] = []

    def run(self, connector: Mapping[str, Any] | None) -> None:
        try:
            for name, action in self._steps(connector):
                if not self._step(name, action):
                    break
        finally:
            for name, undo, thing in reversed(self._undo):
                if self._step(name, functools.partial(_silently, undo)) and thing:
                    self._tell({"gone": thing})

    def _steps(self, connector: Mapping[str, Any] | None) -> Iterator[tuple[str, Callable[[], str]]]:
        able = self._provider.capabilities()
        yield "create", lambda: self._create(self._volume)
        if Capability.SNAPSHOT in able:
            snapshot = ProviderSnapshot(id=str(uuid.uuid4()), volume_id=self._volume.id, size=self._volume.size)
            yield "snapshot", lambda: self._snapshot(snapshot)
            yield "volume from snapshot", lambda: self._create(self._another(), snapshot)
        if Capability.CLONE in able:
            yield "clone", lambda: self._create(self._another(), self._volume)
        if connector is not None:
            yield "map", lambda: self._map(connector)
        elif Capability.EXTEND in able:
            yield "extend", self._extend

    def _another(self) -> ProviderVolume:
        return ProviderVolume(id=str(uuid.uuid4()), size=self._volume.size, name="validate")

    def _create(self, volume: ProviderVolume, source: ProviderVolume | ProviderSnapshot | None = None) -> str:
        thing = f"volume-{volume.id}"
        self._tell({"made": thing})
        self._undo.append(("delete", lambda: self._provider.delete_volume(volume), thing))
        delivered = self._provider.create_volume(volume, source=source)
        if volume is self._volume:
            self._volume = ProviderVolume(id=volume.id, size=delivered, name=volume.name)
        return f"{thing}, {delivered} GiB"

    def _snapshot(self, snapshot: ProviderSnapshot) -> str:
        thing = f"snapshot-{snapshot.id}"
        self._tell({"made": thing})
        self._undo.append(("delete the snapshot", lambda: self._provider.delete_snapshot(snapshot), thing))
        self._provider.create_snapshot(snapshot)
        return thing

    def _extend(self) -> str:
        return f"{self._provider.extend_volume(self._volume, self._volume.size + 1)} GiB"

    def _map(self, connector: Mapping[str, Any]) -> str:
        minion = str(connector.get("host"))
        list(values(connector))
        known = {**connector, "host": host_name(minion)}
        self._provider.check_connector(known)
        connection = str(uuid.uuid4())
        self._undo.append(("unmap", lambda: self._provider.disconnect(self._volume, connection, known, last=True), ""))
        answer = self._provider.connect(self._volume, connection, known)
        return f"for {minion}, by {answer.get('driver_volume_type')}"


def _silently(action: Callable[[], object]) -> str:
    action()
    return ""


def hosts(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the names of hosts in a backend's options, each with its option. Addresses are none.

    >>> list(hosts({"san_ip": "array1.example.org", "url": "https://array2:8443/api"}))
    [('san_ip', 'array1.example.org'), ('url', 'array2')]
    >>> list(hosts({"nas_host": "192.0.2.1", "san_login": "admin"}))
    []
    """
    for option, value in options.items():
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str):
                continue
            for part in text.split(","):
                name = _host(option, part.strip())
                if name and not _is_address(name):
                    yield option, name


def _host(option: str, text: str) -> str:
    if "://" in text:
        try:
            return urllib.parse.urlsplit(text).hostname or ""
        except ValueError:
            return ""
    if not _HOSTS.search(option) or not re.fullmatch(r"[\w.-]+(:\d+)?", text, re.ASCII):
        return ""
    return text.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def main() -> None:
    """Read what is asked, try it, and end, with all threads of drivers."""
    # A driver may print something.
    said = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(what: Mapping[str, Any]) -> None:
        said.write(json.dumps(what) + "\n")
        said.flush()

    os.umask(0o077)
    # As the controller's own, which passes it on.
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(message)s", level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    try:
        Trial(json.load(sys.stdin), tell).run()
    except StorageError as error:
        tell({"step": "options", "result": "failed", "seconds": 0.0, "text": error.message, "code": error.code})
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
