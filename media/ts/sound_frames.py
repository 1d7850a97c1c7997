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
from media.mp4.codecs.audio_specific_config import write_audio_specific_config
from media.ts.tables import StreamType

_AC3_KILOBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
"""Rates of AC-3 (ETSI TS 102 366 table 4.13), each by two values of frmsizecod."""

_AC3_RATES = (48_000, 44_100, 32_000)
_KILOBITS = {
    (True, 1): tuple(range(32, 449, 32)),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bitrates of MPEG-1 or lower sampling rates, by layer (ISO/IEC 11172-3 §2.4.2.3, 13818-3 §2.4.2.3)."""

_DTS_RATES = (0, 8000, 16000, 32000, 0, 0, 11025, 22050, 44100, 0, 0, 12000, 24000, 48000, 96000, 192000)
_DTS_CHANNELS = (1, 2, 2, 2, 2, 3, 3, 4, 4, 5, 6, 6, 6, 7, 8, 8)
"""ETSI TS 102 114 tables 5-5 and 5-4."""

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


def _mpeg_audio(data: bytes) -> FrameFacts:
    """Read the header of a frame of MPEG audio (ISO/IEC 11172-3 §2.4.1.3, 13818-3 §2.4.2.3)."""
    layer = 4 - (data[1] >> 1 & 3)
    if layer in (1, 2):
        return _lower_layer(data, layer)
    found = _mp3(data)
    return found._replace(kind=(layer, *found.kind))


def _lower_layer(data: bytes, layer: int) -> FrameFacts:
    """Read the header of a frame of layer I or II."""
    is_first, rate_index, number = data[1] >> 3 & 3 == 3, data[2] >> 4, data[2] >> 2 & 3
    if data[0] != 0xFF or data[1] >> 4 != 0xF or number == 3 or not 0 < rate_index < 15:
        raise MalformedError("no frame of MPEG audio")
    rate = (44_100, 48_000, 32_000)[number] >> (not is_first)
    bitrate = 1000 * _KILOBITS[is_first, layer][rate_index - 1]
    padding, channels = data[2] >> 1 & 1, 1 if data[3] >> 6 == 3 else 2
    size = 4 * (12 * bitrate // rate + padding) if layer == 1 else 144 * bitrate // rate + padding
    return FrameFacts(size, 0, 384 if layer == 1 else 1152, rate, (layer, is_first, rate, channels))


def _dts(data: bytes) -> FrameFacts:
    """Read the header of a frame of DTS (ETSI TS 102 114 §5.4.1), or of an extension behind it (§7.4.1)."""
    if data[:4] == b"\x64\x58\x20\x25":
        number = int.from_bytes(data[5:9], "big")
        size = (number >> 1 & 0xFFFFF if number >> 29 & 1 else number >> 5 & 0xFFFF) + 1
        return FrameFacts(size, 0, 0, 0, (), continues=True)
    rate = _DTS_RATES[data[8] >> 2 & 15]
    size = ((data[5] & 3) << 12 | data[6] << 4 | data[7] >> 4) + 1
    if data[:4] != b"\x7f\xfe\x80\x01" or not rate or size < 96:
        raise MalformedError("no frame of DTS")
    samples = 32 * (((data[4] & 1) << 6 | data[5] >> 2) + 1)
    mode = (data[7] & 15) << 2 | data[8] >> 6
    return FrameFacts(size, 0, samples, rate, (rate, _DTS_CHANNELS[mode] if mode < 16 else 8))


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
MPEG_AUDIO = SoundCoding("A_MPEG/L3", "MPEG audio", _mpeg_audio, re.compile(rb"\xff[\xe0-\xff]"))
DTS = SoundCoding("A_DTS", "DTS", _dts, re.compile(rb"\x7f\xfe|\x64\x58"))
AC3 = SoundCoding("A_AC3", "AC-3", _ac3, _AC3_SYNC)
EAC3 = SoundCoding("A_EAC3", "E-AC-3", _eac3, _AC3_SYNC)

SOUND_CODINGS: Mapping[int, SoundCoding] = {
    StreamType.MPEG1_AUDIO: MP3,
    StreamType.MPEG2_AUDIO: MP3,
    StreamType.AAC: AAC,
    StreamType.AC3: AC3,
    StreamType.EAC3: EAC3,
}
"""Codings that are packaged, by stream type."""

FILE_SOUND_CODINGS: Mapping[int, SoundCoding] = {
    **SOUND_CODINGS,
    **dict.fromkeys((StreamType.MPEG1_AUDIO, StreamType.MPEG2_AUDIO), MPEG_AUDIO),
    **dict.fromkeys((StreamType.DTS, StreamType.DTS_HD, StreamType.DTS_HD_MASTER), DTS),
}
"""Codings of files, by stream type; what can't be packaged of them is decoded."""


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
    channels = first.kind[-1] if coding in (AAC, MP3, MPEG_AUDIO, DTS) else 2
    codec = f"A_MPEG/L{first.kind[0]}" if coding is MPEG_AUDIO else coding.codec
    return MatroskaTrack(number, AUDIO, codec, private, sample_rate=first.rate, channels=channels)


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
