"""The process that forks servers for tests, having imported the program.

python -m tests.forking_process DESCRIPTOR    serves a connection, or all connections of a socket that listens
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import os
import select
import socket
import struct
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tests.known_tools import FINDING_TOOLS, tools_if_any

if TYPE_CHECKING:
    from packager.process.ffmpeg_discovery import Tools

MODULES = ("origin.cli.main", "origin.server.serve")
COMMANDS = {
    "check": ("origin.cli.check", "httpx"),
    "doctor": ("origin.cli.doctor",),
    "ingest": ("origin.cli.ingest",),
    "package": ("packager.export.export",),
    "work": ("origin.cli.jobs",),
}
"""What commands import besides, and no server: it is imported before the first of them."""

REQUEST_BYTES = 1 << 18
STREAMS = 4
"""Descriptors of each request: the three standard streams, and the pipe for the exit status."""

MOST_SOCKETS = 8
"""Largest number of listening sockets that a request has besides, as those of systemd's socket units."""

FIRST_SOCKET = 3
FREE_DESCRIPTOR = 100
"""Descriptors from here on are above those of the sockets and of everything else."""

STATUS = struct.Struct("=i")
END = struct.Struct("=id")
"""The exit status of a fork, and the seconds of processors that it took with the programs that it ended."""


class ForkingLoop:
    """The loop of the process that forks servers: a fork for each request, a report of each fork's end."""

    def __init__(self, sock: socket.socket, tools: Tools | None) -> None:
        self._sock = sock
        self._tools = tools
        self._connections: dict[int, socket.socket] = {}
        self._children: dict[int, tuple[int, int]] = {}  # by pidfd: the process, and the pipe for its status
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._listens = bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        if self._listens:
            self._poll.register(sys.stdin, select.POLLIN)
        else:
            self._connections[sock.fileno()] = sock

    def run(self) -> None:
        """Serve until standard input ends, or the only connection."""
        while self._listens or self._connections:
            for descriptor, _ in self._poll.poll():
                if descriptor in self._children:
                    self._report(descriptor)
                elif descriptor in self._connections:
                    self._answer(descriptor)
                elif descriptor == self._sock.fileno():
                    connection, _ = self._sock.accept()
                    self._connections[connection.fileno()] = connection
                    self._poll.register(connection, select.POLLIN)
                else:
                    return

    def _report(self, pidfd: int) -> None:
        """Report how a fork has ended."""
        pid, pipe = self._children.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status, usage = os.wait4(pid, 0)
        with contextlib.suppress(BrokenPipeError):
            os.write(pipe, END.pack(os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime))
        os.close(pipe)

    def _answer(self, descriptor: int) -> None:
        """Fork for a request, or forget a connection that has ended."""
        connection = self._connections[descriptor]
        request, streams, _, _ = socket.recv_fds(connection, REQUEST_BYTES, STREAMS + MOST_SOCKETS)
        if not request:
            self._poll.unregister(descriptor)
            self._connections.pop(descriptor).close()
            return
        prepare(json.loads(request)[0])
        pid = os.fork()
        if not pid:
            self._sock.close()
            for other in self._connections.values():
                other.close()
            for watched, (_, pipe) in self._children.items():
                os.close(watched)
                os.close(pipe)
            os.close(streams.pop(STREAMS - 1))
            with ending_at_once():
                become(request, streams, self._tools)
        status = streams.pop(STREAMS - 1)
        for stream in streams:
            os.close(stream)
        watched = os.pidfd_open(pid)
        self._children[watched] = pid, status
        self._poll.register(watched, select.POLLIN)
        connection.send(STATUS.pack(pid))


def serve(sock: socket.socket) -> None:
    """Fork servers for a connection, or for all of a socket that listens, until the tests are over."""
    for module in MODULES:
        importlib.import_module(module)
    tools = tools_if_any()
    gc.collect()
    gc.freeze()
    ForkingLoop(sock, tools).run()


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """Let a fork end behind the block as Python does, but for freeing what it shares with its parent.

    To free a thousand modules one by one takes as long as a server's whole start, and copies their memory.
    """
    status = 1
    try:
        yield
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException:  # noqa: BLE001 it is told as Python tells it, and the process ends
        sys.excepthook(*sys.exc_info())
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)


def prepare(argv: Sequence[str]) -> None:
    """Import what a command needs besides what a server does, before the first of them."""
    for module in COMMANDS.get(argv[1] if len(argv) > 1 else "", ()):
        if module not in sys.modules:
            importlib.import_module(module)
            gc.freeze()


def become(request: bytes, streams: Sequence[int], tools: Tools | None) -> None:
    """Be the process that is asked for, until it ends.

    Args:
        request: what it is started with.
        streams: its standard streams, and behind them sockets, which it has as systemd gives them.
        tools: the ffmpeg that it finds where the environment names no other.

    Raises:
        SystemExit: its end, where it isn't status 0.
    """
    argv, limits, cwd, environment = json.loads(request)
    if sockets := len(streams) - FIRST_SOCKET:
        # As sd_listen_fds(3) describes it.
        environment |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(sockets)}
    above = [fcntl.fcntl(stream, fcntl.F_DUPFD_CLOEXEC, FREE_DESCRIPTOR) for stream in streams]
    for stream in streams:
        os.close(stream)
    for descriptor, stream in enumerate(above):
        os.dup2(stream, descriptor)
        os.close(stream)
    os.chdir(cwd)
    same_tools = all(environment.get(name) == os.environ.get(name) for name in FINDING_TOOLS)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = argv
    # Imported already: here and not above, as the tests' own processes need neither.
    import msgspec

    from origin.cli.main import main
    from origin.server.services.limits import Limits
    from packager.process.ffmpeg_discovery import discover

    if tools is not None and same_tools:

        async def known(**_: object) -> Tools:
            return tools

        for module in [one for name, one in sys.modules.items() if name.startswith("origin.cli.")]:
            if getattr(module, "discover", None) is discover:
                vars(module)["discover"] = known
    main(None if limits is None else msgspec.json.decode(limits, type=Limits))


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
