"""Headers of responses with segments and I-frames of films, for the fast path and the application."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from origin.responses.representation import ThreadReader
from packager.vod import OpenIFrames, OpenSegment
from packager.vod.movie.versioned_addresses import PACKAGING

I_FRAMES = "iframes"
"""The part of an entity-tag that stands for a track's I-frames in place of a segment's name."""


@dataclass(frozen=True, slots=True)
class SegmentMetadata:
    """The header fields of responses with a segment; see `RepresentationMetadata`."""

    size: int
    etag: str | None
    last_modified: float | None
    media_type: str


def metadata_of(opened: OpenSegment | OpenIFrames, name: str, video: bool, now: float) -> SegmentMetadata:
    """Describe a segment, or all I-frames.

    Args:
        opened: the segment or the I-frames.
        name: what tells them from the file's other segments.
        now: seconds since the epoch.
    """
    # RFC 9110 §8.8.3: the file's tag, weak or strong, made this segment's own.
    validator = opened.file.validator(now)
    etag = f'{validator[:-1]}-{name}-{PACKAGING}"'
    return SegmentMetadata(opened.size, etag, opened.file.modified, media_type_of(video))


class SegmentRepresentation(ThreadReader):
    """A segment, or all I-frames, read from their file as they are sent.

    Args:
        opened: the segment or the I-frames.
        metadata: what is said of them.
        release: called at the end, to close their file.
    """

    def __init__(
        self, opened: OpenSegment | OpenIFrames, metadata: SegmentMetadata, release: Callable[[], None]
    ) -> None:
        super().__init__(opened.read, release, opened.file.threads)
        self.size = metadata.size
        self.etag = metadata.etag
        self.last_modified = metadata.last_modified
        self.media_type = metadata.media_type

    def descriptor(self) -> int | None:
        """None: no file holds exactly these bytes."""
        return None


def media_type_of(video: bool) -> str:
    """Return the media type of what holds samples of one kind."""
    return "video/mp4" if video else "audio/mp4"
