"""The facts of a channel that the playlists of its recordings need."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from msgspec.structs import replace

from packager.past.stored_ranges import StoredRanges
from packager.publish.live_stream import LiveStream
from packager.recordings.metadata import EventEnd
from packager.window.rendition import Rendition

_ReadRanges = Callable[[Fraction, Fraction], Awaitable[StoredRanges]]


@dataclass(frozen=True, slots=True)
class PlaylistFacts:
    """The facts of a channel that the playlists of a recording need.

    Attributes:
        renditions: by name, as they are now.
        ending: the facts for the recording of an event; without a master playlist nothing can be recorded.
        date_ranges: returns the EXT-X-DATERANGE tags of a span, in seconds since the epoch.
        stored_ranges: reads those of a span that the live playlist may have lost; None: it lists all.
    """

    renditions: Mapping[str, Rendition]
    ending: EventEnd
    date_ranges: Callable[[Fraction, Fraction], Sequence[str]]
    stored_ranges: _ReadRanges | None = None

    @classmethod
    def of(cls, stream: LiveStream, stored_ranges: _ReadRanges | None) -> PlaylistFacts:
        """Return the facts of a channel as it is now."""
        date_ranges = stream.presentation.date_ranges.lines_within
        return cls(stream.renditions, ending_of(stream), date_ranges, stored_ranges)

    async def ending_of_span(self, ending: EventEnd, bounds: tuple[Fraction, Fraction]) -> EventEnd:
        """Return the facts for the recording of a span, with its date ranges.

        Args:
            ending: the facts without these.
            bounds: of the span, in seconds since the epoch.

        Raises:
            OSError: stored date ranges can't be read now.
        """
        lines = self.date_ranges(*bounds)
        if self.stored_ranges is not None:
            lines = (await self.stored_ranges(*bounds)).lines_within(*bounds, lines)
        return replace(ending, date_ranges=tuple(lines))


def ending_of(stream: LiveStream) -> EventEnd:
    """Return the metadata for a recording of what a channel has published until now."""
    first = {one.video: name for name, one in reversed(list(stream.renditions.items()))}
    presentation, cadence = stream.presentation, stream.cadence
    return EventEnd(
        frame_rate=cadence.frame_rate.as_integer_ratio(),
        segment_duration=cadence.segment_duration.as_integer_ratio(),
        target_duration=cadence.target_duration,
        master=presentation.multivariant().decode() if stream.has_media else "",
        date_ranges=tuple(presentation.date_ranges.lines()),
        video=first.get(True),
        audio=first.get(False),
    )
