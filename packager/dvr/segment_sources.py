"""Puts the segments of a DVR, on disk or in S3, into folders elsewhere. Blocks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from packager.blocking_calls import in_parallel
from packager.dvr.past_blocks import PastBlocks
from packager.past.past_segments import PastSegments
from packager.safe_files import DataFolder, OpenFolder
from packager.window.model import LiveSegment
from packager.window.rendition import extension_of, segment_uri

READS_AT_ONCE = 8
"""Most segments that are fetched from S3 at once, and are then in memory."""

Put = Callable[[LiveSegment, OpenFolder], None]
"""Puts a segment's file into a folder, unless the DVR has it no more."""


class SegmentSource(Protocol):
    """A DVR whose segments can be put elsewhere.

    Attributes:
        at_once: most segments that are fetched at once.
    """

    at_once: int

    def fetched(self, rendition: str, segments: Sequence[LiveSegment]) -> AbstractContextManager[Put]:
        """Fetch finished segments of a rendition, and put them into folders while the context is open.

        Raises:
            OSError: they can't be read now.
        """

    def past(self, rendition: str) -> PastSegments | None:
        """Return what finds segments that have left the playlist; None where they leave the DVR, too."""


class DiskSegments:
    """The segments of a DVR on disk, which are linked; see ``SegmentSource``.

    Args:
        has_past: whether segments stay that have left the playlist.
    """

    at_once = 5000

    def __init__(self, dvr: DataFolder, *, has_past: bool = False) -> None:
        self._dvr = dvr
        self._has_past = has_past
        self._past: dict[str, PastBlocks] = {}

    def past(self, rendition: str) -> PastBlocks | None:
        """Return the rendition's blocks, which are linked from like the others."""
        if self._has_past and rendition not in self._past:
            self._past[rendition] = PastBlocks(self._dvr / rendition)
        return self._past.get(rendition)

    @contextlib.contextmanager
    def fetched(self, rendition: str, segments: Sequence[LiveSegment]) -> Iterator[Put]:
        """Open the rendition's folder."""
        del segments
        extension, past = extension_of(rendition), self.past(rendition)
        with (self._dvr / rendition).open() as source:

            def put(segment: LiveSegment, target: OpenFolder) -> None:
                name = segment_uri(segment.number, extension)
                with contextlib.suppress(FileNotFoundError):
                    source.link(name, target, name)
                    return
                if past is not None:
                    past.link(segment.number, target)

            yield put


class FetchedSegments:
    """The segments of a DVR elsewhere, which are copied to the disk; see ``SegmentSource``.

    Args:
        read: returns the bytes of a stored segment of a rendition; None where they are gone; blocks.
        past: returns what finds segments that have left a rendition's playlist; None where they are gone.
    """

    at_once = READS_AT_ONCE

    def __init__(
        self,
        read: Callable[[str, LiveSegment], bytes | None],
        past: Callable[[str], PastSegments | None] = lambda _: None,
    ) -> None:
        self._read = read
        self.past = past

    @contextlib.contextmanager
    def fetched(self, rendition: str, segments: Sequence[LiveSegment]) -> Iterator[Put]:
        """Read segments, those from memory that are still there."""
        extension = extension_of(rendition)

        def read(one: LiveSegment) -> bytes | None:
            return bytes(one.data) if one.data else self._read(rendition, one)

        wanted = [one for one in segments if not one.gap and one.stored is not None]
        contents = in_parallel(read, wanted, READS_AT_ONCE)
        found = {one.number: data for one, data in zip(wanted, contents, strict=True)}

        def put(segment: LiveSegment, target: OpenFolder) -> None:
            if (data := found.get(segment.number)) is not None:
                target.write_whole(segment_uri(segment.number, extension), data)

        yield put
