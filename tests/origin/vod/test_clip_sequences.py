"""Playlists of several clips by a JSON file in the library, from a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from xml.etree import ElementTree

import httpx
import m3u8
import pytest

from media.subtitles.webvtt import CueReader
from packager.library.local_storage import Library
from packager.vod import Titles, titles
from packager.vod.clip_sequence import ClipSequence, make_sequence
from tests.conformance.conftest import serving
from tests.origin.vod.conftest import vod_application
from tests.packager import films
from tests.packager.films import packets
from tests.packager.vod.text.subtitled_films import CUES, srt
from tests.patience import CLIENT_SECONDS

MPD = "{urn:mpeg:dash:schema:mpd:2011}"
CLIPS = [
    {"path": "film.mp4", "start": 1, "end": 3.5},
    {"path": "more films/last.mp4", "start": "00:00:02"},
    {"path": "film.mp4", "end": "4"},
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("library") / "shows"
    (root / "more films").mkdir(parents=True)
    for name, source in (
        ("film.mp4", "bframes.mp4"),
        ("more films/last.mp4", "moovlast.mp4"),
        ("silent.mp4", "silent.mp4"),
        ("sound.m4a", "sound.m4a"),
        ("../secret.mp4", "bframes.mp4"),
    ):
        (root / name).write_bytes(films.film(source).read_bytes())
    (root / "evening.playlist.json").write_text(json.dumps({"clips": CLIPS}))
    return root


@pytest.fixture(scope="module")
def url(library: Path) -> Iterator[str]:
    app = vod_application(Titles(Library(library.parent)))
    with serving(app, library, "uvloop") as running:
        yield f"http://127.0.0.1:{running.address[1]}/vod/shows/"


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=CLIENT_SECONDS) as client:
        yield client


def ask(library: Path, client: httpx.Client, told: Any) -> httpx.Response:
    """Write a playlist of clips and ask for it."""
    data = told if isinstance(told, bytes) else json.dumps(told).encode()
    (library / "next").write_bytes(data)
    (library / "next").rename(library / "new.playlist.json")
    return client.get("new.playlist.json/master.m3u8")


def shown() -> list[str]:
    """Give the pictures that all clips show, in the order of decoding."""
    found: list[str] = []
    for name, start, end in (("bframes.mp4", 1, 3.5), ("moovlast.mp4", 2, 1e9), ("bframes.mp4", 0, 4)):
        source = packets(films.film(name), "v:0")
        first = max(packet.pts for packet in source if packet.pts <= start + 1e-6)
        found += [packet.digest for packet in source if first <= packet.pts < end - 1e-6]
    return found


@pytest.mark.promise("/vod/NAME.playlist.json/master.m3u8")
def test_the_clips_follow_each_other(url: str, client: httpx.Client) -> None:
    master = m3u8.loads(client.get("evening.playlist.json/master.m3u8").text)
    assert [one.uri for one in master.playlists] == ["video/media.m3u8"]
    # Among them are pictures that are only there to be decoded.
    found = iter(packets(f"{url}evening.playlist.json/master.m3u8", "v:0"))
    assert all(any(packet.digest == digest for packet in found) for digest in shown())
    for track in ("video", "audio"):
        playlist = m3u8.loads(client.get(f"evening.playlist.json/{track}/media.m3u8").text)
        breaks = [at for at, segment in enumerate(playlist.segments) if segment.discontinuity]
        assert len(breaks) == 2
        clips = pairwise([0, *breaks, len(playlist.segments)])
        lasts = [sum(one.duration for one in playlist.segments[begin:end]) for begin, end in clips]
        assert lasts == pytest.approx([2.5, 12, 4], abs=0.1)
        for segment in playlist.segments:
            for address in (segment.uri, segment.init_section.uri):
                assert client.get(f"evening.playlist.json/{track}/{address}").status_code == 200


@pytest.mark.promise("/vod/NAME.playlist.json/manifest.mpd")
def test_the_manifest_has_a_period_for_each(client: httpx.Client) -> None:
    answer = client.get("evening.playlist.json/manifest.mpd")
    assert answer.headers["content-type"] == "application/dash+xml"
    periods = ElementTree.fromstring(answer.content).findall(f"{MPD}Period")
    starts = [float(one.attrib["start"][2:-1]) for one in periods]
    assert starts == pytest.approx([0, 2.5, 14.5], abs=0.1)
    assert all(len(one.findall(f"{MPD}AdaptationSet")) == 2 for one in periods)
    names = [one.findtext(f".//{MPD}BaseURL", "").rpartition("v_")[0] for one in periods]
    assert names == ["0/video/", "1/video/", "2/video/"], "all of it is beneath the playlist"


def test_clips_have_their_part_of_the_films_subtitles_and_none_of_the_next_ones(
    library: Path, client: httpx.Client
) -> None:
    (library / "told.mp4").write_bytes(films.film("bframes.mp4").read_bytes())
    (library / "told.en.srt").write_text(srt())
    (library / "told.de.forced.srt").write_text(srt(CUES[1:2]))
    clips = [
        {"path": "told.mp4", "start": 0.5, "end": 6.2},
        {"path": "film.mp4", "start": 3, "end": 7},
        {"path": "told.mp4", "start": 5, "end": 12},
    ]
    master = m3u8.loads(ask(library, client, {"clips": clips}).text)
    listed = [one for one in master.media if one.type == "SUBTITLES"]
    assert {(one.language, one.forced) for one in listed} == {("en", None), ("de", "YES")}
    assert master.playlists[0].stream_info.subtitles == listed[0].group_id
    (english,) = [one for one in listed if one.language == "en"]
    place = f"new.playlist.json/{english.uri}"
    text = m3u8.loads(client.get(place).text)
    picture = m3u8.loads(client.get("new.playlist.json/video/media.m3u8").text)
    assert sum(one.duration for one in text.segments) == pytest.approx(
        sum(one.duration for one in picture.segments), abs=0.01
    )
    found: list[set[tuple[int, int]]] = []
    for segment in text.segments:
        if segment.discontinuity or not found:
            found.append(set())
        answer = client.get(urljoin(place, segment.uri))
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/vtt")
        reader = CueReader()
        reader.receive_data(b"WEBVTT\n" + answer.content.split(b"\n", 2)[2])
        reader.receive_eof()
        found[-1] |= {(cue.start, cue.end) for cue in reader.cues()}
    assert found == [
        {(1000, 2500), (5500, 6200)},
        set(),
        {(5500, 7250), (9000, 9040), (11000, 12000)},
    ]
    manifest = ElementTree.fromstring(client.get("new.playlist.json/manifest.mpd").content)
    sets = [
        sum(one.get("contentType") == "text" for one in period.iterfind(f"{MPD}AdaptationSet"))
        for period in manifest.iterfind(f"{MPD}Period")
    ]
    assert sets == [2, 0, 2]
    for name in ("9", "none", "en"):
        assert client.get(f"new.playlist.json/subtitles/{name}/media.m3u8").status_code == 404
    assert client.get("new.playlist.json/subtitles/en.vtt").status_code == 404
    assert client.get("gone.playlist.json/subtitles/none.vtt").status_code == 404


def test_each_period_begins_with_its_first_picture_where_the_one_before_ends(
    client: httpx.Client, tmp_path: Path
) -> None:
    manifest = client.get("evening.playlist.json/manifest.mpd")
    ends = 0.0
    for period in ElementTree.fromstring(manifest.content).iterfind(f"{MPD}Period"):
        start, lasts = (float(period.attrib[name][2:-1]) for name in ("start", "duration"))
        assert start == pytest.approx(ends, abs=1e-6)
        ends = start + lasts
        base = f"evening.playlist.json/{period.findtext(f'.//{MPD}BaseURL')}"
        (listed,) = period.findall(f"{MPD}AdaptationSet/{MPD}Representation")[0].iterfind(f"{MPD}SegmentList")
        (first, *_) = listed.iterfind(f"{MPD}SegmentURL")
        path = tmp_path / f"{start}.mp4"
        path.write_bytes(
            client.get(f"{base}init.mp4").content + client.get(base + first.attrib["media"]).content
        )
        # ISO/IEC 23009-1 §5.3.9.2: presentationTimeOffset is of the media what the period begins with
        offset = int(listed.get("presentationTimeOffset", "0")) / int(listed.attrib["timescale"])
        assert min(one.pts for one in packets(path, "v:0")) == pytest.approx(offset, abs=1e-3)


def of_film(**times: Any) -> dict[str, Any]:
    return {"clips": [{"path": "film.mp4", **times}]}


def of_paths(*paths: str) -> dict[str, Any]:
    return {"clips": [{"path": path} for path in paths]}


@pytest.mark.parametrize("told", [
    b"", b"[", b"[]", b"{}", b"nonsense", b"\xff", b"[" * 100_000, {"clips": []}, {"clips": {}},
    {"clips": [1]}, {"clips": [{}]}, {"clips": [{"path": 5}]}, {**of_film(), "more": 1}, of_film(x=1),
    of_film(end=True), of_film(start=float("nan")), of_film(start=-1), of_film(end=float("inf")),
    of_film(start=10**18), of_film(start=3, end=2), of_film(start=[1]),
    b'{"clips": [{"path": "film.mp4", "end": 1e400}]}',
    b'{"clips": [{"path": "film.mp4", "start": ' + b"9" * 9000 + b"}]}", of_paths("new.playlist.json"),
    of_paths("nowhere.mp4"), of_paths("../secret.mp4"), of_paths("/shows/film.mp4"), of_paths(""),
    of_paths("more films/../film.mp4"), of_paths("\ud800"), of_paths("\0"), of_paths("more films"),
    of_paths(*["film.mp4"] * 1001), of_paths(*map(str, range(65))),
    b'{"clips": [' + b" " * (300 << 10) + b"]}", of_paths("a/" * 60_000 + "film.mp4"),
], ids=range(36))  # fmt: skip
def test_what_is_no_playlist_of_clips_is_422_with_a_line(
    library: Path, client: httpx.Client, told: Any
) -> None:
    answer = ask(library, client, told)
    assert answer.status_code == 422
    assert answer.text.count("\n") <= 1
    assert len(answer.text) < 300


def test_clips_that_do_not_go_together_are_refused_by_name(library: Path, client: httpx.Client) -> None:
    for other, has in (("silent.mp4", "has video,"), ("sound.m4a", "has audio,")):
        answer = ask(library, client, of_paths("film.mp4", other))
        assert answer.status_code == 415
        assert f"clip 2, {other}, {has}" in answer.text


def test_clips_without_sound_and_of_sound_alone_are_played(library: Path, client: httpx.Client) -> None:
    for path, track, other in (("silent.mp4", "video", "audio"), ("sound.m4a", "audio", "video")):
        answer = ask(library, client, {"clips": [{"path": path, "end": 2}, {"path": path, "start": 5}]})
        (variant,) = m3u8.loads(answer.text).playlists
        assert variant.uri == f"{track}/media.m3u8"
        assert client.get(f"new.playlist.json/{track}/media.m3u8").status_code == 200
        assert client.get(f"new.playlist.json/{other}/media.m3u8").status_code == 404


def test_a_thousand_clips_of_a_film(library: Path, client: httpx.Client) -> None:
    clips = [{"path": "film.mp4", "start": n % 10, "end": n % 10 + 1} for n in range(1000)]
    answer = ask(library, client, {"clips": clips})
    assert answer.status_code == 200, answer.text
    playlist = m3u8.loads(client.get("new.playlist.json/video/media.m3u8").text)
    assert sum(segment.discontinuity for segment in playlist.segments) == 999
    assert sum(one.duration for one in playlist.segments) == pytest.approx(1000, abs=50)


def test_a_track_that_no_playlist_of_clips_has_is_not_looked_for_in_its_films(
    library: Path, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever thinks of ever new names would have all clips put together each time."""
    made = make_sequence
    calls: list[int] = []

    def counting(*details: Any) -> ClipSequence:
        calls.append(1)
        return made(*details)

    assert ask(library, client, {"clips": CLIPS}).status_code == 200
    assert client.get("new.playlist.json/manifest.mpd").status_code == 200
    monkeypatch.setattr(titles, "make_sequence", counting)
    for name in ("zzz", "master", "manifest", "0"):
        assert client.get(f"new.playlist.json/{name}/media.m3u8").status_code == 404
    assert calls == []
