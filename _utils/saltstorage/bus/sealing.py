"""Seals replies of the controller, errors included."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from ..errors import StorageError
from . import envelope, salts

#: Largest sealed error, bytes: a refusal needs no more, and the journal keeps it.
MAX_ERROR = 32 * 1024


class Sealer:
    """Seals replies with the master's key, each for the minion that asked.

    :param opts: the master's options.
    """

    def __init__(self, opts: Mapping[str, Any]) -> None:
        self._master = salts.master_key(opts)

    def working(self, request: envelope.Request, text: str) -> bytes:
        """Return the sealed word that a request is being worked on."""
        return self._seal(request, {"status": "working", "text": text})

    def done(self, request: envelope.Request, data: Any) -> bytes:
        """Return the sealed result of an operation.

        :raises ValueError: it is no plain data, or too large.
        """
        return self._seal(request, {"status": "done", "ok": True, "data": data})

    def failed(self, request: envelope.Request, error: StorageError) -> bytes:
        """Return the sealed error of an operation, or of a request that is refused."""
        with contextlib.suppress(ValueError):
            sealed = self._seal(request, {"status": "done", "ok": False, "error": error.to_wire()})
            if len(sealed) <= MAX_ERROR:
                return sealed
        # The details are no plain data, or too many; code and message matter more. A text may hold
        # characters that cannot be encoded, such as the name of a file that is no UTF-8.
        message = error.message[:4096].encode("utf-8", "backslashreplace").decode()
        wire: dict[str, Any] = {"code": error.code, "message": message, "field": None, "details": {}}
        return self._seal(request, {"status": "done", "ok": False, "error": wire})

    def _seal(self, request: envelope.Request, content: Mapping[str, Any]) -> bytes:
        return json.dumps(envelope.seal_reply(self._master, request, content)).encode("ascii")
