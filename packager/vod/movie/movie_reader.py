"""Tracks and sample tables of a file of the library, whatever its container.

Whatever it was read from, what comes of it is what the ``moov`` of an ordinary MP4 says: tracks with tables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from media.errors import MalformedError, TooLargeError, UnsupportedError
from media.matroska.blocks import MatroskaLimits
from media.matroska.movie import MAGIC, read_matroska
from media.mp4.assembled_samples import AssembledSamples
from media.mp4.boxes import LARGEST_HEADER, header
from media.mp4.fragmented_movie import FragmentedLimits, FragmentedMovie
from media.mp4.moov_finder import MoovFinder
from media.mp4.movie import Movie, MovieLimits, parse_movie
from media.mp4.sample_table_writer import Reserve, reserve_nothing
from media.ts.elementary_streams import HEAD_BYTES, layout_of
from media.ts.limits import TransportLimits
from media.ts.movie import read_transport_stream

Read = Callable[[int, int], bytes]
"""Reads (offset, length) of a file; fewer bytes only where it ends."""

WINDOW_BYTES = 4 << 10
"""How much is read at once where boxes are looked for: mostly a fragment's header and the next one's."""


LOST_CLUSTER = "the rest of its last cluster, which the file lacks"
DAMAGED_CLUSTER = "what lies between damage and the next cluster"


@dataclass(frozen=True, slots=True)
class ReadMovie:
    """The tracks of a film as they were read from its file.

    Attributes:
        movie: the tracks, which are those of a file without fragments.
        nbytes: memory that their tables keep.
        cut_short: what is missing at the file's end, where what is before it can be played; or None.
        assembled: the samples that the file doesn't hold as they are sent; or None.
    """

    movie: Movie
    nbytes: int
    cut_short: str | None = None
    assembled: AssembledSamples | None = None


@dataclass(frozen=True, slots=True)
class ContainerLimits:
    """The limits of files that have no whole ``moov``.

    Attributes:
        fragmented: fragmented MP4.
        transport: MPEG-TS.
    """

    fragmented: FragmentedLimits = field(default_factory=FragmentedLimits)
    matroska: MatroskaLimits = field(default_factory=MatroskaLimits)
    transport: TransportLimits = field(default_factory=TransportLimits)


def read_movie(
    read: Read,
    size: int,
    movie_limits: MovieLimits,
    limits: ContainerLimits,
    reserve: Reserve = reserve_nothing,
) -> ReadMovie:
    """Read what a file says of its tracks.

    Args:
        read: reads from the file; it may block.
        size: the file's length in bytes.
        movie_limits: what a ``moov`` may have, which is read as a whole.
        limits: what a file without a whole one may be made of.
        reserve: called before memory is taken for tables that no file has.

    Raises:
        MalformedError: the file breaks its format.
        UnsupportedError: it is of another format.
        TooLargeError: there is more in it than the limits allow.
        OSError: it can't be read.
    """
    head = read(0, HEAD_BYTES)
    if (layout := layout_of(head)) is not None:
        transport = read_transport_stream(read, size, layout, limits.transport, reserve)
        return ReadMovie(transport.movie, _table_bytes(transport.movie), assembled=transport.assembled)
    if head.startswith(MAGIC):
        matroska = read_matroska(read, size, limits.matroska, reserve)
        lacking = LOST_CLUSTER if matroska.cut_short else DAMAGED_CLUSTER if matroska.damaged else None
        return ReadMovie(matroska.movie, _table_bytes(matroska.movie), lacking, matroska.assembled)
    finder = MoovFinder(size, movie_limits.moov_bytes)
    found = None
    while found is None:
        found = finder.push(read(finder.position, LARGEST_HEADER))
    length = found.end - found.payload
    moov = read(found.payload, length)
    if len(moov) < length:
        raise MalformedError("the file ends within its moov")
    movie = parse_movie(moov, movie_limits)
    if not movie.fragmented:
        return ReadMovie(movie, max(len(moov), _table_bytes(movie)))
    for track in movie.tracks:  # an encrypted file is named so, whatever else is in it
        if any(entry[4:8] in (b"encv", b"enca") for entry in track.sample_entries):
            raise UnsupportedError("encrypted media")
    fragments = FragmentedMovie(movie, moov, size, limits.fragmented, reserve)
    return _joined(fragments, read, found.end, size, movie_limits.moov_bytes)


def is_transport_stream(read: Read) -> bool:
    """Say whether a file is MPEG-TS, of which any part from the beginning on is such a file, too."""
    return layout_of(read(0, HEAD_BYTES)) is not None


def _joined(fragments: FragmentedMovie, read: Read, position: int, size: int, moof_bytes: int) -> ReadMovie:
    """Go from box to box behind the ``moov``, past all media, and give the fragments to who joins them."""
    window, start = b"", position
    cut_short = False
    while position + 8 <= size:
        fragments.count_box()
        if position + LARGEST_HEADER > start + len(window):
            window, start = read(position, WINDOW_BYTES), position
        head = window[position - start :][:LARGEST_HEADER]
        if len(head) < min(LARGEST_HEADER, size - position):
            raise MalformedError(f"the file ends at {position + len(head)}, before {size}")
        kind, length = head[4:8], _length(head, size - position)
        if kind == b"moof" and position + length > size:
            cut_short = True
        elif kind == b"moof":
            if length > moof_bytes:
                raise TooLargeError(f"moof of {length} bytes: more than {moof_bytes}")
            data = window[position - start :][:length]
            data = data if len(data) == length else read(position, length)
            fragments.push(data, position)
        position += length
    movie = fragments.movie()
    cut_short = cut_short or fragments.cut_short
    return ReadMovie(
        movie, _table_bytes(movie), "its last fragment, which isn't whole" if cut_short else None
    )


def _table_bytes(movie: Movie) -> int:
    return sum(len(table) for track in movie.tracks for table in track.tables.values())


def _length(head: bytes, left: int) -> int:
    """Return a box's length by its header, also of one that reaches beyond the file's end."""
    size = int.from_bytes(head[:4], "big")
    if size == 1:  # §4.2: the actual size is the 64-bit field after the type
        size = int.from_bytes(head[8:16], "big")
    if size > left:
        return size
    return header(head, 0, left).size
