"""Published streams that a channel copies by itself: the same packets, and no ffmpeg, whatever changes."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from media.flv import tags as flv_tags
from media.hls.date_range import DateRange
from media.mp3.id3 import write_id3v2
from media.subtitles.webvtt import Cue
from packager.concurrency import background_task
from packager.live.channel import Channel
from packager.process.ffmpeg_discovery import Tools
from packager.sources.publication import Publication, PublicationEndedError
from packager.sources.published_source import Takeover
from tests.live_server import running
from tests.media.muxers.muxed_streams import packets, tags_of
from tests.packager.live.copied_streams import (
    CODING,
    FIRST,
    OPTIONS,
    SECOND,
    SECONDS,
    Recorded,
    assert_same,
    media_of,
    published_by,
    publishing,
    recorded,
    segments,
)
from tests.waiting import until

__all__ = ["recorded"]

pytestmark = pytest.mark.timeout(600)


def is_on_air(publication: Publication) -> bool:
    return publication.is_on_air


def has_segments(channel: Channel, number: int) -> bool:
    """Tell whether there are two complete segments from a number on."""
    return segments(channel, number) >= 2


async def test_packets_go_out_as_they_were_published_without_an_ffmpeg(
    tools: Tools, recorded: Recorded, tmp_path: Path
) -> None:
    channel = Channel(OPTIONS, tools)
    async with running(channel), publishing(published_by(channel).begin(FIRST), recorded()):
        await until(lambda: segments(channel) >= 4)
        assert channel.state == "live"
        assert channel.pid is None
        assert channel.source is not None
        assert channel.source.copied is channel.published
        assert (channel.source.video_codec, channel.source.audio_codec) == ("h264", "aac")
        assert channel.source.size == (160, 120)
        assert channel.cadence.frame_rate == 25
        assert channel.cadence.regular
    await asyncio.to_thread(assert_same, channel, recorded(), tmp_path)


async def test_a_transport_stream_is_copied_likewise(
    tools: Tools, recorded: Recorded, tmp_path: Path
) -> None:
    source, channel = tmp_path / "stream.ts", Channel(OPTIONS, tools)
    # ISO/IEC 13818-1 §2.4.3.7: its timestamps begin again at 0 after some seconds.
    words = f"-nostdin -v error -i {recorded()} -c copy -output_ts_offset 95439 {source}"
    await asyncio.to_thread(subprocess.run, ["ffmpeg", *words.split()], check=True)
    publication = published_by(channel).begin(FIRST)

    async def bring() -> None:
        data = source.read_bytes()
        steps = 20 * SECONDS
        for step in range(steps):
            await publication.receive_data(data[len(data) * step // steps : len(data) * (step + 1) // steps])
            await asyncio.sleep(1 / 20)

    async with running(channel), background_task(bring()):
        await until(lambda: segments(channel) >= 3)
        assert channel.pid is None
        assert channel.source is not None
        assert channel.source.copied is channel.published
        assert channel.source.frame_rate == 25
        for name in ("source", "audio"):
            window = channel.renditions[name].window
            assert window.timeline is not None
            assert not any(one.discontinuity for one in window.listed)
            tmp_path.joinpath(f"{name}.mp4").write_bytes(media_of(window, window.timeline.number))
        publication.end()
    for name, kind in (("source", "v"), ("audio", "a")):
        made = tmp_path / f"{name}.mp4"
        found = await asyncio.to_thread(packets, made, kind)
        sent = await asyncio.to_thread(packets, source, kind)
        assert len(found) > 40
        # It begins with a key frame, of which there is one a second.
        at = next(index for index, one in enumerate(sent) if abs(one[0] - sent[0][0]) % 1000 < 25)
        assert [one[2] for one in found] == [one[2] for one in sent[at:]][: len(found)]


@pytest.mark.clause("Another publisher's stream is played on the same playlists, behind a discontinuity")
async def test_other_sizes_and_the_same_one_again_follow_behind_a_discontinuity(
    tools: Tools, recorded: Recorded, tmp_path: Path
) -> None:
    channel = Channel(OPTIONS, tools)
    source, sizes = published_by(channel), ["160x120", "160x120", "320x240"]
    async with running(channel), contextlib.AsyncExitStack() as stack:
        for size in sizes:
            # Each takes the place of the one before.
            publication = source.begin(SECOND)
            await stack.enter_async_context(publishing(publication, recorded(size)))
            await until(functools.partial(is_on_air, publication))
            window = channel.renditions["source"].window
            number = window.next_number + 1
            await until(functools.partial(has_segments, channel, number))
            assert channel.pid is None
        assert channel.renditions["source"].window is window
        listed = [one for one in window.listed if not one.gap]
        assert sum(one.discontinuity for one in listed) >= 2
        assert len({one.timeline.init for one in listed if one.timeline is not None}) == 2
    await asyncio.to_thread(assert_same, channel, recorded("320x240"), tmp_path)


@pytest.mark.parametrize(
    "coding",
    [CODING.replace("-c:a aac", "-an"), CODING.replace("aac", "libmp3lame -ar 44100")],
    ids=["silent", "MP3"],
)
async def test_what_has_to_be_made_or_encoded_is_played_by_ffmpeg(
    tools: Tools, recorded: Recorded, coding: str
) -> None:
    channel = Channel(OPTIONS, tools)
    async with running(channel), publishing(published_by(channel).begin(FIRST), recorded(coding=coding)):
        await until(lambda: channel.pid is not None)
        assert channel.source is not None
        assert channel.source.copied is None


async def test_a_ladder_with_other_rungs_is_made_by_ffmpeg(tools: Tools, recorded: Recorded) -> None:
    channel = Channel(replace(OPTIONS, ladder=("source", "240p")), tools)
    async with running(channel), publishing(published_by(channel).begin(FIRST), recorded()):
        await until(lambda: channel.pid is not None)


async def test_twenty_reconnects_of_a_publisher_need_no_ffmpeg(tools: Tools, recorded: Recorded) -> None:
    channel = Channel(OPTIONS, tools)
    source = published_by(channel)
    async with running(channel):
        for _ in range(20):
            publication = source.begin(FIRST)
            async with publishing(publication, recorded()):
                await until(functools.partial(is_on_air, publication))
        async with publishing(source.begin(FIRST), recorded()):
            number = channel.renditions["source"].window.next_number
            await until(functools.partial(has_segments, channel, number))
            assert channel.pid is None
            window = channel.renditions["source"].window
            numbers = [one.number for one in window.listed]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@pytest.mark.clause("A spare publisher takes over in less than a segment")
async def test_a_spare_publisher_takes_over_in_less_than_a_segment(
    tools: Tools, recorded: Recorded, tmp_path: Path
) -> None:
    channel = Channel(replace(OPTIONS, takeover=Takeover.BACKUP), tools)
    first, spare = (published_by(channel).begin(one) for one in (FIRST, SECOND))

    async def bring() -> None:
        loop, data = asyncio.get_running_loop(), recorded().read_bytes()
        began = loop.time()
        for publication in (first, spare):
            await publication.receive_data(data[: flv_tags.FILE_HEADER])
        for tag in tags_of(data):
            await asyncio.sleep(began + int.from_bytes(tag[4:7], "big") / 1000 - loop.time())
            for publication in published_by(channel).publications:
                # One may end while it takes this.
                with contextlib.suppress(PublicationEndedError):
                    await publication.receive_data(tag)

    async with running(channel), background_task(bring()):
        await until(lambda: segments(channel) >= 2)
        assert first.is_on_air
        window = channel.renditions["source"].window
        before = window.timeline
        first.end()
        assert spare.is_on_air
        number = window.next_number + 1
        await until(lambda: segments(channel, number) >= 1)
        after = window.timeline
        assert before is not None
        assert after is not None
        assert channel.pid is None
        places = []
        for timeline in (before, after):
            media = [one for one in window.listed if one.timeline == timeline and not one.gap]
            parts = b"".join(bytes(part.data) for one in media for part in one.parts)
            tmp_path.joinpath("part.mp4").write_bytes(timeline.init + parts)
            found = await asyncio.to_thread(packets, tmp_path / "part.mp4", "v")
            sent = [one[3] for one in await asyncio.to_thread(packets, recorded(), "v")]
            places.append([sent.index(one[3]) for one in found])
        # Of pictures, 25 of which are a segment; both had come at the same time.
        assert places[1][0] - places[0][-1] <= 25
        assert places[1] == list(range(places[1][0], places[1][-1] + 1))


async def test_sound_that_comes_late_is_taken_once_it_is_there(
    tools: Tools, recorded: Recorded, tmp_path: Path
) -> None:
    data, late = recorded().read_bytes(), tmp_path / "late.flv"
    tags = list(tags_of(data))
    header = next(tag for tag in tags if tag[0] == flv_tags.AUDIO)
    first = next(tag for tag in tags if tag[0] == flv_tags.AUDIO and int.from_bytes(tag[4:7], "big") > 2500)
    at = tags.index(first)
    # Its configuration comes with it.
    kept = [tag for tag in tags[:at] if tag[0] != flv_tags.AUDIO] + [header[:4] + first[4:8] + header[8:]]
    late.write_bytes(data[: flv_tags.FILE_HEADER] + b"".join(kept + tags[at:]))
    channel = Channel(OPTIONS, tools)
    async with running(channel), publishing(published_by(channel).begin(FIRST), late):
        await until(lambda: channel.source is not None and channel.source.copied is not None)
        number = channel.renditions["source"].window.next_number
        await until(lambda: segments(channel, number) >= 1)
        assert channel.pid is None


async def test_events_and_captions_go_with_what_is_copied(tools: Tools, recorded: Recorded) -> None:
    channel = Channel(replace(OPTIONS, captions=("en",)), tools)
    async with running(channel), publishing(published_by(channel).begin(FIRST), recorded()):
        await until(lambda: segments(channel) >= 1)
        window = channel.renditions["source"].window
        edge = window.listed[-1].program_date_time + window.listed[-1].duration
        id3 = write_id3v2([("TIT2", "copied")])
        channel.stream.commands.publish_metadata(DateRange("a", edge + 1, duration=Fraction(1)), id3)
        begins = round(1000 * (edge + 1))
        taken = channel.stream.commands.add_captions(
            "en", [Cue(0, 1000, "copied, too")], Fraction(begins, 1000)
        )
        assert taken == 0
        await until(lambda: any(id3 in bytes(part.data) for one in window.listed for part in one.parts))
        texts = next(one.window for one in channel.renditions.values() if one.language == "en")
        await until(
            lambda: any(b"copied, too" in bytes(part.data) for one in texts.listed for part in one.parts)
        )
        assert channel.pid is None


async def test_a_dvr_goes_on_with_its_numbers_behind_a_restart(
    tools: Tools, recorded: Recorded, tmp_path: Path
) -> None:
    options = replace(OPTIONS, data=tmp_path / "live" / "studio")
    before = Channel(options, tools)
    async with running(before), publishing(published_by(before).begin(FIRST), recorded()):
        await until(lambda: segments(before) >= 2)
        first = next(one for one in before.renditions["source"].window.listed if not one.gap)
    after = Channel(options, tools)
    async with running(after), publishing(published_by(after).begin(FIRST), recorded()):
        await until(lambda: after.pid is None and segments(after) >= 4)
        listed = after.renditions["source"].window.listed
        assert (listed[0].number, listed[0].gap) == (first.number, False)
        assert [one.number for one in listed] == list(range(first.number, first.number + len(listed)))
        # Numbers are reserved: the first segment may be short, so that viewers have one sooner.
        assert first.duration <= 1


@pytest.mark.parametrize("ladder", [("source",), ("source", "240p")], ids="+".join)
async def test_playlists_name_a_frame_rate_of_120(
    tools: Tools, recorded: Recorded, tmp_path: Path, ladder: tuple[str, ...]
) -> None:
    coding = "-c:v libx264 -preset ultrafast -g 120 -sc_threshold 0 -pix_fmt yuv420p -c:a aac"
    stream = await asyncio.to_thread(recorded, "160x120", coding, "120")
    channel = Channel(replace(OPTIONS, ladder=ladder, data=tmp_path / "data"), tools)
    async with running(channel), publishing(published_by(channel).begin(FIRST), stream):
        await until(lambda: segments(channel) >= 2)
        text = channel.presentation.multivariant().decode()
        assert text.count("FRAME-RATE=120.000") == len(ladder)
