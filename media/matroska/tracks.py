"""Parser of the ``Tracks`` of a Matroska file (RFC 9559 §5.1.4)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from media.errors import MalformedError, TooLargeError
from media.matroska import element_ids as ids
from media.matroska.ebml import Element, children, real, text, unsigned
from media.mp4.codecs.colour import UNSPECIFIED, Colour

MAX_TRACKS = 64
MAX_PRIVATE_BYTES = 256 << 10
"""Largest configuration of a codec, which is copied into the init segment."""

MAX_TRACK_ELEMENTS = 4096
"""Most elements of all tracks, nested ones included; a track has some dozens."""

VIDEO, AUDIO, SUBTITLES = 1, 2, 17
"""Types of tracks (§5.1.4.1.3)."""

FOUR_CCS: Mapping[str, str] = {
    "V_MPEG4/ISO/AVC": "avc1",
    "V_MPEGH/ISO/HEVC": "hvc1",
    "V_AV1": "av01",
    "V_VP9": "vp09",
    "A_AAC": "mp4a",
    "A_OPUS": "Opus",
    "A_FLAC": "fLaC",
    "A_AC3": "ac-3",
    "A_EAC3": "ec-3",
}
"""FourCCs of the codecs that packets may have, by codec ID."""

_POSE_ERROR = 1.0
"""Degrees by which a right angle may be written wrongly."""

ZLIB, STRIPPED = 0, 3
"""Compression algorithms (§5.1.4.1.31.6); ``STRIPPED`` removes first bytes that all frames share."""


@dataclass(frozen=True, slots=True)
class MatroskaTrack:
    """A track as its ``TrackEntry`` describes it.

    Attributes:
        kind: ``VIDEO``, ``AUDIO``, ``SUBTITLES`` or another type.
        codec: codec ID, such as ``V_MPEG4/ISO/AVC``.
        enabled: whether the track is to be used.
        default: whether players choose the track by default.
        forced: whether the track has only text that viewers need who understand the spoken language.
        hearing_impaired: whether the track is for viewers who don't hear.
        visual_impaired: whether the track is for viewers who don't see.
        commentary: whether the track has comments on the film.
        dubbed: whether the file says that the track isn't in the language of the original.
        language: code of ISO 639-2, bibliographic.
        extended_language: BCP 47 tag, more specific than the code; empty without it.
        default_duration: nanoseconds of each frame; 0 if unknown.
        codec_delay: nanoseconds of the decoder's output before the audio begins.
        pixels: width and height as coded.
        crop: pixels that aren't shown at the left, the right, the top and the bottom.
        rotation: degrees clockwise by which the picture is to be turned: 0, 90, 180 or 270.
        is_mirrored: whether left and right are to be exchanged, before the picture is turned.
        display: width and height as shown, in units of which only the ratio matters; 0 if unknown.
        full_range: whether video samples use all values.
        sample_rate: of sound in Hz.
        bit_depth: bits of a sample of uncompressed sound; 0 if unknown.
        compression: algorithm by which frames are compressed; None if they aren't.
        stripped: first bytes of all frames, which the file's frames lack.
        dolby_vision: type and payload of the Dolby Vision configuration box; or None.
    """

    number: int
    kind: int
    codec: str
    private: bytes = b""
    enabled: bool = True
    default: bool = True
    forced: bool = False
    hearing_impaired: bool = False
    visual_impaired: bool = False
    commentary: bool = False
    dubbed: bool = False
    name: str = ""
    language: str = "eng"
    extended_language: str = ""
    default_duration: int = 0
    codec_delay: int = 0
    pixels: tuple[int, int] = (0, 0)
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)
    rotation: int = 0
    is_mirrored: bool = False
    display: tuple[int, int] = (0, 0)
    colour: Colour | None = None
    full_range: bool = False
    sample_rate: float = 8000.0
    channels: int = 1
    bit_depth: int = 0
    encrypted: bool = False
    compression: int | None = None
    stripped: bytes = b""
    dolby_vision: tuple[bytes, bytes] | None = None

    @property
    def cropped(self) -> tuple[int, int]:
        """Width and height in pixels of what is shown of the coded picture."""
        left, right, top, bottom = self.crop
        return self.pixels[0] - left - right, self.pixels[1] - top - bottom

    @property
    def shown_size(self) -> tuple[Fraction, Fraction]:
        """Width and height of a picture as shown; 0 if unknown."""
        width, height = self.cropped
        display = self.display if all(self.display) else self.cropped
        if not all((width, height, *display)):
            return Fraction(0), Fraction(0)
        shown = Fraction(display[0] * height, display[1])
        # ISO/IEC 14496-12 §8.3.2.2: both have 16 bits before the point
        fits = shown < 1 << 16 and height < 1 << 16
        return (shown, Fraction(height)) if fits else (Fraction(0), Fraction(0))


@dataclass(slots=True)
class _Room:
    """The budget of elements that may still be visited."""

    left: int = MAX_TRACK_ELEMENTS

    def count(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise TooLargeError(f"more than {MAX_TRACK_ELEMENTS} elements of tracks")


@dataclass(slots=True)
class _Values:
    """The children of a master element by ID; of several with one ID the first."""

    data: bytes
    room: _Room
    found: Mapping[int, Element]
    several: Sequence[Element] = field(default_factory=list)

    def number(self, kind: int, default: int = 0) -> int:
        one = self.found.get(kind)
        return default if one is None else unsigned(self.data, one)

    def real(self, kind: int, default: float) -> float:
        one = self.found.get(kind)
        return default if one is None else real(self.data, one)

    def text(self, kind: int, default: str = "") -> str:
        one = self.found.get(kind)
        return default if one is None else text(self.data, one)

    def data_of(self, kind: int) -> bytes:
        one = self.found.get(kind)
        return b"" if one is None else self.data[one.payload : one.end]

    def inside(self, kind: int) -> _Values:
        one = self.found.get(kind)
        return _Values(self.data, self.room, {}) if one is None else _values(self.data, one, self.room)


def _values(data: bytes, parent: Element, room: _Room) -> _Values:
    found: dict[int, Element] = {}
    several = list(children(data, parent.payload, parent.end))
    room.count(len(several))
    for one in several:
        found.setdefault(one.kind, one)
    return _Values(data, room, found, several)


def parse_tracks(data: bytes) -> tuple[MatroskaTrack, ...]:
    """Read the payload of a ``Tracks`` element.

    Raises:
        MalformedError: an element is cut off or impossible, or two tracks have the same number.
        TooLargeError: there are too many tracks or elements, or a track's configuration is too large.
    """
    entries = [one for one in children(data, 0, len(data)) if one.kind == ids.TRACK_ENTRY]
    if len(entries) > MAX_TRACKS:
        raise TooLargeError(f"{len(entries)} tracks: more than {MAX_TRACKS}")
    room = _Room()
    tracks = tuple([_track(_values(data, entry, room)) for entry in entries])
    if len({track.number for track in tracks}) != len(tracks):  # §5.1.4.1.1
        raise MalformedError("two tracks have the same number")
    return tracks


def _track(entry: _Values) -> MatroskaTrack:
    video, audio = entry.inside(ids.VIDEO), entry.inside(ids.AUDIO)
    encrypted, compression, stripped = _encodings(entry.inside(ids.CONTENT_ENCODINGS))
    rate = audio.real(ids.SAMPLING_FREQUENCY, 8000.0)
    if not 1 <= rate < 1 << 24:
        raise MalformedError(f"sound of {rate} Hz")
    rotation, is_mirrored = _pose(video.inside(ids.PROJECTION))
    return MatroskaTrack(
        number=entry.number(ids.TRACK_NUMBER),
        kind=entry.number(ids.TRACK_TYPE),
        codec=entry.text(ids.CODEC_ID),
        private=_bounded(entry.data_of(ids.CODEC_PRIVATE)),
        enabled=bool(entry.number(ids.FLAG_ENABLED, 1)),
        default=bool(entry.number(ids.FLAG_DEFAULT, 1)),
        forced=bool(entry.number(ids.FLAG_FORCED)),
        hearing_impaired=bool(entry.number(ids.FLAG_HEARING_IMPAIRED)),
        visual_impaired=bool(entry.number(ids.FLAG_VISUAL_IMPAIRED)),
        commentary=bool(entry.number(ids.FLAG_COMMENTARY)),
        dubbed=not entry.number(ids.FLAG_ORIGINAL, 1),
        name=entry.text(ids.NAME),
        language=entry.text(ids.LANGUAGE, "eng"),  # §5.1.4.1.19: the default is English
        extended_language=entry.text(ids.LANGUAGE_BCP47),
        default_duration=entry.number(ids.DEFAULT_DURATION),
        codec_delay=entry.number(ids.CODEC_DELAY),
        pixels=(video.number(ids.PIXEL_WIDTH), video.number(ids.PIXEL_HEIGHT)),
        crop=_crop(video),
        rotation=rotation,
        is_mirrored=is_mirrored,
        display=_display(video),
        colour=_colour(video.inside(ids.COLOUR)) if ids.COLOUR in video.found else None,
        full_range=video.inside(ids.COLOUR).number(ids.RANGE) == 2,
        sample_rate=rate,
        channels=audio.number(ids.CHANNELS, 1),
        bit_depth=audio.number(ids.BIT_DEPTH),
        encrypted=encrypted,
        compression=compression,
        stripped=stripped,
        dolby_vision=_dolby_vision(entry),
    )


def _bounded(configuration: bytes) -> bytes:
    if len(configuration) > MAX_PRIVATE_BYTES:
        raise TooLargeError(f"configuration of a codec of {len(configuration)} bytes")
    return configuration


def _display(video: _Values) -> tuple[int, int]:
    """Return the size as shown (§5.1.4.1.28.12), in pixels or in units of which only the ratio matters."""
    shown = video.number(ids.DISPLAY_WIDTH), video.number(ids.DISPLAY_HEIGHT)
    return (0, 0) if video.number(ids.DISPLAY_UNIT) > 3 else shown


def _crop(video: _Values) -> tuple[int, int, int, int]:
    """Return the pixels that aren't shown (§5.1.4.1.28.8); none where nothing else would be left."""
    kinds = ids.CROP_LEFT, ids.CROP_RIGHT, ids.CROP_TOP, ids.CROP_BOTTOM
    left, right, top, bottom = (video.number(kind) for kind in kinds)
    width, height = video.number(ids.PIXEL_WIDTH), video.number(ids.PIXEL_HEIGHT)
    fits = left + right < width and top + bottom < height
    return (left, right, top, bottom) if fits else (0, 0, 0, 0)


def _pose(projection: _Values) -> tuple[int, bool]:
    """Return by how many degrees clockwise a plane picture is turned, and whether it is mirrored before.

    §5.1.4.1.28.41: the roll is counter-clockwise, around the direction of view. A yaw by 180 degrees shows a
    plane from behind. Other poses are of pictures that surround the viewer.
    """
    yaw, pitch, roll = (projection.real(kind, 0.0) for kind in (ids.POSE_YAW, ids.POSE_PITCH, ids.POSE_ROLL))
    if projection.number(ids.PROJECTION_TYPE) or pitch or abs(yaw) not in (0, 180):
        return 0, False
    # Players turn pictures by right angles alone.
    quarters = round(roll / 90) if math.isfinite(roll) and abs(roll) <= 360 else 0
    if not abs(roll - 90 * quarters) <= _POSE_ERROR:
        quarters = 0
    return -90 * quarters % 360, yaw != 0


def _colour(colour: _Values) -> Colour:
    """Read the colour description (§5.1.4.1.28.16)."""
    kinds = ids.PRIMARIES, ids.TRANSFER_CHARACTERISTICS, ids.MATRIX_COEFFICIENTS
    return Colour(*(colour.number(kind, UNSPECIFIED) for kind in kinds))


def _encodings(encodings: _Values) -> tuple[bool, int | None, bytes]:
    """Return whether frames are encrypted, their compression, and their stripped bytes (§5.1.4.1.31)."""
    encrypted, compression, stripped = False, None, b""
    for one in encodings.several:
        if one.kind != ids.CONTENT_ENCODING:
            continue
        encoding = _values(encodings.data, one, encodings.room)
        if encoding.number(ids.CONTENT_ENCODING_TYPE) == 1:
            encrypted = True
            continue
        # §5.1.4.1.31.3: the private data are compressed, not the frames
        if not encoding.number(ids.CONTENT_ENCODING_SCOPE, 1) & 1:
            continue
        settings = encoding.inside(ids.CONTENT_COMPRESSION)
        algorithm = settings.number(ids.CONTENT_COMP_ALGO)
        if algorithm == STRIPPED and not stripped:
            stripped = settings.data_of(ids.CONTENT_COMP_SETTINGS)
        else:
            compression = algorithm
    return encrypted, compression, stripped


def _dolby_vision(entry: _Values) -> tuple[bytes, bytes] | None:
    """Find the configuration of Dolby Vision (§5.1.4.1.17), whose type is that of its box."""
    for one in entry.several:
        if one.kind == ids.BLOCK_ADDITION_MAPPING:
            mapping = _values(entry.data, one, entry.room)
            kind = mapping.number(ids.BLOCK_ADD_ID_TYPE).to_bytes(8, "big")[4:]
            if kind in (b"dvcC", b"dvvC"):
                return kind, _bounded(mapping.data_of(ids.BLOCK_ADD_ID_EXTRA_DATA))
    return None
