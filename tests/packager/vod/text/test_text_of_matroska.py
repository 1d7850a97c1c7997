"""Subtitles inside Matroska files come out with the file's own times, languages and purposes."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path

import pytest

from packager.export.export import export
from packager.vod.index.chapters import chapters_json
from tests.packager.films import probe, run_ffmpeg
from tests.packager.stripped_matroska import compressed
from tests.packager.vod.text.subtitled_films import (
    CUES,
    cues_of,
    demuxed,
    listed,
    make,
    srt,
    titles_of,
)

MPD = "{urn:mpeg:dash:schema:mpd:2011}"
TEXTS = ["Hello <i>you</i>", "Two\nlines", "Grün &amp; blau", "End"]
CHAPTERS = ((0, 4000, "Opening"), (4000, 9500, "Zwölf"), (9500, 14000, "The end"))
ASS = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, Bold, Italic, Underline, Alignment, Encoding
Style: Default,Arial,16,0,0,0,2,1
Style: Thought,Arial,16,0,-1,0,8,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,Hello {\\i1}you{\\i0}, there
Dialogue: 0,0:00:02.00,0:00:03.00,Thought,Ann,0,0,0,,I {\\b1\\blur3}think{\\b0}\\Nso
"""
WEBVTT = """WEBVTT

first
00:00:01.000 --> 00:00:02.500 line:0 align:start
Hello <i>you</i>

00:00:05.500 --> 00:00:07.250
Two
lines
"""
PURPOSES = (
    *("-metadata:s:s:0", "language=ger", "-disposition:s:0", "default"),
    *("-metadata:s:s:1", "language=eng", "-metadata:s:s:1", "title=Signs"),
    *("-disposition:s:1", "forced+hearing_impaired", "-disposition:s:2", "0"),
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library with a film that has SubRip, ASS, WebVTT and chapters in it."""
    folder = tmp_path_factory.mktemp("matroska")
    (folder / "library").mkdir()
    for name, text in (("a.srt", srt()), ("a.ass", ASS), ("a.vtt", WEBVTT)):
        (folder / name).write_text(text)
    parts = [f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={a}\nEND={b}\ntitle={title}\n" for a, b, title in CHAPTERS]
    (folder / "chapters.txt").write_text(";FFMETADATA1\n" + "".join(parts))
    make(folder / "plain.mp4")
    inputs = [word for name in ("plain.mp4", "a.srt", "a.ass", "a.vtt") for word in ("-i", folder / name)]
    maps = [word for number in range(4) for word in ("-map", str(number))]
    kinds = ("-c", "copy", "-c:s:0", "srt", "-c:s:1", "ass")
    chapters = ("-i", folder / "chapters.txt", "-map_chapters", "4")
    run_ffmpeg(*inputs, *chapters, *maps, *kinds, *PURPOSES, folder / "library" / "film.mkv")
    return folder / "library"


def test_text_tracks_of_a_film_are_shown_when_ffprobe_says(library: Path) -> None:
    titles = titles_of(library)
    german, english, other = listed(titles, "film.mkv")
    assert (german.name, german.language, german.default, german.forced) == ("Deutsch", "de", "YES", None)
    assert (english.name, english.language, english.default, english.forced) == ("Signs", "en", "NO", "YES")
    assert "transcribes-spoken-dialog" in (english.characteristics or "")
    assert (other.language, other.default) == (None, "NO")
    streams = probe(library / "film.mkv", "-show_streams")["streams"]
    assert [one["codec_name"] for one in streams[2:]] == ["subrip", "ass", "webvtt"]
    for number, name in enumerate(("de", "en-forced-sdh", "und")):
        shown = [(cue.start, cue.end) for cue in cues_of(titles, "film.mkv", name)]
        assert shown == demuxed(library / "film.mkv", f"s:{number}")
    assert [cue.text for cue in cues_of(titles, "film.mkv", "de")] == TEXTS
    assert [(cue.text, cue.settings) for cue in cues_of(titles, "film.mkv", "en-forced-sdh")] == [
        ("Hello <i>you</i>, there", ""),
        ("<i>I </i><b><i>think\n</i></b><i>so</i>", "line:5%"),
    ]
    assert [(cue.text, cue.settings) for cue in cues_of(titles, "film.mkv", "und")] == [
        ("Hello <i>you</i>", "line:0 align:start"),
        ("Two\nlines", ""),
    ]


def test_text_comes_as_whole_files_in_lists_and_in_dash(library: Path) -> None:
    titles = titles_of(library)
    facts = titles.facts.text("film.mkv")
    assert [(one.name, one.default, one.forced, one.sdh, one.path) for one in facts.subtitles] == [
        ("Deutsch", True, False, False, "film.mkv/subtitles/de.vtt"),
        ("Signs", False, True, True, "film.mkv/subtitles/en-forced-sdh.vtt"),
        ("Subtitles", False, False, False, "film.mkv/subtitles/und.vtt"),
    ]
    assert titles.whole_text("film.mkv", "de").count(b" --> ") == len(CUES)
    sets = ET.fromstring(titles.manifest("film.mkv")).iterfind(f".//{MPD}AdaptationSet[@contentType='text']")
    found = [(one.get("lang"), [role.get("value") for role in one.iterfind(f"{MPD}Role")]) for one in sets]
    assert [language for language, _ in found] == ["de", "en", None]
    assert "forced-subtitle" in found[1][1]
    assert b"Gr\xc3\xbcn &amp; blau" in titles.texts.mp4_segment("film.mkv", "de", 1)


def test_ffprobe_counts_the_cues_of_the_packaged_film(library: Path, tmp_path: Path) -> None:
    export([library / "film.mkv"], tmp_path / "out").require()
    (playlist,) = (tmp_path / "out").rglob("subtitles/de/media.m3u8")
    words = ("-allowed_extensions", "ALL", "-show_packets", "-select_streams", "s")
    packets = probe(playlist, *words)["packets"]
    # The second cue is shown over a cut, so that it is in both segments (RFC 8216 §3.5).
    assert len({one["pts"] for one in packets}) == len(CUES)


def test_text_that_is_compressed_is_the_same(library: Path) -> None:
    data = (library / "film.mkv").read_bytes()
    for track in (3, 4, 5):
        data = compressed(data, track, lambda frame: zlib.compress(frame, 9))
    (library / "zlib.mkv").write_bytes(data)
    titles = titles_of(library)
    for name in ("de", "en-forced-sdh", "und"):
        wanted, found = (cues_of(titles, film, name) for film in ("film.mkv", "zlib.mkv"))
        assert found == wanted
        assert found


def test_pictures_of_text_are_named(library: Path) -> None:
    data = (library / "film.mkv").read_bytes().replace(b"S_TEXT/UTF8", b"S_HDMV/PGS\0")
    (library / "pictures.mkv").write_bytes(data)
    titles = titles_of(library)
    line = "track 3: subtitles of type 'S_HDMV/PGS' are pictures, not text"
    assert len(listed(titles, "pictures.mkv")) == 2
    assert f"# Left out: {line}" in titles.multivariant_playlist("pictures.mkv")
    assert titles.facts.text("pictures.mkv").left_out == (line,)


def test_chapters_are_those_that_ffprobe_finds(library: Path) -> None:
    said = json.loads(chapters_json(titles_of(library).texts.chapters("film.mkv")))
    asked = probe(library / "film.mkv", "-show_chapters")["chapters"]
    assert [one["titles"][0]["title"] for one in said] == [one["tags"]["title"] for one in asked]
    assert [one["start-time"] for one in said] == [float(one["start_time"]) for one in asked]
    assert len(said) == len(CHAPTERS)
