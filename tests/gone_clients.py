"""Clients of each wire that come and go, and what a server has of them afterwards.

``python -m tests.gone_clients 10000`` sends so many of each wire to a server, and prints what they leave.
Behind the number may stand the wires, such as ``"HTTP/3, vanishing"``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc

from tests.certificates import CHAIN, self_signed
from tests.conftest import ServerProcess, start_server
from tests.descriptors import descriptors
from tests.grpc_events import PROTOS, SERVICES
from tests.http2_client import Http2Client
from tests.http3_client import Http3Connection
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port, listens
from tests.vanishing_clients import STAGES, VanishingClient
from tests.waiting import wait_for

CONFIG = """
[tls]
certificate = "chain.pem"
key = "key.pem"
port = 0
http3 = true

[[events]]
name = "news"
publish_token = "who-publishes-events-5b1f"
"""
ABORT = struct.pack("ii", 1, 0)
AT_ONCE = 4
IDLE_SECONDS, LONG_IDLE_SECONDS = 3.0, 600.0
"""Time after which clients of HTTP/3 that have vanished are taken for gone, as they say themselves; the
server has a minute for those that would have more.
"""
QUIC = "origin.http3.engines.QuicEngine"


@dataclass(frozen=True)
class Counts:
    """What a server has at a time.

    Attributes:
        tasks: of its event loop.
        objects: of each class, that the garbage collector can't free.
        resident: KiB of memory.
    """

    descriptors: int
    tasks: int
    readers: int
    objects: Counter[str]
    resident: int


class CountedServer:
    """A server with all wires, whose objects can be counted.

    Attributes:
        idle_seconds: that clients of HTTP/3 ask for (RFC 9000 §10.1).
    """

    def __init__(self, server: ServerProcess, folder: Path, grpc_port: int) -> None:
        self.idle_seconds = IDLE_SECONDS
        self.server = server
        self.folder = folder
        self.grpc_port = grpc_port
        found = wait_for(lambda: re.search(r"and at (https://\S+)/", server.text()), "the line about HTTPS")
        assert found is not None
        self.https = found[1]
        self._questions = (folder / "questions").open("w")

    def close(self) -> None:
        self._questions.close()

    def counts(self) -> Counts:
        print(file=self._questions, flush=True)  # to the server
        objects = Counter[str](json.loads((self.folder / "answers").read_text()))
        pid = self.server.process.pid
        text = subprocess.run(
            ("curl", "-s", f"{self.server.url}/metrics"), capture_output=True, text=True, check=True
        ).stdout
        resident = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
        assert resident is not None
        return Counts(
            descriptors(pid),
            _metric(text, "headwater_tasks"),
            _metric(text, 'headwater_events_readers{channel="news"}'),
            objects,
            int(resident[1]),
        )

    def is_alone(self, before: Counts) -> bool:
        """Return whether no client is left: not more descriptors, tasks and readers than before."""
        now = self.counts()
        return (now.descriptors, now.tasks, now.readers) <= (
            before.descriptors,
            before.tasks,
            before.readers,
        )


def _metric(text: str, name: str) -> int:
    line = next(one for one in text.splitlines() if one.startswith(f"{name} "))
    return int(float(line.rpartition(" ")[2]))


@contextlib.contextmanager
def counted_server(folder: Path) -> Iterator[CountedServer]:
    """Run a server in a folder."""
    self_signed(folder)
    (folder / "library").mkdir()
    (folder / "library" / "short.txt").write_text("short\n")
    (folder / "library" / "big.bin").write_bytes(bytes(1 << 20))
    (folder / "headwater.toml").write_text(CONFIG)
    for name in ("questions", "answers"):
        os.mkfifo(folder / name)
    program = (
        sys.executable,
        "-P",
        str(Path(__file__).parent / "serve_counted.py"),
        *(str(folder / name) for name in ("questions", "answers")),
    )
    with kept_port() as port:
        server = start_server(
            *("--config", "headwater.toml", "--library", "library", "--port", "0"),
            cwd=folder,
            env={"HEADWATER_GRPC_PORT": str(port)},
            program=program,
            fresh=True,
        )
        try:
            wait_for(lambda: listens(port), "a listening core")
            counted = CountedServer(server, folder, port)
            with contextlib.closing(counted):
                yield counted
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(CLIENT_SECONDS) == 0
        finally:
            server.process.kill()
            server.process.wait()


def encrypted(server: CountedServer, protocol: str) -> ssl.SSLSocket:
    """Connect by TLS and agree on a protocol."""
    context = ssl.create_default_context(cafile=server.folder / CHAIN)
    context.set_alpn_protocols([protocol])
    raw = socket.create_connection(("127.0.0.1", int(server.https.rpartition(":")[2])), CLIENT_SECONDS)
    return context.wrap_socket(raw, server_hostname="127.0.0.1")


def by_tls(server: CountedServer, number: int) -> None:
    """Fetch a file, and leave while events are read; every second client resets its connection."""
    with encrypted(server, "http/1.1") as client:
        for path, answer in (("/media/short.txt", b"short\n"), ("/events/news", b"text/event-stream")):
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            got = b""
            while answer not in got:
                data = client.recv(1 << 16)
                assert data
                got += data
        if number & 1:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)


def by_http2(server: CountedServer, number: int) -> None:
    """Fetch a file, and leave while events are read; every second client resets its connection."""
    sock = encrypted(server, "h2")
    with Http2Client(server.https, sock=sock) as client:
        assert client.get("/media/short.txt").body == b"short\n"
        answer = client.answers[client.request("/events/news")]
        client.until(lambda: answer.headers)
        assert answer.status == 200
        if number & 1:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)


def by_http3(server: CountedServer, number: int) -> None:
    """Fetch a file, and leave while events are read; every second client cancels that before."""
    connection = Http3Connection(server.https, server.folder / CHAIN)
    try:
        for path in ("/media/short.txt", "/events/news"):
            values = {":method": "GET", ":scheme": "https", ":authority": "127.0.0.1", ":path": path}
            head = [(name.encode(), value.encode()) for name, value in values.items()]
            stream = connection.call(connection.protocol.request, head)
            assert connection.protocol.answers[stream].get(timeout=CLIENT_SECONDS)
        if number & 1:
            connection.call(connection.protocol.cancel, stream)
    finally:
        connection.close()


def by_vanishing(server: CountedServer, number: int) -> None:
    """Vanish without a word, in a handshake, before, in the middle of or behind a request."""
    stages = tuple(STAGES.values())
    VanishingClient(server.https, server.idle_seconds).run(stages[number % len(stages)])


def by_grpc(server: CountedServer, number: int) -> None:
    """Leave while events are read; every second client cancels that before."""
    trusted = grpc.ssl_channel_credentials((server.folder / CHAIN).read_bytes())
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(f"127.0.0.1:{server.grpc_port}", trusted, options) as channel:
        call = SERVICES.EventsStub(channel).Subscribe(
            PROTOS.SubscribeRequest(channel="news"), timeout=CLIENT_SECONDS
        )
        call.initial_metadata()
        if number & 1:
            call.cancel()


WIRES: dict[str, Callable[[CountedServer, int], None]] = {
    "TLS": by_tls,
    "HTTP/2": by_http2,
    "HTTP/3": by_http3,
    "HTTP/3, vanishing": by_vanishing,
    "gRPC": by_grpc,
}


def come_and_go(server: CountedServer, wire: str, count: int) -> None:
    """Have clients come and go, some at a time."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for _ in threads.map(lambda number: WIRES[wire](server, number), range(count)):
            pass


def main(count: int, wires: Sequence[str]) -> None:
    """Print what the clients of each wire leave."""
    with tempfile.TemporaryDirectory() as folder, counted_server(Path(folder)) as server:
        server.idle_seconds = LONG_IDLE_SECONDS
        for wire in wires or WIRES:
            come_and_go(server, wire, count // 10)
            wait_for(lambda: not server.counts().objects[QUIC], "the end of the first")
            before, began = server.counts(), time.monotonic()
            come_and_go(server, wire, count)
            behind, then = time.monotonic(), server.counts()
            wait_for(lambda before=before: server.is_alone(before), "the end of all")  # type: ignore[misc]
            wait_for(lambda: not server.counts().objects[QUIC], "the end of all QUIC")
            seconds, after = time.monotonic() - behind, server.counts()
            print(f"{wire}: {count} connections in {behind - began:.0f} s, ended {seconds:.0f} s later")  # noqa: T201  # its report
            for name, one in (("before", before), ("behind the last", then), ("at the end", after)):
                numbers = (one.descriptors, one.tasks, one.objects[QUIC], one.objects.total(), one.resident)
                texts = ("descriptors", "tasks", "of QUIC", "objects", "KiB")
                print(f"  {name}:", *map("{} {},".format, numbers, texts))  # noqa: T201  # its report
            print("  more:", (after.objects - before.objects).most_common(6), flush=True)  # noqa: T201  # its report


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
