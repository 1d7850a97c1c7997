"""Accepts connections on a listening socket, and pauses while there are too few file descriptors.

Without descriptors, uvloop would retry without a pause and asyncio log a traceback each time. Some
descriptors are kept for ffmpeg, pipes and files; new connections wait in the kernel meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import resource
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from origin.http1.protocol import HttpProtocol
from origin.http1.shared_turns import turns_of
from origin.tls.transport import TlsTransport
from packager.transient_errors import LACKING

log = structlog.get_logger()


LOG_SECONDS = 60.0
"""Least pause between two lines in the log about a lack of descriptors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListeningLimits:
    """Limits of accepting connections, and the descriptors that stay free for everything else.

    Attributes:
        taken_at_once: connections that are taken before the loop does something else.
        pause_seconds: from finding no room to looking again.
        kept_descriptors: descriptors that connections leave to everything else; of few descriptors a quarter.
        backlog: connections that the kernel keeps for later.
        beat_seconds: between two readings of the clock.
        kept_seconds: for how long a late beat is reported: longer than a monitor's interval.
        late_seconds: a lateness that viewers notice, of the order of a part's duration.
        held_seconds: for how long the loop's thread must have computed, and be late, to count as held by its
            own work.
        look_seconds: between two checks of the watching thread.
        report_seconds: for how long after a warning further ones are logged at the level debug.
    """

    taken_at_once: int = 128
    pause_seconds: float = 0.25
    kept_descriptors: int = 16
    backlog: int = 2048
    beat_seconds: float = 0.25
    kept_seconds: float = 15.0
    late_seconds: float = 1.0
    held_seconds: float = 0.2
    look_seconds: float = 0.1
    report_seconds: float = 60.0


DEFAULT_LIMITS = ListeningLimits()


class ConnectionAcceptor(Protocol):
    """Accepts the connections of one listening socket."""

    def start(self) -> None:
        """Listen, and begin to take connections."""

    async def close(self) -> None:
        """Accept no more connections; the socket's owner closes the socket."""

    @property
    def is_over(self) -> bool:
        """Whether no accepted connection is on its way to another process, once the listener is closed."""


MakeContext = Callable[[], ssl.SSLContext]
"""Returns what a new connection begins its handshake with."""

MakeAcceptor = Callable[[Callable[[], HttpProtocol]], ConnectionAcceptor]
"""Makes an acceptor of connections, given what makes the protocol of one for HTTP."""

MakeListener = Callable[
    [socket.socket, Callable[[], HttpProtocol], ListeningLimits, MakeContext | None], ConnectionAcceptor
]
"""Makes what takes the connections of a socket for HTTP, given what makes their protocols, and contexts."""


class SocketListener:
    """Accepts the connections of one socket.

    Args:
        sock: a bound socket, which may be listened on already. Its owner closes it.
        protocol: makes what a connection is given to.
        context: returns the certificates for a connection's handshake; None: connections aren't encrypted.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        sock: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        clock: Callable[[], float] = time.monotonic,
        limits: ListeningLimits = DEFAULT_LIMITS,
        context: MakeContext | None = None,
    ) -> None:
        self._context = context
        self._limits = limits
        self._socket = sock
        self._protocol = protocol
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._turns = turns_of(self._loop)
        self._beginnings: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._told = float("-inf")
        # Closing a duplicate of the socket would release the process's lock
        # (origin/system/socket_activation.py).
        self._probe = os.open(os.devnull, os.O_RDONLY)

    @classmethod
    def of(
        cls,
        sock: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        limits: ListeningLimits,
        context: MakeContext | None = None,
    ) -> SocketListener:
        """Make one by the usual clock."""
        return cls(sock, protocol, limits=limits, context=context)

    @property
    def is_over(self) -> bool:
        """Whether nothing is under way elsewhere of the connections that were taken: nothing is."""
        return True

    def start(self) -> None:
        """Listen and accept."""
        self._socket.setblocking(False)
        # Connections inherit it: each answer is written whole, and nothing is gained by holding its end back.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.listen(self._limits.backlog)
        self._loop.add_reader(self._socket.fileno(), self._accept)

    def pause(self) -> None:
        """Stop accepting until `start` is called again; connections wait in the kernel."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._loop.remove_reader(self._socket.fileno())

    async def close(self) -> None:
        """Stop accepting."""
        self.pause()
        if self._beginnings:
            await asyncio.wait(self._beginnings)
        os.close(self._probe)

    def _accept(self) -> None:
        highest = highest_descriptor(self._limits.kept_descriptors)
        for _ in range(self._limits.taken_at_once):
            try:
                connection, _ = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in LACKING:
                    self._wait_for_room(str(error.strerror))
                    return
                # accept(2): the error is of that connection alone, which is gone.
                continue
            connection.setblocking(False)
            descriptor = connection.fileno()
            if self._context is None:
                begin = functools.partial(self._loop.create_task, self._begin(connection))
                beginning = self._turns.begin(self._turns.connections, begin)
                self._beginnings.add(beginning)
                beginning.add_done_callback(self._beginnings.discard)
            else:
                # Its arithmetic waits for its turn.
                self._turns.spend(self._turns.connections.seconds)
                self._begin_handshake(connection, self._context())
            if descriptor > highest:
                self._wait_for_room("the rest is for ffmpeg and files")
                return
            if not self._turns.accepts():
                return

    async def _begin(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, connection)
        except OSError as error:
            log.debug("a connection can't be begun", reason=error.strerror)
            connection.close()

    def _begin_handshake(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        try:
            TlsTransport(self._loop, connection, context, self._protocol())
        except (OSError, ValueError) as error:
            log.debug("a connection can't be begun", reason=str(error))
            connection.close()

    def _wait_for_room(self, reason: str) -> None:
        self._loop.remove_reader(self._socket.fileno())
        if self._clock() >= self._told + LOG_SECONDS:
            self._told = self._clock()
            advice = "raise the limit of open files (ulimit -n, LimitNOFILE=)"
            log.warning("new connections wait: descriptors run out", reason=reason, advice=advice)
        self._pause = self._loop.call_later(self._limits.pause_seconds, self._look_again)

    def _look_again(self) -> None:
        if has_room(self._probe, self._limits.kept_descriptors):
            self._pause = None
            self._loop.add_reader(self._socket.fileno(), self._accept)
        else:
            self._pause = self._loop.call_later(self._limits.pause_seconds, self._look_again)


def _kept_back(most: int) -> int:
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return most if allowed == resource.RLIM_INFINITY else min(most, allowed // 4)


def highest_descriptor(kept: int) -> int:
    """Return the highest descriptor that a connection may get; the system assigns the lowest free one."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return allowed - 1 - _kept_back(kept) if allowed != resource.RLIM_INFINITY else 1 << 30


def has_room(descriptor: int, kept: int) -> bool:
    """Return whether enough descriptors would stay free.

    They are taken for a moment rather than counted: where the limit was lowered under a running server, the
    number of the lowest free one says nothing about how many there are.
    """
    taken: list[int] = []
    with contextlib.suppress(OSError):
        for _ in range(_kept_back(kept) + 1):
            taken.append(os.dup(descriptor))  # noqa: PERF401 - what was taken is closed, whatever is raised
    for number in taken:
        os.close(number)
    return len(taken) > _kept_back(kept)
