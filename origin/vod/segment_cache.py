"""The cache of recently requested segments: heads of replies, places of the data, and copies of some.

The data of a segment lie scattered in its film, among those of other tracks: each sending gathers them anew.
A segment that several clients ask for is gathered once, into a file in memory, from which the kernel sends
as from any other file.
"""

from __future__ import annotations

import functools
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from origin.answers.memfd_cache import MemfdCopy
from origin.answers.pieces import LazyPieces, Piece
from origin.answers.representation_replies import RepresentationReplies
from origin.answers.vectored_read import READ_AT_ONCE, FileRuns
from origin.http.byte_ranges import SelectedRange
from origin.http.representation import RepresentationMetadata
from packager.library.storage_interface import LibraryFile
from packager.vod import FilmSegment, IFrameFile
from packager.vod.movie.versioned_addresses import PACKAGING

LONG_RUN = 16 * 1024
"""Mean length of a segment's runs in its file from which each is sent by a call of its own, uncopied."""

LISTED_FRAMES = 64
"""Most I-frames of a range whose pieces are listed before they are sent."""

LARGEST_COPY = 4 << 20
"""Largest segment that is copied: a copy is made within one step of the loop."""


@dataclass(frozen=True, slots=True)
class VodCacheLimits:
    """Limits of the caches of VOD segments and of other answers.

    Attributes:
        segments: most segments in the cache.
        bytes: most bytes of their headers and of where their data are.
        copies: how many of them have copies; each takes a descriptor.
        copied_bytes: most bytes of all copies.
        idle_seconds: how long nobody has asked for a copy that makes room for another: those that many ask
            for stay, however many others are asked for.
        i_frames_at_once: most I-frames of one answer, whose headers are written while others wait.
        valid_seconds: how long an answer is valid behind its making: the longest time for which a replaced
            file goes unnoticed.
        answers: most answers.
        answer_bytes: most bytes of all of them together, with the targets of their requests, before
            compression.
    """

    segments: int = 4096
    bytes: int = 16 << 20
    copies: int = 512
    copied_bytes: int = 64 << 20
    idle_seconds: float = 10.0
    i_frames_at_once: int = 64
    valid_seconds: float = 0.5
    answers: int = 1024
    answer_bytes: int = 8 << 20


class CachedSegment:
    """A segment that was asked for of late, and the replies with it.

    Args:
        segment: the segment, or all I-frames of a track, without the index that they were made by.
        from_film: the replies whose ranges are read from the film.
        from_copy: the replies whose ranges are read from a copy.

    Attributes:
        copy: a copy of the segment, if there is one.
    """

    __slots__ = ("copy", "from_copy", "from_film", "segment", "used", "was_asked")

    def __init__(
        self,
        segment: FilmSegment | IFrameFile,
        from_film: RepresentationReplies,
        from_copy: RepresentationReplies,
    ) -> None:
        self.segment = segment
        self.from_film = from_film
        self.from_copy = from_copy
        self.copy: MemfdCopy | None = None
        self.was_asked = False
        self.used = 0.0


class SegmentCache:
    """Segments by their film, track and name; what wasn't asked for for longest goes first."""

    def __init__(self, limits: VodCacheLimits) -> None:
        self._limits = limits
        self._segments: OrderedDict[Hashable, CachedSegment] = OrderedDict()
        self._bytes = 0
        self._copied: OrderedDict[Hashable, CachedSegment] = OrderedDict()
        self._copied_bytes = 0

    @property
    def copied_bytes(self) -> int:
        """Bytes of all copies."""
        return self._copied_bytes

    def find(self, key: Hashable) -> CachedSegment | None:
        """Find a segment."""
        found = self._segments.get(key)
        if found is not None:
            self._segments.move_to_end(key)
        return found

    def add(
        self,
        key: Hashable,
        segment: FilmSegment | IFrameFile,
        metadata: RepresentationMetadata,
        cache_control: str,
    ) -> CachedSegment:
        """Keep a segment, unless another version of its file could still get the same entity-tag.

        Args:
            key: its file, the version in its address, its track and name.
            segment: the segment, or all I-frames of the track.
            metadata: size, validators and media type of the segment.
            cache_control: for how long caches may keep it.
        """
        if isinstance(segment, IFrameFile):
            pieces_of = functools.partial(pieces_of_i_frames, segment)
        else:
            pieces_of = functools.partial(pieces_of_segment, segment)
        headers = ((b"cache-control", cache_control.encode("ascii")),)
        make = functools.partial(RepresentationReplies, metadata, headers, time.time())
        added = CachedSegment(segment, make(pieces_of), make())
        if metadata.etag is not None and metadata.etag.startswith("W/"):
            return added
        self._segments[key] = added
        self._bytes += segment.nbytes
        while self._bytes > self._limits.bytes or len(self._segments) > self._limits.segments:
            dropped, gone = self._segments.popitem(last=False)
            self._bytes -= gone.segment.nbytes
            self._drop_copy(dropped)
        return added

    def copy_of(self, key: Hashable, cached: CachedSegment, file: int) -> MemfdCopy | None:
        """Return the copy of a segment that is asked for again, if it is worth one.

        Args:
            key: its file, track and name.
        """
        now, segment = time.monotonic(), cached.segment
        if isinstance(segment, IFrameFile):
            return None
        if cached.copy is None:
            is_first, cached.was_asked = not cached.was_asked, True
            if is_first or not is_scattered(segment) or not self._make_room(segment.size, now):
                return None
            try:
                cached.copy = MemfdCopy(segment.size, _bytes_of(segment, file))
            except (OSError, EOFError):
                # No descriptor is left, or the file was cut short, which is noticed when it is sent.
                return None
            self._copied_bytes += segment.size
            self._copied[key] = cached
        self._copied.move_to_end(key)
        cached.used = now
        return cached.copy

    def copied(self, key: Hashable) -> CachedSegment | None:
        """Return a segment that has a copy, and keep that for longer.

        Args:
            key: its file, the version in its address, its track and name.
        """
        cached = self._copied.get(key)
        if cached is not None:
            self._segments.move_to_end(key)
            self._copied.move_to_end(key)
            cached.used = time.monotonic()
        return cached

    def _make_room(self, size: int, now: float) -> bool:
        """Remove copies that nobody asks for any more until there is room for another."""
        limits = self._limits
        if size > LARGEST_COPY:
            return False
        while len(self._copied) >= limits.copies or self._copied_bytes + size > limits.copied_bytes:
            oldest = next(iter(self._copied), None)
            if oldest is None or self._copied[oldest].used > now - limits.idle_seconds:
                return False
            self._drop_copy(oldest)
        return True

    def _drop_copy(self, key: Hashable) -> None:
        dropped = self._copied.pop(key, None)
        if dropped is not None:
            # Replies that send it hold it until their end.
            dropped.copy = None
            self._copied_bytes -= dropped.segment.size


def metadata_of(
    media: FilmSegment | IFrameFile, film: LibraryFile, name: str, now: float
) -> RepresentationMetadata:
    """Describe a segment, or all I-frames, for its replies.

    Args:
        name: part of the entity-tag that differs among all media of the film.
        now: seconds since the epoch.
    """
    # RFC 9110 §8.8.3: the film's tag, weak or strong, made this segment's own.
    etag = f'{film.validator(now)[:-1]}-{name}-{PACKAGING}"'
    return RepresentationMetadata(media.size, media_type_of(media.video), etag, film.modified)


def media_type_of(video: bool) -> str:
    """Return the media type of what holds samples of one kind."""
    return "video/mp4" if video else "audio/mp4"


def is_scattered(segment: FilmSegment) -> bool:
    """Return whether the data of a segment lie in short runs."""
    return len(segment.ends) > 1 and segment.size < LONG_RUN * len(segment.ends)


def pieces_of_segment(segment: FilmSegment, part: SelectedRange) -> Sequence[Piece]:
    """Return the places of a segment's range: the header in memory, the samples in the file."""
    pieces: list[Piece] = []
    if part.first < len(segment.header):
        pieces.append(segment.header[part.first : part.last + 1])
    start, stop = max(part.first - len(segment.header), 0), part.last + 1 - len(segment.header)
    if stop <= start:
        return pieces
    if is_scattered(segment):
        pieces.append(FileRuns(segment.offsets, segment.ends, start, stop))
    else:
        pieces += [SelectedRange(at, at + size - 1) for at, size in segment.pieces(start, stop)]
    return pieces


def pieces_of_i_frames(frames: IFrameFile, part: SelectedRange) -> Sequence[Piece]:
    """Return the pieces of a range of a track's I-frames; of a long one, they are made while it is sent."""
    pieces = (
        piece if isinstance(piece, bytes) else SelectedRange(piece[0], sum(piece) - 1)
        for piece in frames.pieces(part.first, part.length)
    )
    if frames.count(part.first, part.length) <= LISTED_FRAMES:
        return list(pieces)
    return [LazyPieces(pieces, part.length)]


def _bytes_of(segment: FilmSegment, file: int) -> Iterator[bytes | memoryview]:
    """Yield all bytes of a segment in pieces, each valid until the next one; fewer where its file ends."""
    yield segment.header
    runs = FileRuns(segment.offsets, segment.ends, 0, segment.size - len(segment.header))
    while runs and (data := runs.read(file, READ_AT_ONCE)):
        yield data
        runs.skip(len(data))
