"""VOD over HTTP, from a real server: players read it to its end, and errors are answers."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import m3u8
import pytest
from starlette.applications import Starlette

from media.mp4.boxes import box
from origin.answers.asgi import handler_routes
from origin.files.handler import FileHandler, file_routes
from origin.vod.handler import VodHandler
from packager.library.local_storage import Library
from packager.vod import Titles, titles
from packager.vod.limits import TitleLimits
from tests.conformance.conftest import serving
from tests.descriptors import open_files
from tests.origin.vod.conftest import vod_application
from tests.packager import crafted, films
from tests.packager.films import packets, probe
from tests.packager.vod.vod_titles import awaiting_indexes, indexing_others
from tests.patience import CLIENT_SECONDS
from tests.waiting import until, wait_for

LONG_AGO = (1_700_000_000, 1_700_000_000)
NAMES = ("bframes.mp4", "moovlast.mp4", "silent.mp4", "sound.m4a", "fragmented.mp4", "raw.mov")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("library")
    for name in NAMES:
        (root / name).write_bytes(films.film(name).read_bytes())
    (root / "shows").mkdir()
    for height, source in ((360, "silent.mp4"), (720, "bframes.mp4")):
        (root / "shows" / f"pilot #1.{height}p.mp4").write_bytes(films.film(source).read_bytes())
    (root / "broken.mp4").write_bytes(box(b"ftyp", b"isom") + box(b"moov", b"\xff" * 20))
    whole = films.film("bframes.mp4").read_bytes()
    (root / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    crafted.write(root / "bomb.mp4", crafted.bomb())
    for path in root.rglob("*.*"):
        os.utime(path, LONG_AGO)
    return root


@pytest.fixture(scope="module")
def url(library: Path) -> Iterator[str]:
    app = vod_application(Titles(Library(library)), 600)
    with serving(app, library, "uvloop") as running:
        yield f"http://127.0.0.1:{running.address[1]}/vod"


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url + "/", timeout=CLIENT_SECONDS) as client:
        yield client


@pytest.mark.parametrize(("name", "streams"), [
    ("bframes.mp4", {"v:0": "v:0", "a:0": "a:0"}),
    ("moovlast.mp4", {"v:0": "v:0", "a:0": "a:0"}),
    ("silent.mp4", {"v:0": "v:0"}),
    ("sound.m4a", {"a:0": "a:0"}),
])  # fmt: skip
def test_a_player_finds_every_packet_of_the_file(
    url: str, library: Path, name: str, streams: dict[str, str]
) -> None:
    for ours, theirs in streams.items():
        played = packets(f"{url}/{name}/master.m3u8", ours)
        source = packets(library / name, theirs)
        assert [packet.digest for packet in played] == [packet.digest for packet in source]
        for one, other in zip(played, source, strict=True):
            assert one.pts == pytest.approx(other.pts, abs=2e-6)


def test_a_dash_player_finds_every_packet_of_the_file(url: str, library: Path) -> None:
    for name, stream in (("bframes.mp4", "v:0"), ("bframes.mp4", "a:0"), ("sound.m4a", "a:0")):
        played = packets(f"{url}/{name}/manifest.mpd", stream)
        source = packets(library / name, stream)
        assert [packet.digest for packet in played] == [packet.digest for packet in source]


def test_a_title_has_one_manifest_of_all_its_renditions(url: str) -> None:
    streams = probe(f"{url}/shows/pilot%20%231/manifest.mpd", "-show_streams")["streams"]
    # Behind the two pictures come the I-frames of each, for seeking; ffmpeg doesn't know these apart.
    assert [stream["codec_type"] for stream in streams] == [*["video"] * 4, "audio"]


def test_a_title_plays_each_of_its_renditions(url: str, library: Path) -> None:
    master = f"{url}/shows/pilot%20%231/master.m3u8"
    assert len(probe(master, "-show_programs")["programs"]) == 2
    for index, height in enumerate((360, 720)):
        played = packets(master, f"v:{index}")
        source = packets(library / "shows" / f"pilot #1.{height}p.mp4", "v:0")
        assert [packet.digest for packet in played] == [packet.digest for packet in source]


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("bframes.mp4/master.m3u8", "application/vnd.apple.mpegurl"),
        ("bframes.mp4/video/media.m3u8", "application/vnd.apple.mpegurl"),
        ("bframes.mp4/manifest.mpd", "application/dash+xml"),
        ("bframes.mp4/video/init.mp4", "video/mp4"),
        ("bframes.mp4/video/0.m4s", "video/mp4"),
        ("bframes.mp4/video/iframes.m3u8", "application/vnd.apple.mpegurl"),
        ("bframes.mp4/video/iframes.mp4", "video/mp4"),
        ("bframes.mp4/audio/init.mp4", "audio/mp4"),
        ("bframes.mp4/audio/2.m4s", "audio/mp4"),
    ],
)
def test_everything_has_its_type_a_strong_tag_and_a_time_to_keep(
    client: httpx.Client, path: str, media_type: str
) -> None:
    plain = {"accept-encoding": "identity"}
    answer = client.get(path, headers=plain)
    assert answer.status_code == 200
    assert "content-encoding" not in answer.headers
    assert answer.headers["content-type"] == media_type
    seconds = 60 if path.endswith((".m3u8", ".mpd")) else 600
    assert answer.headers["cache-control"] == f"public, max-age={seconds}"
    assert answer.headers["etag"].startswith('"')
    head = client.head(path, headers=plain)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(answer.content))
    again = client.get(path, headers={**plain, "if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["master.m3u8", "video/media.m3u8", "manifest.mpd", "video/0.m4s"])
def test_texts_are_compressed_for_whoever_takes_that_and_media_are_not(
    client: httpx.Client, path: str
) -> None:
    path = f"bframes.mp4/{path}"
    plain = client.get(path, headers={"accept-encoding": "identity"})
    with client.stream("GET", path, headers={"accept-encoding": "br;q=1, gzip"}) as coded:
        sent = b"".join(coded.iter_raw())
    assert coded.headers["content-length"] == str(len(sent))
    if path.endswith(".m4s"):
        assert "vary" not in coded.headers
        assert sent == plain.content
        return
    assert plain.headers["vary"] == coded.headers["vary"] == "Accept-Encoding"
    assert coded.headers["content-encoding"] == "gzip"
    assert gzip.decompress(sent) == plain.content
    # RFC 9110 §8.8.3.3: each has its own tag, by which it is known again.
    tags = [plain.headers["etag"], coded.headers["etag"]]
    assert len(set(tags)) == 2
    for tag, coding in zip(tags, ("identity", "gzip"), strict=True):
        known = client.get(path, headers={"accept-encoding": coding, "if-none-match": tag})
        assert (known.status_code, known.content) == (304, b"")


def test_each_segment_has_a_tag_of_its_own(client: httpx.Client) -> None:
    paths = [f"{name}/{track}/{number}.m4s" for name in ("bframes.mp4", "moovlast.mp4")
             for track in ("video", "audio") for number in (0, 1)]  # fmt: skip
    assert len({client.head(path).headers["etag"] for path in paths}) == len(paths)


def test_ranges_of_a_segment_are_answered(client: httpx.Client) -> None:
    whole = client.get("bframes.mp4/video/0.m4s").content
    part = client.get("bframes.mp4/video/0.m4s", headers={"range": "bytes=100-4099"})
    assert part.status_code == 206
    assert part.headers["content-range"] == f"bytes 100-4099/{len(whole)}"
    assert part.content == whole[100:4100]


@pytest.mark.parametrize(
    "path",
    [
        "absent.mp4/master.m3u8",
        "absent/master.m3u8",
        "%2e%2e/library/bframes.mp4/master.m3u8",
        "bframes.mp4/subtitles/media.m3u8",
        "bframes.mp4/video/99.m4s",
        "bframes.mp4/video/-1.m4s",
        "bframes.mp4/video/00.m4s",
        "bframes.mp4/video/" + "9" * 5000 + ".m4s",
        "bframes.mp4/video/%D9%A3.m4s",
        "silent.mp4/audio/0.m4s",
        "bframes.mp4/nothing",
    ],
)
def test_what_is_not_there_is_not_found(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("raw.mov/master.m3u8", 415),
        ("raw.mov/video/0.m4s", 415),
        ("broken.mp4/master.m3u8", 422),
        ("broken.mp4/manifest.mpd", 422),
        ("cut.mp4/master.m3u8", 422),
        ("cut.mp4/manifest.mpd", 422),
        ("cut.mp4/video/2.m4s", 422),
        ("bomb.mp4/master.m3u8", 422),
        ("bomb.mp4/manifest.mpd", 422),
    ],
)
def test_what_can_not_be_packaged_is_refused_with_the_reason_in_a_line(
    client: httpx.Client, path: str, status: int
) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.count("\n") == 1
    assert "can't be packaged" in answer.text


def test_other_methods_are_refused_with_those_that_are_allowed(client: httpx.Client) -> None:
    answer = client.post("bframes.mp4/master.m3u8")
    assert answer.status_code == 405
    assert {method.strip() for method in answer.headers["allow"].split(",")} == {"GET", "HEAD"}


def test_many_players_at_once_get_the_same_bytes(url: str) -> None:
    text = httpx.get(f"{url}/moovlast.mp4/video/media.m3u8", timeout=CLIENT_SECONDS).text
    names = [segment.uri for segment in m3u8.loads(text).segments] * 20
    player = httpx.Client(base_url=f"{url}/moovlast.mp4/video/", timeout=CLIENT_SECONDS)
    with player as client, ThreadPoolExecutor(8) as executor:
        bodies = list(executor.map(lambda name: client.get(name).content, names))
    digests = {(name, hashlib.sha256(body).digest()) for name, body in zip(names, bodies, strict=True)}
    assert len(digests) == len(set(names))


def test_a_player_that_goes_away_leaves_no_open_file(url: str, library: Path) -> None:
    def opened() -> int:
        return sum(path.startswith(str(library)) for path in open_files())

    for _ in range(20):
        with httpx.stream("GET", f"{url}/bframes.mp4/video/0.m4s", timeout=CLIENT_SECONDS) as answer:
            next(answer.iter_raw(1000))
    wait_for(lambda: opened() == 0, what="the files' end")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("bframes.mp4/master.m3u8", "multivariant_playlist"),
        ("bframes.mp4/video/media.m3u8", "media_playlist"),
        ("bframes.mp4/manifest.mpd", "manifest"),
        ("shows/pilot%20%231/master.m3u8", "multivariant_playlist"),
        ("shows/pilot%20%231/manifest.mpd", "manifest"),
    ],
)
def test_a_playlist_is_written_once_whatever_is_asked_beside_it(
    library: Path, monkeypatch: pytest.MonkeyPatch, path: str, name: str
) -> None:
    written: list[str] = []
    write = getattr(titles, name)

    def writing(*details: object) -> object:
        written.append(name)
        return write(*details)

    monkeypatch.setattr(titles, name, writing)
    app = vod_application(Titles(Library(library)), 600)
    with serving(app, library, "uvloop") as running:
        base = f"http://127.0.0.1:{running.address[1]}/vod/{path}"
        with httpx.Client(timeout=CLIENT_SECONDS) as client:
            bodies = {client.get(f"{base}?x={number}&token={number}").content for number in range(50)}
            assert bodies == {client.get(base).content}
    assert len(written) == 1


def test_a_playlist_is_written_anew_where_its_file_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(films.film("silent.mp4").read_bytes())
    own = Titles(Library(tmp_path))
    first = own.multivariant_playlist("film.mp4")
    assert own.multivariant_playlist("film.mp4") == first
    other = tmp_path / "other"
    other.write_bytes(films.film("bframes.mp4").read_bytes())
    other.rename(path)
    assert own.multivariant_playlist("film.mp4") != first


def test_written_playlists_are_kept_within_a_bound(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(films.film("bframes.mp4").read_bytes())
    own = Titles(Library(tmp_path), TitleLimits(text_bytes=10))
    assert own.multivariant_playlist("film.mp4") == own.multivariant_playlist("film.mp4")
    assert own._written.nbytes == 0
    own = Titles(Library(tmp_path), TitleLimits(texts=2))
    for _ in range(2):
        own.manifest("film.mp4")
        own.multivariant_playlist("film.mp4")
        own.media_playlist("film.mp4", "video")
        assert len(own._written) == 2


async def test_a_text_that_many_ask_for_at_once_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "film.mp4").write_bytes(films.film("bframes.mp4").read_bytes())
    own = Titles(Library(tmp_path))
    write, written = getattr(titles, "media_playlist"), list[str]()  # noqa: B009  # not its own name there
    began, may_end = threading.Event(), threading.Event()

    def writing(*details: Any) -> Any:
        written.append("once")
        began.set()
        assert may_end.wait(CLIENT_SECONDS)
        return write(*details)

    monkeypatch.setattr(titles, "media_playlist", writing)
    first = own.threads.submit(own.media_playlist, "film.mp4", "video")
    await until(began.is_set)
    others = [own.threads.submit(own.media_playlist, "film.mp4", "video") for _ in range(7)]
    may_end.set()
    assert len(set(await asyncio.gather(first, *others))) == 1
    assert written == ["once"]
    assert own._written.being_made == 0


def test_films_that_wait_to_be_indexed_keep_no_file_from_being_served(tmp_path: Path) -> None:
    """However many are asked for at once: they wait in the event loop, and no thread is taken."""
    data = films.film("bframes.mp4").read_bytes()
    for number in range(50):
        (tmp_path / f"{number}.mp4").write_bytes(data)
    own = Titles(Library(tmp_path))
    app = Starlette(
        routes=[
            *file_routes(FileHandler(Library(tmp_path))),
            *handler_routes(VodHandler(own), ["/vod/{path:path}"]),
        ]
    )
    with serving(app, tmp_path, "uvloop") as running, ThreadPoolExecutor(50) as players:
        base = f"http://127.0.0.1:{running.address[1]}"
        with httpx.Client(base_url=base, timeout=CLIENT_SECONDS) as client:

            def play(number: int) -> int:
                return httpx.get(f"{base}/vod/{number}.mp4/master.m3u8", timeout=CLIENT_SECONDS).status_code

            with indexing_others(own):
                waiting = [players.submit(play, number) for number in range(50)]
                wait_for(lambda: awaiting_indexes(own) == 50, "all films to wait")
                assert client.get("/media/7.mp4").content == data
                assert not any(one.done() for one in waiting)
            assert {one.result(CLIENT_SECONDS) for one in waiting} == {200}
