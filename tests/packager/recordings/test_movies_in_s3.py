"""MP4s of recordings in S3: a start knows of each whether there is one without asking for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import obstore
import pytest

from packager.library.local_storage import NotFoundError
from packager.process.ffmpeg_discovery import Tools
from packager.recordings.bucket_recordings import BucketRecording, BucketRecordings
from packager.recordings.bucket_upload import copying
from packager.recordings.disk_recordings import Recording
from packager.recordings.kept_recordings import LAYOUTS_KEPT
from packager.s3.client import UnavailableError
from packager.s3.immutable_objects import BucketFiles
from packager.s3.limits import S3Limits
from tests.conformance.handfed import Track
from tests.packager.recordings.recorded_channel import another, layouts, record, with_another_level
from tests.s3_server import BUCKET, S3Proxy, S3Server
from tests.waiting import wait_for

COUNT = 12


@pytest.fixture
async def recording(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> Recording:
    return await record(tmp_path / "data", material, tools, monkeypatch)


@pytest.fixture
async def bucket(
    tmp_path: Path, s3_server: S3Server, s3_proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[BucketFiles]:
    for name, value in s3_server.environment(s3_proxy.url).items():
        monkeypatch.setenv(name, value)
    files = BucketFiles(f"s3://{BUCKET}/{tmp_path.name}", tmp_path / "cache", S3Limits())
    yield files
    files.close()


async def copy(bucket: BucketFiles, recording: Recording) -> None:
    def copied() -> bool:
        # A store that was just started takes long for its first objects.
        with contextlib.suppress(UnavailableError):
            return sum(copying(bucket.client, "one", recording)) >= 0
        return False

    await asyncio.to_thread(wait_for, copied, "the copy")


async def test_a_start_asks_s3_once_for_each_recording_and_knows_which_have_mp4s(
    bucket: BucketFiles, recording: Recording, s3_proxy: S3Proxy
) -> None:
    every = [another(recording, f"{recording.metadata.id}-{number}") for number in range(1, COUNT)]
    with_another_level(every[3])
    for one in (recording, *every):
        await copy(bucket, one)
    before = len(s3_proxy.requests)
    recordings = BucketRecordings("one", bucket)
    await recordings.look()
    asked = s3_proxy.requests[before:]
    lacking = {one.metadata.id for one in recordings if one.obstacle}
    assert len([*recordings]) == COUNT
    assert lacking == {every[3].metadata.id}
    assert len(asked) == 1 + COUNT, asked


async def test_a_recording_is_copied_with_an_mp4_that_wasnt_made_yet(
    bucket: BucketFiles, recording: Recording
) -> None:
    head = (recording.path / "event.head").read_bytes()
    (recording.path / "event.head").unlink()
    await copy(bucket, Recording(recording.metadata, recording.path))
    recordings = BucketRecordings("one", bucket)
    await recordings.look()
    (one,) = recordings
    assert one.obstacle == ""
    file, _ = await asyncio.to_thread(one.movie)
    assert await asyncio.to_thread(file.pread, 0, file.size) == head


@pytest.mark.parametrize("is_listed_again", [False, True], ids=["asked for at once", "listed again"])
@pytest.mark.parametrize("has_head", [False, True], ids=["without a head", "with a head"])
async def test_copies_of_earlier_versions_have_the_mp4s_that_are_there(
    bucket: BucketFiles, recording: Recording, s3_server: S3Server, is_listed_again: bool, has_head: bool
) -> None:
    await copy(bucket, recording)
    store = s3_server.store(f"{bucket.client.prefix}/one/{recording.metadata.id}")
    # Earlier versions stored no note with the metadata, and not all of them the head.
    await asyncio.to_thread(obstore.put, store, "recording", (recording.path / "recording").read_bytes())
    if not has_head:
        await asyncio.to_thread(obstore.delete, store, ["event.head"])
    recordings = BucketRecordings("one", bucket)
    await recordings.look()
    (one,) = recordings
    if is_listed_again:
        await recordings.look()
        assert bool(one.obstacle) is not has_head
    if has_head:
        file, _ = await asyncio.to_thread(one.movie)
        assert file.size == (recording.path / "event.head").stat().st_size
    else:
        with pytest.raises(NotFoundError):
            await asyncio.to_thread(one.movie)
    assert bool(one.obstacle) is not has_head


async def test_layouts_of_many_recordings_in_s3_have_a_bound(
    bucket: BucketFiles, recording: Recording
) -> None:
    await copy(bucket, recording)
    folder, before = f"one/{recording.metadata.id}", layouts()
    every = [
        BucketRecording(recording.metadata, folder, bucket, "", True) for _ in range(LAYOUTS_KEPT.items + 50)
    ]

    def ask(one: BucketRecording) -> tuple[int, bytes, bytes]:
        head, layout = one.movie()
        return head.size, layout.numbers.tobytes(), layout.ends.tobytes()

    found = {await asyncio.to_thread(ask, one) for one in every}
    assert len(layouts()) - len(before) <= LAYOUTS_KEPT.items
    assert {await asyncio.to_thread(ask, every[0])} == found, "it is the same again"
