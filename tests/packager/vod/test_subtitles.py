"""Subtitles inside and beside films come out with the file's own times, languages and purposes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import xml.etree.ElementTree as ET
from fractions import Fraction
from pathlib import Path

import m3u8
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.mp4.boxes import box
from media.webvtt import Cue, CueReader
from packager.library.storage import Library, NotFoundError
from packager.vod import TitleLimits, Titles
from packager.vod.chapters import chapters_json
from packager.vod.index import read_index
from packager.vod.sidecars import SidecarLimits, parse_sidecar_name
from packager.vod.text_tracks import FileCues, ShiftedCues, TextTrack, segment_times, with_name
from tests.packager.films import FFMPEG, H264, PICTURE, TONE, probe, run_ffmpeg

SECONDS = 14
CUES = (
    (1000, 2500, "Hello <i>you</i>"),
    (5500, 7250, "Two\nlines"),
    (9000, 9040, "Grün & blau"),
    (11000, 13000, "End"),
)
MPD = "{urn:mpeg:dash:schema:mpd:2011}"


def srt(cues: tuple[tuple[int, int, str], ...] = CUES) -> str:
    def time(value: int) -> str:
        return f"{value // 3600000:02}:{value // 60000 % 60:02}:{value // 1000 % 60:02},{value % 1000:03}"

    return "".join(f"{n}\n{time(a)} --> {time(b)}\n{text}\n\n" for n, (a, b, text) in enumerate(cues, 1))


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A library whose folder is old enough for its names to be remembered, and then has changed."""
    (tmp_path / "library").mkdir()
    return tmp_path / "library"


def make(path: Path, *words: str, inputs: tuple[str, ...] = ()) -> Path:
    """Make a film of two streams, with what other inputs and words add."""
    picture = [word.format(rate=25, seconds=SECONDS) for word in PICTURE]
    tone = [word.format(hertz=48000, seconds=SECONDS) for word in TONE]
    extra = [word for one in inputs for word in ("-i", one)]
    streams = 2 + sum(one.endswith(".srt") for one in inputs)
    maps = [word for number in range(streams) for word in ("-map", str(number))]
    coded = (*H264, "-bf", "2", "-g", "50", "-c:a", "aac", "-c:s", "mov_text")
    run_ffmpeg(*picture, *tone, *extra, *maps, *coded, *words, path)
    return path


def titles_of(library: Path, limits: TitleLimits | None = None) -> Titles:
    return Titles(Library(library), limits or TitleLimits())


def listed(titles: Titles, name: str) -> list[m3u8.Media]:
    return [one for one in m3u8.loads(titles.multivariant_playlist(name)).media if one.type == "SUBTITLES"]


def cues_of(titles: Titles, name: str, track: str) -> list[Cue]:
    """Read all segments of a track as players do: what is in two of them is one cue."""
    playlist = m3u8.loads(titles.text_playlist(name, track).decode())
    found: dict[Cue, None] = {}
    for number in range(len(playlist.segments)):
        data = titles.text_segment(name, track, number)
        assert data.startswith(b"WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:0\n")
        reader = CueReader()
        reader.receive_data(b"WEBVTT\n" + data.split(b"\n", 2)[2])
        reader.receive_eof()
        found.update(dict.fromkeys(reader.cues()))
    return list(found)


def demuxed(path: Path, stream: str = "s:0") -> list[tuple[int, int]]:
    """Ask ffprobe when each subtitle of a file is shown, in milliseconds; what is empty is a gap."""
    packets = probe(path, "-show_packets", "-select_streams", stream)["packets"]
    shown = [one for one in packets if int(one["size"]) > 2]
    return [
        (
            round(float(one["pts_time"]) * 1000),
            round((float(one["pts_time"]) + float(one["duration_time"])) * 1000),
        )
        for one in shown
    ]


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
        assert b"00:00:05.500 --> 00:00:07.250\nTwo\nlines\n" in titles.text_segment(
            "film.mp4", "und", number
        )
    with pytest.raises(NotFoundError):
        titles.text_segment("film.mp4", "und", 3)


@pytest.mark.parametrize(("name", "cut"), [("trimmed.mp4", 800), ("late.mp4", 0)])
def test_an_edit_list_that_moves_the_picture_moves_the_text_with_it(
    name: str, cut: int, library: Path, tmp_path: Path
) -> None:
    """Of a film that was cut without encoding the published picture begins earlier; the distance stays.

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
    assert lead_in == pytest.approx(max(0, -1000 * first), abs=1)
    for track, early in (("und", cut), ("fr", 0)):
        shown = [(cue.start - lead_in, cue.end - lead_in) for cue in cues_of(titles, name, track)]
        wanted = [(start - early, end - early) for start, end, _ in CUES]
        assert [start for start, _ in shown] == [start for start, _ in wanted]
        # ffmpeg lengthens the last cue of a film that it cuts.
        assert [end for _, end in shown][:-1] == [end for _, end in wanted][:-1]


@pytest.fixture
def film(library: Path) -> Path:
    return make(library / "film.mp4")


def test_files_beside_a_film_are_offered_by_what_their_names_say(film: Path, library: Path) -> None:
    for name in (
        "film.srt",
        "film.de.srt",
        "film.de.forced.vtt",
        "film.eng.sdh.srt",
        "film.pt-BR.default.srt",
    ):
        (library / name).write_text(srt() if name.endswith("srt") else "WEBVTT\n\n" + srt().replace(",", "."))
    for name in ("film.part2.srt", "other.de.srt", "film.de.txt", "film.de.fr.srt"):
        (library / name).write_text(srt())
    found = {
        one.uri: (one.name, one.language, one.default, one.forced, one.characteristics is not None)
        for one in listed(titles_of(library), "film.mp4")
    }
    assert found == {
        "subtitles/de-forced/media.m3u8": ("Deutsch (forced)", "de", "NO", "YES", False),
        "subtitles/de/media.m3u8": ("Deutsch", "de", "NO", None, False),
        "subtitles/en-sdh/media.m3u8": ("English (SDH)", "en", "NO", None, True),
        "subtitles/pt-BR/media.m3u8": ("Português", "pt-BR", "YES", None, False),
        "subtitles/und/media.m3u8": ("Subtitles", None, "NO", None, False),
    }  # fmt: skip
    assert [(one.start, one.end) for one in cues_of(titles_of(library), "film.mp4", "de")] == [
        (a, b) for a, b, _ in CUES
    ]


def test_a_title_shares_the_files_that_have_its_name(library: Path) -> None:
    make(library / "film.360p.mp4", "-s", "160x90")
    make(library / "film.720p.mp4")
    (library / "film.de.srt").write_text(srt())
    (library / "film.fr.srt").write_text("nothing")
    titles = titles_of(library)
    (german,) = listed(titles, "film")
    assert german.uri == "../film.360p.mp4/subtitles/de/media.m3u8"
    master = titles.multivariant_playlist("film")
    assert master.count("# Left out: film.fr.srt: there is no cue in it") == 1
    assert master.count('SUBTITLES="subtitles"') == 2
    assert len(cues_of(titles, "film.360p.mp4", "de")) == len(CUES)
    assert [one.name for one in listed(titles, "film.720p.mp4")] == ["Deutsch"]


@pytest.mark.parametrize(
    ("name", "encoding", "text"),
    [
        ("film.de.srt", "latin-1", "Schöne Grüße aus Köln, heißt es"),
        ("film.srt", "latin-1", "Schöne Grüße aus Köln, heißt es"),
        ("film.ru.srt", "latin-1", "Schöne Grüße aus Köln, heißt es"),
        ("film.srt", "utf-8-sig", "Schöne Grüße"),
        ("film.srt", "utf-16", "Schöne Grüße"),
        ("film.ru.srt", "cp1251", "Привет, как дела? Всё хорошо, спасибо. Мы скоро придём домой."),
        ("film.ru.srt", "koi8-r", "Привет, как дела? Всё хорошо, спасибо. Мы скоро придём домой."),
        ("film.pl.srt", "cp1250", "Żółw zażywał kąpieli, gdyż chciał być świeży"),
        ("film.ja.srt", "cp932", "こんにちは、元気ですか。今日は天気がいいですね。"),
        ("film.zh.srt", "gb18030", "你好我们明天再见。谢谢你的帮助。"),
    ],
)
def test_the_encoding_of_a_file_is_found(
    name: str, encoding: str, text: str, film: Path, library: Path
) -> None:
    (library / name).write_bytes(
        srt(tuple((1000 * n, 1000 * n + 900, text) for n in range(1, 9))).encode(encoding)
    )
    titles = titles_of(library)
    (track,) = listed(titles, "film.mp4")
    assert {cue.text for cue in cues_of(titles, "film.mp4", track.uri.split("/")[1])} == {text}


@given(
    name=st.from_regex(r"film(\.(de|hi|forced|sdh|pt_BR|default|x|[^/\0]{0,4})){0,5}\.srt", fullmatch=True)
)
def test_whatever_a_name_says_makes_an_address_and_no_two_tracks_have_the_same(name: str) -> None:
    named = parse_sidecar_name(name, "film")
    if named is None:
        return
    track = TextTrack(
        "", named.language, "", ShiftedCues(FileCues([]), 0), named.default, named.forced, named.sdh, name
    )
    one = with_name(track, [])
    other = with_name(track, [one.name])
    assert one.name != other.name
    for found in (one, other):
        assert re.fullmatch(r"[A-Za-z0-9-]+", found.name)


@pytest.mark.parametrize(
    ("name", "language", "forced", "sdh"),
    [
        *(("film.srt", None, False, False), ("film.hi.srt", "hi", False, False)),
        *(("film.en.hi.srt", "en", False, True), ("film.ger.foreign.vtt", "de", True, False)),
        *(("film.pt_BR.cc.srt", "pt-BR", False, True), ("film.FORCED.De.SRT", "de", True, False)),
    ],
)
def test_the_words_of_a_name_are_language_and_purpose(
    name: str, language: str | None, forced: bool, sdh: bool
) -> None:
    found = parse_sidecar_name(name, "film")
    assert found is not None
    assert (found.language, found.forced, found.sdh) == (language, forced, sdh)


def test_files_that_come_change_and_go_are_noticed(film: Path, library: Path) -> None:
    titles = titles_of(library)
    assert listed(titles, "film.mp4") == []
    path = library / "film.de.srt"
    path.write_text(srt())
    assert len(listed(titles, "film.mp4")) == 1
    assert b"Hello" in titles.text_segment("film.mp4", "de", 0)
    path.write_text(srt().replace("Hello", "Good evening"))
    assert b"Good evening" in titles.text_segment("film.mp4", "de", 0)
    path.write_text("now it is broken")
    assert listed(titles, "film.mp4") == []
    assert "# Left out: film.de.srt: there is no cue in it" in titles.multivariant_playlist("film.mp4")
    path.unlink()
    assert "Left out" not in titles.multivariant_playlist("film.mp4")
    with pytest.raises(NotFoundError):
        titles.text_segment("film.mp4", "de", 0)


def test_bombs_are_left_out_and_the_film_is_played(film: Path, library: Path) -> None:
    hours = "00:00:00,000 --> 99:00:00,000\nalways the same, all of it, again and again\n\n"
    with (library / "film.de.srt").open("wb") as huge:
        huge.truncate(100 << 20)
    (library / "film.en.srt").write_text("00:00:01,000 --> 00:00:02,000\nx\n\n" * 40_000)
    (library / "film.es.srt").write_text(hours * 900)
    (library / "film.fr.srt").write_bytes(bytes(range(256)) * 200)
    (library / "film.it.srt").write_text(hours + srt())
    (library / "film.nl.vtt").write_text("WEBVTT\n\n999:59:59.999 --> 999999:00:00.000\nnever\n")
    titles = titles_of(library)
    assert [one.language for one in listed(titles, "film.mp4")] == ["it"]
    master = titles.multivariant_playlist("film.mp4")
    for language, reason in (
        *(("de", "104857600 bytes: more than 2097152"), ("en", "40000 cues in one segment: more than 1000")),
        *(("es", "too many cues are shown together for too long"), ("nl", "there is no cue in it")),
    ):
        assert f"# Left out: film.{language}.{'vtt' if language == 'nl' else 'srt'}: {reason}" in master
    assert "film.fr.srt" in master
    assert len(cues_of(titles, "film.mp4", "it")) == 1 + len(CUES)
    limit = TitleLimits(sidecars=SidecarLimits(kept_bytes=1))
    assert b"always" in titles_of(library, limit).text_segment("film.mp4", "it", 1)


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


def test_links_out_of_the_library_are_followed_where_those_of_films_are(
    film: Path, library: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret.srt").write_text(srt())
    (library / "film.de.srt").symlink_to(tmp_path / "secret.srt")
    (library / "film.fr.srt").symlink_to(library / "film.fr.srt")
    os.mkfifo(library / "film.it.srt")
    assert listed(titles_of(library), "film.mp4") == []
    follows = Titles(Library(library, follow_symlinks=True))
    assert [one.language for one in listed(follows, "film.mp4")] == ["de"]


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
        found[base.text] = one.get("lang"), [role.get("value") for role in one.iterfind(f"{MPD}Role")]
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
        path = make(library / name, "-map_chapters", "2", inputs=(str(tmp_path / "chapters.txt"),))
        if name == "list.mp4":  # only Nero's list is left
            path.write_bytes(path.read_bytes().replace(b"tref", b"free"))
        titles = titles_of(library)
        said = json.loads(chapters_json(titles.chapters(name)))
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
        titles.chapters(make(library / "none.mp4").name)


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
