"""An Ogg file as a movie: its tracks with the tables that a ``moov`` would have.

Nothing says where packets are, so all pages are read. A granule position counts frames or samples up to the
end of the last packet on its page; how long the others last is in their first bytes.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field, replace

import numpy as np

from media.errors import MalformedError, MediaError, TooLargeError, UnsupportedError
from media.matroska.located_tracks import LocatedTrack, located_movie
from media.matroska.timing import Times
from media.matroska.tracks import VIDEO, MatroskaTrack
from media.mp4.movie.assembled_samples import AssembledSamples, Read
from media.mp4.movie.box_arrays import Int64
from media.mp4.movie.movie import Movie
from media.mp4.movie.pieced_samples import PiecedSamples
from media.mp4.movie.sample_table_writer import FrameRoom, Reserve, reserve_nothing
from media.ogg.chapters import comment_chapters
from media.ogg.codecs import MAPPINGS, OggCodec, OggMapping
from media.ogg.headers import HEADER_BYTES, MAX_HEADER_PACKETS, OTHER_CODECS, is_skeleton, read_comments
from media.ogg.page import CAPTURE, FIRST, Page, PageReader

BLOCK_BYTES = 1 << 20
"""Bytes that are read together."""

HEAD_BYTES = 16
"""First bytes of a packet, by which its duration is known."""

FIRST_BYTES = 4 << 10
"""Most bytes of a first packet that are parsed."""

DAMAGED_BYTES = 16 << 20
"""Most bytes without a whole page."""

LONGEST = 1 << 60
"""Bound of times in ticks."""

COMMENT_HEADERS = (b"\x81theora", b"\x03vorbis", b"OpusTags", b"OVP80\x02 ")
"""First bytes of headers with comments; in FLAC they are a metadata block."""

CHAINED = "the streams of a chain that follow its first ones"


@dataclass(frozen=True, slots=True)
class OggFileLimits:
    """Limits of an Ogg file.

    Attributes:
        file_bytes: largest file, for all of its pages are read for its index.
        streams: most streams side by side.
        pieces: most packets, and parts of packets on pages.
        table_bytes: memory for the tables of samples of all tracks.
    """

    file_bytes: int = 4 << 30
    streams: int = 32
    pieces: int = 3 << 20
    table_bytes: int = 48 << 20


@dataclass(frozen=True, slots=True)
class OggMovie:
    """The movie of an Ogg file.

    Attributes:
        assembled: samples that lie on several pages; None if there are none.
        cut_short: whether the file ends within a page.
        is_chained: whether other streams follow the first ones.
    """

    movie: Movie
    assembled: AssembledSamples | None
    cut_short: bool
    is_chained: bool


def is_ogg(head: bytes) -> bool:
    """Return whether a file's first bytes are those of an Ogg page."""
    return head.startswith(CAPTURE + b"\0")


@dataclass(slots=True)
class _PacketStream:
    """A logical stream: its headers, and the packets behind them.

    Attributes:
        obstacle: why the packets aren't read; empty if they are.
        header: the beginning of a header that goes on on the next page; None if none does.
        sequence: number of the next page.
        places: offset of each page's body in the file.
        lengths: bytes of each page's body.
        begins: offset of each packet in all bodies together.
        ends: how many packets end up to each page with a position, and the position.
        size: bytes of all bodies.
        is_open: whether the last packet goes on on the next page.
    """

    number: int
    mapping: OggMapping
    sequence: int
    obstacle: str = ""
    codec: OggCodec | None = None
    headers: list[bytes] = field(default_factory=list)
    header: bytes | None = None
    places: array[int] = field(default_factory=lambda: array("q"))
    lengths: array[int] = field(default_factory=lambda: array("I"))
    begins: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    durations: array[int] = field(default_factory=lambda: array("q"))
    keys: array[int] = field(default_factory=lambda: array("B"))
    ends: list[tuple[int, int]] = field(default_factory=list)
    size: int = 0
    is_open: bool = False

    def push(self, page: Page, place: int) -> int:
        """Read a page; return how many packets and parts of packets it has.

        Args:
            place: offset of the page's body in the file.
        """
        goes_on = not page.is_fresh
        if page.sequence != self.sequence or goes_on != (self.is_open or self.header is not None):
            # A page is missing: what was begun has no end, and the end of another packet no beginning.
            self.drop_open()
        self.sequence = (page.sequence + 1) & 0xFFFF_FFFF
        count, begin, before = 0, self.size, len(self.sizes) - self.is_open
        for piece, is_end in page.pieces():
            count += 1
            if not (self.codec is None and self._is_header(piece, goes_on=goes_on, is_end=is_end)):
                if self.obstacle:
                    return count
                self._packet(piece, begin, goes_on=goes_on, is_end=is_end)
            goes_on = False
            begin += len(piece)
        if self.codec is not None and page.body:
            self.places.append(place)
            self.lengths.append(len(page.body))
            self.size += len(page.body)
            whole = len(self.sizes) - self.is_open
            if page.granule >= 0 and whole > before:
                self.ends.append((whole, self.codec.position(page.granule)))
        return count

    def _is_header(self, piece: bytes, *, goes_on: bool, is_end: bool) -> bool:
        """Collect a piece of a header; return False for the first packet behind the headers."""
        if not goes_on and not (piece and self.mapping.is_header(len(self.headers), piece[0])):
            try:
                self.codec = self.mapping.read(self.headers)
            except MediaError as error:
                self.obstacle = str(error)
            return False
        if goes_on and self.header is None:
            return True
        self.header = (self.header or b"") + piece
        if is_end:
            self.headers.append(self.header)
            self.header = None
        return True

    def _packet(self, piece: bytes, begin: int, *, goes_on: bool, is_end: bool) -> None:
        codec = self.codec
        if codec is None or goes_on > self.is_open:
            return
        if not goes_on:
            head = piece[:HEAD_BYTES]
            self.begins.append(begin)
            self.sizes.append(0)
            self.durations.append(_duration(codec, head))
            self.keys.append(bool(head) and codec.is_key(head))
            skipped = codec.skipped(head) if head else 0
            self.begins[-1] += skipped
            self.sizes[-1] -= skipped
        self.sizes[-1] += len(piece)
        self.is_open = not is_end

    def drop_open(self) -> None:
        """Drop a packet, or a header, that has no end."""
        self.header = None
        if self.is_open:
            self.is_open = False
            for rows in (self.begins, self.sizes, self.durations, self.keys):
                rows.pop()


def _duration(codec: OggCodec, head: bytes) -> int:
    """Return the duration of a packet, which is 0 if it is damaged. An empty one repeats the frame before."""
    try:
        return codec.duration(head) if head else 1
    except MediaError:
        return 0


def read_ogg(read: Read, size: int, limits: OggFileLimits, reserve: Reserve = reserve_nothing) -> OggMovie:
    """Read an Ogg file.

    Args:
        read: reads from the file; it may block.
        size: length of the file in bytes.
        reserve: called before memory is allocated for samples.

    Raises:
        MalformedError: the file violates its format.
        TooLargeError: a limit is exceeded.
        OSError: the file can't be read.
    """
    if size > limits.file_bytes:
        raise TooLargeError(f"Ogg of {size} bytes: more than {limits.file_bytes}")
    reader = _PagesReader(read, size, limits, FrameRoom(reserve))
    reader.run()
    tracks = [reader.described(stream) for stream in reader.streams.values()]
    tracks.sort(key=lambda one: one.facts.kind)
    movie = located_movie(tracks, limits.table_bytes)
    listed = (comment_chapters(stream.headers) for stream in reader.streams.values())
    chapters = next((one for one in listed if one), ())
    movie = replace(movie, unread=tuple(reader.unread), chapters=chapters)
    return OggMovie(movie, reader.assembled, reader.cut_short, reader.is_chained)


class _PagesReader:
    """Reads the pages of a file.

    Attributes:
        streams: the streams with pictures or sound, by their serial numbers.
        unread: a line for each other stream.
    """

    def __init__(self, read: Read, size: int, limits: OggFileLimits, room: FrameRoom) -> None:
        self._read, self._size, self._limits, self._room = read, size, limits, room
        self.streams: dict[int, _PacketStream] = {}
        self.unread: list[str] = []
        self.cut_short = self.is_chained = False
        self._count = self._header_bytes = 0
        self._has_media = False
        self._begins: list[int] = []
        self._assembled: list[PiecedSamples] = []

    @property
    def assembled(self) -> AssembledSamples | None:
        """The samples that lie in pieces; None if there are none."""
        return AssembledSamples(self._begins, self._assembled) if self._assembled else None

    def run(self) -> None:
        """Read the pages of the first streams of a chain."""
        pages = PageReader(DAMAGED_BYTES, DAMAGED_BYTES)
        for position in range(0, self._size, BLOCK_BYTES):
            pages.receive_data(self._read(position, min(BLOCK_BYTES, self._size - position)))
            for page in pages.pages():
                if page.flags & FIRST and self._has_media:
                    self.is_chained = True
                    return
                self._push(page, pages.position - len(page.body))
            self._room.reserve(self._count)
            if self._count > self._limits.pieces:
                raise TooLargeError(f"more than {self._limits.pieces} packets of Ogg")
        self.cut_short = pages.position < self._size
        if not self.streams:
            raise UnsupportedError("; ".join(self.unread) or "no stream of Ogg")

    def _push(self, page: Page, place: int) -> None:
        if page.flags & FIRST:
            self._begin(page)
        stream = self.streams.get(page.serial)
        if stream is None or stream.obstacle:
            return
        self._count += stream.push(page, place)
        self._has_media = self._has_media or stream.codec is not None
        if stream.codec is None:
            self._header_bytes += page.size
            if self._header_bytes > HEADER_BYTES or len(stream.headers) > MAX_HEADER_PACKETS:
                raise TooLargeError(
                    f"headers of more than {HEADER_BYTES} bytes or {MAX_HEADER_PACKETS} packets"
                )

    def _begin(self, page: Page) -> None:
        number = len(self.streams) + len(self.unread) + 1
        if number > self._limits.streams:
            raise TooLargeError(f"more than {self._limits.streams} streams")
        if is_skeleton(page.body) or page.serial in self.streams:
            return
        mapping = next((one for one in MAPPINGS if page.body.startswith(one.magic)), None)
        if mapping is None:
            named = (name for magic, name in OTHER_CODECS.items() if page.body.startswith(magic))
            self.unread.append(f"stream {number}: {next(named, 'an unknown codec')} in Ogg isn't read")
            return
        self.streams[page.serial] = _PacketStream(number, mapping, page.sequence)

    def described(self, stream: _PacketStream) -> LocatedTrack:
        """Describe a stream."""
        stream.drop_open()
        kind = stream.mapping.kind
        sizes, keys = np.asarray(stream.sizes, np.int64), np.asarray(stream.keys) != 0
        used = np.flatnonzero(sizes > 0)
        facts = MatroskaTrack(stream.number, kind, "")
        try:
            if stream.codec is None or not len(used):
                raise UnsupportedError(stream.obstacle or "it has no samples")
            facts = replace(stream.codec.track, number=stream.number)
            times = _times(stream, stream.codec, used)
        except TooLargeError:
            raise
        except MediaError as error:
            return LocatedTrack(facts, sizes, sizes, keys, None, obstacle=str(error))
        title, language = _described_by(stream.headers)
        sizes, keys = sizes[used], keys[used]
        if not keys.any():
            keys[0] = True
        lengths = np.asarray(stream.lengths, np.int64)
        begins = np.asarray(stream.begins, np.int64)[used]
        pieces = PiecedSamples(np.asarray(stream.places, np.int64), lengths, begins, sizes)
        offsets = pieces.file_offsets()
        if offsets is None:
            begin = self._begins[-1] + self._assembled[-1].size if self._begins else self._size
            self._begins.append(begin)
            self._assembled.append(pieces)
            offsets = np.cumsum(sizes) - sizes + begin
        first = pieces.read(self._read, 0, min(int(sizes[0]), FIRST_BYTES))
        facts = replace(facts, name=title)
        return LocatedTrack(facts, offsets, sizes, keys, times, first, language=language)


def _times(stream: _PacketStream, codec: OggCodec, used: Int64) -> Times:
    """Return the times of the packets that aren't empty."""
    begins, end = _positions(np.asarray(stream.durations, np.int64), stream.ends)
    begins, rate = begins[used] - codec.begin, codec.rate
    timescale, each = rate.numerator, rate.denominator
    if codec.track.kind == VIDEO:
        scale = -(-1000 // timescale)
        timescale, each = timescale * scale, each * scale
    end = max(end - codec.begin, int(begins[-1]))
    if timescale >= 1 << 32 or max(end, -int(begins[0])) * each >= LONGEST:
        raise MalformedError("positions that are too far from the beginning")
    ticks = np.append(begins, end) * each
    zero = int(ticks[0])
    return Times(timescale, ticks - zero, np.zeros(len(begins), np.int64), zero)


def _positions(durations: Int64, ends: list[tuple[int, int]]) -> tuple[Int64, int]:
    """Return the position at which each packet begins, and the end of the last.

    A page's position is that of its last packet's end, from which the others are counted backward. The first
    page of a stream that was cut out of another may so begin later than at 0.
    """
    behind = np.cumsum(durations)
    begins, start, shift = behind - durations, 0, 0
    for number, (count, position) in enumerate(ends):
        off = position - int(behind[count - 1])
        # RFC 7845 §4.5, Vorbis I §A.2: the last page may say that less is heard than its packets have.
        is_trimmed = number == len(ends) - 1 and off < shift
        shift = shift if is_trimmed else off
        begins[start:count] += shift
        start = count
    begins[start:] += shift
    end = int(behind[-1]) + shift
    if ends and ends[-1][0] == len(durations):
        end = ends[-1][1]
    return np.maximum.accumulate(begins), end


def _described_by(headers: list[bytes]) -> tuple[str, str]:
    """Return a stream's title and its language by the comments; "und" where they name none."""
    for packet in headers[1:]:
        at = next((len(magic) for magic in COMMENT_HEADERS if packet.startswith(magic)), 0)
        if not at and headers[0].startswith(b"\x7fFLAC") and packet[0] & 0x7F == 4:
            at = 4
        if at:
            comments, tags = read_comments(packet[at:])
            named = (one.partition(b"=") for one in comments)
            language = next((value for name, _, value in named if name.upper() == b"LANGUAGE"), b"")
            is_code = len(language) == 3 and language.isalpha()
            return tags.title, language.decode("latin-1").lower() if is_code else "und"
    return "", "und"
