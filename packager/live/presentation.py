"""What the playlists of a live channel say (RFC 8216bis); how it is written is in :mod:`media.m3u8`.

A playlist is rendered once per state: all who wait for a part get the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from fractions import Fraction

from media import m3u8
from packager.live.dateranges import DateRanges
from packager.live.history import History, listed
from packager.live.ladder import Cadence
from packager.live.manifest import LiveManifest
from packager.live.rendition import LANGUAGE_NAMES, Rendition, leading, part_uri
from packager.live.window import LiveSegment, Window

__all__ = ["Presentation", "Rendition", "media_playlist", "multivariant_playlist"]

PART_HOLD_BACK = 3
"""§4.4.3.8: PART-HOLD-BACK is at least two part targets, better three."""

HOLD_BACK = 3
"""§4.4.3.8: HOLD-BACK is at least three target durations."""

SKIP_BOUNDARY = 6
"""§4.4.3.8: CAN-SKIP-UNTIL is at least six target durations."""

PARTS_KEPT = 3
"""§6.2.2: part tags go once they are more than three target durations behind the end."""

AUDIO_GROUP = "audio"
CAPTIONS_GROUP = "captions"

MAX_RENDERED = 64
"""Most rendered playlists that are kept; different query parameters make different ones."""


MAX_HISTORIES = 16
"""Of how many playlists (rendition and query parameters) the older segments' lines are kept."""

_Key = tuple[str, bool, bool, str]


def media_playlist(
    window: Window,
    cadence: Cadence,
    reports: Sequence[m3u8.RenditionReport] = (),
    *,
    skip: bool = False,
    suffix: str = "",
    date_ranges: DateRanges | None = None,
    ranges_since: float | None = None,
    history: History | None = None,
) -> m3u8.MediaPlaylist:
    """Say what a rendition has now.

    Args:
        window: the rendition's.
        cadence: the channel's.
        reports: how far the other renditions are.
        skip: whether a delta update will do (§6.2.5.1).
        suffix: put behind every URI: ``?`` and query parameters, percent-encoded.
        date_ranges: the channel's.
        ranges_since: a delta update leaves out those that were added before; None: it leaves out none.
        history: of this rendition with this suffix, for playlists of hours.

    Returns:
        The playlist.
    """
    target_duration = cadence.target_duration
    skip_until = Fraction(SKIP_BOUNDARY * target_duration)
    recent = _recent(window, skip_until)
    older = window.next_number - window.listed[0].number if window.listed else 0
    older -= sum(segment is not window.open for segment, _ in recent)
    # §6.2.5.1: with EXT-X-ENDLIST the directive is ignored.
    skipped = older if skip and not window.ended else 0
    lines, last_map = ([], None) if skipped else (history or History()).lines(window, older, suffix)
    ranges, removed = date_ranges or DateRanges(), None
    # The hinted part counts: players have it before they ask for the list again.
    hinted = Fraction(0) if window.ended else cadence.part_target
    tags = ranges.tags()
    if skipped and ranges_since is not None:
        tags, removed = ranges.tags(ranges_since), ranges.removed
    return m3u8.MediaPlaylist(
        target_duration=target_duration,
        segments=[
            _segment(segment, end + hinted, window, target_duration, suffix) for segment, end in recent
        ],
        older=lines,
        older_map=last_map,
        media_sequence_number=window.listed[0].number if window.listed else window.next_number,
        discontinuity_sequence=window.discontinuity_sequence,
        part_target=cadence.part_target,
        server_control=m3u8.ServerControl(
            can_block_reload=True,
            hold_back=Fraction(HOLD_BACK * target_duration),
            part_hold_back=PART_HOLD_BACK * cadence.part_target,
            can_skip_until=skip_until,
            can_skip_dateranges=True,
        ),
        skipped_segments=skipped,
        date_ranges=[str(tag) for tag in tags],
        removed_date_ranges=removed,
        preload_hint=None if window.ended else part_uri(*window.next_part, window.extension) + suffix,
        rendition_reports=reports,
        ended=window.ended,
    )


def _recent(window: Window, boundary: Fraction) -> list[tuple[LiveSegment, Fraction]]:
    """Give the segments that no delta update skips, with the seconds from their beginning to the end."""
    found = [] if window.open is None else [(window.open, window.open.duration)]
    end = distance = Fraction(0) if window.open is None else window.open.duration
    for segment in reversed(window.listed):
        # §4.4.5.2: the boundary counts from the end of the last whole segment.
        if distance - end > boundary:
            break
        distance += segment.duration
        found.append((segment, distance))
    found.reverse()
    return found


def _segment(
    segment: LiveSegment, distance: Fraction, window: Window, target_duration: int, suffix: str
) -> m3u8.Segment:
    finished = segment is not window.open
    # With the first part's tag the others' go too: a list that began in mid-segment would misname them.
    with_parts = segment.parts and (not finished or distance <= PARTS_KEPT * target_duration)
    parts = _parts(segment, window.extension, suffix) if with_parts else ()
    return listed(segment, window.extension, suffix, parts, finished=finished)


def _parts(segment: LiveSegment, extension: str, suffix: str) -> Sequence[m3u8.Part]:
    # hls.js takes a segment for loaded when its parts reach its end, to the microsecond.
    durations = m3u8.adding_up(part.duration for part in segment.parts)
    return [
        m3u8.Part(part_uri(segment.number, index, extension) + suffix, duration, part.independent)
        for index, (part, duration) in enumerate(zip(segment.parts, durations, strict=True))
    ]


def multivariant_playlist(
    renditions: Sequence[Rendition], cadence: Cadence, *, suffix: str = ""
) -> m3u8.MultivariantPlaylist:
    """Say which renditions a channel has (§4.4.6).

    Args:
        renditions: the channel's, each with a timeline.
        cadence: the channel's.
        suffix: as for :func:`media_playlist`.

    Returns:
        The playlist: a variant for each video rendition, sound as one group, captions as one; without video,
        a variant for each audio rendition.
    """
    shown = leading(renditions)
    pictures = shown[0].video
    sound = [one for one in renditions if one not in shown and one.language is None]
    captions = [one for one in renditions if one.language is not None]
    # §4.4.6.2: BANDWIDTH counts what is played together, the largest of each group.
    largest = sorted(captions, key=lambda one: -one.window.peak_bandwidth)[:1]
    variants = []
    for rendition in shown:
        heard = [rendition, *sound[:1]]
        played = [*heard, *largest]
        entries = [one.window.timeline.entry for one in heard if one.window.timeline is not None]
        variants.append(
            m3u8.Variant(
                uri=f"{rendition.name}/media.m3u8{suffix}",
                bandwidth=sum(one.window.peak_bandwidth or one.bitrate for one in played),
                average_bandwidth=sum(one.window.average_bandwidth or one.bitrate for one in played),
                codecs=",".join(entry.codec for entry in entries),
                resolution=(entries[0].width, entries[0].height) if entries and pictures else None,
                frame_rate=cadence.frame_rate if pictures else None,
                audio=AUDIO_GROUP if sound else None,
                subtitles=CAPTIONS_GROUP if captions else None,
            )
        )
    media = [
        m3u8.Media(
            type="AUDIO",
            group_id=AUDIO_GROUP,
            name=rendition.name,
            uri=f"{rendition.name}/media.m3u8{suffix}",
            default=index == 0,
            autoselect=True,
            channels=None if rendition.window.timeline is None else rendition.window.timeline.entry.channels,
        )
        for index, rendition in enumerate(sound)
    ]
    media += [
        m3u8.Media(
            type="SUBTITLES",
            group_id=CAPTIONS_GROUP,
            name=LANGUAGE_NAMES.get(rendition.language.lower(), rendition.language),
            uri=f"{rendition.name}/media.m3u8{suffix}",
            language=rendition.language,
            # Shown to those who asked their player for captions, and to who chooses them.
            autoselect=True,
        )
        for rendition in captions
        if rendition.language is not None
    ]
    return m3u8.MultivariantPlaylist(variants, media)


class Presentation:
    """A channel's playlists, rendered once per state.

    Args:
        renditions: by name.
        cadence: the channel's.

    Attributes:
        date_ranges: what publishers said about the channel's time.
    """

    def __init__(self, renditions: Mapping[str, Rendition], cadence: Cadence) -> None:
        self._renditions = renditions
        self._cadence = cadence
        self._rendered: dict[_Key, bytes] = {}
        self._state: list[int] = []
        self.date_ranges = DateRanges()
        self._histories: dict[tuple[str, str], History] = {}
        self._manifest = LiveManifest(renditions, cadence)

    @property
    def edge(self) -> Fraction | None:
        """Date of the end of the newest that any variant has, in seconds since the epoch.

        None before there is any, and when nothing comes any more.
        """
        windows = [rendition.window for rendition in leading(self._renditions.values())]
        if any(window.ended for window in windows):
            return None
        newest = [window.open or window.listed[-1] for window in windows if window.open or window.listed]
        return max((segment.program_date_time + segment.duration for segment in newest), default=None)

    def media(
        self, name: str, *, skip: bool = False, skip_date_ranges: bool = False, suffix: str = ""
    ) -> bytes:
        """Give the bytes of a rendition's media playlist as of now.

        Args:
            name: the rendition's.
            skip: as for :func:`media_playlist`.
            skip_date_ranges: whether that may leave out the date ranges that players have.
            suffix: as for :func:`media_playlist`.
        """
        key = (name, skip, skip_date_ranges, suffix)
        found = self._recall(key)
        if found is None:
            now, boundary = time.monotonic(), SKIP_BOUNDARY * self._cadence.target_duration
            self._evict_date_ranges(now, boundary)
            reports = [
                m3u8.RenditionReport(f"../{other.name}/media.m3u8{suffix}", *other.window.last)
                for other in self._renditions.values()
                if other.name != name and other.window.last is not None
            ]
            playlist = media_playlist(
                self._renditions[name].window,
                self._cadence,
                reports,
                skip=skip,
                suffix=suffix,
                date_ranges=self.date_ranges,
                # §6.2.5.1: skipped is what came more than CAN-SKIP-UNTIL before the request.
                ranges_since=now - boundary if skip_date_ranges else None,
                history=None if skip else self._history(name, suffix),
            )
            found = self._rendered[key] = playlist.render().encode()
        return found

    def multivariant(self, suffix: str = "") -> bytes:
        """Give the bytes of the multivariant playlist as of now; every rendition must have a timeline."""
        key = ("", False, False, suffix)
        found = self._recall(key)
        if found is None:
            playlist = multivariant_playlist(list(self._renditions.values()), self._cadence, suffix=suffix)
            found = self._rendered[key] = playlist.render().encode()
        return found

    def manifest(self, now: float, suffix: str = "") -> bytes:
        """Give the bytes of the DASH manifest at a time in seconds since the epoch; as for multivariant."""
        return self._manifest.render(suffix, now)

    def _history(self, name: str, suffix: str) -> History:
        history = self._histories.pop((name, suffix), None) or History()
        self._histories[name, suffix] = history
        if len(self._histories) > MAX_HISTORIES:
            del self._histories[next(iter(self._histories))]
        return history

    def _evict_date_ranges(self, now: float, kept: float) -> None:
        windows = [rendition.window for rendition in self._renditions.values()]
        dates = [window.listed[0].program_date_time for window in windows if window.listed]
        if dates:
            self.date_ranges.evict(min(dates), now, kept)

    def _recall(self, key: _Key) -> bytes | None:
        # Rendition reports are of the other renditions' state, too.
        state = [rendition.window.version for rendition in self._renditions.values()]
        state.append(self.date_ranges.version)
        if state != self._state or len(self._rendered) >= MAX_RENDERED:
            self._state = state
            self._rendered.clear()
        return self._rendered.get(key)
