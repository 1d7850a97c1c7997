"""The same bytes on each wire: HTTP/1.1 and HTTP/2, with TLS and without, HTTP/3, and another ASGI server."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.certificates import CHAIN, self_signed
from tests.http3_client import Http3Transport
from tests.origin.ingest.studio import CHANNEL, KEY, encoder_arguments, encoding
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for
from tests.wire_sockets import read_socket

pytestmark = pytest.mark.timeout(600)

TOKEN = "who-publishes-events-5b1f"
CONFIGURATION = """
[tls]
certificate = "chain.pem"
key = "key.pem"

[library]
path = "{folder}/library"

[[live]]
name = "studio"
publish_key = "{KEY}"
{CHANNEL}

[[radio]]
name = "tones.mp3"
folder = "{folder}/music"

[[events]]
name = "news"
publish_token = "{TOKEN}"
"""
BOUNDARY = re.compile(rb"(boundary=|\r\n--)[0-9a-f]{32}")
OF_SERVERS = {"date", "server", "connection", "transfer-encoding", "keep-alive"}
"""Header fields that a server adds by itself, or whose connection they are about."""


@dataclass(frozen=True)
class Wire:
    """A way to the application: an address, and a client that speaks one version of HTTP."""

    url: str
    client: httpx.Client
    version: str = "HTTP/1.1"

    @contextmanager
    def stream(
        self, target: str, folder: Path, headers: dict[str, str] | None = None
    ) -> Iterator[httpx.Response]:
        """Read an answer while it comes, by a client that leaves with it."""
        with (
            self.leaving(folder) as client,
            client.stream("GET", f"{self.url}{target}", headers=headers) as answer,
        ):
            yield answer

    def leaving(self, folder: Path) -> httpx.Client:
        """Make a client whose connection ends with it: on HTTP/2, httpx ends no stream before its end."""
        if self.version == "HTTP/3":
            return httpx.Client(transport=Http3Transport(folder / CHAIN), timeout=CLIENT_SECONDS)
        trusted = ssl.create_default_context(cafile=folder / CHAIN)
        is_2 = self.version == "HTTP/2"
        return httpx.Client(timeout=CLIENT_SECONDS, verify=trusted, http1=not is_2, http2=is_2)


@dataclass(frozen=True)
class Servers:
    """Wires with the same application.

    Attributes:
        wires: our own, another server, our own with TLS, HTTP/2 with TLS, HTTP/2 without, HTTP/3.
    """

    wires: tuple[Wire, ...]
    folder: Path

    @property
    def client(self) -> httpx.Client:
        """A client for what isn't compared."""
        return self.wires[0].client

    @property
    def other(self) -> str:
        return self.wires[1].url

    def each(self, target: str, method: str = "GET", **headers: str) -> list[httpx.Response]:
        """Send a request on all wires at the same time."""
        fields = {"accept-encoding": "identity"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        with ThreadPoolExecutor(len(self.wires)) as threads:
            answers = [
                *threads.map(
                    lambda wire: wire.client.request(method, f"{wire.url}{target}", headers=fields),
                    self.wires,
                )
            ]
        assert [one.http_version for one in answers] == [wire.version for wire in self.wires]
        return answers

    def same(self, target: str, method: str = "GET", **headers: str) -> httpx.Response:
        """Expect the same answer of all, but for what a server adds."""
        first, *others = self.each(target, method, **headers)
        for other in others:
            assert described(first) == described(other), other.url
        return first

    def same_between_changes(self, target: str) -> httpx.Response:
        """Expect the same answer of all, of what changes now and then, such as BANDWIDTH of a live stream."""
        answers = list[httpx.Response]()

        def are_same() -> bool:
            answers[:] = self.each(target)
            return all(described(one) == described(answers[0]) for one in answers)

        wait_for(are_same, "the same answer of all")
        return answers[0]


def described(answer: httpx.Response) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Give the status, the header fields in any order, and the body of an answer, without a boundary."""
    fields = [(name.lower(), value) for name, value in answer.headers.raw]
    fields = [(name, value) for name, value in fields if name.decode() not in OF_SERVERS]
    unbounded = sorted((name, BOUNDARY.sub(rb"\1", value)) for name, value in fields)
    return answer.status_code, unbounded, BOUNDARY.sub(rb"\1", answer.content)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("servers")
    for name in ("library", "music"):
        (folder / name).mkdir()
    sound = "-f lavfi -i sine=440:sample_rate=44100"
    movie = f"-v error -f lavfi -i testsrc2=size=160x120:rate=10 {sound} -t 13 -c:v libx264 -g 20 -c:a aac"
    subprocess.run(["ffmpeg", *movie.split(), str(folder / "library" / "movie.mp4")], check=True)
    tones = f"-v error {sound} -t 60 -ac 2 -b:a 128k"
    subprocess.run(["ffmpeg", *tones.split(), str(folder / "music" / "tones.mp3")], check=True)
    self_signed(folder)
    (folder / "library" / "short.txt").write_bytes(bytes(range(256)) * 8)
    for path in (folder / "library").iterdir():
        # What was written within the last moments may change once more, and caches are told so.
        os.utime(path, (1_700_000_000, 1_700_000_000))
    told = {"{folder}": str(folder), "{KEY}": KEY, "{CHANNEL}": CHANNEL, "{TOKEN}": TOKEN}
    text = CONFIGURATION
    for name, value in told.items():
        text = text.replace(name, value)
    (folder / "headwater.toml").write_text(text)
    command = [sys.executable, "-m", "tests.wires", str(folder / "headwater.toml")]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=Path(__file__).parents[3], text=True, **pipes) as process:
        try:
            assert process.stdout is not None
            own, other, encrypted = process.stdout.readline().split()
            trusted = ssl.create_default_context(cafile=folder / CHAIN)
            trusted_by_2 = ssl.create_default_context(cafile=folder / CHAIN)
            with (
                httpx.Client(timeout=CLIENT_SECONDS, verify=trusted) as client,
                httpx.Client(
                    timeout=CLIENT_SECONDS, verify=trusted_by_2, http1=False, http2=True
                ) as client_2,
                httpx.Client(transport=Http3Transport(folder / CHAIN), timeout=CLIENT_SECONDS) as client_3,
            ):
                plain, secure = f"http://127.0.0.1:{own}", f"https://127.0.0.1:{encrypted}"
                wires = [Wire(url, client) for url in (plain, f"http://127.0.0.1:{other}", secure)]
                wires += [Wire(url, client_2, "HTTP/2") for url in (secure, plain)]
                wires.append(Wire(secure, client_3, "HTTP/3"))
                yield Servers(tuple(wires), folder)
            process.communicate(timeout=CLIENT_SECONDS)
            assert process.returncode == 0
        finally:
            process.kill()


def test_the_other_server_is_another_one(servers: Servers) -> None:
    _, other, *own = servers.each("/media/short.txt")
    assert not any("server" in one.headers for one in own)
    assert [one.url.scheme for one in own] == ["https", "https", "http", "https"]
    assert other.headers["server"] == "hypercorn-h11"


@pytest.mark.parametrize(
    ("field", "status"),
    [
        ("bytes=0-99", 206),
        ("bytes=1000-", 206),
        ("bytes=-17", 206),
        ("bytes=0-0,500-600,-5", 206),
        ("bytes=5-1,7", 200),
        ("bytes=100000000-", 416),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/media/short.txt", "/media/movie.mp4"])
def test_ranges_of_files(servers: Servers, path: str, method: str, field: str, status: int) -> None:
    answer = servers.same(path, method, range=field)
    assert answer.status_code == (status if method == "GET" else 200)


@pytest.mark.clause("Each wire gives the same bytes")
def test_conditions_and_what_is_not_there(servers: Servers) -> None:
    whole = servers.same("/media/movie.mp4")
    assert whole.content == (servers.folder / "library" / "movie.mp4").read_bytes()
    tag, part = whole.headers["etag"], "bytes=10-19"
    assert servers.same("/media/movie.mp4", range=part, if_range=tag).content == whole.content[10:20]
    assert servers.same("/media/movie.mp4", range=part, if_range='"other"').status_code == 200
    assert servers.same("/media/movie.mp4", if_none_match=tag).status_code == 304
    assert servers.same("/media/movie.mp4", if_match='"other"').status_code == 412
    long_ago = formatdate(0, usegmt=True)
    assert servers.same("/media/movie.mp4", if_unmodified_since=long_ago).status_code == 412
    for path in ("/media/none.mp4", "/live/none/master.m3u8", "/vod/none.mp4/master.m3u8", "/radio/none"):
        assert servers.same(path).status_code == 404
    assert servers.same("/media/movie.mp4", "POST").status_code == 405
    assert servers.same("/media/movie.mp4", "OPTIONS").status_code == 204


def test_hls_and_dash_of_a_film(servers: Servers) -> None:
    base = "/vod/movie.mp4"
    assert servers.same(f"{base}/manifest.mpd").status_code == 200
    assert servers.same(f"{base}/master.m3u8", accept_encoding="gzip").headers["content-encoding"] == "gzip"
    master = servers.same(f"{base}/master.m3u8").text
    path = next(line for line in master.splitlines() if not line.startswith("#"))
    playlist = servers.same(f"{base}/{path}").text
    first = next(line for line in playlist.splitlines() if line and not line.startswith("#"))
    address = f"{base}/{path.rpartition('/')[0]}/{first}".replace("//", "/")
    segment = servers.same(address)
    assert b"moof" in segment.content[:1000]
    assert servers.same(address, range="bytes=100-199").content == segment.content[100:200]
    # Twice, so that our own wire has it from a copy in memory.
    assert servers.same(address).content == segment.content


def test_a_stream_is_published_and_followed(servers: Servers) -> None:
    """To the other server, in real time; playlists, parts and segments of it are the same on both."""
    playlist = "/live/studio/240p/media.m3u8"
    address = f"{servers.other}/live/studio/ingest"
    refused = servers.client.put(f"{address}?key=wrong", content=b"")
    assert refused.status_code == 401
    arguments = encoder_arguments().split()
    with encoding(*arguments, "-method", "PUT", f"{address}?key={KEY}") as encoder:
        wait_for(lambda: "PRELOAD-HINT" in servers.client.get(servers.other + playlist).text, "a playlist")
        number, part = last_part(servers.client.get(servers.other + playlist).text)
        for step in range(1, 4):
            # All of these requests wait for the same part, which isn't there yet.
            awaited = servers.same(f"{playlist}?_HLS_msn={number + step}&_HLS_part=0").text
            assert last_part(awaited) >= (number + step, 0)
            hint = re.findall(r'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="([^"]+)"', awaited)[-1]
            hinted = servers.same(f"/live/studio/240p/{hint}")
            assert hinted.status_code == 200
            assert hinted.content[4:8] == b"moof"
        whole = servers.same(f"/live/studio/240p/{number}.m4s").content
        assert servers.same(f"/live/studio/240p/{number}.m4s", range="bytes=-50").content == whole[-50:]
        assert servers.same_between_changes("/live/studio/master.m3u8").status_code == 200
        assert servers.same(f"{playlist}?_HLS_part=1").status_code == 400
        assert servers.same(f"{playlist}?_HLS_msn={number + 1000}").status_code == 400
        encoder.send_signal(signal.SIGINT)
        assert encoder.wait(CLIENT_SECONDS) in (0, 255)
    assert part >= 0


def last_part(playlist: str) -> tuple[int, int]:
    """Give the media sequence number and index of the last listed part."""
    parts = re.findall(r'#EXT-X-PART:.*URI="(\d+)\.(\d+)\.m4s', playlist)
    return int(parts[-1][0]), int(parts[-1][1])


def test_a_station_is_heard(servers: Servers) -> None:
    def hear(wire: Wire) -> tuple[httpx.Headers, bytes]:
        found = b""
        with wire.stream("/radio/tones.mp3", servers.folder) as answer:
            for data in answer.iter_raw():
                found += data
                if len(found) >= 200_000:
                    break
            return answer.headers, found

    with ThreadPoolExecutor(len(servers.wires)) as threads:
        (own_fields, own), *others = threads.map(hear, servers.wires)
    assert own_fields["content-type"] == "audio/mpeg"
    for other_fields, other in others:
        assert other_fields["content-type"] == "audio/mpeg"
        # They came in at different moments of one stream.
        assert own[150_000:160_000] in other or other[150_000:160_000] in own


def test_titles_are_between_the_audio_where_a_listener_asks_for_them(servers: Servers) -> None:
    for wire in servers.wires:
        with wire.stream("/radio/tones.mp3", servers.folder, {"icy-metadata": "1"}) as answer:
            interval = int(answer.headers["icy-metaint"])
            found = b""
            for data in answer.iter_raw():
                found += data
                if len(found) > interval + 256:
                    break
        assert found[interval + 1 :].startswith(b"StreamTitle='")


@pytest.mark.parametrize("kind", ["text/event-stream", "application/x-ndjson"])
def test_events_are_published_and_read(servers: Servers, kind: str) -> None:
    def read(wire: Wire) -> list[str]:
        lines: list[str] = []
        fields = {"last-event-id": first, "accept": kind}
        with wire.stream("/events/news", servers.folder, fields) as answer:
            assert answer.headers["content-type"].startswith(kind)
            for line in answer.iter_lines():
                lines += [line] if line and not line.startswith((":", "retry")) else []
                if "the end" in line:
                    break
        return lines

    def publish(text: str) -> str:
        fields = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
        answer = servers.client.post(
            f"{servers.other}/events/news", json={"data": text}, headers=fields
        ).raise_for_status()
        return str(answer.json()["ids"][0])

    first = publish("the beginning")
    with ThreadPoolExecutor(len(servers.wires)) as threads:
        reading = [threads.submit(read, wire) for wire in servers.wires]
        for text in ("one", "two", "the end"):
            publish(text)
        own, *others = (one.result(CLIENT_SECONDS) for one in reading)
    assert others == [own] * len(others)
    assert [one for line in own for one in re.findall("one|two|the end", line)] == ["one", "two", "the end"]
    page = servers.same(f"/events/news?since={first}", accept="application/json")
    assert [one["data"] for one in page.json()] == ["one", "two", "the end"]


def test_a_websocket_has_the_same_frames(servers: Servers) -> None:
    fields = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    ids: list[str] = []
    for text in ("before", "first", "second", "the last one"):
        url = f"{servers.other}/events/news"
        answer = servers.client.post(url, json={"data": text}, headers=fields).raise_for_status()
        ids += answer.json()["ids"]
    target = f"/events/news?since={ids[0]}"
    # The other server has no WebSockets: its own would be read in place of ours.
    ours = [wire for wire in servers.wires if wire.url != servers.other]
    found = [
        read_socket(wire.url, target, wire.version, servers.folder / CHAIN, b"the last one") for wire in ours
    ]
    assert [(wire.version, wire.url[:5]) for wire in ours] == [
        ("HTTP/1.1", "http:"),
        ("HTTP/1.1", "https"),
        ("HTTP/2", "https"),
        ("HTTP/2", "http:"),
        ("HTTP/3", "https"),
    ]
    # RFC 6455 §5.2: a whole message of text, whose bytes aren't masked.
    assert found[0][0] == 0x81
    assert [found[0].find(text) > 0 for text in (b"first", b"second", b"before")] == [True, True, False]
    assert found == [found[0]] * len(found)


def test_an_endless_answer_ends_on_each_with_its_client(servers: Servers) -> None:
    """Whoever leaves is counted no longer."""

    def readers() -> int:
        found = servers.client.get(f"{servers.wires[0].url}/api/radio").json()
        return int(next(one["listeners"] for one in found if one["name"] == "tones.mp3"))

    wait_for(lambda: readers() == 0, "no listener")
    for wire in servers.wires:
        with wire.stream("/radio/tones.mp3", servers.folder) as answer:
            audio = answer.iter_raw()
            assert next(audio)
            wait_for(lambda: readers() == 1, "a listener")
        wait_for(lambda: readers() == 0, "the listener's end")
