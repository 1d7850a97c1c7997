"""Subtitles inside and beside films come out with the file's own times, languages and purposes."""

from __future__ import annotations

import json
import re
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import m3u8
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.mp4.boxes import box
from media.subtitles.webvtt import Cue
from packager.library.local_storage import Library, NotFoundError
from packager.vod.index.chapters import chapters_json
from packager.vod.index.index_builder import read_index
from packager.vod.limits import TitleLimits
from packager.vod.text.cues import SampleCues
from packager.vod.text.text_tracks import segment_times
from tests.packager.films import FFMPEG, probe, run_ffmpeg
from tests.packager.vod.text.subtitled_films import (
    CUES,
    SECONDS,
    cues_of,
    demuxed,
    listed,
    make,
    srt,
    titles_of,
)

MPD = "{urn:mpeg:dash:schema:mpd:2011}"


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A library whose folder is old enough for its names to be remembered, and then has changed."""
    (tmp_path / "library").mkdir()
    return tmp_path / "library"


def test_text_tracks_of_a_film_are_shown_when_ffprobe_says(library: Path, tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text(srt())
    words = [
        "-metadata:s:s:0",
        "language=ger",
        "-metadata:s:s:1",
        "language=eng",
        "-disposition:s:0",
        "default",
    ]
    words += ["-disposition:s:1", "forced+hearing_impaired", "-metadata:s:s:1", 'title=English for "all"']
    film = make(library / "film.mp4", *words, inputs=(str(tmp_path / "a.srt"), str(tmp_path / "a.srt")))
    titles = titles_of(library)
    german, english = listed(titles, "film.mp4")
    assert (german.name, german.language, german.default, german.autoselect, german.forced) == (
        *("Deutsch", "de", "YES", "YES"),
        None,
    )
    assert (english.name, english.language, english.default, english.forced) == (
        *("English for 'all'", "en", "NO"),
        "YES",
    )
    assert english.characteristics == (
        "public.accessibility.transcribes-spoken-dialog,public.accessibility.describes-music-and-sound"
    )
    streams = [one for one in probe(film, "-show_streams")["streams"] if one["codec_name"] == "mov_text"]
    assert [one["disposition"]["default"] for one in streams] == [1, 0]
    assert [one["disposition"]["forced"] for one in streams] == [0, 1]
    cues = cues_of(titles, "film.mp4", "de")
    assert [(cue.start, cue.end) for cue in cues] == demuxed(film)
    assert [cue.text for cue in cues] == ["Hello <i>you</i>", "Two\nlines", "Grün &amp; blau", "End"]
    lines = titles.multivariant_playlist("film.mp4").splitlines()
    assert all("SUBTITLES=" in line for line in lines if line.startswith("#EXT-X-STREAM-INF"))


def test_a_cue_that_spans_a_cut_is_in_both_segments(library: Path, tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text(srt())
    make(library / "film.mp4", inputs=(str(tmp_path / "a.srt"),))
    titles = titles_of(library)
    playlist = m3u8.loads(titles.text_playlist("film.mp4", "und").decode())
    assert playlist.is_endlist
    assert [one.duration for one in playlist.segments] == pytest.approx([6, 6, 2], abs=0.05)
    for number in (0, 1):
        assert b"00:00:05.500 --> 00:00:07.250\nTwo\nlines\n" in titles.texts.webvtt_segment(
            "film.mp4", "und", number
        )
    with pytest.raises(NotFoundError):
        titles.texts.webvtt_segment("film.mp4", "und", 3)


@pytest.mark.parametrize(("name", "cut"), [("trimmed.mp4", 800), ("late.mp4", 0)])
def test_an_edit_list_that_moves_the_picture_moves_the_text_with_it(
    name: str, cut: int, library: Path, tmp_path: Path
) -> None:
    """Of a film that was cut without encoding, hidden pictures last some ticks; the distance stays.

    What ffprobe says of the cut film's text isn't asked: it moves the edit to a sample's beginning.
    """
    (tmp_path / "a.srt").write_text(srt())
    whole = make(tmp_path / "whole.mp4", inputs=(str(tmp_path / "a.srt"),))
    film = library / name
    if cut:  # behind the key frame at 0 s, which the edit list hides
        run_ffmpeg("-ss", str(cut / 1000), "-i", whole, "-map", "0", "-c", "copy", film)
    else:
        late = ("-i", whole, "-itsoffset", "2", "-i", whole, "-map", "1:v", "-map", "0:a", "-map", "0:s")
        run_ffmpeg(*late, "-c", "copy", film)
    (library / f"{film.stem}.fr.srt").write_text(srt())
    titles = titles_of(library)
    with Library(library).open(name) as file:
        lead_in = round(read_index(file.pread, file.size).lead_in * 1000)
    first = float(probe(film, "-show_packets", "-select_streams", "v")["packets"][0]["pts_time"])
    assert (first < 0) is bool(cut)
    assert bool(cut) <= lead_in <= 5 * bool(cut)
    for track, early in (("und", cut), ("fr", 0)):
        shown = [(cue.start - lead_in, cue.end - lead_in) for cue in cues_of(titles, name, track)]
        wanted = [(start - early, end - early) for start, end, _ in CUES]
        assert [start for start, _ in shown] == [start for start, _ in wanted]
        # ffmpeg lengthens the last cue of a film that it cuts.
        assert [end for _, end in shown][:-1] == [end for _, end in wanted][:-1]


def test_an_empty_edit_shows_the_text_later(library: Path, tmp_path: Path) -> None:
    """ISO/IEC 14496-12 §8.6.6.1: it offsets the start of a track."""
    (tmp_path / "a.srt").write_text(srt())
    film = make(library / "film.mp4", inputs=(str(tmp_path / "a.srt"),))
    with Library(library).open(film.name) as file:
        (track,) = read_index(file.pread, file.size).text_tracks
        cues = track.cues
        assert isinstance(cues, SampleCues)
        later = replace(cues, placement=replace(cues.placement, delay=2 * cues.timescale))
        shown = [(cue.start, cue.end) for cue in later.between(file.pread, 0, 1000 * SECONDS)]
    wanted = [(start + 2000, end + 2000) for start, end, _ in CUES]
    assert shown == [one for one in wanted if one[0] < 1000 * SECONDS]


@pytest.fixture
def film(library: Path) -> Path:
    return make(library / "film.mp4")


def test_a_manifest_that_would_be_too_long_has_no_text(film: Path, library: Path) -> None:
    for language in ("de", "fr", "it", "es"):
        (library / f"film.{language}.srt").write_text(srt())
    plain = b'contentType="text"'
    assert titles_of(library).manifest("film.mp4").count(plain) == 4
    narrow = titles_of(library, TitleLimits(manifest_segments=10))
    assert narrow.manifest("film.mp4").count(plain) == 0
    assert len(listed(narrow, "film.mp4")) == 4


@given(
    times=st.lists(st.integers(0, 1 << 50), min_size=2, max_size=9, unique=True).map(sorted),
    timescale=st.sampled_from((1, 25, 12800, 44100, 90000, 10_000_000, (1 << 32) - 1)),
)
def test_text_is_cut_where_the_film_is(times: list[int], timescale: int) -> None:
    cuts = segment_times([(times, timescale)]).tolist()
    assert cuts[0] == 0
    assert cuts[-1] * timescale >= times[-1] * 1000 > (cuts[-1] - 1) * timescale or cuts[-1] == 1
    assert cuts == sorted(set(cuts))
    for time in times[1:-1]:
        exact = Fraction(time * 1000, timescale)
        assert any(abs(cut - exact) <= 1 for cut in cuts)


def test_the_manifest_has_each_track_with_its_role_and_ffmpeg_reads_the_same_text(
    film: Path, library: Path, tmp_path: Path
) -> None:
    for name in ("film.de.srt", "film.de.forced.srt", "film.en.sdh.srt"):
        (library / name).write_text(srt())
    titles = titles_of(library)
    root = ET.fromstring(titles.manifest("film.mp4"))
    found = {}
    for one in root.iterfind(f".//{MPD}AdaptationSet[@contentType='text']"):
        base = one.find(f"{MPD}Representation/{MPD}BaseURL")
        assert base is not None
        assert one.get("mimeType") == "application/mp4"
        address = re.sub("v_[0-9a-f]{12}/$", "", base.text or "")
        found[address] = one.get("lang"), [role.get("value") for role in one.iterfind(f"{MPD}Role")]
    assert found == {
        "subtitles/de/": ("de", ["subtitle"]),
        "subtitles/de-forced/": ("de", ["forced-subtitle"]),
        "subtitles/en-sdh/": ("en", ["caption"]),
    }
    whole = tmp_path / "de.vtt"
    whole.write_bytes(titles.whole_text("film.mp4", "de"))
    read = subprocess.run(
        [FFMPEG, "-v", "error", "-i", whole, "-f", "srt", "-"], capture_output=True, check=True
    )
    assert read.stdout.decode().strip().replace("\r", "") == srt().strip()


def test_chapters_are_those_that_ffprobe_finds(library: Path, tmp_path: Path) -> None:
    chapters = ((0, 4000, "Opening"), (4000, 9500, "Zwölf"), (9500, 14000, "The end"))
    parts = [f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={a}\nEND={b}\ntitle={title}\n" for a, b, title in chapters]
    (tmp_path / "chapters.txt").write_text(";FFMETADATA1\n" + "".join(parts))
    for name in ("film.mp4", "film.mov", "list.mp4"):
        path = make(library / name, "-map_chapters", "1", inputs=(str(tmp_path / "chapters.txt"),))
        if name == "list.mp4":  # only Nero's list is left
            path.write_bytes(path.read_bytes().replace(b"tref", b"free"))
        titles = titles_of(library)
        said = json.loads(chapters_json(titles.texts.chapters(name)))
        asked = probe(path, "-show_chapters")["chapters"]
        assert len(asked) == len(chapters)
        assert [one["titles"][0]["title"] for one in said] == [one["tags"]["title"] for one in asked]
        assert [one["start-time"] for one in said] == pytest.approx(
            [float(one["start_time"]) for one in asked], abs=0.04
        )
        assert sum(one["duration"] for one in said) == pytest.approx(14, abs=0.05)
        assert (
            '#EXT-X-SESSION-DATA:DATA-ID="com.apple.hls.chapters",URI="chapters.json"'
            in titles.multivariant_playlist(name)
        )
        assert listed(titles, name) == []  # the track that names them is no subtitle
    with pytest.raises(NotFoundError):
        titles.texts.chapters(make(library / "none.mp4").name)


def test_subtitles_that_cannot_be_carried_are_named(library: Path, tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text(srt())
    film = make(library / "film.mp4", inputs=(str(tmp_path / "a.srt"),))
    film.write_bytes(film.read_bytes().replace(b"tx3g", b"stpp"))
    titles = titles_of(library)
    assert listed(titles, "film.mp4") == []
    assert "# Left out: track 3: subtitles of type 'stpp'" in titles.multivariant_playlist("film.mp4")


def test_a_track_of_webvtt_is_shown_as_it_is(library: Path, tmp_path: Path) -> None:
    """No ffmpeg writes such tracks (ISO/IEC 14496-30 §7): samples of the same length are put in place."""
    lines = ((1000, 2500, "x" * 50), (5500, 7250, "y" * 70))
    (tmp_path / "a.srt").write_text(srt(lines))
    film = make(library / "film.mp4", inputs=(str(tmp_path / "a.srt"),))
    data = film.read_bytes().replace(b"tx3g", b"wvtt")
    for _, _, text in lines:
        said = f"<v Ann>{text[0] * (len(text) - 43)}".encode()
        sample = box(b"vttc", box(b"sttg", b"line:0"), box(b"payl", said))
        before = len(text).to_bytes(2, "big") + text.encode()
        assert before in data
        data = data.replace(before, sample + box(b"free", bytes(len(before) - len(sample) - 8)))
    film.write_bytes(data)
    assert cues_of(titles_of(library), "film.mp4", "und") == [
        Cue(1000, 2500, "<v Ann>xxxxxxx", "line:0"),
        Cue(5500, 7250, "<v Ann>" + "y" * 27, "line:0"),
    ]


def test_samples_of_text_that_are_damaged_are_left_out_alone(library: Path, tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text(srt())
    film = make(library / "film.mp4", inputs=(str(tmp_path / "a.srt"),))
    film.write_bytes(film.read_bytes().replace(b"\0\x09Two\nlines", b"\xff\xffTwo\nlines"))
    shown = cues_of(titles_of(library), "film.mp4", "und")
    assert [cue.text for cue in shown] == ["Hello <i>you</i>", "Grün &amp; blau", "End"]
    assert Fraction(shown[0].start, 1000) == 1
