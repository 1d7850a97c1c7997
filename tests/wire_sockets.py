"""Reads a WebSocket over each wire, as the bytes that come (RFC 6455 §4, RFC 8441 §4, RFC 9220 §3)."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from tests.http2_client import Answer, Http2Client
from tests.http3_client import Http3Connection
from tests.patience import CLIENT_SECONDS

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPTED = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""RFC 6455 §1.3: an example's key, and what it is answered with."""


def read_socket(url: str, path: str, version: str, trusted: Path, last: bytes) -> bytes:
    """Open a WebSocket and return the bytes of its frames, up to the first ones in which some stand.

    Args:
        url: of the server.
        version: of HTTP, as httpx names it.
        trusted: file with the certificate.
    """
    if version == "HTTP/3":
        return _by_http3(url, path, trusted, last)
    parts = urlsplit(url)
    raw = socket.create_connection((parts.hostname or "", parts.port or 0), CLIENT_SECONDS)
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=trusted)
        context.set_alpn_protocols(["h2" if version == "HTTP/2" else "http/1.1"])
        raw = context.wrap_socket(raw, server_hostname=parts.hostname)
    with raw:
        read = _by_http2 if version == "HTTP/2" else _by_http1
        return read(raw, url, path, last)


def _by_http1(raw: socket.socket, url: str, path: str, last: bytes) -> bytes:
    head = f"GET {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n"
    head += "Connection: Upgrade\r\nUpgrade: websocket\r\n"
    raw.sendall(f"{head}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n".encode())
    found = bytearray()
    while last not in found and (data := raw.recv(1 << 16)):
        found += data
    head_bytes, _, frames = bytes(found).partition(b"\r\n\r\n")
    assert head_bytes.startswith(b"HTTP/1.1 101 ")
    assert ACCEPTED in head_bytes
    return frames


def _by_http2(raw: socket.socket, url: str, path: str, last: bytes) -> bytes:
    with Http2Client(url, sock=raw) as client:
        client.until(lambda: client.h2.remote_settings.enable_connect_protocol)
        number = client.h2.get_next_available_stream_id()
        headers = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", urlsplit(url).scheme)]
        headers += [(":authority", client.authority), (":path", path), ("sec-websocket-version", "13")]
        client.h2.send_headers(number, headers)
        client.flush()
        answer = client.answers.setdefault(number, Answer())
        client.until(lambda: last in answer.body)
        assert answer.status == 200
        return bytes(answer.body)


def _by_http3(url: str, path: str, trusted: Path, last: bytes) -> bytes:
    connection = Http3Connection(url, trusted)
    try:
        protocol = connection.protocol
        values = {":method": "CONNECT", ":protocol": "websocket", ":scheme": "https"}
        values |= {":authority": urlsplit(url).netloc, ":path": path, "sec-websocket-version": "13"}
        fields = [(name.encode(), value.encode()) for name, value in values.items()]
        number = connection.call(protocol.request, fields, ends=False)
        head = protocol.answers[number].get(timeout=CLIENT_SECONDS)
        assert isinstance(head, list)
        assert head[0] == (b":status", b"200")
        frames = b""
        while last not in frames:
            found = protocol.answers[number].get(timeout=CLIENT_SECONDS)
            assert isinstance(found, bytes)
            frames += found
        return frames
    finally:
        connection.close()
