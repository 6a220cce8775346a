"""An array's HTTPS server, with a certificate that it made itself, as arrays have; it can be broken
in the ways in which arrays break.
"""

from __future__ import annotations

import base64
import datetime
import functools
import http.server
import json
import socketserver
import ssl
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

GARBAGE = b"<html><body>The management service is starting.</body></html>"


@dataclass(frozen=True)
class Request:
    """A request, and its body as JSON."""

    method: str
    path: str
    json: Any


class HTTPSArray:
    """Answers requests on a port of the loopback interface until :meth:`close`.

    :ivar broken: empty; ``garbage``: answers are no JSON; ``silent``: an answer never comes.
    """

    def __init__(self, answer: Callable[[Request], Any], *, login: tuple[str, str]) -> None:
        """Listen.

        :param answer: takes a request and returns its answer, which is sent as JSON.
        :param login: the user that is let in, and its password; both are compared with HTTP's
            basic authentication.
        """
        self.broken = ""
        self._over = threading.Event()
        expected = "Basic " + base64.b64encode(":".join(login).encode()).decode()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Otherwise an answer in two packets waits for an acknowledgement.
            wbufsize = -1

            def handle_one_request(handler) -> None:
                try:
                    super().handle_one_request()
                except ConnectionError:  # the client did not wait
                    handler.close_connection = True

            def do_GET(handler) -> None:
                length = int(handler.headers.get("Content-Length") or 0)
                body = handler.rfile.read(length)
                if self.broken == "silent":
                    self._over.wait()
                if handler.headers.get("Authorization") != expected:
                    handler.reply(401, GARBAGE.replace(b"The management service is starting.", b"401 Unauthorized"))
                elif self.broken == "garbage":
                    handler.reply(200, GARBAGE)
                else:
                    asked = Request(handler.command, handler.path, json.loads(body) if body else None)
                    handler.reply(200, json.dumps(answer(asked)).encode())

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

            def reply(handler, status: int, body: bytes) -> None:
                handler.send_response(status)
                handler.send_header("Content-Length", str(len(body)))
                handler.end_headers()
                handler.wfile.write(body)
                handler.wfile.flush()

            def log_message(handler, *_: Any) -> None:
                """Write nothing."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.socket = _context().wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        """Stop, and drop the requests that wait for an answer."""
        self._over.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    """Not http.server's own: where eventlet was loaded, its threads are eventlet's, and hang."""

    daemon_threads = True
    request_queue_size = 64


@functools.cache
def _context() -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "array.example.org")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "array.pem")
        file.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context.load_cert_chain(file)
    return context
