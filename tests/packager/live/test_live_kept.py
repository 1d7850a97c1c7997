"""Channels that keep their source's own picture and sound: the same packets, cut at its own key frames."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import subprocess
import time
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import httpx
import m3u8
import pytest
from structlog.testing import capture_logs

from origin.cli.check import check
from origin.cli.checks.report import CheckReport
from packager.live.channel import Channel
from packager.live.options import ChannelHooks, ChannelOptions
from packager.process.ffmpeg_discovery import Tools, ToolsError
from packager.publish.dash_periods import parse_time
from packager.window.model import LiveSegment
from tests.live_server import broadcasting, running
from tests.packager.live.cut_rules import assert_cut_by_the_rules, made
from tests.patience import LIVE
from tests.waiting import until, wait_for

pytestmark = pytest.mark.timeout(900)
"""All that a test waits for together."""

OPTIONS = ChannelOptions("kept", ladder=("source",), part_duration=0.25, segment_duration=1.0)
PATIENT = replace(OPTIONS, limits=LIVE)
ALL_OF_IT = 3600.0
"""Seconds of a list that nothing leaves, however late one of several channels or renditions is."""

EVEN_WITHIN_SECONDS = 300.0
LONGEST_PAUSE_SECONDS = 0.8
"""From one part to the next, of any rendition: they last a quarter of a second."""

PICTURE = "-f lavfi -i testsrc2=size=320x240:rate=25"
SOUND = "-f lavfi -i sine=frequency=440:sample_rate=48000"


@dataclass(frozen=True)
class Film:
    """What a file has, and what must be said of it."""

    suffix: str
    video: str
    audio: str
    codecs: tuple[str, str]


SECONDS = 4

FILMS = {
    "HEVC and AAC": Film(
        "mp4",
        "libx265 -preset ultrafast -tag:v hev1 -x265-params keyint=25:scenecut=0:log-level=none",
        "aac",
        ("hvc1.1.6.L", "mp4a.40.2"),
    ),
    "AV1 and Opus": Film("mkv", "libsvtav1 -preset 12 -g 25", "libopus", ("av01.0.", "Opus")),
    "H.264 with B-frames at odd places and AC-3": Film(
        "mkv",
        "libx264 -preset fast -bf 2 -g 250 -sc_threshold 0 -pix_fmt yuv420p"
        " -force_key_frames 0,0.44,1.2,1.36,2,2.72,2.88,3.2",
        "ac3",
        ("avc1.", "ac-3"),
    ),
}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, made = tmp_path_factory.mktemp("kept"), dict[str, Path]()
    for name, film in FILMS.items():
        made[name] = folder / f"{len(made)}.{film.suffix}"
        words = f"-v error {PICTURE} {SOUND} -t {SECONDS} -c:v {film.video} -c:a {film.audio}"
        subprocess.run(["ffmpeg", *words.split(), str(made[name])], check=True)
    return made


def hashes(path: Path, kind: str) -> list[str]:
    """The packets' MD5s as ffmpeg computes them, as they are in MP4."""
    words = f"-v error -i {path} -map 0:{kind} -c copy -f framemd5 -"
    listed = subprocess.run(["ffmpeg", *words.split()], check=True, capture_output=True, text=True).stdout
    return [line.split(",")[5].strip() for line in listed.splitlines() if not line.startswith("#")]


def decode_times(path: Path, *, keys: bool = False) -> list[int]:
    command = f"ffprobe -v error -show_entries packet=dts,flags -of json {path}"
    answer = subprocess.run(command.split(), check=True, capture_output=True).stdout
    packets = json.loads(answer)["packets"]
    return [int(packet["dts"]) for packet in packets if not keys or "K" in packet["flags"]]


@pytest.mark.clause("RFC 8216bis §4.4.4.9")
async def test_kept_sources_go_out_packet_by_packet_and_are_cut_at_their_own_key_frames(
    tools: Tools, films: dict[str, Path], tmp_path: Path
) -> None:
    options = [replace(PATIENT, source=str(path), dvr_window=ALL_OF_IT) for path in films.values()]
    channels = [Channel(one, tools) for one in options]
    async with contextlib.AsyncExitStack() as stack:
        for channel in channels:
            await stack.enter_async_context(running(channel))
        for channel in channels:  # once around, so that the seam is among it
            await until(functools.partial(has_segments, channel, SECONDS + 2))
            assert channel.restarts == 0
    for film, source, channel in zip(FILMS.values(), films.values(), channels, strict=True):
        said = m3u8.loads(channel.presentation.multivariant().decode()).playlists[0].stream_info.codecs
        for codec, beginning in zip(str(said).split(","), film.codecs, strict=True):
            assert codec.startswith(beginning)
        kept = {one.name: list(one.window.listed) for one in channel.renditions.values()}
        assert not any(segment.discontinuity for segments in kept.values() for segment in segments)
        within = await asyncio.to_thread(assert_same_packets, kept, source, tmp_path, channel.part_target)
        assert bool(within) == ("force_key_frames" in film.video)
        assert_cut_by_the_rules(channel)


def has_segments(channel: Channel, count: int) -> bool:
    return min(len(made(one.window)) for one in channel.renditions.values()) >= count


def assert_same_packets(
    listed: dict[str, list[LiveSegment]], source: Path, folder: Path, part_target: Fraction
) -> int:
    """Compare; tell how many key frames lie within parts."""
    within: set[int] = set()
    for name, kind in (("source", "v"), ("audio", "a")):
        timeline = listed[name][0].timeline
        assert timeline is not None
        path = folder / f"{name}.mp4"
        path.write_bytes(timeline.init + b"".join(segment.data for segment in listed[name]))
        given, made = hashes(source, kind), hashes(path, kind)
        begin = given.index(made[0])
        # ffmpeg's own loop loses a packet of sound at the seam.
        whole = len(made) if kind == "v" else len(given) - begin - 2
        assert made[:whole] == list(itertools.islice(itertools.cycle(given), begin, begin + whole))
        times = decode_times(path)
        assert times == sorted(times)
        if kind == "v":
            parts = [part for segment in listed[name] for part in segment.parts]
            found = [parse_time(timeline.init, bytes(one.data)) for one in parts]
            begins, scale = [time for time, _ in found], found[0][1]
            joined = [time for time, one in zip(begins, parts, strict=True) if one.independent]
            keys = decode_times(path, keys=True)
            # §4.4.4.9, INDEPENDENT: parts that begin with one; where they come regularly, each of them
            assert joined == [key for key in keys if key in begins]
            assert joined == keys or len({b - a for a, b in itertools.pairwise(keys)}) > 1
            within = set(keys) - set(begins)
            for key in within:
                begin = max(time for time in begins if time < key)
                # One that lies within a part does so since the part before it would have been too short.
                assert begin not in joined
                assert Fraction(key - begin, scale) < part_target * Fraction(85, 100)
    return len(within)


async def test_what_is_encoded_beside_a_kept_picture_is_cut_at_the_same_places(
    tools: Tools, films: dict[str, Path]
) -> None:
    source = str(films["H.264 with B-frames at odd places and AC-3"])
    options = replace(PATIENT, source=source, ladder=("source", "240p"), dvr_window=ALL_OF_IT)
    channel = Channel(options, tools)
    async with running(channel):
        await until(lambda: min(len(one.window.listed) for one in channel.renditions.values()) >= 5)
        assert channel.restarts == 0
        listed = {name: list(one.window.listed)[:5] for name, one in channel.renditions.items()}
    frame = Fraction(1, 25)
    for index, segments in enumerate(zip(*listed.values(), strict=True)):
        assert len({segment.number for segment in segments}) == 1
        dates = [segment.program_date_time for segment in segments]
        assert max(dates) - min(dates) <= frame
        lengths = [segment.duration for segment in segments]
        # Where the loop begins anew, decoding times jump by a few frames and presentation times don't.
        assert index >= 2 or max(lengths) - min(lengths) <= frame
        assert all(segment.parts[0].independent for segment in segments)


@pytest.mark.parametrize("codec", ["mpeg2video", None])
async def test_a_picture_that_can_not_be_kept_is_told_in_one_line(
    tools: Tools, tmp_path: Path, codec: str | None
) -> None:
    source = "testsrc"
    if codec is not None:
        source = str(tmp_path / "film.ts")
        words = f"-v error {PICTURE} -t 1 -c:v {codec} {source}"
        await asyncio.to_thread(subprocess.run, ["ffmpeg", *words.split()], check=True)
    with pytest.raises(ToolsError, match=codec or "keep") as caught:
        await Channel(replace(OPTIONS, source=source), tools).run()
    assert "\n" not in str(caught.value)


RATES = [
    # frames per second, samples per second, rung, wanted part, wanted segment
    ("24", 44100, "source", 1.0, 2.0),
    ("60", 48000, "source", 0.2, 1.0),
    ("30000/1001", 44100, "240p", 0.5, 1.0),
    ("50", 48000, "240p", 0.333, 1.0),
]


async def test_parts_keep_to_their_target_at_any_rate_and_the_log_tells_what_was_chosen(
    tools: Tools, tmp_path: Path
) -> None:
    channels = []
    for index, (rate, samples, rung, part, segment) in enumerate(RATES):
        path = tmp_path / f"{index}.mp4"
        words = (
            f"-v error -f lavfi -i testsrc2=size=320x240:rate={rate} -f lavfi -i sine=sample_rate={samples}"
        )
        words += " -t 4 -c:v libx264 -preset ultrafast -force_key_frames expr:gte(t,n_forced) -c:a aac"
        command = ["ffmpeg", *words.split(), str(path)]
        await asyncio.to_thread(subprocess.run, command, check=True)
        options = ChannelOptions(
            rate, str(path), ladder=(rung,), part_duration=part, segment_duration=segment, limits=LIVE
        )
        channels.append(Channel(options, tools))
    with capture_logs() as logs:
        async with contextlib.AsyncExitStack() as stack:
            for channel in channels:
                await stack.enter_async_context(running(channel))
            for channel in channels:
                await until(functools.partial(has_segments, channel, 3))
    assert [line["reason"] for line in logs if line["event"] == "source ended"] == []
    for channel, (rate, _, _, part, segment) in zip(channels, RATES, strict=True):
        assert channel.cadence.frame_rate == Fraction(rate)
        assert abs(channel.part_target - Fraction(part)) < Fraction(part) / 4
        assert abs(channel.cadence.segment_duration - Fraction(segment)) < Fraction(1, 10)
        assert_cut_by_the_rules(channel)
        (told,) = [
            line
            for line in logs
            if line["event"] == "a channel's cadence is known" and line["channel"] == rate
        ]
        assert float(told["part_target"]) == pytest.approx(float(channel.part_target))
        assert told["target_duration"] == channel.target_duration


def judged(url: str, parts: list[float]) -> CheckReport:
    """Judge a channel while its parts come evenly.

    It is judged by the clock: what a machine that stands still makes late is no fault of the channel.

    Args:
        url: of its multivariant playlist.
        parts: when each part was there, by the monotonic clock; grows.
    """
    end = time.monotonic() + EVEN_WITHIN_SECONDS
    while time.monotonic() < end:
        began = time.monotonic()
        report = asyncio.run(check(url))
        moments = [began, *(moment for moment in tuple(parts) if moment > began), time.monotonic()]
        if max(after - before for before, after in itertools.pairwise(moments)) < LONGEST_PAUSE_SECONDS:
            return report
    raise AssertionError("parts never came evenly")


def test_the_checker_finds_nothing_wrong_with_a_kept_source(tools: Tools, films: dict[str, Path]) -> None:
    source, parts = films["H.264 with B-frames at odd places and AC-3"], list[float]()
    channel = Channel(
        replace(PATIENT, source=str(source)), tools, ChannelHooks(lambda _: parts.append(time.monotonic()))
    )
    with broadcasting(channel) as server:
        wait_for(lambda: server.channel.ready, what="the channel")
        report = judged(f"{server.url}/master.m3u8", parts)
        # ISO/IEC 23009-1 §5.3.9.5.3: numbers of one duration don't tell where such segments are
        assert httpx.get(f"{server.url}/manifest.mpd", timeout=120).status_code == 404
    assert report.findings == []
    assert report.passed > 20
