"""Published Matroska, WebM and fragmented MP4 that a channel copies: the same packets, and no ffmpeg."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from packager.concurrency import background_task
from packager.live.channel import Channel
from packager.process.ffmpeg_discovery import Tools
from packager.sources.publication import Publication
from tests.live_server import running
from tests.media.muxers.muxed_streams import packets
from tests.packager.live.copied_streams import (
    FIRST,
    OPTIONS,
    SECONDS,
    media_of,
    published_by,
    segments,
)
from tests.packager.stripped_matroska import described, projection
from tests.waiting import until

pytestmark = pytest.mark.timeout(600)

H264 = "-c:v libx264 -preset fast -bf 2 -g 25 -sc_threshold 0 -c:a aac"
SHORT = "-movflags empty_moov+default_base_moof -frag_duration 200000"
STREAMS = {
    "Matroska of H.264 with B-frames": f"{H264} -f matroska",
    "Matroska of HEVC with B-frames and AC-3": "-c:v libx265 -preset ultrafast -c:a ac3"
    " -x265-params bframes=3:keyint=25:scenecut=0:log-level=none -f matroska",
    "Matroska of AV1 and FLAC": "-c:v libsvtav1 -preset 12 -g 25 -c:a flac -f matroska",
    "Matroska of H.264 and FLAC": "-c:v libx264 -preset ultrafast -g 25 -c:a flac -f matroska",
    "WebM": "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25 -c:a libopus -f webm",
    "MP4 of H.264 with B-frames": f"{H264} {SHORT} -f mp4",
    "MP4 of HEVC with B-frames and Opus": "-c:v libx265 -preset ultrafast -c:a libopus"
    f" -x265-params bframes=3:keyint=25:scenecut=0:log-level=none {SHORT} -f mp4",
    "MP4 of AV1 at 44.1 kHz": f"-c:v libsvtav1 -preset 12 -g 25 -c:a aac -ar 44100 {SHORT} -f mp4",
}
CODECS = {
    "Matroska of H.264 with B-frames": ("h264", "aac"),
    "Matroska of HEVC with B-frames and AC-3": ("hevc", "ac3"),
    "Matroska of AV1 and FLAC": ("av1", "flac"),
    "Matroska of H.264 and FLAC": ("h264", "flac"),
    "WebM": ("vp9", "opus"),
    "MP4 of H.264 with B-frames": ("h264", "aac"),
    "MP4 of HEVC with B-frames and Opus": ("hevc", "opus"),
    "MP4 of AV1 at 44.1 kHz": ("av1", "aac"),
}

Recorded = Callable[[str], Path]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Record some seconds of a stream."""
    folder, made = tmp_path_factory.mktemp("published"), dict[str, Path]()

    def record(name: str) -> Path:
        if name not in made:
            path = made[name] = folder / f"{len(made)}.{STREAMS[name].rpartition(' ')[2]}"
            inputs = "-f lavfi -i testsrc2=size=160x120:rate=25 -f lavfi -i sine=440:sample_rate=48000"
            words = f"-nostdin -v error {inputs} -t {SECONDS} {STREAMS[name]} -pix_fmt yuv420p {path}"
            subprocess.run(["ffmpeg", *words.split()], check=True, stderr=subprocess.DEVNULL)
        return made[name]

    return record


async def publish(publication: Publication, data: bytes) -> None:
    """Publish a recording in about real time."""
    steps = 20 * SECONDS
    for step in range(steps):
        await publication.receive_data(data[len(data) * step // steps : len(data) * (step + 1) // steps])
        await asyncio.sleep(1 / 20)


async def assert_copied(channel: Channel, source: Path, folder: Path) -> None:
    """Check that the channel has packets of a recording, each once, with sound and picture as far apart."""
    zero = list[int]()
    for rendition, kind in (("source", "v"), ("audio", "a")):
        window, made = channel.renditions[rendition].window, folder / f"{rendition}.mp4"
        assert window.timeline is not None
        assert not any(one.discontinuity for one in window.listed)
        made.write_bytes(media_of(window, window.timeline.number))
        sent = await asyncio.to_thread(packets, source, kind)
        found = await asyncio.to_thread(packets, made, kind)
        assert len(found) > 40
        contents = [one[2:] for one in found]
        places = range(len(sent) - len(found) + 1)
        # Sound may repeat packets of before.
        at = next(at for at in places if [one[2:] for one in sent[at : at + len(found)]] == contents)
        zero.append(found[0][0] - sent[at][0])
        assert all(
            abs(other[0] - one[0] - zero[-1]) <= 1 for one, other in zip(sent[at:], found, strict=False)
        )
    # Sound and picture are as far apart as in the stream.
    assert abs(zero[0] - zero[1]) <= 1


@pytest.mark.parametrize("name", STREAMS)
async def test_every_packet_goes_out_once_as_it_was_published(
    tools: Tools, recorded: Recorded, name: str, tmp_path: Path
) -> None:
    source = await asyncio.to_thread(recorded, name)
    # Where numbers are reserved, a source that begins late and catches up loses no segment for being early.
    channel = Channel(replace(OPTIONS, data=tmp_path / "data"), tools)
    publication = published_by(channel).begin(FIRST)
    async with running(channel), background_task(publish(publication, source.read_bytes())):
        await until(lambda: segments(channel) >= 4)
        assert channel.pid is None
        assert channel.restarts == 0
        assert channel.source is not None
        assert channel.source.copied is channel.published
        assert (channel.source.video_codec, channel.source.audio_codec) == CODECS[name]
        assert channel.source.size == (160, 120)
        assert channel.cadence.frame_rate == 25
        await assert_copied(channel, source, tmp_path)
        publication.end()


BURST_SECONDS = 2


async def test_flac_is_copied_beside_a_picture_that_is_encoded_too(tools: Tools, recorded: Recorded) -> None:
    """Debian 12's ffmpeg takes FLAC in MP4 for an experiment."""
    name = "Matroska of H.264 and FLAC"
    channel = Channel(replace(OPTIONS, ladder=("source", "240p")), tools)
    async with running(channel):
        publication = published_by(channel).begin(FIRST)
        async with background_task(publish(publication, recorded(name).read_bytes())):
            await until(lambda: segments(channel) >= 3)
        publication.end()
    timelines = [one.window.timeline for one in channel.renditions.values()]
    assert [one and one.entry.codec.partition(".")[0] for one in timelines] == ["avc1", "avc1", "fLaC"]
    assert channel.restarts == 0


async def test_long_fragments_go_out_evenly(tools: Tools, tmp_path: Path) -> None:
    source, channel = tmp_path / "long.mp4", Channel(OPTIONS, tools)
    inputs = "-f lavfi -i testsrc2=size=160x120:rate=25 -f lavfi -i sine=440:sample_rate=44100 -t 30"
    form = "-movflags empty_moov+frag_keyframe+default_base_moof -pix_fmt yuv420p"
    words = f"-nostdin -v error {inputs} {H264} -g {25 * BURST_SECONDS} {form} {source}"
    await asyncio.to_thread(subprocess.run, ["ffmpeg", *words.split()], check=True)
    data = source.read_bytes()
    places = [found.start() - 4 for found in re.finditer(b"moof", data)]
    publication, loop = published_by(channel).begin(FIRST), asyncio.get_running_loop()
    grown = list[int]()

    def parts() -> int:
        """Return the number of parts so far."""
        window = channel.renditions["source"].window
        finished = sum(len(one.parts) for one in window.listed)
        return finished + (0 if window.open is None else len(window.open.parts))

    async def bring() -> None:
        """Publish each fragment when its last picture is made."""
        began = loop.time()
        await publication.receive_data(data[: places[0]])
        for index, (begin, end) in enumerate(pairwise([*places, len(data)])):
            at_once = parts() if index else 0
            await asyncio.sleep(began + BURST_SECONDS * (index + 1) - loop.time())
            grown.append(parts() - at_once)
            await publication.receive_data(data[begin:end])
            # What is to go out at once has gone by then.
            await asyncio.sleep(BURST_SECONDS / 4)

    async with running(channel), background_task(bring()):
        await until(lambda: len(grown) >= 8)
        assert channel.pid is None
        assert channel.restarts == 0
        # Three quarters of a burst are six parts, which came while nothing was published.
        assert sorted(grown[-4:])[1] >= 3
        await assert_copied(channel, source, tmp_path)
        publication.end()


def rotation(path: Path) -> str:
    """Return the degrees by which ffprobe finds that the picture is to be turned; empty if it isn't."""
    words = f"-v error -select_streams v -show_entries stream_side_data=rotation -of csv=p=0 {path}"
    told = subprocess.run(["ffprobe", *words.split()], check=True, capture_output=True, text=True).stdout
    return told.strip()


@pytest.mark.parametrize("container", ["MP4", "Matroska"])
async def test_a_picture_that_lies_on_its_side_is_turned(
    tools: Tools, recorded: Recorded, tmp_path: Path, container: str
) -> None:
    recording = recorded(f"{container} of H.264 with B-frames")
    turned = tmp_path / "turned.mp4"
    if container == "MP4":
        words = f"-nostdin -v error -i {recording} -c copy -metadata:s:v rotate=90 {SHORT} {turned}"
        await asyncio.to_thread(subprocess.run, ["ffmpeg", *words.split()], check=True)
        data = turned.read_bytes()
    else:
        # RFC 9559 §5.1.4.1.28.46: counted anticlockwise.
        data = described(recording.read_bytes(), projection(-90))
    channel = Channel(OPTIONS, tools)
    publication = published_by(channel).begin(FIRST)
    async with running(channel), background_task(publish(publication, data)):
        await until(lambda: segments(channel) >= 1)
        window, made = channel.renditions["source"].window, tmp_path / "shown.mp4"
        assert window.timeline is not None
        assert channel.pid is None
        made.write_bytes(media_of(window, window.timeline.number))
        assert b"RESOLUTION=120x160" in channel.presentation.multivariant()
        publication.end()
    # ffprobe counts anticlockwise.
    expected = await asyncio.to_thread(rotation, turned) if container == "MP4" else "-90"
    assert await asyncio.to_thread(rotation, made) == expected != ""
