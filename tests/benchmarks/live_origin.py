"""A live channel without an encoder, for measurements: parts of given sizes come by a timer, or don't.

``python -m tests.benchmarks.live_origin WAITING PART_BYTES [CHAIN KEY]`` prints its port, and with a
certificate a second one, for TLS; then for each part its number, its index, the moment when it was published,
by the clock that all processes of a machine share, and the seconds of CPU until all who waited for it had
been written to, and those for which others had its core meanwhile. Parts come when so many requests wait;
with 0 none ever does. Both ports speak HTTP/2, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import sys
import time
from collections.abc import AsyncIterator
from fractions import Fraction
from functools import partial
from pathlib import Path

import uvicorn
import uvloop
from starlette.applications import Starlette

from media.mp4.codecs.sample_entry import SampleEntry
from origin.answers.asgi import handler_routes
from origin.http1.access_log import AccessLog, RequestCounters
from origin.http1.fast_path import FastPath
from origin.http1.limits import HttpLimits
from origin.http1.protocol import http_protocol
from origin.http2.connection import Http2Connection
from origin.live.handler import LiveHandler
from origin.live.requests.addresses import PATTERNS
from origin.responses.response_middleware import CommonHeaders, common_headers
from origin.system import malloc
from origin.system.connection_acceptor import SocketListener
from origin.tls.certificates import Certificates
from packager.live.channel import Channel
from packager.live.options import ChannelOptions
from packager.process.ffmpeg_discovery import discover
from packager.window.model import LivePart

PARTS_OF_SEGMENT = 6
FIRST_NUMBER = 1000
LISTED = 12
"""Segments that are there from the start."""

AUDIO_BYTES = 5_500
PART_SECONDS = Fraction(1, 3)
KEEP_ALIVE_SECONDS = 60
"""The players may be slow to ask on: they share a core with others."""


def channel_of(part_bytes: int) -> Channel:
    """Make the channel, with its first segments."""
    channel = Channel(ChannelOptions("test", ladder=("360p",)), asyncio.run(discover()))
    entry = SampleEntry(b"avc1", "avc1.42c01f", b"", (), width=640, height=360)
    for rendition in channel.renditions.values():
        rendition.window.restore((), FIRST_NUMBER - LISTED)
        rendition.window.begin(b"init", entry)
    for number, index in itertools.product(
        range(FIRST_NUMBER - LISTED, FIRST_NUMBER), range(PARTS_OF_SEGMENT)
    ):
        publish(channel, number, index, part_bytes)
    return channel


def publish(channel: Channel, number: int, index: int, part_bytes: int) -> None:
    """Publish a part of each rendition."""
    for name, rendition in channel.renditions.items():
        part = LivePart(bytes(part_bytes if name == "360p" else AUDIO_BYTES), PART_SECONDS, index == 0)
        date = 2 * number + index * PART_SECONDS
        rendition.window.append(part, date, ends_segment=index == PARTS_OF_SEGMENT - 1)


def seconds_without_core() -> float:
    """For how long this thread could have run, and others did (proc(5), schedstat)."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


async def feed(channel: Channel, waiting: int, part_bytes: int) -> None:
    """Publish part after part, each when so many wait for it: nobody is behind, however slow the machine."""
    due = time.monotonic()
    for number in itertools.count(FIRST_NUMBER):
        for index in range(PARTS_OF_SEGMENT):
            due = max(due + float(PART_SECONDS), time.monotonic())
            while channel.stream.blocked < waiting or time.monotonic() < due:
                await asyncio.sleep(0.02)
            moment, used, without = time.monotonic(), time.thread_time(), seconds_without_core()
            publish(channel, number, index, part_bytes)
            # By the loop's next turn all who waited have been written to.
            await asyncio.sleep(0)
            used, without = time.thread_time() - used, seconds_without_core() - without
            print(number, index, moment, used, without, flush=True)  # noqa: T201  # its report


async def main(channel: Channel, waiting: int, part_bytes: int, certificate: Certificates | None) -> None:
    """Serve until killed."""
    streams = {channel.name: channel.stream}

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            feeding = group.create_task(feed(channel, waiting, part_bytes)) if waiting else None
            malloc.freeze_garbage_collector()
            yield
            if feeding is not None:
                feeding.cancel()

    traffic, handler = RequestCounters(), LiveHandler(streams)
    app = CommonHeaders(
        Starlette(routes=handler_routes(handler, PATTERNS), lifespan=lifespan),
        traffic=traffic,
        allow_origin="*",
        log_requests=False,
    )
    access_log = AccessLog(traffic, log_requests=False)
    fast_path = FastPath({"live": handler}, access_log, common_headers("*"))
    wire = http_protocol(HttpLimits(), fast_path, http2=Http2Connection)
    config = uvicorn.Config(
        app,
        http=wire,
        port=0,
        ws="none",
        loop="uvloop",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=4096,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    server = uvicorn.Server(config)

    async def tell() -> None:
        while not server.started:
            await asyncio.sleep(0.01)
        ports = [server.servers[0].sockets[0].getsockname()[1]]
        if certificate is not None:
            encrypted = socket.create_server(("127.0.0.1", 0))
            ports.append(encrypted.getsockname()[1])
            protocol = partial(wire, config, server.server_state, server.lifespan.state)
            SocketListener(encrypted, protocol, context=certificate.context).start()
        print(*ports, flush=True)  # noqa: T201  # its report

    await asyncio.gather(server.serve(), tell())


if __name__ == "__main__":
    size = int(sys.argv[2])
    files = Certificates(sys.argv[3], sys.argv[4], None, ()) if sys.argv[3:] else None
    uvloop.run(main(channel_of(size), int(sys.argv[1]), size, files))
