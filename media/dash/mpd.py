"""The syntax of DASH manifests (ISO/IEC 23009-1): an MPD from typed values; `publish` has the policy.

Periods, adaptation sets and representations; segments are in `media.dash.segment_addressing`, and the
elements of live presentations in `media.dash.live_mpd`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from media.dash.durations import duration
from media.dash.segment_addressing import (
    NumberTemplate,
    PictureTemplate,
    SegmentBase,
    SegmentList,
    SegmentTemplate,
)
from media.mp4.codecs.colour import UNSPECIFIED, Colour

MEDIA_TYPE = "application/dash+xml"
NAMESPACE = "urn:mpeg:dash:schema:mpd:2011"
ISOFF_LIVE = "urn:mpeg:dash:profile:isoff-live:2011"
ISOFF_ON_DEMAND = "urn:mpeg:dash:profile:isoff-on-demand:2011"
ISOFF_MAIN = "urn:mpeg:dash:profile:isoff-main:2011"
CHANNELS = "urn:mpeg:dash:23003:3:audio_channel_configuration:2011"
CICP_CHANNELS = "urn:mpeg:mpegB:cicp:ChannelConfiguration"
JOC = "tag:dolby.com,2018:dash:EC3_ExtensionType:2018"
JOC_COMPLEXITY = "tag:dolby.com,2018:dash:EC3_ExtensionComplexityIndex:2018"
SCTE_214 = "urn:scte:dash:scte214-extensions"
INDENT = "  "
CEA_608, CEA_708 = "urn:scte:dash:cc:cea-608:2015", "urn:scte:dash:cc:cea-708:2015"
TRICK_MODE = "http://dashif.org/guidelines/trickmode"
"""DASH-IF IOP §3.2.9: the value is the ID of the adaptation set whose pictures these are."""
THUMBNAIL_TILE = "http://dashif.org/guidelines/thumbnail_tile"
"""DASH-IF IOP §6.2.6: the value says how many pictures are in one."""
HTTP_ISO = "urn:mpeg:dash:utc:http-iso:2014"
"""§5.8.5.7: a clock at an address that answers with ISO 8601 text."""
MIN_BUFFER_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Representation:
    """An encoding of the media in an adaptation set (ISO/IEC 23009-1 §5.3.5).

    Attributes:
        base_url: base of the segments' addresses, or the address of the whole representation.
        bandwidth: bit/s; for images an estimate.
        codecs: RFC 6381 string; empty for images.
        resolution: width and height in pixels, of video.
        frame_rate: frames per second, of video.
        sample_rate: Hz, of sound.
        joc_complexity: objects of joint object coding in E-AC-3; 0 without it.
        supplemental_codecs: an alternative to ``codecs`` with its brand, or None.
        max_playout_rate: highest playback rate of I-frame representations (§5.3.7), or None.
        tiles: columns and rows of small pictures in each image.
    """

    id: str
    base_url: str
    bandwidth: int | str
    codecs: str
    segments: SegmentTemplate | SegmentList | NumberTemplate | SegmentBase | PictureTemplate
    resolution: tuple[int, int] | None = None
    frame_rate: Fraction | None = None
    sample_rate: int = 0
    channels: int = 0
    joc_complexity: int = 0
    supplemental_codecs: str | None = None
    max_playout_rate: int | None = None
    tiles: tuple[int, int] | None = None

    def element(self) -> Element:
        """Build the Representation element; attributes that aren't known are left out."""
        element = Element("Representation", id=self.id, bandwidth=str(self.bandwidth))
        if self.codecs:
            element.set("codecs", self.codecs)
        if self.max_playout_rate is not None:
            element.set("maxPlayoutRate", str(self.max_playout_rate))
            element.set("codingDependency", "false")
        if self.resolution is not None:
            element.set("width", str(self.resolution[0]))
            element.set("height", str(self.resolution[1]))
        # A slide show may have so few pictures in an hour that the rate rounds to 0.
        if self.frame_rate is not None and (rate := self.frame_rate.limit_denominator(1001)):
            element.set("frameRate", str(rate))
        if self.sample_rate:
            element.set("audioSamplingRate", str(self.sample_rate))
        if self.supplemental_codecs is not None:
            codec, _, brand = self.supplemental_codecs.partition("/")
            element.set(f"{{{SCTE_214}}}supplementalCodecs", codec)
            element.set(f"{{{SCTE_214}}}supplementalProfiles", brand)
        if self.tiles is not None:
            tiles = "x".join(map(str, self.tiles))
            SubElement(element, "EssentialProperty", schemeIdUri=THUMBNAIL_TILE, value=tiles)
        if self.channels:
            # Up to six a number of channels is their configuration's number, too (ISO/IEC 23003-3 table 68).
            number = {7: 11, 8: 12}.get(self.channels, self.channels)
            scheme = CHANNELS if number == self.channels else CICP_CHANNELS
            SubElement(element, "AudioChannelConfiguration", schemeIdUri=scheme, value=str(number))
        if self.joc_complexity:  # ETSI TS 103 420 §D.2
            SubElement(element, "SupplementalProperty", schemeIdUri=JOC, value="JOC")
            complexity = str(self.joc_complexity)
            SubElement(element, "SupplementalProperty", schemeIdUri=JOC_COMPLEXITY, value=complexity)
        SubElement(element, "BaseURL").text = self.base_url
        element.append(self.segments.element())
        return element


@dataclass(frozen=True, slots=True)
class ReferenceTime:
    """The wall-clock time at which a moment of the media was encoded (§5.12), for measuring latency.

    Attributes:
        id: reference for the service description.
        date: ISO 8601 date.
        presentation_time: media time in ticks of the representations' timescale.
        clock: address of the clock that the date was read from.
    """

    id: int
    date: str
    presentation_time: int
    clock: str

    def element(self) -> Element:
        """Build the ProducerReferenceTime element."""
        element = Element("ProducerReferenceTime", id=str(self.id), type="encoder")
        element.set("wallClockTime", self.date)
        element.set("presentationTime", str(self.presentation_time))
        SubElement(element, "UTCTiming", schemeIdUri=HTTP_ISO, value=self.clock)
        return element


@dataclass(frozen=True, slots=True)
class AdaptationSet:
    """Encodings of the same content, between which a player may switch (§5.3.3).

    Attributes:
        content_type: ``video``, ``audio``, ``text`` or ``image``.
        language: BCP 47 or ISO 639-2 code, or None.
        main: whether players choose it by default.
        events: scheme of the event messages that its segments may have (§5.10.3.3), or None.
        reference_time: encoding time of a moment, in live presentations.
        label: name for menus, or None.
        colour: of video: ColourPrimaries, TransferCharacteristics and MatrixCoefficients of ISO/IEC 23091-2.
        start_with_sap: type of the stream access points that all segments begin with; 0 if some don't.
        id: for references from other adaptation sets, or None.
        trick_mode_of: IDs of the adaptation sets that it replaces while a viewer seeks; empty for none.
        accessibility: schemes and values of what the set has for viewers with special needs (§5.8.4.3).
        roles: DASH roles (§5.8.5.5); if empty, the role follows from ``content_type`` and ``main``.
    """

    content_type: str
    representations: Sequence[Representation]
    language: str | None = None
    main: bool = True
    events: str | None = None
    reference_time: ReferenceTime | None = None
    label: str | None = None
    colour: Colour | None = None
    start_with_sap: int = 1
    id: int | None = None
    trick_mode_of: Sequence[int] = ()
    roles: Sequence[str] = ()
    accessibility: Sequence[tuple[str, str]] = ()

    def element(self) -> Element:
        """Build the AdaptationSet element."""
        mime_type = {"text": "application/mp4", "image": "image/jpeg"}.get(self.content_type)
        element = Element(
            "AdaptationSet",
            contentType=self.content_type,
            mimeType=mime_type or f"{self.content_type}/mp4",
        )
        # §8.3.3: of a representation in one file, the subsegments of its index are aligned.
        single = all(isinstance(one.segments, SegmentBase) for one in self.representations)
        element.set("subsegmentAlignment" if single else "segmentAlignment", "true")
        if self.id is not None:
            element.set("id", str(self.id))
        if self.trick_mode_of:
            value = " ".join(map(str, self.trick_mode_of))
            SubElement(element, "EssentialProperty", schemeIdUri=TRICK_MODE, value=value)
        if self.start_with_sap:
            element.set("subsegmentStartsWithSAP" if single else "startWithSAP", str(self.start_with_sap))
        if self.language is not None:
            element.set("lang", self.language)
        if self.colour is not None:
            self._add_colour(element, self.colour)
        if self.events is not None:
            # §5.3.7: elements common to all representations precede the set's own elements.
            SubElement(element, "InbandEventStream", schemeIdUri=self.events, value="")
        if self.label is not None:
            SubElement(element, "Label").text = self.label
        if self.reference_time is not None:
            element.append(self.reference_time.element())
        element.extend(_accessibility(*one) for one in self.accessibility)
        if self.content_type != "image":
            role = "subtitle" if self.content_type == "text" else "main" if self.main else "alternate"
            for one in self.roles or (role,):
                SubElement(element, "Role", schemeIdUri="urn:mpeg:dash:role:2011", value=one)
        element.extend(representation.element() for representation in self.representations)
        return element

    @staticmethod
    def _add_colour(element: Element, colour: Colour) -> None:
        for name, value in (
            ("ColourPrimaries", colour.primaries),
            ("TransferCharacteristics", colour.transfer),
            ("MatrixCoefficients", colour.matrix),
        ):
            if value != UNSPECIFIED:
                uri = f"urn:mpeg:mpegB:cicp:{name}"
                SubElement(element, "SupplementalProperty", schemeIdUri=uri, value=str(value))


@dataclass(frozen=True, slots=True)
class PeriodEvent:
    """An event of a period (§5.10.2.2).

    Attributes:
        id: events of a stream with the same number are the same event.
        presentation_time: ticks from the period's start.
        duration: ticks, or None where it isn't known.
        is_base64: whether the text is bytes in base64.
    """

    id: int
    presentation_time: int
    duration: int | None
    text: str
    is_base64: bool = False

    def element(self) -> Element:
        """Build the Event element."""
        element = Element("Event", presentationTime=str(self.presentation_time), id=str(self.id))
        if self.duration is not None:
            element.set("duration", str(self.duration))
        if self.is_base64:
            element.set("contentEncoding", "base64")
        element.text = self.text
        return element


@dataclass(frozen=True, slots=True)
class EventStream:
    """The events of one scheme in a period (§5.10.2.2).

    Attributes:
        scheme: URI that defines the form of the messages.
        timescale: ticks per second.
    """

    scheme: str
    timescale: int
    events: Sequence[PeriodEvent]

    def element(self) -> Element:
        """Build the EventStream element."""
        element = Element("EventStream", schemeIdUri=self.scheme, timescale=str(self.timescale))
        element.extend(one.element() for one in self.events)
        return element


@dataclass(frozen=True, slots=True)
class Period:
    """A period (§5.3.2): media without a discontinuity.

    Attributes:
        id: unique in the presentation, for ever.
        start: seconds since the availability start, or of a static presentation since its beginning.
        duration: seconds; None for the last period.
        events: events beside the media, by their schemes.
    """

    id: str
    start: Fraction
    duration: Fraction | None
    adaptation_sets: Sequence[AdaptationSet]
    events: Sequence[EventStream] = ()

    def element(self) -> Element:
        """Build the Period element."""
        element = Element("Period", id=self.id, start=duration(self.start))
        if self.duration is not None:
            element.set("duration", duration(self.duration))
        # §5.3.2.3: before the adaptation sets.
        element.extend(one.element() for one in self.events)
        element.extend(one.element() for one in self.adaptation_sets)
        return element

    def write(self) -> bytes:
        """Serialize the period as part of a manifest, indented except for its first line."""
        element = self.element()
        indent(element, INDENT, level=1)
        return bytes(tostring(element, encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class StaticManifest:
    """A complete presentation (§5.3.1.2, type static).

    Attributes:
        duration: seconds of the whole.
        max_segment_duration: seconds of the longest segment.
    """

    duration: Fraction
    max_segment_duration: Fraction
    periods: Sequence[Period]

    @property
    def profile(self) -> str:
        """The narrowest profile that the presentation conforms to (§8.3 to §8.5)."""
        kinds = {
            type(representation.segments)
            for period in self.periods
            for offered in period.adaptation_sets
            if not offered.trick_mode_of
            for representation in offered.representations
        }
        if kinds == {SegmentBase}:
            return ISOFF_ON_DEMAND
        return ISOFF_LIVE if kinds.isdisjoint((SegmentBase, SegmentList)) else ISOFF_MAIN

    def render(self) -> bytes:
        """Write the manifest as XML in UTF-8."""
        mpd = Element(
            "MPD",
            xmlns=NAMESPACE,
            profiles=self.profile,
            type="static",
            mediaPresentationDuration=duration(self.duration),
            maxSegmentDuration=duration(self.max_segment_duration),
            minBufferTime=duration(MIN_BUFFER_SECONDS),
        )
        mpd.extend(one.element() for one in self.periods)
        return encoded(mpd)


def encoded(mpd: Element) -> bytes:
    """Write an MPD as XML in UTF-8."""
    indent(mpd)
    # As text, which is written in half the time of bytes.
    return f"<?xml version='1.0' encoding='utf-8'?>\n{tostring(mpd, encoding='unicode')}\n".encode()


def closed_captions(services: Sequence[str]) -> list[tuple[str, str]]:
    """Return the schemes and values of captions in the picture (ANSI/SCTE 214-1 §7.2).

    Nothing says their languages.
    """
    channels = [f"{name}=und" for name in services if name.startswith("CC")]
    numbers = [name.removeprefix("SERVICE") for name in services if name.startswith("SERVICE")]
    found = (CEA_608, ";".join(channels)), (CEA_708, ";".join(f"{one}=lang:und" for one in numbers))
    return [(scheme, value) for scheme, value in found if value]


def accessibility_lines(schemes: Sequence[tuple[str, str]]) -> bytes:
    """Return what `Period.write` makes of the schemes of an adaptation set's ``accessibility``."""
    lines = (tostring(_accessibility(*one), encoding="unicode") for one in schemes)
    return "".join(f"\n{3 * INDENT}{line}" for line in lines).encode()


def _accessibility(scheme: str, value: str) -> Element:
    return Element("Accessibility", schemeIdUri=scheme, value=value)
