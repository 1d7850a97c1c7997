"""Joins a stream that an encoder uploads in many requests (CMAF ingest), without I/O.

Each request has a track or a segment, as in DASH-IF live ingest and from ffmpeg's muxers of DASH and HLS. The
tracks of several requests become one stream of movie fragments, in the order of their times.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from media.errors import MalformedError, TooLargeError, UnsupportedError
from media.mp4.boxes import LARGEST_HEADER, header
from media.mp4.fragments.fragment_join import FragmentJoiner, JoinLimits
from media.mp4.fragments.fragments import FragmentReader, InitSegment

TRANSPORT_STREAM = ""
"""Track name of all MPEG-TS segments, which are one stream in the order of their requests."""

INIT_BYTES, FRAGMENT_BYTES = 256 << 10, 16 << 20
"""Largest init segment, and largest fragment: encoders may send a whole segment as one."""

KNOWN_FRAGMENTS = 64
"""Fragments of a track whose repetition is recognized: encoders repeat a segment after a failed request."""

_SYNC = 0x47
"""First byte of each MPEG-TS packet (ISO/IEC 13818-1 §2.4.3.3)."""

_WORDS = frozenset({"init", "initialization", "header", "chunk", "seg", "segment", "media"})
"""Words, beside numbers, by which names of a track's init segment and media segments differ."""

_BOXES = frozenset({b"ftyp", b"styp", b"moov", b"moof", b"sidx", b"prft", b"emsg"})
"""Boxes with which a body may begin (ISO/IEC 23000-19 §7.3.2)."""

_HANDLERS = (b"vide", b"soun")


class UnknownTrackError(Exception):
    """A segment arrived before its track's init segment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackUploadLimits:
    """Limits of a stream that is uploaded in several requests.

    Attributes:
        tracks: Most tracks of a stream; of several of a kind one is used, and the others are only parsed.
    """

    tracks: int = 16
    join: JoinLimits = field(default_factory=JoinLimits)


@dataclass(frozen=True, slots=True)
class UploadedPiece:
    """A complete part of a track.

    Attributes:
        data: an init segment, a fragment with its samples, or any bytes of MPEG-TS.
        is_init: whether it is an init segment.
    """

    data: bytes = field(repr=False)
    is_init: bool = False


class UploadReader:
    """Reads the body of one upload request; an incomplete part at its end is dropped.

    Args:
        name: the request's path behind the channel's name.

    Attributes:
        track: name of the track; None before enough bytes have arrived to tell.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._buffer = bytearray()
        # A file type without its movie, or a movie fragment without its samples.
        self._first_half = b""
        self.track: str | None = None

    def receive_data(self, data: bytes) -> list[UploadedPiece]:
        """Parse the next bytes; return the completed parts.

        Raises:
            MediaError: the bytes are neither MPEG-TS nor boxes of a fragmented movie.
        """
        if self.track is None and data and not self._buffer and data[0] == _SYNC:
            self.track = TRANSPORT_STREAM
        if self.track == TRANSPORT_STREAM and not self._buffer:
            return [UploadedPiece(data)] if data else []
        self._buffer += data
        found = list[UploadedPiece]()
        while (size := self._box_size()) and len(self._buffer) >= size:
            kind, box = bytes(self._buffer[4:8]), bytes(self._buffer[:size])
            del self._buffer[:size]
            found += self._push_box(kind, box)
        return found

    def _box_size(self) -> int:
        """Return the size of the next box; 0 if more bytes are needed."""
        if len(self._buffer) < 8 or (self._buffer[:4] == b"\0\0\0\1" and len(self._buffer) < LARGEST_HEADER):
            return 0
        kind = bytes(self._buffer[4:8])
        if self.track is None and kind not in _BOXES:
            raise UnsupportedError("neither MPEG-TS nor fragmented MP4")
        most = FRAGMENT_BYTES if kind in (b"moof", b"mdat") else INIT_BYTES
        if self._buffer[:4] == bytes(4):
            raise MalformedError("a box without a size")
        size = header(self._buffer, 0, 1 << 64).size
        if size > most:
            raise TooLargeError(f"a box of {size} bytes: more than {most}")
        return size

    def _push_box(self, kind: bytes, box: bytes) -> Iterator[UploadedPiece]:
        if self.track is None:
            # An upload that begins with a file type is an init segment, or a whole track.
            self.track = track_of(self._name, is_numbered=kind not in (b"ftyp", b"moov"))
        if kind in (b"ftyp", b"moof"):
            self._first_half = box
        elif kind in (b"moov", b"mdat"):
            data, self._first_half = self._first_half + box, b""
            is_fragment = data[4:8] == b"moof"
            if kind == b"moov" and not is_fragment:
                yield UploadedPiece(data, is_init=True)
            elif kind == b"mdat" and is_fragment:
                yield UploadedPiece(data)
            else:
                raise MalformedError("boxes in the wrong order for a fragmented movie")


class TrackUploads:
    """Joins the uploaded tracks of one stream."""

    def __init__(self, limits: TrackUploadLimits) -> None:
        self._limits = limits
        # Init segments and the kinds of media in them, by track.
        self._inits = dict[str, tuple[bytes, frozenset[bytes]]]()
        self._joined: list[str] = []
        # Hashes of the newest fragments, by track.
        self._known = dict[str, deque[int]]()
        self._is_transport_stream = False
        self._joiner = FragmentJoiner(0, limits.join)

    @property
    def has_tracks(self) -> bool:
        """Whether an init segment or MPEG-TS has arrived."""
        return bool(self._inits) or self._is_transport_stream

    def push(self, track: str, piece: UploadedPiece) -> Iterator[bytes]:
        """Push a piece of a track; yield the next bytes of the joint stream lazily.

        A repeated fragment is left out.

        Raises:
            UnknownTrackError: the track's init segment hasn't arrived.
            MediaError: the piece is malformed, or the tracks aren't of the same time.
        """
        if track == TRANSPORT_STREAM and not self._inits:
            self._is_transport_stream = True
            yield piece.data
            return
        if piece.is_init:
            self._receive_init(track, piece.data)
            return
        if track not in self._inits:
            # ffmpeg numbers init segments that have a folder each; other names may have nothing in common
            # except that no other track exists.
            found = [one for one in self._inits if one.startswith(f"{track}/")] or [*self._inits]
            if len(found) != 1:
                raise UnknownTrackError("the init segment of this track is needed first")
            (track,) = found
        if self._is_known(track, piece.data):
            return
        if not self._joined:
            yield from self._begin_joining()
        if track in self._joined:
            yield from self._join_data(track, piece.data)

    def _is_known(self, track: str, fragment: bytes) -> bool:
        """Return whether a fragment repeats one of a track's newest ones."""
        known = self._known.setdefault(track, deque(maxlen=KNOWN_FRAGMENTS))
        hashed = hash(fragment)
        if hashed in known:
            return True
        known.append(hashed)
        return False

    def _join_data(self, track: str, data: bytes) -> Iterator[bytes]:
        for chunk in self._joiner.receive_data(self._joined.index(track), data):
            yield chunk.data

    def _receive_init(self, track: str, data: bytes) -> None:
        # A restarted encoder may send the same stream again.
        self._known.pop(track, None)
        reader = FragmentReader(self._limits.join.fragments)
        reader.receive_data(data)
        tracks = [one for event in reader.events() if isinstance(event, InitSegment) for one in event.tracks]
        kinds = frozenset(one.handler for one in tracks if one.handler in _HANDLERS)
        if self._inits.get(track) == (data, kinds):
            return
        if track not in self._inits and len(self._inits) >= self._limits.tracks:
            raise TooLargeError(f"more than {self._limits.tracks} tracks")
        self._inits[track] = data, kinds
        # The next fragment starts the joint stream again, with all tracks that are known then.
        self._joined = []

    def _begin_joining(self) -> Iterator[bytes]:
        """Choose the tracks: of each kind of media the first by name."""
        missing = set(_HANDLERS)
        for track, (_, kinds) in sorted(self._inits.items()):
            if kinds & missing:
                self._joined.append(track)
                missing -= kinds
        self._joiner = FragmentJoiner(len(self._joined), self._limits.join)
        for track in self._joined:
            yield from self._join_data(track, self._inits[track][0])


def track_of(name: str, *, is_numbered: bool) -> str:
    """Return the common part of the names of a track's init segment and media segments.

    Args:
        name: such as ``init-stream0.m4s``, ``chunk-stream0-00012.m4s`` or ``video/12.cmfv``.
        is_numbered: whether the name ends with a segment number.
    """
    words = [one for one in re.split(r"[-_./]+", name.rpartition(".")[0] or name) if one]
    if is_numbered and words:
        words[-1] = words[-1].rstrip("0123456789")
    return "/".join(one for one in words if one and one.lower() not in _WORDS) or "/"
