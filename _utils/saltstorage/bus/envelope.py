"""The envelopes that cross the bus: requests signed by the minion, replies encrypted for it and
signed by the master.

Salt's event bus proves neither who sent an event nor keeps a reply private: any minion can put any
``id`` into the data of an event, and every minion can read what the master publishes. So a request
is signed with the minion's own key over the exact bytes sent, and a reply is encrypted with a
fresh key that only the minion can unwrap and signed with the master's key. All primitives are
those of :mod:`salt.crypt`; this module composes them.

Each signature covers a prefix of its own, so that bytes signed for one purpose can never pass for
another, and a reply names the minion, the request and the digest of the request's bytes that it
answers.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

import salt.crypt

VERSION = 1
REQUEST_TAG = "storage/request/"
REPLY_TAG = "storage/reply/"
#: Reports how far a long step of a minion has come. It is no operation, and is neither recorded
#: nor answered.
PROGRESS = "progress"
#: Largest request, bytes of JSON: a connector description is about 1 KiB.
MAX_REQUEST = 256 * 1024
#: Largest reply, bytes of JSON. Encrypted and in base64 it stays below Salt's ``max_event_size``
#: of 1 MiB, above which Salt replaces the value with a placeholder.
MAX_REPLY = 512 * 1024
MAX_DEPTH = 32

_REQUEST_DOMAIN = b"salt-storage request v1\0"
_REPLY_DOMAIN = b"salt-storage reply v1\0"
_ID = re.compile(r"[0-9a-f]{32}")
_OP = re.compile(r"[a-z][a-z_]{0,63}")

# Never SHA1, which is still the default of salt.crypt's functions.
_SIGN = salt.crypt.PKCS1v15_SHA224
_WRAP = salt.crypt.OAEP_SHA224


class Sign(Protocol):
    """Something that signs, such as :class:`salt.crypt.PrivateKey`."""

    def sign(self, data: bytes, algorithm: str) -> bytes:
        """Return the signature of ``data``."""


class RefusedError(Exception):
    """An envelope that must not be believed; it gets no reply.

    :ivar reason: why, in a few fixed words that are safe to log.
    :ivar minion: the minion that it claims to be of, when that much could be read. Unproven.
    """

    def __init__(self, reason: str, minion: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.minion = minion


@dataclass(frozen=True, kw_only=True)
class SealedRequest:
    """A request ready to be sent, as often as needed."""

    id: str  #: uuid4 in hexadecimal.
    digest: str  #: SHA-256 of the signed bytes, hexadecimal.
    data: dict[str, str]  #: The event's data: ``body`` and ``sig``, base64.


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request whose signature was right."""

    id: str  #: uuid4 in hexadecimal.
    minion: str  #: Minion that signed it.
    op: str  #: Operation.
    args: dict[str, Any] = field(repr=False)  #: Its arguments; may hold secrets.
    time: float  #: When it was signed, by the minion's clock, seconds since the epoch.
    digest: str  #: SHA-256 of the signed bytes, hexadecimal.
    version: int = VERSION  #: Version of the format of ``args`` and the reply.
    key: Any = field(default=None, repr=False, compare=False)  #: Public key that verified it; replies are encrypted for it.


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A reply whose signature was right and which answers this very request."""

    status: str  #: ``working`` or ``done``.
    text: str = ""  #: The present step, while it is ``working``; for people.
    ok: bool = True  #: Whether the operation succeeded.
    data: dict[str, Any] = field(default_factory=dict, repr=False)  #: Its result; may hold secrets.
    error: dict[str, Any] | None = None  #: Its error, as :meth:`~saltstorage.errors.StorageError.to_wire` returned it.


def seal_request(key: Sign, minion: str, op: str, args: Mapping[str, Any], *, now: float | None = None) -> SealedRequest:
    """Return a new signed request.

    :param key: the minion's private key.
    :param minion: id of the minion.
    :param op: operation.
    :param args: its arguments, plain data.
    :param now: the time to put in, seconds since the epoch; default the present.
    :raises ValueError: the request is over 256 KiB or is not plain data.
    """
    request_id = uuid.uuid4().hex
    body = _dump(
        {"v": VERSION, "id": request_id, "minion": minion, "op": op, "args": dict(args), "time": time.time() if now is None else now}
    )
    if len(body) > MAX_REQUEST:
        raise ValueError(f"the request is {len(body)} bytes long; at most {MAX_REQUEST} are possible")
    signature = key.sign(_REQUEST_DOMAIN + body, algorithm=_SIGN)
    return SealedRequest(id=request_id, digest=_digest(body), data={"body": _b64(body), "sig": _b64(signature)})


def open_request(data: Any, find_key: Callable[[str], salt.crypt.PublicKey | None]) -> Request:
    """Return the request in an event's data, once its signature is known to be right.

    :param data: the event's data; anything at all.
    :param find_key: returns the accepted public key of a minion id, or None. It gets an unproven
        string.
    :raises RefusedError: it is malformed, too large, or not signed by an accepted minion that it
        names.
    """
    body = _unb64(data, "body", MAX_REQUEST)
    signature = _unb64(data, "sig", 2048)
    content = _parse(body)
    minion = content.get("minion")
    if not isinstance(minion, str) or not 0 < len(minion) <= 255:
        raise RefusedError("malformed")
    key = find_key(minion)
    if key is None:
        raise RefusedError("the minion's key is not accepted", minion)
    if not _verified(key, _REQUEST_DOMAIN + body, signature):
        raise RefusedError("the signature is wrong", minion)
    # From here on the minion is proven; a fault is its own now, and still not worth an answer.
    request_id, op, args, version = (content.get(name) for name in ("id", "op", "args", "v"))
    sent: Any = content.get("time")
    if not (isinstance(request_id, str) and _ID.fullmatch(request_id)):
        raise RefusedError("malformed although signed", minion)
    if not (isinstance(op, str) and _OP.fullmatch(op) and isinstance(args, dict) and _is_number(sent) and type(version) is int):
        raise RefusedError("malformed although signed", minion)
    return Request(id=request_id, minion=minion, op=op, args=args, time=float(sent), digest=_digest(body), version=version, key=key)


def seal_reply(master: Sign, request: Request, content: Mapping[str, Any], *, now: float | None = None) -> dict[str, str]:
    """Return the event data of a reply: encrypted for the minion that asked, signed by the master.

    :param master: the master's keys.
    :param request: the request that it answers.
    :param content: ``status``; when that is ``done``, ``ok`` with ``data`` or ``error``; when it
        is ``working``, ``text``.
    :param now: the time to put in, seconds since the epoch; default the present.
    :raises ValueError: the reply is over 512 KiB or is not plain data.
    """
    head = {"v": VERSION, "id": request.id, "minion": request.minion, "digest": request.digest}
    body = _dump({**content, **head, "time": time.time() if now is None else now})
    if len(body) > MAX_REPLY:
        raise ValueError(f"the reply is {len(body)} bytes long; at most {MAX_REPLY} are possible")
    secret = salt.crypt.Crypticle.generate_key_string()
    wrapped = request.key.encrypt(secret, algorithm=_WRAP)
    sealed = salt.crypt.Crypticle({}, secret).encrypt(body)
    signature = master.sign(_reply_statement(request.minion, request.id, wrapped, sealed), algorithm=_SIGN)
    return {"key": _b64(wrapped), "body": _b64(sealed), "sig": _b64(signature)}


def open_reply(
    data: Any, key: salt.crypt.PrivateKey, masters: Iterable[salt.crypt.PublicKey], minion: str, request: SealedRequest
) -> Reply:
    """Return the reply in an event's data, once it is known to be the master's answer to this
    request.

    :param data: the event's data; anything at all.
    :param key: the minion's private key.
    :param masters: public keys of the masters that are trusted.
    :param minion: id of the minion.
    :param request: the request that was sent.
    :raises RefusedError: it is malformed, not signed by a trusted master, or the answer to
        something else.
    """
    wrapped = _unb64(data, "key", 2048)
    sealed = _unb64(data, "body", MAX_REPLY + 1024)
    signature = _unb64(data, "sig", 2048)
    statement = _reply_statement(minion, request.id, wrapped, sealed)
    if not any(_verified(master, statement, signature) for master in masters):
        raise RefusedError("the signature is wrong")
    try:
        secret = key.decrypt(wrapped, algorithm=_WRAP)
        body = salt.crypt.Crypticle({}, secret).decrypt(sealed)
    except Exception:  # the libraries raise many types, and each means the same here
        raise RefusedError("it cannot be decrypted") from None
    content = _parse(body)
    if (content.get("id"), content.get("minion"), content.get("digest")) != (request.id, minion, request.digest):
        raise RefusedError("it answers another request")
    status, ok, result, error = (content.get(name) for name in ("status", "ok", "data", "error"))
    if status == "working":
        text = content.get("text")
        return Reply(status="working", text=text[:512] if isinstance(text, str) and text.isprintable() else "")
    if status != "done" or type(ok) is not bool or not isinstance(result if ok else error, dict):
        raise RefusedError("malformed")
    return Reply(status="done", ok=True, data=result) if ok else Reply(status="done", ok=False, error=error)  # type: ignore[arg-type]


def _reply_statement(minion: str, request_id: str, wrapped: bytes, sealed: bytes) -> bytes:
    """Return the bytes that the master signs; each part goes in with its length, so that no two
    statements are alike.
    """
    parts = (minion.encode(), request_id.encode(), wrapped, sealed)
    return _REPLY_DOMAIN + b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _verified(key: salt.crypt.PublicKey, data: bytes, signature: bytes) -> bool:
    try:
        return key.verify(data, signature, algorithm=_SIGN) is True
    except Exception:  # a key of another kind than RSA fails with a TypeError, others with theirs
        return False


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _unb64(data: Any, name: str, limit: int) -> bytes:
    text = data.get(name) if isinstance(data, dict) else None
    if not isinstance(text, str):
        raise RefusedError("malformed")
    if len(text) > limit * 4 // 3 + 4:
        raise RefusedError("too large")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RefusedError("malformed") from None


def _dump(content: dict[str, Any]) -> bytes:
    try:
        return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
    except (TypeError, RecursionError) as exc:
        raise ValueError(f"not plain data: {type(exc).__name__}") from None


def _parse(body: bytes) -> dict[str, Any]:
    """Return the JSON object in ``body``; a text that two parsers could read differently is
    refused.
    """
    try:
        content = json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise RefusedError("malformed") from None
    if not isinstance(content, dict) or not _shallow(content):
        raise RefusedError("malformed")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _shallow(value: Any, left: int = MAX_DEPTH) -> bool:
    if not isinstance(value, dict | list):
        return True
    return left > 0 and all(_shallow(item, left - 1) for item in (value.values() if isinstance(value, dict) else value))
