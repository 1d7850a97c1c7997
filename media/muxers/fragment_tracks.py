"""Conversion of codecs to fragmented MP4: sample entries, samples and durations.

A track begins with its first frame: some codecs have no configuration, or one without the picture's size.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from media.errors import MalformedError, TooLargeError, UnsupportedError
from media.matroska.frame_headers import flac_samples, opus_samples, vp9_configuration, vp9_size
from media.matroska.sample_entries import OPUS_RATE, codec_facts, visual_sample_entry
from media.matroska.tracks import AUDIO as SOUND_TRACK
from media.matroska.tracks import VIDEO as PICTURE_TRACK
from media.matroska.tracks import MatroskaTrack
from media.mp4.boxes import box
from media.mp4.codecs.av1 import begins_with_key_frame, find_sequence, without_delimiters
from media.mp4.codecs.colour import UNSPECIFIED, Colour
from media.mp4.codecs.random_access import Access, sample_starts
from media.mp4.codecs.sample_entry import SampleEntry, parse_sample_entry, without_parameter_sets
from media.mp4.codecs.sequence_parameters import hevc_parameter_sets, hevc_parameters
from media.mp4.fragments.track_fragmenter import FragmentTrack, begin_track
from media.muxers.matroska_muxer import flac_facts
from media.packets import StreamTrack, TrackKind
from media.stream_reader import CLOCK_RATE
from media.ts.sound_frames import AC3, EAC3, SoundCoding

TRACKS = {TrackKind.VIDEO: 1, TrackKind.AUDIO: 2}
"""StreamTrack IDs."""

MAX_CONFIGURATION = 8 << 10
"""Largest configuration in bytes; the usual ones have some hundred."""

MAX_UNITS = 64
"""Most NAL units of a picture that are searched for parameter sets, which precede its slices."""

_HEVC_SETS = range(32, 35)
_HEVC_SLICES = range(32)
"""Types of NAL units (ISO/IEC 23008-2 table 7-1)."""

_DOLBY_HEADER = 9
_MOST_DOLBY_FRAMES = 16
"""Most frames of E-AC-3 for one time: eight independent substreams and their dependent ones."""

_LONGEST_OPUS = 5760
"""Samples of the longest packet (RFC 6716 §3.4): 120 ms."""


@dataclass(frozen=True, slots=True)
class PictureCoder:
    """A video track that has begun.

    Attributes:
        as_sample: converts a frame to an MP4 sample, which is empty if the frame has no picture.
        can_begin: returns whether decoding can begin with a frame, regardless of the publisher's flag.
    """

    track: FragmentTrack
    as_sample: Callable[[bytes], bytes]
    can_begin: Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class SoundCoder:
    """An audio track that has begun.

    Attributes:
        samples: returns the number of samples in a frame; raises MediaError if it can't continue the track.
    """

    track: FragmentTrack
    samples: Callable[[bytes], int]


def picture_track(
    entry: bytes, size: tuple[int, int], pixel_aspect: tuple[int, int] = (1, 1), matrix: bytes = b""
) -> FragmentTrack:
    """Begin a video track.

    Args:
        size: width and height in pixels.
        pixel_aspect: how wide and how high a pixel is, in proportion.
        matrix: as in ``StreamTrack``.
    """
    shown = Fraction(size[0] * pixel_aspect[0], pixel_aspect[1]), Fraction(size[1])
    return begin_track(TRACKS[TrackKind.VIDEO], b"vide", CLOCK_RATE, entry, shown, matrix)


def picture_facts(
    codec: str,
    configuration: bytes,
    size: tuple[int, int],
    pixel_aspect: tuple[int, int] = (1, 1),
    colour: Colour | None = None,
) -> MatroskaTrack:
    """Describe a video track to ``codec_facts``; ``codec`` is an ID of Matroska."""
    display = size[0] * pixel_aspect[0], size[1] * pixel_aspect[1]
    return MatroskaTrack(
        TRACKS[TrackKind.VIDEO],
        PICTURE_TRACK,
        codec,
        configuration,
        pixels=size,
        display=display,
        colour=colour,
    )


def begin_picture(source: StreamTrack, frame: bytes) -> PictureCoder:
    """Begin a video track with its first key frame; the codec isn't H.264. Raises MediaError."""
    return _PICTURES[source.codec](source, _configuration_of(source), frame)


def begin_sound(source: StreamTrack, frame: bytes) -> SoundCoder:
    """Begin an audio track with its first frame; the codec isn't AAC. Raises MediaError."""
    return _SOUNDS[source.codec](_configuration_of(source), frame)


def check_copied(track: StreamTrack) -> None:
    """Check that a track's packets can be copied into fragments.

    Raises:
        UnsupportedError: the codec can't be copied.
    """
    if track.codec not in _CODECS[track.kind]:
        raise UnsupportedError(f"codec {track.codec!r} can't be copied into MP4")


def _configuration_of(source: StreamTrack) -> bytes:
    configuration = source.configuration or b""
    if len(configuration) > MAX_CONFIGURATION:
        raise TooLargeError(f"a configuration of {len(configuration)} bytes")
    return configuration


# Pictures


def _hevc(source: StreamTrack, configuration: bytes, _frame: bytes) -> PictureCoder:
    sets = hevc_parameter_sets(configuration)
    sequence = next((unit for kind, unit in sets if kind == 33), b"")
    if not sequence:
        raise MalformedError("hvcC without a sequence parameter set")
    told = hevc_parameters(sequence)
    aspect = source.pixel_aspect or told.pixel_aspect
    facts = picture_facts("V_MPEGH/ISO/HEVC", configuration, told.size, aspect)
    entry = codec_facts(facts, b"", 0.0).sample_entry
    parsed = parse_sample_entry(entry)
    complete, can_begin = without_parameter_sets(parsed), _looking(parsed)
    track_of = functools.partial(picture_track, size=told.size, pixel_aspect=aspect, matrix=source.matrix)
    if complete is None:
        return PictureCoder(track_of(entry), lambda frame: frame, can_begin)
    length_size = (configuration[21] & 3) + 1
    # ISO/IEC 14496-15 §8.4.1.1: samples of hvc1 mustn't repeat the sample entry's parameter sets.
    known = frozenset(unit for kind, unit in sets if kind in _HEVC_SETS)
    entry = box(complete.kind, complete.fixed, *complete.boxes)
    as_sample = functools.partial(_without_sets, known, length_size)
    return PictureCoder(track_of(entry), as_sample, can_begin)


def _looking(entry: SampleEntry) -> Callable[[bytes], bool]:
    """Return a function that checks whether decoding can begin with a frame."""
    look = sample_starts(entry)

    def can_begin(frame: bytes) -> bool:
        return look(len(frame), lambda at, size: frame[at : at + size]).access > Access.NONE

    return can_begin


def _without_sets(known: frozenset[bytes], length_size: int, frame: bytes) -> bytes:
    """Remove known parameter sets before a picture's slices."""
    kept, begin, at = list[bytes](), 0, 0
    for _ in range(MAX_UNITS):
        unit = at + length_size
        if unit >= len(frame) or (kind := frame[unit] >> 1 & 63) in _HEVC_SLICES:
            break
        end = unit + int.from_bytes(frame[at:unit], "big")
        if kind in _HEVC_SETS and frame[unit:end] in known:
            kept.append(frame[begin:at])
            begin = end
        at = end
    return b"".join([*kept, frame[begin:]]) if begin else frame


def _av1(source: StreamTrack, configuration: bytes, frame: bytes) -> PictureCoder:
    # "AV1 Codec ISO Media File Format Binding" §2.3: marker and version, then three bytes, then OBUs.
    if len(configuration) < 4 or configuration[0] != 0x81:
        raise MalformedError("AV1 without its configuration")
    found = find_sequence(configuration[4:])
    if found is None:
        found = find_sequence(frame)
        if found is None:
            raise MalformedError("AV1 without a sequence header")
        # The colours are in the sequence header.
        configuration = configuration[:4] + found[0]
    size = found[1].size
    aspect = source.pixel_aspect or (1, 1)
    entry = codec_facts(picture_facts("V_AV1", configuration, size, aspect), b"", 0.0).sample_entry
    track = picture_track(entry, size, aspect, source.matrix)
    return PictureCoder(track, without_delimiters, begins_with_key_frame)


def _vp9(source: StreamTrack, configuration: bytes, frame: bytes) -> PictureCoder:
    size, colour, aspect = vp9_size(frame), Colour(), source.pixel_aspect or (1, 1)
    is_told = len(configuration) >= 12 and configuration[:4] == b"\1\0\0\0"
    if is_told:
        colour = Colour(*configuration[7:10])
    numbers = colour.primaries, colour.transfer, colour.matrix
    made = vp9_configuration(frame, size, 0.0, numbers)
    # The publisher's configuration has the level by the frame rate, too.
    if is_told and (configuration[4], configuration[6] >> 1) == (made[4], made[6] >> 1):
        made = configuration[:10] + bytes(2)
    has_colour = numbers != (UNSPECIFIED,) * 3
    facts = picture_facts("V_VP9", b"", size, aspect, colour if has_colour else None)
    entry = visual_sample_entry(facts, b"vp09", box(b"vpcC", made))
    can_begin = _looking(parse_sample_entry(entry))
    track = picture_track(entry, size, aspect, source.matrix)
    return PictureCoder(track, lambda frame: frame, can_begin)


# Sound


def sound_track(codec: str, configuration: bytes, frame: bytes, rate: int, channels: int) -> FragmentTrack:
    """Begin an audio track; ``codec`` is an ID of Matroska."""
    told = MatroskaTrack(
        TRACKS[TrackKind.AUDIO], SOUND_TRACK, codec, configuration, sample_rate=rate, channels=channels
    )
    return begin_track(TRACKS[TrackKind.AUDIO], b"soun", rate, codec_facts(told, frame, 0.0).sample_entry)


def _opus(configuration: bytes, frame: bytes) -> SoundCoder:
    # RFC 7845 §5.1: of its version only the lower half may change.
    if configuration[:8] != b"OpusHead" or len(configuration) < 19 or configuration[8] > 15:
        raise MalformedError("Opus without its header")
    return SoundCoder(
        sound_track("A_OPUS", configuration, frame, OPUS_RATE, configuration[9]), _samples_of_opus
    )


def _samples_of_opus(frame: bytes) -> int:
    samples = opus_samples(frame)
    if not 0 < samples <= _LONGEST_OPUS:
        raise MalformedError(f"a packet of Opus of {samples} samples")
    return samples


def _flac(configuration: bytes, frame: bytes) -> SoundCoder:
    whole, rate, channels = flac_facts(configuration)
    return SoundCoder(sound_track("A_FLAC", whole, frame, rate, channels), flac_samples)


def _dolby(coding: SoundCoding, _configuration: bytes, frame: bytes) -> SoundCoder:
    first = coding.carried(frame[:_DOLBY_HEADER].ljust(_DOLBY_HEADER, b"\0"))
    samples = functools.partial(_samples_of_dolby, coding, first.kind)
    # The configuration has the channels.
    return SoundCoder(sound_track(coding.codec, b"", frame, first.rate, 2), samples)


def _samples_of_dolby(coding: SoundCoding, kind: tuple[int, ...], frame: bytes) -> int:
    samples = at = 0
    for _ in range(_MOST_DOLBY_FRAMES):
        facts = coding.carried(frame[at : at + _DOLBY_HEADER].ljust(_DOLBY_HEADER, b"\0"))
        if not facts.continues and facts.kind != kind:
            raise UnsupportedError(f"its {coding.name} changes its rate or its channels")
        samples += 0 if facts.continues else facts.samples
        at += facts.size
        if at >= len(frame):
            return samples
    raise TooLargeError(f"{coding.name} of too many frames at once")


_PICTURES: Mapping[str, Callable[[StreamTrack, bytes, bytes], PictureCoder]] = {
    "hvc1": _hevc,
    "av01": _av1,
    "vp09": _vp9,
}
_SOUNDS: Mapping[str, Callable[[bytes, bytes], SoundCoder]] = {
    "Opus": _opus,
    "fLaC": _flac,
    "ac-3": functools.partial(_dolby, AC3),
    "ec-3": functools.partial(_dolby, EAC3),
}
"""By FourCC; H.264 and AAC begin with their configurations alone."""

_CODECS = {
    TrackKind.VIDEO: frozenset({"avc1", *_PICTURES}),
    TrackKind.AUDIO: frozenset({"mp4a", *_SOUNDS}),
}
