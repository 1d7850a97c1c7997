"""Has the kernel drop datagrams of connections that flood, by a filter of the socket (socket(7), bpf(4))."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import struct
import sys
from collections.abc import Collection

import structlog

from origin.http3.alarm import Alarm

log = structlog.get_logger()

MOST_IDS = 256
"""Most connection IDs that the kernel drops; datagrams to others are read, and dropped here."""

REFRESH_SECONDS = 0.01
"""Least time from one filter to the next one."""

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27

# Instructions, with what they are called in bpf(4).
_LOAD_BYTE, _LOAD_INDEXED, _LOAD_INDEX = 0x30, 0x40, 0x01
_JUMP, _JUMP_EQUAL, _JUMP_BITS, _RETURN = 0x05, 0x15, 0x45, 0x06
_ALL_BYTES = 0xFFFF_FFFF

_UDP_HEADER_BYTES = 8
_LONG_HEADER = 0x80
_SHORT_ID_OFFSET, _LONG_ID_OFFSET = _UDP_HEADER_BYTES + 1, _UDP_HEADER_BYTES + 6
ID_BYTES = 8
"""Length of the connection IDs that can be filtered."""


def program(ids: Collection[bytes]) -> bytes:
    """Return instructions that drop datagrams to connection IDs, in either form of a packet's header.

    A datagram that is too short to tell is dropped, too; it is no packet of QUIC (RFC 8999 §5).

    Args:
        ids: of `ID_BYTES` bytes each.
    """
    lines = [
        (_LOAD_BYTE, 0, 0, _UDP_HEADER_BYTES),
        (_JUMP_BITS, 0, 2, _LONG_HEADER),
        (_LOAD_INDEX, 0, 0, _LONG_ID_OFFSET),
        (_JUMP, 0, 0, 1),
        (_LOAD_INDEX, 0, 0, _SHORT_ID_OFFSET),
    ]
    for one in ids:
        start, end = struct.unpack("!II", one)
        lines += [
            (_LOAD_INDEXED, 0, 0, 0),
            (_JUMP_EQUAL, 0, 3, start),
            (_LOAD_INDEXED, 0, 0, 4),
            (_JUMP_EQUAL, 0, 1, end),
            (_RETURN, 0, 0, 0),
        ]
    lines.append((_RETURN, 0, 0, _ALL_BYTES))
    return b"".join(struct.pack("HBBI", *line) for line in lines)


class FloodFilter:
    """The connections whose datagrams the kernel drops, each for some time.

    Where the kernel has no such filter, they come, and are dropped as they are read.
    """

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self._socket = sock
        self._loop = loop
        # Until when datagrams to each connection ID are dropped.
        self._until: dict[bytes, float] = {}
        self._timer = Alarm(loop, self._refresh)
        self._is_able = sys.platform == "linux"
        self._is_attached = False

    def drop(self, ids: Collection[bytes], until: float) -> None:
        """Have datagrams to connection IDs dropped until some time of the event loop's."""
        for one in ids:
            if self._is_able and len(one) == ID_BYTES and len(self._until) < MOST_IDS:
                self._until[one] = until
        if self._until:
            self._timer.set_by(self._loop.time() + REFRESH_SECONDS)

    def close(self) -> None:
        """Drop nothing any more."""
        self._timer.cancel()
        self._is_able = False
        self._until.clear()
        # The socket may be another process's as well.
        with contextlib.suppress(OSError):
            self._attach()

    def _refresh(self) -> None:
        """Attach the filter of now."""
        now = self._loop.time()
        self._until = {one: until for one, until in self._until.items() if until > now}
        try:
            self._attach()
        except OSError as error:
            log.debug("the kernel doesn't filter datagrams", reason=error.strerror)
            self.close()
            return
        if self._until:
            self._timer.set_by(max(min(self._until.values()), now + REFRESH_SECONDS))

    def _attach(self) -> None:
        if not self._until:
            if self._is_attached:
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
                self._is_attached = False
            return
        data = program(self._until)
        kept = ctypes.create_string_buffer(data, len(data))
        described = struct.pack("HP", len(data) // 8, ctypes.addressof(kept))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)
        self._is_attached = True
