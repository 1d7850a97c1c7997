"""Divides live Matroska and WebM (RFC 9559) into chunks for restarts of a decoder.

Its head and its blocks alone are passed on. A new cluster of unknown size (RFC 8794 §6.2) begins at each key
frame, wherever the publisher's own begin, so that a decoder can join there.
"""

from __future__ import annotations

import struct

from media.errors import UnsupportedError
from media.matroska.ebml import UNKNOWN_SIZE_BYTES
from media.matroska.element_ids import CLUSTER, EBML, INFO, SEGMENT, TIMESTAMP, TRACKS
from media.matroska.live_elements import (
    BLOCKS,
    ELEMENT_BYTES,
    LiveElement,
    LiveElementReader,
    ticks_of,
)
from media.matroska.tracks import AUDIO, VIDEO, MatroskaTrack, parse_tracks
from media.steady_times import SingleStrays
from media.stream_reader import CLOCK_RATE, MediaClock, StreamChunk

_SEGMENT_HEAD = SEGMENT.to_bytes(4, "big") + UNKNOWN_SIZE_BYTES
_CLUSTER_HEAD = CLUSTER.to_bytes(4, "big") + UNKNOWN_SIZE_BYTES


class MatroskaStreamReader:
    """Divides a stream at its key frames, without I/O; without video each block is an access point."""

    muxed_container = ""

    def __init__(self, element_bytes: int = ELEMENT_BYTES) -> None:
        self._elements = LiveElementReader(element_bytes)
        self._ebml = self._info = self._tracks_element = b""
        self._head = b""
        self._kinds: dict[int, int] = {}
        self._leading = 0
        self._signature = b""
        self._cluster_is_open = False
        self._clock = MediaClock()
        self._strays = SingleStrays()

    @property
    def fault(self) -> str:
        """The error of the pictures' times; empty while there is none."""
        return self._strays.fault

    @property
    def signature(self) -> bytes:
        """The tracks' codecs, with their configurations and sizes."""
        return self._signature

    def receive_data(self, data: bytes) -> list[StreamChunk]:
        """Parse the next bytes.

        Returns:
            Blocks that they complete, in order; those between a jump in time and the next key frame are
            dropped.

        Raises:
            MediaError: it is no such stream.
        """
        found: list[StreamChunk] = []
        for element in self._elements.receive_data(data):
            found += self._push_element(element)
        return found

    def _push_element(self, element: LiveElement) -> list[StreamChunk]:
        kind, whole, payload = element
        if kind in BLOCKS:
            return self._block(element)
        if kind in (SEGMENT, CLUSTER):
            self._cluster_is_open = False
        elif kind == EBML:
            self._ebml, self._info, self._tracks_element = whole, b"", b""
        elif kind == INFO:
            self._info = whole
        elif kind == TRACKS:
            self._tracks_element = whole
            return self._begin(parse_tracks(whole[payload:]))
        return []

    def _begin(self, tracks: tuple[MatroskaTrack, ...]) -> list[StreamChunk]:
        if any(track.encrypted for track in tracks):
            raise UnsupportedError("its tracks are encrypted")
        head = self._ebml + _SEGMENT_HEAD + self._info + self._tracks_element
        if head == self._head:
            return []
        changes, self._head = bool(self._head), head
        self._clock.restart()
        self._strays.restart()
        self._kinds = {track.number: track.kind for track in tracks if track.kind in (VIDEO, AUDIO)}
        videos = [number for number, kind in self._kinds.items() if kind == VIDEO]
        self._leading = next(iter(videos or self._kinds), 0)
        self._signature = b"".join(
            repr((one.kind, one.codec, one.pixels, one.sample_rate, one.channels)).encode() + one.private
            for one in tracks
        )
        self._cluster_is_open = False
        return [StreamChunk(self._head, header=True, changes=changes)]

    def _block(self, element: LiveElement) -> list[StreamChunk]:
        block = self._elements.block(element)
        if block.track not in self._kinds:
            return []
        is_leading = block.track == self._leading
        access = block.is_key and is_leading
        if is_leading:
            time = ticks_of(block.nanoseconds)
            if access:
                self._strays.restart()
            if shift := self._strays.shift(time):
                return self._moved(element, time + shift)
            self._clock.advance(time)
        if self._clock.jumped and not access:
            return []
        head, whole = [], element.whole
        if self._clock.jumped:
            self._clock.resume()
            head = [StreamChunk(self._head, header=True, changes=True)]
        if access or not self._cluster_is_open:
            self._cluster_is_open = True
            whole = _cluster_head(self._elements.cluster_time) + whole
        return [*head, StreamChunk(whole, access=access, clock=self._clock.elapsed)]

    def _moved(self, element: LiveElement, ticks: int) -> list[StreamChunk]:
        """Return a block with another time than it has, in a cluster of that time."""
        if self._clock.jumped:
            return []
        self._cluster_is_open = False
        nanoseconds = ticks * 1_000_000_000 // CLOCK_RATE
        head = _cluster_head(max(nanoseconds // self._elements.tick_nanoseconds, 0))
        # §10.1, §10.2: 16 bits relative to the cluster's time and the flags are before the frames.
        place = self._elements.block(element).begin - 3
        whole = element.whole[:place] + bytes(2) + element.whole[place + 2 :]
        return [StreamChunk(head + whole, clock=self._clock.elapsed)]


def _cluster_head(time: int) -> bytes:
    return _CLUSTER_HEAD + struct.pack(">BBQ", TIMESTAMP, 0x88, time)
