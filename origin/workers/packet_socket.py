"""Sends messages with file descriptors to another process over a Unix socket of packets (unix(7)).

A packet arrives whole or not at all, with its descriptors. A message that is longer than a packet travels in
a file in memory (memfd_create(2)), whose descriptor is the packet's last.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from array import array
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from origin.server.services.limits import ServerLimits
from origin.system.connection_acceptor import has_room, highest_descriptor

log = structlog.get_logger()

INLINE, IN_FILE = b"\0", b"\1"
"""First byte of a packet: whether the message follows it or is in a file."""

MOST_DESCRIPTORS = 8
"""Descriptors of a packet, the file's included."""

_DESCRIPTOR_BYTES = array("i").itemsize

LATER = frozenset((errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE))
"""Errors of sending that pass: too many descriptors are on their way, or memory is short."""

PACKETS_AT_ONCE = 64
"""Packets that are read before other tasks of the loop run."""


class PacketError(Exception):
    """The received bytes aren't a packet of this protocol."""


class PacketSocket:
    """One end of a pair of sockets; sends messages in order, and queues those that can't be sent yet.

    Args:
        sock: the socket, which the object owns from now on.
        receive: called with each message and its descriptors, which it then owns.
        lost: called once when the other end is closed, or a message can't be read.
        kept_descriptors: descriptors that received ones must leave for other uses.
    """

    def __init__(
        self,
        sock: socket.socket,
        receive: Callable[[bytes, list[int]], None],
        lost: Callable[[], None],
        limits: ServerLimits,
        kept_descriptors: int = 0,
    ) -> None:
        self._socket = sock
        self._receive = receive
        self._lost = lost
        self._limits = limits
        self._kept = kept_descriptors
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[bytes, Sequence[int]]] = deque()
        self._waiting_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._has_sent_all = asyncio.Event()
        self._has_sent_all.set()
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._read)

    @property
    def has_room(self) -> bool:
        """Whether one more message is kept, if the other end doesn't take it now."""
        limits = self._limits
        few = len(self._waiting) < limits.packets_waiting and self._waiting_bytes < limits.waiting_bytes
        return few and not self._is_closed

    async def wait_until_sent(self) -> None:
        """Wait until the other end has all messages."""
        await self._has_sent_all.wait()

    def send(self, message: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send a message; the descriptors are closed once the other end has them."""
        if self._is_closed:
            _close_all(descriptors)
            return
        self._waiting.append((message, descriptors))
        self._waiting_bytes += len(message)
        self._has_sent_all.clear()
        if len(self._waiting) == 1:
            self._send_waiting()

    def close(self) -> None:
        """Close this end; what waits is dropped, with its connections."""
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        for timer in (self._timer, self._pause):
            if timer is not None:
                timer.cancel()
        self._socket.close()
        for _, descriptors in self._waiting:
            _close_all(descriptors)
        self._waiting.clear()
        self._has_sent_all.set()

    def _send_waiting(self) -> None:
        self._timer = None
        while self._waiting:
            message, descriptors = self._waiting[0]
            try:
                send_packet(self._socket, message, descriptors, self._limits)
            except BlockingIOError:
                self._loop.add_writer(self._socket.fileno(), self._send_waiting)
                return
            except OSError as error:
                if error.errno in LATER:
                    self._loop.remove_writer(self._socket.fileno())
                    self._timer = self._loop.call_later(self._limits.again_seconds, self._send_waiting)
                else:
                    self._end()
                return
            self._waiting.popleft()
            self._waiting_bytes -= len(message)
            _close_all(descriptors)
        self._loop.remove_writer(self._socket.fileno())
        self._has_sent_all.set()

    def _read(self) -> None:
        for _ in range(PACKETS_AT_ONCE):
            try:
                message, descriptors = receive_packet(self._socket, self._limits)
            except BlockingIOError:
                return
            except EOFError:
                self._end()
                return
            except (OSError, PacketError) as error:
                log.error("a message between processes can't be read", reason=str(error))
                self._end()
                return
            highest = max(descriptors, default=-1)
            self._receive(message, descriptors)
            if self._is_closed:
                return
            if self._kept and highest > highest_descriptor(self._kept):
                self._loop.remove_reader(self._socket.fileno())
                self._pause = self._loop.call_later(self._limits.again_seconds, self._look_again)
                return

    def _look_again(self) -> None:
        """Read on once there are descriptors again; meanwhile connections wait in the other process."""
        if has_room(self._socket.fileno(), self._kept):
            self._pause = None
            self._loop.add_reader(self._socket.fileno(), self._read)
        else:
            self._pause = self._loop.call_later(self._limits.again_seconds, self._look_again)

    def _end(self) -> None:
        self.close()
        self._lost()


def send_packet(
    sock: socket.socket, message: bytes, descriptors: Sequence[int], limits: ServerLimits
) -> None:
    """Send a message as one packet.

    Raises:
        BlockingIOError: there is no room now.
        OSError: it can't be sent.
    """
    if len(message) < limits.packet_bytes:
        socket.send_fds(sock, [INLINE, message], descriptors)
        return
    file = os.memfd_create("message", os.MFD_CLOEXEC)
    try:
        written = 0
        while written < len(message):
            written += os.pwrite(file, memoryview(message)[written:], written)
        socket.send_fds(sock, [IN_FILE], [*descriptors, file])
    finally:
        os.close(file)


def receive_packet(sock: socket.socket, limits: ServerLimits) -> tuple[bytes, list[int]]:
    """Receive a message and its descriptors.

    Raises:
        EOFError: the other end is closed.
        BlockingIOError: there is none now.
        PacketError: it isn't one of ours, or its descriptors had no room.
        OSError: it can't be received.
    """
    try:
        # Not by socket.recv_fds: some versions of it ignore the flags.
        data, ancillary, flags, _ = sock.recvmsg(
            limits.packet_bytes,
            socket.CMSG_LEN(MOST_DESCRIPTORS * _DESCRIPTOR_BYTES),
            socket.MSG_CMSG_CLOEXEC,
        )
    except ConnectionError as error:
        raise EOFError from error
    descriptors = [descriptor for _, _, packed in ancillary for descriptor in _descriptors_in(packed)]
    try:
        if not data:
            raise EOFError
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise PacketError("the message is cut off, or there were too few descriptors")
        if data[:1] == INLINE:
            return data[1:], descriptors
        return _read_file(descriptors, limits), descriptors
    except BaseException:
        _close_all(descriptors)
        raise


def _descriptors_in(packed: bytes) -> array[int]:
    # A descriptor that is cut off wasn't received.
    return array("i", packed[: len(packed) - len(packed) % _DESCRIPTOR_BYTES])


def _read_file(descriptors: list[int], limits: ServerLimits) -> bytes:
    """Read the message in the last of the descriptors, and close that."""
    if not descriptors:
        raise PacketError("the descriptor of the message's file is missing")
    file = descriptors.pop()
    try:
        length = os.fstat(file).st_size
        if length > limits.message_bytes:
            raise PacketError(f"the message has {length} bytes: more than {limits.message_bytes}")
        message = b""
        while len(message) < length:
            message += os.pread(file, length - len(message), len(message))
        return message
    finally:
        os.close(file)


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
