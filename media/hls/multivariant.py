"""Writes multivariant HLS playlists (RFC 8216bis §4.4.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from media.hls.attribute_values import attributes, decimal, quoted, text


@dataclass(frozen=True, slots=True)
class Variant:
    """EXT-X-STREAM-INF and its URI (§4.4.6.2); rates in bits per second, frame rate in frames per second."""

    uri: str
    bandwidth: int
    average_bandwidth: int | None = None
    codecs: str | None = None
    supplemental_codecs: str | None = None
    resolution: tuple[int, int] | None = None
    frame_rate: Fraction | None = None
    audio: str | None = None
    subtitles: str | None = None
    video_range: str | None = None
    closed_captions: str | None = None

    def lines(self) -> list[str]:
        """Render the tag and the URI."""
        width_height = None if self.resolution is None else f"{self.resolution[0]}x{self.resolution[1]}"
        frame_rate = None if self.frame_rate is None else decimal(self.frame_rate, 3)
        tag = "#EXT-X-STREAM-INF:" + attributes(
            (
                ("BANDWIDTH", str(self.bandwidth)),
                (
                    "AVERAGE-BANDWIDTH",
                    None if self.average_bandwidth is None else str(self.average_bandwidth),
                ),
                ("CODECS", None if self.codecs is None else quoted(self.codecs)),
                (
                    "SUPPLEMENTAL-CODECS",
                    None if self.supplemental_codecs is None else quoted(self.supplemental_codecs),
                ),
                ("RESOLUTION", width_height),
                # A slide show may have so few pictures in an hour that the rate rounds to 0.
                ("FRAME-RATE", None if frame_rate == "0.000" else frame_rate),
                ("VIDEO-RANGE", self.video_range),
                ("AUDIO", None if self.audio is None else quoted(self.audio)),
                ("SUBTITLES", None if self.subtitles is None else quoted(self.subtitles)),
                ("CLOSED-CAPTIONS", self.closed_captions),
            )
        )
        return [tag, self.uri]


@dataclass(frozen=True, slots=True)
class IFrameVariant:
    """EXT-X-I-FRAME-STREAM-INF (§4.4.6.3): a playlist of single pictures; rates in bits per second."""

    uri: str
    bandwidth: int
    codecs: str
    resolution: tuple[int, int]
    video_range: str
    average_bandwidth: int | None = None
    supplemental_codecs: str | None = None

    def __str__(self) -> str:
        supplemental = self.supplemental_codecs
        average = None if self.average_bandwidth is None else str(self.average_bandwidth)
        return "#EXT-X-I-FRAME-STREAM-INF:" + attributes(
            (
                ("BANDWIDTH", str(self.bandwidth)),
                ("AVERAGE-BANDWIDTH", average),
                ("CODECS", quoted(self.codecs)),
                ("SUPPLEMENTAL-CODECS", None if supplemental is None else quoted(supplemental)),
                ("RESOLUTION", "x".join(map(str, self.resolution))),
                ("VIDEO-RANGE", self.video_range),
                ("URI", quoted(self.uri)),
            )
        )


@dataclass(frozen=True, slots=True)
class ImageVariant:
    """EXT-X-IMAGE-STREAM-INF of Roku: a playlist of pictures for the seek bar; bandwidth in bit/s."""

    uri: str
    bandwidth: int
    resolution: tuple[int, int]

    def __str__(self) -> str:
        return "#EXT-X-IMAGE-STREAM-INF:" + attributes(
            (
                ("BANDWIDTH", str(self.bandwidth)),
                ("RESOLUTION", "x".join(map(str, self.resolution))),
                ("CODECS", quoted("jpeg")),
                ("URI", quoted(self.uri)),
            )
        )


@dataclass(frozen=True, slots=True)
class Media:
    """EXT-X-MEDIA (§4.4.6.1): an alternative rendition; ``type`` is AUDIO, SUBTITLES or CLOSED-CAPTIONS."""

    type: str
    group_id: str
    name: str
    uri: str | None = None
    language: str | None = None
    default: bool = False
    autoselect: bool = False
    channels: int | str | None = None
    forced: bool = False
    characteristics: str | None = None
    instream_id: str | None = None

    def __str__(self) -> str:
        return "#EXT-X-MEDIA:" + attributes(
            (
                ("TYPE", self.type),
                ("GROUP-ID", quoted(self.group_id)),
                ("NAME", quoted(self.name)),
                ("LANGUAGE", None if self.language is None else quoted(self.language)),
                ("DEFAULT", "YES" if self.default else "NO"),
                ("AUTOSELECT", "YES" if self.autoselect or self.default else "NO"),
                ("FORCED", "YES" if self.forced else None),
                ("INSTREAM-ID", None if self.instream_id is None else quoted(self.instream_id)),
                ("CHARACTERISTICS", None if self.characteristics is None else quoted(self.characteristics)),
                ("CHANNELS", None if self.channels is None else quoted(str(self.channels))),
                ("URI", None if self.uri is None else quoted(self.uri)),
            )
        )


CLOSED_CAPTIONS_GROUP = "captions"


def closed_captions(services: Sequence[str]) -> list[Media]:
    """Offer captions in the picture (§4.4.6.1) by their INSTREAM-IDs; nothing says their languages."""
    kind, group = "CLOSED-CAPTIONS", CLOSED_CAPTIONS_GROUP
    return [Media(kind, group, name, autoselect=name == services[0], instream_id=name) for name in services]


@dataclass(frozen=True, slots=True)
class SessionData:
    """EXT-X-SESSION-DATA (§4.4.6.4) whose value is the JSON at an address."""

    data_id: str
    uri: str

    def __str__(self) -> str:
        return f"#EXT-X-SESSION-DATA:DATA-ID={quoted(self.data_id)},URI={quoted(self.uri)}"


@dataclass(frozen=True, slots=True)
class MultivariantPlaylist:
    """A multivariant playlist (§4.4.6); comments (§4.1) are lines for human readers.

    ``independent`` means that each segment can be decoded without any other (§4.4.2.1); players show
    ``pictures`` while a viewer seeks.
    """

    variants: Sequence[Variant]
    media: Sequence[Media] = field(default=())
    version: int = 6
    comments: Sequence[str] = ()
    independent: bool = True
    pictures: Sequence[IFrameVariant | ImageVariant] = ()
    session_data: Sequence[SessionData] = ()

    def render(self) -> str:
        """Write the playlist."""
        # §8: version 7 has the services of CEA-708.
        services = any((one.instream_id or "").startswith("SERVICE") for one in self.media)
        lines = ["#EXTM3U", f"#EXT-X-VERSION:{max(self.version, 7) if services else self.version}"]
        lines += ["#EXT-X-INDEPENDENT-SEGMENTS"] if self.independent else []
        lines += [f"# {comment}" for comment in self.comments]
        lines += [str(item) for item in (*self.session_data, *self.media)]
        for variant in self.variants:
            lines += variant.lines()
        lines += [str(item) for item in self.pictures]
        return text(lines).decode()
