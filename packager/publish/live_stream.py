"""A live channel as it is served: the windows of its renditions, what playlists say of them, and who asks."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping

from packager.publish.commands import Commands
from packager.publish.hls import Presentation
from packager.window.cadence import Cadence
from packager.window.rendition import Rendition

MAX_VIEWERS = 100_000
"""Most clients that are told apart; beyond, the longest silent ones aren't counted."""

VIEWER_TARGET_DURATIONS = 3
"""A viewer counts for so many target durations after a playlist."""


class Audience:
    """Counts the distinct clients of a channel.

    Args:
        seconds: how long a client counts after it asked.
        on_seen: called whenever one asks.
        max_viewers: most clients that are told apart.
    """

    def __init__(
        self,
        seconds: float,
        on_seen: Callable[[], None] = lambda: None,
        max_viewers: int = MAX_VIEWERS,
    ) -> None:
        self.seconds = seconds
        self._max_viewers = max_viewers
        self._on_seen = on_seen
        self._seen: OrderedDict[Hashable, float] = OrderedDict()

    def saw(self, client: Hashable, now: float) -> None:
        """Note that a client asked.

        Args:
            client: what tells it from others.
            now: seconds of a clock that never goes back.
        """
        self._seen[client] = now
        self._seen.move_to_end(client)
        self._forget(now)
        if len(self._seen) > self._max_viewers:
            self._seen.popitem(last=False)
        self._on_seen()

    def count(self, now: float) -> int:
        """Count the clients that asked in the last ``seconds``."""
        self._forget(now)
        return len(self._seen)

    def _forget(self, now: float) -> None:
        while self._seen and next(iter(self._seen.values())) < now - self.seconds:
            self._seen.popitem(last=False)


class LiveStream:
    """One live channel as it is served.

    Args:
        name: the channel's.
        commands: what requests may cause at the channel.
        restores: whether the channel begins with what it finds in its folder, which takes a while.

    Attributes:
        cadence: the times that the renditions share.
        renditions: by name, video from large to small, then the sound, then captions.
        presentation: their playlists.
        audience: who asked for a playlist lately.
    """

    def __init__(self, name: str, commands: Commands, *, restores: bool = False) -> None:
        self.name = name
        self.commands = commands
        self.restores = restores
        self.cadence: Cadence
        self.renditions: Mapping[str, Rendition]
        self.presentation: Presentation
        self.audience: Audience
        self._ready = False

    def adopt(
        self, cadence: Cadence, renditions: Mapping[str, Rendition], presentation: Presentation
    ) -> None:
        """Go on with other windows."""
        self.cadence, self.renditions, self.presentation = cadence, renditions, presentation
        self.audience = Audience(VIEWER_TARGET_DURATIONS * cadence.target_duration, self.commands.note_viewer)
        self._ready = False

    @property
    def ready(self) -> bool:
        """Whether every rendition has a finished segment, so that playlists can be played."""
        # Once they have one they always do: looking again at each request would be in vain.
        self._ready = self._ready or all(one.window.has_segments() for one in self.renditions.values())
        return self._ready

    @property
    def target_duration(self) -> int:
        """EXT-X-TARGETDURATION in seconds."""
        return self.cadence.target_duration

    @property
    def languages(self) -> list[str]:
        """The captions' languages, as BCP 47 tags."""
        return [one.language for one in self.renditions.values() if one.language is not None]

    @property
    def viewers(self) -> int:
        """How many clients fetched a playlist lately."""
        return self.audience.count(time.monotonic())

    @property
    def blocked(self) -> int:
        """How many requests wait for a part or a segment."""
        return sum(one.window.waiters.count for one in self.renditions.values())
