"""Recordings are copied to a real S3 bucket as a whole, once, and gone on with where copying was cut."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

import obstore
import pytest
from structlog.testing import capture_logs

from packager.concurrency import background_task
from packager.process.ffmpeg_discovery import Tools
from packager.recordings.bucket_upload import RecordingCopies, copying
from packager.recordings.disk_recordings import Recordings, Retention
from packager.recordings.limits import RecordingsLimits
from packager.retry_policy import RetryPolicy
from packager.s3.client import S3Client, UnavailableError
from packager.s3.limits import S3Limits
from tests.conformance.handfed import Track
from tests.packager.recordings.recorded_channel import record
from tests.s3_server import BUCKET, S3Proxy, S3Server
from tests.waiting import wait_for

QUICK = RecordingsLimits(copy_look_seconds=0.05, copy_retries=RetryPolicy(0.05, 0.1))
REQUESTS = S3Limits(retries=0, pauses=RetryPolicy(0.05, 0.1))


async def test_a_copy_is_whole_comes_once_and_its_note_last(
    s3_server: S3Server,
    s3_proxy: S3Proxy,
    tmp_path: Path,
    material: dict[str, Track],
    tools: Tools,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in s3_server.environment(s3_proxy.url).items():
        monkeypatch.setenv(name, value)
    recording = await record(tmp_path / "data", material, tools, monkeypatch)
    recordings = Recordings(recording.path.parent, "one", Retention())
    await recordings.load()

    def copies() -> RecordingCopies:
        return RecordingCopies("one", recordings, S3Client(f"s3://{BUCKET}/copies", REQUESTS), QUICK)

    def copied() -> dict[str, bytes]:
        store = s3_server.store(f"copies/one/{recording.metadata.id}")
        return {one["path"]: bytes(obstore.get(store, one["path"]).bytes()) for one in store.list().collect()}

    expected = {
        str(path.relative_to(recording.path)): path.read_bytes()
        for path in recording.path.rglob("*")
        if path.is_file()
    }
    with s3_proxy.refusing():
        with pytest.raises(UnavailableError):
            await copies().copy_all()
        with capture_logs() as logs:
            cut = copies()
            async with background_task(cut.run()), asyncio.timeout(60):
                while not cut.trouble:
                    await asyncio.sleep(0.01)
        assert [line["event"] for line in logs].count("recordings can't be copied to S3") == 1
    assert await asyncio.to_thread(copied) == {}
    # As if copying had been cut behind a few files, of which one isn't the recording's.
    store = s3_server.store(f"copies/one/{recording.metadata.id}")
    there = next(name for name in expected if name.endswith(".m4s"))
    obstore.put(store, there, b"other")
    # Left of another span that began in the same second.
    init = next(name for name in expected if "/init-" in name)
    obstore.put(store, init, bytes(len(expected[init])))
    again = copies()
    async with background_task(again.run()), asyncio.timeout(60):
        while await asyncio.to_thread(copied) != expected:
            await asyncio.sleep(0.05)
    written = [
        line.split()[1] for line in s3_proxy.asked("PUT") if f"/copies/one/{recording.metadata.id}/" in line
    ]
    assert written[-1].endswith("/recording")
    assert [name.rpartition("/")[2] for name in written[-3:-1]] == ["master.m3u8", "manifest.mpd"]
    before = len(s3_proxy.asked("PUT"))
    await copies().copy_all()  # of another process
    assert len(s3_proxy.asked("PUT")) == before
    head = obstore.head(store, "master.m3u8")
    assert head["size"] == len(expected["master.m3u8"])


async def test_long_segments_are_copied_one_by_one_and_short_ones_together(
    s3_server: S3Server,
    tmp_path: Path,
    material: dict[str, Track],
    tools: Tools,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    recording = await record(tmp_path / "data", material, tools, monkeypatch)
    long = [*(recording.path / "240p").glob("*.m4s")]
    for path in long:
        os.truncate(path, 1_100_000)
    steps = list[int]()

    def is_copied() -> bool:
        # A store that was just started takes long for its first objects.
        with contextlib.suppress(UnavailableError):
            steps[:] = copying(
                S3Client(f"s3://{BUCKET}/steps", REQUESTS), f"{time.monotonic_ns()}", recording
            )
            return True
        return False

    await asyncio.to_thread(wait_for, is_copied, "the copy")
    assert steps[: len(long)] == [1] * len(long)
    assert max(steps) > 1
