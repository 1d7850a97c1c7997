"""Subtitles that are pictures, in the pictures of encoded renditions."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from media.errors import MediaError, TooLargeError, UnsupportedError
from media.subtitles.pgs import DisplaySet, DisplaySets, read_display_set
from packager.encode.renditions import EncodedRenditions
from packager.encode.source_samples import MAX_DAMAGED_SETS, MAX_DISPLAY_SETS, subtitles_within
from packager.library.local_storage import Library
from packager.process.ffmpeg_discovery import Tools
from packager.vod import Titles
from packager.vod.segments.clip import Clip
from packager.vod.text.text_tracks import PictureSubtitles
from tests.packager.encode.encoded_library import decoded, encoding, joined, picture_times
from tests.packager.encode.subtitle_pictures import WHITE, colours, display_set, film_with_subtitles
from tests.packager.films import FFMPEG, run_ffmpeg

SHOWN, CLEARED = display_set(shown=True), display_set(shown=False)
TRACK = "video-180p-subtitles-1"


def brightness(path: Path, number: int) -> list[tuple[int, int]]:
    """Return of each picture how bright it is within the rectangle, and at most beside it."""
    words = "-vsync passthrough -f rawvideo -pix_fmt gray pipe:1"
    command = [FFMPEG, "-v", "error", "-i", str(path), *words.split()]
    answer = subprocess.run(command, check=True, capture_output=True)
    pictures = np.frombuffer(answer.stdout, np.uint8).reshape(-1, 180, 320)
    assert len(pictures) == number
    beside = pictures.copy()
    beside[:, 112:158, 72:248] = 0
    return [
        (int(one[124:146, 84:236].min()), int(other.max()))
        for one, other in zip(pictures, beside, strict=True)
    ]


def as_mp4(path: Path) -> Path:
    """Copy a film into an MP4 beside it."""
    run_ffmpeg("-i", path, "-map", "0", "-c", "copy", path.with_suffix(".mp4"))
    return path.with_suffix(".mp4")


@pytest.mark.parametrize(
    ("words", "codec"), [((), "copy"), (("-output_ts_offset", "3"), "copy"), ((), "dvdsub")]
)
async def test_a_caption_is_seen_at_its_place_and_time_in_all_segments_and_not_outside(
    words: tuple[str, ...], codec: str, tools: Tools, tmp_path: Path
) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    sets = [(3, SHOWN), (7, CLEARED), (9, SHOWN), (10, CLEARED)]
    path = folder / "film.mkv"
    film_with_subtitles(path, sets, *words, codec=codec)
    if codec == "dvdsub":  # MP4 knows no PGS
        path = as_mp4(path)
    name = path.name
    async with encoding(folder, tools) as media:
        plain = await joined(media, name, "video-180p", tmp_path)
        path = await joined(media, name, TRACK, tmp_path)
    decoded(path, "-f", "framemd5")
    assert picture_times(path) == picture_times(plain)
    seen = brightness(path, 300)
    shown = [*range(75, 175), *range(225, 250)]
    # The container's times are milliseconds, so that a picture may be on either side of a caption's begin.
    for number, (within, beside) in enumerate(seen):
        assert beside < 40
        if not {number - 1, number, number + 1} & {75, 175, 225, 250}:
            assert (within > 200) == (number in shown), number


@pytest.mark.parametrize(("codec", "cleared", "runs"), [("dvdsub", 7, 2), ("dvbsub", 9, 1)])
async def test_colours_of_vobsub_and_dvb_are_those_that_ffmpeg_shows(
    codec: str, cleared: float, runs: int, tools: Tools, tmp_path: Path
) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    path = folder / "film.mkv"
    red, half = bytes((81, 240, 90, 255)), bytes((145, 34, 54, 128))  # and a green of half the opacity
    striped = display_set(shown=True, colours=(WHITE, red, half, bytes((16, 128, 128, 0))))
    film_with_subtitles(path, [(3, striped), (cleared, CLEARED)], codec=codec)
    # A page of DVB ends by itself, here after 4 seconds in place of 30.
    page = bytes.fromhex("0f100001 0008")
    path.write_bytes(path.read_bytes().replace(page + b"\x1e", page + b"\x04"))
    made = []
    for _ in range(runs):
        async with encoding(folder, tools) as media:
            init, _ = await media.init(path.name, TRACK)
            segment, _ = await media.segment(path.name, TRACK, 1)
            made.append(init + segment)
    assert made[0] == made[-1]
    segment_path = tmp_path / "segment.mp4"
    segment_path.write_bytes(made[0])
    seen = colours(segment_path)
    assert len(seen) == 150
    wanted = colours(path, "-filter_complex", "[0:v][0:s]overlay", "-ss", "6")[-150:]
    # The subtitles end a second behind the segment's begin.
    for number in (0, 20, 30, 149):
        assert np.abs(seen[number] - wanted[number]).mean() < 2, number
    stripes = seen[10, 124:146, 80:240].reshape(22, 4, 40, 3)[:, :, 6:34].mean(axis=(0, 2))
    assert np.abs(stripes - [(255, 255, 255), (255, 0, 0), (0, 128, 0), (0, 0, 0)]).max() < 20
    assert seen[30].max() < 20


@pytest.mark.parametrize("tags", ["", "-colorspace bt709"], ids=["untagged", "tagged"])
async def test_colours_are_right_in_a_large_picture_too(tags: str, tools: Tools, tmp_path: Path) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    path = folder / "film.mkv"
    red, green = bytes((81, 240, 90, 255)), bytes((145, 34, 54, 255))
    striped = display_set(shown=True, colours=(WHITE, red, green, bytes((16, 128, 128, 0))))
    film_with_subtitles(path, [(3, striped), (7, CLEARED)], "-vf", "scale=1280:720", *tags.split())
    async with encoding(folder, tools) as media:
        init, _ = await media.init(path.name, "video-360p-subtitles-1")
        segment, _ = await media.segment(path.name, "video-360p-subtitles-1", 1)
    (tmp_path / "segment.mp4").write_bytes(init + segment)
    seen = colours(tmp_path / "segment.mp4", "-vf", "scale=320:180")
    stripes = seen[10, 124:146, 80:240].reshape(22, 4, 40, 3)[:, :, 6:34].mean(axis=(0, 2))
    assert np.abs(stripes - [(255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 0)]).max() < 20


async def test_segments_are_the_same_on_two_runs(tools: Tools, tmp_path: Path) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    film_with_subtitles(folder / "film.mkv", [(3, SHOWN), (7, CLEARED)])
    made = []
    for _ in range(2):
        async with encoding(folder, tools) as media:
            made.append(await media.segment("film.mkv", TRACK, 1))
    assert made[0] == made[1]


async def test_damaged_and_huge_subtitles_are_left_out_of_the_picture(tools: Tools, tmp_path: Path) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    huge = display_set(shown=True, canvas=(16_000, 16_000), pixels=(16_000, 16_000))
    damaged = SHOWN.replace(b"\x15", b"\x13")
    film_with_subtitles(folder / "film.mkv", [(1, huge), (3, SHOWN), (5, damaged), (7, huge)])
    async with encoding(folder, tools) as media:
        path = await joined(media, "film.mkv", TRACK, tmp_path)
    seen = brightness(path, 300)
    assert max(within for within, _ in seen[:70]) < 40
    assert min(within for within, _ in seen[80:120]) > 200


def test_no_more_of_a_track_is_read_than_a_few_damaged_sets_and_a_usual_number() -> None:
    numbers = np.arange(200)
    reads: list[int] = []

    def decode(block: bytes) -> list[tuple[int, DisplaySet]]:
        raise TooLargeError(f"a bomb of {len(block)} bytes")

    def read(offset: int, length: int) -> bytes:
        reads.append(offset)
        return bytes(length)

    sets = DisplaySets(numbers * 10, numbers, np.full(200, 8), decode)
    track = PictureSubtitles(1, sets, 0, None, "", default=False, forced=False, sdh=False)
    assert subtitles_within(track, 0, 2000, 0, read) is None
    assert len(reads) == MAX_DAMAGED_SETS + 1
    # Blocks of VobSub have several sets each.
    reads.clear()
    fade = [(0, read_display_set(CLEARED))] * 64
    found = subtitles_within(
        replace(track, display_sets=replace(sets, decode=lambda _: fade)), 0, 2000, 0, read
    )
    assert found is not None
    assert len(reads) == -(-2 * MAX_DISPLAY_SETS // 64)


@pytest.mark.parametrize(
    ("begins", "start", "wanted"),
    [
        # Each block shows a subtitle half a second behind its own time, and clears it five seconds later.
        ((0, 10_000), 6000, [500, 5500]),
        ((0, 10_000), 10_200, [500, 5500, 10_500]),
        ((0, 2000, 10_000), 2000, [500, 2500]),
        ((0, 2000, 10_000), 6000, [2500]),
    ],
)
def test_a_block_that_shows_subtitles_later_ends_where_the_next_one_shows_its_own(
    begins: Sequence[int], start: int, wanted: list[int]
) -> None:
    shown, cleared = read_display_set(SHOWN), read_display_set(CLEARED)
    numbers = np.arange(len(begins))
    sets = DisplaySets(np.array(begins), numbers, numbers, lambda _: [(500, shown), (5500, cleared)])
    track = PictureSubtitles(1, sets, 0, None, "", default=False, forced=False, sdh=False)
    found = subtitles_within(track, start, start + 1000, 0, lambda _, length: bytes(length))
    assert found is not None
    heads = [match.start() for match in re.finditer(rb"PG.{8}\x16", found.data, re.DOTALL)]
    times = [int.from_bytes(found.data[at + 2 : at + 6], "big") // 90 + found.begin for at in heads]
    assert times == wanted


@pytest.mark.parametrize("codec", ["copy", "dvdsub"])
def test_the_library_lists_them_where_pictures_are_encoded(codec: str, tmp_path: Path) -> None:
    words = "-map 2 -map 2 -metadata:s:s:1 language=deu -metadata:s:s:2 title=Signs -disposition:s:2 forced"
    film_with_subtitles(tmp_path / "film.mkv", [(3, SHOWN), (7, CLEARED)], *words.split(), codec=codec)
    library = Library(tmp_path)
    facts = Titles(library, encoded=EncodedRenditions("all", "x").tracks).facts.text("film.mkv")
    assert [(one.number, one.name, one.language, one.forced) for one in facts.burned] == [
        (1, "Deutsch", "de", False), (2, "Deutsch (2)", "de", False), (3, "Signs", None, True)
    ]  # fmt: skip
    assert Titles(library).facts.text("film.mkv").burned == ()


def test_vobsub_of_mp4_is_listed_where_its_configuration_is_whole(tmp_path: Path) -> None:
    film_with_subtitles(tmp_path / "film.mkv", [(3, SHOWN), (7, CLEARED)], codec="dvdsub")
    data = as_mp4(tmp_path / "film.mkv").read_bytes()
    entry = data.index(b"mp4s")
    begin = data.index(b"\xe0\xe1", entry)
    damaged = {
        "no configuration": data[:entry] + data[entry:].replace(b"esds", b"free", 1),
        "MPEG-4 systems": data[:begin] + b"\x01" + data[begin + 1 :],
        "no palette": data.replace(b"\x05\x80\x80\x80\x40", b"\x07\x80\x80\x80\x40"),
    }
    for name, changed in damaged.items():
        assert changed != data
        (tmp_path / f"{name}.mp4").write_bytes(changed)
    facts = Titles(Library(tmp_path), encoded=EncodedRenditions("all", "x").tracks).facts
    film_with_subtitles(tmp_path / "text.mp4", [(3, SHOWN), (7, CLEARED)], codec="dvdsub")
    for name in ("film.mp4", "text.mp4"):
        burned = [(one.number, one.language, one.default) for one in facts.text(name).burned]
        assert burned == [(1, "de", True)]
    for name in damaged:
        assert facts.text(f"{name}.mp4").burned == ()


def test_display_sets_are_read_that_are_whole_and_of_a_usual_size() -> None:
    assert read_display_set(SHOWN).is_complete
    assert not read_display_set(CLEARED).is_complete
    bad = [b"", SHOWN[:-2], SHOWN[3:], SHOWN + SHOWN, b"\x16", b"\x16\0\0", SHOWN + b"\x80\0\0" * 1025]
    bad += [display_set(shown=True, canvas=(8000, 180)), display_set(shown=True, pixels=(400, 30))]
    for data in bad:
        with pytest.raises(MediaError):
            read_display_set(data)


def test_playlists_that_ask_for_them_have_only_pictures_with_subtitles_and_all_sounds(tmp_path: Path) -> None:
    film_with_subtitles(tmp_path / "film.mkv", [(3, SHOWN), (7, CLEARED)])
    titles = Titles(Library(tmp_path), encoded=EncodedRenditions("all", "x").tracks)
    plain = titles.multivariant_playlist("film.mkv")
    assert "subtitles-1" not in plain
    assert "master.m3u8?burn=1" in plain
    lines = titles.multivariant_playlist("film.mkv", Clip(subtitles=1)).splitlines()
    variants = [line for line in lines if line and not line.startswith("#")]
    assert variants == [f"{TRACK}/media.m3u8?start=0&burn=1"]
    assert sum("TYPE=AUDIO" in line for line in lines) == 1 + plain.count('URI="audio-aac')
    thumbnails = Titles(Library(tmp_path), thumbnails=True, encoded=EncodedRenditions("all", "x").tracks)
    images = [
        [
            line
            for line in thumbnails.multivariant_playlist("film.mkv", clip).splitlines()
            if "IMAGE-STREAM" in line
        ]
        for clip in (Clip(), Clip(subtitles=1), Clip(Fraction(2), subtitles=1))
    ]
    assert images[0] == images[1] != images[2] == []
    tiles = [
        b"thumbnail_tile" in thumbnails.manifest("film.mkv", clip)
        for clip in (Clip(), Clip(subtitles=1), Clip(Fraction(2), subtitles=1))
    ]
    assert tiles == [True, True, False]
    told = titles.manifest("film.mkv", Clip(subtitles=1)).decode()
    assert TRACK in told
    assert re.findall('<Representation id="(video[^"]*)', told) == [f"{TRACK}-0", f"{TRACK}-iframes-0"]
    media = titles.media_playlist("film.mkv", TRACK, Clip(subtitles=1))
    assert media.count("#EXTINF") == titles.media_playlist("film.mkv", "video-180p").count("#EXTINF")
    with pytest.raises(UnsupportedError):
        titles.multivariant_playlist("film.mkv", Clip(subtitles=2))
