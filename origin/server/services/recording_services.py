"""Makes the services that copy recordings of channels to S3, and those that serve them from there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from origin.config.options import Config
from origin.server.services.limits import Limits
from origin.server.services.s3_config import cache_folder, cache_limits, making
from packager.recordings.bucket_upload import RecordingCopies
from packager.recordings.disk_recordings import Recordings

if TYPE_CHECKING:
    from packager.recordings.bucket_recordings import BucketRecordings


def make_recording_copies(
    config: Config, recordings: Mapping[str, Recordings], limits: Limits
) -> list[RecordingCopies]:
    """Make the copiers of recordings, for each channel that records and has a place for copies.

    Raises:
        CommandError: the extra for S3 isn't installed, or the address isn't possible.
    """
    copied = recording_places(config)
    return [_copies(name, copied[name], kept, limits) for name, kept in recordings.items() if name in copied]


def recording_places(config: Config) -> Mapping[str, str]:
    """Return the places in S3 of recordings, by channel."""
    return {one.name: one.recordings_copy for one in config.live if one.recordings_copy}


def make_bucket_recordings(
    config: Config, places: Mapping[str, str], limits: Limits
) -> Mapping[str, BucketRecordings]:
    """Make the recordings in S3, by channel; those in one place share its client and cache.

    Args:
        places: the address of the recordings, by channel.

    Raises:
        CommandError: the extra for S3 isn't installed, or the address isn't possible.
    """
    if not places:
        return {}
    with making("live: recordings_copy"):
        from packager.recordings.bucket_recordings import BucketRecordings
        from packager.s3.immutable_objects import BucketFiles

        folder, s3 = cache_folder(config), cache_limits(config, limits.s3)
        buckets = {address: BucketFiles(address, folder, s3) for address in {*places.values()}}
        recordings = limits.live.event.recordings
        return {name: BucketRecordings(name, buckets[place], recordings) for name, place in places.items()}


def _copies(name: str, address: str, recordings: Recordings, limits: Limits) -> RecordingCopies:
    with making(f"live: recordings_copy of {name!r}"):
        # Here and not above: it is an extra, which most servers don't have.
        from packager.s3.client import S3Client

        client = S3Client(address, limits.s3.requests)
    return RecordingCopies(name, recordings, client, limits.live.event.recordings)
