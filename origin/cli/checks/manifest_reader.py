"""Reads DASH manifests (ISO/IEC 23009-1): which segments there are, and what is claimed of them."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from urllib.parse import urljoin
from xml.etree import ElementTree

MEDIA_TYPE = "application/dash+xml"
NAMESPACE = "{urn:mpeg:dash:schema:mpd:2011}"

MAX_SEGMENTS = 100_000
"""Most segments of a representation that are listed."""

MAX_REPRESENTATIONS = 64

LIVE_SEGMENTS = 3
"""Segments of a live stream that are listed: the newest, but for one, since clocks differ."""

_DURATION = re.compile(r"P(?:(\d+)D)?T?(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?")
_FIELD = re.compile(r"\$(?:(Number|Time|RepresentationID|Bandwidth)(?:%0(\d{1,2})d)?)?\$")

MANNERS = ("SegmentTemplate", "SegmentList", "SegmentBase")
"""Elements that say where segments are; of two on one level there is one."""


CHANNELS = "urn:mpeg:dash:23003:3:audio_channel_configuration:2011"
TRICK_PLAY = "http://dashif.org/guidelines/trickmode"


class ManifestError(Exception):
    """The manifest can't be read; the text is one line."""


@dataclass(frozen=True, slots=True)
class CheckedPiece:
    """A file, or a range of one.

    Attributes:
        span: first and last byte; None for all.
    """

    url: str
    span: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class CheckedRepresentation:
    """A representation as its manifest describes it.

    Attributes:
        access_point: type of access point that all segments are said to begin with; 0 where nothing is said.
        aligned: whether its segments are said to begin when those of its set's others do.
        segments: its segments in order; none of one with an index.
        index: where the index is that says where its segments are; or None.
        starts: when the segments begin in seconds, where the manifest says so.
        is_media: whether it is picture or sound.
        is_image: whether its segments are images, as of a seek bar's pictures.
        period: the number of its period.
        period_seconds: how long that lasts; 0 where nothing is said.
        is_live: whether the stream goes on, so that only its newest segments are listed.
        attributes: of the representation and its adaptation set.
        channels: value of AudioChannelConfiguration by DASH's own scheme; empty without one.
        is_trick_play: whether it is for trick play, so that it has but some of the pictures.
        is_protected: whether its samples are encrypted.
    """

    name: str
    video: bool
    access_point: int
    aligned: bool
    init: CheckedPiece | None
    segments: Sequence[CheckedPiece]
    index: CheckedPiece | None
    starts: Sequence[float]
    is_media: bool = True
    is_image: bool = False
    period: int = 0
    period_seconds: float = 0
    is_live: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)
    channels: str = ""
    is_trick_play: bool = False
    is_protected: bool = False


def read_manifest(url: str, text: str, now: float) -> list[list[CheckedRepresentation]]:
    """Read a manifest.

    Args:
        now: seconds since 1970, by which the segments of a live stream are there.

    Returns:
        The representations of each adaptation set; of a live stream, of the period that is on air.

    Raises:
        ManifestError: it isn't one.
    """
    root = parse_manifest(text)
    try:
        return list(_sets(url, root, now if root.get("type", "static") == "dynamic" else None))
    except (ValueError, OverflowError, ZeroDivisionError) as error:
        raise ManifestError(f"has a value that can't be read: {error}") from None


def parse_manifest(text: str) -> ElementTree.Element:
    """Parse a manifest's elements.

    Raises:
        ManifestError: it isn't one.
    """
    if (
        "<!DOCTYPE" in text or "<!ENTITY" in text
    ):  # which no manifest needs, and which makes texts of any length
        raise ManifestError("has a document type declaration")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314  # it declares no entities
    except ElementTree.ParseError as error:
        raise ManifestError(f"isn't well-formed XML: {error}") from None
    if root.tag != f"{NAMESPACE}MPD":
        raise ManifestError("isn't an MPD (ISO/IEC 23009-1 §5.3.1.2)")
    return root


def _sets(url: str, root: ElementTree.Element, now: float | None) -> Iterator[list[CheckedRepresentation]]:
    """Yield the adaptation sets.

    Args:
        now: of a live stream, seconds since 1970.
    """
    base = _base(url, root)
    count = 0
    periods = list(enumerate(root.iterfind(f"{NAMESPACE}Period")))
    elapsed = None
    if now is not None:
        periods, elapsed = _on_air(root, [one for _, one in periods], now)
    for number, period in periods:
        duration = duration_seconds(period.get("duration") or root.get("mediaPresentationDuration") or "")
        for one in period.iterfind(f"{NAMESPACE}AdaptationSet"):
            found = []
            for representation in one.iterfind(f"{NAMESPACE}Representation"):
                count += 1
                if count > MAX_REPRESENTATIONS:
                    return
                levels = (period, one, representation)
                place = base
                for level in levels:
                    place = _base(place, level)
                made = _representation(place, levels, duration, elapsed)
                found.append(replace(made, period=number, period_seconds=duration))
            yield found


def _on_air(
    root: ElementTree.Element, periods: Sequence[ElementTree.Element], now: float
) -> tuple[list[tuple[int, ElementTree.Element]], float]:
    """Return the period of a live stream that is on air with its number, and how long it has lasted.

    Raises:
        ManifestError: it doesn't say when it begins.
    """
    if (told := root.get("availabilityStartTime")) is None:
        raise ManifestError("has no availabilityStartTime (ISO/IEC 23009-1 §5.3.1.2)")
    begins = datetime.fromisoformat(told)
    elapsed = now - (begins if begins.tzinfo else begins.replace(tzinfo=UTC)).timestamp()
    found, begin, after = None, 0.0, 0.0
    for number, one in enumerate(periods):
        # §5.3.2.1: a period without a start begins where the one before it ends.
        start = duration_seconds(one.get("start", "")) if "start" in one.attrib else after
        after = start + duration_seconds(one.get("duration", ""))
        if start <= elapsed:
            found, begin = (number, one), start
    if found is None:
        raise ManifestError("has no period that has begun (ISO/IEC 23009-1 §5.3.2.1)")
    lasts = duration_seconds(found[1].get("duration", "")) or elapsed
    return [found], min(elapsed - begin, lasts)


def _base(url: str, element: ElementTree.Element) -> str:
    told = element.find(f"{NAMESPACE}BaseURL")
    return url if told is None or not told.text else urljoin(url, told.text.strip())


def duration_seconds(text: str) -> float:
    """Return the seconds of an XML duration such as ``PT2.5S``; 0 of any other text."""
    found = _DURATION.fullmatch(text)
    days, hours, minutes, seconds = (float(one or 0) for one in found.groups()) if found else (0.0,) * 4
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _representation(
    base: str, levels: Sequence[ElementTree.Element], period_seconds: float, elapsed: float | None
) -> CheckedRepresentation:
    """Read one, with what the levels above it say of it (§5.3.9.1).

    Args:
        elapsed: seconds for which the period of a live stream has been on air; None if it is finished.
    """
    attributes: dict[str, str] = {}
    for level in levels[1:]:
        attributes |= level.attrib
    kind = attributes.get("contentType") or attributes.get("mimeType", "").partition("/")[0]
    manners: dict[str, str] = {}
    children: dict[str, ElementTree.Element] = {}
    manner = ""
    for level in levels:
        for name in MANNERS:
            for element in level.iterfind(f"{NAMESPACE}{name}"):
                manner = name
                manners |= element.attrib
                children |= {child.tag.removeprefix(NAMESPACE): child for child in element}
                if name == "SegmentList":
                    children["SegmentList"] = element
    if elapsed is None:
        numbered = list(enumerate(_starts(manners, children, period_seconds)))
    else:
        numbered = _newest(manners, children, elapsed)
    starts = [start for _, start in numbered]
    fields = {"RepresentationID": attributes.get("id", ""), "Bandwidth": attributes.get("bandwidth", "0")}
    init = children.get("Initialization")
    if init is not None:
        first = _piece(base, init, "sourceURL", "range")
    elif "initialization" in manners:
        first = CheckedPiece(urljoin(base, _filled(manners["initialization"], fields)))
    else:
        first = None
    segments: list[CheckedPiece] = []
    if manner == "SegmentTemplate":
        segments = [CheckedPiece(urljoin(base, name)) for name in _names(manners, fields, numbered)]
    elif manner == "SegmentList":
        listed = islice(children["SegmentList"].iterfind(f"{NAMESPACE}SegmentURL"), MAX_SEGMENTS)
        segments = [_piece(base, one, "media", "mediaRange") for one in listed]
    elif not manner and levels[2].find(f"{NAMESPACE}BaseURL") is not None:
        # §5.3.9.2.1: a representation without segment information is a single segment
        segments = [CheckedPiece(base)]
    index = _span(manners["indexRange"]) if manner == "SegmentBase" and "indexRange" in manners else None
    told = attributes.get("startWithSAP") or attributes.get("subsegmentStartsWithSAP") or "0"
    aligned = attributes.get("segmentAlignment") or attributes.get("subsegmentAlignment") or "false"
    return CheckedRepresentation(
        name=attributes.get("id", ""),
        video=kind == "video",
        is_media=kind in ("video", "audio"),
        is_image=kind == "image",
        access_point=int(told),
        aligned=aligned not in ("false", "0"),
        init=first,
        segments=segments,
        index=None if index is None else CheckedPiece(base, index),
        starts=[seconds for _, seconds in starts],
        is_live=elapsed is not None,
        attributes=attributes,
        channels=_channels(levels),
        is_trick_play=any(
            one.get("schemeIdUri") == TRICK_PLAY
            for name in ("EssentialProperty", "SupplementalProperty")
            for one in levels[1].iterfind(f"{NAMESPACE}{name}")
        ),
        is_protected=any(one.find(f"{NAMESPACE}ContentProtection") is not None for one in levels[1:]),
    )


def _channels(levels: Sequence[ElementTree.Element]) -> str:
    """Return the number of channels that a representation or its set has (§5.8.5.4)."""
    for level in reversed(levels[1:]):
        for one in level.iterfind(f"{NAMESPACE}AudioChannelConfiguration"):
            if one.get("schemeIdUri") == CHANNELS:
                return one.get("value", "")
    return ""


def _names(
    manners: Mapping[str, str], fields: Mapping[str, str], numbered: Sequence[tuple[int, tuple[int, float]]]
) -> Iterator[str]:
    """Yield the names that a template has for segments at some places."""
    if numbered and "media" not in manners:
        raise ManifestError("has a SegmentTemplate without media (ISO/IEC 23009-1 §5.3.9.4.2)")
    first = int(manners.get("startNumber", "1"))
    for at, (time, _) in numbered:
        yield _filled(manners["media"], {**fields, "Number": str(first + at), "Time": str(time)})


def _newest(
    manners: Mapping[str, str], children: Mapping[str, ElementTree.Element], elapsed: float
) -> list[tuple[int, tuple[int, float]]]:
    """List the newest complete segments of a live stream: their places, and what `_starts` yields."""
    if "SegmentTimeline" in children:
        return list(enumerate(_starts(manners, children, elapsed)))[-LIVE_SEGMENTS - 1 : -1]
    timescale, each = int(manners.get("timescale", "1")), int(manners.get("duration", "0"))
    # §5.3.9.5.3: a segment is there once all of it has been.
    last = int(elapsed * timescale // each) - 1 if each else 0
    return [(at, (at * each, at * each / timescale)) for at in range(max(0, last - LIVE_SEGMENTS), last)]


def _starts(
    manners: Mapping[str, str], children: Mapping[str, ElementTree.Element], period_seconds: float
) -> Iterator[tuple[int, float]]:
    """Yield when segments begin, in ticks and in seconds of the period."""
    timescale, offset = int(manners.get("timescale", "1")), int(manners.get("presentationTimeOffset", "0"))
    timeline = children.get("SegmentTimeline")
    count = 0
    if timeline is None:
        each = int(manners.get("duration", "0"))
        whole = int(-(-period_seconds * timescale // each)) if each else 0
        yield from ((at * each, at * each / timescale) for at in range(min(whole, MAX_SEGMENTS)))
        return
    time = 0
    for one in timeline.iterfind(f"{NAMESPACE}S"):
        time = int(one.get("t", time))
        repeats, each = int(one.get("r", "0")), int(one.get("d", "0"))
        if repeats < 0:  # §5.3.9.6.1: to the period's end
            repeats = int(-(-(period_seconds * timescale + offset - time) // each)) - 1
        for _ in range(repeats + 1):
            count += 1
            if count > MAX_SEGMENTS:
                return
            yield time, (time - offset) / timescale
            time += each


def _piece(base: str, element: ElementTree.Element, url: str, span: str) -> CheckedPiece:
    told = element.get(span)
    return CheckedPiece(urljoin(base, element.get(url, "")), None if told is None else _span(told))


def _span(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last)


def _filled(template: str, fields: Mapping[str, str]) -> str:
    """Fill a template's identifiers in (§5.3.9.4.4)."""

    def value(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        return fields.get(match[1], "").rjust(int(match[2] or 0), "0")

    return _FIELD.sub(value, template)


def indexed_segments(index: CheckedPiece, data: bytes) -> list[CheckedPiece]:
    """List the segments that a segment index names (``sidx``, ISO/IEC 14496-12 §8.16.3).

    Raises:
        ManifestError: it isn't one.
    """
    if index.span is None or data[4:8] != b"sidx" or len(data) < 32:
        raise ManifestError("has an indexRange without an index (ISO/IEC 23009-1 §5.3.9.2.2)")
    wide = data[8] > 0
    offset, count = struct.unpack_from(">Q2xH", data, 28) if wide else struct.unpack_from(">I2xH", data, 24)
    entries = 40 if wide else 32
    position = index.span[0] + int.from_bytes(data[:4], "big") + offset
    found: list[CheckedPiece] = []
    for at in range(entries, min(entries + 12 * count, len(data) - 11), 12):
        size = int.from_bytes(data[at : at + 4], "big") & 0x7FFF_FFFF
        found.append(CheckedPiece(index.url, (position, position + size - 1)))
        position += size
    return found
