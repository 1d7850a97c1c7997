"""Positions of audio frames in an elementary stream, independent of PES packets."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from media.errors import MalformedError, MediaError, NeedMoreDataError, UnsupportedError
from media.matroska.tracks import AUDIO, MatroskaTrack
from media.mp3.frame import parse_frame_header
from media.mp4.codecs.audio_specific_config import (
    SAMPLE_RATES,
    audio_specific_config,
    core_frames,
    write_audio_specific_config,
)
from media.mp4.codecs.silence import AC3_KILOBITS, AC3_RATES
from media.ts.latm import HEADER_BYTES, read_latm_frame, shifted
from media.ts.packed_pcm import BLU_RAY_ORDERS, GROUP, PcmPacking, blu_ray_packing, disc_packing
from media.ts.tables import StreamType

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

FRAMES_OF_SOUND = 64
"""With so many frames a stream is sound, whatever else is in it."""

BIG_PCM = "A_PCM/INT/BIG"
"""The codec ID of PCM whose first byte is the highest."""

_BLU_RAY_RATES = {1: 48_000, 4: 96_000, 5: 192_000}
_DISC_RATES = (48_000, 96_000, 44_100, 32_000)
_FRAMES_PER_SECOND = 100
"""Frames into which PCM is cut, a second."""

MAX_FORMATS = 64
"""Most formats of a stream that are known; frames of further ones are left out."""

MAX_SUBSTREAMS = 8 * (1 + 8)
"""Most frames of E-AC-3 for one time (ETSI TS 102 366 §E.1.3.1): eight, and eight that depend on each."""


class FrameFacts(NamedTuple):
    """The parsed header of an audio frame.

    Attributes:
        size: bytes of the frame.
        header: bytes of the header that MP4 samples don't have.
        samples: per channel.
        rate: in Hz.
        kind: its format: the sampling rate first of codings that are self-describing.
        continues: whether the frame extends the one before, as a dependent substream does.
        obstacle: why MP4 can't have the frame; empty if it can.
        is_alike: whether it has the format of the frame before, and doesn't say which that is.
        shift: bits of the byte behind the header that don't belong to the MP4 sample, below 8.
        length: bytes of the MP4 sample; 0: all behind the header.
    """

    size: int
    header: int
    samples: int
    rate: int
    kind: tuple[int, ...]
    continues: bool = False
    obstacle: str = ""
    is_alike: bool = False
    shift: int = 0
    length: int = 0

    @property
    def sample_bytes(self) -> int:
        """Bytes of the MP4 sample."""
        return self.length or self.size - self.header

    def sample(self, data: bytes, at: int) -> bytes:
        """Return the MP4 sample of the frame at an offset."""
        return shifted(data[at + self.header : at + self.size], self.shift, self.sample_bytes)


Parse = Callable[[bytes], FrameFacts]
"""Parses the header of a frame from its first bytes; raises MalformedError if there is none."""


@dataclass(frozen=True, slots=True)
class SoundCoding:
    """An audio coding and its frame syntax.

    Attributes:
        codec: its codec ID in Matroska.
        sync: the two bytes with which each frame begins.
        is_self_describing: whether a decoder takes the channels from each frame, in MP4, too.
        header_bytes: of a frame that hold what is parsed, as far as the frame has so many.
        packing: returns the order of the bytes of PCM by its format; None: they are in the usual order.
    """

    codec: str
    name: str
    parse: Parse
    sync: re.Pattern[bytes]
    is_self_describing: bool = False
    header_bytes: int = _HEADER_BYTES
    packing: Callable[[tuple[int, ...]], PcmPacking] | None = None

    def carried(self, data: bytes) -> FrameFacts:
        """Parse the header of a frame as `parse` does; raise UnsupportedError if MP4 can't have the frame."""
        facts = self.parse(data)
        if facts.obstacle:
            raise UnsupportedError(facts.obstacle)
        return facts

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
    kind: tuple[int, ...] = (found.version, found.sample_rate, found.channels)
    obstacle = ""
    if found.samples != 1024:
        obstacle, kind = "frames of AAC with several blocks of data", (*kind, found.samples)
    elif not found.channels:
        obstacle = "AAC with its channels in a program configuration element"
    header = 7 if data[1] & 1 else 9
    return FrameFacts(found.size, header, found.samples, found.sample_rate, kind, obstacle=obstacle)


def _latm(data: bytes) -> FrameFacts:
    """Read the header of a frame of AAC in LATM."""
    try:
        found = read_latm_frame(data)
    except UnsupportedError as error:
        size = 3 + (int.from_bytes(data[1:3], "big") & 0x1FFF)
        return FrameFacts(size, 3, 1024, SAMPLE_RATES[3], (0,), obstacle=str(error))
    header, shift = divmod(found.begin, 8)
    facts = FrameFacts(found.size, header, 1024, 0, (), is_alike=True, shift=shift, length=found.length)
    if found.config is None:
        return facts
    rate, samples = core_frames(found.config)
    if not rate:
        raise MalformedError("AAC without a sampling rate")
    return facts._replace(samples=samples, rate=rate, kind=tuple(found.config), is_alike=False)


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
    rate, kilobits = AC3_RATES[data[4] >> 6], AC3_KILOBITS[(data[4] & 63) >> 1]
    words = kilobits * 1000 * 1536 // (16 * rate) + (data[4] & 1 if rate == 44_100 else 0)
    mode = data[6] >> 5
    return FrameFacts(2 * words, 0, 1536, rate, (rate, mode))


def _eac3(data: bytes) -> FrameFacts:
    """Read the header of a frame of E-AC-3 (ETSI TS 102 366 §E.1.2)."""
    if data[:2] != b"\x0b\x77" or not 10 < data[5] >> 3 <= 16:
        raise MalformedError("no frame of E-AC-3")
    stream, substream = data[2] >> 6, data[2] >> 3 & 7
    number, blocks = data[4] >> 6, data[4] >> 4 & 3
    continues = stream == 1 or substream > 0
    size = 2 * ((data[2] & 7) << 8 | data[3]) + 2
    mode = data[4] >> 1 & 7
    if number == 3 or blocks != 3:
        # Table E2.3: a rate of half as much is where the number of blocks is else, which is six then.
        rate = AC3_RATES[blocks % 3] // 2 if number == 3 else AC3_RATES[number]
        samples = 256 * (6 if number == 3 else blocks + 1)
        told = "E-AC-3 whose frames have less than six blocks"
        return FrameFacts(size, 0, samples, rate, (rate, mode, samples), continues, told)
    return FrameFacts(size, 0, 1536, AC3_RATES[number], (AC3_RATES[number], mode), continues)


def _blu_ray_pcm(data: bytes) -> FrameFacts:
    """Read the header of a frame of PCM of a Blu-ray: its bytes, layout, rate and bits."""
    size, layout, form = int.from_bytes(data[:2], "big"), data[2] >> 4, data[3] >> 6
    rate, channels = _BLU_RAY_RATES.get(data[2] & 15), len(BLU_RAY_ORDERS.get(layout, ()))
    width = 2 if form == 1 else 3
    each = (channels + channels % 2) * width
    if rate is None or not channels or not form or not size or size % each:
        raise MalformedError("no frame of PCM")
    samples = size // each
    kind = rate, 8 * width, channels, layout
    return FrameFacts(size + 4, 4, samples, rate, kind, length=samples * channels * width)


_AC3_SYNC = re.compile(rb"\x0b\x77")
AAC = SoundCoding("A_AAC", "AAC", _adts, re.compile(rb"\xff[\xf0\xf1\xf8\xf9]"))
LATM = SoundCoding("A_AAC", "AAC in LATM", _latm, re.compile(rb"\x56[\xe0-\xff]"), header_bytes=HEADER_BYTES)
MP3 = SoundCoding("A_MPEG/L3", "MP3", _mp3, re.compile(rb"\xff[\xe0-\xff]"))
MPEG_AUDIO = SoundCoding("A_MPEG/L3", "MPEG audio", _mpeg_audio, re.compile(rb"\xff[\xe0-\xff]"))
DTS = SoundCoding("A_DTS", "DTS", _dts, re.compile(rb"\x7f\xfe|\x64\x58"), is_self_describing=True)
AC3 = SoundCoding("A_AC3", "AC-3", _ac3, _AC3_SYNC, is_self_describing=True)
EAC3 = SoundCoding("A_EAC3", "E-AC-3", _eac3, _AC3_SYNC, is_self_describing=True)
BLU_RAY_PCM = SoundCoding(
    *(BIG_PCM, "PCM", _blu_ray_pcm, re.compile(rb"[\x00-\x7f].", re.DOTALL)),
    packing=lambda kind: blu_ray_packing(kind[3], kind[1] // 8),
)

SOUND_CODINGS: Mapping[int, SoundCoding] = {
    StreamType.MPEG1_AUDIO: MP3,
    StreamType.MPEG2_AUDIO: MP3,
    StreamType.AAC: AAC,
    StreamType.LATM: LATM,
    StreamType.AC3: AC3,
    StreamType.EAC3: EAC3,
}
"""Codings that are packaged, by stream type."""

LIVE_SOUND_CODINGS = {kind: coding for kind, coding in SOUND_CODINGS.items() if coding is not MP3}
"""Codings that live channels copy, by stream type."""

ENCODED_SOUND_CODINGS: Mapping[int, SoundCoding] = dict.fromkeys(
    (StreamType.MPEG1_AUDIO, StreamType.MPEG2_AUDIO), MPEG_AUDIO
)
"""Further codings that live channels demux and ffmpeg encodes, by stream type."""

FILE_SOUND_CODINGS: Mapping[int, SoundCoding] = {
    **SOUND_CODINGS,
    **ENCODED_SOUND_CODINGS,
    **dict.fromkeys((StreamType.DTS, StreamType.DTS_HD, StreamType.DTS_HD_MASTER), DTS),
    StreamType.PCM: BLU_RAY_PCM,
}
"""Codings of files, by stream type; what can't be packaged of them is decoded."""


def disc_pcm(form: int) -> SoundCoding | None:
    """Return the coding of the PCM of a DVD, which has no frames: it is cut into some.

    Args:
        form: a byte with the bits of a sample, the rate and the channels.

    Returns:
        The coding; None where the byte has no valid number of bits.
    """
    bits, rate, channels = 16 + 4 * (form >> 6), _DISC_RATES[form >> 4 & 3], (form & 7) + 1
    if bits > 24:
        return None
    # The samples of a frame are whole groups.
    samples = rate // _FRAMES_PER_SECOND // GROUP * GROUP
    size, width = samples * channels * bits // 8, 2 if bits == 16 else 3
    kind = rate, 8 * width, channels
    facts = FrameFacts(size, 0, samples, rate, kind, length=samples * channels * width)
    packing = None if bits == 16 else disc_packing(bits, channels)
    return SoundCoding(
        *(BIG_PCM, "PCM", lambda _data: facts, re.compile(b"")),
        packing=None if packing is None else lambda _kind: packing,
    )


def recognized(data: bytes) -> SoundCoding | None:
    """Return the coding of the sound with which a PES packet begins; None if it is none that is known."""
    for coding in (AAC, AC3, EAC3):
        try:
            facts = coding.parse(data[:_HEADER_BYTES].ljust(_HEADER_BYTES, b"\0"))
            following = data[facts.size : facts.size + _HEADER_BYTES]
            if len(following) == _HEADER_BYTES:
                coding.parse(following)
        except MediaError:
            continue
        return coding
    return None


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
    if coding is LATM:
        private = bytes(first.kind)
        channels = audio_specific_config(private).channels
        return MatroskaTrack(number, AUDIO, coding.codec, private, sample_rate=first.rate, channels=channels)
    if coding.codec == BIG_PCM:
        bits, channels = first.kind[1:3]
        kind = number, AUDIO, BIG_PCM
        return MatroskaTrack(*kind, sample_rate=first.rate, channels=channels, bit_depth=bits)
    # The channels of AC-3 and E-AC-3 are in the configuration of the sample entry.
    channels = first.kind[-1] if coding in (AAC, MP3, MPEG_AUDIO, DTS) else 2
    codec = f"A_MPEG/L{first.kind[0]}" if coding is MPEG_AUDIO else coding.codec
    return MatroskaTrack(number, AUDIO, codec, private, sample_rate=first.rate, channels=channels)


@dataclass(slots=True)
class _SoundFormat:
    """A format that frames of a stream have.

    Attributes:
        facts: header of its first frame.
        first: its first frame's MP4 sample.
        samples: per channel, of all frames together.
        frames: how many of them there are so far.
    """

    number: int
    facts: FrameFacts
    first: bytes
    samples: int = 0
    frames: int = 0


class SoundFrames:
    """Locates the frames of an audio stream, without I/O.

    A track has one format. A recording off the air may change from stereo to 5.1 and back: what has the
    format for longest is the track, and the rest a pause.

    Args:
        skipped_bytes: most bytes that are no frames, beyond the bytes of frames; behind so many, frames of
            what has had enough of them are only looked for where units begin.

    Attributes:
        offsets: where in the elementary stream each frame's MP4 sample begins.
        sizes: bytes of these samples.
        units: number of the unit in which each frame begins.
        laced: index of each frame among those that begin in its unit.
        shifts: bits of the byte there that don't belong to the sample, of each frame.
        foreign: seconds of the frames whose format isn't the track's.
    """

    def __init__(self, coding: SoundCoding, skipped_bytes: int) -> None:
        self._coding, self._skipped_bytes = coding, skipped_bytes
        self._pending = b""
        self._position = 0
        self._skipped = 0
        self._is_synchronised = self._is_lost = False
        self._substreams = 0
        self._bounds: list[tuple[int, int]] = []
        self._formats: dict[tuple[int, ...], _SoundFormat] = {}
        self._numbers = array("B")
        self.foreign = Fraction(0)
        self.offsets, self.sizes = array("q"), array("I")
        self.units, self.laced, self.shifts = array("I"), array("I"), array("B")
        # The format of the newest frame.
        self._newest: _SoundFormat | None = None

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def packing(self) -> PcmPacking | None:
        """The order of the bytes of PCM; None where they are in the usual one."""
        main, packing = self._main, self._coding.packing
        return None if main is None or packing is None else packing(main.facts.kind)

    @property
    def facts(self) -> FrameFacts | None:
        """Header of the first frame of the track's format; None before any frame."""
        main = self._main
        return None if main is None else main.facts

    @property
    def first(self) -> bytes:
        """The MP4 sample of the first frame of the track's format."""
        main = self._main
        return b"" if main is None else main.first

    @property
    def _main(self) -> _SoundFormat | None:
        """The format that lasts longest of those that MP4 can have."""
        return max(
            self._formats.values(),
            key=lambda one: (not one.facts.obstacle, Fraction(one.samples, one.facts.rate)),
            default=None,
        )

    def choose_format(self) -> None:
        """Keep the frames of one format.

        Raises:
            UnsupportedError: there are no frames, or none that MP4 can have.
        """
        main = self._main
        if main is None:
            raise UnsupportedError("it has no samples")
        if main.facts.obstacle:
            raise UnsupportedError(main.facts.obstacle)
        foreign = [one for one in self._formats.values() if not self._is_kept(one.facts, main.facts)]
        if foreign:
            self.keep(~np.isin(np.asarray(self._numbers), [one.number for one in foreign]))
        self.foreign = sum((Fraction(one.samples, one.facts.rate) for one in foreign), Fraction(0))

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Keep some of the frames."""
        self.offsets, self.sizes, self.units, self.laced, self.shifts, self._numbers = (
            array(column.typecode, np.asarray(column)[kept].tobytes())
            for column in (self.offsets, self.sizes, self.units, self.laced, self.shifts, self._numbers)
        )

    def _is_kept(self, one: FrameFacts, main: FrameFacts) -> bool:
        described = self._coding.is_self_describing and one.rate == main.rate and not one.obstacle
        return one.kind == main.kind or described

    def push(self, data: bytes, unit: int) -> None:
        """Push the bytes of a PES unit.

        Raises:
            UnsupportedError: the bytes aren't frames of this coding, or frames have too many substreams.
        """
        if not data:
            return  # no frame begins in it
        if self._is_lost and not self._is_frame(data):
            self._position += len(data)
            return
        self._is_lost = False
        self._bounds.append((self._position + len(self._pending), unit))
        pending = self._pending + data
        at = 0
        while (following := self._frame(pending, at)) is not None:
            at = following
        if self._is_lost:
            at = len(pending)
        self._pending = pending[at:]
        self._position += at
        while len(self._bounds) > 1 and self._bounds[1][0] <= self._position:
            del self._bounds[0]

    def _is_frame(self, data: bytes) -> bool:
        """Return whether the bytes of a unit begin with a frame."""
        try:
            self._coding.parse(data[: self._coding.header_bytes].ljust(_HEADER_BYTES, b"\0"))
        except MediaError:
            return False
        return True

    def _frame(self, data: bytes, at: int) -> int | None:
        """Read the frame at an offset, or skip to the next; return None if more bytes are needed."""
        if at + _HEADER_BYTES > len(data):
            return None
        try:
            facts = self._coding.parse(data[at : at + self._coding.header_bytes])
            end = at + facts.size
            if end > len(data):
                return None
            if not self._is_synchronised:  # a header must be confirmed by the next one
                if end + _HEADER_BYTES > len(data):
                    return None
                self._coding.parse(data[end : end + self._coding.header_bytes])
        except (MalformedError, NeedMoreDataError):
            self._is_synchronised = False
            following = self._coding.next_sync(data, at + 1)
            self._skipped += following - at
            if self._skipped > self._skipped_bytes:
                if len(self) < FRAMES_OF_SOUND:
                    raise UnsupportedError(f"no frames of {self._coding.name} in the audio") from None
                self._is_lost = True
                return None
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
                first = next(one for one in self._formats.values() if one.number == self._numbers[-1])
                first.first += data[at : at + facts.size] if first.frames == 1 else b""
            return
        known = self._newest if facts.is_alike else self._formats.get(facts.kind)
        if known is None:
            if facts.is_alike or len(self._formats) == MAX_FORMATS:
                return
            sample = facts.sample(data, at)
            known = self._formats[facts.kind] = _SoundFormat(len(self._formats), facts, sample)
        self._newest = known
        known.samples += known.facts.samples
        known.frames += 1
        place = self._position + at
        unit = next(unit for begin, unit in reversed(self._bounds) if begin <= place)
        is_next = len(self.units) > 0 and self.units[-1] == unit
        self.offsets.append(place + facts.header)
        self.sizes.append(facts.sample_bytes)
        self.shifts.append(facts.shift)
        self._numbers.append(known.number)
        self.units.append(unit)
        self.laced.append(self.laced[-1] + 1 if is_next else 0)
