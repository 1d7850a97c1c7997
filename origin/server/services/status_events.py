"""Publishes what event channels include of stations and live channels: titles, captions, states, counts."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from media.subtitles.webvtt import Cue
from origin.events.channel import EventChannel
from origin.radio.mounts.mount import Mount
from origin.radio.mounts.now_playing import describe_title
from packager.live.channel import Channel
from packager.publish.live_stream import LiveStream


@dataclass(frozen=True, slots=True)
class StatusSources:
    """The stations (``radio/NAME``) and live channels (``live/NAME``) whose states event channels publish.

    Attributes:
        is_told_here: returns whether this node of a cluster publishes the changes of a source.
        find_served: returns the served stream of a live channel, which another node of a cluster may make.
    """

    mounts: Mapping[str, Mount]
    live: Mapping[str, Channel]
    is_told_here: Callable[[str], bool] = lambda _: True
    find_served: Callable[[Channel], LiveStream] = lambda channel: channel.stream

    def channel(self, source: str) -> Channel | None:
        """Find the live channel that a source is; None if it is none."""
        area, _, name = source.partition("/")
        return self.live.get(name) if area == "live" else None

    def state_of(self, source: str) -> dict[str, object]:
        """Return a source's current state, by the type of the event that publishes each fact."""
        area, _, name = source.partition("/")
        if area == "radio" and (mount := self.mounts.get(name)) is not None:
            titles = mount.now.titles
            title = {"title": describe_title(titles[-1])} if titles else {}
            return {"state": mount.state, "listeners": mount.listeners, **title}
        if (live := self.channel(source)) is not None:
            return {"state": live.state, "viewers": self.find_served(live).viewers}
        return {}


class StatusEvents:
    """Compares stations and live channels with their last state at intervals, and publishes what has changed.

    Args:
        included: names of stations and live channels by event channel.
        seconds: from one comparison of states to the next.
    """

    name = "status events"

    def __init__(
        self,
        included: Mapping[str, Sequence[str]],
        channels: Mapping[str, EventChannel],
        sources: StatusSources,
        seconds: float,
    ) -> None:
        self._included = included
        self._channels = channels
        self._sources = sources
        self._seconds = seconds
        self._told: dict[str, dict[str, object]] = {}
        for source in {source for names in included.values() for source in names}:
            self.follow(source)

    def follow(self, source: str) -> None:
        """Publish the captions of a live channel, too, if an event channel includes it."""
        is_included = any(source in names for names in self._included.values())
        if is_included and (channel := self._sources.channel(source)) is not None:
            channel.captions.on_cues = functools.partial(self._publish_captions, source)

    async def run(self) -> None:
        """Compare until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(self._seconds)

    def look(self) -> None:
        """Publish what has changed since the last comparison."""
        included = {source for sources in self._included.values() for source in sources}
        for source in filter(self._sources.is_told_here, included):
            now, told = self._sources.state_of(source), self._told.get(source, {})
            changed = [(kind, data) for kind, data in now.items() if told.get(kind) != data]
            self._told[source] = now
            for name, sources in self._included.items():
                if source in sources:
                    self._publish(self._channels[name], source, changed)

    def _publish_captions(self, source: str, language: str, cues: Sequence[Cue], zero: Fraction) -> None:
        """Publish captions when they come, with the dates between which they are shown."""
        if not self._sources.is_told_here(source):
            return
        base = float(zero)
        for name in (name for name, sources in self._included.items() if source in sources):
            for cue in cues:
                start, end = base + cue.start / 1000, base + cue.end / 1000
                caption = {"language": language, "start": start, "end": end, "text": cue.text}
                with contextlib.suppress(ValueError):  # larger than all that the channel keeps
                    self._publish(self._channels[name], source, [("caption", caption)])

    def _publish(self, channel: EventChannel, source: str, changed: Sequence[tuple[str, object]]) -> None:
        for kind, data in changed:
            if not channel.closed:
                channel.publish(kind, {"source": source, kind: data})
