"""Servers under measurement: ours and its peers at their best, each pinned to one core, over one file."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from origin.files.handler import FileHandler, file_routes
from origin.files.open_files import OpenFileCache
from origin.http1.access_log import RequestCounters
from origin.http1.limits import HttpLimits
from origin.http1.protocol import http_protocol
from origin.responses.response_middleware import CommonHeaders
from packager.library.local_storage import Library
from tests.certificates import Certificate

SERVER_CORE = "0"
CLIENT_CORE = "1"
FLOODER = ("127.0.0.2", 0)
"""The address of a flood, which isn't that of its neighbours."""

START_SECONDS = 60.0
STOP_SECONDS = 30.0

NGINX_CONFIG = """
daemon off; worker_processes {workers}; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections {connections}; }}
http {{
  access_log off; sendfile on; tcp_nopush off; tcp_nodelay on; keepalive_requests 1000000;
  open_file_cache max=1000 inactive=60s; open_file_cache_valid 60s;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  types {{ video/mp4 mp4; }}
  server {{ listen 127.0.0.1:{port}{tls}; location /media/ {{ alias {library}/; }}
    location /live/ {{ root {library}; }}
    location /vod/ {{ root {library}; }} }}
}}
"""

FILE_RESPONSE_APP = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Route
async def media(request):
    return FileResponse(sys.argv[1] + "/" + request.path_params["path"])
uvicorn.run(Starlette(routes=[Route("/media/{path:path}", media)]), port=int(sys.argv[2]), log_level="error")
"""


CONSTANT_APP = """
import asyncio, sys, uvloop
answer = open(sys.argv[1], "rb").read()
class Constant(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(answer)
async def main():
    server = await asyncio.get_running_loop().create_server(Constant, "127.0.0.1", int(sys.argv[2]))
    await server.serve_forever()
uvloop.run(main())
"""


SENDFILE_APP = """
import os, select, socket, sys
file, length = os.open(sys.argv[1], os.O_RDONLY), int(sys.argv[2])
head = f"HTTP/1.1 206 Partial Content\\r\\nContent-Length: {length}\\r\\n\\r\\n".encode()
listener = socket.create_server(("127.0.0.1", int(sys.argv[3])), backlog=100)
loop, clients, left = select.epoll(), {}, {}
loop.register(listener, select.EPOLLIN)
def send(one, first, last):
    try:
        while first < last:
            first += os.sendfile(one, file, first, last - first)
    except BlockingIOError:
        left[one] = first, last
        loop.modify(one, select.EPOLLOUT)
def answer(one):
    if one in left:
        span = left.pop(one)
        loop.modify(one, select.EPOLLIN)
        return send(one, *span)
    asked = clients[one].recv(65536)
    if not asked:
        raise ConnectionError
    first = int(asked.partition(b"bytes=")[2].partition(b"-")[0])
    clients[one].send(head)
    send(one, first, first + length)
while True:
    for one, _ in loop.poll():
        if one == listener.fileno():
            client = listener.accept()[0]
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            clients[client.fileno()] = client
            loop.register(client, select.EPOLLIN)
            continue
        try:
            answer(one)
        except ConnectionError:
            left.pop(one, None)
            clients.pop(one).close()
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """A running server.

    Attributes:
        name: for the table.
        url: without a slash at the end.
        pids: the processes whose CPU time counts.
    """

    name: str
    url: str
    pids: tuple[int, ...]

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        return sum(self.cpu_times())

    def cpu_times(self) -> tuple[float, float]:
        """Seconds in its own code so far, and in the kernel's."""
        ticks = [0, 0]
        for pid in self.pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks = [ticks[0] + int(fields[11]), ticks[1] + int(fields[12])]
        user, system = (count / os.sysconf("SC_CLK_TCK") for count in ticks)
        return user, system

    def scheduled_seconds(self) -> float:
        """Time on processors so far, by the scheduler's own count: exact where ticks would be too coarse."""
        tasks = (task for pid in self.pids for task in Path(f"/proc/{pid}/task").iterdir())
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def resident_bytes(self) -> int:
        """Memory that is its own and in use now."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids)
        return pages * os.sysconf("SC_PAGE_SIZE")


def require(*programs: str) -> None:
    """End with one line when a peer or a client isn't installed."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        sys.exit(f"the benchmarks need {', '.join(missing)}: apt-get install wrk nginx-light nghttp2-client")


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def headwater(
    library: Path | str, name: str = "headwater", environment: Mapping[str, str] | None = None
) -> Iterator[Peer]:
    """Ours, as a person starts it.

    Args:
        library: the folder, or where else the files are.
        name: for the table.
        environment: variables that it has beside this process's own.
    """
    port = free_port()
    command = [str(Path(sys.executable).parent / "headwater"), "serve", "--library", str(library)]
    command = ["env", *(f"{key}={value}" for key, value in (environment or {}).items()), *command]
    with running(name, [*command, "--port", str(port)], port) as peer:
        yield peer


@contextlib.contextmanager
def headwater_by_asgi(library: Path) -> Iterator[Peer]:
    """Ours, every request by way of ASGI."""
    port = free_port()
    code = "import sys; from tests.benchmarks.peers import serve_by_asgi; serve_by_asgi(*sys.argv[1:])"
    command = [sys.executable, "-c", code, str(library), str(port)]
    with running("by ASGI", command, port) as peer:
        yield peer


def serve_by_asgi(library: str, port: str) -> None:
    """Serve a folder's files by ASGI alone, in this process."""
    own = Starlette(routes=file_routes(FileHandler(Library(Path(library)), open_files=OpenFileCache())))
    app = CommonHeaders(own, traffic=RequestCounters(), allow_origin="*", log_requests=False)
    uvicorn.run(
        app,
        http=http_protocol(HttpLimits()),
        port=int(port),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
    )


@contextlib.contextmanager
def nginx(
    library: Path,
    folder: Path,
    workers: int = 1,
    cores: str = SERVER_CORE,
    certificate: Certificate | None = None,
    *,
    is_http2: bool = False,
    connections: int = 4096,
) -> Iterator[Peer]:
    """nginx, tuned for ranges of large files; with a certificate it speaks HTTPS."""
    port = free_port()
    config = folder / "nginx.conf"
    tls = ""
    if certificate is not None:
        tls = " ssl http2" if is_http2 else " ssl"
        tls += f"; ssl_certificate {certificate.chain}; ssl_certificate_key {certificate.key}"
        tls += "; ssl_protocols TLSv1.2 TLSv1.3"
    config.write_text(
        NGINX_CONFIG.format(
            folder=folder, library=library, port=port, workers=workers, connections=connections, tls=tls
        )
    )
    program = shutil.which("nginx") or "nginx"
    command = [program, "-c", str(config), "-p", str(folder)]
    with running_workers("nginx", command, port, workers, cores) as peer:
        yield peer if certificate is None else replace(peer, url=peer.url.replace("http:", "https:"))


@contextlib.contextmanager
def file_response(library: Path) -> Iterator[Peer]:
    """Starlette's own way to send a file, on the same uvicorn."""
    port = free_port()
    command = [sys.executable, "-c", FILE_RESPONSE_APP, str(library), str(port)]
    with running("FileResponse", command, port) as peer:
        yield peer


@contextlib.contextmanager
def constant(answer: bytes, folder: Path) -> Iterator[Peer]:
    """The floor of the event loop: a protocol that doesn't read what it is asked, and writes one answer."""
    port, path = free_port(), folder / "answer"
    path.write_bytes(answer)
    with running("floor", [sys.executable, "-c", CONSTANT_APP, str(path), str(port)], port) as peer:
        yield peer


@contextlib.contextmanager
def sendfile(file: Path, length: int) -> Iterator[Peer]:
    """The floor of sendfile: a loop that reads where a range begins, and knows the length of all."""
    port = free_port()
    with running(
        "floor", [sys.executable, "-c", SENDFILE_APP, str(file), str(length), str(port)], port
    ) as peer:
        yield peer


def recorded(peer: Peer, target: str, *fields: str) -> bytes:
    """Return the bytes of a server's answer to a GET, its head among them."""
    host, _, port = peer.url.removeprefix("http://").rpartition(":")
    lines = (f"GET {target} HTTP/1.1", f"Host: {host}", *fields, "", "")
    with socket.create_connection((host, int(port)), START_SECONDS) as client:
        client.sendall("\r\n".join(lines).encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += client.recv(1 << 16)
        head = answer.partition(b"\r\n\r\n")[0]
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        size = len(head) + 4 + int(lengths[0].partition(b":")[2])
        while len(answer) < size:
            answer += client.recv(1 << 16)
    return answer


@contextlib.contextmanager
def running(name: str, command: list[str], port: int, cores: str = SERVER_CORE) -> Iterator[Peer]:
    """Run a server on its cores until the block ends."""
    process = subprocess.Popen(
        ["taskset", "-c", cores, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(port)
        yield Peer(name, f"http://127.0.0.1:{port}", (process.pid,))
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            # A server that is given more than it can do may not even come to its end.
            process.kill()
            process.wait()


@contextlib.contextmanager
def running_workers(
    name: str, command: list[str], port: int, count: int = 1, cores: str = SERVER_CORE
) -> Iterator[Peer]:
    """The same where the work is done by processes that the server starts."""
    with running(name, command, port, cores) as peer:
        yield Peer(peer.name, peer.url, (*peer.pids, *children(peer.pids[0], count)))


def children(pid: int, count: int) -> list[int]:
    """The processes that a server has started to do its work; it listens before they are there."""
    end = time.monotonic() + START_SECONDS
    while len(found := Path(f"/proc/{pid}/task/{pid}/children").read_text().split()) < count:
        if time.monotonic() > end:
            raise TimeoutError(f"process {pid} starts no other")
        time.sleep(0.05)
    return [int(child) for child in found]


def _wait_for(port: int) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if time.monotonic() > end:
            raise TimeoutError(f"nobody listens on port {port}")
        time.sleep(0.05)
