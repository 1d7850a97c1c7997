"""A station's audio and its listeners in one process, which makes the station or follows its log."""

from __future__ import annotations

from collections.abc import Callable

from origin.http1.body_writer import Stream
from origin.radio.mounts.audio_ring import AudioRing
from origin.radio.mounts.icy_headers import listener_headers
from origin.radio.mounts.listeners import Listener, Listeners
from origin.radio.mounts.mount_entries import (
    ListenerDismissed,
    ListenersDisconnected,
    ListenersMoved,
    StationFacts,
)
from origin.radio.mounts.options import MountOptions


class StationBroadcast:
    """The audio of a station, and the listeners of this process.

    Args:
        options: of the mount; a reload changes none of those that are used here.
        accompany: called with each new listener before its first audio.
        count: called with the bytes written to listeners.

    Attributes:
        facts: the newest in the station's log; None before them, and where the audio changes its type.
        offered_type: media type of the newest listener's response; "" before the first.
        is_closed: whether new listeners are disconnected at once.
    """

    def __init__(
        self,
        name: str,
        options: MountOptions,
        accompany: Callable[[Listener], None],
        clock: Callable[[], float],
        count: Callable[[int], None],
    ) -> None:
        self._options = options
        self._accompany = accompany
        limits, listener = options.limits, options.limits
        self.ring = AudioRing(max(listener.queue_bytes, listener.burst_bytes, limits.ring_bytes))
        self.audience = Listeners(name, self.ring, listener, clock, count)
        self.facts: StationFacts | None = None
        self.offered_type = ""
        self.is_closed = False

    def headers(self, facts: StationFacts, *, with_titles: bool) -> list[tuple[bytes, bytes]]:
        """Write a listener's response headers."""
        self.offered_type = facts.media_type
        metaint = self._options.metaint if with_titles else None
        return listener_headers(facts.media_type, facts.description, facts.bitrate, metaint)

    def enter(self, listener: Listener, stream: Stream) -> None:
        """Add a listener whose response head was sent; its ``done`` completes when it has left."""
        if self.is_closed:
            stream.end(self._options.limits.close_seconds)
            listener.finish()
            return
        self._accompany(listener)
        has_intro = self.facts is not None and self.facts.has_intro
        self.audience.enter(listener, stream, self._options.intro if has_intro else None)

    async def keep_times(self) -> None:
        """Disconnect listeners whose time is over, and send more of the intro to new ones."""
        if self._options.listener_seconds:
            await self.audience.dismiss_after(self._options.listener_seconds)
        await self.audience.introduce()

    def fold(self, entry: StationFacts | ListenersDisconnected | ListenerDismissed) -> None:
        """Fold an entry of the station's log that is no audio and leads to no other station."""
        if isinstance(entry, StationFacts):
            self.facts = entry
        elif isinstance(entry, ListenersDisconnected):
            self.audience.close()
            if entry.clears:
                self.ring.clear()
                # The facts of the next audio follow.
                self.facts = None
        else:
            for listener in self.audience.present:
                if listener.number == entry.number:
                    self.audience.dismiss(listener)

    def move(self, destination: StationBroadcast | None, entry: ListenersMoved) -> None:
        """Move all listeners to another station's audio; without a destination they are disconnected."""
        if destination is None:
            self.audience.close()
        else:
            self.audience.move(destination.audience, entry.link, entry.ending)

    def close(self) -> None:
        """Disconnect all listeners, and new ones at once."""
        self.is_closed = True
        self.audience.close()
