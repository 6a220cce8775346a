"""Requests and replies: a right envelope passes, a touched envelope is refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import salt.crypt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saltstorage.bus import envelope
from saltstorage.bus.envelope import RefusedError
from tests.unit.bus.conftest import KeyPair

Pairs = dict[str, KeyPair]


def open_request(pairs: Pairs, data: Any) -> envelope.Request:
    accepted = {name: pairs[name].public for name in ("alpha", "beta")}
    return envelope.open_request(data, accepted.get)


def signed(
    pair: KeyPair, body: bytes, prefix: bytes = b"salt-storage request v1\0", algorithm: str = salt.crypt.PKCS1v15_SHA224
) -> dict[str, str]:
    """Return the event data of any body, signed in any way."""
    signature = pair.private.sign(prefix + body, algorithm=algorithm)
    return {"body": base64.b64encode(body).decode(), "sig": base64.b64encode(signature).decode()}


def body(**changes: Any) -> bytes:
    content = {"v": 1, "id": "0" * 32, "minion": "alpha", "op": "create", "args": {"name": "db"}, "time": 1.0}
    return json.dumps({key: value for key, value in {**content, **changes}.items() if value is not ...}).encode()


@pytest.fixture(scope="module")
def request_(pairs: Pairs) -> envelope.SealedRequest:
    return envelope.seal_request(pairs["alpha"].private, "alpha", "create", {"name": "db ☃", "size": 1})


@pytest.fixture(scope="module")
def opened(pairs: Pairs, request_: envelope.SealedRequest) -> envelope.Request:
    return open_request(pairs, request_.data)


def reply_to(pairs: Pairs, opened: envelope.Request, **content: Any) -> dict[str, str]:
    return envelope.seal_reply(pairs["master"].private, opened, content or {"status": "done", "ok": True, "data": {"id": "7"}})


def open_reply(pairs: Pairs, data: Any, request_: envelope.SealedRequest, minion: str = "alpha", trusted: str = "master") -> envelope.Reply:
    return envelope.open_reply(data, pairs[minion].private, [pairs[trusted].public], minion, request_)


def test_request_round_trip(request_: envelope.SealedRequest, opened: envelope.Request) -> None:
    assert (opened.minion, opened.op, opened.args) == ("alpha", "create", {"name": "db ☃", "size": 1})
    assert (opened.id, opened.digest) == (request_.id, request_.digest)
    assert "☃" not in repr(opened)


def test_reply_round_trip(pairs: Pairs, request_: envelope.SealedRequest, opened: envelope.Request) -> None:
    assert open_reply(pairs, reply_to(pairs, opened), request_).data == {"id": "7"}
    working = reply_to(pairs, opened, status="working")
    assert open_reply(pairs, working, request_).status == "working"
    failed = open_reply(pairs, reply_to(pairs, opened, status="done", ok=False, error={"code": "NOT_FOUND"}), request_)
    assert not failed.ok
    assert failed.error == {"code": "NOT_FOUND"}


def test_a_reply_is_not_readable_on_the_way(pairs: Pairs, opened: envelope.Request) -> None:
    sealed = reply_to(pairs, opened, status="done", ok=True, data={"auth_password": "MARKER"})
    assert all(b"MARKER" not in base64.b64decode(value) for value in sealed.values())


@pytest.mark.parametrize("part", ["body", "sig"])
def test_tampered_request(pairs: Pairs, request_: envelope.SealedRequest, part: str) -> None:
    raw = bytearray(base64.b64decode(request_.data[part]))
    for position in (0, len(raw) // 2, len(raw) - 1):
        touched = bytearray(raw)
        touched[position] ^= 1
        with pytest.raises(RefusedError):
            open_request(pairs, {**request_.data, part: base64.b64encode(bytes(touched)).decode()})


def test_signed_by_another(pairs: Pairs) -> None:
    with pytest.raises(RefusedError, match="signature") as caught:
        open_request(pairs, signed(pairs["stranger"], body()))
    assert caught.value.minion == "alpha"


def test_one_minion_says_it_is_another(pairs: Pairs) -> None:
    with pytest.raises(RefusedError, match="signature"):
        open_request(pairs, signed(pairs["alpha"], body(minion="beta")))


def test_unknown_minion(pairs: Pairs) -> None:
    with pytest.raises(RefusedError, match="not accepted"):
        open_request(pairs, signed(pairs["stranger"], body(minion="stranger")))


def test_sha1_is_not_taken(pairs: Pairs) -> None:
    with pytest.raises(RefusedError, match="signature"):
        open_request(pairs, signed(pairs["alpha"], body(), algorithm=salt.crypt.PKCS1v15_SHA1))


@pytest.mark.parametrize("prefix", [b"", b"salt-storage reply v1\0", b"salt-storage request v2\0"])
def test_a_signature_for_another_purpose(pairs: Pairs, prefix: bytes) -> None:
    with pytest.raises(RefusedError, match="signature"):
        open_request(pairs, signed(pairs["alpha"], body(), prefix=prefix))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"minion": "alpha"}',
        body(minion=["alpha"]),
        body(minion=""),
        body(minion="a" * 256),
        body(id="0" * 31),
        body(id="../../etc/passwd"),
        body(id="Z" * 32),
        body(op="Create!"),
        body(op=""),
        body(op="x" * 65),
        body(args=[]),
        body(args=...),
        body(time="now"),
        body(time=True),
        body(time=10**400),
        body(v="1"),
        body(v=True),
        body().replace(b"1.0", b"NaN"),
        body().replace(b"1.0", b"1e999"),
        body().replace(b'"v": 1', b'"v": 1, "minion": "beta"'),
        body().replace(b'"db"', b'"db", "name": "other"'),
        body(args={"deep": json.loads("[" * 40 + "]" * 40)}),
        body().replace(b'{"name": "db"}', b"[" * 100_000),
    ],
)
def test_malformed_although_signed(pairs: Pairs, raw: bytes) -> None:
    with pytest.raises(RefusedError, match=r"malformed|not accepted"):
        open_request(pairs, signed(pairs["alpha"], raw))


def test_too_large(pairs: Pairs) -> None:
    with pytest.raises(RefusedError, match="too large"):
        open_request(pairs, signed(pairs["alpha"], body(args={"x": "y" * envelope.MAX_REQUEST})))
    with pytest.raises(ValueError, match="bytes long"):
        envelope.seal_request(pairs["alpha"].private, "alpha", "create", {"x": "y" * envelope.MAX_REQUEST})
    with pytest.raises(ValueError, match="plain data"):
        envelope.seal_request(pairs["alpha"].private, "alpha", "create", {"x": object()})


@pytest.mark.parametrize("data", [None, [], "x", {}, {"body": 1, "sig": 2}, {"body": "*", "sig": "*"}, {"body": b"eA==", "sig": "eA=="}])
def test_no_envelope(pairs: Pairs, request_: envelope.SealedRequest, data: Any) -> None:
    with pytest.raises(RefusedError, match="malformed"):
        open_request(pairs, data)
    with pytest.raises(RefusedError, match="malformed"):
        open_reply(pairs, data, request_)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["body", "sig", "key"]), inner),
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=ANYTHING)
def test_garbage(pairs: Pairs, request_: envelope.SealedRequest, data: Any) -> None:
    with pytest.raises(RefusedError):
        open_request(pairs, data)
    with pytest.raises(RefusedError):
        open_reply(pairs, data, request_)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=400))
def test_garbage_that_is_signed(pairs: Pairs, raw: bytes) -> None:
    with pytest.raises(RefusedError):
        open_request(pairs, signed(pairs["alpha"], raw))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(args=st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=8)))
def test_any_plain_data_goes_through(pairs: Pairs, args: dict[str, Any]) -> None:
    try:
        json.dumps(args, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        with pytest.raises(ValueError):
            envelope.seal_request(pairs["alpha"].private, "alpha", "echo", args)
        return
    assert open_request(pairs, envelope.seal_request(pairs["alpha"].private, "alpha", "echo", args).data).args == args


@pytest.mark.parametrize("part", ["body", "key", "sig"])
def test_tampered_reply(pairs: Pairs, request_: envelope.SealedRequest, opened: envelope.Request, part: str) -> None:
    sealed = reply_to(pairs, opened)
    raw = bytearray(base64.b64decode(sealed[part]))
    raw[len(raw) // 2] ^= 1
    with pytest.raises(RefusedError, match="signature"):
        open_reply(pairs, {**sealed, part: base64.b64encode(bytes(raw)).decode()}, request_)


def test_reply_of_another_master(pairs: Pairs, request_: envelope.SealedRequest, opened: envelope.Request) -> None:
    sealed = envelope.seal_reply(pairs["stranger"].private, opened, {"status": "done", "ok": True, "data": {}})
    with pytest.raises(RefusedError, match="signature"):
        open_reply(pairs, sealed, request_)


def test_reply_for_one_minion_given_to_another(pairs: Pairs, request_: envelope.SealedRequest, opened: envelope.Request) -> None:
    with pytest.raises(RefusedError, match="signature"):
        open_reply(pairs, reply_to(pairs, opened), request_, minion="beta")


def test_reply_for_another_minions_key(pairs: Pairs, request_: envelope.SealedRequest, opened: envelope.Request) -> None:
    """The statement names alpha, but the content is for beta's key."""
    import dataclasses

    sealed = reply_to(pairs, dataclasses.replace(opened, key=pairs["beta"].public))
    with pytest.raises(RefusedError, match="decrypted"):
        open_reply(pairs, sealed, request_)


def test_reply_of_one_request_used_for_another(pairs: Pairs, opened: envelope.Request) -> None:
    other = envelope.seal_request(pairs["alpha"].private, "alpha", "create", {"name": "db ☃", "size": 1})
    with pytest.raises(RefusedError, match="signature"):
        open_reply(pairs, reply_to(pairs, opened), other)


def test_reply_to_other_contents_of_the_same_id(pairs: Pairs, request_: envelope.SealedRequest, opened: envelope.Request) -> None:
    import dataclasses

    with pytest.raises(RefusedError, match="another request"):
        open_reply(pairs, reply_to(pairs, dataclasses.replace(opened, digest="0" * 64)), request_)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"status": "maybe"},
        {"status": "done"},
        {"status": "done", "ok": 1, "data": {}},
        {"status": "done", "ok": True, "data": []},
        {"status": "done", "ok": False},
    ],
)
def test_reply_of_the_master_that_makes_no_sense(
    pairs: Pairs, request_: envelope.SealedRequest, opened: envelope.Request, content: dict[str, Any]
) -> None:
    sealed = envelope.seal_reply(pairs["master"].private, opened, content)
    with pytest.raises(RefusedError, match="malformed"):
        open_reply(pairs, sealed, request_)


def test_reply_too_large(pairs: Pairs, opened: envelope.Request) -> None:
    with pytest.raises(ValueError, match="bytes long"):
        reply_to(pairs, opened, status="done", ok=True, data={"x": "y" * envelope.MAX_REPLY})
