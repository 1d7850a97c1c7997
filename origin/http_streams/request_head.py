"""The head of a request on a stream, as the fields that HTTP/1 would have (RFC 9113 §8.3, RFC 9114 §4.3)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from origin.http.answer import Headers
from origin.http1.limits import HttpLimits
from origin.http1.request_head import fault_of
from origin.http1.request_reader import RequestHead

# RFC 9110 §9.1, RFC 3986 §2; the libraries let other characters pass.
_METHOD = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")
_VISIBLE = re.compile(rb"[!-~]*")

WEBSOCKET_KEY = b"AAAAAAAAAAAAAAAAAAAAAA=="
"""RFC 8441 §5: there is no key of a handshake, since nothing else can answer it; any one stands for it."""


def read_request(
    headers: Iterable[tuple[bytes, bytes]], limits: HttpLimits, version: str, *, is_all: bool
) -> RequestHead | int:
    """Read the head of a request, which the library of the wire has found to be well-formed.

    Args:
        version: version of HTTP, such as "2".
        is_all: whether the stream ends with the head, so that there is no body.

    Returns:
        The status to refuse the request with, if it is beyond the limits or not meant for an origin.
    """
    pseudo: dict[bytes, bytes] = {}
    fields: list[tuple[bytes, bytes]] = []
    size, expects_continue = 0, False
    for name, value in headers:
        size += len(name) + len(value) + 4
        if name[:1] == b":":
            pseudo[bytes(name)] = bytes(value)
            continue
        if name == b"expect":
            expects_continue = value.lower() == b"100-continue"
        fields.append((bytes(name), bytes(value)))
    if len(fields) > limits.header_fields or size > limits.header_bytes:
        return 431
    method, target = pseudo[b":method"].decode("latin-1"), pseudo.get(b":path", b"")
    if not _METHOD.fullmatch(method) or not _VISIBLE.fullmatch(target):
        return 400
    if len(target) > limits.target_bytes:
        return 414
    authority, protocol = pseudo.get(b":authority"), pseudo.get(b":protocol")
    hosts = [value for name, value in fields if name == b"host"]
    if authority is not None and not hosts:
        hosts = [authority]
        fields.insert(0, (b"host", authority))
    if protocol is not None:
        if method != "CONNECT" or protocol != b"websocket":
            return 501
        # RFC 8441 §4: what is a GET with Upgrade on HTTP/1.1.
        method, is_all = "GET", True
        # HAProxy passes on the key that its client had on HTTP/1.1.
        fields = [one for one in fields if one[0] != b"sec-websocket-key"]
        fields += _UPGRADE
    if (fault := fault_of(method, "1.1", hosts)) is not None:
        return fault
    if not target.startswith(b"/") and not (method == "OPTIONS" and target == b"*"):
        return 400
    has_body = not is_all
    return RequestHead(
        method, version, target, fields, expects_continue, True, protocol is not None, has_body
    )


_UPGRADE: Headers = (
    (b"upgrade", b"websocket"),
    (b"connection", b"Upgrade"),
    (b"sec-websocket-key", WEBSOCKET_KEY),
)
