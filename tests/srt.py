"""A caller of SRT that shows why it was refused, and sends anything or nothing."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import socket
from collections.abc import Iterator

from origin.ingest.libsrt import LIBRARIES, Option, write_address

KEY_BYTES = 27
"""The option that chooses AES-128, 192 or 256 (``SRTO_PBKEYLEN``)."""


@functools.cache
def _started_library() -> ctypes.CDLL:
    """Load libsrt, whose threads must have ended when the process ends: they crash it else."""
    library = ctypes.CDLL(LIBRARIES[0])
    library.srt_startup()
    library.srt_setloglevel(2)
    atexit.register(library.srt_cleanup)
    return library


class Caller:
    """A connection, or a refusal.

    Attributes:
        refusal: libsrt's reason; 0 where it was let in.
    """

    def __init__(self, port: int, stream_id: str, passphrase: str = "", key_bytes: int = 16) -> None:
        self._library = _started_library()
        self._socket = self._library.srt_create_socket()
        told = stream_id.encode()
        if told:
            self._set(Option.STREAM_ID, told, len(told))
        if passphrase:
            secret, size = passphrase.encode(), ctypes.c_int(key_bytes)
            self._set(Option.PASSPHRASE, secret, len(secret))
            self._set(KEY_BYTES, ctypes.byref(size), ctypes.sizeof(size))
        packed = write_address(socket.AF_INET, ("127.0.0.1", port))
        failed = self._library.srt_connect(self._socket, packed, len(packed)) < 0
        self.refusal = int(self._library.srt_getrejectreason(self._socket)) if failed else 0

    def _set(self, option: int, value: object, size: int) -> None:
        assert self._library.srt_setsockflag(self._socket, int(option), value, size) == 0

    def send(self, data: bytes) -> bool:
        """Send a message; tell whether the connection is still there."""
        return int(self._library.srt_send(self._socket, data, len(data))) > 0

    @property
    def is_connected(self) -> bool:
        """Whether the connection is there (``SRTS_CONNECTED``)."""
        return int(self._library.srt_getsockstate(self._socket)) == 5

    def close(self) -> None:
        """End it."""
        self._library.srt_close(self._socket)


@contextlib.contextmanager
def calling(port: int, stream_id: str, passphrase: str = "", key_bytes: int = 16) -> Iterator[Caller]:
    """Call, and hang up at the end of the block."""
    caller = Caller(port, stream_id, passphrase, key_bytes)
    try:
        yield caller
    finally:
        caller.close()


def udp_port() -> int:
    """Give a UDP port of 127.0.0.1 that nobody has now; a server whose port is taken tries again."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
