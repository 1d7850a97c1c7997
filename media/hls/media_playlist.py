"""Writes HLS media playlists: typed values in, RFC 8216bis tags out. `publish` has the policy.

A playlist is a frozen dataclass with ``render()``. Durations are fractions of seconds until they are written,
so that rounding errors don't add up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from media.hls.attribute_values import attributes, date_time, decimal, quoted, text, yes
from media.hls.precompressed_text import Pieces, Text, rendered

MEDIA_TYPE = "application/vnd.apple.mpegurl"
"""RFC 8216bis §4: the Content-Type of a playlist."""

LONG_BYTES = 16 << 10
"""Size from which date ranges are a piece of their own, since they are mostly unchanged."""


def target_duration(durations: Iterable[Fraction]) -> int:
    """Return the longest duration in whole seconds, each rounded to the nearest (§4.4.3.1)."""
    return max(1, math.floor(max(durations) + Fraction(1, 2)))


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A range of the bytes of a resource (§4.4.4.2): length, and offset of the first byte."""

    length: int
    offset: int

    def __str__(self) -> str:
        return f"{self.length}@{self.offset}"


@dataclass(frozen=True, slots=True)
class Map:
    """EXT-X-MAP (§4.4.4.5): the address of an init segment, and its range there where it isn't all."""

    uri: str
    byte_range: ByteRange | None = None

    def __str__(self) -> str:
        where = None if self.byte_range is None else quoted(str(self.byte_range))
        return "#EXT-X-MAP:" + attributes((("URI", quoted(self.uri)), ("BYTERANGE", where)))


@dataclass(frozen=True, slots=True)
class Part:
    """EXT-X-PART (§4.4.4.9): a partial segment with its duration in seconds."""

    uri: str
    duration: Fraction
    independent: bool = False
    gap: bool = False

    def __str__(self) -> str:
        return "#EXT-X-PART:" + attributes(
            (
                ("DURATION", decimal(self.duration)),
                ("URI", quoted(self.uri)),
                ("INDEPENDENT", yes(self.independent)),
                ("GAP", yes(self.gap)),
            )
        )


@dataclass(frozen=True, slots=True)
class Tiles:
    """EXT-X-TILES of Roku's image media playlists: the grid of small pictures in a large one.

    Attributes:
        resolution: width and height of a small picture in pixels.
        duration: seconds that a small picture is shown.
    """

    resolution: tuple[int, int]
    layout: tuple[int, int]
    duration: Fraction

    def __str__(self) -> str:
        return "#EXT-X-TILES:" + attributes(
            (
                ("RESOLUTION", "x".join(map(str, self.resolution))),
                ("LAYOUT", "x".join(map(str, self.layout))),
                ("DURATION", decimal(self.duration)),
            )
        )


@dataclass(frozen=True, slots=True)
class Segment:
    """A media segment with its tags (§4.4.4).

    Attributes:
        uri: None for the last segment while it only has parts.
        duration: seconds (EXTINF); meaningless without a URI.
        map: init segment; written if it differs from the previous one, and after a discontinuity.
        parts: partial segments, while they are listed.
        discontinuity: whether EXT-X-DISCONTINUITY precedes it.
        program_date_time: of the first sample, in seconds since the epoch.
        gap: whether the segment is missing (EXT-X-GAP).
        byte_range: range of the resource at the URI (EXT-X-BYTERANGE); None for the whole resource.
        tiles: grid of an image playlist's pictures, or None.
    """

    uri: str | None
    duration: Fraction = Fraction(0)
    map: Map | None = None
    parts: Sequence[Part] = ()
    discontinuity: bool = False
    program_date_time: Fraction | None = None
    gap: bool = False
    byte_range: ByteRange | None = None
    tiles: Tiles | None = None

    def lines(self, previous_map: Map | None) -> list[str]:
        """Write the segment's tags and its URI.

        Args:
            previous_map: the EXT-X-MAP in force, which is not repeated.
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
            lines.append(f"#EXTINF:{decimal(self.duration)},")
            if self.byte_range is not None:
                lines.append(f"#EXT-X-BYTERANGE:{self.byte_range}")
            if self.tiles is not None:
                lines.append(str(self.tiles))
            lines.append(self.uri)
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
                ("CAN-BLOCK-RELOAD", yes(self.can_block_reload)),
                ("CAN-SKIP-UNTIL", seconds(self.can_skip_until)),
                ("CAN-SKIP-DATERANGES", yes(self.can_skip_dateranges)),
                ("HOLD-BACK", seconds(self.hold_back)),
                ("PART-HOLD-BACK", seconds(self.part_hold_back)),
            )
        )


@dataclass(frozen=True, slots=True)
class RenditionReport:
    """EXT-X-RENDITION-REPORT (§4.4.5.4): the newest segment and part of another rendition."""

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


class Older(NamedTuple):
    """Lines of older segments, reused from an earlier playlist.

    Attributes:
        first: lines of the first segments.
        lasting: text of the segments behind them; the same objects in many playlists.
        last: lines of the segments behind those.
        map: the EXT-X-MAP in force at the end.
    """

    first: Sequence[str] = ()
    lasting: Sequence[Text] = ()
    last: Sequence[str] = ()
    map: Map | None = None


NONE_OLDER = Older()


@dataclass(frozen=True, slots=True)
class MediaPlaylist:
    """A media playlist (§4.4.3 to §4.4.5).

    Attributes:
        target_duration: whole seconds.
        segments: in order; the last may have no URI.
        older: the segments before them.
        media_sequence_number: of the first segment, skipped ones included.
        discontinuity_sequence: discontinuities that have left the playlist; None for no tag.
        playlist_type: ``VOD``, ``EVENT`` or None.
        part_target: seconds; None without parts.
        skipped_segments: number of segments that EXT-X-SKIP replaces (delta update); 0 for none.
        date_ranges: EXT-X-DATERANGE tags, each as its line.
        removed_date_ranges: IDs of recently removed ones, for a delta update that skips some; else None.
        preload_hint: URI of the next part, or None.
        map_hint: URI of the next part's init segment if it isn't in force yet, or None.
        ended: whether EXT-X-ENDLIST ends it.
        start: seconds after its beginning at which playback begins, exactly; negative ones count from its
            end; None for no such wish.
        i_frames_only: whether each segment is one I-frame.
        images_only: whether each segment is a picture (EXT-X-IMAGES-ONLY, Roku's).
        comments: lines for human readers (§4.1), without the ``#`` in front.
    """

    target_duration: int
    segments: Sequence[Segment]
    older: Older = NONE_OLDER
    media_sequence_number: int = 0
    discontinuity_sequence: int | None = None
    playlist_type: str | None = None
    part_target: Fraction | None = None
    server_control: ServerControl | None = None
    skipped_segments: int = 0
    date_ranges: Sequence[str] = ()
    removed_date_ranges: Sequence[str] | None = None
    preload_hint: str | None = None
    map_hint: str | None = None
    rendition_reports: Sequence[RenditionReport] = ()
    ended: bool = False
    start: Fraction | None = None
    i_frames_only: bool = False
    images_only: bool = False
    comments: Sequence[str] = ()

    @property
    def version(self) -> int:
        """EXT-X-VERSION by §8: 6 for EXT-X-MAP, 9 for EXT-X-SKIP, 10 for skipped date ranges."""
        if not self.skipped_segments:
            return 6
        return 9 if self.removed_date_ranges is None else 10

    def render(self) -> str:
        """Write the playlist."""
        return b"".join(rendered(self.pieces())).decode()

    def pieces(self) -> Pieces:
        """Write the playlist as pieces; texts shared with other playlists are separate pieces."""
        start, segments, end = self._start_lines(), self._segment_lines(), self._end_lines()
        ranges = text(self.date_ranges)
        if len(ranges) < LONG_BYTES:
            behind: tuple[bytes, ...] = (text([*segments, *self.date_ranges, *end]),)
        else:
            behind = text(segments), ranges, text(end)
        if not self.older.lasting:
            return text(start) + behind[0], *behind[1:]
        return text(start), *self.older.lasting, *behind

    def _start_lines(self) -> list[str]:
        lines = ["#EXTM3U", f"#EXT-X-VERSION:{self.version}", f"#EXT-X-TARGETDURATION:{self.target_duration}"]
        lines += [f"# {comment}" for comment in self.comments]
        return [*lines, *self._header_lines(), *self.older.first]

    def _segment_lines(self) -> list[str]:
        lines = [*self.older.last]
        previous_map = self.older.map
        for segment in self.segments:
            lines += segment.lines(previous_map)
            previous_map = segment.map or previous_map
        return lines

    def _end_lines(self) -> list[str]:
        lines = []
        if self.map_hint is not None:
            # Before the part's hint: players that support only one use the last.
            lines.append(f"#EXT-X-PRELOAD-HINT:TYPE=MAP,URI={quoted(self.map_hint)}")
        if self.preload_hint is not None:
            lines.append(f"#EXT-X-PRELOAD-HINT:TYPE=PART,URI={quoted(self.preload_hint)}")
        lines += [str(report) for report in self.rendition_reports]
        if self.ended:
            lines.append("#EXT-X-ENDLIST")
        return lines

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
        if self.start is not None:
            offset = "-" * (self.start < 0) + decimal(abs(self.start))
            lines.append(f"#EXT-X-START:TIME-OFFSET={offset},PRECISE=YES")
        if self.i_frames_only:
            lines.append("#EXT-X-I-FRAMES-ONLY")
        if self.images_only:
            lines.append("#EXT-X-IMAGES-ONLY")
        if self.skipped_segments:
            removed = self.removed_date_ranges
            skip = (
                ("SKIPPED-SEGMENTS", str(self.skipped_segments)),
                ("RECENTLY-REMOVED-DATERANGES", None if removed is None else quoted("\t".join(removed))),
            )
            lines.append(f"#EXT-X-SKIP:{attributes(skip)}")
        return lines
