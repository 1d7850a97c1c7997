"""Clips over HTTP: ``?start=`` and ``?end=`` on playlists and manifests, from a real server."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import m3u8
import pytest

from packager.library.local_storage import Library
from packager.vod import Titles
from tests.conformance.conftest import serving
from tests.origin.vod.conftest import vod_application
from tests.packager import films
from tests.packager.films import packets
from tests.patience import CLIENT_SECONDS

PLAYLISTS = ("master.m3u8", "manifest.mpd", "video/media.m3u8", "video/iframes.m3u8")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    library = tmp_path_factory.mktemp("library")
    (library / "film.mp4").write_bytes(films.film("bframes.mp4").read_bytes())
    app = vod_application(Titles(Library(library)))
    with serving(app, library, "uvloop") as running:
        yield f"http://127.0.0.1:{running.address[1]}/vod/film.mp4/"


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=CLIENT_SECONDS) as client:
        yield client


@pytest.mark.parametrize("playlist", ["master.m3u8", "manifest.mpd"])
def test_a_player_begins_at_the_start_and_ends_at_the_end(url: str, playlist: str) -> None:
    """ffmpeg's demuxers of HLS and DASH, which know nothing of any time but the segments'."""
    path = films.film("bframes.mp4")
    # 25 pictures a second: at 1.5 s that of 1.48 s is shown.
    wanted = [packet.digest for packet in packets(path, "v:0") if 1.48 - 1e-6 <= packet.pts < 3.5 - 1e-6]
    found = packets(f"{url}{playlist}?start=00:00:01.5&end=3.5", "v:0")
    shown = [packet for packet in found if packet.digest in wanted]
    assert sorted(packet.digest for packet in shown) == sorted(wanted)
    assert min(packet.pts for packet in shown) - min(packet.pts for packet in found) < 1 / 30
    assert max(packet.pts for packet in found) - max(packet.pts for packet in shown) < 1 / 30


def test_trimmed_segments_take_ranges_and_validators_and_have_tags_of_their_own(
    client: httpx.Client,
) -> None:
    text = client.get("video/media.m3u8?start=1.5&end=4").text
    first = m3u8.loads(text).segments[0].uri
    whole = client.get(f"video/{first}")
    assert whole.status_code == 200
    assert whole.headers["etag"] != client.get("video/0.m4s").headers["etag"]
    part = client.get(f"video/{first}", headers={"range": "bytes=10-99"})
    assert (part.status_code, part.content) == (206, whole.content[10:100])
    again = client.get(f"video/{first}", headers={"if-none-match": whole.headers["etag"]})
    assert again.status_code == 304


@pytest.mark.parametrize(
    "query",
    [
        "start=nan",
        "start=-1",
        "end=inf",
        "start=5&end=3",
        "start=1" + "0" * 18,
        "start=",
        "start=1&start=2",
        "start=%00",
        "start=%31%30%30%30%30",
        "end=%D9%A3",
        "start=1e400",
        f"start={'9' * 5000}",
        "end=0",
        "start=%ff",
        "start=1%0d%0aX:y",
    ],
)
@pytest.mark.parametrize("playlist", PLAYLISTS)
def test_what_is_no_clip_is_400_with_a_line(client: httpx.Client, playlist: str, query: str) -> None:
    answer = client.get(f"{playlist}?{query}")
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.count("\n") <= 1
    assert len(answer.text) < 200


@pytest.mark.parametrize("query", ["start=0", "x=1", "session=start%3D5", "Start=9", "end=99999", "&&=&"])
@pytest.mark.parametrize("playlist", PLAYLISTS)
def test_other_parameters_change_nothing_and_an_end_behind_the_films_is_the_films(
    client: httpx.Client, playlist: str, query: str
) -> None:
    answer = client.get(f"{playlist}?{query}")
    assert answer.status_code == 200
    if "end" not in query:
        assert answer.content == client.get(playlist).content
    else:
        assert answer.text.count(".m4s") == client.get(playlist).text.count(".m4s")


def test_encoded_timecodes_are_times(client: httpx.Client) -> None:
    told = client.get("master.m3u8?start=%30%3A01%2E5").text
    assert "video/media.m3u8?start=1.5\n" in told


@pytest.mark.parametrize(
    "name",
    [
        "0-0-0",
        "0-5",
        "0-5-3",
        "0--5",
        "00-1-2",
        "0-01-2",
        "0-999999999999999999-999999999999999999",
        "9-1-20000",
        "0-1-" + "9" * 40,
        "0-1-2-3",
        "0-a-b",
    ],
)
def test_trimmed_segments_that_are_none_are_not_there(client: httpx.Client, name: str) -> None:
    assert client.get(f"video/{name}.m4s").status_code == 404
    assert client.get(f"audio/{name}.m4s").status_code == 404


def test_the_i_frames_of_a_clip_are_byte_ranges_with_a_tag_of_their_own(client: httpx.Client) -> None:
    text = client.get("video/iframes.m3u8?start=1.5&end=4").text
    listed = m3u8.loads(text).segments
    (address,) = {segment.uri for segment in listed}
    whole = client.get(f"video/{address}")
    assert (whole.status_code, whole.headers["content-type"]) == (200, "video/mp4")
    assert whole.headers["etag"] != client.get("video/iframes.mp4").headers["etag"]
    other = m3u8.loads(client.get("video/iframes.m3u8?start=1&end=4").text).segments[0].uri
    assert client.get(f"video/{other}").headers["etag"] != whole.headers["etag"]
    for segment in listed:
        length, _, offset = segment.byterange.partition("@")
        behind = int(offset) + int(length)
        part = client.get(f"video/{address}", headers={"range": f"bytes={offset}-{behind - 1}"})
        assert (part.status_code, part.content) == (206, whole.content[int(offset) : behind])
    assert behind == len(whole.content)
    again = client.get(f"video/{address}", headers={"if-none-match": whole.headers["etag"]})
    assert again.status_code == 304


@pytest.mark.parametrize(
    "bounds",
    ["0-0", "5-3", "0-", "-5", "00-9", "1-2-3", "x", "0-999999999999999999", f"0-{'9' * 500}", "0-\u0663"],
)
@pytest.mark.parametrize("track", ["video", "audio", "nothing"])
def test_i_frames_of_no_clip_are_not_there(client: httpx.Client, track: str, bounds: str) -> None:
    assert client.get(f"{track}/iframes-{bounds}.mp4").status_code == 404
