"""Stateless resets, by which clients learn that a crash has ended their connections (RFC 9000 §10.3)."""

from __future__ import annotations

import hmac
import os

from origin.http.token_bucket import TokenBucket
from packager.safe_files import DataFolder

KEY_FILE, KEY_BYTES = "quic-reset.key", 32
"""Name of the file with the key, and the key's length."""

TOKEN_BYTES = 16

LEAST_BYTES, MOST_BYTES = 21, 43
"""RFC 9000 §10.3: shortest datagram that may be one, and the length from which on nobody can tell."""

RESETS, RESETS_A_SECOND = 100, 50.0
"""Most datagrams of this kind in one go, and how many more in each second."""

_FIXED_BIT, _TYPE_BITS = 0x40, 0x3F


def reset_key(folder: DataFolder | None) -> bytes:
    """Return the key of tokens: the kept one, or else a new one, which is kept.

    Args:
        folder: where it is kept; None: nowhere, so that it ends with the process.

    Raises:
        OSError: it can't be read or written.
    """
    if folder is None:
        return os.urandom(KEY_BYTES)
    with folder.open(make=True) as opened:
        try:
            key = opened.read(KEY_FILE, KEY_BYTES)
        except FileNotFoundError:
            key = b""
        if len(key) != KEY_BYTES:
            key = os.urandom(KEY_BYTES)
            opened.write_whole(KEY_FILE, key)
        return key


class StatelessResets:
    """Makes tokens of connection IDs, and the datagrams that end connections by them.

    Args:
        key: secret; with the same one, a later process ends the connections of an earlier one.
        port: of the server: a token of one server is no use at another with the same key (§21.11).
    """

    def __init__(self, key: bytes, port: int) -> None:
        self._key = key
        self._port = port.to_bytes(2)
        self._allowed = TokenBucket(RESETS, RESETS_A_SECOND)

    def token(self, connection_id: bytes) -> bytes:
        """Return the token of a connection ID."""
        return hmac.digest(self._key, self._port + connection_id, "sha256")[:TOKEN_BYTES]

    def datagram(self, connection_id: bytes, size: int) -> bytes | None:
        """Return the answer to a datagram of a connection that isn't known; None: it gets none.

        Args:
            size: of the datagram. The answer is shorter, so that no two servers answer each other for ever
                (§10.3.3).
        """
        length = min(size - 1, MOST_BYTES)
        if length < LEAST_BYTES or self._allowed.acquire():
            return None
        noise = bytearray(os.urandom(length - TOKEN_BYTES))
        noise[0] = noise[0] & _TYPE_BITS | _FIXED_BIT
        return bytes(noise) + self.token(connection_id)
