"""HLS playlists of others, read (RFC 8216bis §4): as much as it takes to fetch what they list. Pure.

Nobody vouches for them, so everything is bounded, and one that breaks the rules is told from one that is good
but has what we don't take.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from media.errors import MalformedError, UnsupportedError

MAX_PLAYLIST_BYTES = 4 << 20
"""Largest playlist; a day of six-second segments has a tenth of it."""

MAX_LINES = 500_000
"""Most lines: a day of segments of two seconds, each with four lines, has 173,000."""

MAX_SEGMENTS = 50_000
"""Most segments; while Python's collector looks through the objects of more of them, no thread goes on."""

SPLIT_CHARACTERS = 64 << 10
"""How much is cut into lines at once: no other thread runs meanwhile."""

MAX_LINE = 16 << 10
"""Most characters of a line: addresses with signatures have some hundreds."""

MAX_VARIANTS = 64
LONGEST_SEGMENT = 600
"""Seconds of a segment, or of a target duration."""

LARGEST_NUMBER = (1 << 63) - 1
"""§4.2 allows a bit more; nobody counts so far."""

IDENTITY = "identity"
"""§4.4.4.4: the KEYFORMAT of keys that are plain bytes."""

MAX_KEY_FORMATS = 16
"""How many may be in force at once; a segment for all systems of rights management has four."""

MAX_REASON = 200
"""Most characters of what is told of others' words."""

DURATIONS_KEPT = 256
"""How many different durations are kept as they are written; most segments have the same few."""

BYTE_ORDER_MARK = "\ufeff"

_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^",]*)(?:,|$)')
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,30})?", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)
_VECTOR = re.compile(r"0[xX]([0-9A-Fa-f]{1,32})")
_RANGE = re.compile(r"([0-9]{1,18})(?:@([0-9]{1,18}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Key:
    """With what something is encrypted: AES-128, CBC, PKCS7 padding (§4.4.4.4).

    Attributes:
        uri: of the 16 bytes, as the playlist writes it.
        iv: the initialization vector's 16 bytes.
    """

    uri: str
    iv: bytes


@dataclass(frozen=True, slots=True)
class Resource:
    """What is fetched: an address, relative to the playlist's, and of what is there these bytes.

    Attributes:
        uri: as the playlist writes it.
        span: first byte and number of bytes; None for all.
        key: with what they are encrypted; None for not at all.
    """

    uri: str
    span: tuple[int, int] | None = None
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class ListedSegment:
    """A media segment as a playlist lists it.

    Attributes:
        number: media sequence number.
        resource: where it is.
        duration: seconds.
        map: where its init segment is; None without one.
        discontinuity: whether EXT-X-DISCONTINUITY stands before it.
        gap: whether it isn't there (EXT-X-GAP).
    """

    number: int
    resource: Resource
    duration: Fraction
    map: Resource | None = None
    discontinuity: bool = False
    gap: bool = False


@dataclass(frozen=True, slots=True)
class MediaListing:
    """A media playlist that has been read.

    Attributes:
        target_duration: seconds.
        segments: in order.
        ended: whether nothing comes any more.
        locked: the method by which a segment is encrypted that isn't taken; empty for none.
    """

    target_duration: int
    segments: tuple[ListedSegment, ...]
    ended: bool
    locked: str = ""


@dataclass(frozen=True, slots=True)
class ListedVariant:
    """One variant of a multivariant playlist.

    Attributes:
        uri: of its media playlist.
        bandwidth: bits per second.
        audio: the addresses of its sound's own renditions, the default one first; none where it is with it.
    """

    uri: str
    bandwidth: int
    audio: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VariantListing:
    """A multivariant playlist; it has at least one variant."""

    variants: tuple[ListedVariant, ...]


def read_playlist(data: bytes) -> MediaListing | VariantListing:
    """Read a playlist.

    Args:
        data: all of it.

    Raises:
        MalformedError: it is none, or breaks a rule that what it lists hangs on.
        UnsupportedError: it is larger than anybody's, or uses variables (EXT-X-DEFINE) or a delta.

    It takes time: up to a second for the longest playlist.
    """
    if len(data) > MAX_PLAYLIST_BYTES:
        raise UnsupportedError(f"a playlist of more than {MAX_PLAYLIST_BYTES} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError("a playlist that isn't UTF-8") from error
    if text.count("\n") > MAX_LINES:
        raise UnsupportedError(f"a playlist of more than {MAX_LINES} lines")
    # §4.1: no byte order mark; some servers write one all the same.
    lines = _lines(text.removeprefix(BYTE_ORDER_MARK))
    if not re.match(r"#EXTM3U(?:[ \t]|$)", lines[0]):
        raise MalformedError("no #EXTM3U")
    if any(len(line) > MAX_LINE for line in lines) or "\0" in text:
        raise MalformedError(f"a line of more than {MAX_LINE} characters, or a NUL")
    for tag in ("#EXT-X-DEFINE", "#EXT-X-SKIP"):
        if tag in text and any(line.startswith(tag) for line in lines):
            raise UnsupportedError(f"a playlist with {tag[1:]}")
    if "#EXT-X-STREAM-INF:" in text and any(line.startswith("#EXT-X-STREAM-INF:") for line in lines):
        return _variants(lines)
    return _MediaReader().read(lines)


def _lines(text: str) -> list[str]:
    """Cut a text into lines, portion by portion."""
    lines: list[str] = []
    start = 0
    while start <= len(text):
        end = text.find("\n", start + SPLIT_CHARACTERS)
        end = len(text) if end < 0 else end
        lines += [line.strip(" \t\r") for line in text[start:end].split("\n")]
        start = end + 1
    return lines


def _variants(lines: list[str]) -> VariantListing:
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
        if count > MAX_VARIANTS:
            raise UnsupportedError(f"more than {MAX_VARIANTS} variants and renditions")
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
    """Reads the lines of one media playlist."""

    def __init__(self) -> None:
        self._target_duration = 0
        self._first_number = 0
        self._segments: list[ListedSegment] = []
        self._ended = False
        self._locked = ""
        # By KEYFORMAT, what is in force (§4.4.4.4).
        self._keys: dict[str, Mapping[str, str]] = {}
        self._map: Resource | None = None
        self._duration: Fraction | None = None
        self._range: str | None = None
        self._discontinuity = self._gap = False
        # §4.4.4.2: a range without an offset begins where the last one of that resource ended.
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
                self._duration = _seconds(rest.partition(",")[0].strip())
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
                self._target_duration = max(int(_seconds(rest.strip()) + Fraction(1, 2)), 1)
            case "#EXT-X-MEDIA-SEQUENCE":
                if self._segments:  # §4.4.3.2
                    raise MalformedError("EXT-X-MEDIA-SEQUENCE behind a segment")
                self._first_number = _number(rest.strip(), "EXT-X-MEDIA-SEQUENCE")
            case "#EXT-X-ENDLIST":
                self._ended = True

    def _address(self, uri: str) -> None:
        if self._duration is None:  # §4.4.4.1: required for each segment
            raise MalformedError("a segment without EXTINF")
        if len(self._segments) >= MAX_SEGMENTS:
            raise UnsupportedError(f"a playlist of more than {MAX_SEGMENTS} segments")
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
            if len(self._keys) > MAX_KEY_FORMATS:
                raise UnsupportedError(f"keys of more than {MAX_KEY_FORMATS} formats at once")

    def _key(self, number: int | None) -> Key | None:
        """Give the key in force; of a segment with a number, of an init segment without."""
        if not self._keys:
            return None
        told = self._keys.get(IDENTITY, {})
        if told.get("METHOD") != "AES-128" or "URI" not in told:
            if not self._locked:
                method = told.get("METHOD") or next(iter(self._keys.values())).get("METHOD", "none")
                self._locked = f"{method} of {', '.join(self._keys)}"[:MAX_REASON]
            return None
        vector = _VECTOR.fullmatch(told.get("IV", "" if number is None else f"0x{number:x}"))
        if vector is None:  # §4.4.4.5: an init segment's must be told; §5.2: a segment's is else its number
            raise MalformedError("EXT-X-KEY without an initialization vector")
        return Key(told["URI"], int(vector[1], 16).to_bytes(16, "big"))

    def _span(self, uri: str, told: str | None) -> tuple[int, int] | None:
        if told is None:
            return None
        found = _RANGE.fullmatch(told.strip())
        if found is None or int(found[1]) == 0:
            raise MalformedError("a byte range that is none")
        begin = self._ends.get(uri, 0) if found[2] is None else int(found[2])
        self._ends[uri] = begin + int(found[1])
        return begin, int(found[1])


def attributes(text: str) -> dict[str, str]:
    """Read an attribute list (§4.2), without the quotes of quoted-strings.

    Raises:
        MalformedError: it is none.
    """
    found: dict[str, str] = {}
    position, text = 0, text.strip()
    while position < len(text):
        match = _ATTRIBUTE.match(text, position)
        if match is None:
            raise MalformedError("an attribute list that is none")
        found[match[1]] = match[2].strip('"')
        position = match.end()
        while position < len(text) and text[position] == " ":
            position += 1  # some servers put spaces behind the commas
    return found


@functools.lru_cache(maxsize=DURATIONS_KEPT)
def _seconds(text: str) -> Fraction:
    whole, _, places = text.partition(".")
    if _SECONDS.fullmatch(text):
        numerator, denominator = int(whole + places), 10 ** len(places)
        if numerator <= LONGEST_SEGMENT * denominator:
            return Fraction(numerator, denominator)
    raise MalformedError("a duration that is none, or of more than ten minutes")


def _number(text: str, what: str) -> int:
    if not _NUMBER.fullmatch(text) or (number := int(text)) > LARGEST_NUMBER:
        raise MalformedError(f"{what} isn't a number")
    return number
