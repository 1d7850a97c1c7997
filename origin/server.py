"""The running server: sockets bound before anything else is made, and an end within its time.

uvicorn runs the protocol and the loop; what is ours is how it ends: nobody is left waiting, running downloads
get a named time, and neither a traceback nor a child process stays behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Generator, Sequence

import uvicorn

BACKLOG = 2048
POLL_SECONDS = 0.05

UNACKNOWLEDGED_SECONDS = 30.0
KEEPALIVE_IDLE_SECONDS = 20
KEEPALIVE_PROBE_SECONDS = 5
KEEPALIVE_PROBES = 3
"""A silent connection is asked after 20 s whether somebody is there, and given up after three unanswered."""


class BindError(Exception):
    """The address can't be listened on; the text is one line that says what to do."""


def bind(host: str, port: int, unacknowledged_seconds: float = UNACKNOWLEDGED_SECONDS) -> list[socket.socket]:
    """Bind every address of a host, without listening yet.

    Args:
        host: name or address.
        port: number; 0 takes a free one, the same for all addresses.
        unacknowledged_seconds: after how long a client that confirms nothing is taken for gone.

    Raises:
        BindError: the host has no address, or one of them is taken or not allowed.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise BindError(f"{host}: no such host ({error.strerror}); set server.host to an address") from error
    sockets: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(found):
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _notice_the_dead(sock, unacknowledged_seconds)
        chosen = sockets[0].getsockname()[1] if sockets else port
        try:
            sock.bind((address[0], chosen, *address[2:]))
        except OSError as error:
            for other in (*sockets, sock):
                other.close()
            advice = "stop what uses it or choose another with --port"
            raise BindError(f"{host}:{port}: {error.strerror}; {advice}") from error
        sockets.append(sock)
    return sockets


def _notice_the_dead(sock: socket.socket, seconds: float) -> None:
    """Have the kernel end connections whose other end has vanished; its own patience is of hours.

    Connections inherit the options of the socket that they come from. A client that leaves no room for its
    bytes, and confirms just that, counts as gone too.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * 1000))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_PROBE_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)


class Server(uvicorn.Server):
    """uvicorn's server with an orderly end.

    Args:
        config: uvicorn's.
        on_listening: called once, when connections are taken.
        on_close: called first at the end; it releases everybody who waits or listens without end.
        grace: seconds that running responses then have.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        on_listening: Callable[[], None],
        on_close: Callable[[], None],
        grace: float,
    ) -> None:
        super().__init__(config)
        self._on_listening = on_listening
        self._on_close = on_close
        self._grace = grace

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """End at SIGINT and SIGTERM; a second one doesn't wait for running responses."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.ask_to_end)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the services, then listen, then say so."""
        await super().startup(sockets)
        if self.started:
            self._on_listening()

    def ask_to_end(self) -> None:
        """End soon; called again, end now."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, release the waiting, let responses end, cancel those that don't."""
        for server in self.servers:
            server.close()
        for sock in sockets or ():
            sock.close()
        self._on_close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self._wait_for_responses()
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=self._grace)
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await self.lifespan.shutdown()

    async def _wait_for_responses(self) -> None:
        end = asyncio.get_running_loop().time() + self._grace
        while self.server_state.connections or self.server_state.tasks:
            if self.force_exit or asyncio.get_running_loop().time() >= end:
                return
            await asyncio.sleep(POLL_SECONDS)


def address_of(sockets: Sequence[socket.socket], host: str) -> str:
    """Write the address that a person can open."""
    port = sockets[0].getsockname()[1]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104  # shown, not bound
    return f"http://{f'[{shown}]' if ':' in shown and not shown.startswith('[') else shown}:{port}/"
