"""Servers that follow each other on one listening socket, each started as systemd does it."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conftest import START_SECONDS, STOP_SECONDS
from tests.fork_server import HEADWATER, fork
from tests.waiting import wait_for

PROGRAM = (str(HEADWATER),)


def start(
    sock: socket.socket,
    folder: Path,
    log: Path,
    *options: str,
    more: Sequence[socket.socket] = (),
    program: Sequence[str] = PROGRAM,
    fresh: bool = False,
) -> subprocess.Popen[Any]:
    """Start a server as systemd does, with a socket as its descriptor 3, and more as those behind it.

    Args:
        sock: the socket that listens.
        folder: its library.
        log: the file for its output.
        options: of the command.
        more: further sockets.
        program: what the command is.
        fresh: whether it must have a process of its own, and be no fork of one that has imported it.
    """
    sockets = (sock, *more)
    if not fresh:
        with log.open("w") as output:
            arguments = ("serve", "--library", str(folder), *options)
            forked = fork(
                program, arguments, cwd=None, env=os.environ, output=output.fileno(), sockets=sockets
            )
        if forked is not None:
            return forked
    command = f"[*{tuple(program)!r}, 'serve', '--library', {str(folder)!r}, *{options!r}]"
    steps = (
        *(f"os.dup2({one.fileno()}, {place})" for place, one in enumerate(sockets, 3)),
        f"os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='{len(sockets)}')",
        f"os.execv({program[0]!r}, {command})",
    )
    with log.open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-c", f"import os; {'; '.join(steps)}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[one.fileno() for one in sockets],
        )


def announced(log: Path) -> str:
    # With what is behind it: the line may be read while it is written.
    found = re.search(r"Headwater is at (\S+)\s", log.read_text())
    return "" if found is None else found[1]


class Succession:
    """Servers that follow each other on one socket."""

    def __init__(
        self,
        folder: Path,
        stack: contextlib.ExitStack,
        *options: str,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self._program = program
        self.sock = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.address: tuple[str, int] = self.sock.getsockname()
        self.logs: list[Path] = []
        self._folder = folder
        self._stack = stack
        self._options = options

    def start(self, *, fresh: bool = False) -> subprocess.Popen[Any]:
        """Start one more, and wait until it says where it is or will be.

        Args:
            fresh: whether it must have a process of its own.
        """
        log = self._folder / f"{len(self.logs)}.log"
        self.logs.append(log)
        server = start(self.sock, self._folder, log, *self._options, program=self._program, fresh=fresh)
        self._stack.callback(server.wait)
        self._stack.callback(server.kill)
        url = wait_for(functools.partial(announced, log), "the server's start", START_SECONDS)
        assert url == "http://{}:{}/".format(*self.address)
        return server


def end(server: subprocess.Popen[Any]) -> None:
    server.send_signal(signal.SIGTERM)
    assert server.wait(STOP_SECONDS) == 0
