"""``headwater check`` finds nothing in what holds, and names what doesn't in a server that is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.server
import shutil
import ssl
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import m3u8
import pytest

from origin.cli.check import CheckError
from origin.cli.checks.low_latency import control_problems, part_problems, progress
from tests import certificates
from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.fork_server import run_headwater
from tests.origin.cli.judgements import judge_live, judged
from tests.origin.server.app_requests import live_is_on
from tests.packager import films
from tests.packager.radio.station_audio import tone
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("judged")
    (folder / "library").mkdir()
    for size, recipe in (("720p", "bframes.mp4"), ("360p", "silent.mp4")):
        shutil.copyfile(films.film(recipe), folder / "library" / f"film.{size}.mp4")
    turned = ("-i", films.film("silent.mp4"), "-c", "copy", "-metadata:s:v", "rotate=90")
    films.run_ffmpeg(*turned, folder / "library" / "turned.mp4")
    tone(folder / "song.mp3")
    station = '[[radio]]\nname = "demo.mp3"\nfolder = "song.mp3"\n'
    (folder / "headwater.toml").write_text(f"{copied_channel('demo')}\n{station}")
    with start_server("--library", "library", "--port", "0", cwd=folder) as server:
        yield server


@pytest.fixture
def careless_server(tmp_path: Path) -> Iterator[str]:
    """Python's own file server: no ranges, no entity-tags."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def assert_all_held(status: int, said: str) -> None:
    assert status == 0, said
    held, _, rest = said.splitlines()[-1].partition(" checks held, ")
    assert int(held) > 5
    assert rest == "0 didn't"


@pytest.mark.promise("headwater check")
@pytest.mark.parametrize(
    "path",
    [
        *("/vod/film/master.m3u8", "/media/film.720p.mp4"),
        *("/vod/turned.mp4/master.m3u8", "/vod/turned.mp4/manifest.mpd"),
    ],
)
def test_our_own_addresses_hold(server: ServerProcess, path: str) -> None:
    result = run_headwater("check", server.url + path)
    assert_all_held(result.returncode, result.stdout)


@pytest.mark.timeout(1800)
def test_our_own_channel_holds(server: ServerProcess) -> None:
    wait_for(lambda: live_is_on(server), what="the channel")
    assert_all_held(*judge_live(server, "demo", "source"))


@pytest.mark.timeout(1800)
def test_our_own_channels_manifest_holds(server: ServerProcess) -> None:
    wait_for(lambda: live_is_on(server), what="the channel")
    assert_all_held(*judge_live(server, "demo", "source", name="manifest.mpd"))


def test_a_wrong_server_is_told_what_is_wrong(careless_server: str, tmp_path: Path) -> None:
    (tmp_path / "0.m4s").write_bytes(bytes(1000))
    (tmp_path / "a.m3u8").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXTINF:3.5,\n0.m4s\n#EXT-X-ENDLIST\n"
    )
    result = run_headwater("check", f"{careless_server}/a.m3u8")
    assert result.returncode == 1
    for words in (
        "lasts 3.5 s, more than the target duration 2",
        "has no Cache-Control",
        "0.m4s: answers a range with 200",
        "0.m4s: has no ETag",
    ):
        assert words in result.stdout


def test_an_address_that_does_not_answer_is_one_line() -> None:
    result = run_headwater("check", "http://127.0.0.1:1/master.m3u8")
    assert result.returncode == 1
    assert result.stderr.startswith("headwater: http://127.0.0.1:1/master.m3u8: ")
    assert len(result.stderr.splitlines()) == 1


def test_what_is_no_playlist_is_said(careless_server: str, tmp_path: Path) -> None:
    (tmp_path / "a.m3u8").write_text("<html>")
    assert "doesn't begin with #EXTM3U" in run_headwater("check", f"{careless_server}/a.m3u8").stdout


HOSTILE = {
    "itself": b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nitself.m3u8\n",
    "nan": b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:nan,\na.ts\n#EXT-X-ENDLIST\n",
    "huge": b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1e308,\na.ts\n#EXT-X-ENDLIST\n",
    "negative": b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:-1,\na.ts\n#EXT-X-ENDLIST\n",
    "word": b"#EXTM3U\n#EXT-X-TARGETDURATION:two\n#EXTINF:x,\na.ts\n#EXT-X-ENDLIST\n",
    "mark": b"\xef\xbb\xbf#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-ENDLIST\n",
    "returns": b"#EXTM3U\r#EXT-X-TARGETDURATION:2\r#EXTINF:1,\ra.ts\r",
    "nul": b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\na\0.ts\n#EXT-X-ENDLIST\n",
    "quote": b'#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a,NAME=b\n#EXT-X-STREAM-INF:BANDWIDTH=x\nb.m3u8\n',
    "part": b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-PART-INF:PART-TARGET=x\n#EXT-X-PART:DURATION=\n",
    "report": b'#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-RENDITION-REPORT:URI="a",LAST-PRT=1\n',
    "lines": b"#EXTM3U\n" + b"\n" * 1_000_000,
    "line": b"#EXTM3U\n#" + b"x" * (8 << 20),
}


@pytest.mark.clause("CWE-835", "A hostile playlist is read within limits")
@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_playlist_is_judged_within_limits(tmp_path: Path, name: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: application/vnd.apple.mpegurl\r\n\r\n")
            writer.write(HOSTILE[name])
            await writer.drain()
        writer.close()

    try:
        async with asyncio.timeout(120):
            findings = (await judged(answer)).findings
    except CheckError as error:
        findings = [str(error)]
    assert findings
    assert not any("\n" in finding for finding in findings)


async def test_an_address_that_breaks_off_is_a_finding_and_the_rest_is_judged() -> None:
    segments = b"#EXTINF:9.5,\n0.m4s\n" * 5
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n" + segments + b"#EXT-X-ENDLIST\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        fields = b"Content-Type: application/vnd.apple.mpegurl\r\n"
        told = b"HTTP/1.0 200 OK\r\n" + fields + b"\r\n" + playlist
        writer.write(told if b".m3u8" in head else b"nothing\r\n\r\n")
        writer.close()

    report = await judged(answer)
    assert any("/0.m4s: can't be fetched: " in finding for finding in report.findings)
    assert sum("lasts 9.5 s, more than the target duration 2" in finding for finding in report.findings) == 3
    assert any(finding.endswith("and 2 more of that kind") for finding in report.findings)


@pytest.mark.clause("RFC 8216bis §4.4.4.7")
async def test_a_segment_that_is_a_gap_is_not_fetched() -> None:
    """Wherever it is in the list."""
    segments = (
        b"#EXT-X-GAP\n#EXTINF:2,\n%d.m4s\n",
        b"#EXTINF:2,\n%d.m4s\n",
        b"#EXT-X-GAP\n#EXTINF:2,\n%d.m4s\n",
    )
    listed = b"".join(segment % number for number, segment in enumerate(segments))
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n" + listed + b"#EXT-X-ENDLIST\n"
    asked: set[bytes] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]
        asked.add(target)
        fields = b"Content-Type: application/vnd.apple.mpegurl\r\nContent-Length: %d\r\n" % len(playlist)
        found = b"HTTP/1.0 200 OK\r\n" + fields + b"\r\n" + playlist
        writer.write(found if b".m3u8" in target else b"HTTP/1.0 404 Not Found\r\n\r\n")
        writer.close()

    await judged(answer)
    assert asked == {b"/itself.m3u8", b"/1.m4s"}


@pytest.mark.clause("CWE-409")
async def test_a_playlist_that_was_packed_is_not_inflated() -> None:
    bomb = gzip.compress(b"#EXTM3U\n" + bytes(64 << 20))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        fields = b"Content-Type: application/vnd.apple.mpegurl\r\nContent-Encoding: gzip\r\n"
        writer.write(b"HTTP/1.0 200 OK\r\n" + fields + b"\r\n" + bomb)
        writer.close()

    report = await judged(answer)
    assert any("has Content-Encoding gzip" in finding for finding in report.findings)
    assert any("doesn't begin with #EXTM3U" in finding for finding in report.findings)


@pytest.mark.clause("CWE-770")
@pytest.mark.parametrize(("told", "found"), [("0-999999999999", False), ("9000-9999", True)])
async def test_a_range_of_a_file_without_an_end_is_read_within_limits(told: str, found: bool) -> None:
    lists = f'<SegmentList duration="1"><SegmentURL mediaRange="{told}"/></SegmentList>'
    inner = f'<Representation id="v" mimeType="video/mp4" bandwidth="1">{lists}</Representation>'
    manifest = (
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" mediaPresentationDuration="PT1S">'
        f"<Period><AdaptationSet>{inner}</AdaptationSet></Period></MPD>"
    )
    sent = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        head = await reader.readuntil(b"\r\n\r\n")
        is_manifest = b"bytes=" not in head
        media_type = b"application/dash+xml" if is_manifest else b"video/mp4"
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: %b\r\n\r\n" % media_type)
        with contextlib.suppress(ConnectionError):
            while not is_manifest:
                writer.write(bytes(100_000))
                await writer.drain()
                sent += 100_000
        if is_manifest:
            writer.write(manifest.encode())
        writer.close()

    report = await judged(answer, "itself.mpd")
    assert sent < 64 << 20
    assert any("which can't be a segment" in finding for finding in report.findings) is not found


@pytest.mark.clause("CWE-770")
async def test_of_a_server_that_ignores_ranges_no_whole_films_are_read() -> None:
    sent = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        head = await reader.readuntil(b"\r\n\r\n")
        size = 4 << 30
        writer.write(b'HTTP/1.0 200 OK\r\nContent-Length: %d\r\nETag: "film"\r\n\r\n' % size)
        with contextlib.suppress(ConnectionError):
            while not head.startswith(b"HEAD"):
                writer.write(bytes(100_000))
                await writer.drain()
                sent += 100_000
        writer.close()

    report = await judged(answer, "film.mp4")
    # What lies in the buffers of four connections is sent, too.
    assert sent < 64 << 20
    assert {finding.partition(": ")[2][:36] for finding in report.findings} >= {
        "answers a range with 200 (RFC 9110 §",
        "a suffix range isn't answered (RFC 9",
        "If-None-Match gives 200 (RFC 9110 §1",
    }


def test_an_endless_stream_is_not_judged(server: ServerProcess) -> None:
    address = f"{server.url}/radio/demo.mp3"
    wait_for(lambda: httpx.head(address, timeout=CLIENT_SECONDS).status_code == 200, "the station")
    result = run_headwater("check", address)
    assert result.returncode == 1
    assert "only playlists and files can be judged" in result.stderr


@pytest.mark.parametrize(
    ("durations", "problems"),
    [
        ((1.0, 1.0, 0.3), 0),  # the last of a segment may be short
        ((1.0, 0.8, 1.0), 1),
        ((1.0, 1.1, 1.0), 1),
        ((0.85, 0.85, 1.0), 0),
    ],
)
def test_parts_are_held_against_their_target(durations: tuple[float, ...], problems: int) -> None:
    # RFC 8216bis §4.4.4.9: at least 85 % of the part target, unless last of the segment.
    lines = ["#EXTM3U", "#EXT-X-PART-INF:PART-TARGET=1.0"]
    lines += [
        f'#EXT-X-PART:DURATION={duration},URI="{index}.m4s"' for index, duration in enumerate(durations)
    ]
    text = "\n".join([*lines, f"#EXTINF:{sum(durations)},", "0.m4s", ""])
    assert len(list(part_problems(m3u8.loads(text)))) == problems


LOW_LATENCY = """#EXTM3U
#EXT-X-TARGETDURATION:2
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.0,HOLD-BACK=6.0,PART-HOLD-BACK=3.0
#EXT-X-PART-INF:PART-TARGET=1.0
#EXT-X-MEDIA-SEQUENCE:7
#EXT-X-PROGRAM-DATE-TIME:2026-11-20T12:00:00.000Z
#EXT-X-PART:DURATION=1.0,URI="7.0.m4s",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.9,URI="7.1.m4s"
#EXTINF:1.9,
7.m4s
#EXT-X-PART:DURATION=0.5,URI="8.0.m4s",INDEPENDENT=YES
#EXT-X-PART:DURATION=1.0,URI="8.1.m4s"
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="8.2.m4s"
"""


def test_a_playlist_of_low_latency_that_holds_has_no_problems() -> None:
    playlist = m3u8.loads(LOW_LATENCY)
    assert not [*control_problems(playlist), *part_problems(playlist)]
    assert progress(playlist) == (8, 2)


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("HOLD-BACK=6.0", "HOLD-BACK=5.0", "HOLD-BACK is 5.0, less than three target durations"),
        ("CAN-SKIP-UNTIL=12.0", "CAN-SKIP-UNTIL=11", "CAN-SKIP-UNTIL is 11.0, less than six"),
        (",PART-HOLD-BACK=3.0", "", "has no PART-HOLD-BACK"),
        ("PART-HOLD-BACK=3.0", "PART-HOLD-BACK=1.5", "PART-HOLD-BACK is 1.5, less than two part targets"),
        ("#EXT-X-PART-INF:PART-TARGET=1.0\n", "", "has parts, but no EXT-X-PART-INF"),
        ('#EXT-X-PRELOAD-HINT:TYPE=PART,URI="8.2.m4s"\n', "", "no EXT-X-PRELOAD-HINT"),
        ('URI="8.2.m4s"\n', 'URI="8.2.m4s"\n#EXT-X-ENDLIST\n', "EXT-X-ENDLIST and EXT-X-PRELOAD-HINT"),
        ("#EXT-X-PROGRAM-DATE-TIME:2026-11-20T12:00:00.000Z\n", "", "no EXT-X-PROGRAM-DATE-TIME"),
        ("#EXTINF:1.9", "#EXTINF:2.1", "the parts of 7.m4s last 1.900 s, it 2.100 s"),
        ("DURATION=0.5,URI", "DURATION=1.5,URI", "a part of 1.5 s is above PART-TARGET 1.0"),
        ('URI="8.0.m4s",INDEPENDENT=YES', 'URI="8.0.m4s"', "a part of 0.5 s is below 85 %"),
    ],
)
def test_what_a_playlist_of_low_latency_breaks_is_told(right: str, wrong: str, words: str) -> None:
    assert right in LOW_LATENCY
    playlist = m3u8.loads(LOW_LATENCY.replace(right, wrong, 1))
    (problem,) = [*control_problems(playlist), *part_problems(playlist)]
    assert words in problem
    assert "(RFC 8216bis " in problem


def test_a_report_has_no_secret_of_the_address_that_is_judged(careless_server: str) -> None:
    """Reports are kept by CI, where others read them."""
    place = careless_server.removeprefix("http://")
    result = run_headwater("check", f"http://user:c4nary1x@{place}/a.m3u8?token=c4nary2x&mode=1")
    assert result.returncode == 1
    assert "a.m3u8" in result.stdout + result.stderr
    refused = run_headwater("check", "http://user:c4nary3x@127.0.0.1:1/a.m3u8?key=c4nary4x")
    assert refused.returncode != 0
    assert "c4nary" not in result.stdout + result.stderr + refused.stdout + refused.stderr


def test_a_certificate_that_nobody_trusts_is_told_with_what_trusts_it(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(bytes(100))
    made = certificates.self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.chain, made.key)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"https://127.0.0.1:{server.server_address[1]}/film.mp4"
        refused = run_headwater("check", url)
        trusted = run_headwater("check", url, env={"SSL_CERT_FILE": str(made.chain)})
        server.shutdown()
        thread.join()
    assert refused.returncode == 1
    assert "its certificate isn't trusted" in refused.stderr
    assert "SSL_CERT_FILE names a file" in refused.stderr
    assert "certificate" not in trusted.stdout + trusted.stderr
