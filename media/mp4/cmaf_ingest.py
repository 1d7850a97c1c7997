"""Joins a stream that an encoder uploads in many requests (CMAF ingest), without I/O.

A track or a segment comes in each request, as DASH-IF live ingest has it, and ffmpeg's muxers of DASH and of
HLS do. The tracks of several requests become one stream of movie fragments, in the order of their times.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from media.errors import MalformedError, TooLargeError, UnsupportedError
from media.mp4.boxes import LARGEST_HEADER, header
from media.mp4.fragment_join import FragmentJoiner, JoinLimits
from media.mp4.fragments import FragmentReader, InitSegment

TRANSPORT_STREAM = ""
"""The track of all segments of MPEG-TS: they are the stream, one behind the other."""

_SYNC = 0x47
"""With which packets of MPEG-TS begin (ISO/IEC 13818-1 §2.4.3.3)."""

_WORDS = frozenset({"init", "initialization", "header", "chunk", "seg", "segment", "media"})
"""What names of init segments and media segments of the same track differ in, but for their numbers."""

_BOXES = frozenset({b"ftyp", b"styp", b"moov", b"moof", b"sidx", b"prft", b"emsg"})
"""With which a body may begin (ISO/IEC 23000-19 §7.3.2)."""

_HANDLERS = (b"vide", b"soun")


class UnknownTrackError(Exception):
    """A segment came whose init segment didn't."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackUploadLimits:
    """Limits of what is uploaded.

    Attributes:
        tracks: Most tracks of a stream; of several of a kind one is taken, and the others are only read.
        fragment_bytes: Largest fragment: encoders may send a whole segment as one.
        known_fragments: How many of a track's newest are known again: encoders send a segment once more whose
            request has failed.
        join: Of tracks that come in requests of their own.
    """

    tracks: int = 16
    init_bytes: int = 256 << 10
    fragment_bytes: int = 16 << 20
    known_fragments: int = 64
    join: JoinLimits = field(default_factory=JoinLimits)


@dataclass(frozen=True, slots=True)
class UploadedPiece:
    """A part of a track that is whole.

    Attributes:
        data: an init segment, a fragment with its samples, or any bytes of MPEG-TS.
        is_init: whether it is an init segment.
    """

    data: bytes = field(repr=False)
    is_init: bool = False


class UploadReader:
    """Reads what one request of an encoder uploads of a track; what is incomplete at its end is dropped.

    Args:
        name: of the request's address, behind that of the channel.

    Attributes:
        track: which it belongs to; None before enough has come to know.
    """

    def __init__(self, name: str, limits: TrackUploadLimits) -> None:
        self._name = name
        self._limits = limits
        self._buffer = bytearray()
        # A file type without its movie, or a movie fragment without its samples.
        self._first_half = b""
        self.track: str | None = None

    def receive_data(self, data: bytes) -> list[UploadedPiece]:
        """Take the next bytes; return what they complete.

        Raises:
            MediaError: they are neither MPEG-TS nor boxes of a fragmented movie.
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
        """Return the bytes of the box that comes next; 0 where too few have come to know."""
        if len(self._buffer) < 8 or (self._buffer[:4] == b"\0\0\0\1" and len(self._buffer) < LARGEST_HEADER):
            return 0
        kind = bytes(self._buffer[4:8])
        if self.track is None and kind not in _BOXES:
            raise UnsupportedError("it is neither MPEG-TS nor fragmented MP4")
        most = self._limits.fragment_bytes if kind in (b"moof", b"mdat") else self._limits.init_bytes
        if self._buffer[:4] == bytes(4):
            raise MalformedError("a box without a size")
        size = header(self._buffer, 0, 1 << 64).size
        if size > most:
            raise TooLargeError(f"a box of {size} bytes: more than {most}")
        return size

    def _push_box(self, kind: bytes, box: bytes) -> Iterator[UploadedPiece]:
        if self.track is None:
            # What begins with a file type is an init segment, or a whole track.
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
                raise MalformedError("boxes in an order that no fragmented movie has")


class TrackUploads:
    """Joins the tracks of one stream."""

    def __init__(self, limits: TrackUploadLimits) -> None:
        self._limits = limits
        # By track, in the order of their names; with the kinds of media that they have.
        self._inits = dict[str, tuple[bytes, frozenset[bytes]]]()
        self._joined: list[str] = []
        # By track: what its newest fragments hash to.
        self._known = dict[str, deque[int]]()
        self._is_transport_stream = False
        self._joiner = FragmentJoiner(0, limits.join)

    @property
    def has_tracks(self) -> bool:
        """Whether an init segment has come, or MPEG-TS."""
        return bool(self._inits) or self._is_transport_stream

    def push(self, track: str, piece: UploadedPiece) -> Iterator[bytes]:
        """Take a piece of a track; yield what is next of the whole stream, each when it is asked for.

        A fragment that comes once more is left out.

        Raises:
            UnknownTrackError: its init segment hasn't come.
            MediaError: it is malformed, or the tracks aren't of the same time.
        """
        if track == TRANSPORT_STREAM and not self._inits:
            self._is_transport_stream = True
            yield piece.data
            return
        if piece.is_init:
            self._receive_init(track, piece.data)
            return
        if track not in self._inits:
            # ffmpeg numbers init segments that have a folder each; or the names have nothing in common but
            # that there are no others.
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
        """Tell whether a fragment is one of a track's newest, which comes once more."""
        known = self._known.setdefault(track, deque(maxlen=self._limits.known_fragments))
        hashed = hash(fragment)
        if hashed in known:
            return True
        known.append(hashed)
        return False

    def _join_data(self, track: str, data: bytes) -> Iterator[bytes]:
        for chunk in self._joiner.receive_data(self._joined.index(track), data):
            yield chunk.data

    def _receive_init(self, track: str, data: bytes) -> None:
        # An encoder that begins anew may send the same stream again.
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
        # The next fragment begins anew, with all tracks that are known then.
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
    """Give what the names of a track's init segment and of its segments have in common.

    Args:
        name: such as ``init-stream0.m4s``, ``chunk-stream0-00012.m4s`` or ``video/12.cmfv``.
        is_numbered: whether a number of the segment is at its end.
    """
    words = [one for one in re.split(r"[-_./]+", name.rpartition(".")[0] or name) if one]
    if is_numbered and words:
        words[-1] = words[-1].rstrip("0123456789")
    return "/".join(one for one in words if one and one.lower() not in _WORDS) or "/"
