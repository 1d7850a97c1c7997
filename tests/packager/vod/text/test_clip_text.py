"""Clips have the subtitles and chapters of their time, in HLS and DASH."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import m3u8
import pytest

from media.subtitles.webvtt import Cue, CueReader
from packager.library.local_storage import NotFoundError
from packager.vod.segments.clip import read_clip
from tests.packager.films import run_ffmpeg
from tests.packager.vod.text.subtitled_films import SECONDS, demuxed, make, srt, titles_of

FRAME_MS, KEY_FRAMES = 40, 50
"""Milliseconds of a picture, and pictures from one key frame to the next."""

MPD = "{urn:mpeg:dash:schema:mpd:2011}"


@pytest.fixture
def library(tmp_path: Path) -> Path:
    (tmp_path / "library").mkdir()
    return tmp_path / "library"


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
@pytest.mark.parametrize(("start", "end"), [(5.6, 11.5), (0, 6.52), (9.5, None), (1.04, 1.2)])
def test_a_clip_has_the_cues_of_its_time(
    library: Path, tmp_path: Path, start: float, end: float | None, ending: str
) -> None:
    (tmp_path / "a.srt").write_text(srt())
    film = make(library / f"film.{ending}", inputs=(str(tmp_path / "a.srt"),))
    titles, clip = titles_of(library), read_clip(str(start), None if end is None else str(end))
    begin, until = round(start * 1000), round((end or SECONDS) * 1000)
    (master,) = [
        one
        for one in m3u8.loads(titles.multivariant_playlist(film.name, clip)).media
        if one.type == "SUBTITLES"
    ]
    assert master.uri == f"subtitles/und/media.m3u8{clip.query}"
    playlist = m3u8.loads(titles.text_playlist(film.name, "und", clip).decode())
    picture = m3u8.loads(titles.media_playlist(film.name, "video", clip)).segments
    assert sum(one.duration for one in playlist.segments) == pytest.approx(
        sum(one.duration for one in picture), abs=0.03
    )
    found: dict[Cue, None] = {}
    for one in playlist.segments:
        number, earliest = map(int, one.uri.rpartition("/")[2].removesuffix(".vtt").split("-"))
        data = titles.texts.webvtt_segment(film.name, "und", number, earliest)
        reader = CueReader()
        reader.receive_data(b"WEBVTT\n" + data.split(b"\n", 2)[2])
        reader.receive_eof()
        found.update(dict.fromkeys(reader.cues()))
    expected = [(max(a, begin), b) for a, b in demuxed(film) if b > begin and a < until]
    shown = [cue for cue in found if cue.start < until]
    # A clip begins with the picture that is shown then, and lasts for whole ticks.
    assert [cue.end for cue in shown] == [b for _, b in expected]
    # Pictures that only others depend on are shown for a tick each, in Matroska a millisecond.
    early = FRAME_MS + KEY_FRAMES * (ending == "mkv")
    assert [cue.start for cue in shown] == pytest.approx([a for a, _ in expected], abs=early)

    root = ET.fromstring(titles.manifest(film.name, clip))
    (text,) = [one for one in root.iter(f"{MPD}AdaptationSet") if one.get("contentType") == "text"]
    template = text.find(f".//{MPD}SegmentTemplate")
    assert template is not None
    timeline = [
        int(one.get("d", "0")) for one in template.iter(f"{MPD}S") for _ in range(int(one.get("r", "0")) + 1)
    ]
    at, first = int(template.get("presentationTimeOffset", "0")), template.find(f".//{MPD}S")
    assert first is not None
    assert int(first.get("t", "0")) == at
    for number, lasts in enumerate(timeline, int(template.get("startNumber", "0"))):
        name = template.get("media", "").replace("$Number$", str(number)).removesuffix(".m4s")
        told, *bounds = map(int, name.split("-"))
        data = titles.texts.mp4_segment(film.name, "und", told, (bounds[0], bounds[1]))
        tfdt = data.index(b"tfdt")
        assert data[tfdt + 4] == 1  # §8.8.12: a time of 64 bits
        assert int.from_bytes(data[tfdt + 8 : tfdt + 16], "big") == at
        at += lasts


def test_text_of_a_clip_that_is_none_is_not_there(library: Path, tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text(srt())
    make(library / "film.mp4", inputs=(str(tmp_path / "a.srt"),))
    titles = titles_of(library)
    for number, begin in ((0, 10**18), (0, 10**4), (9999, 0)):
        with pytest.raises(NotFoundError):
            titles.texts.webvtt_segment("film.mp4", "und", number, begin)
    for number, bounds in ((0, (5, 3)), (1, (0, 5)), (0, (10**4, 10**18)), (9999, (0, 1))):
        with pytest.raises(NotFoundError):
            titles.texts.mp4_segment("film.mp4", "und", number, bounds)


def test_a_clip_has_its_chapters_by_its_own_time(library: Path, tmp_path: Path) -> None:
    parts = ((0, 4, "One"), (4, 9, "Two"), (9, 14, "Three"))
    lines = [f"[CHAPTER]\nTIMEBASE=1/1\nSTART={a}\nEND={b}\ntitle={title}\n" for a, b, title in parts]
    (tmp_path / "chapters.txt").write_text(";FFMETADATA1\n" + "".join(lines))
    make(library / "plain.mp4")
    words = ("-i", str(library / "plain.mp4"), "-i", str(tmp_path / "chapters.txt"))
    run_ffmpeg(*words, "-map", "0", "-map_chapters", "1", "-c", "copy", str(library / "film.mp4"))
    titles, clip = titles_of(library), read_clip("6", "11")
    found = [(one.start, one.end, one.title) for one in titles.texts.chapters("film.mp4", clip)]
    assert found == [(0, 3000, "Two"), (3000, 5000, "Three")]
    assert f'URI="chapters.json{clip.query}"' in titles.multivariant_playlist("film.mp4", clip)
