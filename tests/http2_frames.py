"""Frames of HTTP/2 as bytes (RFC 9113 §4.1), and a client that also sends malformed ones."""

from __future__ import annotations

import contextlib
import itertools
import socket
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from hpack import Encoder

from tests.patience import CLIENT_SECONDS

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE = range(6)
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(6, 10)
END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
DEFAULT_WINDOW, MOST_PAYLOAD = 65_535, 16_384
_NUMBERS = itertools.count()


class Frame(NamedTuple):
    """A frame that the server has sent."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> int | None:
        """The error code of a GOAWAY or RST_STREAM frame."""
        start = {GOAWAY: 4, RST_STREAM: 0}.get(self.kind)
        return None if start is None else int.from_bytes(self.payload[start : start + 4])


def frame(kind: int, stream: int = 0, payload: bytes = b"", flags: int = 0) -> bytes:
    """Return the bytes of a frame."""
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    """Return a SETTINGS frame with pairs of identifier and value."""
    return frame(SETTINGS, 0, b"".join(number.to_bytes(2) + value.to_bytes(4) for number, value in pairs))


def block(*fields: tuple[str, str]) -> bytes:
    """Return a block of header fields that stands for itself, whatever blocks came before it."""
    encoded: bytes = Encoder().encode(fields)
    return encoded


def literal(name: bytes, value: bytes, kind: int) -> bytes:
    """Return a field as a literal with a new name, in a block (RFC 7541 §6.2).

    Args:
        kind: 0x40 with a place in the table, 0 without one.
    """
    return bytes((kind,)) + b"".join(_length(one) + one for one in (name, value))


def _length(text: bytes) -> bytes:
    """Return the length of a string, not in Huffman's code (RFC 7541 §5)."""
    if len(text) < 0x7F:
        return bytes((len(text),))
    rest, coded = len(text) - 0x7F, bytearray(b"\x7f")
    while rest >= 0x80:
        coded.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes((*coded, rest))


def head_frames(number: int, fields: bytes) -> bytes:
    """Return a block of fields as frames of 16 KiB, the last of which ends it."""
    pieces = [fields[start : start + MOST_PAYLOAD] for start in range(0, len(fields), MOST_PAYLOAD)]
    kinds, last = (HEADERS, *(CONTINUATION for _ in pieces)), len(pieces) - 1
    return b"".join(
        frame(kind, number, piece, END_HEADERS * (place == last))
        for place, (kind, piece) in enumerate(zip(kinds, pieces, strict=False))
    )


def connected(url: str) -> socket.socket:
    """Connect to a server of this machine, from an address that no other client has.

    A server remembers by its address who was at fault.
    """
    parts, number = urlsplit(url), next(_NUMBERS)
    source = f"127.1.{number >> 8 & 0xFF}.{number & 0xFF}", 0
    return socket.create_connection((str(parts.hostname), parts.port), CLIENT_SECONDS, source)


class FrameClient:
    """A connection on which nothing is sent but what a test sends."""

    def __init__(self, url: str) -> None:
        self._socket = connected(url)
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes; a server that has closed gets none."""
        with contextlib.suppress(ConnectionError):
            self._socket.sendall(data)

    def read(self) -> Frame | None:
        """Return the next frame; None if the server has closed the connection."""
        while len(self._unread) < 9 or len(self._unread) < 9 + int.from_bytes(self._unread[:3]):
            try:
                data = self._socket.recv(65_536)
            except ConnectionError:
                data = b""
            if not data:
                return None
            self._unread += data
        end = 9 + int.from_bytes(self._unread[:3])
        found, self._unread = self._unread[:end], self._unread[end:]
        return Frame(found[3], found[4], int.from_bytes(found[5:9]) & 0x7FFF_FFFF, found[9:])

    def next_of(self, *kinds: int) -> Frame | None:
        """Return the next frame of one of these types; None if the server closes the connection before."""
        while (found := self.read()) is not None and found.kind not in kinds:
            pass
        return found

    def shake_hands(self) -> None:
        """Send the preface, and read until the server has sent and confirmed settings."""
        self.send(PREFACE + settings((4, DEFAULT_WINDOW)))
        flags = {one.flags for _ in range(2) if (one := self.next_of(SETTINGS)) is not None}
        assert flags == {0, ACK}
