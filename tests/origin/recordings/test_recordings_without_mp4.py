"""Recordings that can't be one MP4: what the list says of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from origin.recordings.handler import describe
from packager.library.local_storage import NotFoundError
from packager.process.ffmpeg_discovery import Tools
from packager.recordings.disk_recordings import Recording, Recordings, Retention
from tests.conformance.handfed import Track
from tests.packager.recordings.recorded_channel import record, with_another_level


async def test_a_recording_without_an_mp4_says_why_in_the_list(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = await record(tmp_path, material, tools, monkeypatch)
    whole = describe("test", recording)
    assert str(whole["mp4"]).endswith("/event.mp4")
    assert whole["mp4_reason"] is None
    with_another_level(recording)
    again = Recording(recording.metadata, recording.path)
    with pytest.raises(NotFoundError):
        await asyncio.to_thread(again.movie)
    listed = describe("test", again)
    assert listed["mp4"] is None
    assert "parameters change" in str(listed["mp4_reason"])
    assert listed["hls"] == whole["hls"]
    # Behind a restart, too, the list has the reason, before anybody has asked for the MP4.
    restarted = Recordings(recording.path.parent, "test", Retention())
    await restarted.load()
    (one,) = restarted
    assert describe("test", one) == listed


async def test_the_stretches_of_a_span_have_the_times_of_what_is_shown(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = await record(tmp_path, material, tools, monkeypatch)
    with_another_level(recording)
    whole = recording.metadata
    bounds = round(1000 * whole.start) + 250, round(1000 * whole.end) - 500
    again = Recording(replace(whole, shown=bounds), recording.path)
    with pytest.raises(NotFoundError):
        await asyncio.to_thread(again.movie)
    first, second = again.stretches
    # Of five segments of a second and four, between which there is a pause.
    assert [first.start, first.duration] == pytest.approx([whole.start + 0.25, 4.75])
    assert [second.start, second.duration] == pytest.approx([whole.end - 4, 3.5])
    assert describe("test", again)["duration"] == pytest.approx(8.25)
