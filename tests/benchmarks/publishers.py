"""What a publisher over RTMP costs whose picture and sound go out as they came, beside nginx's rtmp module.

All publishers send the same recording in real time from one process on the clients' core. A server's cost is
that of its process and of those that it has started; we start no ffmpeg for what is copied.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from media.flv.amf0 import write_values
from media.rtmp import chunks
from media.rtmp.chunks import Message, write_message
from tests.benchmarks import peers
from tests.benchmarks.load import Figure
from tests.benchmarks.peers import Peer, free_port
from tests.rtmp import publishing

NAME = "publishers, RTMP copied"
PUBLISHERS = 50
"""What is copied needs no ffmpeg: one core carries them, and has room for more."""

KEY = "of-the-benchmark-5d1e"
CHUNK_BYTES = 4096
FLV_HEADER_BYTES = 13
METADATA = 18
WARM_UP_SECONDS = 15
WINDOWS = 4
WINDOW_SECONDS = 5
STREAM_SECONDS = 90
START_SECONDS = 45

ENCODING = (
    "-nostdin -v error -f lavfi -i testsrc2=size=640x360:rate=30 -f lavfi -i sine=440:sample_rate=48000"
    f" -t {STREAM_SECONDS} -c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p"
    " -b:v 1M -maxrate 1M -bufsize 1M -g 30 -c:a aac -b:a 128k -f flv"
)

NGINX_CONFIG = """
load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
rtmp {{ server {{ listen 127.0.0.1:{port}; chunk_size 4096;
  application live {{
    live on; hls on; hls_path {folder}/hls; hls_fragment 2s; hls_playlist_length 12s;
  }} }} }}
"""

CHANNEL = """
[[live]]
name = "c{number}"
source = "publish"
publish_key = "{key}"
ladder = ["source"]
segment_duration = 2.0
part_duration = 0.333
"""


def messages(flv: bytes) -> Iterator[tuple[float, bytes]]:
    """Give the tags of a recording as a publisher's messages, each with the second at which it is sent."""
    at = FLV_HEADER_BYTES
    while at + 11 <= len(flv):
        kind, size = flv[at], int.from_bytes(flv[at + 1 : at + 4], "big")
        moment = int.from_bytes(flv[at + 4 : at + 7], "big") | flv[at + 7] << 24
        body = flv[at + 11 : at + 11 + size]
        if kind == METADATA:
            body = write_values("@setDataFrame") + body
        yield moment / 1000, write_message(6, Message(kind, 1, moment, body), CHUNK_BYTES)
        at += 11 + size + 4


async def publish(port: int, names: Sequence[str], recording: Path) -> None:
    """Publish a recording under all names at once, in real time."""
    sent = list(messages(recording.read_bytes()))
    size = Message(chunks.SET_CHUNK_SIZE, 0, 0, CHUNK_BYTES.to_bytes(4, "big"))
    writers = []
    async with asyncio.TaskGroup() as group:
        for name in names:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(publishing(name) + write_message(2, size, chunks.DEFAULT_CHUNK_BYTES))
            group.create_task(_read_all(reader))
            writers.append(writer)
        await asyncio.sleep(1)
        began = time.monotonic()
        for at, data in sent:
            await asyncio.sleep(max(began + at - time.monotonic(), 0))
            for writer in writers:
                writer.write(data)
                await writer.drain()
        for writer in writers:
            writer.close()


async def _read_all(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        while await reader.read(65536):
            pass


@contextlib.contextmanager
def publishers(port: int, names: Sequence[str], recording: Path) -> Iterator[None]:
    """Run the publishers until the block ends."""
    command = ["taskset", "-c", peers.CLIENT_CORE, sys.executable, "-m", __name__, str(port), str(recording)]
    process = subprocess.Popen([*command, *names])
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def nginx(folder: Path) -> Iterator[tuple[Peer, int]]:
    """nginx's rtmp module with its HLS; its port for RTMP."""
    port, config = free_port(), folder / "nginx.conf"
    config.write_text(NGINX_CONFIG.format(folder=folder, port=port))
    program = shutil.which("nginx") or "nginx"
    command = [program, "-c", str(config), "-p", str(folder)]
    with peers.running_workers("nginx-rtmp", command, port) as peer:
        yield peer, port


@contextlib.contextmanager
def headwater(folder: Path, channels: int = PUBLISHERS) -> Iterator[tuple[Peer, int]]:
    """Ours, with a channel for each publisher; its port for RTMP."""
    port, rtmp_port, config = free_port(), free_port(), folder / "headwater.toml"
    made = [CHANNEL.format(number=number, key=KEY) for number in range(channels)]
    config.write_text("".join([f"[server]\nrtmp_port = {rtmp_port}\n", *made]))
    command = [str(Path(sys.executable).parent / "headwater"), "serve", "--library", str(folder)]
    command += ["--config", str(config), "--port", str(port)]
    with peers.running("headwater", command, port) as peer:
        yield peer, rtmp_port


def with_descendants(pid: int) -> tuple[int, ...]:
    """Give a process and all that it and they have started."""
    found = [pid]
    for one in found:
        for listed in Path(f"/proc/{one}/task").glob("*/children"):
            found += [int(child) for child in listed.read_text().split()]
    return tuple(found)


def wait_for(what: str, there: Callable[[], bool]) -> None:
    """Wait until something is there."""
    end = time.monotonic() + START_SECONDS
    while not there():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.5)


def _are_live(url: str) -> bool:
    with urllib.request.urlopen(f"{url}/api/live", timeout=30) as answer:
        return bytes(answer.read()).count(b'"live"') >= PUBLISHERS


def costs(server: Peer) -> Iterator[tuple[float, float]]:
    """Give what a second of a stream costs, window by window: all of it, and the server's own process."""
    every = Peer(server.name, "", with_descendants(server.pids[0]))
    own = Peer(server.name, "", server.pids)
    for _ in range(WINDOWS):
        began, used, by_itself = time.monotonic(), every.scheduled_seconds(), own.scheduled_seconds()
        time.sleep(WINDOW_SECONDS)
        streamed = (time.monotonic() - began) * PUBLISHERS
        used, by_itself = every.scheduled_seconds() - used, own.scheduled_seconds() - by_itself
        yield used / streamed * 1e3, by_itself / streamed * 1e3


def run(words: Sequence[str] = ()) -> Iterator[Figure]:
    """Give the CPU time that a second of a stream costs each server."""
    if words and not any(word in NAME for word in words):
        return
    peers.require("ffmpeg", "nginx")
    with tempfile.TemporaryDirectory() as name:
        folder, recording = Path(name), Path(name) / "recording.flv"
        folder.chmod(0o755)
        (folder / "hls").mkdir(mode=0o777)
        (folder / "hls").chmod(0o777)
        subprocess.run(["ffmpeg", *ENCODING.split(), str(recording)], check=True)
        names = [f"c{number}" for number in range(PUBLISHERS)]
        with nginx(folder) as (server, port), publishers(port, names, recording):
            wait_for("nginx's playlists", lambda: len(list((folder / "hls").glob("*.m3u8"))) >= PUBLISHERS)
            time.sleep(WARM_UP_SECONDS)
            theirs = [cost for cost, _ in costs(server)]
        yield Figure(NAME, server.name, statistics.median(theirs), "CPU ms/s")
        keyed = [f"{one}?key={KEY}" for one in names]
        with headwater(folder) as (server, port), publishers(port, keyed, recording):
            wait_for("our channels", lambda: _are_live(server.url))
            time.sleep(WARM_UP_SECONDS)
            ours = list(costs(server))
        peer = statistics.median(theirs)
        whole, alone = (statistics.median(costs) for costs in zip(*ours, strict=True))
        yield Figure(NAME, server.name, whole, "CPU ms/s", whole / peer)
        yield Figure(f"{NAME}, without ffmpeg", server.name, alone, "CPU ms/s", alone / peer)


if __name__ == "__main__":
    asyncio.run(publish(int(sys.argv[1]), sys.argv[3:], Path(sys.argv[2])))
