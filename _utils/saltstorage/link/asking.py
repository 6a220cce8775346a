"""One call of the controller by somebody who is not the engine: the runner, or a masterless
minion.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from .. import progress
from ..errors import LostError, UnavailableError
from ..ipc import sockets
from ..ipc.calls import Connection
from . import settings, starting


@contextlib.contextmanager
def controller(opts: Mapping[str, Any], *, own: bool = False) -> Iterator[Connection]:
    """Yield a connection to the controller that runs, or to a new one for this purpose, which
    ends with it.

    :param opts: Salt's options.
    :param own: start one in any case.
    :raises StorageError: the configuration cannot be read, the controller may not be used by this
        user, or does not start.
    """
    given = settings.known(opts)
    if not own:
        try:
            found = sockets.connect(settings.socket_path(opts, given), settings.users(opts, given))
        except LostError:
            found = None
        if found is not None:
            with contextlib.closing(found):
                starting.check(found.hello)
                yield found
            return
        if settings.is_external(opts):
            raise UnavailableError(starting.NO_SERVICE)
    child = starting.start(opts, given)
    try:
        yield child.connection
    finally:
        child.stop()


def ask(connection: Connection, op: str, args: Mapping[str, Any]) -> Any:
    """Return the controller's answer to a call. How far it has come becomes the progress of this
    thread's operation.

    :raises StorageError: as the call says.
    :raises UnavailableError: the controller ended meanwhile.
    """
    try:
        return connection.call(op, args, step=pass_on)
    except LostError as exc:
        raise UnavailableError(f"the storage controller ended during this call ({exc}); look at what came of it, and try again") from None


def pass_on(said: Mapping[str, Any]) -> None:
    """Make a controller's word on how far it has come the progress of this thread's operation."""
    progress.step(str(said.get("text") or ""), done=said.get("done"), total=said.get("total"))
