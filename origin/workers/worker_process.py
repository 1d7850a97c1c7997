"""A worker process, seen from the control process: its life, its messages, and the connections from it."""

from __future__ import annotations

import asyncio
import enum
import os
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from media.errors import MalformedError
from origin.http1.protocol import HttpProtocol
from origin.server.services.limits import Limits
from origin.workers import messages
from origin.workers.messages import (
    Closed,
    End,
    HandedOver,
    Listen,
    Logs,
    LogsWanted,
    Ready,
    Report,
    ReportWanted,
    Sessions,
    Start,
)
from origin.workers.packet_socket import PacketSocket
from packager.replication.log_server import LogServer

log = structlog.get_logger()

PROGRAM = (sys.executable, "-P", "-m", "origin.workers.worker")
"""The command line of a worker. -P keeps modules of the current folder from being imported."""


class WorkerState(enum.Enum):
    """The states of a worker."""

    SPARE = "spare"
    STARTING = "starting"
    READY = "ready"
    ENDING = "ending"
    CLOSED = "closed"
    ENDED = "ended"


class WorkerProcess:
    """A worker process. A worker without a configuration is a spare, which waits to replace another.

    Args:
        listening: descriptors of the listening sockets.
        make_connection: makes the protocol of a handed-over connection.
        logs: sends the live channels' logs to the worker.
        on_sessions: called with viewers' sessions of which the worker tells.
        on_change: called when the worker is ready, accepts no more connections, or has ended.

    Attributes:
        number: of the worker, from 1; 0 for a spare.
        handed_over: number of connections from this worker.
        is_informed: whether it has been sent all that it has to know before it listens.

    Raises:
        OSError: there are too few descriptors.
    """

    def __init__(
        self,
        listening: Sequence[int],
        limits: Limits,
        make_connection: Callable[[], HttpProtocol],
        logs: LogServer,
        on_change: Callable[[], None],
        on_sessions: Callable[[Sessions], None],
    ) -> None:
        self._on_sessions = on_sessions
        self._on_change = on_change
        self.number = 0
        self.state = WorkerState.SPARE
        self.handed_over = 0
        self.is_informed = False
        self._listening = listening
        self._limits = limits.server
        self._make_connection = make_connection
        self._logs = logs
        ours, self._its_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        kept = limits.server.listening.kept_descriptors
        # Messages that are sent before the process runs wait in the kernel.
        self._packets = PacketSocket(ours, self._handle_message, self._lost, limits.server, kept)
        self._process: asyncio.subprocess.Process | None = None
        self._start_timer: asyncio.TimerHandle | None = None
        self._report: asyncio.Future[Report] | None = None
        self._beginnings: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Start the process and wait for its end; return its exit status, which is negative for a signal.

        Raises:
            OSError: it can't be started.
        """
        process: asyncio.subprocess.Process | None = None
        try:
            with self._its_end as its:
                process = self._process = await asyncio.create_subprocess_exec(
                    *PROGRAM,
                    str(its.fileno()),
                    str(os.getpid()),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(its.fileno(), *self._listening),
                    # Keys of a terminal end the control process, which ends its workers in order.
                    start_new_session=True,
                )
            return await process.wait()
        finally:
            self.state = WorkerState.ENDED
            self._on_change()
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()
            self._packets.close()
            if self._start_timer is not None:
                self._start_timer.cancel()
            if self._beginnings:
                await asyncio.wait(self._beginnings)
            if self._report is not None and not self._report.done():
                self._report.set_exception(TimeoutError("the worker has ended"))
                self._report.exception()  # perhaps nobody asks any more

    def serve(self, start: Start) -> None:
        """Send a spare worker the configuration that it serves."""
        self.number = start.number
        self.state = WorkerState.STARTING
        self.send(start)

    def listen(self) -> None:
        """Ask the worker to accept connections; a worker that doesn't in time is killed.

        This may be said again, of further sockets.
        """
        self.send(Listen())
        if self.state is WorkerState.STARTING and self._start_timer is None:
            # The process may have been stopped (SIGSTOP) while it was a spare one.
            loop = asyncio.get_running_loop()
            self._start_timer = loop.call_later(self._limits.start_seconds, self._lost)

    def end(self, *, at_once: bool) -> None:
        """Ask the worker to end, after its last response or at once."""
        if self.state is WorkerState.SPARE:
            # A spare worker has no clients, and may not read its messages yet.
            self._lost()
        if self.state not in (WorkerState.CLOSED, WorkerState.ENDED):
            self.state = WorkerState.ENDING
        if self.state is not WorkerState.ENDED:
            self.send(End(at_once))

    def send(self, message: messages.ToWorker) -> None:
        """Send the worker a message that it needn't answer."""
        self._packets.send(messages.encode(message))

    async def report(self) -> Report:
        """Return the worker's metrics; concurrent calls share one request."""
        if self._report is None or self._report.done():
            self._report = asyncio.get_running_loop().create_future()
            self.send(ReportWanted())
        return await asyncio.shield(self._report)

    def _lost(self) -> None:
        """Kill a worker that doesn't read its messages: its connections would have nowhere to go."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def _handle_message(self, data: bytes, descriptors: list[int]) -> None:
        sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        try:
            message = messages.read_from_worker(data)
        except MalformedError as error:
            log.error("a worker's message can't be read", worker=self.number, reason=str(error))
            message = None
        if isinstance(message, HandedOver) and len(sockets) == 1:
            self.handed_over += 1
            self._start(self._begin(sockets.pop(), message))
        elif isinstance(message, LogsWanted):
            self._start(self._send_logs())
        elif isinstance(message, Sessions):
            self._on_sessions(message)
        elif isinstance(message, Ready) and self.state is WorkerState.STARTING:
            self.state = WorkerState.READY
            if self._start_timer is not None:
                self._start_timer.cancel()
            self._on_change()
        elif isinstance(message, Closed) and self.state is not WorkerState.ENDED:
            self.state = WorkerState.CLOSED
            self._on_change()
        elif isinstance(message, Report) and self._report is not None and not self._report.done():
            self._report.set_result(message)
        for sock in sockets:
            sock.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        beginning = asyncio.get_running_loop().create_task(work)
        self._beginnings.add(beginning)
        beginning.add_done_callback(self._beginnings.discard)

    async def _send_logs(self) -> None:
        """Send the worker a socket for the logs of live channels, which replaces an earlier one."""
        try:
            ours, its = socket.socketpair()
        except OSError as error:
            # The worker asks again.
            log.warning("a worker can't follow live channels", worker=self.number, reason=error.strerror)
            return
        await self._logs.connect(ours)
        self._packets.send(messages.encode(Logs()), (its.detach(),))

    async def _begin(self, sock: socket.socket, message: HandedOver) -> None:
        """Serve a connection that a worker handed over, or one that relays a request."""
        sock.setblocking(False)
        connection = self._make_connection()
        connection.take_over(message.data, message.relayed_from)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, sock)
        except OSError as error:
            log.debug("a connection can't be taken over", reason=error.strerror)
            sock.close()
