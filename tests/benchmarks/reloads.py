"""A hundred blocked reloads of a live playlist: on one HTTP/2 connection, or on as many of HTTP/1.1.

The peer is an nginx that speaks HTTP/2 to the client, and HTTP/1.1 to the server, on which the reloads wait
there: its processor time is counted with the server's.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from h2.settings import SettingCodes
from hpack import Encoder
from hyperframe.frame import HeadersFrame, SettingsFrame, WindowUpdateFrame

from tests.benchmarks import live, peers
from tests.benchmarks.live_origin import FIRST_NUMBER
from tests.benchmarks.load import Figure
from tests.benchmarks.peers import CLIENT_CORE, Peer
from tests.benchmarks.players import (
    PATIENCE_SECONDS,
    RECEIVE_BYTES,
    SO_TIMESTAMPNS,
    STAMP,
    Crowd,
    Position,
    moment_of,
)

NAME = "live: 100 reloads"
READERS = 100
PARTS, WARM_UP = 40, 6
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WIDEST = (1 << 31) - 1
FRAME_HEAD_BYTES = 9
END_STREAM = 1
DATA, HEADERS, RESET, SETTINGS, GOAWAY = 0, 1, 3, 4, 7

NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; keepalive_requests 1000000;
  upstream origin {{ server {origin}; keepalive 128; keepalive_requests 1000000; }}
  server {{ listen 127.0.0.1:{port} http2; location / {{
    proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}
}}
"""


class Readers(Protocol):
    """Players that reload.

    Attributes:
        received: the part that each answer had, and when it was complete, by the monotonic clock.
    """

    received: list[tuple[Position, float]]

    def join(self, path: str, position: Position) -> None:
        """Let one more player ask."""

    def follow(self, until: Callable[[], bool]) -> None:
        """Take answers and ask on, until a condition holds."""

    def leave(self) -> None:
        """Close all connections."""


class Connection:
    """One connection of HTTP/2, as lean as can be, of which all requests are for the same part.

    Answers are counted by the flags of their frames. When they were complete is what the kernel says of the
    bytes, as with `Crowd`.

    Args:
        following: gives the part behind a part.
    """

    def __init__(self, address: tuple[str, int], following: Callable[[Position], Position]) -> None:
        self._following = following
        self._socket = socket.create_connection(address)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._poll = select.epoll()
        self._poll.register(self._socket.fileno(), select.EPOLLIN)
        self._buffer = bytearray(RECEIVE_BYTES)
        self._unread = bytearray()
        self._stream = 1
        self._path, self._position = "", (0, 0)
        self._readers = self._answered = 0
        self._epoch = time.time() - time.monotonic()
        self.received: list[tuple[Position, float]] = []
        settings = SettingsFrame(settings={SettingCodes.INITIAL_WINDOW_SIZE: WIDEST})
        window = WindowUpdateFrame(0, window_increment=WIDEST - 65_535)
        self._socket.sendall(PREFACE + settings.serialize() + window.serialize())

    def join(self, path: str, position: Position) -> None:
        """Let one more player ask."""
        self._path, self._position = path, position
        self._readers += 1
        self._ask(1)

    def _ask(self, count: int) -> None:
        number, index = self._position
        target = self._path.format(number=number, index=index)
        # In no table: the same bytes are right for each stream.
        fields = [(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", target)]
        block = Encoder().encode([(name, value, True) for name, value in fields])
        frames = bytearray()
        for _ in range(count):
            frame = HeadersFrame(self._stream, block, flags=["END_HEADERS", "END_STREAM"])
            frames += frame.serialize()
            self._stream += 2
        self._socket.sendall(frames)

    def follow(self, until: Callable[[], bool]) -> None:
        """Take answers and ask on, until a condition holds; ask it before each wait."""
        while not until():
            if not self._poll.poll(PATIENCE_SECONDS):
                raise TimeoutError("no answer comes")
            count, told, _, _ = self._socket.recvmsg_into((self._buffer,), socket.CMSG_SPACE(STAMP.size))
            if not count:
                raise ConnectionError("the server closed the connection")
            ended = self._read(memoryview(self._buffer)[:count])
            moment = moment_of(told) - self._epoch
            self.received += [(self._position, moment)] * ended
            self._answered += ended
            if self._answered == self._readers:
                self._answered, self._position = 0, self._following(self._position)
                self._ask(self._readers)

    def _read(self, data: memoryview) -> int:
        """Return how many answers bytes have the ends of."""
        self._unread += data
        ended = place = 0
        while len(self._unread) >= place + FRAME_HEAD_BYTES:
            length = int.from_bytes(self._unread[place : place + 3])
            kind, flags = self._unread[place + 3], self._unread[place + 4]
            end = place + FRAME_HEAD_BYTES + length
            if len(self._unread) < end:
                break
            if kind == SETTINGS and not flags:
                self._socket.sendall(SettingsFrame(flags=["ACK"]).serialize())
            elif kind in (RESET, GOAWAY):
                raise ConnectionError(f"the server sent {bytes(self._unread[place:end])!r}")
            elif kind in (DATA, HEADERS):
                ended += flags & END_STREAM
            place = end
        del self._unread[:place]
        return ended

    def leave(self) -> None:
        """Close the connection."""
        self._poll.close()
        self._socket.close()


@contextlib.contextmanager
def proxying(origin: Peer, folder: Path) -> Iterator[Peer]:
    """Run an nginx before the server; the processor time is that of both."""
    port = peers.free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, origin=origin.url.removeprefix("http://")))
    command = [shutil.which("nginx") or "nginx", "-c", str(config), "-p", str(folder)]
    with peers.running_workers("nginx, HTTP/2", command, port) as nginx:
        yield replace(nginx, pids=(*nginx.pids, *origin.pids))


def follow(name: str, readers: Readers, peer: Peer, process: subprocess.Popen[bytes]) -> Iterator[Figure]:
    """Let all readers follow, and give the figures.

    Args:
        process: the server, which says when it has published a part.
    """
    for _ in range(READERS):
        readers.join(live.BLOCKING, (FIRST_NUMBER, 0))
    readers.follow(lambda: len(readers.received) >= WARM_UP * READERS)
    used = peer.scheduled_seconds()
    readers.follow(lambda: len(readers.received) >= PARTS * READERS)
    used = peer.scheduled_seconds() - used
    readers.leave()
    last = dict[Position, float]()
    for position, moment in readers.received[WARM_UP * READERS : PARTS * READERS]:
        last[position] = max(moment, last.get(position, moment))
    published = {one.position: one.moment for one in live.read_report(process)}
    late = [moment - published[position] for position, moment in last.items()]
    yield Figure(f"{NAME}: last one", name, 1e3 * statistics.median(late), "ms")
    yield Figure(f"{NAME}: CPU", name, 1e6 * used / (PARTS - WARM_UP) / READERS, "µs/answer")


def run(words: tuple[str, ...] = ()) -> Iterator[Figure]:
    """Give the figures of each way, unless the words ask for something else."""
    if words and not any(word in NAME for word in words):
        return
    peers.require("nginx", "taskset")
    allowed = os.sched_getaffinity(0)
    for name in ("HTTP/1.1", "HTTP/2", "nginx, HTTP/2"):
        with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
            peer, process = stack.enter_context(live.serving(READERS, live.PART_BYTES))
            if name.startswith("nginx"):
                peer = stack.enter_context(proxying(peer, Path(scratch)))
            host, _, port = peer.url.removeprefix("http://").rpartition(":")
            kind = Crowd if name == "HTTP/1.1" else Connection
            os.sched_setaffinity(0, {int(CLIENT_CORE)})
            try:
                yield from follow(name, kind((host, int(port)), live.after), peer, process)
            finally:
                os.sched_setaffinity(0, allowed)
