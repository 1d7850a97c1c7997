"""Who may listen to a station with a password for listeners: who knows it, or has a signed address."""

from __future__ import annotations

import binascii
import hashlib
import hmac
from base64 import b64decode

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

CHALLENGE = 'Basic realm="listeners", charset="UTF-8"'
"""RFC 7617 §2."""

MAX_DIGITS = 12
"""Of the time in a signed address."""


def signature(password: str, path: str, expires: int) -> str:
    """Sign an address, so that it lets in whoever has it until a moment.

    Args:
        password: the station's, for listeners.
        path: such as ``/radio/demo.mp3``.
        expires: seconds since the epoch.

    Returns:
        HMAC-SHA256 of ``PATH?expires=SECONDS`` in hexadecimal, the query parameter ``signature``.
    """
    return hmac.new(password.encode(), f"{path}?expires={expires}".encode(), hashlib.sha256).hexdigest()


def may_listen(request: Request, password: str, now: float) -> bool:
    """Tell whether a request has the password or is signed, in a time that tells nothing of either.

    Args:
        request: with Basic authentication by any user, or ``?key=``, or ``?expires=`` and ``&signature=``.
        password: the station's, for listeners; empty for none.
        now: seconds since the epoch.
    """
    if not password:
        return True
    query = request.query_params
    expires = query.get("expires", "")
    if expires.isascii() and expires.isdecimal() and len(expires) <= MAX_DIGITS and int(expires) > now:
        expected = signature(password, request.url.path, int(expires))
        if hmac.compare_digest(query.get("signature", "").encode(), expected.encode()):
            return True
    given = query.get("key", "").encode() or _basic_password(request.headers.get("authorization", ""))
    # Digests have one length, so that the comparison doesn't tell the password's.
    digests = [hashlib.sha256(text).digest() for text in (given, password.encode())]
    return hmac.compare_digest(*digests)


def refusal() -> Response:
    """Ask for the password (RFC 9110 §15.5.2)."""
    headers = {"www-authenticate": CHALLENGE, "cache-control": "no-store"}
    return PlainTextResponse("this station is for listeners with a password\n", 401, headers)


def _basic_password(field: str) -> bytes:
    scheme, _, token = field.partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return b64decode(token.strip(), validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""
