"""Tries a backend step by step, in a process of its own, with metadata of its own: before it is
configured, and while it serves. A driver that hangs or crashes hurts nobody.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ... import progress, validate
from ...errors import BY_CODE, FailedPreconditionError, InternalError, InvalidArgumentError

#: Longest run by default, seconds.
TIMEOUT = 600
FAILED = "failed"


def run(
    settings: Mapping[str, Any] | None,
    *,
    name: str,
    options: Mapping[str, Any] | None = None,
    life: bool = False,
    connector: Mapping[str, Any] | None = None,
    timeout: float = TIMEOUT,
) -> list[dict[str, Any]]:
    """Try a backend and return its steps, if none failed: ``step``, ``result``, ``seconds``,
    ``text`` and ``code``.

    :param settings: those of the controller's process.
    :param name: the backend.
    :param options: its options, if it is not configured yet.
    :param life: also create, copy, grow and delete a volume of 1 GiB.
    :param connector: also map it to the host of these properties.
    :param timeout: longest run, seconds.
    :raises InvalidArgumentError: there is no such backend.
    :raises FailedPreconditionError: no backend is configured at all.
    :raises StorageError: a step failed; ``details`` has ``rows``, all that were tried.
    """
    validate.name(name, "name")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout <= 0:
        raise InvalidArgumentError(f"timeout must be a number of seconds, not {timeout!r}", field="timeout")
    given = _settings(settings, name, options)
    asked = {"name": name, "life": bool(life), "connector": None if connector is None else dict(connector)}
    rows: list[dict[str, Any]] = []
    made: list[str] = []
    begun = "start"
    with tempfile.TemporaryDirectory(prefix="storage-validate-") as state_dir:
        for said in _ask({**asked, "settings": given, "state_dir": state_dir}, timeout):
            if "begun" in said:
                begun = said["begun"]
                progress.step(begun)
            elif "made" in said:
                made.append(said["made"])
            elif "gone" in said:
                made.remove(said["gone"])
            else:
                rows.append(said)
                begun = ""
    if begun:
        text = f"no answer within {timeout:g} seconds in all, or the driver's process ended; the log has more"
        rows.append({"step": begun, "result": FAILED, "seconds": None, "text": text, "code": "UNAVAILABLE"})
    if made:
        text = f"perhaps left on the backend, under the driver's names for them: {', '.join(made)}; delete them there"
        rows.append({"step": "clean up", "result": FAILED, "seconds": None, "text": text, "code": "UNAVAILABLE"})
    return _complete(name, rows)


def _settings(settings: Mapping[str, Any] | None, name: str, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the settings of the process, with this backend alone."""
    storage = validate.mapping((settings or {}).get("storage") or {}, "storage")
    if options is not None:
        entry = validate.mapping(options, f"the options of backend {name!r}")
    elif not storage:
        raise FailedPreconditionError("no storage controller is configured here; file=… tries a backend before it is")
    else:
        known = validate.mapping(storage.get("backends") or {}, "storage:backends")
        if name not in known:
            near = validate.nearest(name, known)
            hint = f"did you mean {near!r}?" if near else f"known: {', '.join(known) or 'none'}; file=… tries one before it is"
            raise InvalidArgumentError(f"backend {name!r} is not configured on the controller; {hint}", field="name")
        entry = validate.mapping(known[name], f"storage:backends:{name}")
    kept = {key: storage[key] for key in ("python_path", "zoning") if key in storage}
    return {"storage": {**kept, "backends": {name: entry}}, "root_dir": "/", "id": str((settings or {}).get("id") or "")}


def _ask(asked: Mapping[str, Any], timeout: float) -> Iterator[dict[str, Any]]:
    """Start the process and yield what it says, line by line, until it ends or has to be ended."""
    path = os.pathsep.join([str(Path(__file__).parents[3]), *(entry for entry in sys.path if entry)])
    command = [sys.executable, "-W", "ignore", "-m", f"{__package__}.trial"]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None  # noqa: S101 for the type checker
        assert process.stdout is not None  # noqa: S101
        end = threading.Timer(timeout, process.kill)
        end.start()
        try:
            # Options may hold passwords: not by the command line.
            process.stdin.write(json.dumps(asked).encode())
            process.stdin.close()
            for line in process.stdout:
                yield json.loads(line)
        except BrokenPipeError:
            raise InternalError("the process that tries a backend did not start; the log has more") from None
        finally:
            end.cancel()
            process.kill()


def _complete(name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    failed = [row for row in rows if row["result"] == FAILED]
    if not failed:
        return rows
    texts = "; ".join(f"{row['step']}: {row['text']}" for row in failed)
    raise BY_CODE[failed[0]["code"]](f"backend {name!r} failed: {texts}", details={"rows": rows})
