"""An HLS client that turns another server's stream into one continuous stream for ffmpeg.

Where the stream changes (EXT-X-DISCONTINUITY, EXT-X-MAP, other codecs in the segments), ffmpeg is restarted;
its own HLS demuxer would not notice.

Playlists are read by ``media.hls.playlist_reader``, not by the m3u8 package as in ``headwater check``: m3u8
accepts invalid playlists (no #EXTM3U, durations of NaN, numbers of any length) and has no limits.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import ParamSpec, TypeVar

from media.errors import UnsupportedError
from media.hls.playlist_reader import ListedSegment, MediaListing, Resource, VariantListing, read_playlist
from media.mp3.id3 import ID3V2_HEADER, id3v2_size
from media.mp4.fragments.fragment_join import FragmentJoiner
from media.stream_reader import StreamFormat
from media.ts.join import TransportJoiner
from packager.sources.containers import HEAD_BYTES, detect_container
from packager.sources.limits import SourceLimits
from packager.sources.pullers.hls_fetcher import HlsFetcher, resolve
from packager.sources.pump import Pump, PumpOptions
from packager.sources.retries import PullError
from packager.step_budget import StepBudget
from packager.threads import SHARED_THREADS

MakePump = Callable[[str, StreamFormat | None, PumpOptions], Pump]
"""Returns the pump of a source, made or reset for another stream, by the arguments of `Pump`."""

P = ParamSpec("P")
T = TypeVar("T")

MP4 = "mp4"
"""ffmpeg's name of the container into which fragments are joined."""

FRAGMENT_BOXES = frozenset((b"ftyp", b"styp", b"moof", b"sidx", b"emsg", b"prft"))
"""The box types with which a fragmented MP4 segment may begin."""

LARGE_PLAYLIST = 16 << 10
"""Size from which a playlist is parsed in a thread; below it, switching threads costs more."""


@dataclass(frozen=True, slots=True)
class NextSegment:
    """A segment to be fetched.

    Attributes:
        breaks: whether there is a discontinuity before it, marked in the playlist or by missed segments.
    """

    segment: ListedSegment
    breaks: bool


class PlaylistCursor:
    """Selects the next segments of a playlist at each reload (RFC 8216bis §6.3.3, §6.3.4)."""

    def __init__(self, limits: SourceLimits) -> None:
        self._limits = limits
        self._next: int | None = None
        self._broken = False

    def rewind(self) -> None:
        """Continue with the newest segments at the next reload."""
        self._next = None

    def next_segments(self, listing: MediaListing) -> list[NextSegment]:
        """Return the segments of a reloaded playlist that weren't returned before."""
        if not listing.segments:
            return []
        limits = self._limits
        first, last = listing.segments[0].number, listing.segments[-1].number
        begin = first if listing.ended else max(first, last + 1 - limits.begin_segments)
        following = begin if self._next is None else self._next
        behind = following < first or (not listing.ended and last + 1 - following > limits.behind_segments)
        if behind or following > last + 1 + limits.stale_numbers:
            following, self._broken = begin, True
        steps = []
        for segment in listing.segments[following - first :] if following <= last else ():
            self._broken |= segment.discontinuity
            if not segment.gap:
                steps.append(NextSegment(segment, self._broken))
            self._broken = segment.gap
        self._next = max(following, last + 1)
        return steps


def reload_delay(listing: MediaListing, limits: SourceLimits, *, changed: bool) -> float:
    """Return the seconds between two requests for a playlist (RFC 8216bis §6.3.4).

    Args:
        listing: the last response.
        limits: the limits, with the shortest delay.
        changed: whether the last response had new segments.
    """
    if not changed or not listing.segments:
        return listing.target_duration / 2
    longest = float(listing.target_duration)
    return min(max(float(listing.segments[-1].duration), limits.shortest_pause_seconds), longest)


class _Playlist:
    """The state of one media playlist that is followed, over several connections."""

    def __init__(self, limits: SourceLimits) -> None:
        self.url = ""
        self.cursor = PlaylistCursor(limits)
        self.reset()

    def reset(self) -> None:
        """Reset the state that belongs to one connection."""
        self.steps: deque[NextSegment] = deque()
        self.text = b""
        self.listing: MediaListing | None = None
        self.due = self.changed = 0.0
        self.misses = 0
        self.map: Resource | None = None
        self.era = 0
        self.position = Fraction(0)

    @property
    def place(self) -> tuple[int, Fraction]:
        """Position of the next segment: number of discontinuities before it, and seconds since the last."""
        return (self.era + 1, Fraction(0)) if self.steps[0].breaks else (self.era, self.position)

    @property
    def ended(self) -> bool:
        """Whether the playlist has an end, so that no more segments will be added."""
        return self.listing is not None and self.listing.ended


class HlsClient:
    """Plays one HLS URL into a pump; ``follow`` is called again after a lost connection."""

    def __init__(self, deliver: MakePump, limits: SourceLimits) -> None:
        self._prepare_pump = deliver
        self._limits = limits
        self._playlists: list[_Playlist] = []
        self._pump: Pump | None = None
        self._joiner: FragmentJoiner | TransportJoiner | None = None
        self._era = 0
        self._late = self._was_live = False

    async def follow(self, fetcher: HlsFetcher, url: str) -> None:
        """Fetch the stream until its end.

        Args:
            url: URL of a multivariant or a media playlist.

        Raises:
            PullError: the stream is no longer available.
            MalformedError: a playlist or a segment is invalid.
            UnsupportedError: the stream uses a feature that isn't supported.
        """
        addresses = await self._addresses(fetcher, url)
        if len(addresses) != len(self._playlists):
            self._playlists = [_Playlist(self._limits) for _ in addresses]
        for one, address in zip(self._playlists, addresses, strict=True):
            one.reset()
            one.url = address
        self._pump, self._joiner, self._era, self._late = None, None, 0, False
        while await self._reload(fetcher):
            if (following := self._next()) is not None:
                await self._fetch_and_send(fetcher, following, following.steps.popleft())
            else:
                await asyncio.sleep(max(self._due - time.monotonic(), 0))
        await self._finish()

    async def _finish(self) -> None:
        """Send what the joiner still holds."""
        if self._joiner is not None and self._pump is not None:
            await self._pump.push(self._joiner.receive_eof())

    @property
    def _due(self) -> float:
        """The monotonic time of the next playlist request."""
        return min(one.due for one in self._playlists if not one.steps and not one.ended)

    async def _addresses(self, fetcher: HlsFetcher, url: str) -> list[str]:
        """Return the URL of the best variant's media playlist, and of its separate audio playlist if any."""
        data, base = await fetcher.playlist(url)
        found = await _in_thread_if_large(len(data), read_playlist, data, self._limits.playlist_reader)
        if not isinstance(found, VariantListing):
            return [base]
        best = max(found.variants, key=lambda one: one.bandwidth)
        return [resolve(base, uri) for uri in (best.uri, *best.audio[:1])]

    async def _reload(self, fetcher: HlsFetcher) -> bool:
        """Reload the playlists that are due; return whether more segments will come."""
        if self._late:
            self._late = False
            self._pump = None
            for one in self._playlists:
                one.cursor.rewind()
                one.steps.clear()
                one.due = 0.0
        for one in self._playlists:
            if not one.steps and not one.ended and time.monotonic() >= one.due:
                await self._read(fetcher, one)
        return any(one.steps or not one.ended for one in self._playlists)

    async def _read(self, fetcher: HlsFetcher, one: _Playlist) -> None:
        asked = time.monotonic()
        try:
            data, base = await fetcher.playlist(one.url)
        except PullError:
            one.misses += 1
            if one.misses >= self._limits.playlist_misses or one.listing is None:
                raise
            one.due = asked + one.listing.target_duration / 2
            return
        one.misses = 0
        if one.listing is not None and data == one.text:
            listing = one.listing
        else:
            found = await _in_thread_if_large(len(data), read_playlist, data, self._limits.playlist_reader)
            if isinstance(found, VariantListing):
                raise UnsupportedError("a multivariant playlist in another one")
            listing = found
        if listing.locked:
            raise UnsupportedError(f"its segments are encrypted by {listing.locked}: only AES-128 is taken")
        if listing.ended and self._was_live and one.listing is None:
            raise PullError("it is over")
        self._was_live |= not listing.ended
        one.url, one.listing, one.text = base, listing, b"" if listing.ended else data
        one.steps.extend(await _in_thread_if_large(len(data), one.cursor.next_segments, listing))
        one.due = asked + reload_delay(listing, self._limits, changed=bool(one.steps))
        if one.steps or not one.changed:
            one.changed = asked
        still_seconds = self._limits.still_target_durations * listing.target_duration
        if not one.ended and asked - one.changed > still_seconds:
            raise PullError("its playlist stands still")

    def _next(self) -> _Playlist | None:
        """Choose the playlist with the earliest next segment; None until each has one or has ended."""
        if any(not one.steps and not one.ended for one in self._playlists):
            return None
        ready = [one for one in self._playlists if one.steps]
        return min(ready, key=lambda one: one.place)

    async def _fetch_and_send(self, fetcher: HlsFetcher, one: _Playlist, step: NextSegment) -> None:
        if step.breaks:
            if len(self._playlists) > 1 and not step.segment.discontinuity:
                raise PullError("segments were missed")
            one.era, one.position = one.era + 1, Fraction(0)
        one.position += step.segment.duration
        try:
            data = await fetcher.segment(one.url, step.segment.resource)
            if one.era > self._era or self._pump is None:
                await self._begin(one, data)
            if step.segment.map is not None and step.segment.map != one.map:
                await self._send(one, await fetcher.segment(one.url, step.segment.map))
                one.map = step.segment.map
        except PullError:
            if len(self._playlists) > 1 or self._pump is None:
                raise
            # A missed segment is a discontinuity: the next one starts another stream.
            self._pump = None
        else:
            await self._send(one, data)

    async def _begin(self, one: _Playlist, data: bytearray) -> None:
        """Detect the container of a segment and prepare the pump for it."""
        await self._finish()
        self._era, self._joiner, container = one.era, None, MP4
        for each in self._playlists:
            each.map = None
        if bytes(data[4:8]) in FRAGMENT_BOXES:
            self._joiner = FragmentJoiner(len(self._playlists), self._limits.playlist_join)
        else:
            start = _id3_bytes(data)
            found = detect_container(bytes(data[start : start + HEAD_BYTES]))
            if found is None:
                raise UnsupportedError("segments that can't be brought as one stream")
            container = found
            if len(self._playlists) > 1:
                self._joiner, container = TransportJoiner(self._limits.playlist_join.held_bytes), "mpegts"
        cushion = 0.0 if one.listing is None else self._cushion(one.listing)
        self._pump = self._prepare_pump(
            container, self._joiner, PumpOptions(cushion=cushion, on_late=self._fall_behind)
        )

    async def _send(self, one: _Playlist, data: bytearray) -> None:
        if self._pump is None:
            return
        if self._joiner is None:
            del data[: _id3_bytes(data)]
        async for portion in StepBudget().portions(data):
            if self._joiner is None:
                await self._pump.receive_data(portion)
            else:
                await self._pump.push(self._joiner.receive_data(self._playlists.index(one), portion))

    def _cushion(self, listing: MediaListing) -> float:
        """Return the seconds to keep buffered, since whole segments arrive at a time."""
        return float(self._limits.begin_segments * listing.target_duration)

    def _fall_behind(self) -> None:
        self._late = True


async def _in_thread_if_large(
    size: int, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs
) -> T:
    """Call a function, in a thread if the playlist is large."""
    if size <= LARGE_PLAYLIST:
        return function(*arguments, **keywords)
    return await SHARED_THREADS.run(function, *arguments, **keywords)


def _id3_bytes(data: bytearray) -> int:
    """Return the length of a packed audio segment's ID3 tag, 0 without one (RFC 8216bis §3.1.4)."""
    return id3v2_size(bytes(data[:ID3V2_HEADER])) or 0
