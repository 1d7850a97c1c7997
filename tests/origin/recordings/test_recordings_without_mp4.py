"""Recordings that can't be one MP4: what the list says of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from origin.recordings.handler import describe
from packager.library.local_storage import NotFoundError
from packager.process.ffmpeg_discovery import Tools
from packager.recordings.disk_recordings import Recording, Recordings, Retention
from tests.conformance.handfed import NUMBER, Track
from tests.packager.recordings.recorded_channel import record


async def test_a_recording_without_an_mp4_says_why_in_the_list(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = await record(tmp_path, material, tools, monkeypatch)
    whole = describe("test", recording)
    assert str(whole["mp4"]).endswith("/event.mp4")
    assert whole["mp4_reason"] is None
    # The publisher came back with another level of H.264.
    (recording.path / "event.head").unlink()
    init = recording.path / "240p" / f"init-{NUMBER + 8}.mp4"
    data = init.read_bytes()
    at = data.index(b"avcC") + 7
    init.unlink()
    init.write_bytes(data[:at] + bytes([data[at] + 1]) + data[at + 1 :])
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
