"""Subtitles in folders beside a film are offered, and what isn't used is named."""

from __future__ import annotations

from pathlib import Path

import pytest

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
