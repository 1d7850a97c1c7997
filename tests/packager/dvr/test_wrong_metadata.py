"""Notes beside a DVR and its recordings that say what can't be: they cost themselves, and nothing else."""

from __future__ import annotations

import asyncio
import json
import os
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from packager.dvr import stored_cadence
from packager.dvr.index import INDEX
from packager.live.event_lifecycle import LiveEvent
from packager.process.ffmpeg_discovery import Tools
from packager.recordings.disk_recordings import Recordings, Retention
from packager.recordings.metadata import EventEnd, decode_ending, decode_metadata
from packager.window.cadence import cadence
from tests.conformance.handfed import NUMBER, Track
from tests.packager.recordings.recorded_channel import record
from tests.packager.station import PARTS, on_air
from tests.packager.stored_segments import contents

pytestmark = pytest.mark.timeout(600)


async def test_a_note_of_times_that_cannot_be_read_costs_only_itself(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, note in enumerate(
        (
            b"\xff\xfe",
            b"{}",
            b"[" * 5000,
            bytes(300),
            b'{"frame_rate":[1,9223372036854775807]}',
            os.urandom(200),
        )
    ):
        data = tmp_path / str(number)
        async with on_air(data, material, tools, monkeypatch) as station:
            await station.segment(2)
            before = station.bytes_of("240p")
        (data / "dvr" / "cadence").write_bytes(note)
        async with on_air(data, material, tools, monkeypatch, number=NUMBER + 2) as station:
            assert station.bytes_of("240p") == before
        assert (data / "dvr" / "aside" / "1" / "cadence").read_bytes() == note
        assert not (data / "dvr" / "former").exists()


async def test_without_the_note_segments_of_other_durations_are_not_listed_all_the_same(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_air(tmp_path, material, tools, monkeypatch) as station:
        await station.segment(3)
    async with on_air(tmp_path, material, tools, monkeypatch) as station:
        archive = station.channel._new_archive()
        assert archive is not None
        (tmp_path / "dvr" / "cadence").write_bytes(b"?")
        assert await archive.load(cadence(Fraction(30), 1.0, 0.5), list(PARTS)) == NUMBER + 2
        (tmp_path / "dvr" / "cadence").write_bytes(b"?")
        assert await archive.load(cadence(Fraction(30), 6.0, 0.5), list(PARTS)) == -1
    assert len(list((tmp_path / "dvr" / "former" / "240p").glob("*.m4s"))) == 3


def test_a_note_of_times_that_cannot_be_is_none() -> None:
    times = cadence(Fraction(30), 2.0, 0.333)
    good = json.loads(stored_cadence.encode(times))
    assert stored_cadence.decode(json.dumps(good).encode()) == times
    for key, value in (
        ("frame_rate", [1, 2**62]),
        ("frame_rate", [2**62, 1]),
        ("segment_duration", [1, 10**15]),
        ("segment_duration", [10**15, 1]),
        ("part_target", [1, 10**9]),
        ("part_target", [10**9, 1]),
        ("target_duration", 2**62),
        ("target_duration", 1),
        ("longest", [1, 5]),
        ("longest", [2**62, 1]),
    ):
        assert stored_cadence.decode(json.dumps(good | {key: value}).encode()) is None, (key, value)


async def test_wrong_numbers_in_a_recordings_note_hide_it_and_remove_nothing(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = await record(tmp_path, material, tools, monkeypatch)
    path = recording.path / "recording"
    good = json.loads(path.read_bytes())
    before = contents(tmp_path / "recordings")
    for wrong in (
        {"end": -1e300},
        {"end": 5.0},
        {"start": 1e300},
        {"start": 1.0, "end": 2.0},
        {"duration": 1e300},
        {"duration": -5},
        {"size": 2**62},
        {"size": -(2**62)},
        {"first": 0},
        {"last": 10**15},
        {"first": good["last"], "last": good["first"]},
        {"renditions": ["../../240p"]},
        {"video": "../../../etc"},
        {"renditions": ["240p"] * 100},
        {"id": "20261318T110640Z"},
    ):
        path.write_text(json.dumps(good | wrong))
        recordings = Recordings(tmp_path / "recordings", "test", Retention(seconds=3600, size=1))
        with capture_logs() as logs:
            await recordings.load()
            await recordings.expire(good["end"] + 1)
        assert (wrong, list(recordings)) == (wrong, [])
        assert [line["event"] for line in logs] == ["folders that aren't recordings stay"]
        path.write_text(json.dumps(good))
    path.write_bytes(before[f"{recording.metadata.id}/recording"][1])
    assert contents(tmp_path / "recordings") == before


async def test_by_its_size_a_recording_is_removed_for_its_files_and_not_for_its_note(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = await record(tmp_path, material, tools, monkeypatch)
    await asyncio.to_thread(again, tmp_path, recording.path)
    path = recording.path / "recording"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"size": 2**50}))
    recordings = Recordings(tmp_path / "recordings", "test", Retention(size=1 << 40))
    await recordings.load()
    await recordings.expire(recording.metadata.end + 1)
    assert len(list(recordings)) == 2


def again(data: Path, path: Path) -> None:
    """Let there be a second recording like one."""
    twin = path.with_name(f"{path.name}-1")
    for file in (one for one in path.rglob("*") if one.is_file()):
        target = twin / file.relative_to(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    note = json.loads((twin / "recording").read_bytes())
    (twin / "recording").write_text(json.dumps(note | {"id": twin.name}))


async def test_a_hole_in_a_recorded_index_costs_no_memory(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_air(tmp_path, material, tools, monkeypatch) as station:
        await station.segment(3)
    far = NUMBER + 10**7
    async with on_air(tmp_path, material, tools, monkeypatch) as station:
        ending = station.channel._ending()
    for name in PARTS:
        folder = tmp_path / "dvr" / name
        data = (folder / INDEX).read_bytes()
        (folder / f"{NUMBER + 2}.m4s").rename(folder / f"{far}.m4s")
        (folder / INDEX).write_bytes(data.replace(b"%d" % (NUMBER + 2), b"%d" % far))
    live_event = LiveEvent("test", tmp_path, Retention())
    master = "".join(f"{name}/media.m3u8\n" for name in PARTS)
    await live_event.record(msgspec.structs.replace(ending, master=master))
    assert not live_event.trouble
    assert live_event.recordings is not None
    (recording,) = live_event.recordings
    text = (recording.path / "240p" / "media.m3u8").read_text()
    assert [one for one in text.splitlines() if one.endswith(".m4s")] == [
        f"{number}.m4s" for number in (NUMBER, NUMBER + 1, far)
    ]
    assert len(text) < 2000


@pytest.mark.parametrize(
    "wrong",
    [
        {"frame_rate": [0, 1]},
        {"frame_rate": [1, 2**62]},
        {"segment_duration": [-1, 1]},
        {"segment_duration": [10**15, 1]},
        {"target_duration": 2**62},
        {"video": "../.."},
        {"sealed": 1},
    ],
)
def test_what_an_event_left_is_none_where_it_cannot_be(wrong: dict[str, object]) -> None:
    good = EventEnd((30, 1), (2, 1), 2, "#EXTM3U\n", video="240p", audio="audio")
    said = json.loads(msgspec.json.encode(good))
    assert decode_ending(json.dumps(said).encode()) == good
    assert decode_ending(json.dumps(said | wrong).encode()) is None
    assert decode_metadata(json.dumps(said).encode()) is None
