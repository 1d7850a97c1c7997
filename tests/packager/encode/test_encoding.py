"""Encoded renditions: every picture once, sound without a seam, the same bytes always, one encode for all."""

from __future__ import annotations

import asyncio
import os
import shutil
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from media.errors import MalformedError
from packager.encode.renditions import EncodedRendition, EncodedRenditions, find_rendition
from packager.encode.segment_encoder import encode_segment
from packager.library.local_storage import Library, NotFoundError
from packager.process.ffmpeg_discovery import Tools
from packager.transient_errors import NotReadyError
from packager.vod import Titles
from packager.vod.movie.movie_reader import Read
from packager.vod.segments.segment import ShortReadError
from tests.packager.encode.encoded_library import decoded, encoding, joined, library, picture_times, sound_of
from tests.packager.films import film, run_ffmpeg
from tests.waiting import until

SOURCES = {
    "old.avi": "-c:v mpeg4 -vtag DIVX -bf 2 -c:a libmp3lame",
    "disc.vob": "-c:v mpeg2video -c:a mp2",
    "web.flv": "-c:v flv -c:a libmp3lame",
    "windows.wmv": "-c:v wmv2 -c:a wmav2",
    "television.ts": "-c:v mpeg2video -bf 2 -c:a ac3",
    "free.ogv": "-c:v libtheora -q:v 6 -c:a libvorbis",
    "lossless.mkv": "-c:v mpeg4 -c:a wavpack",
    "camera.mov": "-c:v prores -c:a pcm_s16le",
}
"""Films that no browser plays, by the options with which ffmpeg makes them."""

FRAME = 1024
RATE = 48_000
SWEEP = "aevalsrc='0.4*sin(2*PI*(200*t+40*t*t))':s=48000:d=13"


@pytest.mark.parametrize("name", ["bframes.mp4", "hevc.mp4", "longgop.mp4", "fragmented.mp4"])
async def test_joined_segments_have_every_picture_of_the_film_once_at_its_time(
    name: str, tools: Tools, tmp_path: Path
) -> None:
    async with encoding(library(tmp_path, name), tools) as media:
        path = await joined(media, name, "video-180p", tmp_path)
    decoded(path, "-f", "framemd5")
    expected, times = picture_times(film(name)), picture_times(path)
    assert len(times) == len(expected)
    assert max(abs(one - other) for one, other in zip(times, expected, strict=True)) <= Fraction(1, 1000)


@pytest.mark.parametrize("name", SOURCES)
async def test_films_of_every_sort_are_encoded_whole(name: str, tools: Tools, tmp_path: Path) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    picture = ("-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=8")
    tone = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100:duration=8")
    run_ffmpeg(*picture, *tone, *SOURCES[name].split(), folder / name)
    async with encoding(folder, tools, mode="auto") as media:
        video = await joined(media, name, "video-120p", tmp_path)
        sound = await joined(media, name, "audio-aac", tmp_path)
    assert len(picture_times(video)) == 200
    heard = sound_of(sound)
    assert 8 * 44100 <= len(heard) <= 8.3 * 44100
    # A tone is as loud in each tenth of a second, but for the first and the last ones.
    tenths = np.abs(heard[4410 : 4410 * 79]).reshape(-1, 4410).max(axis=1)
    assert tenths.min() > 0.8 * tenths.max()


def test_boundaries_are_the_films_own_where_key_frames_are_close_and_else_every_four_seconds(
    tmp_path: Path,
) -> None:
    folder = library(tmp_path, "bframes.mp4", "longgop.mp4")
    titles = Titles(Library(folder), encoded=EncodedRenditions("all", "x").tracks)
    close, apart = (titles.files.find(name).index for name in ("bframes.mp4", "longgop.mp4"))
    assert close.video is not None
    assert apart.video is not None
    assert close.pictures[1].times.tolist() == close.video.times.tolist()
    assert (apart.pictures[1].times / apart.video.timescale).tolist() == [0, 4, 8, 12]


@pytest.mark.parametrize(
    ("source", "own_rate", "rate"),
    [
        (SWEEP, RATE, RATE),
        ("sine=frequency=1000:sample_rate=48000:duration=13", RATE, RATE),
        (f"flite=text='{' and then another sentence is spoken' * 6}'", RATE, RATE),
        (SWEEP, 32_000, RATE),
        (SWEEP, 96_000, RATE),
        (SWEEP, 22_050, 44_100),
    ],
    ids=["sweep", "tone", "speech", "32 kHz", "96 kHz", "22 kHz"],
)
async def test_joined_sound_is_no_worse_at_joins_than_elsewhere(
    source: str, own_rate: int, rate: int, tools: Tools, tmp_path: Path
) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    words = ("-ac", "2", "-ar", str(own_rate), "-t", "13", "-c:a", "flac")
    run_ffmpeg("-f", "lavfi", "-i", source, *words, folder / "sweep.mkv")
    async with encoding(folder, tools) as media:
        path = await joined(media, "sweep.mkv", "audio-aac", tmp_path)
    original = sound_of(folder / "sweep.mkv", rate=rate)
    # Some programs take no notice of the edit list of a fragmented file: the encoder's first frame is there.
    result = sound_of(path, rate=rate)
    errors = [np.abs(result[skipped:][: len(original)] - original) for skipped in (0, FRAME)]
    error = min(errors, key=lambda one: float(one.mean()))
    begins = [number * round(4 * rate / FRAME) * FRAME for number in range(1, len(original) // rate // 4 + 1)]
    assert begins
    at_joins = max(float(error[begin - 2 * FRAME : begin + 2 * FRAME].max()) for begin in begins)
    elsewhere = np.delete(error, [*range(2 * FRAME), *range(len(error) - 2 * FRAME, len(error))])
    assert at_joins <= 2 * np.quantile(elsewhere, 0.9999)
    assert at_joins < 0.01


@pytest.mark.parametrize("noise", [0, 90])
async def test_machines_make_the_same_bytes_however_busy_they_are(
    tools: Tools, tmp_path: Path, noise: int
) -> None:
    """One that has nothing else to do, and several at the same time; with noise a segment is encoded anew."""
    folder = tmp_path / "library"
    folder.mkdir()
    picture = ("-f", "lavfi", "-i", f"testsrc2=size=320x240:rate=25:duration=8,noise=alls={noise}:allf=t")
    tone = ("-f", "lavfi", "-i", "sine=duration=8")
    run_ffmpeg(*picture, *tone, "-c:v", "mpeg4", "-q:v", "2", "-c:a", "ac3", folder / "film.mkv")

    async def segments(number: int) -> tuple[str, ...]:
        async with encoding(folder, tools, tmp_path / str(number)) as media:
            made = [(await media.segment("film.mkv", track, 1))[0] for track in ("video-240p", "audio-aac")]
            return tuple(sha256(data).hexdigest() for data in made)

    alone = await segments(0)
    together = await asyncio.gather(*(segments(number) for number in range(1, 4)))
    assert {alone, *together} == {alone}


@pytest.mark.parametrize("requests", [10, 100, 1000])
async def test_a_segment_is_encoded_once_for_all_and_then_found_on_disk(
    requests: int, tools: Tools, tmp_path: Path
) -> None:
    folder = library(tmp_path, "bframes.mp4")
    starts = list[int]()

    async def counted(
        tools: Tools, rendition: EncodedRendition, number: int, bounds: tuple[int, int] | None, read: Read
    ) -> bytes:
        starts.append(number)
        return await encode_segment(tools, rendition, number, bounds, read)

    async with encoding(folder, tools, tmp_path / "data", encode=counted) as media:
        wanted = (media.segment("bframes.mp4", "audio-aac", 1) for _ in range(requests))
        results = {data for data, _ in await asyncio.gather(*wanted)}
    assert len(results) == starts.count(1) == 1
    async with encoding(folder, tools, tmp_path / "data", encode=counted) as media:
        assert {(await media.segment("bframes.mp4", "audio-aac", 1))[0]} == results
    assert starts.count(1) == 1


async def test_films_of_one_size_and_time_have_segments_of_their_own(tools: Tools, tmp_path: Path) -> None:
    """The files of a DVD are all 1 GiB long, and may have been made in one second."""
    folder, made = library(tmp_path, "sound.m4a"), list[int]()
    shutil.copy(folder / "sound.m4a", folder / "other.m4a")
    for path in folder.iterdir():
        os.utime(path, (1, 1))

    async def counted(*_: object) -> bytes:
        made.append(0)
        return bytes([len(made)])

    async with encoding(folder, tools, encode=counted) as media:
        found = [(await media.segment(name, "audio-aac", 4))[0] for name in ("sound.m4a", "other.m4a")]
    assert found == [b"\1", b"\2"]


async def test_shares_of_clips_are_kept_in_memory_alone(tools: Tools, tmp_path: Path) -> None:
    folder, made = library(tmp_path, "sound.m4a"), list[int]()

    async def counted(*_: object) -> bytes:
        made.append(0)
        return b"share"

    async with encoding(folder, tools, tmp_path / "data", encode=counted) as media:
        for _ in range(2):
            assert (await media.segment("sound.m4a", "audio-aac", 0, (1024, 2048)))[0] == b"share"
    assert len(made) == 1
    assert list(tmp_path.glob("data/**/*.m4s")) == []


async def test_an_encoder_whose_clients_have_all_gone_is_ended(tools: Tools, tmp_path: Path) -> None:
    ended = asyncio.Event()
    began = asyncio.Event()

    async def endless(*_: object) -> bytes:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return b""

    async with encoding(library(tmp_path, "bframes.mp4"), tools, encode=endless) as media:
        clients = [asyncio.create_task(media.segment("bframes.mp4", "video-180p", 0)) for _ in range(3)]
        await began.wait()
        await until(lambda: media.waiting == 3, "all clients")
        for client in clients[:2]:
            client.cancel()
        await asyncio.wait(clients[:2])
        assert not ended.is_set()
        clients[2].cancel()
        await until(ended.is_set, "the encoder's end")


async def test_more_than_the_queue_holds_are_told_to_come_again(tools: Tools, tmp_path: Path) -> None:
    async def endless(*_: object) -> bytes:
        await asyncio.Event().wait()
        return b""

    async with encoding(library(tmp_path, "bframes.mp4"), tools, encode=endless, waiting=1) as media:
        first = asyncio.create_task(media.segment("bframes.mp4", "video-180p", 0))
        await until(lambda: media.running == 1, "the first segment's turn")
        second = asyncio.create_task(media.segment("bframes.mp4", "video-180p", 1))
        await until(lambda: media.waiting == 2, "the second segment's place in the queue")
        with pytest.raises(NotReadyError):
            await media.segment("bframes.mp4", "video-180p", 2)
        first.cancel()
        second.cancel()
        await asyncio.wait((first, second))
        assert media.waiting == 0


async def test_what_breaks_the_encoder_twice_is_not_tried_again(tools: Tools, tmp_path: Path) -> None:
    tries = list[int]()

    async def broken(*_: object) -> bytes:
        tries.append(1)
        raise MalformedError("no such picture")

    async with encoding(library(tmp_path, "bframes.mp4"), tools, encode=broken) as media:
        for _ in range(4):
            with pytest.raises(MalformedError, match="it can't be encoded: no such picture"):
                await media.segment("bframes.mp4", "video-180p", 0)
    assert len(tries) == 2


@pytest.mark.parametrize("track", ["video-180p", "audio-aac"])
@pytest.mark.parametrize("lost", ["short", "error"])
async def test_a_film_that_is_read_in_part_gives_no_segment(
    track: str, lost: str, tools: Tools, tmp_path: Path
) -> None:
    """Else the cache would keep fewer pictures, or silence, when S3 fails or a file is cut short."""
    renditions = EncodedRenditions("all", tools.version)
    titles = Titles(Library(library(tmp_path, "bframes.mp4")), encoded=renditions.tracks)
    index = (await asyncio.to_thread(titles.files.find, "bframes.mp4")).index
    rendition = find_rendition(index, track)
    assert rendition is not None
    data, read_bytes = film("bframes.mp4").read_bytes(), list[int]()

    def read(offset: int, length: int) -> bytes:
        read_bytes.append(length)
        if len(read_bytes) <= 40:
            return data[offset : offset + length]
        if lost == "error":
            raise OSError("S3 can't be reached")
        return b""

    with pytest.raises((OSError, ShortReadError)):
        await encode_segment(tools, rendition, 1, None, read)


@pytest.mark.parametrize(
    ("track", "number", "bounds"),
    [
        ("video-180p", 99, None),
        ("video-181p", 0, None),
        ("video-180p", 0, (5, 5)),
        ("video-180p", 0, (0, 1 << 40)),
        ("audio-aac", 0, (1, 1024)),
    ],
)
async def test_addresses_of_nothing_start_no_encoder(
    track: str, number: int, bounds: tuple[int, int] | None, tools: Tools, tmp_path: Path
) -> None:
    async with encoding(library(tmp_path, "bframes.mp4"), tools) as media:
        with pytest.raises(NotFoundError):
            await media.segment("bframes.mp4", track, number, bounds)
        with pytest.raises(NotFoundError):
            await media.segment("bframes.mp4", "video-180p", 0, version="000000000000")


async def test_the_bandwidth_is_a_bound_for_noise_too(tools: Tools, tmp_path: Path) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    # Noise of which the encoder would make five times as much as is allowed; no browser plays this codec.
    noise = tmp_path / "noise.gray"
    noise.write_bytes(np.random.default_rng(1).bytes(320 * 180 * 25 * 6))
    words = f"-f rawvideo -pixel_format gray -video_size 320x180 -framerate 25 -i {noise} -pix_fmt yuv420p"
    run_ffmpeg(*words.split(), "-c:v", "mpeg4", "-q:v", "2", "-g", "50", folder / "noise.mkv")
    async with encoding(folder, tools, mode="auto") as media:
        titles = Titles(Library(folder), encoded=EncodedRenditions("auto", "x").tracks)
        (picture,) = (await asyncio.to_thread(titles.files.find, "noise.mkv")).index.encoded
        for number, most in enumerate(picture.sizes.tolist()):
            assert len((await media.segment("noise.mkv", picture.name, number))[0]) <= most
