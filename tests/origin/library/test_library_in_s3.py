"""A library in S3 is answered as the same files in a folder are, address by address."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from packager.library.storage_interface import SETTLED_AFTER
from tests.conftest import ServerProcess, start_server
from tests.origin.vod.conftest import put
from tests.packager import films
from tests.s3_server import SECRET, S3Server
from tests.waiting import wait_for

SUBTITLES = "1\n00:00:01,000 --> 00:00:03,000\nGuten Tag, ä ö ü\n"
IN_FOLDERS = (
    "season/Subs/one.de.srt",
    "season/Subs/two/2_English.srt",
    "season/Subs/French.srt",
    "alone/SUBS/French.srt",
    "alone/subtitles/3_Spanish.srt",
    "alone/Movie.srt",
    "alone/film.idx",
)
"""Files of subtitles that are found by the folder in which they are."""
OURS = ("date", "etag")
"""Fields whose values are the object's own, or the moment's."""


@dataclass
class Both:
    """Two servers with the same files: one has them in a folder, one in S3."""

    local: ServerProcess
    s3: ServerProcess

    def ask(self, method: str, path: str, **headers: str) -> tuple[httpx.Response, httpx.Response]:
        with httpx.Client(timeout=60) as client:
            return (
                client.request(method, f"{self.local.url}{path}", headers=headers),
                client.request(method, f"{self.s3.url}{path}", headers=headers),
            )


@pytest.fixture(scope="module")
def both(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("library")
    (folder / "sub dir").mkdir()
    for name, film in {
        "bframes.mp4": "bframes.mp4",
        "moovlast.mp4": "moovlast.mp4",
        "title.720p.mp4": "bframes.mp4",
        "title.360p.mp4": "silent.mp4",
        "sub dir/100% ü+&'[x].m4a": "sound.m4a",
        "sub dir/fragmented.mp4": "fragmented.mp4",
        "surround.mp4": "ac3.mp4",
    }.items():
        put(folder / name, films.film(film).read_bytes())
    put(folder / "bframes.de.srt", SUBTITLES.encode())
    for name in ("season/one.mp4", "season/two.mp4", "alone/film.mp4"):
        (folder / name).parent.mkdir(exist_ok=True)
        put(folder / name, films.film("silent.mp4").read_bytes())
    for name in IN_FOLDERS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        put(folder / name, SUBTITLES.encode())
    put(folder / "empty.mp4", b"")
    put(folder / "notes.txt", b"just text")
    put(folder / "headwater.toml", b"secret")
    address = s3_server.put_folder(folder, "table/library")
    for stored in s3_server.store("table/library").list().collect():
        changed = stored["last_modified"].timestamp()
        os.utime(folder / stored["path"], (changed, changed))
    # Entity-tags of files that have just changed are weak, of objects they never are.
    wait_for(lambda: time.time() > changed + 2 * SETTLED_AFTER, "the files are settled")
    with contextlib.ExitStack() as servers:
        found = []
        for library in (str(folder), address):
            server = start_server("--library", library, "--port", "0", env=s3_server.environment())
            servers.callback(server.stop)
            found.append(server)
        yield Both(*found)
        assert "Traceback" not in found[1].text()
        assert SECRET not in found[1].text()


FILES = (
    "bframes.mp4",
    "empty.mp4",
    "notes.txt",
    "sub%20dir/100%25%20%C3%BC+&'%5Bx%5D.m4a",
    "nowhere.mp4",
    "headwater.toml",
    "sub%20dir",
    "sub%20dir/../bframes.mp4",
    "sub%20dir/%2e%2e/bframes.mp4",
    "a//b.mp4",
    "%01.mp4",
    "%ff.mp4",
    "x" * 1100 + ".mp4",
)
RANGES = (
    "",
    "bytes=0-0",
    "bytes=100-199",
    "bytes=-7",
    "bytes=5-",
    "bytes=0-1,5-9",
    "bytes=99999999-",
    "lines=1-2",
)


@pytest.mark.parametrize(
    ("film", "languages", "unused"),
    [
        ("season/one.mp4", {"de"}, set()),
        ("season/two.mp4", {"en"}, set()),
        ("alone/film.mp4", {"fr", "es"}, {"Movie.srt", "film.idx"}),
    ],
)
def test_subtitles_in_folders_beside_a_film_are_offered(
    both: Both, film: str, languages: set[str], unused: set[str]
) -> None:
    def described() -> list[dict[str, Any]]:
        found = [one.json()[0] for one in both.ask("GET", f"/api/item/library/{film}")]
        return found if all(one.get("subtitles") for one in found) else []

    for answer in wait_for(described, "the facts of the film"):
        assert {one["language"] for one in answer["subtitles"]} == languages
        assert {one["file"] for one in answer.get("unused", [])} == unused


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", FILES, ids=lambda name: name[:20])
def test_a_file_is_answered_alike(both: Both, method: str, name: str) -> None:
    for span in RANGES:
        local, s3 = both.ask(method, f"/media/{name}", **({"range": span} if span else {}))
        assert (s3.status_code, _body(s3)) == (local.status_code, _body(local)), span
        assert _fields(s3) == _fields(local), span


def test_conditions_are_decided_by_the_objects_own_validators(both: Both) -> None:
    _, plain = both.ask("GET", "/media/bframes.mp4")
    etag, modified = plain.headers["etag"], plain.headers["last-modified"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', etag)  # SeaweedFS's, as S3's: the MD5 of the object
    expected: dict[tuple[tuple[str, str], ...], int] = {
        (("if-none-match", etag),): 304,
        (("if-modified-since", modified),): 304,
        (("if-match", '"other"'),): 412,
        (("range", "bytes=0-9"), ("if-range", etag)): 206,
        (("range", "bytes=0-9"), ("if-range", '"other"')): 200,
    }
    for fields, status in expected.items():
        _, s3 = both.ask("GET", "/media/bframes.mp4", **dict(fields))
        assert s3.status_code == status, fields


def _addresses() -> Iterator[str]:
    for film in (
        "bframes.mp4",
        "moovlast.mp4",
        "title",
        "sub%20dir/fragmented.mp4",
        "nowhere.mp4",
        "notitle",
    ):
        yield f"/vod/{film}/master.m3u8"
        yield f"/vod/{film}/manifest.mpd"
        yield f"/vod/{film}/master.m3u8?start=2&end=5"
    for film in ("bframes.mp4", "moovlast.mp4", "title.360p.mp4"):
        for track in ("video", "audio", "none"):
            yield from (
                f"/vod/{film}/{track}/{name}"
                for name in ("media.m3u8", "init.mp4", "0.m4s", "1.m4s", "99.m4s")
            )
        yield f"/vod/{film}/video/iframes.m3u8"
        yield f"/vod/{film}/video/iframes.mp4"
    yield "/vod/bframes.mp4/subtitles/de.vtt"
    yield "/vod/bframes.mp4/subtitles/de/media.m3u8"
    yield "/vod/bframes.mp4/subtitles/de/0.vtt"
    yield "/vod/bframes.mp4/subtitles/de/0.m4s"
    yield "/vod/bframes.mp4/chapters.json"
    yield "/vod/bframes.mp4/thumbnails.vtt"
    yield "/vod/bframes.mp4/thumbnails.m3u8"


@pytest.mark.parametrize("address", [*_addresses()])
def test_vod_is_answered_alike(both: Both, address: str) -> None:
    local, s3 = both.ask("GET", address)
    assert (s3.status_code, _body(s3)) == (local.status_code, _body(local))
    assert _fields(s3) == _fields(local)
    if local.status_code == 200 and address.endswith(".m4s"):
        local, s3 = both.ask("GET", address, range="bytes=10-99")
        assert s3.status_code == 206
        assert s3.content == local.content


def test_a_storyboards_pictures_are_made_of_what_is_read_by_range(both: Both) -> None:
    local, s3 = both.ask("GET", "/vod/bframes.mp4/thumbnails/0.jpg")
    assert s3.status_code == local.status_code == 200
    assert s3.content == local.content


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?search=title",
        "?folder=sub%20dir",
        "?folder=season",
        "?folder=alone",
        "?sort=size&order=desc",
        "?limit=2",
    ],
)
def test_the_list_of_the_library_is_the_same(both: Both, query: str) -> None:
    def lists() -> list[Any]:
        found = []
        for response in both.ask("GET", f"/api/library{query}"):
            assert response.status_code in (200, 400)
            found.append(
                _without_times(json.loads(response.content)) if response.status_code == 200 else response.text
            )
        return found

    def told() -> list[Any]:
        found = lists()
        # What isn't known yet of a file comes with a later list.
        return found if found[0] == found[1] else []

    assert wait_for(told, "the same list")


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(one) for key, one in value.items() if key not in ("modified", "version")}
    return [_without_times(one) for one in value] if isinstance(value, list) else value


def _body(response: httpx.Response) -> bytes:
    """Give the body; the boundary of several ranges is random."""
    boundary = re.search(r"boundary=(\S+)", response.headers.get("content-type", ""))
    body = response.content
    return body if boundary is None else body.replace(boundary[1].encode(), b"BOUNDARY")


def _fields(response: httpx.Response) -> dict[str, str]:
    fields = {name: value for name, value in response.headers.items() if name not in OURS}
    if "boundary=" in fields.get("content-type", ""):
        fields["content-type"] = fields["content-type"].partition("boundary=")[0]
    return fields


def test_an_encoded_segment_is_stored_in_the_bucket_and_has_no_other_address(
    both: Both, s3_server: S3Server
) -> None:
    store = s3_server.store("table/library")
    segment = httpx.get(f"{both.s3.url}/vod/surround.mp4/audio-aac/0.m4s", timeout=60)
    assert segment.status_code == 200

    def stored() -> str | None:
        names = [one["path"] for one in store.list(".encoded").collect()]
        return next((one for one in names if bytes(store.get(one).bytes()).endswith(segment.content)), None)

    name = wait_for(stored, "the segment's object")
    for path in (f"/media/{name}", f"/vod/{name}/master.m3u8", f"/vod/{name}/play.mp4"):
        assert httpx.get(f"{both.s3.url}{path}", timeout=60).status_code == 404
    for query in ("?search=segment", "?search=encoded", "?folder=.encoded"):
        assert ".encoded" not in httpx.get(f"{both.s3.url}/api/library{query}", timeout=60).text


@pytest.mark.promise("library.encoded_in_s3")
def test_no_encoded_segment_is_stored_where_the_configuration_says_so(
    s3_server: S3Server, tmp_path: Path
) -> None:
    (tmp_path / "library").mkdir()
    put(tmp_path / "library" / "surround.mp4", films.film("ac3.mp4").read_bytes())
    address = s3_server.put_folder(tmp_path / "library", "unchanged")
    (tmp_path / "headwater.toml").write_text(f'[library]\npath = "{address}"\nencoded_in_s3 = false\n')
    with start_server("--port", "0", cwd=tmp_path, env=s3_server.environment()) as server:
        for number in range(3):
            url = f"{server.url}/vod/surround.mp4/audio-aac/{number}.m4s"
            assert httpx.get(url, timeout=60).raise_for_status().content
    assert s3_server.store("unchanged").list(".encoded").collect() == []


def test_health_and_the_shown_configuration_say_nothing_secret(both: Both) -> None:
    health = httpx.get(f"{both.s3.url}/health").json()
    assert "troubles" not in health or "library" not in health["troubles"]
    assert os.environ.get("AWS_SECRET_ACCESS_KEY") is None
