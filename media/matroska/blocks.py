"""Positions of the frames of a Matroska file, from the headers of its blocks (RFC 9559 §5.1.3, §10).

Cues have the positions of a few key frames, but no frame's size. So all block headers are read, one after the
other; the frames between them, nearly all of the file, are skipped.
"""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from media.errors import MalformedError, MediaError, TooLargeError, UnsupportedError
from media.matroska.chapters import parse_chapters
from media.matroska.ebml import UNKNOWN_SIZE, Element, children, header, number, unsigned
from media.matroska.element_ids import (
    BLOCK,
    BLOCK_DURATION,
    BLOCK_GROUP,
    CHAPTERS,
    CLUSTER,
    EBML,
    ENCRYPTED_BLOCK,
    INFO,
    REFERENCE_BLOCK,
    SEGMENT,
    SIMPLE_BLOCK,
    TIMESTAMP,
    TIMESTAMP_SCALE,
    TRACKS,
)
from media.matroska.tracks import AUDIO, MAX_TRACKS, SUBTITLES, VIDEO, MatroskaTrack, parse_tracks
from media.mp4.movie.sample_table_writer import FrameRoom, Reserve, reserve_nothing

Read = Callable[[int, int], bytes]
"""Reads (offset, length) of a file; fewer bytes only where it ends."""

WINDOW_BYTES = 4 << 10
"""Bytes that are read at once: they hold many headers of small frames, or one of a large frame."""

HEAD_BYTES = 32
"""Bytes that always hold the header of an element with that of a block, or with a number."""

LACED_BYTES = 2048
"""Bytes that always hold the header of a laced block with the sizes of its frames: up to 256 (§10.3)."""

BLOCK_HEADER_BYTES = 11
"""Bytes that always suffice for :func:`block_header`: eight of a number, two of a time and one of flags."""

DEFAULT_SCALE = 1_000_000
"""Nanoseconds of a tick where ``Info`` doesn't say (§5.1.2.9)."""

LONGEST_TICK = 10**9
"""Most nanoseconds of a tick. Nearly all files have milliseconds, those of sound alone shorter ticks, one for
each sample: by ticks of more than a second two pictures would have one time."""

_ENTERED = frozenset((SEGMENT, CLUSTER, BLOCK_GROUP))

SEARCHED_AT_ONCE = 1 << 20
"""Most bytes in which the next cluster is looked for at once."""

_CLUSTER_BEGIN = CLUSTER.to_bytes(4, "big")

MAX_TEXT_FRAMES = 1 << 18
"""Most frames of all tracks of subtitles together: a film of two hours has 2,000 in each language."""

LATEST = 1 << 53
"""Bound of a cluster's time; of milliseconds that is longer than any recording."""


@dataclass(frozen=True, slots=True)
class MatroskaLimits:
    """Limits of a Matroska file.

    Attributes:
        elements: most elements that are visited: beside frames a few for each cluster.
        frames: most frames of all tracks together: six hours of film and sound have a million and a half.
        metadata_bytes: largest ``Info`` or ``Tracks``, which are read as a whole.
        table_bytes: memory for the tables of samples of all tracks.
        searched_bytes: most bytes that are read in search of clusters behind damage.
    """

    elements: int = 1 << 21
    frames: int = 3 << 19
    metadata_bytes: int = 4 << 20
    table_bytes: int = 48 << 20
    searched_bytes: int = 64 << 20


class Frames:
    """Positions and times of one Matroska track's frames, in decoding order.

    Attributes:
        times: timestamp of each frame's block, in the file's ticks.
        sizes: bytes of each frame.
        flags: ``KEY``, and the frame's index in its block shifted left by one bit.
        last_duration: ticks of the last block; None if the file doesn't say.
    """

    __slots__ = ("flags", "last_duration", "offsets", "sizes", "times")

    def __init__(self) -> None:
        self.times, self.offsets, self.sizes = array("q"), array("q"), array("I")
        self.flags = array("H")
        self.last_duration: int | None = None

    def __len__(self) -> int:
        return len(self.sizes)

    def chosen(self, kept: NDArray[np.bool_]) -> Frames:
        """Return some of the frames."""
        found = Frames()
        found.times, found.offsets, found.sizes, found.flags = (
            array(column.typecode, np.asarray(column)[kept].tobytes())
            for column in (self.times, self.offsets, self.sizes, self.flags)
        )
        found.last_duration = self.last_duration
        return found


KEY = 1


class TextFrames(Frames):
    """Positions and times of the frames of a track of subtitles, which each have a duration of their own.

    Attributes:
        durations: ticks of each frame but the last; ``UNKNOWN_DURATION`` if the file doesn't say.
        is_excessive: whether the file has more subtitles than are read, so that the frames were dropped.
    """

    __slots__ = ("durations", "is_excessive")

    def __init__(self, *, is_excessive: bool = False) -> None:
        super().__init__()
        self.durations = array("q")
        self.is_excessive = is_excessive

    def add(self, time: int, offset: int, size: int) -> None:
        """Add a frame, of which ``last_duration`` is the duration from then on."""
        if self.times:
            self.durations.append(UNKNOWN_DURATION if self.last_duration is None else self.last_duration)
        self.times.append(time)
        self.offsets.append(offset)
        self.sizes.append(size)
        self.flags.append(KEY)
        self.last_duration = None


UNKNOWN_DURATION = -1


@dataclass(frozen=True, slots=True)
class MatroskaFile:
    """The tracks of a Matroska file, and the positions of their frames.

    Attributes:
        tracks: in the file's order.
        frames: by track number; those of subtitles are of the type ``TextFrames``.
        chapters: start in milliseconds and title of each.
        timestamp_scale: nanoseconds of a tick.
        cut_short: whether the file ends within a cluster.
        damaged: whether a part of a cluster before another one couldn't be read.
    """

    tracks: tuple[MatroskaTrack, ...]
    frames: dict[int, Frames]
    timestamp_scale: int
    cut_short: bool
    damaged: bool
    chapters: tuple[tuple[int, str], ...] = ()


def read_blocks(
    read: Read, size: int, limits: MatroskaLimits, reserve: Reserve = reserve_nothing
) -> MatroskaFile:
    """Find the tracks of a Matroska file, and all of their frames.

    Args:
        read: reads from the file; it may block.
        size: length of the file in bytes.
        reserve: called before memory is allocated for frames.

    Raises:
        MalformedError: the file violates its format, or has no tracks.
        UnsupportedError: blocks are encrypted.
        TooLargeError: a limit is exceeded.
        OSError: the file can't be read.
    """
    reader = _BlockReader(read, size, limits, reserve)
    reader.run()
    if reader.tracks is None:
        raise MalformedError("the file has no Tracks")
    return MatroskaFile(
        reader.tracks,
        {**reader.frames, **reader.text_frames},
        reader.timestamp_scale,
        reader.cut_short,
        reader.damaged,
        reader.chapters,
    )


class _BlockReader:
    """Visits the elements of a Matroska file: enters those that contain blocks, and skips all others."""

    def __init__(self, read: Read, size: int, limits: MatroskaLimits, reserve: Reserve) -> None:
        self._read, self._size, self._limits = read, size, limits
        self._room, self._text_room = FrameRoom(reserve), FrameRoom(reserve)
        self.tracks: tuple[MatroskaTrack, ...] | None = None
        self.frames: dict[int, Frames] = {}
        self.text_frames: dict[int, TextFrames] = {}
        self.chapters: tuple[tuple[int, str], ...] = ()
        self.timestamp_scale = DEFAULT_SCALE
        self.cut_short = False
        self.damaged = False
        self._searched = 0
        self._wanted: set[int] | None = None
        self._read_once: set[int] = set()
        self._cluster_time = 0
        self._in_cluster = False
        self._count = self._text_count = 0
        self._group: Frames | None = None
        self._group_from = 0
        self._referenced = False

    def run(self) -> None:
        """Read the file to its end, or to where it is cut short."""
        position: int | None = 0
        elements, size, limit = 0, self._size, self._limits.elements
        window, start = b"", 0
        while position is not None and position < size:
            elements += 1
            if elements > limit:
                raise TooLargeError(f"more than {limit} elements")
            at = position - start
            if at + HEAD_BYTES > len(window) and start + len(window) < size:
                window, start, at = self._read(position, WINDOW_BYTES), position, 0
            if taken := self._simple_blocks(window, start, at):
                count, position = taken
                elements += count - 1
                continue
            try:
                found = header(window, at)
            except MalformedError:
                # A truncated end, or garbage between clusters, doesn't spoil the rest of the file.
                if self.tracks is None or not self.frames:
                    raise
                self.cut_short = True
                position = self._behind_damage(position + 1, window, start)
                continue
            position = self._element(found, window, start)

    def _simple_blocks(self, window: bytes, start: int, at: int) -> tuple[int, int] | None:
        """Read the simple blocks of one frame each, which nearly all are, whose headers are in the window.

        Returns:
            Their number, and the position of the next element in the file; None if no such block is next.
        """
        count, known, cluster_time = 0, self.frames, self._cluster_time
        while at + HEAD_BYTES <= len(window) and window[at] == SIMPLE_BLOCK:
            body = at + 10 - window[at + 1].bit_length()
            track, flags = window[body], window[body + 3]
            frames = known.get(track & 0x7F)
            if body > at + 9 or track < 0x80 or flags & 0x06 or frames is None:
                break
            mask = (1 << 7 * (body - at - 1)) - 1
            size = int.from_bytes(window[at + 1 : body], "big") & mask
            if not 4 <= size < min(mask, 1 << 31) or start + body + size > self._size:
                break
            time = window[body + 1] << 8 | window[body + 2]
            frames.times.append(cluster_time + time - (time >> 15 << 16))
            frames.offsets.append(start + body + 4)
            frames.sizes.append(size - 4)
            frames.flags.append(flags >> 7)
            frames.last_duration = None
            count, at = count + 1, body + size
        if not count:
            return None
        self._count += count
        self._check_count()
        return count, start + at

    def _element(self, found: Element, window: bytes, start: int) -> int | None:
        """Read an element; return the position of the next one in the file, or None at the end."""
        kind, size, payload = found.kind, found.size, start + found.payload
        if kind in _ENTERED:
            self._enter(found)
            return payload
        if kind == EBML and self.frames:  # another film behind this one
            return None
        within_film = self._in_cluster and bool(self.frames)
        if size == UNKNOWN_SIZE and not within_film:
            raise MalformedError(f"element {kind:#x} of unknown size")
        end = payload + size
        if end > self._size or size == UNKNOWN_SIZE:
            self.cut_short = kind in (SIMPLE_BLOCK, BLOCK, TRACKS, INFO) or size == UNKNOWN_SIZE
            return self._behind_damage(payload, window, start) if within_film else None
        if kind in (SIMPLE_BLOCK, BLOCK):
            head = window[found.payload : found.payload + min(size, HEAD_BYTES)]
            self._block(head, payload, end, kind)
        elif self._in_cluster and size <= 8:
            self._value(kind, window[found.payload : found.payload + size])
        elif kind in (INFO, TRACKS) and kind not in self._read_once:
            self._read_once.add(kind)  # §5.1.2, §5.1.4: others of its kind are the same once more
            self._metadata(kind, payload, size)
        elif kind == CHAPTERS and kind not in self._read_once:
            self._read_once.add(kind)
            with contextlib.suppress(MediaError):  # a film is worth seeing without them
                self.chapters = parse_chapters(self._whole(kind, payload, size))
        elif kind == ENCRYPTED_BLOCK and not self.frames:  # behind frames in the clear it is damage
            raise UnsupportedError("encrypted media")
        return end

    def _behind_damage(self, position: int, window: bytes, start: int) -> int | None:
        """Find the next cluster behind damage; return None if there is none.

        The window is searched first, and then ever larger ranges: damage may lie behind every cluster.
        """
        at, length = window.find(_CLUSTER_BEGIN, position - start), WINDOW_BYTES
        while at < 0:
            start = max(position, start + len(window) - len(_CLUSTER_BEGIN) + 1)
            left = min(self._size - start, self._limits.searched_bytes - self._searched)
            window = self._read(start, min(length, left)) if left > 0 else b""
            if len(window) < len(_CLUSTER_BEGIN):
                return None
            self._searched += len(window)
            at, length = window.find(_CLUSTER_BEGIN), min(2 * length, SEARCHED_AT_ONCE)
        self.cut_short, self.damaged = False, True
        return start + at

    def _enter(self, found: Element) -> None:
        if found.kind != BLOCK_GROUP:
            self._in_cluster = found.kind == CLUSTER
            self._cluster_time = 0
        elif found.size == UNKNOWN_SIZE:
            raise MalformedError("a group of unknown size")
        self._group, self._referenced = None, False

    def _whole(self, kind: int, payload: int, length: int) -> bytes:
        if length > self._limits.metadata_bytes:
            raise TooLargeError(f"element {kind:#x} of {length} bytes")
        data = self._read(payload, length)
        if len(data) < length:
            raise MalformedError("the file is shorter than it was")
        return data

    def _metadata(self, kind: int, payload: int, length: int) -> None:
        data = self._whole(kind, payload, length)
        if kind == TRACKS:
            self.tracks = parse_tracks(data)
            self._wanted = {track.number for track in self.tracks if track.kind in (VIDEO, AUDIO)}
            texts = [track.number for track in self.tracks if track.kind == SUBTITLES]
            self.text_frames = {number: TextFrames() for number in texts if number not in self.frames}
        else:
            self.timestamp_scale = timestamp_scale(data)

    def _value(self, kind: int, payload: bytes) -> None:
        if kind == TIMESTAMP:
            self._cluster_time = min(int.from_bytes(payload, "big"), LATEST)
        elif kind == REFERENCE_BLOCK and not self._referenced:
            self._referenced = True  # §5.1.3.5.5: a frame that references another is no key frame
            if self._group is not None:
                for index in range(self._group_from, len(self._group)):
                    self._group.flags[index] &= ~KEY
        elif kind == BLOCK_DURATION and self._group is not None:
            self._group.last_duration = min(int.from_bytes(payload, "big"), LATEST)

    def _block(self, head: bytes, payload: int, end: int, kind: int) -> None:
        """Read the header of a block (§10.1): its track, its time, and the sizes of the frames in it."""
        try:
            track, time, flags, at = block_header(head)
        except IndexError:
            raise MalformedError(f"the block at {payload} is cut off") from None
        if self._wanted is not None and track not in self._wanted:
            if track in self.text_frames and not flags & 0x06:  # text is never laced
                self._text_block(track, self._cluster_time + time, payload + at, end)
            return
        frames = self.frames.get(track)
        if frames is None:
            if len(self.frames) >= MAX_TRACKS:
                raise TooLargeError(f"blocks of more than {MAX_TRACKS} tracks")
            frames = self.frames[track] = Frames()
        first, time = len(frames), self._cluster_time + time
        key = flags >> 7 if kind == SIMPLE_BLOCK else int(not self._referenced)
        if flags & 0x06:
            head = self._read(payload, min(end - payload, LACED_BYTES))
            self._laced(frames, head, at, (flags & 0x06, payload, end, time, key))
        else:
            frames.sizes.append(_bounded(end - payload - at))
            frames.times.append(time)
            frames.offsets.append(payload + at)
            frames.flags.append(key)
        frames.last_duration = None
        self._group, self._group_from = (frames, first) if kind == BLOCK else (None, 0)
        self._count += len(frames) - first
        self._check_count()

    def _text_block(self, track: int, time: int, offset: int, end: int) -> None:
        """Add a block of subtitles; the track that has one too many is dropped."""
        frames = self.text_frames[track]
        if frames.is_excessive:
            return
        if self._text_count >= MAX_TEXT_FRAMES:
            self._text_count -= len(frames)
            self.text_frames[track] = TextFrames(is_excessive=True)
            return
        frames.add(time, offset, _bounded(end - offset))
        self._group, self._group_from = frames, len(frames)
        self._text_count += 1
        self._text_room.reserve(self._text_count)

    def _check_count(self) -> None:
        if self._count > self._limits.frames:
            raise TooLargeError(f"more than {self._limits.frames} frames")
        self._room.reserve(self._count)

    @staticmethod
    def _laced(frames: Frames, head: bytes, at: int, block: tuple[int, int, int, int, int]) -> None:
        lacing, payload, end, time, key = block
        try:
            sizes, at = lace_sizes(head, at, lacing, end - payload)
        except IndexError:
            raise MalformedError(f"the lacing of the block at {payload} is cut off") from None
        place = payload + at
        for index, size in enumerate(sizes):
            frames.sizes.append(_bounded(size))
            frames.times.append(time)
            frames.offsets.append(place)
            frames.flags.append(index << 1 | key)
            place += size


def _bounded(size: int) -> int:
    if not 0 <= size < 1 << 31:
        raise MalformedError(f"a frame of {size} bytes")
    return size


def block_header(data: bytes) -> tuple[int, int, int, int]:
    """Read the header of a block (§10.1).

    Args:
        data: a block's payload, or its beginning.

    Returns:
        The number of the track, the time in ticks since that of the cluster, the flags, and the offset behind
        the header.

    Raises:
        MalformedError: the header has no track number.
        IndexError: the header is cut off.
    """
    track, at = number(data, 0)
    flags = data[at + 2]
    return track, int.from_bytes(data[at : at + 2], "big", signed=True), flags, at + 3


def timestamp_scale(info: bytes) -> int:
    """Read the nanoseconds of a tick from the payload of an ``Info`` element.

    Raises:
        MalformedError: an element is cut off, or no clock has such ticks.
    """
    for one in children(info, 0, len(info)):
        if one.kind == TIMESTAMP_SCALE:
            scale = unsigned(info, one)
            if not 0 < scale <= LONGEST_TICK:
                raise MalformedError(f"ticks of {scale} nanoseconds")
            return scale
    return DEFAULT_SCALE


def lace_sizes(head: bytes, at: int, lacing: int, length: int) -> tuple[list[int], int]:
    """Read the sizes of a block's frames (§10.3), and the offset of the first one in the block.

    Args:
        head: the block's payload, or its beginning.
        at: offset behind the block's header.
        lacing: bits of the block's flags.
        length: of the block's payload in bytes.

    Raises:
        MalformedError: the sizes contradict the block's.
        IndexError: the sizes are cut off.
    """
    count = head[at] + 1
    at += 1
    sizes: list[int] = []
    if lacing == 0x04:  # all alike
        each, rest = divmod(length - at, count)
        if rest:
            raise MalformedError("a block of frames of one size that it isn't a multiple of")
        return [each] * count, at
    for _ in range(count - 1):
        if lacing == 0x02:  # Xiph's: bytes that are added up, to one below 255
            size = 0
            while head[at] == 255:
                size, at = size + 255, at + 1
            size, at = size + head[at], at + 1
        else:  # EBML's: the first is a number, each other the difference to the one before
            before = at
            size, at = number(head, at)
            if sizes:
                size += sizes[-1] - ((1 << 7 * (at - before) - 1) - 1)
        sizes.append(size)
    sizes.append(length - at - sum(sizes))
    if min(sizes) < 0:
        raise MalformedError("a block of frames that are larger than it")
    return sizes, at
