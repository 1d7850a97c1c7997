"""Tokens of addresses, keys of other backends, and what processes tell each other of viewers."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from media.errors import MalformedError
from origin.access.address_tokens import SigningKeys
from origin.access.limits import AccessLimits
from origin.access.viewer_sessions import SessionRecord, ViewerSessions
from origin.access.web_tokens import WebTokenKeys, key_of_secret, keys_of_set
from origin.http.path_prefixes import split_token
from packager.replication.log_entries import read_message
from tests.fuzzing.fuzzer import Outcome, Target

KEYS = SigningKeys(["2026-11:a-secret-of-november"])
SIGNED = f"/t/{KEYS.sign('/live/demo', 1_800_000_000, 'anna')}"
SECRET = "a-secret-that-only-the-backend-knows"
WEB_KEYS = WebTokenKeys([key_of_secret(SECRET)])
HEADER = {"alg": "HS256", "typ": "JWT", "kid": "a"}
CLAIMS = {
    "exp": 1_900_000_000,
    "nbf": 5.5,
    "sub": "anna",
    "paths": ["/live/demo", "/vod/*/film.mp4"],
    "clips": True,
    "address": "192.0.2.0/24",
}
_RECORDS = msgspec.msgpack.Decoder(list[SessionRecord])


def of_whole(read_whole: Callable[[bytes], str]) -> Callable[[Sequence[bytes]], Outcome]:
    """Make what reads all of an input at once; it returns the fault, empty for none."""
    return lambda pieces: Outcome(None, read_whole(b"".join(pieces)))


def read_signed(data: bytes) -> str:
    """Read an address with a token, whose token covers nothing but what it is signed for."""
    text, path = split_token(data.decode("utf-8", "replace"))
    token = KEYS.read(text)
    assert token is None or not token.covers(path) or path.startswith("/live/demo")
    return ""


def read_web_token(data: bytes) -> str:
    """Sign a header and claims, a line each, and read them: only so does anybody come to the claims."""
    parts = [urlsafe_b64encode(part).rstrip(b"=") for part in data.partition(b"\n")[::2]]
    signature = urlsafe_b64encode(hmac.digest(SECRET.encode(), b".".join(parts), "sha256")).rstrip(b"=")
    token = WEB_KEYS.read(b".".join((*parts, signature)).decode())
    if token is None:
        return "no token"
    assert token.label.rpartition("#")[2].isalnum()
    token.covers("/live/demo/720p/1.m4s")
    return ""


def read_key_set(data: bytes) -> str:
    """Read a set of keys, and a token with what it has."""
    try:
        keys = WebTokenKeys(keys_of_set(data))
    except ValueError as broken:
        return str(broken)
    keys.read(TOKEN)
    return ""


def read_sessions(data: bytes) -> str:
    """Merge what another process tells of sessions; no name ever has more than it may."""
    sessions = ViewerSessions(1, AccessLimits(), clock=lambda: 1000.0)
    sessions.enter("anna", "t", 2000.0, "192.0.2.7", "Player")
    try:
        told = read_message(_RECORDS, data, "list of sessions")
    except MalformedError as broken:
        return type(broken).__name__
    sessions.merge(told)
    names = [one.name for one in sessions.listed()]
    assert len(set(names)) == len(names)
    return ""


def key_set() -> bytes:
    """Return a set with a key of each kind."""
    public = [
        jwt.algorithms.RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048).public_key()),
        jwt.algorithms.ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key()),
        jwt.algorithms.OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate().public_key()),
    ]
    return json.dumps({"keys": [json.loads(one) | {"kid": "a", "use": "sig"} for one in public]}).encode()


def records() -> bytes:
    """Return sessions that last and that have ended."""
    made = [
        SessionRecord("0" * 15 + "1", "anna", "a" * 16, 990.0, 995.0, 2000.0, "192.0.2.8", "Player"),
        SessionRecord("0" * 15 + "2", "anna", "b" * 16, 991.0, 996.0, 2000.0, ended=997.0, kept_out=1050.0),
        SessionRecord("0" * 24, "berta", "c" * 16, 992.0, 1e300, 2000.0),
    ]
    return msgspec.msgpack.encode(made)


TOKEN = jwt.encode(CLAIMS, ec.generate_private_key(ec.SECP256R1()), "ES256", {"kid": "a"})

TARGETS = {
    "tokens": Target(
        seeds=lambda: [[SIGNED.encode()[:-20], SIGNED.encode()[-20:], b"/live/demo/720p/media.m3u8"]],
        read=of_whole(read_signed),
    ),
    "web_token": Target(
        seeds=lambda: [[json.dumps(HEADER).encode() + b"\n", json.dumps(CLAIMS).encode()]],
        read=of_whole(read_web_token),
        words=[b"null", b"1e999", b"-1", b"[" * 300, b'"crit":["b64"],', b"\\ud800", b"NaN"],
    ),
    "key_set": Target(
        seeds=lambda: [[key_set()]],
        read=of_whole(read_key_set),
        words=[b"null", b"[" * 300, b'"oct"', b'"d":"AQAB",', b'"crv":"P-384"', b'"AQAB"'],
    ),
    "sessions": Target(seeds=lambda: [[records()]], read=of_whole(read_sessions), words=[b"\xdd", b"\xcb"]),
}
