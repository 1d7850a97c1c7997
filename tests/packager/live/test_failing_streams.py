"""Live streams of which a part fails: the rest plays on, and what comes back comes back."""

from __future__ import annotations

import asyncio
import functools
import itertools
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from media.flv import tags as flv_tags
from media.steady_times import STRAY
from media.ts.stream_reader import NOT_THERE
from media.ts.tables import PACKET
from packager.concurrency import background_task
from packager.live.channel import Channel
from packager.process.ffmpeg_discovery import Tools
from packager.sources.published_source import NO_PICTURE, NO_SOUND
from tests.live_server import running
from tests.media.muxers.muxed_streams import tags_of
from tests.packager.live.copied_streams import (
    CODING,
    FIRST,
    LOUD,
    OPTIONS,
    SECOND,
    SECONDS,
    SILENT,
    Recorded,
    bring,
    media_of,
    published_by,
    publishing,
    recorded,
    segments,
    volumes,
)
from tests.packager.live.moved_times import MOVED, in_container
from tests.waiting import until

__all__ = ["recorded"]

pytestmark = pytest.mark.timeout(600)


def without(
    recording: Path, folder: Path, is_there: Callable[[int], bool], kind: int = flv_tags.AUDIO
) -> Path:
    """Leave out the frames of sound or picture, but not what announces it, whose milliseconds don't suit."""
    data, made = recording.read_bytes(), folder / "partly.flv"
    kept = [
        tag
        for tag in tags_of(data)
        if tag[0] != kind or tag[12] == 0 or is_there(int.from_bytes(tag[4:7], "big"))
    ]
    made.write_bytes(data[: flv_tags.FILE_HEADER] + b"".join(kept))
    return made


def pictures(channel: Channel, folder: Path) -> list[tuple[float, str]]:
    """Return the seconds and a hash of each picture that ffmpeg decodes of the newest timeline.

    It finds no error in any of them.
    """
    name = next(name for name, one in channel.renditions.items() if one.video)
    window, made = channel.renditions[name].window, folder / "pictures.mp4"
    assert window.timeline is not None
    made.write_bytes(media_of(window, window.timeline.number))
    words = f"-nostdin -v error -i {made} -an -fps_mode passthrough -f framemd5 -"
    told = subprocess.run(["ffmpeg", *words.split()], check=True, capture_output=True, text=True)
    assert not told.stderr
    base = float(Fraction(re.findall(r"#tb 0: (\S+)", told.stdout)[0]))
    rows = [row.split(",") for row in told.stdout.splitlines() if not row.startswith("#")]
    return [(int(row[2]) * base, row[5]) for row in rows]


@pytest.mark.clause("While a stream's sound is missing, its picture goes on with silence")
@pytest.mark.parametrize("ladder", [("source",), ("240p",), ("source", "240p")], ids="+".join)
async def test_the_picture_goes_on_with_silence_while_sound_is_missing(
    tools: Tools, recorded: Recorded, tmp_path: Path, ladder: tuple[str, ...]
) -> None:
    # Where an ffmpeg copies the picture, six seconds of it are looked at first.
    begin = 15_000 if len(ladder) > 1 else 4000
    stream = without(recorded(seconds=28), tmp_path, lambda time: not begin < time < begin + 3500)
    options = replace(OPTIONS, ladder=ladder, limits=replace(OPTIONS.limits, stall_seconds=1.5))
    channel = Channel(options, tools)
    source = published_by(channel)
    async with running(channel), publishing(source.begin(FIRST), stream):
        await until(lambda: source.last_error == NO_SOUND)
        # What comes back comes back.
        await until(lambda: segments(channel) > 0 and not source.last_error)
        number = channel.renditions["audio"].window.next_number
        await until(lambda: segments(channel, number) >= 2)
        assert channel.restarts == 0
        assert not any(
            one.gap for rendition in channel.renditions.values() for one in rendition.window.listed
        )
        told = await asyncio.to_thread(volumes, channel, tmp_path)
    assert max(told[-2:]) > LOUD
    assert sum(volume < SILENT for volume in told) >= 2


@pytest.mark.realtime
@pytest.mark.parametrize("ladder", [("source",), ("240p",), ("source", "240p")], ids="+".join)
async def test_the_sound_goes_on_with_a_key_frame_while_pictures_are_missing(
    tools: Tools, recorded: Recorded, tmp_path: Path, ladder: tuple[str, ...]
) -> None:
    begin = 15_000 if len(ladder) > 1 else 5000
    stream = without(
        recorded(seconds=28), tmp_path, lambda time: not begin < time < begin + 5000, flv_tags.VIDEO
    )
    limits = replace(OPTIONS.limits, stall_seconds=4.0)
    # Where numbers are reserved, a source that begins late and catches up loses no segment for being early.
    channel = Channel(replace(OPTIONS, ladder=ladder, limits=limits, data=tmp_path / "data"), tools)
    source = published_by(channel)
    async with running(channel), publishing(source.begin(FIRST), stream):
        # On a busy machine pictures may be late at the beginning, too.
        await until(lambda: segments(channel) > 0 and source.last_error == NO_PICTURE)
        # What comes back comes back.
        await until(lambda: not source.last_error)
        number = channel.renditions["audio"].window.next_number
        await until(lambda: segments(channel, number) >= 2)
        assert channel.restarts == 0
        windows = {name: one.window for name, one in channel.renditions.items()}
        listed = [(name, one) for name, window in windows.items() for one in window.listed]
        breaks = [(name, one.number, one.gap) for name, one in listed if one.gap or one.discontinuity]
        assert breaks == []
        heard = await asyncio.to_thread(volumes, channel, tmp_path)
        seen = await asyncio.to_thread(pictures, channel, tmp_path)
        # A rendition may be some segments behind the publisher.
        while len({hashed for _, hashed in seen[-20:]}) < 20:
            number = channel.renditions["audio"].window.next_number
            await until(functools.partial(segments, channel, number))
            seen = await asyncio.to_thread(pictures, channel, tmp_path)
    assert min(heard[1:-1]) > LOUD
    times = [time for time, _ in seen]
    # RFC 8216bis §4.4.4.9: parts begin at least so often.
    assert max(after - before for before, after in itertools.pairwise(times)) < 2 * channel.part_target
    shown = Counter(hashed for _, hashed in seen)
    (still, count), *_ = shown.most_common()
    first = next(time for time, hashed in seen if hashed == still)
    assert max(time for time, hashed in seen if hashed == still) - first > 3
    assert count > 3 / channel.part_target / 2


@pytest.mark.parametrize("ladder", [("source",), ("240p",), ("source", "240p")], ids="+".join)
async def test_sound_that_is_announced_and_never_comes_is_silence(
    tools: Tools, recorded: Recorded, tmp_path: Path, ladder: tuple[str, ...]
) -> None:
    stream = without(recorded(), tmp_path, lambda _: False)
    channel = Channel(replace(OPTIONS, ladder=ladder), tools)
    source = published_by(channel)
    async with running(channel), publishing(source.begin(FIRST), stream):
        await until(lambda: segments(channel) >= 2)
        assert channel.restarts == 0
        assert source.last_error == NO_SOUND
        assert (channel.pid is None) == (ladder == ("source",))
        told = await asyncio.to_thread(volumes, channel, tmp_path)
    assert max(told) < SILENT


def retimed(recording: Path, folder: Path, told: Callable[[int, int], int]) -> Path:
    """Write a recording anew with other times of its tags, which depend on their kind and milliseconds."""
    data, made = recording.read_bytes(), folder / "retimed.flv"
    tags = []
    for tag in tags_of(data):
        time = told(tag[0], int.from_bytes(tag[4:7], "big"))
        tags.append(
            tag[:4] + (time & 0xFFFFFF).to_bytes(3, "big") + (time >> 24).to_bytes(1, "big") + tag[8:]
        )
    made.write_bytes(data[: flv_tags.FILE_HEADER] + b"".join(tags))
    return made


@pytest.mark.parametrize("ladder", [("source",), ("240p",)], ids="+".join)
async def test_times_that_are_wrong_of_one_track_are_told_and_both_play(
    tools: Tools, recorded: Recorded, tmp_path: Path, ladder: tuple[str, ...]
) -> None:
    faulty = retimed(recorded(), tmp_path, lambda kind, time: time + (4000 if kind == flv_tags.AUDIO else 0))
    channel = Channel(replace(OPTIONS, ladder=ladder), tools)
    source = published_by(channel)
    async with running(channel), publishing(source.begin(FIRST), faulty, came=recorded()):
        await until(lambda: segments(channel) >= 4)
        assert "4.0 s ahead of" in source.last_error
        assert channel.restarts == 0
        told = await asyncio.to_thread(volumes, channel, tmp_path)
    assert min(told[1:-1]) > LOUD


async def test_a_picture_in_sixty_with_a_time_hours_away_costs_nothing_else(
    tools: Tools, recorded: Recorded, tmp_path: Path
) -> None:
    count = itertools.count(1)

    def told(kind: int, time: int) -> int:
        strays = kind == flv_tags.VIDEO and time > 0 and time % 1000 == 520
        return time + 9_800_000 * (strays and next(count) > 0)

    channel = Channel(OPTIONS, tools)
    source = published_by(channel)
    faulty = retimed(recorded(), tmp_path, told)
    async with running(channel), publishing(source.begin(FIRST), faulty, came=recorded()):
        await until(lambda: segments(channel) >= 5)
        assert next(count) > 5
        assert "single pictures" in source.last_error
        assert channel.restarts == 0
        windows = {name: one.window for name, one in channel.renditions.items()}
        listed = [(name, one) for name, window in windows.items() for one in window.listed]
        breaks = [(name, one.number, one.gap) for name, one in listed if one.gap or one.discontinuity]
        assert breaks == []


async def test_frame_rate_follows_a_publisher_of_a_picture_a_second(tools: Tools, recorded: Recorded) -> None:
    channel = Channel(replace(OPTIONS, segment_duration=2.0), tools)
    source = published_by(channel)
    async with running(channel):
        async with publishing(source.begin(FIRST), recorded()):
            await until(lambda: segments(channel) >= 2)
        assert b"FRAME-RATE=25.000" in channel.presentation.multivariant()
        number = channel.renditions["source"].window.next_number
        slow = recorded(rate="1", coding=CODING.replace("-bf 2 -g 25", "-g 2"), seconds=40)
        publication = source.begin(SECOND)
        async with publishing(publication, slow):
            await until(lambda: segments(channel, number) >= 2)
            assert not publication.end_reason
            assert b"FRAME-RATE=1.000" in channel.presentation.multivariant()
            text = channel.presentation.media("source").decode()
        listed = [float(one) for one in re.findall(r"#EXT-X-PART:DURATION=([0-9.]+)", text)]
        # RFC 8216bis §4.4.3.7: no part is longer than the target.
        assert max(listed, default=0.0) <= channel.part_target
        # §4.4.3.1
        assert (
            max(float(one) for one in re.findall(r"#EXTINF:([0-9.]+)", text)) < channel.target_duration + 0.5
        )


async def test_a_program_map_that_lists_sound_which_never_comes_holds_up_nothing(
    tools: Tools, recorded: Recorded, tmp_path: Path
) -> None:
    source_file = tmp_path / "stream.ts"
    words = f"-nostdin -v error -i {recorded()} -c copy {source_file}"
    await asyncio.to_thread(subprocess.run, ["ffmpeg", *words.split()], check=True)
    data = source_file.read_bytes()
    packets = [data[at : at + PACKET] for at in range(0, len(data), PACKET)]
    # ISO/IEC 13818-1 §2.4.3.2: the PID of a packet; ffmpeg's muxer gives the second stream 0x101.
    silent = [one for one in packets if int.from_bytes(one[1:3], "big") & 0x1FFF != 0x101]
    channel = Channel(replace(OPTIONS, ladder=("240p",)), tools)
    source = published_by(channel)
    publication = source.begin(FIRST)

    async def bring() -> None:
        steps = 20 * SECONDS
        for step in range(steps):
            begin, end = (len(silent) * one // steps for one in (step, step + 1))
            await publication.receive_data(b"".join(silent[begin:end]))
            await asyncio.sleep(1 / 20)

    async with running(channel), background_task(bring()):
        await until(lambda: segments(channel) >= 2)
        assert source.last_error == NOT_THERE
        publication.end()
    told = await asyncio.to_thread(volumes, channel, tmp_path)
    assert max(told) < SILENT


async def test_sound_in_spurts_leaves_the_picture_alone(
    tools: Tools, recorded: Recorded, tmp_path: Path
) -> None:
    stream = without(recorded(), tmp_path, lambda time: time // 700 % 2 == 0)
    channel = Channel(OPTIONS, tools)
    async with running(channel), publishing(published_by(channel).begin(FIRST), stream):
        await until(lambda: segments(channel) >= 5)
        assert channel.restarts == 0
        assert channel.pid is None
        windows = {name: one.window for name, one in channel.renditions.items()}
        listed = [(name, one) for name, window in windows.items() for one in window.listed]
        breaks = [(name, one.number, one.gap) for name, one in listed if one.gap or one.discontinuity]
        assert breaks == []


@pytest.mark.parametrize("container", ["ts", "mkv", "mp4"])
async def test_a_clock_of_its_own_of_the_sound_is_told_in_each_container(
    tools: Tools, recorded: Recorded, tmp_path: Path, container: str
) -> None:
    write, _, sound = MOVED[container]
    data = await asyncio.to_thread(in_container, recorded(), tmp_path, container)
    faulty = write(data, sound, lambda _: 60 * 90_000)
    channel = Channel(OPTIONS, tools)
    source = published_by(channel)
    publication = source.begin(FIRST)
    async with running(channel), background_task(bring(publication, faulty, SECONDS)):
        await until(lambda: segments(channel) >= 4)
        assert "s ahead of its picture's" in source.last_error
        assert channel.restarts == 0
        assert channel.pid is None
        told = await asyncio.to_thread(volumes, channel, tmp_path)
        publication.end()
    assert min(told[1:-1]) > LOUD


@pytest.mark.parametrize(("container", "strays"), [("ts", 52), ("ts", 60), ("mkv", 60)])
async def test_a_single_stray_time_costs_nothing_else_in_each_container(
    tools: Tools, recorded: Recorded, tmp_path: Path, container: str, strays: int
) -> None:
    write, picture, _ = MOVED[container]
    coding = CODING.replace("-bf 2 -g 25", "-bf 0 -g 26")
    data = await asyncio.to_thread(in_container, recorded(coding=coding), tmp_path, container)
    faulty = write(data, picture, lambda index: 9_800 * 90_000 * (index > 0 and index % 104 == strays))
    channel = Channel(OPTIONS, tools)
    source = published_by(channel)
    publication = source.begin(FIRST)
    async with running(channel), background_task(bring(publication, faulty, SECONDS)):
        await until(lambda: segments(channel) >= 5)
        assert source.last_error == STRAY
        assert channel.restarts == 0
        windows = {name: one.window for name, one in channel.renditions.items()}
        listed = [(name, one) for name, window in windows.items() for one in window.listed]
        breaks = [(name, one.number, one.gap) for name, one in listed if one.gap or one.discontinuity]
        assert breaks == []
        publication.end()
