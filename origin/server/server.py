"""The running server: binds its sockets early, and shuts down in limited time.

uvicorn runs the loop and the protocol; the shutdown is ours: waiting requests are released, downloads get a
grace period, and no traceback or child process remains.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import structlog
import uvicorn

from origin.http1.protocol import HttpProtocol
from origin.http_streams.connection import MultiplexedConnection
from origin.server.services.limits import ServerLimits
from origin.system.connection_acceptor import ConnectionAcceptor, MakeAcceptor
from origin.system.end_signals import ended_by_signals
from packager.concurrency import wait_within

log = structlog.get_logger()


LAST_REQUEST_SECONDS = 0.1
"""For how long connections are served on when no more are taken: the next request may be on its way."""

POLL_SECONDS = 0.05
"""Pause between two checks, at the server's end, whether all connections are closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The steps and times of a server's orderly end.

    Attributes:
        drain_seconds: for how long the server serves on, while ``/health`` says that it isn't ready.
        on_drain: called when draining begins.
        on_listeners_closed: called once the server accepts no more connections.
        have_others_closed: returns whether the server's other processes have closed theirs, too.
        on_close: called then, or after a time limit; releases waiting requests and endless responses, whose
            clients come again.
        grace_seconds: how long running responses may then take.
    """

    drain_seconds: float = 0.0
    on_drain: Callable[[], None] = lambda: None
    on_listeners_closed: Callable[[], None] = lambda: None
    have_others_closed: Callable[[], bool] = lambda: True
    on_close: Callable[[], None]
    grace_seconds: float


class Server(uvicorn.Server):
    """uvicorn's server with listening and a shutdown of its own.

    uvicorn documents the class, `serve` and `should_exit`. The methods overridden here are the steps of
    `serve`, which uvicorn doesn't document: check them first when a new release of uvicorn misbehaves.

    Args:
        on_listening: called once, when connections are accepted.
        limits: how long connections are served on at the end.
        make_listeners: make the acceptors of connections, given what makes the protocol of one for HTTP.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        on_listening: Callable[[], None],
        ending: Ending,
        limits: ServerLimits,
        make_listeners: Sequence[MakeAcceptor],
    ) -> None:
        super().__init__(config)
        self._on_listening = on_listening
        self._how_to_end = ending
        self._limits = limits
        self._make_listeners = make_listeners
        self._ending = asyncio.Event()
        self._is_draining = False
        self._listeners: list[ConnectionAcceptor] = []

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Drain and shut down at SIGINT and SIGTERM; further ones wait neither for that nor for responses."""
        with ended_by_signals(self.ask_to_end):
            yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the services, then listen."""
        del sockets
        # Without sockets, uvicorn only starts the services.
        await super().startup([])
        if not self.started:
            return
        self._listeners = [make(self._protocol) for make in self._make_listeners]
        for listener in self._listeners:
            listener.start()
        self._on_listening()

    def _protocol(self) -> HttpProtocol:
        """Make a connection's protocol, as uvicorn does."""
        # uvicorn says `asyncio.Protocol`, which takes no arguments.
        made = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        if not isinstance(made, HttpProtocol):
            raise TypeError("the protocol isn't ours")
        if self.should_exit:
            made.retire()
        return made

    async def main_loop(self) -> None:
        """Update the Date field at the start of each second, until shutdown.

        uvicorn does this ten times a second, which is half the CPU time of an idle server, and up to a second
        late: a file's Last-Modified could be later than Date (RFC 9110 §8.8.2.1).
        """
        while not await self.on_tick(0):
            await wait_within(1 - time.time() % 1, self._ending.wait())

    def ask_to_end(self) -> None:
        """Drain, and then shut down; called again, without draining, and then at once."""
        how = self._how_to_end
        if not how.drain_seconds or self._is_draining:
            self.end()
            return
        self._is_draining = True
        how.on_drain()
        log.info("the server drains", seconds=how.drain_seconds)
        asyncio.get_running_loop().call_later(how.drain_seconds, self._end_of_drain)

    def _end_of_drain(self) -> None:
        if not self.should_exit:
            self.end()

    def end(self) -> None:
        """Shut down without draining; called again, at once."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._ending.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, release waiting requests, let responses end, and abort the rest."""
        how = self._how_to_end
        for listener in self._listeners:
            await listener.close()
        for sock in () if sockets is None else sockets:
            sock.close()
        how.on_listeners_closed()
        # Answer requests that were sent already; new connections go to another server.
        for one in self._connections():
            one.retire()
        # A client that is released before might reconnect to a process that is about to release it, too.
        await self._wait_until(how.have_others_closed, self._limits.closing_seconds)
        await asyncio.sleep(LAST_REQUEST_SECONDS)
        how.on_close()
        await self._wait_until(self._has_ended, how.grace_seconds)
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=how.grace_seconds)
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await self.lifespan.shutdown()

    async def _wait_until(self, is_so: Callable[[], bool], most_seconds: float) -> None:
        """Wait, while the server shuts down, until something is so; no longer once it is to end at once."""
        end = asyncio.get_running_loop().time() + most_seconds
        while not (self.force_exit or is_so() or asyncio.get_running_loop().time() >= end):
            for one in self._connections():
                one.close_idle(LAST_REQUEST_SECONDS, self._limits.first_request_seconds)
            await asyncio.sleep(POLL_SECONDS)

    @property
    def connection_count(self) -> int:
        """Number of open connections of clients."""
        return len(self.server_state.connections)

    def _has_ended(self) -> bool:
        under_way = self.server_state.connections or self.server_state.tasks
        return not under_way and all(one.is_over for one in self._listeners)

    def _connections(self) -> list[HttpProtocol | MultiplexedConnection]:
        connections = self.server_state.connections
        return [one for one in connections if isinstance(one, HttpProtocol | MultiplexedConnection)]


def address_of(sockets: Sequence[socket.socket], host: str, scheme: str = "http") -> str:
    """Return a URL that a person can open."""
    port = sockets[0].getsockname()[1]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104  # shown, not bound
    return f"{scheme}://{f'[{shown}]' if ':' in shown and not shown.startswith('[') else shown}:{port}/"
