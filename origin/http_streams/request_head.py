"""The head of a request on a stream, as the fields that HTTP/1 would have (RFC 9113 §8.3, RFC 9114 §4.3)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from origin.http.answer import Headers
from origin.http1.limits import HttpLimits
from origin.http1.request_head import fault_of
from origin.http1.request_reader import RequestHead
from origin.http_streams.stream import value_of

# RFC 9110 §9.1, RFC 3986 §2; the libraries let other characters pass.
_METHOD = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")
_VISIBLE = re.compile(rb"[!-~]*")

# RFC 9110 §5.1, §5.5: the libraries let more pass, which HTTP/1 refuses, and to which this may be relayed.
_NAME = re.compile(rb"[a-z0-9!#$%&'*+\-.^_`|~]+")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_VALUE = re.compile(rb"[\t -~\x80-\xff]*")

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
    read = _read_fields(headers, limits)
    if isinstance(read, int):
        return read
    pseudo, fields = read
    method, target = pseudo[b":method"].decode("latin-1"), pseudo.get(b":path", b"")
    if not _METHOD.fullmatch(method) or not _VISIBLE.fullmatch(target):
        return 400
    if len(target) > limits.target_bytes:
        return 414
    if not _is_length_right(fields, is_all=is_all):
        return 400
    protocol = pseudo.get(b":protocol")
    expects_continue = value_of(fields, b"expect").lower() == b"100-continue"
    hosts = _hosts(pseudo.get(b":authority"), fields)
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
    body_bytes = 0.0 if is_all else math.inf
    return RequestHead(
        method, version, target, fields, expects_continue, True, protocol is not None, body_bytes
    )


def _read_fields(
    headers: Iterable[tuple[bytes, bytes]], limits: HttpLimits
) -> tuple[dict[bytes, bytes], list[tuple[bytes, bytes]]] | int:
    """Return the pseudo-header fields and the others; or the status of those that are refused."""
    pseudo: dict[bytes, bytes] = {}
    fields: list[tuple[bytes, bytes]] = []
    size = 0
    for name, value in headers:
        size += len(name) + len(value) + 4
        if name[:1] == b":":
            pseudo[bytes(name)] = bytes(value)
        elif not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            return 400
        else:
            fields.append((bytes(name), bytes(value)))
    if len(fields) > limits.header_fields or size > limits.header_bytes:
        return 431
    return pseudo, fields


def _hosts(authority: bytes | None, fields: list[tuple[bytes, bytes]]) -> list[bytes]:
    """Return the hosts that a request names; the authority becomes Host where there is none."""
    hosts = [value for name, value in fields if name == b"host"]
    if authority is None:
        return hosts
    if not hosts:
        fields.insert(0, (b"host", authority))
        return [authority]
    # RFC 9113 §8.3.1, RFC 9114 §4.3.1: both must be the same.
    return hosts if hosts[0].lower() == authority.lower() else [*hosts, authority]


def _is_length_right(fields: Headers, *, is_all: bool) -> bool:
    """Return whether Content-Length is one number at most (RFC 9110 §8.6), which the body may have.

    RFC 9113 §8.1.1, RFC 9114 §4.1.2: a body that comes is counted by the libraries, but not one that doesn't.
    """
    lengths = [value for name, value in fields if name == b"content-length"]
    if not lengths:
        return True
    is_one = len(lengths) == 1 and _LENGTH.fullmatch(lengths[0]) is not None
    return is_one and not (is_all and lengths[0].strip(b"0"))


_UPGRADE: Headers = (
    (b"upgrade", b"websocket"),
    (b"connection", b"Upgrade"),
    (b"sec-websocket-key", WEBSOCKET_KEY),
)
