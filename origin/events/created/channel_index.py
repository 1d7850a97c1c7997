"""Where channels that are made at run time are found: by folder, creator, alias and time."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator, Mapping

from origin.events.created.records import CreatedChannel
from origin.http.channel_patterns import folder_of
from packager.step_budget import StepBudget

SPARE_TIMES = 1000
"""Times of channels that changed meanwhile, beyond as many as there are channels, before they are dropped."""


class ChannelIndex:
    """The names of channels by folder and by alias, and how many each creator has."""

    def __init__(self) -> None:
        # Answers aren't in folders: their readers have to know their names.
        self._folders: dict[str, dict[str, None]] = {}
        self._counts: dict[str, int] = {}
        self._aliases: dict[tuple[str, str], dict[str, None]] = {}

    def clear(self) -> None:
        """Forget all channels."""
        self._folders.clear()
        self._counts.clear()
        self._aliases.clear()

    def add(self, channel: CreatedChannel) -> None:
        """Find a channel from now on."""
        if not channel.is_answer:
            self._folders.setdefault(folder_of(channel.name), {})[channel.name] = None
        self._counts[channel.creator] = self._counts.get(channel.creator, 0) + 1
        self._add_alias(channel)

    def remove(self, channel: CreatedChannel) -> None:
        """Find a channel no longer."""
        self._remove_alias(channel)
        if not channel.is_answer:
            folder = self._folders[folder_of(channel.name)]
            del folder[channel.name]
            if not folder:
                del self._folders[folder_of(channel.name)]
        self._counts[channel.creator] -= 1
        if not self._counts[channel.creator]:
            del self._counts[channel.creator]

    def in_folder(self, pattern: str) -> Iterator[str]:
        """Return the names of the channels of a pattern, without answers."""
        return iter(self._folders.get(folder_of(pattern), ()))

    def count(self, creator: str) -> int:
        """Count the channels of a creator."""
        return self._counts.get(creator, 0)

    def aliased(self, creator: str, alias: str, most: int) -> list[str]:
        """Return the names of the channels of a creator that have an alias, at most so many."""
        return list(itertools.islice(self._aliases.get((creator, alias), ()), most))

    def set_alias(self, channel: CreatedChannel, alias: str) -> None:
        """Find a channel by another alias from now on."""
        self._remove_alias(channel)
        channel.alias = alias
        self._add_alias(channel)

    def _add_alias(self, channel: CreatedChannel) -> None:
        if channel.has_alias:
            self._aliases.setdefault((channel.creator, channel.alias), {})[channel.name] = None

    def _remove_alias(self, channel: CreatedChannel) -> None:
        key = channel.creator, channel.alias
        if channel.name in (names := self._aliases.get(key, {})):
            del names[channel.name]
            if not names:
                del self._aliases[key]


class ChannelTimes:
    """When channels end, or have events that are too old; of each the next time alone, which is its `due`."""

    def __init__(self) -> None:
        self._times: list[tuple[float, str]] = []

    def add(self, channel: CreatedChannel, moment: float) -> None:
        """Schedule a time of a channel, unless it has an earlier one."""
        if moment < channel.due:
            channel.due = moment
            heapq.heappush(self._times, (moment, channel.name))

    def take_due(self, channels: Mapping[str, CreatedChannel], now: float) -> Iterator[CreatedChannel | None]:
        """Return the channels whose time has come, and None for a time that counts no longer."""
        while self._times and self._times[0][0] <= now:
            moment, name = heapq.heappop(self._times)
            channel = channels.get(name)
            if channel is None or channel.due != moment:
                yield None
                continue
            channel.due = math.inf
            yield channel

    async def tidy_up(self, channels: Mapping[str, CreatedChannel], budget: StepBudget) -> None:
        """Forget the times of channels that are gone or have another one, once most are of these."""
        if len(self._times) <= 2 * len(channels) + SPARE_TIMES:
            return
        times, self._times = self._times, []
        for moment, name in times:
            channel = channels.get(name)
            if channel is not None and channel.due == moment:
                heapq.heappush(self._times, (moment, name))
            await budget.spend()
