"""Files of text beside a film are offered with what their names say, and harm nothing whatever is in them."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.errors import TooLargeError
from media.mp4.boxes import box
from media.mp4.text import wvtt
from media.subtitles.subtitle_file import SubtitleFileLimits, read_subtitle_file
from media.subtitles.webvtt import Cue
from packager.library.local_storage import Library, LocalFile, NotFoundError
from packager.single_flight_cache import CacheLimits
from packager.vod import Titles
from packager.vod.limits import TitleLimits
from packager.vod.segments.clip import Clip
from packager.vod.text import sidecars
from packager.vod.text.cues import TEXT_LIMITS, FileCues, ShiftedCues, TextLimits
from packager.vod.text.sidecars import SidecarLimits, parse_sidecar_name
from packager.vod.text.text_tracks import TextTrack, webvtt_file, with_name
from tests.packager.vod.text.subtitled_films import CUES, SECONDS, cues_of, listed, make, srt, titles_of
from tests.waiting import wait_for


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A library whose folder is old enough for its names to be remembered, and then has changed."""
    (tmp_path / "library").mkdir()
    return tmp_path / "library"


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
        "subtitles/pt-BR/media.m3u8": ("Português (Brasil)", "pt-BR", "YES", None, False),
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
    assert master.count("# Left out: film.fr.srt: there is no cue in the file") == 1
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


def test_one_file_of_two_names_is_decoded_by_the_language_of_each(film: Path, library: Path) -> None:
    """Of bytes alone nobody can tell which of the encodings before UTF-8 they are in."""
    text = "Dobrý den, jak se máte? Děkuji, mám se dobře, a co večer?"
    written = srt(tuple((1000 * n, 1000 * n + 900, text) for n in range(1, 9))).encode("cp1250")
    (library / "film.cs.srt").write_bytes(written)
    (library / "film.de.srt").hardlink_to(library / "film.cs.srt")
    titles = titles_of(library)
    for language, encoding in (("cs", "cp1250"), ("de", "cp1252")):
        shown = {cue.text for cue in cues_of(titles, "film.mp4", language)}
        assert shown == {text.encode("cp1250").decode(encoding)}


@given(
    name=st.from_regex(r"film(\.(de|hi|forced|sdh|pt_BR|default|x|[^/\0]{0,4})){0,5}\.srt", fullmatch=True)
)
def test_whatever_a_name_says_makes_an_address_and_no_two_tracks_have_the_same(name: str) -> None:
    named = parse_sidecar_name(name, "film")
    if named is None:
        return
    cues = ShiftedCues(lambda: FileCues([]), 0, 0)
    track = TextTrack("", named.language, "", cues, named.default, named.forced, named.sdh, name)
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
        *(("film.German.srt", "de", False, False), ("film.deutsch.ass", "de", False, False)),
        *(("film.2_English.srt", "en", False, False), ("film.Brazilian (forced).srt", "pt-BR", True, False)),
        *(("film.English [SDH].srt", "en", False, True), ("film.Español.ssa", "es", False, False)),
        *(("film.en.2.srt", "en", False, False), ("film.3.srt", None, False, False)),
    ],
)
def test_the_words_of_a_name_are_language_and_purpose(
    name: str, language: str | None, forced: bool, sdh: bool
) -> None:
    found = parse_sidecar_name(name, "film")
    assert found is not None
    assert (found.language, found.forced, found.sdh) == (language, forced, sdh)


@pytest.mark.parametrize("name", ["film.1080p.srt", "film.2019.srt", "film.Klingon.srt", "film.de fr.srt"])
def test_a_name_with_other_words_belongs_to_something_else(name: str) -> None:
    assert parse_sidecar_name(name, "film") is None


def test_two_files_of_one_language_are_told_apart(film: Path, library: Path) -> None:
    for name in ("film.2_English.srt", "film.3_English.srt"):
        (library / name).write_text(srt())
    found = listed(titles_of(library), "film.mp4")
    assert [one.language for one in found] == ["en", "en"]
    assert len({one.uri for one in found}) == len({one.name for one in found}) == 2


def test_a_file_of_ass_is_offered_with_the_text_that_ffmpeg_finds_in_it(film: Path, library: Path) -> None:
    (library / "film.srt").write_text(srt())
    (library / "film.de.ass").write_bytes(
        subprocess.run(
            ["ffmpeg", "-v", "error", "-i", str(library / "film.srt"), "-f", "ass", "-"],
            check=True,
            capture_output=True,
        ).stdout
    )
    titles = titles_of(library)
    own = [(cue.start, cue.end, cue.text) for cue in cues_of(titles, "film.mp4", "de")]
    assert own == [(cue.start, cue.end, cue.text) for cue in cues_of(titles, "film.mp4", "und")]
    assert len(own) > 1


def test_files_that_come_change_and_go_are_noticed(film: Path, library: Path) -> None:
    titles = titles_of(library)
    assert listed(titles, "film.mp4") == []
    path = library / "film.de.srt"
    path.write_text(srt())
    # A folder isn't listed again at once where listing it has taken long.
    wait_for(lambda: len(listed(titles, "film.mp4")) == 1, "a file that came")
    assert b"Hello" in titles.texts.webvtt_segment("film.mp4", "de", 0)
    path.write_text(srt().replace("Hello", "Good evening"))
    wait_for(
        lambda: b"Good evening" in titles.texts.webvtt_segment("film.mp4", "de", 0), "a file that changed"
    )
    path.write_text("now it is broken")
    wait_for(lambda: listed(titles, "film.mp4") == [], "a file that broke")
    assert "# Left out: film.de.srt: there is no cue in the file" in titles.multivariant_playlist("film.mp4")
    path.unlink()
    wait_for(lambda: "Left out" not in titles.multivariant_playlist("film.mp4"), "a file that went")
    with pytest.raises(NotFoundError):
        titles.texts.webvtt_segment("film.mp4", "de", 0)


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
        *(("es", "too many cues are shown together for too long"), ("nl", "there is no cue in the file")),
    ):
        assert f"# Left out: film.{language}.{'vtt' if language == 'nl' else 'srt'}: {reason}" in master
    assert "film.fr.srt" in master
    assert len(cues_of(titles, "film.mp4", "it")) == 1 + len(CUES)
    limit = TitleLimits(sidecars=SidecarLimits(kept=CacheLimits(items=100, nbytes=1)))
    assert b"always" in titles_of(library, limit).texts.webvtt_segment("film.mp4", "it", 1)


class Parses(list[int]):
    """Counts the subtitle files that are parsed, by their lengths."""

    def __call__(self, text: str, limits: SubtitleFileLimits | None = None) -> list[Cue]:
        self.append(len(text))
        return read_subtitle_file(text, limits)


def test_a_file_is_parsed_when_it_is_wanted_once_however_much_others_take(
    film: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Playlists need its language and its rate; a segment needs the cues of its own track alone."""
    languages = ("de", "en", "es", "fr", "it", "nl", "pl", "sv")
    for language in languages:
        (library / f"film.{language}.srt").write_text(srt())
    parses = Parses()
    monkeypatch.setattr(sidecars, "read_subtitle_file", parses)
    # Room for the cues of one file alone.
    tight = TitleLimits(texts=1, sidecars=SidecarLimits(kept=CacheLimits(items=100, nbytes=1)))
    titles = titles_of(library, tight)
    assert len(listed(titles, "film.mp4")) == len(languages) == len(parses)
    for start in range(3):
        titles.multivariant_playlist("film.mp4", Clip(start=Fraction(start)))
        titles.manifest("film.mp4", Clip(start=Fraction(start)))
    assert len(parses) == len(languages)
    for _ in range(5):
        assert b"Hello" in titles.texts.webvtt_segment("film.mp4", "en", 0)
        titles.texts.mp4_segment("film.mp4", "en", 1)
        titles.text_playlist("film.mp4", "en")
    assert len(parses) == len(languages) + 1


def test_the_files_of_a_film_have_a_size_together_beyond_which_they_are_not_read(
    film: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for language in ("de", "en", "es"):
        (library / f"film.{language}.srt").write_text(srt())
    size, parses = (library / "film.de.srt").stat().st_size, Parses()
    monkeypatch.setattr(sidecars, "read_subtitle_file", parses)
    titles = titles_of(library, TitleLimits(sidecars=SidecarLimits(film_bytes=2 * size)))
    assert [one.language for one in listed(titles, "film.mp4")] == ["de", "en"]
    told = f"# Left out: film.es.srt: more than {2 * size} bytes of subtitle files with those before it"
    assert told in titles.multivariant_playlist("film.mp4")
    assert len(parses) == 2


def test_cues_take_little_more_memory_than_their_text() -> None:
    cues = read_subtitle_file(srt(tuple((n * 100, n * 100 + 90, "Ünd wenn?" * 4) for n in range(20_000))))
    kept = FileCues(cues)
    assert kept.between(0, 10_000_000) == cues
    text = sum(len(cue.text.encode()) for cue in cues)
    assert kept.nbytes < text + 40 * len(cues)


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


class WithoutDescriptors(Library):
    """A library in which no subtitle file can be opened for a while."""

    lacking = True

    def open(self, name: str) -> LocalFile:
        if self.lacking and name.endswith(".srt"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), name)
        return super().open(name)


def test_no_playlist_lacks_subtitles_because_the_system_lacked_descriptors(film: Path, library: Path) -> None:
    """It would be kept by caches for minutes; so it can't be had now, and players ask again."""
    (library / "film.de.srt").write_text(srt())
    storage = WithoutDescriptors(library)
    titles = Titles(storage)
    with pytest.raises(OSError, match="Too many open files"):
        titles.multivariant_playlist("film.mp4")
    storage.lacking = False
    assert [one.language for one in listed(titles, "film.mp4")] == ["de"]


def overlapping(count: int, seconds: int) -> str:
    """Write cues of a letter that begin one after the other and end likewise, when all have begun."""
    return srt(tuple((n + 1, seconds * 1000 - count + n, "x") for n in range(count)))


def test_text_that_each_change_would_repeat_a_thousand_times_is_left_out(film: Path, library: Path) -> None:
    """A letter takes 25 bytes in MP4, and each of 2,000 samples of a segment would have up to 1,000."""
    (library / "film.de.srt").write_text(overlapping(900, SECONDS))
    (library / "film.fr.srt").write_text(srt(tuple((n * 15, n * 15 + 14, "x" * 40) for n in range(900))))
    titles = titles_of(library)
    assert [one.language for one in listed(titles, "film.mp4")] == ["fr"]
    master = titles.multivariant_playlist("film.mp4")
    assert "# Left out: film.de.srt: too many cues are shown together for too long" in master
    limit = TEXT_LIMITS.segment_bytes
    for number in range(3):
        assert len(titles.texts.mp4_segment("film.mp4", "fr", number)) < limit


def test_what_the_bound_of_a_segment_allows_is_within_it() -> None:
    for count in (5, 50, 150, 300):
        read = read_subtitle_file(overlapping(count, 6), SubtitleFileLimits())
        cues, times = FileCues(read), np.array([0, 6000], np.int64)
        written = len(wvtt.fragment(cues.between(0, 6000), 0, 6000, 1))
        cues.times.require_modest(times, TextLimits(segment_bytes=3 * written))
        with pytest.raises(TooLargeError):
            cues.times.require_modest(times, TextLimits(segment_bytes=written * 9 // 10))


def test_a_text_file_is_written_once_and_not_of_endlessly_repeated_cues(film: Path, library: Path) -> None:
    (library / "film.de.srt").write_text(srt())
    (library / "film.fr.srt").write_text(srt(((0, SECONDS * 1000, "all the time"),) * 30))
    titles = titles_of(library)
    assert titles.whole_text("film.mp4", "de") is titles.whole_text("film.mp4", "de")
    assert b"all the time" in titles.whole_text("film.mp4", "fr")
    cues = FileCues([Cue(0, 100_000, str(number)) for number in range(30)])
    track = TextTrack("de", "de", "", ShiftedCues(lambda: cues, 0, 0))
    times, limits = np.arange(0, 100_001, 1000), TextLimits(file_cues=3000)
    assert webvtt_file(track, times, Fraction(0), read_nothing, limits).count(b"-->") == 30
    with pytest.raises(TooLargeError, match="a file of more than 2999 cues"):
        webvtt_file(track, times, Fraction(0), read_nothing, replace(limits, file_cues=2999))


def read_nothing(offset: int, length: int) -> bytes:
    raise AssertionError(f"{length} bytes from {offset} on are asked for")


def test_samples_of_many_cues_each_make_no_segment_of_more_than_its_limit(
    library: Path, tmp_path: Path
) -> None:
    """A sample of WebVTT in MP4 may have hundreds of cues, and a segment as many such samples as it likes."""
    (tmp_path / "a.srt").write_text(srt(((1000, 1500, "y" * 4000), (2000, 2500, "z" * 4000))))
    film = make(library / "film.mp4", inputs=(str(tmp_path / "a.srt"),))
    data = film.read_bytes().replace(b"tx3g", b"wvtt")
    for letter in (b"y", b"z"):
        sample = box(b"vttc", box(b"payl", letter)) * 234
        before = (4000).to_bytes(2, "big") + letter * 4000
        data = data.replace(before, sample + box(b"free", bytes(len(before) - len(sample) - 8)))
    film.write_bytes(data)
    titles = titles_of(library)
    assert titles.texts.webvtt_segment("film.mp4", "und", 0).count(b"-->") == 468
    few = titles_of(library, TitleLimits(text=TextLimits(segment_cues=400)))
    with pytest.raises(TooLargeError, match="more than 400 cues in one segment"):
        few.texts.webvtt_segment("film.mp4", "und", 0)
