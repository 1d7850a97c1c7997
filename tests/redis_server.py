"""A real Redis in a process of its own, and the ways in which tests disturb it."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import kept_port
from tests.processes import end
from tests.standstill import standing_still
from tests.waiting import wait_for


class RedisServer:
    """A Redis that can be killed and started again, with what it had.

    Args:
        port: its port.
        folder: where it keeps its data.
        words: more options of its command.

    Attributes:
        process: the server, while it runs.
    """

    def __init__(self, port: int, folder: Path, *words: str) -> None:
        self.port = port
        self._folder = folder
        self._words = words
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("no redis-server: make test installs it")
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)),
                    *("--save", "", "--appendonly", "yes", "--appendfsync", "no"),
                    *self._words,
                ],
                stdout=log,
                stderr=log,
            )
        wait_for(self._answers, "Redis")

    def kill(self) -> None:
        """End it at once, as the system would for want of memory."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def lose_data(self) -> None:
        """Remove what it had, while it doesn't run."""
        assert self.process is not None
        assert self.process.poll() is not None
        shutil.rmtree(self._folder / "appendonlydir")

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it answer nothing for a while: connections are made, and stay silent."""
        assert self.process is not None
        with standing_still(self.process.pid):
            yield

    def command(self, *words: str | bytes) -> bytes:
        """Give a command on a connection of its own; give the first bytes of the answer."""
        parts = [word.encode() if isinstance(word, str) else word for word in words]
        with socket.create_connection(("127.0.0.1", self.port), 10) as connection:
            connection.sendall(
                b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(one), one) for one in parts)
            )
            return connection.recv(1 << 16)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None
        with contextlib.suppress(OSError):
            return self.command("PING").startswith(b"+PONG")
        return False


@contextlib.contextmanager
def redis_running(folder: Path, *words: str) -> Iterator[RedisServer]:
    """Run a Redis of one's own, with more options."""
    with kept_port() as port:
        server = RedisServer(port, folder, *words)
        server.start()
        try:
            yield server
        finally:
            if server.process is not None:
                server.process.send_signal(signal.SIGCONT)
                end(server.process)
