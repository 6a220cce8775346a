"""Facts that a trial of a backend needs from the master: a file of options, a host's properties."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import validate as checks
from ..errors import FailedPreconditionError, InvalidArgumentError, UnavailableError
from ..flow.flow import Flow
from . import calls


def validate(opts: Mapping[str, Any], name: str, *, file: str | None, life: bool, minion: str | None, timeout: float) -> Any:
    """Try a backend; see the runner's function.

    :param opts: the master's options.
    :raises StorageError: an argument is wrong, the minion does not answer, or a step failed.
    """
    checks.name(name)
    given = {
        "name": name,
        "options": None if file is None else options(opts, name, file),
        "life": bool(life) or minion is not None,
        "connector": None if minion is None else _connector(opts, minion),
        "timeout": timeout,
    }
    return calls.change(opts, "validate", given, "validate")


def options(opts: Mapping[str, Any], name: str, path: str) -> dict[str, Any]:
    """Return the options of a backend in a YAML file, ``sdb://`` values resolved.

    :raises FailedPreconditionError: the file cannot be read.
    :raises InvalidArgumentError: it is no YAML, or has no such backend.
    """
    import salt.config
    import salt.utils.yaml

    try:
        with open(path, encoding="utf-8") as stream:
            found = salt.utils.yaml.safe_load(stream)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise FailedPreconditionError(f"{path} cannot be read: {reason}", field="file") from None
    except Exception as error:  # a parser's text quotes lines, which may hold passwords
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise InvalidArgumentError(f"{path} is no valid YAML{where}", field="file") from None
    found = checks.mapping(found, path)
    for key in ("storage", "controller", "backends"):
        if key in found:
            found = checks.mapping(found[key], f"{key} in {path}")
            if key == "backends":
                if name not in found:
                    raise InvalidArgumentError(f"{path} has no backend {name!r}; it has {', '.join(found) or 'none'}", field="name")
                found = checks.mapping(found[name], f"{name} in {path}")
    return dict(salt.config.apply_sdb({**opts, "storage": found})["storage"])


def _connector(opts: Mapping[str, Any], minion: str) -> dict[str, Any]:
    checks.name(minion, "minion")
    if opts.get("__role") == "minion":
        if minion != opts["id"]:
            raise InvalidArgumentError(f"without a master, the only minion is {opts['id']}", field="minion")
        return {**Flow(opts, {}).consumer.connector_properties(), "host": minion}
    import salt.client

    client = salt.client.get_local_client(mopts=dict(opts))
    try:
        answers = client.cmd(minion, "storage.connector", tgt_type="list")
    finally:
        client.destroy()
    answer = answers.get(minion)
    if not isinstance(answer, dict):
        said = f": {answer}" if isinstance(answer, str) else ""
        raise UnavailableError(
            f"minion {minion!r} did not tell its initiators{said}; try salt {minion} storage.connector, and apply storage.consumer there",
            field="minion",
        )
    # It says this of itself: the host is the minion that was asked.
    return {**answer, "host": minion}
