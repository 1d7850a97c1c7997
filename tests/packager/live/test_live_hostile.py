"""Hostile sources of live channels: what they name is not opened, what they hold back is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import pytest

from packager.ffmpeg.arguments import MAX_PIXELS, QUIET, local_input, pipe
from packager.ffmpeg.ladder import AUDIO, rungs
from packager.ffmpeg.live import encoder_arguments
from packager.process.ffmpeg_discovery import Tools, ToolsError
from packager.process.process import run
from packager.process.sandbox import Sandbox
from packager.sources.containers import detect_container
from packager.sources.limits import SourceLimits
from packager.sources.probe import inspect_source
from packager.sources.pullers.http_puller import HttpPuller
from packager.sources.pump import Pump
from packager.sources.source import Source
from packager.window.cadence import cadence

RUN_SECONDS = 120.0


class Web:
    """A server of documents, which notes what is asked for."""

    def __init__(self, documents: Mapping[str, bytes], fields: str = "") -> None:
        self.documents = dict(documents)
        self.fields = fields
        self.asked: list[str] = []
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split()[1]
            self.asked.append(path)
            body = self.documents.get(path)
            status = "404 Not Found" if body is None else "200 OK"
            fields = f"Content-Length: {len(body or b'')}\r\nConnection: close\r\n{self.fields}"
            writer.write(f"HTTP/1.1 {status}\r\n{fields}\r\n".encode() + (body or b""))
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def serving(web: Web) -> AsyncIterator[Web]:
    server = await asyncio.start_server(web.answer, "127.0.0.1", 0)
    web.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield web
    finally:
        server.close()


@contextlib.contextmanager
def canary() -> Iterator[socket.socket]:
    """Listen for who connects; nobody may."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        yield listener
        with pytest.raises(BlockingIOError):
            listener.accept()


def secret_media(tools: Tools, folder: Path) -> Path:
    path = folder / "secret.ts"
    made = f"-f lavfi -i sine=duration=1 -f mpegts {path}".split()
    subprocess.run([str(tools.ffmpeg), *QUIET, *made], check=True)
    return path


@pytest.mark.clause(
    "CVE-2016-1897", "CWE-918", "A list of addresses that is called a film opens none of them"
)
@pytest.mark.parametrize("kind", ["HLS", "ffconcat", "SDP", "DASH"])
async def test_a_list_of_addresses_that_is_called_a_film_opens_none_of_them(
    tools: Tools, tmp_path: Path, kind: str
) -> None:
    film = tmp_path / "movie.mp4"
    with canary() as listener:
        port = listener.getsockname()[1]
        url = f"http://127.0.0.1:{port}/a.ts"
        texts = {
            "HLS": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n",
            "ffconcat": f"ffconcat version 1.0\nfile '{url}'\n",
            "SDP": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\nm=video {port} RTP/AVP 33\n",
            "DASH": '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet>'
            f'<Representation id="1"><BaseURL>{url}</BaseURL></Representation>'
            "</AdaptationSet></Period></MPD>",
        }
        film.write_text(texts[kind])
        with pytest.raises(ToolsError):
            await inspect_source(str(film), tools)


@pytest.mark.clause("A pulled playlist opens no file of this machine")
async def test_a_pulled_playlist_opens_no_file_even_where_ffmpeg_would(tools: Tools, tmp_path: Path) -> None:
    secret = await asyncio.to_thread(secret_media, tools, tmp_path)
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n".encode()
    master = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nmedia.m3u8\n"
    async with serving(Web({"/master.m3u8": master, "/media.m3u8": text})) as web:
        with pytest.raises(ToolsError):
            await inspect_source(f"{web.url}/master.m3u8", tools)
        words = ["-protocol_whitelist", "file,http,tcp", "-i", f"{web.url}/media.m3u8", "-f", "u8", pipe(0)]
        assert len(await run([tools.ffmpeg, *QUIET, *words], limit=RUN_SECONDS, sandbox=None)) > 1000
        with pytest.raises(ToolsError):
            await run([tools.ffmpeg, *QUIET, *words], limit=RUN_SECONDS, sandbox=Source(url=web.url).sandbox)


def itself() -> bytes:
    return b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlist.m3u8\n"


def a_hundred_thousand() -> bytes:
    lines = (f"#EXT-X-STREAM-INF:BANDWIDTH={n}\n{n}.m3u8\n" for n in range(1, 100_001))
    return b"#EXTM3U\n" + "".join(lines).encode()


def nothing_new() -> bytes:
    return b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:7\n"


@pytest.mark.clause("CWE-835")
@pytest.mark.parametrize("document", [itself, nothing_new, a_hundred_thousand])
async def test_a_playlist_that_leads_nowhere_is_given_up(tools: Tools, document: Callable[[], bytes]) -> None:
    async with serving(Web({"/list.m3u8": document()})) as web:
        begin = time.monotonic()
        with pytest.raises(ToolsError) as caught:
            await inspect_source(f"{web.url}/list.m3u8", tools, SourceLimits(probe_seconds=1.0))
        assert time.monotonic() - begin < 30
    assert "\n" not in str(caught.value)


@pytest.mark.clause("CWE-409")
async def test_what_is_fetched_is_never_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = gzip.compress(b"\x47" + bytes(187) + bytes(64 << 20))
    fields = "Content-Type: video/mp2t\r\nContent-Encoding: gzip\r\n"
    async with serving(Web({"/a.ts": bomb}, fields)) as web:
        puller = HttpPuller(f"{web.url}/a.ts", "bomb")
        received: list[int] = []

        async def receive(_: Pump, data: bytes) -> None:
            received.append(len(data))

        monkeypatch.setattr(Pump, "receive_data", receive)
        pulling = asyncio.create_task(puller.run())
        try:
            async with asyncio.timeout(120):
                assert await puller.wait_until_detected() is not None
                while len(web.asked) < 3:
                    await asyncio.sleep(0.02)
        finally:
            pulling.cancel()
            await asyncio.wait([pulling])
    assert received
    assert max(received) <= len(bomb)


@pytest.mark.clause("A redirect leads to HTTP and to nowhere else")
async def test_a_redirect_leads_to_http_and_nowhere_else(tools: Tools, tmp_path: Path) -> None:
    secret = await asyncio.to_thread(secret_media, tools, tmp_path)

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.0 302 Found\r\nLocation: file:{secret}\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(redirect, "127.0.0.1", 0)
    puller = HttpPuller(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a.ts", "redirected")
    pulling = asyncio.create_task(puller.run())
    try:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(puller.wait_until_detected(), 1)
        assert not pulling.done()
        assert puller.pump is None
    finally:
        pulling.cancel()
        await asyncio.wait([pulling])
        server.close()


@pytest.mark.clause("A redirect leads to HTTP and to nowhere else")
def test_the_decoder_of_a_fetched_stream_has_no_network() -> None:
    cages = [one.sandbox for one in (Source(pump=Pump("mpegts")), Source(url="rtsp://a/b"))]
    assert [(sandbox.tcp_port, sandbox.udp) for sandbox in cages] == [(0, False), (554, False)]


@pytest.mark.clause("CWE-88")
@pytest.mark.parametrize(
    "words", [("720p;rm",), ("-i", "x"), ("[a]scale",), ("720p", "720p"), ("1x1",), ("",)], ids=repr
)
def test_a_ladder_is_made_of_known_names(words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="a ladder is made of"):
        rungs(words)


@pytest.mark.clause("CWE-73", "CWE-88")
@pytest.mark.parametrize(
    "name", ["a;b,[c]", "-i", "concat:a|b", "%03d", "'quoted'", "pipe:0", "a\\:b", "x=y:z"], ids=repr
)
def test_a_path_is_one_word_of_the_arguments_and_no_option(tmp_path: Path, name: str) -> None:
    times = cadence(Fraction(25), 1.0, 0.25)
    path = tmp_path / f"{name}.mp4"
    made = [
        encoder_arguments(
            Source(path=one).input, "c", rungs(["240p"]), [AUDIO], times, Fraction(5), captions=True
        )
        for one in (path, tmp_path / "plain.mp4")
    ]
    assert made[0][made[0].index("-i") + 1] == local_input(path)
    assert [word for word in made[0] if word != local_input(path)] == [
        word for word in made[1] if word != local_input(tmp_path / "plain.mp4")
    ]


@pytest.mark.clause("A decoder that nobody needs doesn't run")
async def test_a_decoder_that_is_not_named_does_not_run_in_a_channel(tools: Tools, tmp_path: Path) -> None:
    film = tmp_path / "film.avi"
    made = ["-f", "lavfi", "-i", "testsrc2=size=64x64:duration=0.2", "-c:v", "magicyuv", local_input(film)]
    await asyncio.to_thread(subprocess.run, [str(tools.ffmpeg), *QUIET, *made], check=True)
    plain = ["-f", "avi", "-i", local_input(film), "-f", "rawvideo", pipe(0)]
    assert await run([tools.ffmpeg, *QUIET, *plain], limit=RUN_SECONDS, sandbox=Sandbox(read=(str(film),)))
    with pytest.raises(ToolsError, match="magicyuv"):
        await inspect_source(str(film), tools)


@pytest.mark.clause("Pictures have a limit of pixels")
async def test_a_picture_of_67_million_pixels_does_not_run_in_a_channel(tools: Tools, tmp_path: Path) -> None:
    assert 8192 * 8192 > MAX_PIXELS > 7680 * 4320
    film = tmp_path / "film.mp4"
    made = ["-f", "lavfi", "-i", "color=size=8192x8192:rate=1:duration=1", "-c:v", "libx264"]
    made += ["-preset", "ultrafast", "-frames:v", "1", local_input(film)]
    await asyncio.to_thread(subprocess.run, [str(tools.ffmpeg), *QUIET, *made], check=True)
    with pytest.raises(ToolsError, match="8192x8192 exceeds specified max pixel count"):
        await inspect_source(str(film), tools)


def test_streams_are_recognised_by_their_first_bytes() -> None:
    transport = (b"\x47" + bytes(187)) * 4
    assert detect_container(transport) == detect_container(bytes(57) + transport) == "mpegts"
    assert detect_container(b"FLV\x01\x05") == "flv"
    assert detect_container(b"\xff\xfb\x90\x00") == "mp3"
    assert detect_container(b"\xff\xf1\x50\x80") == "aac"
    assert detect_container(b"\x12\x34", "audio/mpeg; charset=x") == "mp3"
    # what is decoded from its beginning, whatever its server calls it
    for head in (b"#EXTM3U\n", b"OggS\0", b"fLaC", b"\0\0\0\x20ftypisom", b"\x1aE\xdf\xa3"):
        assert detect_container(head, "audio/mpeg") is None
