"""Subtitles in folders beside a film are offered, and what isn't used is named."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Literal

import pytest

from packager.vod.limits import TitleLimits
from packager.vod.text.sidecars import SidecarLimits, parse_sidecar_name
from tests.packager.vod.text.subtitled_films import listed, make, srt, titles_of


@pytest.fixture
def library(tmp_path: Path) -> Path:
    (tmp_path / "library").mkdir()
    return tmp_path / "library"


@pytest.fixture
def film(library: Path) -> Path:
    return make(library / "film.mp4")


def test_files_in_folders_beside_a_film_are_offered(film: Path, library: Path) -> None:
    for name in ("Subs/film.de.srt", "Subs/film/2_English.srt", "Subs/French.srt", "subtitles/3_Spanish.srt"):
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / name).write_text(srt())
    found = {one.language for one in listed(titles_of(library), "film.mp4")}
    assert found == {"de", "en", "fr", "es"}
    # Beside another film nobody knows whose a file is that has no film's name.
    make(library / "other.mp4")
    assert {one.language for one in listed(titles_of(library), "film.mp4")} == {"de", "en"}
    assert listed(titles_of(library), "other.mp4") == []


def test_what_is_beside_a_film_and_is_not_used_is_named_with_the_reason(film: Path, library: Path) -> None:
    (library / "Subs").mkdir()
    for name in (
        "film.de.srt",
        "film.part2.srt",
        "film.idx",
        "Movie.srt",
        "film_en.srt",
        "Subs/film.best.srt",
    ):
        (library / name).write_text(srt())
    (library / "film.fr.srt").write_text("nothing")
    unused = dict(titles_of(library).facts.text("film.mp4").unused)
    word, format_ = (
        "its name has a word that is neither a language nor a purpose",
        "it isn't one of the formats",
    )
    assert unused.pop("film.idx").startswith(format_)
    assert unused == {
        "film.part2.srt": word,
        "Subs/film.best.srt": word,
        "Movie.srt": "its name doesn't begin with the film's",
        "film_en.srt": "no dot is behind the film's name, as in film.en.srt",
        "film.fr.srt": "there is no cue in the file",
    }
    # With another film of that name they are that one's.
    make(library / "film.part2.mp4")
    assert dict(titles_of(library).facts.text("film.mp4").unused).keys() == {
        "film.idx",
        "Subs/film.best.srt",
        "film.fr.srt",
    }


def test_a_file_with_a_good_name_that_is_not_used_is_said_to_be_beyond_the_limit_or_of_two_languages(
    film: Path, library: Path
) -> None:
    for name in ("film.de.srt", "film.fr.srt", "film.de.fr.srt"):
        (library / name).write_text(srt())
    titles = titles_of(library)
    assert dict(titles.facts.text("film.mp4").unused) == {
        "film.de.fr.srt": "its name has several languages: de, fr"
    }
    (library / "film.es.srt").write_text(srt())
    (library / "film.de.fr.srt").unlink()
    titles = titles_of(library, TitleLimits(sidecars=SidecarLimits(files=2)))
    assert dict(titles.facts.text("film.mp4").unused) == {
        "film.fr.srt": "the film has more than 2 subtitle files"
    }


@pytest.mark.parametrize(("of_film", "of_subtitles"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_with_accents_are_alike_however_their_letters_are_composed(
    of_film: Literal["NFC", "NFD"], of_subtitles: Literal["NFC", "NFD"], library: Path
) -> None:
    """macOS and network drives decompose the letters of names."""
    stem, other = (unicodedata.normalize(form, "café-mü") for form in (of_film, of_subtitles))
    film = make(library / f"{stem}.mp4")
    make(library / f"{stem}z.mp4")
    (library / "Subs" / other).mkdir(parents=True)
    for name in (f"{other}.de.srt", f"Subs/{other}.fr.srt", f"Subs/{other}/2_English.srt"):
        (library / name).write_text(srt())
    (library / f"{other}.best.srt").write_text(srt())
    titles = titles_of(library)
    assert {one.language for one in listed(titles, film.name)} == {"de", "fr", "en"}
    assert [file for file, _ in titles.facts.text(film.name).unused] == [f"{other}.best.srt"]


@pytest.mark.parametrize(
    ("words", "language", "forced", "sdh"),
    [
        *(("en-forced", "en", True, False), ("en-sdh", "en", False, True), ("de.cc", "de", False, True)),
        *(
            ("forced.en", "en", True, False),
            ("sdh.pt-BR", "pt-BR", False, True),
            ("en-cc", "en", False, True),
        ),
        *(("pt_BR-forced-sdh", "pt-BR", True, True), ("zh-Hant-forced", "zh-Hant", True, False)),
        *(
            ("hi.en", "en", False, True),
            ("hi-forced", "hi", True, False),
            ("sr-Latn", "sr-Latn", False, False),
        ),
        *(
            ("es-419", "es-419", False, False),
            ("de-1996", "de-1996", False, False),
            ("chs", "zh-Hans", False, False),
        ),
        *(("pob", "pt-BR", False, False), ("es-lat.forced", "es-419", True, False)),
    ],
)
def test_purposes_stand_before_or_behind_a_language_with_a_dot_or_a_hyphen(
    words: str, language: str, forced: bool, sdh: bool
) -> None:
    named = parse_sidecar_name(f"film.{words}.srt", "film")
    assert named is not None
    assert (named.language, named.forced, named.sdh) == (language, forced, sdh)


@pytest.mark.parametrize("word", ["en-signs", "en-full", "de-best", "fr-commentary"])
def test_a_word_that_is_no_subtag_is_not_part_of_a_language(word: str) -> None:
    """RFC 5646 §2.2.5: variants are registered, and these aren't."""
    assert parse_sidecar_name(f"film.{word}.srt", "film") is None
