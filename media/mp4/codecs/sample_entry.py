"""Codecs of sample entries: the RFC 6381 string for players, and facts such as size and rate.

A sample entry (ISO/IEC 14496-12 §8.5.2) is a box whose type names the coding; the codec's own
configuration is a box inside it. QuickTime's two older layouts of sound entries are read, too.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from media.errors import MalformedError, TooLargeError, UnsupportedError
from media.mp4.boxes import box, header, walk
from media.mp4.codecs.audio_specific_config import (
    PARAMETRIC_STEREO,
    SBR,
    AudioSpecificConfig,
    audio_specific_config,
)
from media.mp4.codecs.clean_aperture import Aperture, read_clean_aperture
from media.mp4.codecs.colour import (
    UNSPECIFIED,
    Colour,
    colour_of_box,
    colour_of_configuration,
    usual_matrix,
)
from media.mp4.codecs.dolby import ac3_channels, dolby_vision, enhanced_ac3
from media.mp4.codecs.esds import MPEG1_AUDIO, MPEG2_AUDIO, MPEG4_AUDIO, VOBSUB, elementary_stream_box
from media.mp4.codecs.sequence_parameters import (
    avc_parameter_sets,
    avc_parameters,
    hevc_arrays,
    hevc_parameter_sets,
    hevc_parameters,
)

VIDEO_HEADER = 78
"""Bytes between a visual sample entry's box header and its boxes (§12.1.3)."""

SOUND_HEADER = 28
"""Bytes between an audio sample entry's box header and its boxes (§12.2.3)."""

TEXT_HEADER = 8
"""Bytes between the box header of another sample entry and its boxes (§8.5.2)."""

QUICKTIME_EXTRA = {0: 0, 1: 16, 2: 36}
"""Further bytes of QuickTime's sound descriptions before their boxes, by version."""


_RANGE_PLACE = 10
"""Offset of full_range_flag in ``colr`` (ISO/IEC 14496-12 §12.1.5)."""

READ_FOR_COLOUR = (b"avc1", b"avc3", b"hvc1", b"hev1")
"""Sample entries with the parameter sets in which the pictures' colours are, if they are tagged."""


@dataclass(frozen=True, slots=True)
class SampleEntry:
    """A parsed sample entry.

    Attributes:
        kind: the coding, such as ``b"avc1"``.
        codec: RFC 6381 string, such as ``avc1.64001f``.
        fixed: the fields in front of the boxes, in the layout of ISO/IEC 14496-12.
        boxes: the boxes that matter to a decoder or a renderer, whole.
        width: coded width in pixels, 0 for sound.
        height: coded height in pixels, 0 for sound.
        channels: of sound, 0 for video.
        sample_rate: of sound in Hz, 0 for video or when the entry doesn't say.
        supplemental_codec: of video with an enhancement: the RFC 6381 string of the better codec and the
            compatible brand, such as ``dvh1.08.07/db1p``.
        joc_complexity: objects of joint object coding (Dolby Atmos) in E-AC-3; 0 without it.
        colour: of video; None if neither the entry nor the decoder's configuration has it.
    """

    kind: bytes
    codec: str
    fixed: bytes
    boxes: tuple[bytes, ...]
    width: int = 0
    height: int = 0
    channels: int = 0
    sample_rate: int = 0
    supplemental_codec: str | None = None
    joc_complexity: int = 0
    colour: Colour | None = None
    coded_aspect: tuple[int, int] = (1, 1)

    @property
    def video_range(self) -> str:
        """SDR, HLG or PQ (RFC 8216bis §4.4.6.2); Dolby Vision that nothing else can show is PQ."""
        if self.kind in _BASE_LAYERS:
            return "PQ"
        return (self.colour or Colour()).video_range

    @property
    def brand(self) -> bytes | None:
        """The compatible brand of files with the supplemental codec."""
        codec = self.supplemental_codec
        return None if codec is None else codec.partition("/")[2].encode()

    @property
    def pixel_aspect(self) -> tuple[int, int]:
        """Proportion of a pixel's width to its height: by ``pasp`` (§12.1.4), or else by the codec."""
        for one in self.boxes:
            if one[4:8] == b"pasp" and len(one) >= 16:
                across, down = struct.unpack_from(">II", one, 8)
                return (across, down) if across and down else (1, 1)
        return self.coded_aspect

    def shown_at(self, display: tuple[Fraction, Fraction]) -> SampleEntry:
        """Return the entry with the pixels' shape by the size of a track header (§8.3.2), if that differs."""
        width, height = self.shown_pixels
        has_shape = any(one[4:8] == b"pasp" for one in self.boxes)
        is_square = display[0] == width and display[1] == height
        if has_shape or is_square or not all((*display, width, height)):
            return self
        ratio = (display[0] * height / (display[1] * width)).limit_denominator(1 << 16)
        return replace(self, coded_aspect=(ratio.numerator, ratio.denominator)) if ratio else self

    @property
    def aperture(self) -> Aperture | None:
        """The part of the picture that is shown; None if it is the whole picture."""
        for one in self.boxes:
            if one[4:8] == b"clap":
                return read_clean_aperture(payload_of(one), (self.width, self.height))
        return None

    @property
    def shown_pixels(self) -> tuple[int, int]:
        """Width and height in pixels of what is shown of the picture."""
        part = self.aperture
        return (self.width, self.height) if part is None else (part.width, part.height)

    @property
    def taken_colour(self) -> Colour | None:
        """The colours of video as players take them: untagged ones have the matrix of their size.

        None if only the pictures themselves may be tagged.
        """
        told = self.colour or Colour()
        is_untagged = told.matrix == UNSPECIFIED and told.video_range == "SDR"
        if not is_untagged or self.kind not in READ_FOR_COLOUR:
            return self.colour
        return replace(told, matrix=usual_matrix(self.shown_pixels))

    def payload(self, kind: bytes) -> bytes:
        """Return the payload of the entry's box of a type.

        Raises:
            MalformedError: the entry has no such box.
        """
        for one in self.boxes:
            if one[4:8] == kind:
                return payload_of(one)
        raise MalformedError(f"{self.codec} without {kind.decode('latin-1')}")

    def render(self) -> bytes:
        """Write an ISO sample entry that refers to the file's first data reference."""
        return box(self.kind, bytes(6), b"\x00\x01", self.fixed[8:], *self.boxes)


def parse_sample_entry(entry: bytes) -> SampleEntry:
    """Parse a sample entry.

    Raises:
        UnsupportedError: the coding can't be packaged, or is encrypted (ISO/IEC 23001-7).
        MalformedError: the codec's configuration is missing or cut off.
    """
    outer = header(entry, 0, len(entry))
    kind, body = outer.kind, entry[outer.payload : outer.end]
    if kind in (b"encv", b"enca"):
        raise UnsupportedError("encrypted media")
    if kind in _VIDEO:
        return _video(kind, body)
    if kind in _SOUND or kind in _QUICKTIME_MP3:
        return _sound(kind, body)
    name = _mp4v(body) if kind == b"mp4v" else OTHER_CODECS.get(kind)
    told = repr(kind.decode("latin-1")) if name is None else f"{name} ({kind.decode()})"
    raise UnsupportedError(f"codec {told} isn't one that can be packaged")


def _mp4v(body: bytes) -> str:
    """Return the name of the codec in an ``mp4v`` entry, which several codecs use, by the object type."""
    try:
        object_type, _ = _descriptors(payload_of(_boxes(body, VIDEO_HEADER)[b"esds"]))
    except (KeyError, MalformedError, TooLargeError):
        object_type = 0x20
    return _MP4V.get(object_type, "MPEG-4 Part 2 video")


def _video(kind: bytes, body: bytes) -> SampleEntry:
    if len(body) < VIDEO_HEADER:
        raise MalformedError(f"{kind.decode()}: sample entry cut off")
    width, height = struct.unpack_from(">HH", body, 24)
    boxes = _boxes(body, VIDEO_HEADER)
    # Compatible Dolby Vision is listed as its base layer, with Dolby Vision as the supplemental codec.
    dolby = next((dolby_vision(payload_of(boxes[name])) for name in _DOLBY_VISION if name in boxes), None)
    if kind in _BASE_LAYERS and dolby is not None and dolby.brand:
        kind = _BASE_LAYERS[kind]
    configuration, describe = _VIDEO[kind]
    if configuration not in boxes:
        raise MalformedError(f"{kind.decode()} without {configuration.decode()}")
    if configuration == b"hvcC":
        boxes[b"hvcC"] = _without_notes(boxes[b"hvcC"])
    codec, supplemental = describe(kind.decode(), payload_of(boxes[configuration])), None
    if kind in _BASE_LAYERS:
        if dolby is None:
            raise UnsupportedError(f"codec {kind.decode()} without dvcC or dvvC, which say of what profile")
        codec = dolby.codec(kind.decode())
    elif dolby is not None and dolby.brand is not None and kind in _ENHANCED:
        supplemental = f"{dolby.codec(_ENHANCED[kind])}/{dolby.brand.decode()}"
    kept = tuple(
        whole
        for name, whole in boxes.items()
        if name in (configuration, *_VIDEO_BOXES)
        # §12.1.5: of QuickTime's colour types only nclx is defined
        or (name == b"colr" and payload_of(whole)[:4] == b"nclx")
    )
    colr = payload_of(boxes[b"colr"]) if b"colr" in boxes else b""
    colour = colour_of_box(colr)
    if colour is None:
        colour = colour_of_configuration(configuration, payload_of(boxes[configuration]))
    fields = _optional_fields(configuration, payload_of(boxes[configuration]), colour or Colour(), colr)
    return SampleEntry(
        kind,
        codec + fields,
        body[:VIDEO_HEADER],
        kept,
        width,
        height,
        supplemental_codec=supplemental,
        colour=colour,
        coded_aspect=_coded_aspect(configuration, payload_of(boxes[configuration])),
    )


def _coded_aspect(kind: bytes, configuration: bytes) -> tuple[int, int]:
    """Return the proportion of a pixel's sides by the parameter sets of H.264 or HEVC; square without any."""
    try:
        if kind == b"avcC":
            return avc_parameters(avc_parameter_sets(configuration)[0]).pixel_aspect
        if kind == b"hvcC":
            units = (unit for number, unit in hevc_parameter_sets(configuration) if number == _HEVC_SEQUENCE)
            return hevc_parameters(next(units, b"")).pixel_aspect
    except MalformedError:
        pass  # whether the configuration is valid is for the decoder to judge
    return 1, 1


def without_parameter_sets(entry: SampleEntry) -> SampleEntry | None:
    """Convert ``hev1`` to ``hvc1`` (ISO/IEC 14496-15 §8.4.1.1), or ``avc3`` to ``avc1`` (§5.4.2.1).

    Apple's players require ``hvc1``. The caller must have checked that no sample has parameter sets of its
    own. Return None if the configuration lacks parameter sets, or the entry is of another kind.
    """
    kind = _WITH_SETS.get(entry.kind)
    avcc, hvcc = (
        next((payload_of(one) for one in entry.boxes if one[4:8] == name), b"") for name in (b"avcC", b"hvcC")
    )
    complete, told = bytearray(hvcc), set[int]()
    try:
        if kind is None or (avcc and len(avc_parameter_sets(avcc)) < 2):
            return None
        for begin, units in hevc_arrays(hvcc):
            complete[begin] |= 0x80  # §8.3.3.1.2: array_completeness
            if units:
                told.add(hvcc[begin] & 63)
    except MalformedError:
        return None
    if not avcc and not told >= _HEVC_SETS:
        return None
    supplemental = entry.supplemental_codec
    return replace(
        entry,
        kind=kind,
        codec=kind.decode() + entry.codec[4:],
        boxes=tuple(box(b"hvcC", complete) if one[4:8] == b"hvcC" else one for one in entry.boxes),
        supplemental_codec=None if supplemental is None else _ENHANCED[kind] + supplemental[4:],
    )


def _without_notes(hvcc: bytes) -> bytes:
    """Return a whole ``hvcC`` with parameter sets alone: encoders put notes about themselves into it, too."""
    payload = payload_of(hvcc)
    try:
        arrays = [(payload[begin], units) for begin, units in hevc_arrays(payload)]
    except MalformedError:
        return hvcc
    sets = [(head, units) for head, units in arrays if head & 63 in _HEVC_SETS]
    if len(sets) == len(arrays):
        return hvcc
    written = [payload[:22], bytes([len(sets)])]
    for head, units in sets:
        written.append(struct.pack(">BH", head, len(units)))
        written += [len(unit).to_bytes(2, "big") + unit for unit in units]
    return box(b"hvcC", b"".join(written))


_HEVC_SETS = {32, 33, 34}
"""NAL unit types of HEVC's parameter sets (ISO/IEC 23008-2 table 7-1)."""

_WITH_SETS = {b"hev1": b"hvc1", b"dvhe": b"dvh1", b"avc3": b"avc1"}
"""Kinds of sample entries whose samples may have parameter sets, and those whose samples may not."""


def _sound(kind: bytes, body: bytes) -> SampleEntry:
    if len(body) < SOUND_HEADER:
        raise MalformedError(f"{kind.decode()}: sample entry cut off")
    version, channels, rate = struct.unpack_from(">8xH6xH6xI", body)
    if version not in QUICKTIME_EXTRA:
        raise UnsupportedError(f"sound description of version {version}")
    sample_rate = rate >> 16
    if version == 2:  # QuickTime File Format, "Sound sample description (version 2)": rate as a double
        sample_rate, channels = version_2_format(body)
    start = SOUND_HEADER + QUICKTIME_EXTRA[version]
    boxes = _boxes(body, start)
    if b"wave" in boxes:  # QuickTime File Format, "siDecompressionParam atom": the esds is inside it
        boxes = {**_boxes(payload_of(boxes[b"wave"]), 0), **boxes}
    if kind in _QUICKTIME_MP3:
        mpeg1 = sample_rate >= 32000  # ISO/IEC 11172-3 §2.4.2.3; MPEG-2 has the lower ones
        kind, boxes = b"mp4a", {b"esds": elementary_stream_box(MPEG1_AUDIO if mpeg1 else MPEG2_AUDIO, b"")}
    configuration, describe = _SOUND[kind]
    if configuration is not None and configuration not in boxes:
        raise MalformedError(f"{kind.decode()} without {configuration.decode()}")
    payload = b"" if configuration is None else payload_of(boxes[configuration])
    codec, heard, joc = describe(kind.decode(), payload), sample_rate, 0
    # §12.2.3 allows 2 channels in any entry, and ETSI TS 102 366 §F.3 requires it; the codec's own
    # configuration is right.
    if kind == b"mp4a" and codec.startswith("mp4a.40."):
        config = _aac(payload)
        channels = config.channels or channels
        if config.object_type in (SBR, PARAMETRIC_STEREO):  # the entry has the rate of the core
            heard = config.sample_rate or sample_rate
    elif kind == b"ac-3":
        channels = ac3_channels(payload)
    elif kind == b"ec-3":
        enhanced = enhanced_ac3(payload)
        channels, joc = enhanced.channels, enhanced.joc_complexity
    fixed = bytes(16) + struct.pack(">HHII", channels, 16, 0, sample_rate << 16 & 0xFFFFFFFF)
    kept = () if configuration is None else (boxes[configuration],)
    return SampleEntry(kind, codec, fixed, kept, channels=channels, sample_rate=heard, joc_complexity=joc)


def version_2_format(body: bytes) -> tuple[int, int]:
    """Return the sampling rate in Hz and the channels of a sound description of version 2."""
    if len(body) < SOUND_HEADER + QUICKTIME_EXTRA[2]:
        raise MalformedError("sound description cut off")
    rate, channels = struct.unpack_from(">dI", body, 32)
    if not 0 < rate < 1 << 24 or not 0 < channels < 256:
        raise MalformedError(f"sound of {rate} Hz with {channels} channels")
    return int(rate), channels


def _boxes(body: bytes, start: int) -> dict[bytes, bytes]:
    """Cut the boxes out of a sample entry; of two of a kind the first counts."""
    boxes: dict[bytes, bytes] = {}
    for found in walk(body, min(start, len(body))):
        boxes.setdefault(found.kind, body[found.start : found.end])
    return boxes


def payload_of(whole: bytes) -> bytes:
    """Return the payload of a whole box."""
    return whole[header(whole, 0, len(whole)).payload :]


def _need(payload: bytes, length: int, name: str) -> None:
    if len(payload) < length:
        raise MalformedError(f"{name} of {len(payload)} bytes is cut off")


def _avc(kind: str, avcc: bytes) -> str:
    """Name H.264 by profile, constraints and level (RFC 6381 §3.3, ISO/IEC 14496-15 §5.3.3.1)."""
    _need(avcc, 7, "avcC")
    position = 6
    for parameter_set in range((avcc[5] & 31) + 1):  # each SPS, and the count of the PPSs behind them
        if parameter_set == avcc[5] & 31:
            _need(avcc, position + 1, "avcC")
            break
        _need(avcc, position + 2, "avcC")
        position += 2 + int.from_bytes(avcc[position : position + 2], "big")
    return f"{kind}.{avcc[1:4].hex()}"


def _hevc(kind: str, hvcc: bytes) -> str:
    """Name H.265 as ISO/IEC 14496-15 Annex E.3 does: profile, compatibility, tier and level, constraints."""
    _need(hvcc, 23, "hvcC")
    space = ("", "A", "B", "C")[hvcc[1] >> 6]
    tier = "H" if hvcc[1] & 0x20 else "L"
    # E.3: the 32 compatibility flags in reverse bit order, as hexadecimal without leading zeros
    compatibility = int(f"{int.from_bytes(hvcc[2:6], 'big'):032b}"[::-1], 2)
    constraints = hvcc[6:12].rstrip(b"\x00")  # E.3: trailing bytes that are zero may be left out
    parts = [kind, f"{space}{hvcc[1] & 31}", f"{compatibility:X}", f"{tier}{hvcc[12]}"]
    return ".".join(parts + [f"{byte:X}" for byte in constraints])


def _optional_fields(kind: bytes, configuration: bytes, colour: Colour, colr: bytes) -> str:
    """Return the fields of AV1's and VP9's codec strings that are left out where all have their default.

    Args:
        kind: ``av1C`` or ``vpcC``; others have no such fields.
        colr: payload of the entry's ``colr``, which has the range of its values; empty without one.
    """
    parts = (colour.primaries, colour.transfer, colour.matrix)
    is_full = len(colr) > _RANGE_PLACE and colr[:4] == b"nclx" and bool(colr[_RANGE_PLACE] & 0x80)
    if kind == b"vpcC":
        chroma, is_full = configuration[6] >> 1 & 7, is_full or bool(configuration[6] & 1)
        sampling, is_usual = f"{chroma:02d}", chroma in (0, 1)
        written = f"{int(is_full):02d}"
    elif kind == b"av1C":
        packed = configuration[2]
        mono, across, down, position = packed >> 4 & 1, packed >> 3 & 1, packed >> 2 & 1, packed & 3
        sampling, is_usual = (
            f"{mono}.{across}{down}{position if across and down else 0}",
            packed & 0x1C == 0x0C,
        )
        written = str(int(is_full))
    else:
        return ""
    if is_usual and not is_full and all(one in (1, UNSPECIFIED) for one in parts):
        return ""
    # Unspecified colours are written as BT.709, which the short form stands for.
    colours = ".".join(f"{1 if one == UNSPECIFIED else one:02d}" for one in parts)
    return f".{sampling}.{colours}.{written}"


def _av1(kind: str, av1c: bytes) -> str:
    """Name AV1 as "AV1 Codec ISO Media File Format Binding" §5 does, in its short form."""
    _need(av1c, 4, "av1C")
    profile, level = av1c[1] >> 5, av1c[1] & 31
    tier = "H" if av1c[2] & 0x80 else "M"
    high, twelve = av1c[2] & 0x40, av1c[2] & 0x20
    depth = (12 if profile == 2 and twelve else 10) if high else 8
    return f"{kind}.{profile}.{level:02d}{tier}.{depth:02d}"


def _vp9(kind: str, vpcc: bytes) -> str:
    """Name VP9 as "VP Codec ISO Media File Format Binding" does: profile, level, bit depth."""
    _need(vpcc, 8, "vpcC")  # a full box: version and flags come first
    return f"{kind}.{vpcc[4]:02d}.{vpcc[5]:02d}.{vpcc[6] >> 4:02d}"


def _mp4a(kind: str, esds: bytes) -> str:
    """Name MPEG-4 sound by object type, and AAC by audio object type (RFC 6381 §3.3)."""
    object_type, _ = _descriptors(esds)
    if object_type == 0x40:
        return f"{kind}.40.{_aac(esds).object_type}"
    if object_type in (0x66, 0x67, 0x68, 0x69, 0x6B):  # MPEG-2 AAC; MPEG-2 and MPEG-1 layer 3
        return f"{kind}.{object_type:02X}"
    name = {0xDD: "Vorbis", 0xA9: "DTS"}.get(object_type, f"object type 0x{object_type:02x}")
    raise UnsupportedError(f"codec {name} in mp4a isn't one that can be packaged")


def audio_decoder_configuration(entry: SampleEntry) -> bytes:
    """Return the AudioSpecificConfig of AAC in an ``mp4a`` sample entry.

    Raises:
        UnsupportedError: the entry has another codec, such as MP3.
        MalformedError: the entry has no configuration.
    """
    object_type, specific = _descriptors(entry.payload(b"esds"))
    if object_type != MPEG4_AUDIO:
        raise UnsupportedError(f"sound {entry.codec!r} that isn't AAC")
    if not specific:
        raise MalformedError(f"{entry.codec} without its configuration")
    return specific


def vobsub_configuration(entry: bytes) -> bytes:
    """Return the configuration of VobSub in an ``mp4s`` sample entry.

    Raises:
        UnsupportedError: the entry has another codec.
        MalformedError: the entry has no configuration.
    """
    outer = header(entry, 0, len(entry))
    esds = _boxes(entry[outer.payload : outer.end], TEXT_HEADER).get(b"esds")
    if esds is None:
        raise MalformedError("mp4s without esds")
    object_type, specific = _descriptors(payload_of(esds))
    if object_type != VOBSUB:
        raise UnsupportedError(f"object type 0x{object_type:02x} in mp4s")
    return specific


def _descriptors(esds: bytes) -> tuple[int, bytes]:
    """Find the object type and the decoder's specific data (ISO/IEC 14496-1 §7.2.6)."""
    _need(esds, 4, "esds")
    tag, body = _descriptor(esds, 4)
    if tag != 3:
        raise MalformedError("esds has no ES descriptor")
    _need(body, 3, "ES descriptor")
    flags, position = body[2], 3
    position += 2 if flags & 0x80 else 0  # §7.2.6.5: streamDependenceFlag
    if flags & 0x40:  # URL_Flag: a length and so many bytes
        _need(body, position + 1, "ES descriptor")
        position += 1 + body[position]
    position += 2 if flags & 0x20 else 0  # OCRstreamFlag
    tag, body = _descriptor(body, position)
    if tag != 4:
        raise MalformedError("esds has no decoder configuration")
    _need(body, 13, "decoder configuration")
    if len(body) == 13:
        return body[0], b""
    tag, specific = _descriptor(body, 13)
    return body[0], specific if tag == 5 else b""


def _descriptor(data: bytes, position: int) -> tuple[int, bytes]:
    """Read a tag, an expandable length of up to four bytes (ISO/IEC 14496-1 §8.3.3) and the body."""
    _need(data, position + 2, "descriptor")
    tag, length = data[position], 0
    for used in range(1, 5):
        _need(data, position + used + 1, "descriptor")
        byte = data[position + used]
        length = length << 7 | byte & 0x7F
        if not byte & 0x80:
            break
    start = position + used + 1
    _need(data, start + length, "descriptor")
    return tag, data[start : start + length]


def _aac(esds: bytes) -> AudioSpecificConfig:
    return audio_specific_config(_descriptors(esds)[1])


def _named(name: str) -> Callable[[str, bytes], str]:
    return lambda _kind, _payload: name


_VIDEO: Mapping[bytes, tuple[bytes, Callable[[str, bytes], str]]] = {
    b"avc1": (b"avcC", _avc),
    b"avc3": (b"avcC", _avc),
    b"hvc1": (b"hvcC", _hevc),
    b"hev1": (b"hvcC", _hevc),
    b"av01": (b"av1C", _av1),
    b"vp09": (b"vpcC", _vp9),
    b"dvh1": (b"hvcC", _hevc),
    b"dvhe": (b"hvcC", _hevc),
    b"dva1": (b"avcC", _avc),
    b"dvav": (b"avcC", _avc),
    b"dav1": (b"av1C", _av1),
}
OTHER_CODECS: Mapping[bytes, str] = {
    b"s263": "H.263",
    b"h263": "H.263",
    b"XVID": "MPEG-4 Part 2 video",
    b"DIVX": "MPEG-4 Part 2 video",
    b"SVQ1": "Sorenson video",
    b"SVQ3": "Sorenson video",
    b"cvid": "Cinepak",
    b"rle ": "QuickTime Animation",
    b"jpeg": "JPEG pictures",
    b"mjpa": "JPEG pictures",
    b"mjpb": "JPEG pictures",
    b"mjp2": "JPEG 2000 pictures",
    b"png ": "PNG pictures",
    b"apcn": "ProRes",
    b"apch": "ProRes",
    b"apcs": "ProRes",
    b"apco": "ProRes",
    b"ap4h": "ProRes",
    b"ap4x": "ProRes",
    b"AVdh": "DNxHR",
    b"AVdn": "DNxHD",
    b"dvcp": "DV",
    b"dvc ": "DV",
    b"dv5n": "DV",
    b"dv5p": "DV",
    b"dvh5": "DV",
    b"dvh6": "DV",
    b"m1v ": "MPEG-1 video",
    b"m1v1": "MPEG-1 video",
    b"m2v1": "MPEG-2 video",
    b"mpg2": "MPEG-2 video",
    b"hdv1": "MPEG-2 video",
    b"hdv2": "MPEG-2 video",
    b"hdv3": "MPEG-2 video",
    b"xdv2": "MPEG-2 video",
    b"xdv3": "MPEG-2 video",
    b"vp08": "VP8",
    b"vc-1": "VC-1",
    b"samr": "AMR",
    b"sawb": "AMR",
    b"dtsc": "DTS",
    b"dtse": "DTS",
    b"dtsh": "DTS",
    b"dtsl": "DTS",
    b"mlpa": "TrueHD",
    b"QDM2": "QDesign Music",
    b"ima4": "ADPCM",
    b"ms\0\2": "ADPCM",
    b"ms\0\x11": "ADPCM",
    b"alaw": "PCM of A-law",
    b"ulaw": "PCM of mu-law",
    b"nmos": "Nellymoser",
    b"spex": "Speex",
    **dict.fromkeys((b"raw ", b"sowt", b"twos", b"in24", b"in32", b"fl32", b"fl64"), "PCM"),
    **dict.fromkeys((b"lpcm", b"ipcm", b"fpcm"), "PCM"),
}
"""Names of codecs that aren't packaged, by the type of the sample entry."""

_MP4V: Mapping[int, str] = {
    **dict.fromkeys(range(0x60, 0x66), "MPEG-2 video"),
    0x6A: "MPEG-1 video",
    0x6C: "JPEG pictures",
    0x6D: "PNG pictures",
    0x6E: "JPEG 2000 pictures",
}
"""Codec names by object type (registration authority for MP4), beside 0x20 for MPEG-4 Part 2."""
_HEVC_SEQUENCE = 33
"""Type of NAL units that are sequence parameter sets (ISO/IEC 23008-2 table 7-1)."""

_DOLBY_VISION = (b"dvcC", b"dvvC", b"dvwC")
_VIDEO_BOXES = (b"pasp", b"clap", b"mdcv", b"clli", *_DOLBY_VISION)
"""Further boxes of a video entry that are kept: shapes of pixel and picture, mastering, Dolby Vision."""

_BASE_LAYERS = {b"dvh1": b"hvc1", b"dvhe": b"hev1", b"dva1": b"avc1", b"dvav": b"avc3", b"dav1": b"av01"}
"""Sample entries of Dolby Vision, and those of their base layers' codecs."""

_ENHANCED = {base: kind.decode() for kind, base in _BASE_LAYERS.items()}
_QUICKTIME_MP3 = (b".mp3", b"ms\0U")
"""QuickTime's types of MP3 (QuickTime File Format, "Sound sample descriptions"), without configuration."""

_SOUND: Mapping[bytes, tuple[bytes | None, Callable[[str, bytes], str]]] = {
    b"mp4a": (b"esds", _mp4a),
    b"Opus": (b"dOps", _named("Opus")),
    b"fLaC": (b"dfLa", _named("fLaC")),
    b"ac-3": (b"dac3", _named("ac-3")),
    b"ec-3": (b"dec3", _named("ec-3")),
    b"alac": (b"alac", _named("alac")),
}
