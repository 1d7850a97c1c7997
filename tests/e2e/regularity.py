"""Whether a live channel's encoder kept pace: what a starved one didn't make is no fault of who serves it."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import httpx

from tests.conftest import ServerProcess
from tests.waiting import wait_for

PATIENCE_SECONDS = 120.0
NEWEST_SECONDS = 3.0
"""What players and judges see at a moment began so long before it."""

LATEST_SLEW = 0.02
"""Seconds by which dates may miss the sum of durations: they are corrected by 10 ms at most."""


@dataclass(frozen=True)
class Segment:
    """What a playlist says of a finished segment.

    Attributes:
        name: its address.
        date: seconds since the epoch of its beginning.
        duration: seconds.
        gap: whether it isn't there.
        discontinuity: whether it begins behind one.
    """

    name: str
    date: float
    duration: float
    gap: bool
    discontinuity: bool

    @property
    def end(self) -> float:
        return self.date + self.duration

    @property
    def broken(self) -> bool:
        """Whether it doesn't just follow the one before."""
        return self.gap or self.discontinuity


def listed(text: str) -> list[Segment]:
    """Read a media playlist that has a date for each segment, or dates to count from."""
    found: list[Segment] = []
    date, duration, tags = 0.0, 0.0, set[str]()
    for line in text.splitlines():
        if line.startswith("#EXT-X-PROGRAM-DATE-TIME:"):
            date = datetime.fromisoformat(line.partition(":")[2]).timestamp()
        elif line.startswith("#EXTINF:"):
            duration = float(line.removeprefix("#EXTINF:").partition(",")[0])
        elif line in {"#EXT-X-GAP", "#EXT-X-DISCONTINUITY"}:
            tags.add(line)
        elif re.fullmatch(r"[0-9]+\.\w+", line):
            gap, discontinuity = "#EXT-X-GAP" in tags, "#EXT-X-DISCONTINUITY" in tags
            found.append(Segment(line, date, duration, gap, discontinuity))
            date, tags = date + duration, set()
    return found


def fetched(url: str) -> list[Segment]:
    """Fetch a media playlist and read it; nothing where there is none yet."""
    answer = httpx.get(url, timeout=PATIENCE_SECONDS)
    return listed(answer.text) if answer.status_code == 200 else []


def stretches(segments: Sequence[Segment]) -> list[list[Segment]]:
    """What follows each other without a break; gaps belong to none."""
    found: list[list[Segment]] = []
    begins = True
    for one in segments:
        if begins or one.broken:
            found.append([])
        begins = one.gap
        if not one.gap:
            found[-1].append(one)
    return [stretch for stretch in found if stretch]


def is_regular(segments: Sequence[Segment]) -> bool:
    """Whether all of them follow each other without a break."""
    follow = all(abs(one.end - other.date) < LATEST_SLEW for one, other in pairwise(segments))
    return follow and not any(one.broken for one in segments)


def kept_pace(server: ServerProcess, channel: str, since: float) -> bool:
    """Whether nothing broke since a date: neither the channel's encoder nor the server stood still for long.

    Waits until the media of that date are finished.

    Args:
        server: whose channel it is; one of pictures, 240p among them.
        channel: its name.
        since: seconds since the epoch. What is no longer listed isn't known, and doesn't count as kept.
    """
    url = f"{server.url}/live/{channel}/240p/media.m3u8"

    def beyond() -> list[Segment]:
        segments = fetched(url)
        return segments if segments and segments[-1].end > since else []

    segments = wait_for(beyond, "segments of that date")
    newer = [one for one in segments if one.end > since]
    health = httpx.get(f"{server.url}/health", timeout=PATIENCE_SECONDS).json()
    starved = "server" in health.get("troubles", {})
    return newer[0].date <= since and is_regular(newer) and not starved


class Pace:
    """Looks now and then whether a channel has kept pace since it was made; within a few seconds each.

    Attributes:
        kept: whether it has.
    """

    def __init__(self, server: ServerProcess, channel: str) -> None:
        self.kept = True
        self._server = server
        self._channel = channel
        self._since = time.time() - NEWEST_SECONDS

    def look(self) -> None:
        """Look once more."""
        now = time.time()
        self.kept = kept_pace(self._server, self._channel, self._since) and self.kept
        self._since = now - NEWEST_SECONDS
