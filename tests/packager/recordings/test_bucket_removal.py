"""A recording that is in S3 alone is removed there, and nothing that others have put beside its files."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import obstore
import pytest

from packager.process.ffmpeg_discovery import Tools
from packager.recordings.bucket_recordings import BucketRecordings
from packager.recordings.bucket_upload import copying
from packager.s3.client import UnavailableError
from packager.s3.immutable_objects import BucketFiles
from packager.s3.limits import S3Limits
from tests.conformance.handfed import Track
from tests.packager.recordings.recorded_channel import record
from tests.s3_server import BUCKET, S3Proxy, S3Server
from tests.waiting import wait_for

FOREIGN = {"notes.txt": b"mine", "240p/99.m4s": b"mine", "240p/index.old": b"mine", "other/1.m4s": b"mine"}


async def test_what_others_have_put_beside_a_recording_stays_when_it_is_removed(
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
    bucket = BucketFiles(f"s3://{BUCKET}/removed", tmp_path / "cache", S3Limits())
    try:

        def copied() -> bool:
            # A store that was just started takes long for its first objects.
            with contextlib.suppress(UnavailableError):
                return sum(copying(bucket.client, "one", recording)) >= 0
            return False

        await asyncio.to_thread(wait_for, copied, "the copy")
        store = s3_server.store(f"removed/one/{recording.metadata.id}")

        def there() -> set[str]:
            return {one["path"] for one in store.list().collect()}

        files = {
            str(path.relative_to(recording.path)) for path in recording.path.rglob("*") if path.is_file()
        }
        assert await asyncio.to_thread(there) == files
        # One of its segments was replaced, and one of no index is left of a copy that was cut off.
        replaced, cut = sorted((recording.path / "240p").glob("*.m4s"))[:2]
        left = {"240p/98.m4s": cut.read_bytes()}
        foreign = {**FOREIGN, f"240p/{replaced.name}": b"mine"}
        for name, data in {**foreign, **left}.items():
            await asyncio.to_thread(obstore.put, store, name, data)

        recordings = BucketRecordings("one", bucket, is_owned=True)
        await recordings.look()
        with s3_proxy.refusing(), pytest.raises(OSError, match="S3"):
            await recordings.remove(recording.metadata.id)
        await recordings.look()
        assert await recordings.remove(recording.metadata.id)
        assert await asyncio.to_thread(there) == foreign.keys()
        await recordings.look()
        assert not [*recordings]
    finally:
        bucket.close()
