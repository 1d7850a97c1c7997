"""Subtitles of DVDs: their colours and languages are those of the title set's description beside the VOB."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import m3u8
import numpy as np
import pytest

from packager.encode.renditions import EncodedRenditions
from packager.export.export import export
from packager.export.ladder import ladder_of
from packager.library.local_storage import Library, NotFoundError
from packager.library.title_files import sidecars_of, title_set_of
from packager.process.ffmpeg_discovery import Tools
from packager.vod import Titles
from packager.vod.segments.clip import Clip
from tests.conftest import start_server
from tests.e2e.conftest import ENCODE
from tests.media.ps.title_sets import AC3, Sound, Subpicture, title_set
from tests.packager.encode.encoded_library import encoding
from tests.packager.encode.subtitle_pictures import VOB, WHITE, colours, display_set, film_with_subtitles
from tests.patience import PATIENCE_SECONDS
from tests.waiting import wait_for

NAME, DESCRIPTION = "VIDEO_TS/VTS_01_1.VOB", "VIDEO_TS/VTS_01_0.IFO"
TRACK = "video-180p-subtitles-1"
RED, HALF, NONE = bytes((81, 240, 90, 255)), bytes((145, 34, 54, 128)), bytes((16, 128, 128, 0))
STRIPED, CLEARED = display_set(shown=True, colours=(WHITE, RED, HALF, NONE)), display_set(shown=False)

PALETTE = [bytes((60 + 10 * number, (60, 200)[number % 2], 70 + 7 * number)) for number in range(16)]
"""Colours that nobody would guess, none of which is grey."""

OTHER = [bytes((200 - 10 * number, 200, 60)) for number in range(16)]

AC3_VOB = (*VOB[:6], "-c:a", "ac3", "-ac", "2", "-f", "vob")
TWO_SOUNDS = ("-map", "1:a")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A library with a VOB whose sounds and subtitles have no languages."""
    library = tmp_path / "library"
    (library / "VIDEO_TS").mkdir(parents=True)
    film_with_subtitles(library / NAME, [(3, STRIPED), (9, CLEARED)], *TWO_SOUNDS, *AC3_VOB, codec="dvdsub")
    return library


def test_viewers_see_the_colours_of_the_disc(folder: Path) -> None:
    (folder / DESCRIPTION).write_bytes(title_set(PALETTE))
    server = start_server("--library", str(folder), "--port", "0", env={ENCODE: "auto"})
    try:
        seen = colours(f"{server.url}/vod/{NAME}/master.m3u8?burn=1")
    finally:
        server.stop()
    options = ("-ifo_palette", str(folder / DESCRIPTION))
    wanted = colours(folder / NAME, "-filter_complex", "[0:v][0:s]overlay", options=options)
    assert len(seen) == len(wanted) == 300
    # The subtitles begin with picture 75. ffmpeg's overlay shows them some pictures later.
    assert seen[74].max() < 20
    assert np.abs(seen[75] - seen[150]).mean() < 2
    for number in (70, 110, 150, 220, 230):
        assert np.abs(seen[number] - wanted[number]).mean() < 2, number
    # Two stripes are opaque, and far from grey; behind them is nothing but black.
    stripes = seen[150, 124:146, 80:240].reshape(22, 4, 40, 3)[:, :2, 6:34].mean(axis=(0, 2))
    assert np.ptp(stripes, axis=1).min() > 40
    assert seen[150, 124:146, 206:234].max() < 20


async def test_another_description_makes_another_version_of_the_pictures(
    folder: Path, tools: Tools, tmp_path: Path
) -> None:
    made, versions = list[bytes](), list[str]()
    for description in (None, title_set(PALETTE), title_set(OTHER), b"DVDVIDEO-VTS damaged"):
        if description is not None:
            (folder / DESCRIPTION).write_bytes(description)
        async with encoding(folder, tools, tmp_path / "data") as media:
            segment, version = await media.segment(NAME, TRACK, 1)
            _, plain = await media.init(NAME, "video-180p")
            for former in versions[-1:]:
                with pytest.raises(NotFoundError):
                    await media.segment(NAME, TRACK, 1, version=former)
        made.append(segment)
        versions.append(version.name)
        assert version.name.startswith(f"{plain.name}s")
    assert len(set(versions)) == len(set(made)) == 3
    # What can't be read counts for nothing.
    assert (versions[3], made[3]) == (versions[0], made[0])


def test_languages_are_those_of_the_description_as_it_is_now(folder: Path) -> None:
    titles = Titles(Library(folder), encoded=EncodedRenditions("auto", "x").tracks)

    def languages() -> tuple[list[str | None], list[tuple[str | None, bool, bool]]]:
        burned = titles.facts.text(NAME).burned
        playlist = m3u8.loads(titles.multivariant_playlist(NAME, Clip(subtitles=1)))
        sounds = [one.language for one in playlist.media if one.type == "AUDIO"]
        return sounds, [(one.language, one.forced, one.sdh) for one in burned]

    none, (before,) = languages()
    assert (set(none), before) == ({None}, (None, False, False))
    sounds = [Sound(AC3, "fr", 1), Sound(AC3, "de", 0)]
    (folder / DESCRIPTION).write_bytes(title_set(PALETTE, sounds, [Subpicture("es", (0, 0, 0, 0), 5)]))
    found, subtitles = languages()
    assert (list(dict.fromkeys(found)), subtitles) == (["de", "fr"], [("es", False, True)])
    told = titles.manifest(NAME).decode()
    assert told.index('lang="de"') < told.index('lang="fr"')
    (folder / DESCRIPTION).write_bytes(title_set(PALETTE, sounds[:1], [Subpicture("it", (0, 0, 0, 0), 9)]))
    found, subtitles = languages()
    assert (set(found), subtitles) == ({None, "fr"}, [("it", True, False)])


def test_a_package_has_the_languages_of_the_disc(folder: Path, tools: Tools, tmp_path: Path) -> None:
    ladder = ladder_of("auto", tools)

    def languages() -> tuple[list[str | None], list[str]]:
        (master,) = export([folder / NAME], tmp_path / "out", ladder=ladder).require()
        sounds = [one.language for one in m3u8.load(str(master)).media if one.type == "AUDIO"]
        return list(dict.fromkeys(sounds)), re.findall(
            'lang="(.*?)"', master.with_name("manifest.mpd").read_text()
        )

    assert languages() == ([None], [])
    sounds = [Sound(AC3, "fr", 1), Sound(AC3, "de", 0)]
    (folder / DESCRIPTION).write_bytes(title_set(PALETTE, sounds))
    # A package that exists is made again.
    found, told = languages()
    assert found == list(dict.fromkeys(told)) == ["de", "fr"]


def test_a_description_belongs_to_the_vobs_of_its_title_set() -> None:
    assert title_set_of("VTS_01_1.VOB") == "VTS_01_0.IFO"
    assert title_set_of("vts_12_9.vob") == "vts_12_0.ifo"
    for name in ("VTS_01_0.VOB", "VIDEO_TS.VOB", "film.vob", "VTS_01_1.mkv", "xVTS_01_1.VOB"):
        assert title_set_of(name) is None
    beside = ["VTS_01_0.IFO", "VTS_02_0.IFO"]
    assert list(sidecars_of("VTS_02_3.VOB", beside)) == ["VTS_02_0.IFO"]
    assert list(sidecars_of("VTS_03_1.VOB", beside)) == []


def test_the_list_of_the_library_changes_with_the_description(folder: Path) -> None:
    server = start_server("--library", str(folder), "--port", "0", env={ENCODE: "auto"})

    def languages() -> list[str | None]:
        listed = httpx.get(f"{server.url}/api/library", timeout=PATIENCE_SECONDS).json()
        return [one["language"] for file in listed for one in file.get("burned_subtitles") or ()]

    try:
        wait_for(lambda: languages() == [None], "subtitles without a language")
        for language in ("es", "it"):
            subpictures = [Subpicture(language, (0, 0, 0, 0))]
            (folder / DESCRIPTION).write_bytes(title_set(PALETTE, (), subpictures))
            wait_for(lambda wanted=[language]: languages() == wanted, f"the language {language}")  # type: ignore[misc]
    finally:
        server.stop()
