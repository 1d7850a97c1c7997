"""Servers of events under measurement: ours, sse-starlette with a queue per reader, and nchan in nginx."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import peers
from tests.benchmarks.event_publisher import TOKEN
from tests.benchmarks.peers import Peer

NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")

CONFIG = """
[server]
port = {port}
[library]
path = "{folder}"
[[events]]
name = "bench"
publish_token = "{token}"
replay = false
[limits]
event_readers = 10000
all_event_readers = 10000
connections = 12000
"""

QUEUES_APP = """
import asyncio, json, sys, uvicorn
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

queues = set()

async def read(request):
    async def events():
        queue = asyncio.Queue()
        queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            queues.discard(queue)
    return EventSourceResponse(events())

async def publish(request):
    rest = b""
    async for chunk in request.stream():
        *lines, rest = (rest + chunk).split(b"\\n")
        for line in lines:
            event = {"data": json.loads(line)["data"]}
            for queue in queues:
                queue.put_nowait(event)
    return JSONResponse({})

app = Starlette(routes=[Route("/read", read), Route("/publish", publish, methods=["POST"])])
uvicorn.run(app, port=int(sys.argv[1]), log_level="error", access_log=False, loop="uvloop", http="httptools")
"""

NCHAN_CONFIG = """
load_module {module};
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
worker_rlimit_nofile 20000;
events {{ worker_connections 15000; }}
http {{
  access_log off; tcp_nodelay on; nchan_shared_memory_size 512M;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port} backlog=4096;
    location = /read {{ nchan_subscriber eventsource; nchan_channel_id bench;
      nchan_subscriber_first_message newest; }}
    location = /publish {{ nchan_publisher websocket; nchan_channel_id bench;
      nchan_message_buffer_length 1000; nchan_message_timeout 5s; }} }}
}}
"""


@dataclass(frozen=True, slots=True)
class EventServer:
    """How a server is started, and where it is read and published to.

    Attributes:
        running: starts it; the folder is for its files.
        read_path: of its server-sent events.
        publish_path: of its channel.
        way: of ``event_publisher``.
    """

    running: Callable[[Path], AbstractContextManager[Peer]]
    read_path: str
    publish_path: str
    way: str


@contextlib.contextmanager
def headwater(folder: Path) -> Iterator[Peer]:
    """Ours, as a person starts it."""
    port = peers.free_port()
    config = folder / "headwater.toml"
    config.write_text(CONFIG.format(folder=folder, port=port, token=TOKEN))
    config.chmod(0o600)
    command = [str(Path(sys.executable).parent / "headwater"), "serve", "--config", str(config)]
    with peers.running("headwater", command, port) as peer:
        yield peer


@contextlib.contextmanager
def queues(folder: Path) -> Iterator[Peer]:
    """Serve by sse-starlette as its users do, a queue for each reader, on uvicorn at its best."""
    port = peers.free_port()
    with peers.running("sse-starlette", [sys.executable, "-c", QUEUES_APP, str(port)], port) as peer:
        yield peer


@contextlib.contextmanager
def nchan(folder: Path) -> Iterator[Peer]:
    """nginx with one worker and Debian's nchan."""
    port = peers.free_port()
    config = folder / "nginx.conf"
    config.write_text(NCHAN_CONFIG.format(module=NCHAN, folder=folder, port=port))
    program = shutil.which("nginx") or "nginx"
    with peers.running_workers("nchan", [program, "-c", str(config), "-p", str(folder)], port) as peer:
        yield peer


SERVERS = (
    EventServer(headwater, "/events/bench", "/events/bench", "lines"),
    EventServer(queues, "/read", "/publish", "lines"),
    EventServer(nchan, "/read", "/publish", "socket"),
)
