"""Parses ``moov`` boxes: a file's tracks (ISO/IEC 14496-12 §8, QuickTime File Format).

Sample tables are only located here; :mod:`media.mp4.movie.sample_table` expands those of the selected tracks.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from media.errors import MalformedError, TooLargeError, UnsupportedError
from media.mp4.boxes import Box, header, walk
from media.mp4.movie.track_box import IDENTITY
from media.subtitles.pgs import DisplaySets
from media.subtitles.text_blocks import TextBlocks

TABLES = frozenset((b"stts", b"ctts", b"stsc", b"stsz", b"stz2", b"stco", b"co64", b"stss"))
"""The boxes of a sample table that are kept for :mod:`media.mp4.movie.sample_table`."""

DASH_ROLE = b"urn:mpeg:dash:role:2011"
"""The scheme of ``kind`` boxes (§8.10.4) with DASH roles (ISO/IEC 23009-1 §5.8.5.5)."""

SAMPLE_ENTRY_BYTES = 1 << 18
"""Largest ``stsd``: a sample entry has some hundred bytes, and is copied into the init segment."""

CHAPTER_BYTES = 1 << 17
"""Most bytes of a list of chapters that are kept: 255 chapters with 265 bytes each."""

NAME_BYTES = 256
"""Longest name of a track that is kept, for menus."""

_SOFTWARE = re.compile(r"(?i)handler|media|^(mono|stereo|sound|video)$|produced|gpac|l-smash|bento4")
"""Handler names that are names of software, not of a track."""

_QUICKTIME_LANGUAGES = (
    "eng fra deu ita nld swe spa dan por nor heb jpn ara fin ell isl mlt tur hrv zho urd hin tha kor lit pol"
    " hun est lav sme fao fas rus zho nld gle sqi ron ces slk slv yid srp mkd bul ukr bel"
)
"""QuickTime's languages by their codes (QuickTime File Format, "Language code values")."""

_ROTATIONS = {(1, 0): 0, (0, 1): 90, (-1, 0): 180, (0, -1): 270}
_LONGEST = 1 << 62
"""Bound of 64-bit times, so that sums of two stay inside 64 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MovieLimits:
    """Limits of a ``moov``.

    Attributes:
        moov_bytes: largest ``moov``; ten hours of film have 40 MB.
        boxes: most boxes on all levels; a track has some thirty.
        edits: most entries of one edit list; more than a few are a project file, not a film.
    """

    moov_bytes: int = 128 << 20
    boxes: int = 8192
    tracks: int = 32
    edits: int = 64


DEFAULT_LIMITS = MovieLimits()


@dataclass(frozen=True, slots=True)
class Edit:
    """An entry of an edit list (§8.6.6).

    Attributes:
        duration: in ticks of the movie's timescale; 0 means to the end of the media.
        media_time: start in the media, in ticks of the media's timescale; -1 is an empty edit.
    """

    duration: int
    media_time: int
    rate: Fraction = Fraction(1)


def foreign_format(seconds: Fraction) -> str:
    """Describe what a track lacks because all its samples have one format; empty if it lacks nothing."""
    return f"{float(seconds):.1f} s of another format" if seconds else ""


@dataclass(frozen=True, slots=True)
class Track:
    """A track, as its ``trak`` box describes it.

    Attributes:
        track_id: not 0, unique in the movie.
        handler: ``b"vide"``, ``b"soun"`` or another handler type.
        enabled: whether the track is used in presentation (§8.3.2).
        timescale: ticks per second of its media.
        duration: of the media in ticks, as declared; the sample table is more reliable.
        language: ISO 639-2/T code; ``und`` when not given.
        extended_language: BCP 47 tag of ``elng``, more specific than the code; empty without it.
        name: such as "Director commentary"; may be empty.
        roles: DASH roles such as ``caption`` (§8.10.4, ``kind``).
        chapter_track: ID of the track that names the chapters of this one (§8.3.3, ``chap``); 0 without one.
        obstacle: reason why the samples can't be packaged, set for other containers; empty if they can.
        lacking: a line about the samples that are left out; empty if none are.
        text: cues of a text track of Matroska, which has no sample tables; or None.
        display_sets: subtitles of Matroska and MPEG-TS that are pictures; or None.
        matrix: the 36 bytes of the track header's matrix.
        display_width: track header's width in pixels, sample aspect ratio applied.
        sample_entries: the whole boxes inside ``stsd``.
        edits: the edit list, empty when there is none.
        tables: payloads of the sample table's boxes by type, version and flags included.
        self_contained: whether the samples are in this same file (§8.7.2).
    """

    track_id: int
    handler: bytes
    enabled: bool
    timescale: int
    duration: int
    language: str
    matrix: bytes
    display_width: Fraction
    display_height: Fraction
    sample_entries: tuple[bytes, ...]
    edits: tuple[Edit, ...]
    tables: Mapping[bytes, memoryview]
    self_contained: bool
    extended_language: str = ""
    name: str = ""
    roles: tuple[str, ...] = ()
    chapter_track: int = 0
    obstacle: str = ""
    lacking: str = ""
    text: TextBlocks | None = None
    display_sets: DisplaySets | None = None

    @property
    def rotation(self) -> int:
        """Clockwise rotation of the picture in degrees: 0, 90, 180 or 270; 0 for any other matrix."""
        a, b = struct.unpack_from(">2i", self.matrix)
        unit = 1 << 16
        return _ROTATIONS.get((a // unit, b // unit), 0) if a % unit == b % unit == 0 else 0

    def start_shift(self, movie_timescale: int) -> int:
        """Return the ticks by which the edit list moves the media's times; negative for an earlier start.

        Args:
            movie_timescale: ticks per second of the durations of edits.
        """
        delay, edits = 0, list(self.edits)
        while edits and edits[0].media_time == -1:  # §8.6.6.1: an empty edit offsets the start
            delay += edits.pop(0).duration
        shift = round(Fraction(delay * self.timescale, movie_timescale))
        return shift - (edits[0].media_time if edits else 0)


@dataclass(frozen=True, slots=True)
class Movie:
    """A file's tracks and their times, as its ``moov`` box describes them.

    Attributes:
        timescale: ticks per second of the movie's own durations (edits).
        tracks: in the file's order.
        fragmented: whether movie fragments follow (§8.8.1); the sample tables then say little or nothing.
        chapter_list: payload of the box of user data that lists chapters (``chpl``); empty without one.
        chapters: start in milliseconds and title of each chapter that another container lists.
        unread: a line for each track whose boxes can't be read, beside others that can.
    """

    timescale: int
    tracks: tuple[Track, ...]
    fragmented: bool
    chapter_list: bytes = b""
    chapters: tuple[tuple[int, str], ...] = ()
    unread: tuple[str, ...] = ()


def parse_movie(data: bytes | memoryview, limits: MovieLimits = DEFAULT_LIMITS) -> Movie:
    """Read a ``moov``.

    Args:
        data: the payload of the box, of which the tracks' tables keep a view.

    Returns:
        The movie.

    Raises:
        MalformedError: a box that must be there is missing, doubled, cut off or says something impossible.
        UnsupportedError: the box is compressed in an unknown way.
        TooLargeError: it is larger than it may be, its edit lists or sample entries are too long, or it has
            too many tracks or boxes.
    """
    if len(data) > limits.moov_bytes:
        raise TooLargeError(f"moov of {len(data)} bytes: more than {limits.moov_bytes}")
    moov = Boxes(data, limits)
    traks: list[Box] = []
    singles: dict[bytes, Box] = {}
    user_data: list[Box] = []
    for found in moov.walk(0, len(data)):
        if found.kind == b"trak":
            traks.append(found)
        elif found.kind in (b"mvhd", b"mvex", b"cmov"):
            _only(singles, found)
        elif found.kind == b"udta":
            user_data.append(found)
    if b"cmov" in singles:
        return parse_movie(_decompressed(moov, singles[b"cmov"]), limits)
    moov.check_tracks(len(traks))
    # Without a clock of the movie, ffmpeg and browsers take one of seconds: the media's own times count.
    _, timescale = _timescale(moov, _need(singles, b"mvhd", "moov"), missing=1)
    tracks, unread = _tracks(moov, traks)
    if len({track.track_id for track in tracks}) != len(tracks):  # §8.3.2.3: IDs are unique
        raise MalformedError("two tracks have the same ID")
    chapters = next((one for one in _user_data(moov, user_data) if one.kind == b"chpl"), None)
    chapter_list = b"" if chapters is None else bytes(moov.data[chapters.payload : chapters.end])
    chapter_list = chapter_list[:CHAPTER_BYTES]
    return Movie(timescale, tracks, fragmented=b"mvex" in singles, chapter_list=chapter_list, unread=unread)


def _decompressed(moov: Boxes, cmov: Box) -> bytes:
    """Decompress a ``moov`` (QuickTime File Format, "Compressed movie resources")."""
    parts = _children(moov, cmov, b"dcom", b"cmvd")
    dcom, cmvd = _need(parts, b"dcom", "cmov"), _need(parts, b"cmvd", "cmov")
    if _fields(moov, dcom, 0, ">4s") != (b"zlib",):
        raise UnsupportedError("compressed moov (cmov) of another compression than zlib")
    try:
        compressed = moov.data[cmvd.payload + 4 : cmvd.end]
        data = zlib.decompressobj().decompress(compressed, moov.limits.moov_bytes)
    except zlib.error as error:
        raise MalformedError(f"compressed moov (cmov): {error}") from None
    whole = header(data, 0, len(data))
    inside = {found.kind for found in walk(data, whole.payload, whole.end)}
    if whole.kind != b"moov" or b"cmov" in inside:
        raise MalformedError("compressed moov (cmov) of something else")
    return data[whole.payload : whole.end]


class Boxes:
    """The boxes of a ``moov``, which are counted over all levels.

    Args:
        data: bytes of the ``moov``.
    """

    __slots__ = ("_left", "data", "limits")

    def __init__(self, data: bytes | memoryview, limits: MovieLimits) -> None:
        self.data = memoryview(data)
        self.limits = limits
        self._left = limits.boxes

    def walk(self, start: int, end: int) -> Iterator[Box]:
        """Yield the boxes of one level, as :func:`media.mp4.boxes.walk` does."""
        for found in walk(self.data, start, end):
            self._left -= 1
            if self._left < 0:
                raise TooLargeError(f"a moov of more than {self.limits.boxes} boxes")
            yield found

    def check_tracks(self, count: int) -> None:
        """Check the number of tracks.

        Raises:
            TooLargeError: there are too many.
        """
        if count > self.limits.tracks:
            raise TooLargeError(f"{count} tracks: more than {self.limits.tracks}")


def _tracks(moov: Boxes, traks: Iterable[Box]) -> tuple[tuple[Track, ...], tuple[str, ...]]:
    """Read the tracks; also return a line for each that can't be read, where others can."""
    tracks: list[Track] = []
    malformed: list[MalformedError] = []
    unread: list[str] = []
    for number, trak in enumerate(traks, 1):
        try:
            tracks.append(_track(moov, trak))
        except MalformedError as error:
            malformed.append(error)
            unread.append(f"the track in place {number}: {error}")
    if malformed and not any(track.handler in (b"vide", b"soun") for track in tracks):
        raise malformed[0]
    return tuple(tracks), tuple(unread)


def _track(moov: Boxes, trak: Box) -> Track:
    boxes = _children(moov, trak, b"tkhd", b"mdia", b"edts", b"udta", b"tref")
    mdia = _children(moov, _need(boxes, b"mdia", "trak"), b"mdhd", b"hdlr", b"minf", b"elng")
    minf = _children(moov, _need(mdia, b"minf", "mdia"), b"stbl", b"dinf")
    stbl = _children(moov, _need(minf, b"stbl", "minf"), b"stsd", *TABLES)
    tkhd = _need(boxes, b"tkhd", "trak")
    (flags,) = _fields(moov, tkhd, 0, ">I")
    version = _version(moov, tkhd)
    (track_id,) = _fields(moov, tkhd, 20 if version else 12, ">I")
    matrix, width, height = _fields(moov, tkhd, 52 if version else 40, ">36sII")
    mdhd = _need(mdia, b"mdhd", "mdia")
    media_version, timescale = _timescale(moov, mdhd)
    duration, language = _fields(moov, mdhd, *((24, ">QH") if media_version else (16, ">IH")))
    hdlr = _need(mdia, b"hdlr", "mdia")
    (handler,) = _fields(moov, hdlr, 8, ">4s")
    extended = mdia.get(b"elng")
    user_data = _user_data(moov, [boxes[b"udta"]] if b"udta" in boxes else [])
    return Track(
        track_id=track_id,
        handler=handler,
        enabled=bool(flags & 1),
        timescale=timescale,
        duration=min(duration, _LONGEST),
        language=_language(language),
        matrix=matrix if any(matrix) else IDENTITY,
        display_width=Fraction(width, 1 << 16),
        display_height=Fraction(height, 1 << 16),
        sample_entries=_sample_entries(moov, _need(stbl, b"stsd", "stbl")),
        edits=_edits(moov, boxes.get(b"edts")),
        tables={kind: moov.data[found.payload : found.end] for kind, found in stbl.items() if kind in TABLES},
        self_contained=_self_contained(moov, minf.get(b"dinf")),
        extended_language="" if extended is None else _string(moov, extended, 4),  # §8.4.6
        name=_user_name(moov, user_data) or _handler_name(moov, hdlr),
        roles=_roles(moov, user_data),
        chapter_track=_chapter_track(moov, boxes.get(b"tref")),
    )


def _timescale(moov: Boxes, full: Box, missing: int = 0) -> tuple[int, int]:
    """Read the version and the timescale of ``mvhd`` or ``mdhd``, which begin alike.

    Args:
        missing: ticks per second in the place of a timescale of 0; 0 if that can't be read.
    """
    version = _version(moov, full)
    (timescale,) = _fields(moov, full, 20 if version else 12, ">I")
    timescale = timescale or missing
    if timescale == 0:
        raise MalformedError(f"{full.kind.decode()}: timescale 0")
    return version, int(timescale)


def _sample_entries(moov: Boxes, stsd: Box) -> tuple[bytes, ...]:
    (count,) = _fields(moov, stsd, 4, ">I")
    if stsd.size > (most := SAMPLE_ENTRY_BYTES):
        raise TooLargeError(f"sample entries of {stsd.size} bytes: more than {most}")
    entries = tuple(
        [bytes(moov.data[entry.start : entry.end]) for entry in moov.walk(stsd.payload + 8, stsd.end)]
    )
    if len(entries) != count:
        raise MalformedError(f"stsd: {len(entries)} sample entries where it says {count}")
    return entries


def _edits(moov: Boxes, edts: Box | None) -> tuple[Edit, ...]:
    elst = None if edts is None else _children(moov, edts, b"elst").get(b"elst")
    if elst is None:
        return ()
    version = _version(moov, elst)
    (count,) = _fields(moov, elst, 4, ">I")
    if count > moov.limits.edits:
        raise TooLargeError(f"edit list of {count} entries: more than {moov.limits.edits}")
    layout, size = (">Qqi", 20) if version else (">Iii", 12)
    edits = []
    for index in range(count):
        duration, media_time, rate = _fields(moov, elst, 8 + index * size, layout)
        if media_time < -1 or media_time > _LONGEST:  # §8.6.6.3: -1 is the only value below 0
            raise MalformedError(f"elst: media time {media_time}")
        edits.append(Edit(min(duration, _LONGEST), media_time, Fraction(rate, 1 << 16)))
    return tuple(edits)


def _self_contained(moov: Boxes, dinf: Box | None) -> bool:
    """Return whether every data reference has flag 1: the media are in this file (§8.7.2.3)."""
    dref = None if dinf is None else _children(moov, dinf, b"dref").get(b"dref")
    if dref is None:
        return True
    return all(_fields(moov, entry, 0, ">I")[0] & 1 for entry in moov.walk(dref.payload + 8, dref.end))


def _language(packed: int) -> str:
    """Unpack three letters of five bits each (§8.4.2.3); QuickTime's own codes are no letters."""
    if 4 * packed < len(_QUICKTIME_LANGUAGES):
        return _QUICKTIME_LANGUAGES[4 * packed :][:3]
    letters = "".join(chr(0x60 + (packed >> shift & 31)) for shift in (10, 5, 0))
    return letters if letters.isalpha() and packed != 0x7FFF else "und"


def _user_data(moov: Boxes, parents: Iterable[Box]) -> list[Box]:
    """Return the boxes of user data as far as they are valid; their format is free."""
    found: list[Box] = []
    for parent in parents:
        try:
            found += moov.walk(parent.payload, parent.end)
        except (MalformedError, TooLargeError):
            continue
    return found


def _user_name(moov: Boxes, user_data: Iterable[Box]) -> str:
    """Find the name of a track in user data (QuickTime File Format, "User data atoms")."""
    found: dict[bytes, str] = {}
    for one in user_data:
        if one.kind in (b"name", b"\xa9nam"):
            # International text has a length and a language before it.
            found.setdefault(one.kind, _string(moov, one, 0 if one.kind == b"name" else 4))
    return found.get(b"name") or found.get(b"\xa9nam", "")


def _roles(moov: Boxes, user_data: Iterable[Box]) -> tuple[str, ...]:
    """Read the DASH roles of a track (§8.10.4): pairs of C strings, scheme and role."""
    kinds = [moov.data[one.payload + 4 : one.end] for one in user_data if one.kind == b"kind"]
    words = [bytes(kind[:NAME_BYTES]).split(b"\0") for kind in kinds]
    found = [word[1] for word in words if word[0] == DASH_ROLE and len(word) > 1]
    return tuple(word.decode("ascii", "replace") for word in found)


def _chapter_track(moov: Boxes, tref: Box | None) -> int:
    """Read the first ID in a track reference of type ``chap`` (QuickTime File Format, "Chapter lists")."""
    found = () if tref is None else [one for one in moov.walk(tref.payload, tref.end) if one.kind == b"chap"]
    return int.from_bytes(moov.data[found[0].payload : found[0].end][:4], "big") if found else 0


def _handler_name(moov: Boxes, hdlr: Box) -> str:
    """Read the name of a handler (§8.4.3.3, a C string; QuickTime's is counted) if it names the track.

    Most writers put the name of the player's software there.
    """
    length = bytes(moov.data[hdlr.payload + 24 : min(hdlr.payload + 25, hdlr.end)])
    counted = length == (hdlr.end - hdlr.payload - 25).to_bytes(4, "big", signed=True)[3:]
    text = _string(moov, hdlr, 25 if counted else 24)
    return "" if _SOFTWARE.search(text) else text


def _string(moov: Boxes, parent: Box, offset: int) -> str:
    """Read text up to a zero or the box's end; return an empty string if it is too long for a name."""
    if parent.end - parent.payload > NAME_BYTES:
        return ""
    data = bytes(moov.data[parent.payload + offset : parent.end]).partition(b"\0")[0]
    return "".join(one for one in data.decode("utf-8", "replace") if one.isprintable()).strip()


def _children(moov: Boxes, parent: Box, *kinds: bytes) -> dict[bytes, Box]:
    """Find the boxes of the given types one level down, each at most once."""
    found: dict[bytes, Box] = {}
    for child in moov.walk(parent.payload, parent.end):
        if child.kind == b"udta":  # several are harmless: playback doesn't depend on user data
            found.setdefault(child.kind, child)
        elif child.kind in kinds:
            _only(found, child)
    return found


def _only(found: dict[bytes, Box], child: Box) -> None:
    # With two tables, readers would have to guess which one counts, as exploits of other servers relied on.
    if found.setdefault(child.kind, child) is not child:
        raise MalformedError(f"two boxes {child.kind.decode('latin-1')!r} where one can be")


def _need(found: Mapping[bytes, Box], kind: bytes, parent: str) -> Box:
    if kind not in found:
        raise MalformedError(f"{parent} has no {kind.decode()}")
    return found[kind]


def _version(moov: Boxes, full: Box) -> int:
    return int(_fields(moov, full, 0, ">B")[0])


def _fields(moov: Boxes, parent: Box, offset: int, layout: str) -> tuple[Any, ...]:
    """Unpack fields at an offset into a box's payload."""
    start = parent.payload + offset
    if start + struct.calcsize(layout) > parent.end:
        raise MalformedError(f"{parent.kind.decode('latin-1')!r} of {parent.size} bytes is too short")
    return struct.unpack_from(layout, moov.data, start)
