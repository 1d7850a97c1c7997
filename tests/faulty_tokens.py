"""JSON Web Tokens of a backend, a good one and one with each fault, which the server names."""

from __future__ import annotations

import time
from typing import Any

import jwt

SECRET = "a-secret-that-only-the-backend-knows"
ISSUER = "https://backend.example"
ACCESS = f"""
[access]
jwt_keys = ["HS256:{SECRET}"]
jwt_audience = "headwater"
jwt_issuer = "{ISSUER}"
"""
"""The configuration of a server that takes them."""


def token(secret: str = SECRET, **claims: Any) -> str:
    now = int(time.time())
    usual = {
        "exp": now + 3600,
        "aud": "headwater",
        "iss": ISSUER,
        "sub": "anna",
        "paths": ["/"],
        "publish": True,
    }
    return jwt.encode({name: value for name, value in (usual | claims).items() if value is not None}, secret)


FAULTS = {
    "the token has expired": token(exp=int(time.time()) - 3600),
    "the token isn't valid yet": token(nbf=int(time.time()) + 3600),
    "the token isn't signed by a key that is known here": token("another-secret-that-is-long-enough-too"),
    "the token is for another audience (aud)": token(aud="others"),
    "the token is of another issuer (iss)": token(iss="https://others.example"),
    "the token lacks exp": token(exp=None),
    "the token lacks paths": token(paths=None),
    "the token is for another client": token(address="192.0.2.7"),
    "the token isn't valid for this address": token(paths=["/vod/film"]),
    "the token doesn't allow publishing": token(publish=False),
}
