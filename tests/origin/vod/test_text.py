"""Subtitles and chapters over HTTP: types, tags, and files beside a film that come, change and go."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from packager.library.local_storage import Library
from packager.vod import Titles
from tests.conformance.conftest import serving
from tests.origin.vod.conftest import vod_application
from tests.packager import films
from tests.patience import CLIENT_SECONDS

SRT = "1\n00:00:01,000 --> 00:00:08,000\nHello\n"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    (tmp_path / "film.mp4").write_bytes(films.film("bframes.mp4").read_bytes())
    (tmp_path / "film.de.srt").write_text(SRT)
    app = vod_application(Titles(Library(tmp_path)), 600)
    with (
        serving(app, tmp_path, "uvloop") as running,
        httpx.Client(
            base_url=f"http://127.0.0.1:{running.address[1]}/vod/", timeout=CLIENT_SECONDS
        ) as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("address", "media_type", "begin"),
    [
        ("subtitles/de/media.m3u8", "application/vnd.apple.mpegurl", b"#EXTM3U"),
        (
            "subtitles/de/0.vtt",
            "text/vtt",
            b"WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:0\n\n00:00:01",
        ),
        ("subtitles/de.vtt", "text/vtt", b"WEBVTT\n\n00:00:01.000 --> 00:00:08.000\nHello\n"),
        ("subtitles/de/init.mp4", "application/mp4", b"\0\0\0"),
        ("subtitles/de/1.m4s", "application/mp4", b"\0\0\0"),
    ],
)
def test_text_is_served_with_its_type_and_a_tag(
    client: httpx.Client, address: str, media_type: str, begin: bytes
) -> None:
    answer = client.get(f"film.mp4/{address}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert answer.content.startswith(begin)
    seconds = 60 if address.endswith(".m3u8") else 600
    assert answer.headers["cache-control"] == f"public, max-age={seconds}"
    again = client.get(f"film.mp4/{address}", headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == 304


def test_a_segment_of_text_is_compressed_for_who_takes_that(client: httpx.Client) -> None:
    answer = client.get("film.mp4/subtitles/de/media.m3u8", headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    with client.stream("GET", "film.mp4/subtitles/de.vtt", headers={"accept-encoding": "gzip"}) as raw:
        data = b"".join(raw.iter_raw())
    assert b"Hello" in (gzip.decompress(data) if raw.headers.get("content-encoding") == "gzip" else data)


@pytest.mark.parametrize(
    "address",
    [
        *("subtitles/fr/media.m3u8", "subtitles/fr/0.vtt", "subtitles/de/99.vtt", "subtitles/de/-1.vtt"),
        *("subtitles/de/01.vtt", "subtitles/de/0-2-1.vtt", "subtitles/de/99.m4s", "subtitles/fr/init.mp4"),
        *("subtitles/fr.vtt", "chapters.json", "subtitles/..%2Ffilm/0.vtt"),
    ],
)
def test_text_that_is_not_there_is_not_found(client: httpx.Client, address: str) -> None:
    assert client.get(f"film.mp4/{address}").status_code == 404


def test_a_broken_file_beside_a_film_breaks_nothing_of_it(client: httpx.Client, tmp_path: Path) -> None:
    before = client.get("film.mp4/master.m3u8")
    assert 'URI="subtitles/de/media.m3u8"' in before.text
    (tmp_path / "film.de.srt").write_bytes(b"\xff\xfe\0" * 1000)
    after = client.get("film.mp4/master.m3u8")
    assert after.status_code == 200
    assert after.headers["etag"] != before.headers["etag"]
    assert "SUBTITLES" not in after.text
    assert "# Left out: film.de.srt: there is no cue in the file" in after.text
    assert client.get("film.mp4/manifest.mpd").status_code == 200
    assert client.get("film.mp4/video/0.m4s").status_code == 200
    assert client.get("film.mp4/subtitles/de/0.vtt").status_code == 404
    (tmp_path / "film.de.srt").write_text(SRT.replace("Hello", "Good bye"))
    assert "Good bye" in client.get("film.mp4/subtitles/de/0.vtt").text
