"""Subtitles of transport and program streams that are pictures, in the pictures of encoded renditions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from media.ts.subtitle_streams import dvb_pages
from media.ts.tables import ElementaryStream, StreamType
from packager.encode.renditions import EncodedRenditions
from packager.library.local_storage import Library
from packager.process.ffmpeg_discovery import Tools
from packager.vod import Titles
from packager.vod.file_lookup import offered_indexes
from tests.packager.encode.encoded_library import encoding
from tests.packager.encode.subtitle_pictures import VOB, WHITE, colours, display_set, film_with_subtitles
from tests.packager.films import run_ffmpeg

RED, HALF, NONE = bytes((81, 240, 90, 255)), bytes((145, 34, 54, 128)), bytes((16, 128, 128, 0))
SHOWN, CLEARED = display_set(shown=True), display_set(shown=False)
TRACK = "video-180p-subtitles-1"
STRIPED = display_set(shown=True, colours=(WHITE, RED, HALF, NONE))

WORDS = {"film.vob": VOB}


def starts(path: Path) -> list[int]:
    """Return the milliseconds at which the display sets of a film's only subtitles are shown."""
    titles = Titles(Library(path.parent), encoded=EncodedRenditions("all", "x").tracks)
    (index,) = offered_indexes(titles.facts._files.resolve(path.name, played=False))
    (one,) = index.picture_subtitles
    return [int(time) for time in one.display_sets.starts + one.early]


@pytest.mark.parametrize(
    ("name", "codec"),
    [("film.m2ts", "copy"), ("joined.m2ts", "copy"), ("film.ts", "dvbsub"), ("film.vob", "dvdsub")],
)
async def test_they_are_seen_as_ffmpeg_shows_them(
    name: str, codec: str, tools: Tools, tmp_path: Path
) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    path = folder / name
    if name.startswith("joined"):  # of Matroska, whose display sets are PES packets as a whole
        film_with_subtitles(tmp_path / "film.mkv", [(3, STRIPED), (9, CLEARED)])
        run_ffmpeg("-i", tmp_path / "film.mkv", "-map", "0", "-c", "copy", path)
    else:
        film_with_subtitles(path, [(3, STRIPED), (9, CLEARED)], *WORDS.get(name, ()), codec=codec)
    made = []
    for _ in range(2):
        async with encoding(folder, tools) as media:
            init, _ = await media.init(name, TRACK)
            segment, _ = await media.segment(name, TRACK, 1)
            made.append(init + segment)
    assert made[0] == made[1]
    segment_path = tmp_path / "segment.mp4"
    segment_path.write_bytes(made[0])
    # The last six seconds; the key frames of MPEG-2 with B pictures are elsewhere.
    seen = colours(segment_path)
    assert len(seen) == 150 or name == "film.vob"
    seen = seen[-150:]
    wanted = colours(path, "-filter_complex", "[0:v][0:s]overlay", "-ss", "6")[-150:]
    # The subtitles end three seconds behind the segment's begin.
    for number in (0, 20, 70, 80, 149):
        assert np.abs(seen[number] - wanted[number]).mean() < 2, number
    if codec != "dvdsub":  # whose colours are in another file of a disc
        stripes = seen[10, 124:146, 80:240].reshape(22, 4, 40, 3)[:, :, 6:34].mean(axis=(0, 2))
        assert np.abs(stripes - [(255, 255, 255), (255, 0, 0), (0, 128, 0), (0, 0, 0)]).max() < 20
    assert seen[80].max() < 20


@pytest.mark.parametrize(
    ("name", "codec"), [("film.m2ts", "copy"), ("film.ts", "dvbsub"), ("film.vob", "dvdsub")]
)
def test_times_go_on_behind_a_jump_of_the_clock(name: str, codec: str, tmp_path: Path) -> None:
    (tmp_path / "once").mkdir()
    path = tmp_path / "once" / name
    sets = [(3, SHOWN), (7, CLEARED), (9, SHOWN), (10, CLEARED)]
    film_with_subtitles(path, sets, *WORDS.get(name, ()), codec=codec)
    once = starts(path)
    # A unit of VobSub shows and clears. ffmpeg writes the sound's priming before 0, which delays all.
    wanted = [3000, 9000] if codec == "dvdsub" else [3000, 7000, 9000, 10_000]
    assert [time - once[-1] for time in once[-len(wanted) :]] == pytest.approx(
        [time - wanted[-1] for time in wanted], abs=1
    )
    assert once[-1] == pytest.approx(wanted[-1], abs=50)
    (tmp_path / "twice").mkdir()
    path = tmp_path / "twice" / name
    path.write_bytes(2 * (tmp_path / "once" / name).read_bytes())
    twice = starts(path)
    later = {second - first for first, second in zip(once, twice[len(once) :], strict=True)}
    assert twice[: len(once)] == once
    assert len(later) <= 2
    # A multiplexer of DVDs writes the sound up to half a second before its time.
    assert max(later) == pytest.approx(12_000, abs=500 if codec == "dvdsub" else 100)


def test_a_stream_of_dvb_has_subtitles_of_several_languages() -> None:
    # ETSI EN 300 468 §6.2.41: language, type, page, and the page that is shared
    told = bytes.fromhex("59 10") + b"deu\x10\x00\x01\x00\x02" + b"fra\x20\x00\x03\x00\x02"
    found = dvb_pages(ElementaryStream(StreamType.PRIVATE, 100, told))
    assert [(one.language, one.is_caption, one.private.hex()) for one in found] == [
        ("deu", False, "0001000210"),
        ("fra", True, "0003000220"),
    ]
    assert dvb_pages(ElementaryStream(StreamType.PRIVATE, 100, b"\x59\x07" + told[2:9])) == []
