"""An identity provider, as far as it publishes the keys of its JSON Web Tokens."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec


class Backend(ThreadingHTTPServer):
    """A backend that publishes a set of keys, and counts how often that is asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _KeySetHandler)
        self.keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.asked = 0
        self.answer: bytes | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/keys.json"

    def rotate(self, key_id: str) -> None:
        """Make a key, the only one from now on."""
        self.keys = {key_id: ec.generate_private_key(ec.SECP256R1())}

    def token(self, key_id: str, **claims: Any) -> str:
        told = {"exp": int(time.time()) + 3600, "sub": "anna", "paths": ["/media/private"]} | claims
        return jwt.encode(told, self.keys[key_id], "ES256", {"kid": key_id})


class _KeySetHandler(BaseHTTPRequestHandler):
    server: Backend

    def do_GET(self) -> None:  # the base class's name
        self.server.asked += 1
        listed = [
            json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())) | {"kid": key_id}
            for key_id, key in self.server.keys.items()
        ]
        body = json.dumps({"keys": listed}).encode() if self.server.answer is None else self.server.answer
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def key_set() -> Iterator[Backend]:
    """Run a backend for as long as the block lasts."""
    with Backend() as backend:
        thread = threading.Thread(target=backend.serve_forever, args=(0.05,))
        thread.start()
        yield backend
        backend.shutdown()
        thread.join()
