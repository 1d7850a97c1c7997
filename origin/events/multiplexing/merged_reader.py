"""The event channels that one connection reads, and their events in one order with one id."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

from origin.access.authentication import UnauthorizedError
from origin.access.authorization import NEEDS, Action, ResourceKind
from origin.events.admission import FULL
from origin.events.channel import EventChannel
from origin.events.created.channels import CreatedChannels
from origin.events.delivery import as_text
from origin.events.multiplexing.positions import UNREADABLE, write_positions
from origin.events.publishing import DELETED
from origin.events.routes import NO_CHANNEL
from origin.http.channel_patterns import ALLOWED, is_name, is_template, matches
from origin.http1.answer_turns import AnswerTurns
from origin.responses.refusal import RefusalError

EVENTS_IN_TURN = 8
"""Events of one channel that are written before those of the next."""

MOST_CANDIDATES = 256
"""Most channels that the patterns of a request stand for, of which the client may perhaps read some."""


class Readable(NamedTuple):
    """The channels that a client may read.

    Attributes:
        ends: until when, in seconds since the epoch, by name.
        refusals: why it may not fetch the addresses of others, by name.
    """

    ends: Mapping[str, float]
    refusals: Mapping[str, str]


Access = Callable[[Collection[str], str], Awaitable[Readable]]
"""Returns which of some channels may be read; the second argument is a further key or token."""

Writer = Callable[[str, str, str, str], bytes]
"""Writes an event from its channel, its type, its text and its id."""


class ChannelDirectory:
    """All event channels of a server, by name: the configured ones, and those that were made at run time."""

    def __init__(self, configured: Mapping[str, EventChannel], created: CreatedChannels) -> None:
        self._configured = configured
        self._created = created

    async def names(self, pattern: str, most: int) -> list[str]:
        """Return the names that a pattern stands for, at most so many and one more.

        Raises:
            RefusalError: the only one that it stands for isn't there.
        """
        if is_template(pattern):
            configured = [name for name in self._configured if matches(pattern, name)]
            return [*configured, *self._created.matching(pattern, most)][: most + 1]
        if not is_name(pattern):
            raise RefusalError(400, f"channel: {ALLOWED}; the last may be '*'")
        if pattern in self._configured or self._created.get(pattern) is not None:
            return [pattern]
        await self._created.catch_up()
        if self._created.get(pattern) is None:
            is_gone = self._created.is_gone(pattern)
            raise RefusalError(*((410, DELETED) if is_gone else (404, NO_CHANNEL)))
        return [pattern]

    @contextlib.asynccontextmanager
    async def using(self, name: str) -> AsyncIterator[EventChannel | None]:
        """Hold a channel open while the context is; None where it is gone meanwhile."""
        channel = self._configured.get(name)
        if channel is not None:
            yield channel
            return
        async with self._created.open.using(name) as opened:
            yield None if opened is None else opened.channel

    def watched(self, listener: Callable[[str], None]) -> contextlib.AbstractContextManager[None]:
        """Call a function with the name of each channel that is made, while the context is open."""
        return self._created.watched(listener)


@dataclass(slots=True, eq=False)
class _Subscription:
    """A channel that is read.

    Attributes:
        sequence: number of its next event.
        identity: id of the position before that event.
        until: until when it may be read, in seconds since the epoch.
    """

    channel: EventChannel
    use: contextlib.AsyncExitStack
    sequence: int
    identity: str
    until: float
    notice: str = ""


class MergedReader:
    """Gathers the events of several channels for one client; an asynchronous context that holds them open.

    Args:
        access: checks which channels the client may read.
        write: writes an event for the client.
        most: channels at once.
        turns: the client's, in which its events are written.

    Attributes:
        is_open: whether the client may subscribe to more.
    """

    def __init__(
        self, directory: ChannelDirectory, access: Access, write: Writer, most: int, turns: AnswerTurns
    ) -> None:
        self._turns = turns
        self._directory = directory
        self._access = access
        self._write = write
        self._most = most
        self.is_open = False
        self._channels: dict[str, _Subscription] = {}
        # The channel of the last event: the next ones come from the others.
        self._latest = ""
        # The patterns that were asked for, each with the client's key, and channels that were made meanwhile.
        self._patterns: dict[str, str] = {}
        self._made: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._stack = contextlib.ExitStack()
        self._refused: list[str] = []

    async def __aenter__(self) -> Self:
        self._stack.enter_context(self._directory.watched(self._note_made))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        for name in tuple(self._channels):
            await self._remove(name)

    def __len__(self) -> int:
        """Count the channels."""
        return len(self._channels)

    @property
    def is_over(self) -> bool:
        """Whether nothing comes any more, and no pattern stands for channels that may be made."""
        return not self.is_open and not self._channels and not any(map(is_template, self._patterns))

    @property
    def is_closing(self) -> bool:
        """Whether the server ends, so that the client is to come again."""
        return any(one.channel.closed and not one.channel.deleted for one in self._channels.values())

    # Channels

    def go_on_behind(self, positions: Mapping[str, str]) -> None:
        """Begin with the channels behind that of the event which a client has had last."""
        self._latest = next(iter(positions), "")

    async def subscribe(
        self, patterns: Sequence[str], positions: Mapping[str, str] | None = None, key: str = ""
    ) -> list[str]:
        """Read channels, or those of patterns, from now on; return the names.

        Args:
            positions: the ids behind which a client goes on, by channel; None where its id can't be read.
            key: a key of the client for these channels alone.

        Raises:
            RefusalError: the client may not, or reads too many.
        """
        former, names = dict(self._patterns), dict[str, None]()
        try:
            for pattern in patterns:
                found = await self._directory.names(pattern, self._most)
                # Before the next wait, so that no channel is missed that is made meanwhile.
                self._patterns[pattern] = key
                names |= dict.fromkeys(name for name in found if name not in self._channels)
                # Of more than these nobody knows which the client may read.
                if max(len(found), len(self._patterns)) > self._most or len(names) > MOST_CANDIDATES:
                    raise self._too_many()
            allowed, refusals = await self._access(names, key)
            for name in (one for one in patterns if one in names and one not in allowed):
                if name in refusals:
                    raise RefusalError(403, f"{name}: {refusals[name]}")
                raise UnauthorizedError(f"{name}: {NEEDS[Action.READ, ResourceKind.EVENTS].line}")
            wanted = [name for name in names if name in allowed]
            if len(self._channels) + len(wanted) > self._most:
                raise self._too_many()
            for name in wanted:
                identity = UNREADABLE if positions is None else positions.get(name)
                await self._add(name, allowed[name], identity)
        except RefusalError:
            for pattern in patterns:
                if pattern not in former:
                    await self.unsubscribe(pattern)
            raise
        return wanted

    def _too_many(self) -> RefusalError:
        return RefusalError(400, f"limits.event_channels_per_reader: at most {self._most} channels")

    async def unsubscribe(self, pattern: str) -> bool:
        """Read a channel, or those of a pattern, no more; return whether it was asked for."""
        if self._patterns.pop(pattern, None) is None:
            return False
        for name in tuple(self._channels):
            if not any(matches(other, name) for other in self._patterns):
                await self._remove(name)
        return True

    async def _add(self, name: str, until: float, identity: str | None) -> None:
        use = contextlib.AsyncExitStack()
        channel = await use.enter_async_context(self._directory.using(name))
        if channel is not None:
            await channel.catch_up(identity)
        if channel is None or name in self._channels or channel.full:
            await use.aclose()
            if channel is not None and name not in self._channels:
                raise RefusalError(503, FULL, {"retry-after": str(channel.limits.retry_seconds)})
            return
        use.enter_context(channel.polling())
        resumption = channel.since(identity)
        channel.note_resumption(identity, resumption)
        notice = "" if resumption.complete else _gap(resumption.reason, resumption.lost)
        found = _Subscription(channel, use, resumption.sequence, resumption.identity, until, notice)
        self._channels[name] = found
        use.enter_context(channel.notifying(self._wake.set))
        self._wake.set()

    async def _remove(self, name: str) -> None:
        found = self._channels.pop(name, None)
        if found is not None:
            await found.use.aclose()

    def _note_made(self, name: str) -> None:
        """Note a channel that was made, for the client's next turn."""
        if not any(matches(pattern, name) for pattern in self._patterns):
            return
        if len(self._made) < self._most:
            self._made[name] = None
        elif len(self._refused) < self._most:
            self._refused.append(name)
        self._wake.set()

    async def _join_made(self) -> None:
        made, self._made = self._made, {}
        for name in made:
            if name in self._channels:
                continue
            keys = {key for pattern, key in self._patterns.items() if matches(pattern, name)}
            for key in keys:
                try:
                    allowed = (await self._access([name], key)).ends
                except RefusalError:
                    continue  # the client's keys are for other channels
                if name not in allowed or name in self._channels:
                    continue
                try:
                    if len(self._channels) >= self._most:
                        raise self._too_many()
                    await self._add(name, allowed[name], None)
                except RefusalError:
                    if len(self._refused) < self._most:
                        self._refused.append(name)

    # Events

    async def wait(self, seconds: float) -> bool:
        """Wait for events or a change; return False where nothing came in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    async def wait_for_room(self, seconds: float) -> None:
        """Wait until the client has taken something, or for a time."""
        self._wake.clear()
        await self.wait(seconds)
        self._wake.set()

    def wake(self) -> None:
        """End the wait."""
        self._wake.set()

    async def gather(self, most_bytes: int) -> list[bytes]:
        """Return the next events in the client's form, of all channels together at most so many bytes.

        There is one event at least, if there is any. The channels take turns, so that none waits for the end
        of another one's events. Channels that are deleted, or may be read no longer, go behind their last
        event.
        """
        self._wake.clear()
        if self._made:
            await self._join_made()
        written = [self._write(name, "reset", _gap("full", None), "") for name in self._refused]
        self._refused.clear()
        now = time.time()
        for name, found in tuple(self._channels.items()):
            if self._channels.get(name) is not found:
                continue  # the client has unsubscribed meanwhile
            if found.until <= now:
                await self._remove(name)
        written += await self._turns.collect(self._events(), most_bytes)
        for name, found in tuple(self._channels.items()):
            if found.sequence < found.channel.log.end:
                self._wake.set()
            elif found.channel.deleted and self._channels.get(name) is found:
                await self._remove(name)
        return written

    @property
    def identity(self) -> str:
        """The id behind which a client goes on that has had nothing yet; empty if a notice is to come."""
        if not self._channels or any(one.notice for one in self._channels.values()):
            return ""
        return self._identity(next(iter(self._channels)))

    @property
    def ends(self) -> float:
        """When the first of the channels may be read no longer, in seconds since the epoch."""
        return min((one.until for one in self._channels.values()), default=math.inf)

    def _events(self) -> Iterator[bytes]:
        """Yield the events of all channels, some of each in turn."""
        names = list(self._channels)
        first = names.index(self._latest) + 1 if self._latest in self._channels else 0
        waiting = deque((*names[first:], *names[:first]))
        while waiting:
            self._latest = name = waiting.popleft()
            # The client may have unsubscribed since the last event was taken.
            if (found := self._channels.get(name)) is not None:
                yield from self._events_of(name, found)
                if found.sequence < found.channel.log.end:
                    waiting.append(name)

    def _events_of(self, name: str, found: _Subscription) -> Iterator[bytes]:
        """Yield the next events of a channel, at most `EVENTS_IN_TURN`."""
        log = found.channel.log
        if found.sequence < log.first and not found.notice:
            found.notice = _gap("lagged", log.first - found.sequence)
        if found.notice:
            found.sequence = max(found.sequence, log.first)
            found.identity = log.identity_before(found.sequence)
            yield self._write(name, "reset", found.notice, self._identity(name))
            found.notice = ""
        for event in log.between(found.sequence, found.sequence + EVENTS_IN_TURN):
            if self._channels.get(name) is not found:
                return
            found.sequence += 1
            found.identity = event.identity
            yield self._write(name, event.name, event.data, self._identity(name))

    def _identity(self, name: str) -> str:
        return write_positions(name, {one: found.identity for one, found in self._channels.items()})


def _gap(reason: str, lost: int | None) -> str:
    return as_text({"reason": reason, "lost": lost})


def json_event(channel: str, name: str, data: str, identity: str) -> bytes:
    """Write an event of a channel as one JSON object."""
    told = {"id": identity} if identity else {}
    return msgspec.json.encode({"channel": channel, **told, "event": name or "message", "data": data})
