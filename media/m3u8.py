"""The syntax of HLS playlists: RFC 8216bis tags from typed values. What a playlist says is decided elsewhere.

A playlist is a frozen dataclass with ``render()``; every line ends in LF. Durations are rational seconds
(ticks over a timescale) until they are written here, so that no rounding adds up.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import lcm

MEDIA_TYPE = "application/vnd.apple.mpegurl"
"""RFC 8216bis §4: the Content-Type of a playlist."""

RATIOS_KEPT = 256
"""How many durations of parts are kept."""

DATES_KEPT = 64
"""How many minutes' texts are kept."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def decimal(seconds: Fraction | int, places: int = 5) -> str:
    """Write seconds as a decimal-floating-point of §4.2, rounded to the nearest.

    Args:
        seconds: an exact duration, not negative.
        places: digits behind the point; more digits than the timescale has say nothing more.
    """
    scaled = _scaled(seconds, 10**places)
    return f"{scaled // 10**places}.{scaled % 10**places:0{places}d}"


def adding_up(durations: Iterable[Fraction], places: int = 5) -> Iterator[Fraction]:
    """Round durations in a row so that they add up to their rounded sum: players add what is written.

    Args:
        durations: seconds, exact.
        places: digits behind the point.
    """
    # By integers, and the few results once: this is done for each part of each playlist.
    scale, total, denominator, written = 10**places, 0, 1, 0
    for duration in durations:
        common = (
            denominator if duration.denominator == denominator else lcm(denominator, duration.denominator)
        )
        total = total * (common // denominator) + duration.numerator * (common // duration.denominator)
        denominator = common
        end = _rounded(total * scale, denominator)
        yield _ratio(end - written, scale)
        written = end


@functools.lru_cache(maxsize=RATIOS_KEPT)
def _ratio(numerator: int, denominator: int) -> Fraction:
    return Fraction(numerator, denominator)


def date_time(seconds: Fraction) -> str:
    """Write seconds since the epoch as the ISO 8601 text of EXT-X-PROGRAM-DATE-TIME (§4.4.4.6), to the ms."""
    minute, rest = divmod(_scaled(seconds, 1000), 60_000)
    return f"{_minute(minute)}:{rest // 1000:02d}.{rest % 1000:03d}Z"


@functools.lru_cache(maxsize=DATES_KEPT)
def _minute(minutes: int) -> str:
    """Write minutes since the epoch, up to the minute; the segments of one share it."""
    return (EPOCH + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M")


def _scaled(seconds: Fraction | int, scale: int) -> int:
    """Give ``round(seconds * scale)``, by integers: playlists of hours have a hundred thousand of them."""
    return _rounded(seconds.numerator * scale, seconds.denominator)


def _rounded(numerator: int, denominator: int) -> int:
    whole, rest = divmod(numerator, denominator)
    # Halves to the even one, as everywhere.
    return whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1))


def quoted(value: str) -> str:
    """Make a quoted-string of §4.2, which has no escapes: quotes, CR and LF can't be in one.

    Raises:
        ValueError: the value has one of them.
    """
    if any(character in value for character in '"\r\n'):
        raise ValueError(f"not possible in a quoted-string: {value!r}")
    return f'"{value}"'


def attributes(pairs: Iterable[tuple[str, str | None]]) -> str:
    """Join the attributes that have a value: ``NAME=value,NAME=value`` (§4.2)."""
    return ",".join(f"{name}={value}" for name, value in pairs if value is not None)


def _yes(flag: bool) -> str | None:
    return "YES" if flag else None


@dataclass(frozen=True, slots=True)
class Map:
    """EXT-X-MAP (§4.4.4.5): where the init segment of what follows is."""

    uri: str

    def __str__(self) -> str:
        return f"#EXT-X-MAP:URI={quoted(self.uri)}"


@dataclass(frozen=True, slots=True)
class Part:
    """EXT-X-PART (§4.4.4.9): one partial segment, its duration in seconds."""

    uri: str
    duration: Fraction
    independent: bool = False
    gap: bool = False

    def __str__(self) -> str:
        return "#EXT-X-PART:" + attributes(
            (
                ("DURATION", decimal(self.duration)),
                ("URI", quoted(self.uri)),
                ("INDEPENDENT", _yes(self.independent)),
                ("GAP", _yes(self.gap)),
            )
        )


@dataclass(frozen=True, slots=True)
class Segment:
    """One media segment with the tags in front of it (§4.4.4).

    Attributes:
        uri: where it is; None for the segment at the end that so far only has parts.
        duration: seconds (EXTINF); of no meaning without a URI.
        map: its init segment; written where it differs from the one before, and after a discontinuity.
        parts: its partial segments, where they are still listed.
        discontinuity: whether EXT-X-DISCONTINUITY stands before it.
        program_date_time: seconds since the epoch of its first sample.
        gap: whether EXT-X-GAP says that it isn't there.
    """

    uri: str | None
    duration: Fraction = Fraction(0)
    map: Map | None = None
    parts: Sequence[Part] = ()
    discontinuity: bool = False
    program_date_time: Fraction | None = None
    gap: bool = False

    def lines(self, previous_map: Map | None) -> list[str]:
        """Render its tags and its URI.

        Args:
            previous_map: the EXT-X-MAP in force before it, which is not repeated.
        """
        lines = []
        if self.discontinuity:
            lines.append("#EXT-X-DISCONTINUITY")
        if self.map is not None and (self.discontinuity or self.map != previous_map):
            lines.append(str(self.map))
        if self.program_date_time is not None:
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{date_time(self.program_date_time)}")
        if self.gap:
            lines.append("#EXT-X-GAP")
        lines += [str(part) for part in self.parts]
        if self.uri is not None:
            lines += [f"#EXTINF:{decimal(self.duration)},", self.uri]
        return lines


@dataclass(frozen=True, slots=True)
class ServerControl:
    """EXT-X-SERVER-CONTROL (§4.4.3.8); all in seconds."""

    can_block_reload: bool = False
    hold_back: Fraction | None = None
    part_hold_back: Fraction | None = None
    can_skip_until: Fraction | None = None
    can_skip_dateranges: bool = False

    def __str__(self) -> str:
        def seconds(value: Fraction | None) -> str | None:
            return None if value is None else decimal(value, 3)

        return "#EXT-X-SERVER-CONTROL:" + attributes(
            (
                ("CAN-BLOCK-RELOAD", _yes(self.can_block_reload)),
                ("CAN-SKIP-UNTIL", seconds(self.can_skip_until)),
                ("CAN-SKIP-DATERANGES", _yes(self.can_skip_dateranges)),
                ("HOLD-BACK", seconds(self.hold_back)),
                ("PART-HOLD-BACK", seconds(self.part_hold_back)),
            )
        )


@dataclass(frozen=True, slots=True)
class RenditionReport:
    """EXT-X-RENDITION-REPORT (§4.4.5.4): how far another rendition is."""

    uri: str
    last_msn: int
    last_part: int | None = None

    def __str__(self) -> str:
        return "#EXT-X-RENDITION-REPORT:" + attributes(
            (
                ("URI", quoted(self.uri)),
                ("LAST-MSN", str(self.last_msn)),
                ("LAST-PART", None if self.last_part is None else str(self.last_part)),
            )
        )


@dataclass(frozen=True, slots=True)
class MediaPlaylist:
    """A media playlist (§4.4.3 to §4.4.5).

    Attributes:
        target_duration: whole seconds.
        segments: in order; the last may be one without a URI.
        older: lines of the segments before those, made earlier.
        older_map: the EXT-X-MAP in force behind them.
        media_sequence_number: of the first segment, skipped ones counted.
        discontinuity_sequence: discontinuities that have left the playlist; None writes no tag.
        playlist_type: ``VOD``, ``EVENT`` or None.
        part_target: seconds; None where there are no parts.
        server_control: delivery options, or None.
        skipped_segments: how many segments EXT-X-SKIP stands for (a delta update); 0 for none.
        date_ranges: EXT-X-DATERANGE tags, each as its line.
        removed_date_ranges: IDs of those that went lately, for a delta update that skips some; else None.
        preload_hint: URI of the part to come, or None.
        rendition_reports: how far the other renditions are.
        ended: whether EXT-X-ENDLIST closes it.
        i_frames_only: whether each segment is one I-frame.
    """

    target_duration: int
    segments: Sequence[Segment]
    older: Sequence[str] = ()
    older_map: Map | None = None
    media_sequence_number: int = 0
    discontinuity_sequence: int | None = None
    playlist_type: str | None = None
    part_target: Fraction | None = None
    server_control: ServerControl | None = None
    skipped_segments: int = 0
    date_ranges: Sequence[str] = ()
    removed_date_ranges: Sequence[str] | None = None
    preload_hint: str | None = None
    rendition_reports: Sequence[RenditionReport] = ()
    ended: bool = False
    i_frames_only: bool = False

    @property
    def version(self) -> int:
        """EXT-X-VERSION by §8: 6 for EXT-X-MAP, 9 for EXT-X-SKIP, 10 for one that replaces date ranges."""
        if not self.skipped_segments:
            return 6
        return 9 if self.removed_date_ranges is None else 10

    def render(self) -> str:
        """Write the playlist."""
        lines = ["#EXTM3U", f"#EXT-X-VERSION:{self.version}", f"#EXT-X-TARGETDURATION:{self.target_duration}"]
        lines += self._header_lines()
        lines += self.older
        previous_map = self.older_map
        for segment in self.segments:
            lines += segment.lines(previous_map)
            previous_map = segment.map or previous_map
        lines += self.date_ranges
        if self.preload_hint is not None:
            lines.append(f"#EXT-X-PRELOAD-HINT:TYPE=PART,URI={quoted(self.preload_hint)}")
        lines += [str(report) for report in self.rendition_reports]
        if self.ended:
            lines.append("#EXT-X-ENDLIST")
        return "\n".join(lines) + "\n"

    def _header_lines(self) -> list[str]:
        lines = []
        if self.server_control is not None:
            lines.append(str(self.server_control))
        if self.part_target is not None:
            lines.append(f"#EXT-X-PART-INF:PART-TARGET={decimal(self.part_target)}")
        lines.append(f"#EXT-X-MEDIA-SEQUENCE:{self.media_sequence_number}")
        if self.discontinuity_sequence is not None:
            lines.append(f"#EXT-X-DISCONTINUITY-SEQUENCE:{self.discontinuity_sequence}")
        if self.playlist_type is not None:
            lines.append(f"#EXT-X-PLAYLIST-TYPE:{self.playlist_type}")
        if self.i_frames_only:
            lines.append("#EXT-X-I-FRAMES-ONLY")
        lines.append("#EXT-X-INDEPENDENT-SEGMENTS")
        if self.skipped_segments:
            removed = self.removed_date_ranges
            skip = (
                ("SKIPPED-SEGMENTS", str(self.skipped_segments)),
                ("RECENTLY-REMOVED-DATERANGES", None if removed is None else quoted("\t".join(removed))),
            )
            lines.append(f"#EXT-X-SKIP:{attributes(skip)}")
        return lines


@dataclass(frozen=True, slots=True)
class Variant:
    """EXT-X-STREAM-INF and its URI (§4.4.6.2); rates in bits per second, frame rate in frames per second."""

    uri: str
    bandwidth: int
    average_bandwidth: int | None = None
    codecs: str | None = None
    resolution: tuple[int, int] | None = None
    frame_rate: Fraction | None = None
    audio: str | None = None
    subtitles: str | None = None

    def lines(self) -> list[str]:
        """Render the tag and the URI."""
        width_height = None if self.resolution is None else f"{self.resolution[0]}x{self.resolution[1]}"
        tag = "#EXT-X-STREAM-INF:" + attributes(
            (
                ("BANDWIDTH", str(self.bandwidth)),
                (
                    "AVERAGE-BANDWIDTH",
                    None if self.average_bandwidth is None else str(self.average_bandwidth),
                ),
                ("CODECS", None if self.codecs is None else quoted(self.codecs)),
                ("RESOLUTION", width_height),
                ("FRAME-RATE", None if self.frame_rate is None else decimal(self.frame_rate, 3)),
                ("AUDIO", None if self.audio is None else quoted(self.audio)),
                ("SUBTITLES", None if self.subtitles is None else quoted(self.subtitles)),
            )
        )
        return [tag, self.uri]


@dataclass(frozen=True, slots=True)
class Media:
    """EXT-X-MEDIA (§4.4.6.1): an alternative rendition; ``type`` is AUDIO or SUBTITLES."""

    type: str
    group_id: str
    name: str
    uri: str | None = None
    language: str | None = None
    default: bool = False
    autoselect: bool = False
    channels: int | None = None

    def __str__(self) -> str:
        return "#EXT-X-MEDIA:" + attributes(
            (
                ("TYPE", self.type),
                ("GROUP-ID", quoted(self.group_id)),
                ("NAME", quoted(self.name)),
                ("LANGUAGE", None if self.language is None else quoted(self.language)),
                ("DEFAULT", "YES" if self.default else "NO"),
                ("AUTOSELECT", "YES" if self.autoselect or self.default else "NO"),
                ("CHANNELS", None if self.channels is None else quoted(str(self.channels))),
                ("URI", None if self.uri is None else quoted(self.uri)),
            )
        )


@dataclass(frozen=True, slots=True)
class MultivariantPlaylist:
    """A multivariant playlist (§4.4.6)."""

    variants: Sequence[Variant]
    media: Sequence[Media] = field(default=())
    version: int = 6

    def render(self) -> str:
        """Write the playlist."""
        lines = ["#EXTM3U", f"#EXT-X-VERSION:{self.version}", "#EXT-X-INDEPENDENT-SEGMENTS"]
        lines += [str(item) for item in self.media]
        for variant in self.variants:
            lines += variant.lines()
        return "\n".join(lines) + "\n"
