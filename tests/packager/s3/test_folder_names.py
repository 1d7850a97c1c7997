"""Files of subtitles in folders beside films of a bucket are found, whatever else is in the folder."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest

from packager.s3.library import S3Library
from packager.s3.limits import S3Limits
from tests.s3_server import BUCKET, S3Proxy, S3Server

NFC, NFD = (unicodedata.normalize(form, "café-mü") for form in ("NFC", "NFD"))
KEYS = (
    ".encoded/aa/segment",
    ".encoded/ab/segment",
    "film.mp4",
    "film.de.srt",
    "Other.srt",
    "Subs/2_English.srt",
    "subtitles/film/3_Spanish.srt",
    *(f"many/film {number:02}.mp4" for number in range(20)),
    *(f"many/Subs/film {number:02}.srt" for number in range(3)),
    "many/subtitles/film 07/French.srt",
    "many/subways/film.srt",
    *(f"accents/{NFD}{end}" for end in (".de.srt", ".best.srt")),
    *(f"accents/{NFC}{end}" for end in (".mp4", "z.mp4")),
)


@pytest.fixture
def library(
    s3_server: S3Server, s3_proxy: S3Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[S3Library]:
    store = s3_server.store("folder names")
    for key in KEYS:
        obstore.put(store, key, b"content")
    for name, value in s3_server.environment(s3_proxy.url).items():
        monkeypatch.setenv(name, value)
    one = S3Library(f"s3://{BUCKET}/folder names", tmp_path, S3Limits())
    yield one
    one.close()


@pytest.mark.parametrize("most", [10, 1000])
def test_they_are_found_in_small_and_in_large_folders(
    library: S3Library, s3_proxy: S3Proxy, most: int
) -> None:
    names = library.folder_names(most)
    found = {one.name: one.words for one in names.subtitles_below("many", "film 07")}
    assert found == {"subtitles/film 07/French.srt": ".French.srt"}
    before = len(s3_proxy.requests)
    assert [one.name for one in names.subtitles_below("many", "film 02")] == ["Subs/film 02.srt"]
    assert names.subtitles_below("many", "film 09") == []
    assert len(s3_proxy.requests) == before, "one look serves all films of a folder"


def test_beside_the_only_film_all_names_are_its_own(library: S3Library) -> None:
    names, small = library.folder_names(1000), library.folder_names(4)
    for one in (names, small):
        assert one.subtitles("", "film") == ["film.de.srt"]
    # Encoded segments, which are in the library's prefix, are nothing of the library.
    expected = ["Subs/2_English.srt", "subtitles/film/3_Spanish.srt"]
    assert [one.name for one in names.subtitles_below("", "film")] == expected
    assert [one.name for one in small.subtitles_below("", "film")] == expected[1:]
    assert names.unused("", "film") == ["Other.srt", "film.de.srt"]
    # Nobody has seen whether there are other films, so that only the film's name shows what is its own.
    assert small.unused("", "film") == ["film.de.srt"]


def test_letters_with_accents_are_alike_however_they_are_composed(library: S3Library) -> None:
    names = library.folder_names(1000)
    for stem in (NFC, NFD):
        both = [f"{NFD}.best.srt", f"{NFD}.de.srt"]
        assert names.subtitles("accents", stem) == names.unused("accents", stem) == both


@pytest.mark.parametrize("folder", ["a//b", "..", "many/../many", "\0"])
def test_a_folder_that_no_key_can_have_is_not_asked_for(
    library: S3Library, s3_proxy: S3Proxy, folder: str
) -> None:
    before = len(s3_proxy.requests)
    assert library.folder_names(10).subtitles_below(folder, "film") == []
    assert len(s3_proxy.requests) == before
