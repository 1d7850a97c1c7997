"""A channel's event from its beginning to its end: who ends it hears what became of it, and only of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from packager.concurrency import background_task
from packager.live.channel import Channel
from packager.live.event_lifecycle import LiveEvent
from packager.live.limits import LiveLimits
from packager.process.ffmpeg_discovery import Tools
from packager.publish.channel_commands import RecordingState
from packager.sources.published_source import PUBLISH, AfterEnd, EventEndedError
from packager.window.sequence_numbers import SequenceNumbers
from tests.conformance.handfed import NUMBER, OPTIONS, Track
from tests.live_server import running
from tests.packager.live.copied_streams import (
    CODING,
    FIRST,
    Recorded,
    published_by,
    publishing,
    recorded,
    segments,
)
from tests.packager.live.copied_streams import (
    OPTIONS as COPIED,
)
from tests.packager.station import on_air
from tests.patience import CLIENT_SECONDS, DVR, LIVE
from tests.waiting import until

EVENT = LiveLimits(event_end_seconds=CLIENT_SECONDS)
PUBLISHED = replace(OPTIONS, source=PUBLISH, limits=replace(LIVE, event_end_seconds=CLIENT_SECONDS, dvr=DVR))
ENDED = "#EXT-X-ENDLIST\n"

__all__ = ["recorded"]


async def test_an_event_that_is_ended_before_anything_came_is_over_and_the_next_one_is_played(
    tools: Tools, recorded: Recorded
) -> None:
    channel = Channel(replace(COPIED, limits=replace(COPIED.limits, event_end_seconds=CLIENT_SECONDS)), tools)
    recording = recorded(coding=CODING.replace("fast", "ultrafast"))
    async with running(channel):
        for _ in range(2):
            await until(lambda: channel.state == "idle")
            assert await channel.live_event.end() is RecordingState.NONE
            assert (channel.state, channel.stream.is_withdrawn) == ("ended", True)
            assert channel.live_event.begin()
        async with publishing(published_by(channel).begin(FIRST), recording):
            await until(lambda: segments(channel) >= 1, "a segment of the next event")
            assert channel.state == "live"
            assert await channel.live_event.end() is RecordingState.NONE
            assert channel.presentation.media("source").decode().endswith(ENDED)


@pytest.mark.parametrize("after_end", AfterEnd)
async def test_a_publisher_is_told_that_the_event_has_ended_or_begins_the_next_one(
    tools: Tools, after_end: AfterEnd
) -> None:
    limits = replace(COPIED.limits, event_end_seconds=CLIENT_SECONDS)
    channel = Channel(replace(COPIED, limits=limits, after_end=after_end), tools)
    published = published_by(channel)
    async with running(channel):
        await until(lambda: channel.state == "idle")
        reasons = list[str]()
        publication = published.begin(FIRST, on_end=reasons.append)
        await channel.live_event.end()
        # Whoever publishes when it ends would go on for nobody.
        told = "the channel's event has ended; POST /live/studio/start begins the next one"
        assert (reasons, publication.end_reason, published.last_error) == ([told], told, told)
        if after_end is AfterEnd.REFUSE:
            with pytest.raises(EventEndedError, match="event has ended"):
                published.begin(FIRST)
            assert channel.live_event.begin()
        # From then on there is no need to wait until it has begun.
        assert not published.begin(FIRST).end_reason
        await until(lambda: channel.state == "idle")


async def test_an_event_of_an_earlier_process_is_recorded_when_it_is_ended_before_its_source_is_there(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_air(tmp_path, material, tools, monkeypatch) as station:
        await station.segment(3)
    monkeypatch.setattr(SequenceNumbers, "first_number", lambda *_: NUMBER + 5)
    channel = Channel(replace(PUBLISHED, data=tmp_path, dvr_window=3600.0), tools)
    event = channel.live_event
    async with running(channel):
        await until(lambda: channel.ready, "what is on disk")
        assert channel.state == "idle"
        assert await event.end() is RecordingState.MADE
        assert event.recordings is not None
        (recording,) = event.recordings
        assert recording.metadata.duration == 3
        shown = {name: channel.presentation.media(name).decode() for name in channel.renditions}
        assert all(text.endswith(ENDED) for text in shown.values())
        # Who ends it once more hears the same, and changes nothing.
        assert await event.end() is RecordingState.MADE
        assert {name: channel.presentation.media(name).decode() for name in shown} == shown
        assert event.begin()
        await until(lambda: channel.state == "idle" and not channel.ready, "the next event")
        # Nothing has come of this one.
        assert await event.end() is RecordingState.NONE
        assert list(event.recordings) == [recording]


async def test_what_was_ended_before_a_restart_is_over_behind_it_whether_anything_is_kept_of_it_or_not(
    tmp_path: Path, tools: Tools
) -> None:
    options = replace(PUBLISHED, data=tmp_path)
    for _ in range(2):
        channel = Channel(options, tools)
        async with running(channel):
            assert await channel.live_event.end() is RecordingState.NONE
            assert (channel.state, channel.stream.is_withdrawn) == ("ended", True)


async def test_who_ends_an_event_hears_what_became_of_it_though_the_next_one_begins_at_once() -> None:
    event = LiveEvent("test", None, None, EVENT)
    ending = asyncio.create_task(event.end())
    await event.over.wait()
    assert event.begin()
    async with asyncio.timeout(CLIENT_SECONDS):
        await event.wait_for_next()
        assert await ending is RecordingState.NONE
    assert not event.begin(), "it is on air"


async def test_an_event_that_was_to_begin_does_not_when_it_is_ended_first() -> None:
    event = LiveEvent("test", None, None, EVENT)
    first = asyncio.create_task(event.end())
    await event.over.wait()
    assert event.begin()
    second = asyncio.create_task(event.end())
    await asyncio.sleep(0)
    async with background_task(event.wait_for_next()):
        assert [await first, await second] == 2 * [RecordingState.NONE]
        assert event.over.is_set()
        assert event.begin()
        await until(lambda: not event.over.is_set(), "the next event")


async def test_who_ends_an_event_is_not_told_of_a_recording_that_was_not_made() -> None:
    for limits, is_closed in ((LiveLimits(event_end_seconds=0.01), False), (EVENT, True)):
        event = LiveEvent("test", None, None, limits)
        ending = asyncio.create_task(event.end())
        await event.over.wait()
        if is_closed:
            event.close()
        assert await ending is RecordingState.AWAITED
