"""Frames on a stream socket: a length of four bytes, then one JSON object of that many bytes."""

from __future__ import annotations

import json
import socket
from typing import Any

from ..errors import InternalError, LostError

#: Largest frame, bytes. The largest real one is a list of all volumes for the administrator.
MAX_FRAME = 256 * 1024 * 1024


def send(sock: socket.socket, content: dict[str, Any]) -> None:
    """Send one frame.

    :raises InternalError: the content is no plain data, or over :data:`MAX_FRAME`; nothing was
        sent.
    :raises LostError: the other end went away.
    """
    try:
        body = json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")
    except (TypeError, ValueError, RecursionError) as exc:
        raise InternalError(f"what was to be sent is no plain data ({type(exc).__name__})") from None
    if len(body) > MAX_FRAME:
        raise InternalError(f"what was to be sent has {len(body)} bytes; at most {MAX_FRAME} are possible")
    try:
        sock.sendall(len(body).to_bytes(4, "big") + body)
    except OSError as exc:
        raise LostError(f"the other end went away ({exc.strerror or type(exc).__name__})") from None


def receive(sock: socket.socket) -> dict[str, Any] | None:
    """Return the next frame, or None when the other end closed the connection between two frames.

    :raises LostError: the other end went away within a frame, sent none in the socket's time-out,
        or sent something else.
    """
    head = _read(sock, 4)
    if not head:
        return None
    size = int.from_bytes(head, "big")
    if len(head) < 4 or size > MAX_FRAME:
        raise LostError("the other end does not speak this protocol")
    body = _read(sock, size)
    try:
        content = json.loads(body) if len(body) == size else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise LostError("the other end went away, or does not speak this protocol")
    return content


def _read(sock: socket.socket, size: int) -> bytes:
    """Return ``size`` bytes, or fewer at the end of the stream."""
    chunks, left = [], size
    while left:
        try:
            chunk = sock.recv(min(left, 1024 * 1024))
        except TimeoutError:
            raise LostError("the other end does not answer") from None
        except OSError as exc:
            raise LostError(f"the other end went away ({exc.strerror or type(exc).__name__})") from None
        if not chunk:
            break
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks)
