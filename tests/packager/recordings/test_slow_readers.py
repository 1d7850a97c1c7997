"""Readers that keep recordings on the disk: not for longer, and not for more, than they may."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from packager.process.ffmpeg_discovery import Tools
from packager.recordings.disk_recordings import Recordings, Retention
from packager.recordings.limits import RecordingsLimits
from tests.conformance.handfed import NUMBER, Track
from tests.packager.recordings.recorded_channel import finish, record
from tests.packager.station import on_air


async def test_slow_readers_keep_no_recording_that_is_to_be_removed(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    await record(tmp_path, material, tools, monkeypatch)
    limits = RecordingsLimits(reader_rate=1000, reader_grace_seconds=0.0)
    recordings = Recordings(tmp_path / "recordings", "test", Retention(seconds=1), limits)
    await recordings.load()
    (recording,) = recordings
    later = recording.metadata.end + 2
    with recording.reading() as slow, recording.reading() as quick:
        slow.begun -= 60
        slow.taken, quick.taken = 1, 1 << 40
        await recordings.expire(later)
        assert recording.path.exists()
        quick.begun -= limits.reader_seconds
        await recordings.expire(later)
        assert not recording.path.exists(), "nobody reads for longer than an hour"


async def test_recordings_that_readers_keep_have_at_most_the_size_once_more(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings: Recordings | None = None
    with contextlib.ExitStack() as reading:
        for count in range(4):
            data = tmp_path / str(count)
            async with on_air(data, material, tools, monkeypatch, number=NUMBER + 10 * count) as station:
                await station.segment(3)
                await finish(station)
                ending = station.channel._ending()
            if recordings is None:
                await Recordings(tmp_path / "one", "test", Retention()).seal(data / "dvr", ending)
                size = sum(one.stat().st_size for one in (tmp_path / "one").rglob("*.m4s"))
                recordings = Recordings(tmp_path / "recordings", "test", Retention(size=size * 3 // 2))
            await recordings.seal(data / "dvr", ending)
            (newest,) = recordings
            reading.enter_context(newest.reading())
        # The newest, and one of the others, whose readers are still in their first seconds.
        assert len(list((tmp_path / "recordings").iterdir())) == 2
    assert recordings is not None
    await recordings.expire(newest.metadata.end)
    assert [one.name for one in (tmp_path / "recordings").iterdir()] == [newest.metadata.id]
