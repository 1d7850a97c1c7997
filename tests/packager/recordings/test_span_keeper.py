"""Kept spans: what is pinned, what a full disk says, and what a restart finds."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as replaced

from packager.dvr.segment_sources import DiskSegments
from packager.recordings.disk_recordings import Recording, Recordings, Retention
from packager.recordings.kept_spans import SPANS, KeptSpan, SpansState, read_state, write_state
from packager.recordings.limits import RecordingsLimits
from packager.recordings.metadata import EventEnd, RecordingMetadata, decode_metadata, encode
from packager.recordings.playlist_facts import PlaylistFacts
from packager.recordings.span_keeper import KeepingRule, NoRoomError, SpanKeeper
from packager.safe_files import DataFolder
from tests.waiting import until

LIMITS = RecordingsLimits(span_look_seconds=0.05, disk_look_seconds=0.05, waiting_spans=2)
ENDING = EventEnd((25, 1), (2, 1), 2, "")
METADATA = RecordingMetadata(
    "20261118T110640Z", 1_795_000_000.0, 1_795_000_010.0, 10.0, 1000, 1, 5, ("v",), "v"
)


def make_keeper(place: Path, limits: RecordingsLimits = LIMITS) -> SpanKeeper:
    folder = DataFolder.at(place)
    recordings = Recordings(folder / "recordings", "test", Retention())
    facts: Callable[[], PlaylistFacts] = lambda: PlaylistFacts({}, ENDING, lambda _, __: ())  # noqa: E731
    return SpanKeeper(
        "test", (folder, DiskSegments(folder / "dvr")), recordings, facts, KeepingRule(), limits
    )


@pytest.mark.parametrize("retention", [Retention(seconds=1), Retention(size=10)])
async def test_neither_age_nor_size_removes_what_is_pinned(tmp_path: Path, retention: Retention) -> None:
    recordings = Recordings(tmp_path, "test", retention)
    for number, is_pinned in ((1, True), (2, False), (3, True)):
        name = f"{METADATA.id}-{number}"
        (tmp_path / name).mkdir()
        one = replaced(METADATA, id=name, pinned=is_pinned, start=METADATA.start + number)
        recordings._known[name] = Recording(one, tmp_path / name)
    await recordings.expire(time.time())
    assert [one.metadata.id for one in recordings] == [f"{METADATA.id}-3", f"{METADATA.id}-1"]
    assert recordings.excess == (1990 if retention.size else 0)


def test_metadata_of_earlier_versions_are_read_and_new_ones_have_what_is_new() -> None:
    assert decode_metadata(encode(METADATA)) == METADATA
    assert b"pinned" not in encode(METADATA), "the recordings of events can be read by earlier versions"
    named = replaced(METADATA, title="Title", programme="one", span="programme-one-1", pinned=True)
    assert decode_metadata(encode(named)) == named
    assert decode_metadata(encode(named).replace(b'"Title"', b'"' + b"x" * 301 + b'"')) is None


async def test_a_disk_with_little_room_is_said_before_it_is_full(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    little = make_keeper(tmp_path, replace(LIMITS, free_share=1.0, free_bytes=free + (1 << 40)))
    enough = make_keeper(tmp_path, replace(LIMITS, free_share=1.0, free_bytes=1))
    async with little.running(None), enough.running(None):
        await until(lambda: little.trouble)
        assert "MiB left" in little.trouble
        await asyncio.sleep(0)
        assert enough.trouble == ""


async def test_spans_that_wait_are_bounded_and_outlive_a_restart(tmp_path: Path) -> None:
    now = int(time.time() * 1000)
    keeper = make_keeper(tmp_path)
    async with keeper.running(None):
        for number in (1, 2):
            found = await keeper.keep(now + 100_000, now + 200_000 + number, "title")
            assert isinstance(found, KeptSpan)
            # The same one again takes no more room.
        with pytest.raises(NoRoomError):
            await keeper.keep(now + 100_000, now + 300_000, "")
    again = make_keeper(tmp_path)
    async with again.running(None):
        await until(lambda: len(again.waiting) == 2)
        assert await again.forget(again.waiting[0].id)
        assert not await again.forget("another")
    assert len(read_state(DataFolder.at(tmp_path))[0].spans) == 1


@pytest.mark.parametrize("data", [b"", b"[]", b'{"spans": [{}]}', b"\xff", b"[" * 100_000])
async def test_a_damaged_list_of_spans_is_set_aside(tmp_path: Path, data: bytes) -> None:
    place = DataFolder.at(tmp_path)
    await asyncio.to_thread(write_state, place, SpansState((KeptSpan("one", 1, 2),)))
    await asyncio.to_thread((tmp_path / SPANS).write_bytes, data)
    keeper = make_keeper(tmp_path)
    async with keeper.running(None):
        await until(lambda: not (tmp_path / SPANS).exists())
        assert keeper.waiting == ()
        assert (
            await keeper.keep(int(time.time() * 1000) + 9000, int(time.time() * 1000) + 9999, "") is not None
        )
