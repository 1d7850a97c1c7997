"""Copies a channel's recordings to an S3 bucket, once each is made, so that they outlive this disk.

A recording consists of files for any web server, so its copy plays from the bucket. Its metadata come last: a
copy without them isn't whole, and is continued. Nothing in the bucket is ever removed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from packager.blocking_calls import in_parallel
from packager.dvr.own_files import MEDIA_NAME
from packager.library.local_storage import NotFoundError
from packager.recordings.disk_recordings import Recording, Recordings
from packager.recordings.limits import RecordingsLimits
from packager.recordings.recording_writer import I_FRAMES, MANIFEST, MASTER, MEDIA, METADATA, head_name
from packager.retry_policy import FailureCount
from packager.threads import ThreadLimits, Threads

if TYPE_CHECKING:
    from packager.s3.client import S3Client

log = structlog.get_logger()

UPLOADS = Threads(ThreadLimits(threads=8), "recordings")
"""The threads in which recordings are put into S3: programmes of many stations end at the same minute."""

COPIES_AT_ONCE, BYTES_AT_ONCE = 8, 1 << 20
"""Most segments that are copied at the same time, and most bytes of them: longer ones are copied one by one,
as each would take the others' share of a slow connection, and be too late.
"""

LAST = (MEDIA, I_FRAMES, MASTER, MANIFEST, METADATA)
"""Files that come behind those that they name, in this order."""

WITH_MOVIE, WITHOUT_MOVIE = "mp4", "no-mp4"
"""Notes of the metadata in S3: whether the head of the MP4 is there; earlier versions stored none."""

_MEDIA_TYPES = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".mpd": "application/dash+xml",
    ".m4s": "video/mp4",
    ".mp4": "video/mp4",
    ".vtt": "text/vtt",
}


class RecordingCopies:
    """Copies the recordings of one channel; what was copied by an earlier process isn't copied again.

    Args:
        bucket: where they are copied to, below a folder of the channel's name.
        limits: when it is looked for new ones, and when tried again.

    Attributes:
        trouble: why they can't be copied now; empty where they can.
    """

    def __init__(
        self, channel: str, recordings: Recordings, bucket: S3Client, limits: RecordingsLimits
    ) -> None:
        self.name = f"copies of recordings of {channel}"
        self.trouble = ""
        self._channel = channel
        self._recordings = recordings
        self._bucket = bucket
        self._limits = limits
        self._copied: set[str] = set()

    async def run(self) -> None:
        """Copy all recordings, and those to come, until cancelled."""
        failures = FailureCount(self._limits.copy_retries)
        while True:
            pause = self._limits.copy_look_seconds
            try:
                await self.copy_all()
            except NotFoundError:  # a recording was removed meanwhile
                pass
            except OSError as error:
                pause = failures.failed()
                if self.trouble != str(error):
                    log.warning("recordings can't be copied to S3", channel=self._channel, reason=str(error))
                self.trouble = str(error)
            else:
                failures.succeeded()
                self.trouble = ""
            await asyncio.sleep(pause)

    async def copy_all(self) -> None:
        """Copy all recordings that aren't copied yet.

        Raises:
            NotFoundError: a file was removed meanwhile.
            OSError: a file can't be read, or S3 can't be reached, or refuses.
        """
        there = {one.metadata.id: one for one in self._recordings}
        self._copied &= there.keys()
        for name, recording in there.items():
            if name in self._copied:
                continue
            with recording.held():
                count = await UPLOADS.run(self._copy, recording)
            self._copied.add(name)
            if count:
                log.info("recording copied to S3", channel=self._channel, recording=name, files=count)

    def _copy(self, recording: Recording) -> int:
        """Copy the files that the bucket lacks; return how many these were."""
        return sum(copying(self._bucket, self._channel, recording))


def copying(bucket: S3Client, channel: str, recording: Recording) -> Iterator[int]:
    """Copy the files of a recording that the bucket lacks. Blocks.

    Yields:
        How many files were copied in each step, of which there are many.

    Raises:
        NotFoundError: a file was removed meanwhile.
        OSError: a file can't be read, or S3 can't be reached, or refuses.
    """
    folder = f"{channel}/{recording.metadata.id}"
    sizes = {one.key: one.size for page in bucket.objects(folder) for one in page}
    if f"{folder}/{METADATA}" in sizes:
        return

    with contextlib.suppress(NotFoundError, OSError):  # a recording without an MP4 is copied as well
        recording.movie()[0].close()

    def put(name: str) -> bool:
        with recording.open(name) as file:
            # Other files of the same length may be of another span that begins in the same second.
            is_segment = MEDIA_NAME.fullmatch(Path(name).name) is not None
            if is_segment and sizes.get(f"{folder}/{name}") == file.size:
                return False
            data = file.pread(0, file.size)
        media_type = _MEDIA_TYPES.get(Path(name).suffix, "application/octet-stream")
        bucket.put(f"{folder}/{name}", data, media_type, note if name == METADATA else "")
        return True

    names = list(_in_order(recording.path))
    note = WITH_MOVIE if head_name() in names else WITHOUT_MOVIE
    behind = [name for name in names if _last_of(Path(name).name)]
    media = names[: len(names) - len(behind)]
    for step in (*_steps(recording.path, media), *([name] for name in behind)):
        yield sum(in_parallel(put, step, COPIES_AT_ONCE))


def _steps(folder: Path, names: Iterable[str]) -> Iterator[list[str]]:
    """Group files that are copied at the same time."""
    step, nbytes = list[str](), 0
    for name in names:
        size = (folder / name).stat().st_size
        if step and (len(step) == COPIES_AT_ONCE or nbytes + size > BYTES_AT_ONCE):
            yield step
            step, nbytes = [], 0
        step, nbytes = [*step, name], nbytes + size
    if step:
        yield step


def _in_order(folder: Path) -> Iterator[str]:
    """Return the names of a recording's files, segments first and its metadata last."""
    names = sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    )
    for last in ("", *LAST):
        yield from (name for name in names if _last_of(Path(name).name) == last)


def _last_of(name: str) -> str:
    return name if name in LAST else ""
