"""Reads HLS playlists of other servers (RFC 8216bis §4), as far as fetching their segments needs. Pure.

All input is bounded. Playlists that violate the standard and valid ones that aren't supported are
distinguished.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from media.errors import MalformedError, TooLargeError, UnsupportedError

SPLIT_CHARACTERS = 64 << 10
"""Characters that are split into lines at once, as splitting holds the GIL."""

LARGEST_NUMBER = (1 << 63) - 1
"""Largest decimal integer; §4.2 allows twice that."""

IDENTITY = "identity"
"""§4.4.4.4: KEYFORMAT of plain keys."""

MAX_REASON = 200
"""Longest quotation of a playlist in an error."""

DURATIONS_KEPT = 256
"""Cached durations; most segments share a few."""

BYTE_ORDER_MARK = "\ufeff"

_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^",]*)(?:,|$)')
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,30})?", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)
_VECTOR = re.compile(r"0[xX]([0-9A-Fa-f]{1,32})")
_RANGE = re.compile(r"([0-9]{1,18})(?:@([0-9]{1,18}))?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaylistReaderLimits:
    """Limits of another server's playlist.

    Attributes:
        playlist_bytes: Largest one; a day of six-second segments is a tenth of that.
        lines: Most lines: a day of segments of two seconds, each with four lines, has 173,000.
        line_characters: Longest line; signed addresses have some hundreds.
        segments: Most segments; with more objects, a garbage collection would stop all threads for too long.
        segment_seconds: Longest segment, or target duration.
        key_formats: Most key formats at once; a segment for all DRM systems has four.
    """

    playlist_bytes: int = 4 << 20
    lines: int = 500_000
    line_characters: int = 16 << 10
    segments: int = 50_000
    segment_seconds: int = 600
    variants: int = 64
    key_formats: int = 16


DEFAULT_LIMITS = PlaylistReaderLimits()


@dataclass(frozen=True, slots=True)
class Key:
    """An AES-128 key: CBC with PKCS7 padding (§4.4.4.4).

    Attributes:
        uri: of the key, as in the playlist.
        iv: 16 bytes of initialization vector.
    """

    uri: str
    iv: bytes


@dataclass(frozen=True, slots=True)
class Resource:
    """A byte range to be fetched.

    Attributes:
        span: first byte and number of bytes; None for all.
        key: for decryption; None if not encrypted.
    """

    uri: str
    span: tuple[int, int] | None = None
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class ListedSegment:
    """A media segment of a playlist.

    Attributes:
        number: media sequence number.
        duration: seconds.
        map: its init segment; None without one.
        discontinuity: whether EXT-X-DISCONTINUITY precedes it.
        gap: whether it is missing (EXT-X-GAP).
    """

    number: int
    resource: Resource
    duration: Fraction
    map: Resource | None = None
    discontinuity: bool = False
    gap: bool = False


@dataclass(frozen=True, slots=True)
class MediaListing:
    """A parsed media playlist: segments, and whether more will come.

    Attributes:
        target_duration: seconds.
        ended: whether EXT-X-ENDLIST ends it.
        locked: an unsupported method of encryption; empty for none.
    """

    target_duration: int
    segments: tuple[ListedSegment, ...]
    ended: bool
    locked: str = ""


@dataclass(frozen=True, slots=True)
class ListedVariant:
    """A variant of a multivariant playlist.

    Attributes:
        bandwidth: bits per second.
        audio: URIs of its audio renditions, the default first; none if audio is muxed in.
    """

    uri: str
    bandwidth: int
    audio: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VariantListing:
    """A multivariant playlist; it has at least one variant."""

    variants: tuple[ListedVariant, ...]


def read_playlist(
    data: bytes, limits: PlaylistReaderLimits = DEFAULT_LIMITS
) -> MediaListing | VariantListing:
    """Read a playlist; takes up to a second for the longest.

    Raises:
        MalformedError: the text isn't a playlist, or violates a rule that matters for fetching segments.
        UnsupportedError: the playlist uses EXT-X-DEFINE or EXT-X-SKIP.
        TooLargeError: a limit is exceeded.
    """
    if len(data) > limits.playlist_bytes:
        raise TooLargeError(f"a playlist of more than {limits.playlist_bytes} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError("a playlist that isn't UTF-8") from error
    if text.count("\n") > limits.lines:
        raise TooLargeError(f"a playlist of more than {limits.lines} lines")
    # §4.1: no byte order mark; some servers write one all the same.
    lines = _lines(text.removeprefix(BYTE_ORDER_MARK))
    if not re.match(r"#EXTM3U(?:[ \t]|$)", lines[0]):
        raise MalformedError("no #EXTM3U")
    if "\0" in text:
        raise MalformedError("a playlist with a NUL")
    if any(len(line) > limits.line_characters for line in lines):
        raise TooLargeError(f"a line of more than {limits.line_characters} characters")
    for tag in ("#EXT-X-DEFINE", "#EXT-X-SKIP"):
        if tag in text and any(line.startswith(tag) for line in lines):
            raise UnsupportedError(f"a playlist with {tag[1:]}")
    if "#EXT-X-STREAM-INF:" in text and any(line.startswith("#EXT-X-STREAM-INF:") for line in lines):
        return _variants(lines, limits)
    return _MediaReader(limits).read(lines)


def _lines(text: str) -> list[str]:
    """Split a text into lines, in portions."""
    lines: list[str] = []
    start = 0
    while start <= len(text):
        end = text.find("\n", start + SPLIT_CHARACTERS)
        end = len(text) if end < 0 else end
        lines += [line.strip(" \t\r") for line in text[start:end].split("\n")]
        start = end + 1
    return lines


def _variants(lines: list[str], limits: PlaylistReaderLimits) -> VariantListing:
    groups: dict[str, list[tuple[bool, str]]] = {}
    count = 0
    found: list[tuple[str, int, str | None]] = []
    pending: Mapping[str, str] | None = None
    for line in lines:
        name, _, rest = line.partition(":")
        if name == "#EXT-X-MEDIA":
            told = attributes(rest)
            if told.get("TYPE") == "AUDIO" and "URI" in told:
                default = told.get("DEFAULT") == "YES"
                groups.setdefault(told.get("GROUP-ID", ""), []).append((default, told["URI"]))
                count += 1
        elif name == "#EXT-X-STREAM-INF":
            pending = attributes(rest)
        elif line and not line.startswith("#") and pending is not None:
            bandwidth = _number(pending.get("BANDWIDTH", ""), "BANDWIDTH")
            found.append((line, bandwidth, pending.get("AUDIO")))
            pending = None
            count += 1
        if count > limits.variants:
            raise TooLargeError(f"more than {limits.variants} variants and renditions")
    if not found:
        raise MalformedError("EXT-X-STREAM-INF without an address")
    return VariantListing(
        tuple(
            ListedVariant(uri, bandwidth, _by_default(groups.get(group or "", [])))
            for uri, bandwidth, group in found
        )
    )


def _by_default(renditions: list[tuple[bool, str]]) -> tuple[str, ...]:
    return tuple(uri for _, uri in sorted(renditions, key=lambda one: not one[0]))


class _MediaReader:
    """Reads the lines of a media playlist."""

    def __init__(self, limits: PlaylistReaderLimits) -> None:
        self._limits = limits
        self._target_duration = 0
        self._first_number = 0
        self._segments: list[ListedSegment] = []
        self._ended = False
        self._locked = ""
        # The keys in force, by KEYFORMAT (§4.4.4.4).
        self._keys: dict[str, Mapping[str, str]] = {}
        self._map: Resource | None = None
        self._duration: Fraction | None = None
        self._range: str | None = None
        self._discontinuity = self._gap = False
        # §4.4.4.2: a range without an offset begins where the previous range of the same resource ended.
        self._ends: dict[str, int] = {}

    def read(self, lines: list[str]) -> MediaListing:
        for line in lines:
            if line.startswith("#EXT"):
                self._tag(*line.partition(":")[::2])
            elif line and not line.startswith("#"):
                self._address(line)
        if not self._target_duration:
            raise MalformedError("no EXT-X-TARGETDURATION")
        return MediaListing(self._target_duration, tuple(self._segments), self._ended, self._locked)

    def _tag(self, name: str, rest: str) -> None:
        match name:
            case "#EXTINF":
                self._duration = _seconds(rest.partition(",")[0].strip(), self._limits.segment_seconds)
            case "#EXT-X-BYTERANGE":
                self._range = rest
            case "#EXT-X-DISCONTINUITY":
                self._discontinuity = True
            case "#EXT-X-GAP":
                self._gap = True
            case "#EXT-X-MAP":
                self._map = self._init(attributes(rest))
            case "#EXT-X-KEY":
                self._lock(attributes(rest))
            case "#EXT-X-TARGETDURATION":
                # §4.4.3.1: an integer; some servers write a fraction.
                told = _seconds(rest.strip(), self._limits.segment_seconds)
                self._target_duration = max(int(told + Fraction(1, 2)), 1)
            case "#EXT-X-MEDIA-SEQUENCE":
                if self._segments:  # §4.4.3.2
                    raise MalformedError("EXT-X-MEDIA-SEQUENCE behind a segment")
                self._first_number = _number(rest.strip(), "EXT-X-MEDIA-SEQUENCE")
            case "#EXT-X-ENDLIST":
                self._ended = True

    def _address(self, uri: str) -> None:
        if self._duration is None:  # §4.4.4.1: required for each segment
            raise MalformedError("a segment without EXTINF")
        if len(self._segments) >= self._limits.segments:
            raise TooLargeError(f"a playlist of more than {self._limits.segments} segments")
        number = self._first_number + len(self._segments)
        self._segments.append(
            ListedSegment(
                number=number,
                resource=Resource(uri, self._span(uri, self._range), self._key(number)),
                duration=self._duration,
                map=self._map,
                discontinuity=self._discontinuity,
                gap=self._gap,
            )
        )
        self._duration = self._range = None
        self._discontinuity = self._gap = False

    def _init(self, told: Mapping[str, str]) -> Resource:
        if "URI" not in told:
            raise MalformedError("EXT-X-MAP without URI")
        return Resource(told["URI"], self._span(told["URI"], told.get("BYTERANGE")), self._key(None))

    def _lock(self, told: Mapping[str, str]) -> None:
        if told.get("METHOD") == "NONE":
            self._keys.clear()
        else:
            self._keys[told.get("KEYFORMAT", IDENTITY)] = told
            if len(self._keys) > self._limits.key_formats:
                raise TooLargeError(f"keys of more than {self._limits.key_formats} formats at once")

    def _key(self, number: int | None) -> Key | None:
        """Return the key in force for a segment's number; None stands for an init segment."""
        if not self._keys:
            return None
        told = self._keys.get(IDENTITY, {})
        if told.get("METHOD") != "AES-128" or "URI" not in told:
            if not self._locked:
                method = told.get("METHOD") or next(iter(self._keys.values())).get("METHOD", "none")
                self._locked = f"{method} of {', '.join(self._keys)}"[:MAX_REASON]
            return None
        vector = _VECTOR.fullmatch(told.get("IV", "" if number is None else f"0x{number:x}"))
        if vector is None:  # §4.4.4.5: an init segment needs one; §5.2: a segment's is else its number
            raise MalformedError("EXT-X-KEY without an initialization vector")
        return Key(told["URI"], int(vector[1], 16).to_bytes(16, "big"))

    def _span(self, uri: str, told: str | None) -> tuple[int, int] | None:
        if told is None:
            return None
        found = _RANGE.fullmatch(told.strip())
        if found is None or int(found[1]) == 0:
            raise MalformedError("an invalid byte range")
        begin = self._ends.get(uri, 0) if found[2] is None else int(found[2])
        self._ends[uri] = begin + int(found[1])
        return begin, int(found[1])


def attributes(text: str) -> dict[str, str]:
    """Read an attribute list (§4.2), without the quotes of quoted-strings.

    Raises:
        MalformedError: the text is no attribute list.
    """
    return {name: value.strip('"') for name, value in written_attributes(text).items()}


def written_attributes(text: str) -> dict[str, str]:
    """Read an attribute list (§4.2); quoted-strings keep their quotes, which tell them from numbers.

    Raises:
        MalformedError: the text is no attribute list.
    """
    return dict(attribute_pairs(text))


def attribute_pairs(text: str) -> Iterator[tuple[str, str]]:
    """Yield names and values of an attribute list (§4.2) as they are written, repeated names, too.

    Raises:
        MalformedError: the text is no attribute list.
    """
    position, text = 0, text.strip()
    while position < len(text):
        match = _ATTRIBUTE.match(text, position)
        if match is None:
            raise MalformedError("an invalid attribute list")
        yield match[1], match[2]
        position = match.end()
        while position < len(text) and text[position] == " ":
            position += 1  # some servers put spaces behind the commas


@functools.lru_cache(maxsize=DURATIONS_KEPT)
def _seconds(text: str, longest: int) -> Fraction:
    whole, _, places = text.partition(".")
    if not _SECONDS.fullmatch(text):
        raise MalformedError("an invalid duration")
    numerator, denominator = int(whole + places), 10 ** len(places)
    if numerator > longest * denominator:
        raise TooLargeError(f"a duration of more than {longest} seconds")
    return Fraction(numerator, denominator)


def _number(text: str, what: str) -> int:
    if not _NUMBER.fullmatch(text) or (number := int(text)) > LARGEST_NUMBER:
        raise MalformedError(f"{what} isn't a number")
    return number
