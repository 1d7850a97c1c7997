"""A channel's recordings in an S3 bucket: any node lists and serves them.

Those of live channels are copies, and stay. Those of a cluster's stations are nowhere else; see
`packager.recordings.staged_recordings`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice

import structlog

from packager.blocking_calls import ThreadFlights
from packager.dvr import index
from packager.dvr.own_files import is_our_content, sizes_of
from packager.library.local_storage import NotFoundError
from packager.past.progressive_mp4 import MovieLayout, lay_out
from packager.recordings import metadata as metadata_files
from packager.recordings.bucket_upload import WITH_MOVIE
from packager.recordings.kept_recordings import LAYOUTS, AnyRecording, KeptRecordings, RecordingReader
from packager.recordings.limits import DEFAULT_LIMITS, MAX_BUCKET_RECORDINGS, RecordingsLimits
from packager.recordings.metadata import RecordingMetadata
from packager.recordings.recording_writer import METADATA, head_name
from packager.s3.immutable_objects import BucketFiles
from packager.s3.object_files import S3File

log = structlog.get_logger()

BUCKET_LOOK_SECONDS = 10.0
"""Seconds between two listings of the recordings in S3."""

OWNED_LOOK_SECONDS = 30.0
"""Seconds between two listings of those of which nodes tell each other."""

HEADS_A_LOOK = 50
"""For so many MP4s of copies by earlier versions S3 is asked at each listing, the latest first."""

_MISSING = "there is no MP4 of the whole here; the server that recorded it may have MP4s of its stretches"


class BucketRecording(AnyRecording):
    """A recorded event in S3.

    Args:
        folder: the prefix of its keys, without a slash at the end.
        lacking: why the recording has no MP4, where the head of one isn't there.
        has_movie: whether the head is there; None: that isn't known yet.

    Attributes:
        is_unsure: whether S3 is still to be asked for the head.
    """

    most_inits = 512

    def __init__(
        self,
        metadata: RecordingMetadata,
        folder: str,
        bucket: BucketFiles,
        lacking: str,
        has_movie: bool | None,
    ) -> None:
        super().__init__(metadata, f"{bucket.address}/{folder}", None, "" if has_movie else lacking)
        self.is_unsure = has_movie is None
        self.threads = bucket.threads
        self._folder = folder
        self._bucket = bucket
        self._looks = ThreadFlights[str, None]()

    def reading(self) -> AbstractContextManager[RecordingReader]:
        """Keep nothing, as this server removes no recordings in S3."""
        return contextlib.nullcontext(RecordingReader())

    def open(self, name: str) -> S3File:
        """Open one of its files; see `AnyRecording`."""
        return self._bucket.open(f"{self._folder}/{name}")

    def movie(self, stretch: int = 0) -> tuple[S3File, MovieLayout]:
        """Open the head of the MP4; see `AnyRecording`. There is never one of a stretch."""
        self.look_for_head()
        if stretch or self.obstacle:
            raise NotFoundError(self.obstacle)
        return self.open(head_name()), LAYOUTS.get(self, self._lay_out)[0]

    def look_for_head(self) -> None:
        """Ask S3 whether there is an MP4, unless that is known. Blocks.

        Raises:
            OSError: S3 can't be reached now.
        """
        if self.is_unsure:
            self._looks.do(self._folder, self._look_for_head)

    def _look_for_head(self) -> None:
        with contextlib.suppress(NotFoundError):
            self._bucket.client.describe(f"{self._folder}/{head_name()}")
            self.obstacle = ""
        self.is_unsure = False

    def _lay_out(self) -> Mapping[int, MovieLayout]:
        return {0: lay_out(self.movie_segments())}

    def segment_sizes(self) -> Mapping[str, int]:
        """Return the lengths in bytes that its segments have by its indexes, those that are there. Blocks.

        Raises:
            OSError: S3 can't be reached now, or refuses.
        """
        found: dict[str, int] = {}
        for rendition in self.metadata.renditions:
            with contextlib.suppress(NotFoundError):
                own = sizes_of(self.lines(rendition).values())
                found |= {f"{rendition}/{name}": size for name, size in own.items()}
        return found

    def has_own(self, name: str) -> bool:
        """Return whether a file of this name is there, and was written by us. Blocks.

        Raises:
            OSError: S3 can't be reached now, or refuses.
        """
        rendition, _, file_name = name.rpartition("/")
        if rendition and rendition not in self.metadata.renditions:
            return False
        with contextlib.suppress(NotFoundError), self.open(name) as file:

            def read(offset: int, length: int) -> bytes:
                length = min(length, file.size - offset)
                return file.pread(offset, length) if length > 0 else b""

            if is_our_content(file_name, file.size, read):
                return True
            log.warning("an object in S3 isn't ours, and isn't removed", place=f"{self.path}/{name}")
        return False


class BucketRecordings(KeptRecordings[BucketRecording]):
    """The recordings of one channel in S3.

    Args:
        bucket: the bucket, in which a folder of the channel's name has the recordings.
        limits: how much of their metadata is read.
        is_owned: whether they are nowhere else.

    Attributes:
        bucket: the place of their files.
        trouble: why the recordings can't be listed; empty where they can.
    """

    def __init__(
        self,
        channel: str,
        bucket: BucketFiles,
        limits: RecordingsLimits = DEFAULT_LIMITS,
        *,
        is_owned: bool = False,
    ) -> None:
        super().__init__()
        self.name = f"recordings of {channel} in S3"
        self.trouble = ""
        self.bucket = bucket
        self._channel = channel
        self._is_owned = is_owned
        self._limits = limits
        self._looking = asyncio.Lock()
        # The name of the one of which it was found out last whether it is still there.
        self._checked = ""

    async def run(self) -> None:
        """List the recordings at intervals until cancelled."""
        while True:
            await self.look(self._doubted())
            await asyncio.sleep(OWNED_LOOK_SECONDS if self._is_owned else BUCKET_LOOK_SECONDS)

    def _doubted(self) -> Collection[str]:
        """Name a recording that may have been removed: some stores list a folder without files."""
        if not self._is_owned or not self._known:
            return ()
        names = sorted(self._known)
        self._checked = next((name for name in names if name > self._checked), names[0])
        return (self._checked,)

    async def look(self, doubted: Collection[str] = ()) -> None:
        """List the recordings; while S3 can't be reached, the known ones stay.

        Args:
            doubted: the names of those that may have been removed.
        """
        async with self._looking:
            try:
                self._known = await self.bucket.threads.run(self._find, doubted)
            except OSError as error:
                if self.trouble != str(error):
                    log.warning("recordings in S3 can't be listed", channel=self._channel, reason=str(error))
                self.trouble = str(error)
            else:
                self.trouble = ""

    async def remove(self, name: str) -> bool:
        """Remove a recording that is nowhere else; return False where there is none of the name.

        Raises:
            OSError: S3 can't be reached, or refuses.
        """
        if not self._is_owned:
            return False
        async with self._looking:
            recording = self._known.pop(name, None)
            if recording is None:
                return False
            await self.bucket.threads.run(self._remove, recording)
        log.info("recording removed", channel=self._channel, recording=name)
        return True

    def _remove(self, recording: BucketRecording) -> None:
        """Remove what is ours of a recording.

        Its indexes and its metadata come last: until then the removal can be tried again.
        """
        client, folder = self.bucket.client, f"{self._channel}/{recording.metadata.id}"
        sizes = recording.segment_sizes()
        last = [*(f"{one}/{index.INDEX}" for one in recording.metadata.renditions), METADATA]
        for page in client.objects(folder):
            names = {one.key.removeprefix(f"{folder}/"): one.size for one in page}
            for name, size in names.items():
                if name not in last and (sizes.get(name) == size or recording.has_own(name)):
                    client.delete(f"{folder}/{name}")
        for name in last:
            if recording.has_own(name):
                client.delete(f"{folder}/{name}")

    def _find(self, doubted: Collection[str]) -> dict[str, BucketRecording]:
        # Earlier versions noted nothing. They aren't waited for before the first list.
        for one in islice((one for one in self if one.is_unsure), HEADS_A_LOOK):
            one.look_for_head()
        found = {}
        for name in self._names():
            recording = self._known.get(name)
            if recording is None or name in doubted:
                recording = self._read(name, recording)
            if recording is not None:
                found[name] = recording
        return found

    def _names(self) -> Sequence[str]:
        """Return the names of the newest recordings."""
        names = filter(metadata_files.ID.fullmatch, self.bucket.client.folders(self._channel))
        return sorted(names)[-MAX_BUCKET_RECORDINGS:]

    def _read(self, name: str, known: BucketRecording | None) -> BucketRecording | None:
        """Read a recording's metadata, which are the last file to be copied, and the last to be removed."""
        folder = f"{self._channel}/{name}"
        try:
            version, data = self.bucket.client.read_first(f"{folder}/{METADATA}", self._limits.metadata_bytes)
        except NotFoundError:
            return None
        metadata = metadata_files.decode_metadata(data) if version.size == len(data) else None
        if metadata is None or metadata.id != name:
            log.warning("a folder in S3 isn't a recording", place=f"{self.bucket.address}/{folder}")
            return None
        if known is not None and known.metadata == metadata:
            return known
        lacking = "its sound changed its codec, or is damaged" if self._is_owned else _MISSING
        has_movie = version.note == WITH_MOVIE if version.note else None
        return BucketRecording(metadata, folder, self.bucket, lacking, has_movie)
