"""A recording of a live channel."""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from packager.past.progressive_mp4 import MovieLayout
from packager.process.ffmpeg_discovery import Tools
from packager.recordings import metadata as metadata_files
from packager.recordings.disk_recordings import Recording
from tests.conformance.handfed import NUMBER, Track
from tests.packager.station import Station, on_air


async def finish(station: Station) -> None:
    """Let the event be over, but for what becomes of it."""
    station.channel._aligned.end()
    await station.archive.settle()


async def record(
    data: Path, material: dict[str, Track], tools: Tools, patch: pytest.MonkeyPatch
) -> Recording:
    """Record an event of five segments, three that were missed, and four behind another start."""
    async with on_air(data, material, tools, patch) as station:
        await station.segment(5)
    async with on_air(data, material, tools, patch, number=NUMBER + 8) as station:
        await station.segment(4)
        await finish(station)
        await station.channel.live_event.record(station.channel._ending())
        assert station.channel.live_event.recordings is not None
        (recording,) = station.channel.live_event.recordings
        return recording


def another(recording: Recording, name: str) -> Recording:
    """Make the same recording once more, under another name."""
    metadata = replace(recording.metadata, id=name)
    folder = recording.path.with_name(name)
    shutil.copytree(recording.path, folder, copy_function=os.link)
    (folder / "recording").unlink()
    (folder / "recording").write_bytes(metadata_files.encode(metadata))
    return Recording(metadata, folder)


def layouts() -> list[MovieLayout]:
    """Return the layouts of MP4s that are in memory, as the garbage collector knows them."""
    gc.collect()
    return [one for one in gc.get_objects() if type(one) is MovieLayout]


def with_another_level(recording: Recording) -> None:
    """Change a recording as if its publisher had come back with another level of H.264."""
    (recording.path / "event.head").unlink()
    init = recording.path / "240p" / f"init-{NUMBER + 8}.mp4"
    data = init.read_bytes()
    at = data.index(b"avcC") + 7
    init.unlink()
    init.write_bytes(data[:at] + bytes([data[at] + 1]) + data[at + 1 :])
