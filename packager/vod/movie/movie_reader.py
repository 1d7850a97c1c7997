"""Tracks and sample tables of a file of the library, whatever its container.

Every container is read into the form of an ordinary MP4's ``moov``: tracks with sample tables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from media.asf.movie import AsfLimits, is_asf, read_asf
from media.avi.movie import AviLimits, is_avi, read_avi
from media.errors import MalformedError, TooLargeError, UnsupportedError
from media.flv.movie import MAGIC as FLV_MAGIC
from media.flv.movie import FlvFileLimits, read_flv
from media.matroska.blocks import MatroskaLimits
from media.matroska.movie import MAGIC, read_matroska
from media.mp4.boxes import LARGEST_HEADER, header
from media.mp4.files.fragmented_movie import FragmentedLimits, FragmentedMovie
from media.mp4.files.moov_finder import FIRST_BOXES, MoovFinder
from media.mp4.movie.assembled_samples import AssembledSamples
from media.mp4.movie.movie import Movie, MovieLimits, parse_movie
from media.mp4.movie.sample_table import MAX_SAMPLES
from media.mp4.movie.sample_table_writer import Reserve, reserve_nothing
from media.ogg.movie import CHAINED, OggFileLimits, is_ogg, read_ogg
from media.ps.movie import is_program_stream, read_program_stream
from media.ts.elementary_streams import HEAD_BYTES, SEARCHED_BYTES, Layout, find_packets, layout_of
from media.ts.limits import TransportLimits
from media.ts.movie import read_transport_stream

Read = Callable[[int, int], bytes]
"""Reads (offset, length) of a file; fewer bytes only where it ends."""

WINDOW_BYTES = 4 << 10
"""How much is read at once where boxes are looked for: mostly a fragment's header and the next one's."""


LOST_CLUSTER = "the rest of its last cluster, which the file lacks"
LOST_END = "the rest of its media, which the file lacks"
DAMAGED_CLUSTER = "what lies between damage and the next cluster"


@dataclass(frozen=True, slots=True)
class ReadMovie:
    """The tracks of a film as they were read from its file.

    Attributes:
        movie: the tracks, in the form of a file without fragments.
        nbytes: memory that their tables take.
        cut_short: describes the media that are missing at the file's end, where the rest can be played; or
            None.
        assembled: the samples that are sent in another form than the file has them; or None.
    """

    movie: Movie
    nbytes: int
    cut_short: str | None = None
    assembled: AssembledSamples | None = None


@dataclass(frozen=True, slots=True)
class ContainerLimits:
    """The limits of files by container, and of how often their tables lead to the same bytes.

    Attributes:
        fragmented: fragmented MP4.
        transport: MPEG-TS and MPEG-PS.
        reference_times: how often the bytes of the file may be named.
        free_bytes: bytes that may be named besides, so that small films need no exact count.
        read_bytes: the bytes that a shorter read counts for.
        referenced_samples: most samples of a track whose places are looked up; one of more isn't indexed.
    """

    fragmented: FragmentedLimits = field(default_factory=FragmentedLimits)
    matroska: MatroskaLimits = field(default_factory=MatroskaLimits)
    transport: TransportLimits = field(default_factory=TransportLimits)
    avi: AviLimits = field(default_factory=AviLimits)
    asf: AsfLimits = field(default_factory=AsfLimits)
    flv: FlvFileLimits = field(default_factory=FlvFileLimits)
    ogg: OggFileLimits = field(default_factory=OggFileLimits)
    reference_times: int = 4
    free_bytes: int = 64 << 20
    read_bytes: int = 64
    referenced_samples: int = 2 * MAX_SAMPLES

    def most(self, size: int) -> int:
        """Return the most bytes that a file of a size may name."""
        return self.reference_times * size + self.free_bytes


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
        movie_limits: limits of a ``moov``, which is read as a whole.
        limits: limits of files without a whole ``moov``.
        reserve: called before memory is taken for tables that no file has.

    Raises:
        MalformedError: the file breaks its format.
        UnsupportedError: it is of another format.
        TooLargeError: there is more in it than the limits allow.
        OSError: it can't be read.
    """
    head = read(0, HEAD_BYTES)
    if (layout := layout_of(head)) is not None:
        return _read_packets(read, size, (layout, 0), limits, reserve)
    if is_program_stream(head):
        program = read_program_stream(read, size, limits.transport, reserve)
        return ReadMovie(program.movie, _table_bytes(program.movie), assembled=program.assembled)
    if head.startswith(MAGIC):
        matroska = read_matroska(read, size, limits.matroska, reserve)
        lacking = LOST_CLUSTER if matroska.cut_short else DAMAGED_CLUSTER if matroska.damaged else None
        return ReadMovie(matroska.movie, _table_bytes(matroska.movie), lacking, matroska.assembled)
    if head.startswith(FLV_MAGIC):
        flv = read_flv(read, size, limits.flv, reserve)
        return ReadMovie(flv.movie, _table_bytes(flv.movie), LOST_END if flv.cut_short else None)
    if is_ogg(head):
        ogg = read_ogg(read, size, limits.ogg, reserve)
        lacking = CHAINED if ogg.is_chained else LOST_END if ogg.cut_short else None
        return ReadMovie(ogg.movie, _table_bytes(ogg.movie), lacking, ogg.assembled)
    if is_asf(head):
        asf = read_asf(read, size, limits.asf, reserve)
        return ReadMovie(
            asf.movie, _table_bytes(asf.movie), LOST_END if asf.cut_short else None, asf.assembled
        )
    if is_avi(head):
        avi = read_avi(read, size, limits.avi, reserve)
        return ReadMovie(
            avi.movie, _table_bytes(avi.movie), LOST_END if avi.cut_short else None, avi.assembled
        )
    if (packets := _packets_within(read, head)) is not None:
        return _read_packets(read, size, packets, limits, reserve)
    return _read_boxes(read, size, movie_limits, limits, reserve)


def _read_boxes(
    read: Read, size: int, movie_limits: MovieLimits, limits: ContainerLimits, reserve: Reserve
) -> ReadMovie:
    """Read MP4 or QuickTime, with a whole ``moov`` or in fragments."""
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
            raise UnsupportedError("its media are encrypted")
    fragments = FragmentedMovie(movie, moov, size, limits.fragmented, reserve)
    return _joined(fragments, read, found.end, size, movie_limits.moov_bytes)


def _packets_within(read: Read, head: bytes) -> tuple[Layout, int] | None:
    """Find the first packet of MPEG-TS whose recording begins within one; None in a file of boxes."""
    return None if head[4:8] in FIRST_BOXES else find_packets(read(0, SEARCHED_BYTES))


def _read_packets(
    read: Read, size: int, packets: tuple[Layout, int], limits: ContainerLimits, reserve: Reserve
) -> ReadMovie:
    layout, first = packets
    found = read_transport_stream(read, size, layout, limits.transport, reserve, first)
    lacking = "; ".join(found.lacking) or None
    return ReadMovie(found.movie, _table_bytes(found.movie), lacking, found.assembled)


def is_packet_stream(read: Read) -> bool:
    """Return whether a file is MPEG-TS, MPEG-PS, Ogg or ASF, any beginning of which is such a file, too."""
    head = read(0, HEAD_BYTES)
    if layout_of(head) is not None or is_program_stream(head) or is_ogg(head) or is_asf(head):
        return True
    others = head.startswith((MAGIC, FLV_MAGIC)) or is_avi(head)
    return not others and _packets_within(read, head) is not None


def _joined(fragments: FragmentedMovie, read: Read, position: int, size: int, moof_bytes: int) -> ReadMovie:
    """Join the fragments behind the ``moov``, going from box to box past all media."""
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
