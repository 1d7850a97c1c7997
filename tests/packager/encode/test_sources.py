"""Films of every sort are encoded as ffmpeg shows them: whole, upright, in their shape and brightness."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from packager.process.ffmpeg_discovery import Tools
from tests.packager.encode.encoded_library import decoded, encoding, joined, picture_times, sound_of
from tests.packager.films import FFPROBE, run_ffmpeg
from tests.packager.stripped_matroska import colour, crop, described, projection

SECONDS, RATE = 5, 10
PICTURE = f"-f lavfi -i testsrc2=size=128x96:rate={RATE}:duration={SECONDS}"
HEVC = "-c:v libx265 -preset ultrafast -x265-params log-level=none -g 20"
H264 = "-c:v libx264 -preset ultrafast -g 20"
BT2020 = "-pix_fmt yuv420p10le -color_primaries bt2020 -colorspace bt2020nc -color_trc"
TO_SDR = (
    "zscale=transfer=linear:npl=100,format=gbrpf32le,zscale=primaries=bt709,tonemap=hable:desat=0,"
    "zscale=transfer=bt709:matrix=bt709:range=limited,format=yuv420p,"
)

TOLERANCE = 6.0
"""Largest mean difference of two pictures of 256 shades: an encoder's at a good quality."""


@dataclass(frozen=True)
class Source:
    """A film, and how it is to be seen.

    Attributes:
        words: ffmpeg's, which make it of a test picture.
        seen: width and height of the encoded picture.
        filters: with which ffmpeg shows it.
        copied: words with which it is copied once more.
        height: pixels of the shorter side as it is seen.
        described: elements that Matroska's description of the picture has, too.
    """

    words: str
    seen: tuple[int, int] = (128, 96)
    filters: str = ""
    copied: str = ""
    height: int = 96
    described: bytes = b""


SOURCES = {
    "hdr10.mp4": Source(f"{HEVC} -tag:v hvc1 {BT2020} smpte2084", filters=TO_SDR),
    "hlg.mkv": Source(f"{HEVC} {BT2020} arib-std-b67", filters=TO_SDR),
    # Its pictures are untagged.
    "hdr-by-its-container.mkv": Source(
        f"{HEVC} -pix_fmt yuv420p10le",
        filters=f"setparams=color_primaries=bt2020:color_trc=smpte2084:colorspace=bt2020nc,{TO_SDR}",
        described=colour(9, 16, 9),
    ),
    "ten-bits.mkv": Source(f"{H264} -pix_fmt yuv420p10le"),
    "odd-444.mkv": Source(f"-vf scale=129:97,format=yuv444p {H264}", (128, 96), height=97),
    "turned.mp4": Source(f"{H264} -pix_fmt yuv444p", (96, 128), copied="-metadata:s:v rotate=90"),
    "rolled.mkv": Source(f"{H264} -pix_fmt yuv444p", (96, 128), described=projection(roll=90)),
    "behind.mkv": Source(f"{H264} -pix_fmt yuv444p", described=projection(roll=180, yaw=180)),
    # What ffmpeg decodes of a file that says nothing of a crop is cropped beside it.
    "cropped.mkv": Source(
        f"{H264} -pix_fmt yuv444p", (96, 72), "crop=96:72:8:4,", height=72, described=crop(8, 24, 4, 20)
    ),
    "square-by-its-codec.avi": Source(f"-vf setsar=4/3 {H264} -pix_fmt yuv444p", (172, 96)),
    "anamorphic.mpg": Source("-vf setsar=4/3 -c:v mpeg2video -q:v 2 -g 20", (172, 96)),
    "interlaced.ts": Source(
        "-vf tinterlace=interleave_top -c:v mpeg2video -q:v 2 -flags +ilme+ildct -top 1 -g 10 -r 25",
        filters="yadif=deint=interlaced,",
    ),
    "variable.mkv": Source("-vf select=lt(mod(n\\,7)\\,4) -vsync vfr -c:v mpeg4 -q:v 2 -g 20"),
    "silent.avi": Source("-c:v mpeg4 -q:v 2 -bf 2 -g 20"),
    "long-group.mkv": Source(f"{HEVC.replace('-g 20', '-g 1000 -bf 3')}"),
}


def made(folder: Path, name: str, words: str) -> Path:
    """Make a film of a library."""
    folder.mkdir(exist_ok=True)
    run_ffmpeg(*words.split(), folder / name)
    return folder


def shown(tools: Tools, path: Path, size: tuple[int, int], filters: str = "") -> NDArray[np.uint8]:
    """Return the brightness of all pixels of all pictures as ffmpeg shows them."""
    width, height = size
    chain = f"{filters}scale={width}:{height}:flags=bicubic,format=gray"
    command = [str(tools.ffmpeg), "-v", "error", "-i", str(path), "-map", "0:v:0", "-vf", chain]
    command += ["-vsync", "passthrough", "-f", "rawvideo", "pipe:1"]
    answer = subprocess.run(command, check=True, capture_output=True)
    return np.frombuffer(answer.stdout, np.uint8).reshape(-1, height, width)


def stream_of(path: Path) -> dict[str, object]:
    """Describe the first stream of a file."""
    command = [FFPROBE, "-v", "error", "-show_entries", "stream", "-of", "json", str(path)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    first: dict[str, object] = found["streams"][0]
    return first


@pytest.mark.parametrize("name", SOURCES)
async def test_pictures_of_every_sort_are_encoded_as_they_are_seen(
    name: str, tools: Tools, tmp_path: Path
) -> None:
    source = SOURCES[name]
    words = f"{PICTURE} {source.words}"
    folder = await asyncio.to_thread(made, tmp_path / "library", name, words)
    if source.copied:
        (folder / name).rename(tmp_path / name)
        await asyncio.to_thread(made, folder, name, f"-i {tmp_path / name} -c copy {source.copied}")
    if source.described:
        plain = (folder / name).read_bytes()
        (folder / name).write_bytes(described(plain, source.described))
    async with encoding(folder, tools, mode="auto") as media:
        path = await joined(media, name, f"video-{source.height}p", tmp_path)
    decoded(path, "-f", "null")
    facts = stream_of(path)
    assert (facts["width"], facts["height"]) == source.seen
    assert facts.get("sample_aspect_ratio", "1:1") == "1:1"
    assert facts["pix_fmt"] == "yuv420p"
    found = picture_times(path)
    # ffprobe knows no times of AVI's pictures that are decoded in another order.
    expected = (
        [Fraction(number, RATE) for number in range(RATE * SECONDS)]
        if name.endswith(".avi")
        else picture_times(folder / name)
    )
    assert len(found) == len(expected)
    late = [(one - found[0]) - (other - expected[0]) for one, other in zip(found, expected, strict=True)]
    assert max(map(abs, late)) <= Fraction(1, 1000)
    one = shown(tools, path, source.seen).astype(int)
    other = shown(tools, folder / name, source.seen, source.filters).astype(int)
    assert np.abs(one - other).mean(axis=(1, 2)).max() < TOLERANCE
    if source.filters.endswith(TO_SDR):
        assert facts["color_transfer"] == facts["color_primaries"] == "bt709"
        assert facts["color_space"] == "bt709"


LAYOUTS = {
    "5.1 with a voice": ("-c:a ac3", "5.1|FC=c0", 1.0),
    "7.1 with the left side": ("-c:a pcm_s16le", "7.1|SL=c0", 0.0),
    "one channel": ("-c:a ac3", "mono|c0=c0", 1.0),
}


async def test_of_too_many_pictures_a_second_some_are_encoded_at_their_own_times(
    tools: Tools, tmp_path: Path
) -> None:
    """A telephone's slow motion has 240 a second."""
    words = f"-f lavfi -i testsrc2=size=128x96:rate=240:duration=5 {HEVC} -tag:v hvc1"
    folder = await asyncio.to_thread(made, tmp_path / "library", "slow.mp4", words)
    async with encoding(folder, tools) as media:
        titles = media._titles
        playlist = await asyncio.to_thread(titles.multivariant_playlist, "slow.mp4")
        path = await joined(media, "slow.mp4", "video-96p", tmp_path)
    assert re.findall(r"FRAME-RATE=([0-9.]+).*\n(video[^/]*)/", playlist) == [
        ("240.000", "video"),
        ("60.000", "video-96p"),
    ]
    times = picture_times(path)
    assert [round(time * 240) for time in times] == [4 * number for number in range(300)]
    ours = shown(tools, path, (128, 96))
    theirs = shown(tools, folder / "slow.mp4", (128, 96))[::4]
    assert np.abs(ours.astype(np.int16) - theirs).mean() < 6


@pytest.mark.parametrize("name", LAYOUTS)
async def test_sound_of_many_channels_is_mixed_down_to_two(name: str, tools: Tools, tmp_path: Path) -> None:
    codec, layout, share = LAYOUTS[name]
    words = f"-f lavfi -i sine=frequency=440:sample_rate=48000:duration={SECONDS} -af pan={layout} {codec}"
    folder = await asyncio.to_thread(made, tmp_path / "library", "sound.mka", words)
    async with encoding(folder, tools, mode="auto") as media:
        path = await joined(media, "sound.mka", "audio-aac", tmp_path)
    left, right = (np.abs(sound_of(path, channel)).max() for channel in (0, 1))
    assert left > 0.02
    assert right == pytest.approx(share * left, abs=0.005)


async def test_a_film_that_was_cut_off_is_encoded_as_far_as_it_goes(tools: Tools, tmp_path: Path) -> None:
    words = f"{PICTURE} -c:v mpeg2video -g 10"
    folder = await asyncio.to_thread(made, tmp_path / "library", "cut.ts", words)
    film = folder / "cut.ts"
    film.write_bytes(film.read_bytes()[: film.stat().st_size * 2 // 3])
    async with encoding(folder, tools, mode="auto") as media:
        path = await joined(media, "cut.ts", "video-96p", tmp_path)
    decoded(path, "-f", "null")
    assert 25 <= len(picture_times(path)) <= 35


async def test_a_film_whose_times_jump_is_encoded_whole(tools: Tools, tmp_path: Path) -> None:
    words = f"{PICTURE} -c:v mpeg2video -g 10"
    folder = await asyncio.to_thread(made, tmp_path / "library", "first.ts", words)
    await asyncio.to_thread(made, folder, "second.ts", f"{words} -output_ts_offset 1000")
    joint = folder / "joint.ts"
    joint.write_bytes((folder / "first.ts").read_bytes() + (folder / "second.ts").read_bytes())
    async with encoding(folder, tools, mode="auto") as media:
        path = await joined(media, "joint.ts", "video-96p", tmp_path)
    decoded(path, "-f", "null")
    assert len(picture_times(path)) >= 2 * RATE * SECONDS - 2
