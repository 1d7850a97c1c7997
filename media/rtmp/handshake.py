"""The server's side of RTMP's handshake, plain or with digests.

Adobe's RTMP specification 1.0, §5.2 has the plain handshake. Flash players from version 9 on, and programs
that imitate them (ffmpeg, rtmpdump), hide a digest among the random bytes and expect one back; Adobe never
published the algorithm.
"""

from __future__ import annotations

import hashlib
import hmac

from media.errors import MalformedError, UnsupportedError

VERSION = 3
ENCRYPTED_VERSIONS = frozenset({6, 8, 9})
"""Versions of RTMPE."""

PACKET_BYTES = 1536
"""RTMP 1.0 §5.2.3: the size of C1, S1, C2 and S2."""

RANDOM_BYTES = PACKET_BYTES - 8

_DIGEST_BYTES = 32
_SECRET = bytes.fromhex("f0eec24a8068bee82e00d0d1029e7e576eec5d2d29806fab93b8e636cfeb31ae")
_CLIENT_KEY = b"Genuine Adobe Flash Player 001"
_SERVER_KEY = b"Genuine Adobe Flash Media Server 001"
_SERVER_VERSION = bytes((4, 5, 0, 1))
_POINTERS = (8, 772)
"""Offsets of the four bytes that point at the digest; a client chooses one of the two."""


class ServerHandshake:
    """Reads a client's handshake, and writes the server's, without I/O.

    Args:
        random: ``RANDOM_BYTES`` of random data, for S1.

    Attributes:
        is_complete: whether the client's part is complete.
    """

    def __init__(self, random: bytes) -> None:
        self._random = random
        self._buffer = bytearray()
        self._is_answered = False
        self.is_complete = False

    def receive_data(self, data: bytes) -> bytes:
        """Parse the next bytes; return the bytes to send.

        Raises:
            MalformedError: the bytes aren't RTMP.
            UnsupportedError: the connection is encrypted (RTMPE).
        """
        self._buffer += data
        sent = b""
        if self._buffer and not self._is_answered:
            _check_version(self._buffer[0])
        if not self._is_answered and len(self._buffer) > PACKET_BYTES:
            sent = self._answer(bytes(self._buffer[1 : 1 + PACKET_BYTES]))
            del self._buffer[: 1 + PACKET_BYTES]
            self._is_answered = True
        # C2 repeats S1, but some clients send anything: it isn't compared.
        if self._is_answered and not self.is_complete and len(self._buffer) >= PACKET_BYTES:
            del self._buffer[:PACKET_BYTES]
            self.is_complete = True
        return sent

    def take_rest(self) -> bytes:
        """Return the received bytes behind the handshake, once."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def _answer(self, first: bytes) -> bytes:
        """Return S0, S1 and S2 for C1."""
        digest = _client_digest(first)
        if digest is None:
            return bytes((VERSION,)) + bytes(8) + self._random + first
        own = bytearray(bytes(4) + _SERVER_VERSION + self._random)
        place = _digest_place(own, _POINTERS[0])
        own[place : place + _DIGEST_BYTES] = _digest_around(own, place, _SERVER_KEY)
        echo = first[: PACKET_BYTES - _DIGEST_BYTES]
        signed = echo + _hmac(_hmac(_SERVER_KEY + _SECRET, digest), echo)
        return bytes((VERSION,)) + bytes(own) + signed


def _check_version(version: int) -> None:
    if version in ENCRYPTED_VERSIONS:
        raise UnsupportedError("encrypted RTMP")
    # RTMP 1.0 §5.2.2: other versions may be answered with 3, but nobody sends them.
    if version != VERSION:
        raise MalformedError("not an RTMP handshake")


def _client_digest(packet: bytes) -> bytes | None:
    """Find the digest in C1; None in a plain handshake."""
    for pointer in _POINTERS:
        place = _digest_place(packet, pointer)
        found = packet[place : place + _DIGEST_BYTES]
        if hmac.compare_digest(found, _digest_around(packet, place, _CLIENT_KEY)):
            return found
    return None


def _digest_place(packet: bytes | bytearray, pointer: int) -> int:
    return sum(packet[pointer : pointer + 4]) % 728 + pointer + 4


def _digest_around(packet: bytes | bytearray, place: int, key: bytes) -> bytes:
    return _hmac(key, bytes(packet[:place] + packet[place + _DIGEST_BYTES :]))


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, hashlib.sha256)
