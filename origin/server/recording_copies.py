"""Makes what copies the recordings of channels to S3, as the configuration says."""

from __future__ import annotations

from collections.abc import Mapping

from origin.config.errors import CommandError
from origin.config.options import Config
from origin.server.limits import Limits
from packager.recordings.collection import Recordings
from packager.recordings.copies import RecordingCopies


def make_recording_copies(
    config: Config, recordings: Mapping[str, Recordings], limits: Limits
) -> list[RecordingCopies]:
    """Make what copies recordings, for each channel that has some and says where to.

    Raises:
        CommandError: what S3 needs isn't there.
    """
    copied = {one.name: one.recordings_copy for one in config.live if one.recordings_copy}
    return [_copies(name, copied[name], kept, limits) for name, kept in recordings.items() if name in copied]


def _copies(name: str, address: str, recordings: Recordings, limits: Limits) -> RecordingCopies:
    place = f"live: recordings_copy of {name!r}"
    try:
        # Here and not above: it is an extra, which most servers don't have.
        from packager.s3.client import S3Client
    except ModuleNotFoundError as error:
        if error.name != "obstore":
            raise
        raise CommandError(f"{place}: S3 needs an extra; install headwater[s3]") from None
    try:
        client = S3Client(address, limits.s3.requests)
    except ValueError as error:
        raise CommandError(f"{place}: {error}") from None
    return RecordingCopies(name, recordings, client, limits.live.event.recordings)
