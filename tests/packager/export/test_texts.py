"""Subtitles, chapters and I-frames are packaged too: every address that is named is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import m3u8
import pytest

from packager.export.export import export
from packager.library.local_storage import Library
from packager.vod import Titles
from tests.packager import films
from tests.packager.films import run_ffmpeg

MPD = "{urn:mpeg:dash:schema:mpd:2011}"
CUES = "1\n00:00:01,000 --> 00:00:03,000\nHello\n\n2\n00:00:05,000 --> 00:00:07,500\nthere\n"
CHAPTERS = ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=4000\ntitle=One\n"
CHAPTERS += "[CHAPTER]\nTIMEBASE=1/1000\nSTART=4000\nEND=14000\ntitle=Two\n"


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A film with subtitles in it and beside it, and with chapters."""
    folder = tmp_path / "films"
    folder.mkdir()
    (tmp_path / "in.srt").write_text(CUES)
    (tmp_path / "chapters.txt").write_text(CHAPTERS)
    (folder / "film.de.srt").write_text(CUES.replace("Hello", "Hallo"))
    words = ["-i", f"{tmp_path}/in.srt", "-i", f"{tmp_path}/chapters.txt", "-map", "0", "-map", "1"]
    words += ["-map_metadata", "2", "-map_chapters", "2", "-c", "copy", "-c:s", "mov_text"]
    run_ffmpeg("-i", films.film("bframes.mp4"), *words, folder / "film.mp4")
    return folder / "film.mp4"


def addresses(place: Path) -> Iterator[Path]:
    """Give every file that a playlist names, and what that names in turn."""
    text = place.read_text()
    named = [
        *re.findall(r'URI="([^"]+)"', text),
        *(one for one in text.splitlines() if one[:1] not in ("#", "")),
    ]
    for address in named:
        found = place.parent / address
        yield found
        if found.suffix == ".m3u8":
            yield from addresses(found)


def dash_addresses(place: Path) -> Iterator[Path]:
    """Give every file that a manifest names."""
    for representation in ElementTree.parse(place).iter(f"{MPD}Representation"):
        base = place.parent / (representation.findtext(f"{MPD}BaseURL") or "")
        template = representation.find(f"{MPD}SegmentTemplate")
        if template is None:
            yield base
            continue
        yield base / template.attrib["initialization"]
        count = sum(1 + int(one.get("r", "0")) for one in template.iter(f"{MPD}S"))
        for number in range(count):
            yield base / template.attrib["media"].replace("$Number$", str(number))


@pytest.mark.parametrize("single_file", [False, True])
def test_every_address_is_there_and_every_file_is_named(
    film: Path, tmp_path: Path, single_file: bool
) -> None:
    (master,) = export([film], tmp_path / "out", single_file=single_file).require()
    named = set(addresses(master)) | set(dash_addresses(master.with_name("manifest.mpd")))
    there = {path for path in master.parent.rglob("*") if path.is_file()}
    others = {master, master.with_name("manifest.mpd"), master.with_name("packaged.json")}
    assert named == there - others
    assert {path.name for path in named} >= {"chapters.json", "iframes.m3u8", "iframes.mp4"}
    assert len({path.parent for path in named if path.suffix == ".vtt"}) == 2


def test_texts_are_those_that_are_served(film: Path, tmp_path: Path) -> None:
    (master,) = export([film], tmp_path / "out").require()
    titles = Titles(Library(film.parent))
    assert master.read_text() == titles.multivariant_playlist("film.mp4")
    # What is packaged is replaced as a whole, so that its addresses need no version.
    served = re.sub(rb"v_[0-9a-f]{12}/", b"", titles.manifest("film.mp4"))
    assert master.with_name("manifest.mpd").read_bytes() == served
    for media in m3u8.load(str(master)).media:
        if media.type == "SUBTITLES":
            name = media.uri.split("/")[1]
            for number in range(len(m3u8.load(str(master.parent / media.uri)).segments)):
                packaged = (master.parent / "subtitles" / name / f"{number}.vtt").read_bytes()
                assert packaged == titles.texts.webvtt_segment("film.mp4", name, number)


def test_a_subtitle_file_that_comes_changes_or_goes_is_seen_by_a_rerun(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export([film], out).require()
    (film.parent / "film.fr.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\nSalut\n")
    (master,) = export([film], out).require()
    assert 'LANGUAGE="fr"' in master.read_text()
    (film.parent / "film.de.srt").write_text(CUES.replace("Hello", "Guten Tag"))
    export([film], out).require()
    assert any("Guten Tag" in path.read_text() for path in out.rglob("*.vtt"))
    (film.parent / "film.fr.vtt").unlink()
    export([film], out).require()
    assert 'LANGUAGE="fr"' not in master.read_text()
