"""Positions of audio frames in an elementary stream, independent of PES packets."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from media.errors import MalformedError, NeedMoreDataError, UnsupportedError
from media.matroska.tracks import AUDIO, MatroskaTrack
from media.mp3.frame import parse_frame_header
from media.mp4.audio_specific_config import write_audio_specific_config
from media.ts.tables import StreamType

_AC3_KILOBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
"""Rates of AC-3 (ETSI TS 102 366 table 4.13), each by two values of frmsizecod."""

_AC3_RATES = (48_000, 44_100, 32_000)
_HEADER_BYTES = 9
"""Bytes that always hold the parsed part of a frame's header, for any of these codings."""

MAX_SUBSTREAMS = 8 * (1 + 8)
"""Most frames of E-AC-3 for one time (ETSI TS 102 366 §E.1.3.1): eight, and eight that depend on each."""


class FrameFacts(NamedTuple):
    """The parsed header of an audio frame.

    Attributes:
        size: bytes of the frame.
        header: bytes of the header that MP4 samples don't have.
        samples: per channel.
        rate: in Hz.
        kind: fields that never change within a stream.
        continues: whether the frame extends the one before, as a dependent substream does.
    """

    size: int
    header: int
    samples: int
    rate: int
    kind: tuple[int, ...]
    continues: bool = False


Parse = Callable[[bytes], FrameFacts]
"""Parses the header of a frame from its first bytes; raises MalformedError if there is none."""


@dataclass(frozen=True, slots=True)
class SoundCoding:
    """An audio coding and its frame syntax.

    Attributes:
        codec: its codec ID in Matroska.
        sync: the two bytes with which each frame begins.
    """

    codec: str
    name: str
    parse: Parse
    sync: re.Pattern[bytes]

    def next_sync(self, data: bytes, at: int) -> int:
        """Find the next offset at which a frame may begin, which may be the last byte.

        Parsing at each byte before it would cost an exception each.
        """
        found = self.sync.search(data, at)
        return found.start() if found else max(at, len(data) - 1)


def _adts(data: bytes) -> FrameFacts:
    if data[1] & 0xF6 != 0xF0:  # of MPEG audio, maybe, but it is garbage here
        raise MalformedError("no frame of AAC")
    found = parse_frame_header(data)
    if found.samples != 1024:
        raise UnsupportedError("frames of AAC with several blocks of data")
    if not found.channels:
        raise UnsupportedError("AAC with its channels in a program configuration element")
    kind = found.version, found.sample_rate, found.channels
    return FrameFacts(found.size, 7 if data[1] & 1 else 9, found.samples, found.sample_rate, kind)


def _mp3(data: bytes) -> FrameFacts:
    found = parse_frame_header(data)
    if found.codec != "mp3":
        raise MalformedError("no frame of MP3")
    kind = found.version, found.sample_rate, found.channels
    return FrameFacts(found.size, 0, found.samples, found.sample_rate, kind)


def _ac3(data: bytes) -> FrameFacts:
    """Read the header of a frame of AC-3 (ETSI TS 102 366 §4.3)."""
    if data[:2] != b"\x0b\x77" or data[4] >> 6 == 3 or data[4] & 63 >= 38 or data[5] >> 3 > 10:
        raise MalformedError("no frame of AC-3")
    rate, kilobits = _AC3_RATES[data[4] >> 6], _AC3_KILOBITS[(data[4] & 63) >> 1]
    words = kilobits * 1000 * 1536 // (16 * rate) + (data[4] & 1 if rate == 44_100 else 0)
    mode = data[6] >> 5
    return FrameFacts(2 * words, 0, 1536, rate, (rate, mode))


def _eac3(data: bytes) -> FrameFacts:
    """Read the header of a frame of E-AC-3 (ETSI TS 102 366 §E.1.2)."""
    if data[:2] != b"\x0b\x77" or not 10 < data[5] >> 3 <= 16:
        raise MalformedError("no frame of E-AC-3")
    stream, substream = data[2] >> 6, data[2] >> 3 & 7
    rate = data[4] >> 6
    if rate == 3 or data[4] >> 4 & 3 != 3:
        raise UnsupportedError("E-AC-3 whose frames have less than six blocks")
    continues = stream == 1 or substream > 0
    size = 2 * ((data[2] & 7) << 8 | data[3]) + 2
    mode = data[4] >> 1 & 7
    return FrameFacts(size, 0, 1536, _AC3_RATES[rate], (rate, mode), continues)


_AC3_SYNC = re.compile(rb"\x0b\x77")
AAC = SoundCoding("A_AAC", "AAC", _adts, re.compile(rb"\xff[\xf0\xf1\xf8\xf9]"))
MP3 = SoundCoding("A_MPEG/L3", "MP3", _mp3, re.compile(rb"\xff[\xe0-\xff]"))
AC3 = SoundCoding("A_AC3", "AC-3", _ac3, _AC3_SYNC)
EAC3 = SoundCoding("A_EAC3", "E-AC-3", _eac3, _AC3_SYNC)

SOUND_CODINGS: Mapping[int, SoundCoding] = {
    StreamType.MPEG1_AUDIO: MP3,
    StreamType.MPEG2_AUDIO: MP3,
    StreamType.AAC: AAC,
    StreamType.AC3: AC3,
    StreamType.EAC3: EAC3,
}
"""By stream type."""


def sound_track(number: int, coding: SoundCoding, first: FrameFacts) -> MatroskaTrack:
    """Describe a track of frames to ``codec_facts``.

    Args:
        first: header of the first frame.
    """
    private = b""
    if coding is AAC:
        # ISO/IEC 14496-3 §1.6.2.1: ADTS's profile is the object type less 1.
        profile, rate, channels = first.kind
        private = write_audio_specific_config(profile + 1, rate, channels)
    # The channels of AC-3 and E-AC-3 are in the configuration of the sample entry.
    channels = first.kind[-1] if coding in (AAC, MP3) else 2
    return MatroskaTrack(number, AUDIO, coding.codec, private, sample_rate=first.rate, channels=channels)


class SoundFrames:
    """Locates the frames of an audio stream, without I/O.

    Args:
        skipped_bytes: most bytes that are no frames, beyond the bytes of frames.

    Attributes:
        offsets: where in the elementary stream each frame's MP4 sample begins.
        sizes: bytes of these samples.
        units: number of the unit in which each frame begins.
        laced: index of each frame among those that begin in its unit.
        facts: header of the first frame; None before it.
        first: the first frame's MP4 sample.
    """

    def __init__(self, coding: SoundCoding, skipped_bytes: int) -> None:
        self._coding, self._skipped_bytes = coding, skipped_bytes
        self._pending = b""
        self._position = 0
        self._skipped = 0
        self._is_synchronised = False
        self._substreams = 0
        self._bounds: list[tuple[int, int]] = []
        self.offsets, self.sizes = array("q"), array("I")
        self.units, self.laced = array("I"), array("I")
        self.facts: FrameFacts | None = None
        self.first = b""

    def __len__(self) -> int:
        return len(self.sizes)

    def push(self, data: bytes, unit: int) -> None:
        """Push the bytes of a PES unit.

        Raises:
            UnsupportedError: the bytes aren't frames of this coding, or the format changes.
        """
        if not data:
            return  # no frame begins in it
        self._bounds.append((self._position + len(self._pending), unit))
        pending = self._pending + data
        at = 0
        while (following := self._frame(pending, at)) is not None:
            at = following
        self._pending = pending[at:]
        self._position += at
        while len(self._bounds) > 1 and self._bounds[1][0] <= self._position:
            del self._bounds[0]

    def _frame(self, data: bytes, at: int) -> int | None:
        """Read the frame at an offset, or skip to the next; return None if more bytes are needed."""
        if at + _HEADER_BYTES > len(data):
            return None
        try:
            facts = self._coding.parse(data[at : at + _HEADER_BYTES])
            end = at + facts.size
            if end > len(data):
                return None
            if not self._is_synchronised:  # a header must be confirmed by the next one
                if end + _HEADER_BYTES > len(data):
                    return None
                self._coding.parse(data[end : end + _HEADER_BYTES])
        except (MalformedError, NeedMoreDataError):
            self._is_synchronised = False
            following = self._coding.next_sync(data, at + 1)
            self._skipped += following - at
            if self._skipped > self._skipped_bytes:
                raise UnsupportedError(f"no frames of {self._coding.name} in the audio") from None
            return following
        # The search goes on where it ended: starting again for each frame would cost more than the frames.
        self._is_synchronised, self._skipped = True, max(self._skipped - facts.size, 0)
        self._add(facts, data, at)
        return end

    def _add(self, facts: FrameFacts, data: bytes, at: int) -> None:
        self._substreams = self._substreams + 1 if facts.continues else 1
        if self._substreams > MAX_SUBSTREAMS:
            raise UnsupportedError(f"{self._coding.name} of more than {MAX_SUBSTREAMS} substreams")
        if facts.continues:
            if len(self.sizes) and self.offsets[-1] + self.sizes[-1] == self._position + at:
                self.sizes[-1] += facts.size
                self.first += data[at : at + facts.size] if len(self.sizes) == 1 else b""
            return
        if self.facts is None:
            self.facts = facts
            self.first = data[at + facts.header : at + facts.size]
        elif facts.kind != self.facts.kind:
            raise UnsupportedError(f"its {self._coding.name} changes its rate or its channels")
        place = self._position + at
        unit = next(unit for begin, unit in reversed(self._bounds) if begin <= place)
        is_next = len(self.units) > 0 and self.units[-1] == unit
        self.offsets.append(place + facts.header)
        self.sizes.append(facts.size - facts.header)
        self.units.append(unit)
        self.laced.append(self.laced[-1] + 1 if is_next else 0)
