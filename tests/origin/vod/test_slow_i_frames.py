"""A client that reads the I-frames of a long film slowly costs the server no list of them."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import tracemalloc
from pathlib import Path

from origin.http.byte_ranges import SelectedRange
from origin.http1.sendfile import FileSender
from origin.vod.segment_cache import pieces_of_i_frames
from packager.library.local_storage import Library
from packager.vod import IFrameFile, Titles
from tests.packager.vod.opened_media import open_i_frames
from tests.patience import CLIENT_SECONDS

FRAMES = 1500


def film(folder: Path) -> None:
    picture = ["-f", "lavfi", "-i", f"testsrc2=size=64x64:rate=25:duration={FRAMES // 25}"]
    words = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "1", "-pix_fmt", "yuv420p"]
    command = ["ffmpeg", "-v", "error", *picture, *words, str(folder / "film.mp4")]
    subprocess.run(command, check=True, timeout=CLIENT_SECONDS)


async def test_a_slow_reader_of_many_i_frames_holds_few_of_them_and_gets_all(tmp_path: Path) -> None:
    await asyncio.to_thread(film, tmp_path)
    titles = Titles(Library(tmp_path))
    opened = await asyncio.to_thread(open_i_frames, titles, "film.mp4", "video")
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    theirs.setblocking(False)
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    with opened.file, (tmp_path / "film.mp4").open("rb") as file:
        frames = opened.media
        assert isinstance(frames, IFrameFile)
        assert frames.count(0, opened.size) == FRAMES
        whole = await asyncio.to_thread(opened.read, 0, opened.size)
        sender = FileSender(loop, transport)
        ended: asyncio.Future[Exception | None] = loop.create_future()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            pieces = (b"head", *pieces_of_i_frames(frames, SelectedRange(0, opened.size - 1)))
            has_ended = sender.begin(pieces, opened.size, file.fileno(), ended.set_result)
            held = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert not has_ended
        # The whole list has some 200 bytes for each frame.
        assert held < 100 * FRAMES
        found = bytearray()
        async with asyncio.timeout(CLIENT_SECONDS):
            while len(found) < len(b"head") + len(whole):
                found += await loop.sock_recv(theirs, 65536)
            assert await ended is None
        assert found == b"head" + whole
    sender.close()
    transport.close()
    theirs.close()
