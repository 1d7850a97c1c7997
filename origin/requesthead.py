"""The head of an HTTP/1 request: what it may cost, and what is wrong with one that parses (RFC 9112 §3)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import httptools

# RFC 9110 §7.2, RFC 3986 §3.2.2: uri-host [ ":" port ], or nothing.
_HOST = re.compile(rb"(?:\[[0-9A-Za-z:.%_~!$&'()*+,;=-]+\]|[0-9A-Za-z._~!$&'()*+,;=%-]*)(?::[0-9]*)?")


@dataclass(frozen=True, slots=True)
class WireLimits:
    """What a client may cost before its request is known. Times in seconds, sizes in bytes.

    Attributes:
        header_seconds: From the first byte of a request, or the opening of the connection, to the end of
            its header.
        header_bytes: Request line and header fields together.
        header_fields: Number of header fields.
        target_bytes: The request target.
        stalled_seconds: How long a client may take none of the bytes that wait for it.
        pipelined_requests: Requests that may wait behind the one being answered.
        linger_seconds: How long what a refused client is still sending is read, so that it sees why.
    """

    header_seconds: float = 15.0
    header_bytes: int = 32 * 1024
    header_fields: int = 100
    target_bytes: int = 8 * 1024
    stalled_seconds: float = 60.0
    pipelined_requests: int = 64
    linger_seconds: float = 2.0


def fault_of(method: str, version: str, hosts: Sequence[bytes], *, coded: bool) -> int | None:
    """Judge the head of a request.

    Args:
        method: Its method.
        version: Its HTTP version, such as "1.1".
        hosts: The values of its Host fields.
        coded: Whether it has a Transfer-Encoding field.

    Returns:
        The status to refuse it with, or None when nothing is wrong with it.
    """
    if version not in ("1.0", "1.1"):
        return 400 if version == "0.9" else 505
    # RFC 9112 §3.2: exactly one Host in HTTP/1.1, never more than one, and a valid one.
    if len(hosts) > 1 or (not hosts and version == "1.1") or not all(map(_HOST.fullmatch, hosts)):
        return 400
    # RFC 9112 §6.1: a Transfer-Encoding in HTTP/1.0 means that the framing can't be trusted.
    if coded and version == "1.0":
        return 400
    # RFC 9110 §9.1, §9.3.6: this is no proxy.
    return 501 if method == "CONNECT" else None


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Split a request target (RFC 9112 §3.2) into its path and query, both still percent-encoded.

    Args:
        target: In origin form, absolute form or asterisk form.

    Raises:
        HttpParserInvalidURLError: It is none of these.
    """
    if target.startswith(b"/"):
        path, _, query = target.partition(b"#")[0].partition(b"?")
        return path, query
    # RFC 9112 §3.2.2: a server must accept the absolute form too; its path may be empty.
    parsed = httptools.parse_url(target)
    return parsed.path or b"/", parsed.query or b""
