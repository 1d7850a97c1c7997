"""Descriptors run out: nobody spins, nothing is lost of them, and all comes back by itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import uvloop

from origin.system.connection_acceptor import ListeningLimits, SocketListener
from packager.process.ffmpeg_discovery import BusyError
from packager.process.process import Process
from tests.conformance.raw import Client
from tests.conftest import ServerProcess, start_server
from tests.descriptors import descriptors
from tests.processes import cpu_seconds
from tests.waiting import until, wait_for

CONFIG = """
[server]
port = 0
data = "data"

[[live]]
name = "test"
source = "testsrc"
ladder = ["240p"]
part_duration = 0.5
segment_duration = 1.0
dvr = "10m"
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "film.mp4").write_bytes(b"film")
    (tmp_path / "headwater.toml").write_text(CONFIG)
    with start_server("--config", "headwater.toml", "--library", "library", cwd=tmp_path) as server:
        yield server


def address_of(server: ServerProcess) -> tuple[str, int]:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    return host, int(port)


def listed(client: Client) -> list[str]:
    text = client.ask("/live/test/240p/media.m3u8").body.decode()
    return re.findall(r"^(\d+)\.m4s$", text, re.MULTILINE)


def busy_over(client: Client, pid: int, segments: int) -> float:
    """How much of a core a process takes until so many more segments are listed, which are a second each."""
    newest, began, used = int(listed(client)[-1]), time.monotonic(), cpu_seconds(pid)
    wait_for(lambda: int(listed(client)[-1]) >= newest + segments, "the channel's going on")
    return (cpu_seconds(pid) - used) / (time.monotonic() - began)


@pytest.mark.clause("CWE-774")
@pytest.mark.timeout(900)
def test_a_server_whose_descriptors_run_out_goes_on_and_comes_back(server: ServerProcess) -> None:
    pid = server.process.pid
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        inside = stack.enter_context(Client(address_of(server)))
        wait_for(lambda: listed(inside), "the first segment")
        calm_share = busy_over(inside, pid, 2)
        # As if others had taken all: there isn't one left.
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (descriptors(pid) - 2, hard))
        crowd = [stack.enter_context(Client(address_of(server))) for _ in range(30)]
        for client in crowd:
            client.send("GET /media/film.mp4 HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: "new connections wait" in server.text(), "the lack")
        # It used a whole core before.
        assert busy_over(inside, pid, 3) < calm_share + 0.4
        # Who is inside is served, and told that it is for now.
        answer = inside.ask("/media/film.mp4")
        if answer.status == 503:
            assert answer["retry-after"] == "1"
        else:
            assert (answer.status, answer.body) == (200, b"film")
        assert inside.ask("/health").status == 200
        # An ffmpeg that ends now can't be started again; all that it was given is closed.
        before = descriptors(pid)
        os.kill(server.encoder(), 9)
        wait_for(lambda: "can't be started: Too many open files" in server.text(), "an attempt")
        time.sleep(2)
        assert descriptors(pid) <= before
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
        for client in crowd:
            answer = client.answer()
            if answer.status == 503:
                # It got the descriptor that a pipe of the ffmpeg that ended had left, and its file got none.
                answer = client.ask("/media/film.mp4")
            assert answer.body == b"film"
        last = listed(inside)[-1]
        wait_for(lambda: int(listed(inside)[-1]) > int(last) + 1, "the channel")
        assert inside.ask("/media/film.mp4").body == b"film"
    text = server.text()
    assert text.count("new connections wait") == 1
    assert "Traceback" not in text


def open_now() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def few(free: int) -> Iterator[None]:
    """Leave this process so many descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open("/dev/null", os.O_RDONLY)]
    try:
        # Numbers that are free below the highest in use are used up first.
        numbers = {int(entry.name) for entry in Path("/proc/self/fd").iterdir()}
        while taken[-1] < max(numbers):
            taken.append(os.open("/dev/null", os.O_RDONLY))
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken[-1] + 1 + free, hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number in taken:
            os.close(number)


@pytest.mark.clause("CWE-774")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_program_that_cannot_be_started_leaves_nothing_open(loop: str) -> None:
    """However many descriptors there are."""

    async def attempt() -> list[int]:
        # So that the loop has what it keeps from then on.
        await (await Process.start(["/bin/cat"], outputs=3, stdin=True, sandbox=None)).stop()
        left: list[int] = []
        before = open_now()
        for free in range(32):
            with few(free):
                try:
                    process = await Process.start(["/bin/cat"], outputs=3, stdin=True, sandbox=None)
                except BusyError:
                    left.append(free)
                else:
                    assert await process.stop() in (0, -15)
            await until(lambda: open_now() <= before, f"the end of what was open with {free}", 30)
        return left

    found = asyncio.run(attempt()) if loop == "asyncio" else uvloop.run(attempt())
    # Five pipes, and as many descriptors as are kept back for the start itself.
    assert found == list(range(5 * 2 + 16))


CROWD = 20


class Kept(asyncio.Protocol):
    """Connections that were begun and aren't over."""

    def __init__(self, transports: list[asyncio.Transport]) -> None:
        self._transports = transports

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Of uvloop's it is none by its class.
        self._transport = cast("asyncio.Transport", transport)
        self._transports.append(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transports.remove(self._transport)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_connections_wait_while_there_is_no_room_and_are_taken_then(loop: str) -> None:
    kept: list[asyncio.Transport] = []
    counts: list[int] = []

    async def serve(sock: socket.socket, address: tuple[str, int]) -> None:
        listener = SocketListener(sock, lambda: Kept(kept), limits=ListeningLimits(backlog=100))
        listener.start()
        clients: list[socket.socket] = []
        try:
            with few(CROWD + 20):
                # Each costs one here and one there, and sixteen are kept back.
                for _ in range(CROWD):
                    clients.append(socket.socket())
                    clients[-1].setblocking(False)
                    clients[-1].connect_ex(address)
                await until(lambda: kept, "the first")
                used, end = time.thread_time(), time.monotonic() + 2
                while time.monotonic() < end:
                    await asyncio.sleep(0.05)
                counts.append(len(kept))
                assert time.thread_time() - used < 1
            await until(lambda: len(kept) == CROWD, "the others")
            counts.append(len(kept))
        finally:
            await listener.close()
            for client in clients:
                client.close()
            for transport in tuple(kept):
                transport.abort()
            await until(lambda: not kept, "their ends")

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        work = serve(sock, sock.getsockname())
        asyncio.run(work) if loop == "asyncio" else uvloop.run(work)
    assert counts[0] < counts[1] == CROWD
