"""A caller of SRT that shows why it was refused, and sends anything or nothing."""

from __future__ import annotations

import contextlib
import ctypes
import socket
from collections.abc import Iterator

from origin.ingest.libsrt import LIBRARIES, Option, write_address


class Caller:
    """A connection, or a refusal.

    Attributes:
        refusal: libsrt's reason; 0 where it was let in.
    """

    def __init__(self, port: int, stream_id: str) -> None:
        self._library = ctypes.CDLL(LIBRARIES[0])
        self._library.srt_startup()
        self._library.srt_setloglevel(2)
        self._socket = self._library.srt_create_socket()
        told = stream_id.encode()
        if told:
            assert self._library.srt_setsockflag(self._socket, int(Option.STREAM_ID), told, len(told)) == 0
        packed = write_address(socket.AF_INET, ("127.0.0.1", port))
        failed = self._library.srt_connect(self._socket, packed, len(packed)) < 0
        self.refusal = int(self._library.srt_getrejectreason(self._socket)) if failed else 0

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
def calling(port: int, stream_id: str) -> Iterator[Caller]:
    """Call, and hang up at the end of the block."""
    caller = Caller(port, stream_id)
    try:
        yield caller
    finally:
        caller.close()


def udp_port() -> int:
    """Give a UDP port of 127.0.0.1 that nobody has now; a server whose port is taken tries again."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
