"""Streams of Enhanced RTMP's codecs that a channel copies by itself, without an ffmpeg, whatever changes."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from media.flv import tags as flv_tags
from packager.live.channel import Channel
from packager.process.ffmpeg_discovery import Tools
from tests.live_server import running
from tests.media.muxers.muxed_streams import packets, tags_of
from tests.media.rtmp.newer_ffmpeg import newer_ffmpeg
from tests.packager.live import video_tracks as several
from tests.packager.live.copied_streams import (
    FIRST,
    OPTIONS,
    assert_same,
    media_of,
    published_by,
    publishing,
    segments,
)
from tests.waiting import until

pytestmark = pytest.mark.timeout(600)

SECONDS = 14
CODINGS = {
    "HEVC and Opus": "-c:v libx265 -preset ultrafast -c:a libopus -frame_duration 60"
    " -x265-params bframes=2:keyint=25:scenecut=0:log-level=none",
    "AV1 and FLAC": "-c:v libsvtav1 -preset 12 -svtav1-params keyint=25 -c:a flac",
    "VP9 and AC-3": "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25 -c:a ac3",
    "H.264 and AAC": "-c:v libx264 -preset ultrafast -bf 2 -g 25 -sc_threshold 0 -c:a aac",
}

Recorded = Callable[..., Path]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Record some seconds of a stream in these codecs."""
    folder, made = tmp_path_factory.mktemp("published"), dict[tuple[str, str], Path]()

    def record(codecs: str, size: str = "160x120") -> Path:
        if (codecs, size) not in made:
            path = made[codecs, size] = folder / f"{len(made)}.flv"
            inputs = f"-f lavfi -i testsrc2=size={size}:rate=25 -f lavfi -i sine=440:sample_rate=48000"
            words = f"-nostdin -v error {inputs} -t {SECONDS} {CODINGS[codecs]} -pix_fmt yuv420p {path}"
            subprocess.run([newer_ffmpeg(), *words.split()], check=True, stderr=subprocess.DEVNULL)
        return made[codecs, size]

    return record


@pytest.mark.parametrize(
    ("codecs", "told"),
    [("HEVC and Opus", ("hevc", "opus")), ("VP9 and AC-3", ("vp9", "ac3"))],
)
async def test_packets_go_out_as_they_were_published_without_an_ffmpeg(
    tools: Tools, recorded: Recorded, codecs: str, told: tuple[str, str], tmp_path: Path
) -> None:
    channel = Channel(OPTIONS, tools)
    async with running(channel), publishing(published_by(channel).begin(FIRST), recorded(codecs)):
        await until(lambda: segments(channel) >= 4)
        assert channel.pid is None
        assert channel.restarts == 0
        assert channel.source is not None
        assert channel.source.copied is channel.published
        assert (channel.source.video_codec, channel.source.audio_codec) == told
        assert channel.source.size == (160, 120)
        assert channel.cadence.frame_rate == 25
        assert published_by(channel).received_container == "flv"
    await asyncio.to_thread(assert_same, channel, recorded(codecs), tmp_path)


def joined(recordings: list[Path], seconds: int, folder: Path) -> Path:
    """Write one stream that has some seconds of each recording, one behind the other."""
    data = flv_tags.file_header()
    for index, recording in enumerate(recordings):
        for tag in tags_of(recording.read_bytes()):
            time = int.from_bytes(tag[4:7], "big")
            if time < 1000 * seconds:
                moved = (time + 1000 * seconds * index).to_bytes(3, "big")
                data += tag[:4] + moved + tag[7:]
    path = folder / "joined.flv"
    path.write_bytes(data)
    return path


async def test_other_codecs_in_one_stream_follow_behind_discontinuities(
    tools: Tools, recorded: Recorded, tmp_path: Path
) -> None:
    order = ["H.264 and AAC", "HEVC and Opus", "AV1 and FLAC", "H.264 and AAC"]
    stream = await asyncio.to_thread(joined, [recorded(one) for one in order], 5, tmp_path)
    channel = Channel(OPTIONS, tools)

    def codecs() -> list[bytes]:
        """Give the codecs of the complete segments, each where it begins."""
        listed = channel.renditions["source"].window.listed if channel.renditions else ()
        kinds = [one.timeline.entry.kind for one in listed if one.timeline is not None and not one.gap]
        return [kind for kind, _ in itertools.groupby(kinds)]

    async with running(channel), publishing(published_by(channel).begin(FIRST), stream):
        await until(lambda: len(codecs()) == len(order) and channel.pid is None)
        assert codecs() == [b"avc1", b"hvc1", b"av01", b"avc1"]
        listed = [one for one in channel.renditions["source"].window.listed if not one.gap]
        assert sum(one.discontinuity for one in listed) == len(order) - 1


async def test_further_pictures_in_newer_codecs_are_renditions_packet_by_packet(
    tools: Tools, recorded: Recorded, tmp_path: Path
) -> None:
    channel = Channel(replace(OPTIONS, ladder=("source", "360p", "240p")), tools)
    main = recorded("HEVC and Opus")
    further = {size: recorded("HEVC and Opus", name) for size, name in ((2, "320x240"), (1, "480x360"))}
    publishes = several.publishing(published_by(channel).begin(FIRST), main, further, late=0.3)
    async with running(channel), publishes:
        await until(lambda: segments(channel) >= 3)
        assert channel.pid is None
        assert channel.source is not None
        assert channel.source.further == (1, 2)
        windows = {name: one.window for name, one in channel.renditions.items()}
        media = {
            name: media_of(window, window.timeline.number)
            for name, window in windows.items()
            if window.timeline is not None
        }
    for name, recording in (("source", main), ("360p", further[1]), ("240p", further[2])):
        made = tmp_path / f"{name}.mp4"
        made.write_bytes(media[name])
        sent, found = [await asyncio.to_thread(packets, one, "v") for one in (recording, made)]
        at = [one[3] for one in sent].index(found[0][3])
        assert len(found) > 40
        assert found[0][2]
        assert [one[2:] for one in found] == [one[2:] for one in sent[at : at + len(found)]]
