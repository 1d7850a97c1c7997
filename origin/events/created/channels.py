"""The event channels that are made at run time: their records, and the channels of those in use.

Of a channel without clients there is its record alone, and its events as bytes: it is a channel again as soon
as somebody comes. So hundreds of thousands cost little, and no task.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import heapq
import itertools
import math
import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import structlog
from starlette.types import Scope

from origin.access.key_hash import KeyHash
from origin.events.authorization import ChannelKeys
from origin.events.channel import NO_EPOCH, EventChannel, EventChannelOptions
from origin.events.channel_replication import FollowedEventLog, ServedEventLog
from origin.events.created.limits import CreationLimits
from origin.events.created.records import (
    ADMINISTRATOR,
    RELAY,
    TEMPLATE,
    ChannelSettings,
    CreatedChannel,
    Records,
    line_of,
    line_of_gone,
)
from origin.events.created.store import ChannelStore, LineMaker, NotStoredError
from origin.events.disk_history import EventHistory
from origin.events.event_log import Event
from origin.events.limits import EventPublishLimits
from origin.events.publishing import EventPublisher
from origin.events.shared_event_channel import SharedEventChannel
from origin.http.channel_patterns import ANY, folder_of, template_of
from origin.http1.body_writer import at_end
from packager.cluster.shared_records import RecordRefusedError
from packager.step_budget import StepBudget

if TYPE_CHECKING:
    from origin.events.created.cluster import CreatedChannelsOfCluster

log = structlog.get_logger()

TOKEN_BYTES = 16
"""Random bytes of tokens and of names that nobody can guess."""

DELETED, EXPIRED = "deleted", "expired"
"""Reasons for which what is published to a channel is stopped."""

EXISTS = "a channel of this name exists"
FULL = "limits.created_channels: so many channels are there"
FULL_OF_CREATOR = "limits.created_channels_per_token: so many channels of one creator are there"

NUMBER_BYTES = 8
"""Random bytes by which nodes of a cluster tell channels of one name apart."""

SPARE_TIMES = 1000
"""Times of channels that changed meanwhile, beyond as many as there are channels, before they are dropped."""

HISTORY_SHARE = 9 / 8
"""For so many times as long as its events are kept a channel's files may have them."""


class CreationError(Exception):
    """A channel isn't made; the text is one line that says why."""


class ExistsError(CreationError):
    """A channel has the name."""


class FullError(CreationError):
    """There is no room for one more channel."""


@dataclass(frozen=True, slots=True)
class Template:
    """The options of the channels of a pattern.

    Attributes:
        settings: of channels for which none are asked for.
        seconds: for how long a channel is there; infinite for ever.
        on_publish: whether the first event makes a channel.
    """

    settings: ChannelSettings
    seconds: float = math.inf
    on_publish: bool = False


@dataclass(frozen=True, slots=True)
class ChannelMaker:
    """Makes channels of their records.

    Attributes:
        options: returns the options of a channel with some settings.
        count: called with the number of bytes written to readers.
        history: makes what keeps a channel's events on disk; None where nothing does.
        templates: by their patterns.
        keys: of templates' publishers and readers, by the pattern, and of relays', by their name; a reload
            changes them.
        end_abandoned: ends the channel of an answer whose relay ended with another run of the server.
    """

    options: Callable[[ChannelSettings], EventChannelOptions]
    count: Callable[[int], None] = lambda _: None
    history: Callable[[EventChannel, ChannelSettings], EventHistory] | None = None
    publish: EventPublishLimits = field(default_factory=EventPublishLimits)
    templates: Mapping[str, Template] = field(default_factory=dict)
    keys: Mapping[str, ChannelKeys] = field(default_factory=dict)
    end_abandoned: Callable[[CreatedChannel, EventChannel], None] = lambda _, channel: channel.end()


@dataclass(slots=True, eq=False)
class OpenChannel:
    """A channel that clients use, or have used a moment ago.

    Attributes:
        uses: requests for it that go on.
        since: since when there are none, by the monotonic clock.
        ended: completes when the history is written, and its files are closed.
        shared: shares its events with the other nodes of a cluster; None without one.
        is_read: whether the events that are in Redis were read.
    """

    channel: EventChannel
    publisher: EventPublisher
    history: EventHistory | None = None
    uses: int = 0
    since: float = 0.0
    ended: asyncio.Task[None] | None = None
    is_closing: bool = False
    shared: SharedEventChannel | None = None
    is_read: bool = False


class CreatedChannels:
    """The channels that were made at run time, by name.

    Args:
        store: keeps them on disk; None where nothing survives a restart.
        clock: seconds since the epoch of Unix.

    Attributes:
        answer_refusal: why this server keeps no answers; empty if it does.
        readers: number of requests for channels that go on.
        created: how many were made since the start.
        records: the channels without their events, and the names of those that are gone.
        cluster: shares the channels with the other nodes of a cluster; None without one.
    """

    name = "created event channels"

    def __init__(
        self,
        maker: ChannelMaker,
        limits: CreationLimits,
        store: ChannelStore | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.maker = maker
        self.limits = limits
        self._clock = clock
        self.records = Records(limits.channels)
        # Names by what is before their last segment, and the number of channels of each creator.
        self._folders: dict[str, dict[str, None]] = {}
        self._counts: dict[str, int] = {}
        # Names of answers' channels, by the creator and the alias.
        self._aliases: dict[tuple[str, str], dict[str, None]] = {}
        self._open: dict[str, OpenChannel] = {}
        self._packed: dict[str, bytes] = {}
        self._packed_bytes = self._open_bytes = 0
        # When channels end or have events that are too old, by name; only the time counts that is `due`.
        self._times: list[tuple[float, str]] = []
        self._epoch = 0
        self._closed = asyncio.Event()
        self._ready = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._listeners: set[Callable[[str], None]] = set()
        self.answer_refusal = ""
        self.cluster: CreatedChannelsOfCluster | None = None
        self.readers = self.created = 0
        self.store = store
        if store is None:
            self._ready.set()
        else:
            store.counting = self._lines

    def __len__(self) -> int:
        """Count the channels."""
        return len(self.records.channels)

    @property
    def is_ready(self) -> bool:
        """Whether the stored channels are known."""
        return self._ready.is_set()

    @property
    def event_bytes(self) -> int:
        """Bytes of all events in memory."""
        return self._packed_bytes + self._open_bytes

    @property
    def open(self) -> Collection[OpenChannel]:
        """The channels that clients use, or have used a moment ago."""
        return self._open.values()

    def get(self, name: str) -> CreatedChannel | None:
        """Return the record of a channel; None for none."""
        found = self.records.channels.get(name)
        return None if found is None or found.expires <= self._clock() else found

    def is_gone(self, name: str) -> bool:
        """Return whether there was a channel of this name, whose readers may still ask."""
        found = self.records.channels.get(name)
        until = self.records.gone.get(name, -math.inf) if found is None else math.inf
        return self.get(name) is None and until > self._clock()

    def template_for(self, name: str) -> Template | None:
        """Return the template that has a name among those of its pattern; None for none."""
        return self.maker.templates.get(template_of(name))

    def matching(self, pattern: str, most: int) -> list[str]:
        """Return the names of the channels of a pattern, at most so many and one more.

        Answers aren't among them: their readers have to know their names.
        """
        names: list[str] = []
        for name in self._folders.get(folder_of(pattern), ()):
            if self.get(name) is not None:
                names.append(name)
            if len(names) > most:
                break
        return names

    def keys_of(self, name: str) -> ChannelKeys | None:
        """Return the keys of a channel, or those of the template that would make it; None for none."""
        found = self.get(name)
        template = template_of(name) if found is None else found.settings.template
        keys = self.maker.keys.get(template)
        if found is None:
            return keys
        return ChannelKeys(
            publish_token="" if keys is None else keys.publish_token,
            read_key="" if keys is None else keys.read_key,
            allow_origin=None if keys is None else keys.allow_origin,
            read_token=found.read_token,
            publish_token_hash=found.publish_token,
        )

    def names(self) -> list[str]:
        """Return the names of all channels."""
        return list(self.records.channels)

    async def catch_up(self) -> None:
        """Wait for the channels that other nodes of a cluster have made.

        Raises:
            RefusalError: nobody knows them now.
        """
        if self.cluster is not None:
            await self.cluster.catch_up()

    @contextlib.contextmanager
    def watched(self, listener: Callable[[str], None]) -> Iterator[None]:
        """Call a function with the name of each channel that is made, while the context is open."""
        self._listeners.add(listener)
        try:
            yield
        finally:
            self._listeners.discard(listener)

    # Making and ending

    def check_room(self, creator: str) -> None:
        """Check that a creator may make one more channel.

        Raises:
            FullError: there is no room; the text says for whom.
        """
        is_own = creator in (ADMINISTRATOR, TEMPLATE) or creator.startswith(RELAY)
        if not is_own and self._counts.get(creator, 0) >= self.limits.per_creator:
            raise FullError(FULL_OF_CREATOR)
        if len(self.records.channels) >= self.limits.channels and not self._evict():
            raise FullError(FULL)

    def unused_name(self, pattern: str = ANY) -> str:
        """Return a name that nobody can guess, and that a pattern stands for."""
        return f"{pattern.removesuffix(ANY)}{secrets.token_urlsafe(TOKEN_BYTES)}"

    async def create(
        self,
        name: str,
        creator: str,
        settings: ChannelSettings,
        expires: float = math.inf,
        *,
        with_tokens: bool = True,
    ) -> tuple[CreatedChannel, str, str]:
        """Make a channel; return it, and its tokens for reading and publishing, of which hashes are kept.

        Raises:
            ExistsError: a channel has the name.
            FullError: there is no room for one more.
            NotStoredError: the channel can't be stored, and isn't made.
        """
        if not self._ready.is_set():
            raise NotStoredError("the stored channels aren't read yet")
        if self.records.channels.get(name) is not None and self.get(name) is None:
            self._remove(name)
        if name in self.records.channels:
            raise ExistsError(EXISTS)
        if self.cluster is None:
            self.check_room(creator)
        now = self._clock()
        read, publish = (new_token() if with_tokens else "" for _ in range(2))
        read_hash, publish_hash = (KeyHash.of(one) if one else None for one in (read, publish))
        shared = self.records.shared(settings)
        channel = CreatedChannel(
            name, creator, now, shared, expires, now, read_token=read_hash, publish_token=publish_hash
        )
        if self.cluster is not None:
            await self._create_at_all(self.cluster, channel)
            return channel, read, publish
        was_gone = self.records.gone.pop(name, None)
        self._add(channel)
        if self.store is not None:
            try:
                await self.store.store(line_of(channel))
            except NotStoredError:
                if self.records.channels.get(name) is channel:
                    self._remove(name)
                    self.records.gone.pop(name, None)
                    if was_gone is not None:
                        self.records.gone[name] = was_gone
                raise
        self.created += 1
        return channel, read, publish

    async def _create_at_all(self, cluster: CreatedChannelsOfCluster, channel: CreatedChannel) -> None:
        """Make a channel at all nodes of a cluster."""
        channel.number = secrets.token_hex(NUMBER_BYTES)
        try:
            await cluster.create(channel)
        except RecordRefusedError as error:
            if error.reason == "exists":
                raise ExistsError(EXISTS) from None
            raise FullError(FULL_OF_CREATOR if error.reason == "creator" else FULL) from None
        self.created += 1

    # Following the other nodes of a cluster

    def note_ready(self) -> None:
        """Note that the channels of the cluster are known."""
        self._ready.set()

    def note_record(self, channel: CreatedChannel) -> None:
        """Note a channel as it is at all nodes."""
        name, known = channel.name, self.records.channels.get(channel.name)
        if known is not None and known.number != channel.number:
            self._remove(name)
            known = None
        if known is None:
            if channel.expires <= self._clock():
                self._note_gone(name, channel.expires + self._seconds_gone(channel.settings))
            elif len(self.records.channels) < self.limits.channels:
                self.records.gone.pop(name, None)
                self._add(channel)
            return
        known.settings, known.expires, known.revision = channel.settings, channel.expires, channel.revision
        known.read_token, known.publish_token = channel.read_token, channel.publish_token
        self._apply_changes(known)

    def note_end(self, name: str, until: float | None) -> None:
        """Note that a channel is gone at all nodes.

        Args:
            until: when nobody needs to know any more that it was there; None for now.
        """
        self._remove(name)
        self.records.gone.pop(name, None)
        if until is not None and until > self._clock():
            self._note_gone(name, until)

    # Answers

    def produce(
        self, creator: str, settings: ChannelSettings, expires: float, alias: str, stop: Callable[[str], None]
    ) -> tuple[CreatedChannel, OpenChannel, str]:
        """Make a channel with a name that nobody can guess, to which this process alone publishes.

        It is held open until `finish`. A full disk costs what is stored of it, not the channel.

        Args:
            stop: ends what is published; called with the reason when the channel is deleted.

        Returns:
            Its record, the channel, and its token for reading, of which a hash is kept.

        Raises:
            FullError: there is no room for one more.
        """
        self.check_room(creator)
        if not self._has_room():
            raise FullError("limits.created_channel_bytes: so many bytes of events are there")
        read = new_token()
        now, shared = self._clock(), self.records.shared(settings)
        channel = CreatedChannel(
            self.unused_name(), creator, now, shared, expires, now, read_token=KeyHash.of(read)
        )
        channel.alias, channel.stop = alias, stop
        self._add(channel)
        self._store_soon(channel)
        self.created += 1
        opened = self._wake(channel)
        opened.uses += 1
        return channel, opened, read

    def finish(self, channel: CreatedChannel, opened: OpenChannel, expires: float) -> None:
        """Let a channel go to which nothing is published any more, and that ends at a time."""
        channel.stop, channel.expires = None, expires
        opened.uses -= 1
        opened.since = time.monotonic()
        if self.records.channels.get(channel.name) is channel:
            self._call_at(expires, channel.name)
            self._store_soon(channel)

    def discard(self, channel: CreatedChannel) -> None:
        """Remove a channel without waiting until that is stored."""
        self._store_gone(channel, self._remove(channel.name))

    def set_alias(self, channel: CreatedChannel, alias: str) -> None:
        """Find a channel by another alias, too, from now on."""
        if self.records.channels.get(channel.name) is not channel:
            return
        self._drop_alias(channel)
        channel.alias = alias
        self._index_alias(channel)
        self._store_soon(channel)

    def aliased(self, creator: str, alias: str, most: int) -> list[CreatedChannel]:
        """Return the channels of a creator that have an alias, at most so many."""
        found = map(self.get, self._aliases.get((creator, alias), ()))
        return list(itertools.islice((channel for channel in found if channel is not None), most))

    def _index_alias(self, channel: CreatedChannel) -> None:
        if channel.has_alias:
            self._aliases.setdefault((channel.creator, channel.alias), {})[channel.name] = None

    def _drop_alias(self, channel: CreatedChannel) -> None:
        key = channel.creator, channel.alias
        if channel.name in (names := self._aliases.get(key, {})):
            del names[channel.name]
            if not names:
                del self._aliases[key]

    def _store_gone(self, channel: CreatedChannel, until: float | None) -> None:
        """Store that a channel is gone, if it was stored that it was there."""
        if self.store is not None and channel.is_stored and until is not None:
            self.store.store_soon(line_of_gone(channel.name, until))

    def _store_soon(self, channel: CreatedChannel) -> None:
        if self.store is not None and channel.is_stored:
            self.store.store_soon(line_of(channel))

    def _add(self, channel: CreatedChannel) -> None:
        name = channel.name
        self.records.channels[name] = channel
        self._index(channel)
        for listener in () if channel.is_answer else tuple(self._listeners):
            listener(name)

    def _index(self, channel: CreatedChannel) -> None:
        name, creator = channel.name, channel.creator
        if not channel.is_answer:
            self._folders.setdefault(folder_of(name), {})[name] = None
        self._counts[creator] = self._counts.get(creator, 0) + 1
        self._index_alias(channel)
        self._call_at(channel.expires, name)

    def _call_at(self, moment: float, name: str) -> None:
        """Schedule a time at which a channel ends, or has events that are too old."""
        channel = self.records.channels.get(name)
        if channel is not None and moment < channel.due:
            channel.due = moment
            heapq.heappush(self._times, (moment, name))

    async def change(
        self,
        channel: CreatedChannel,
        settings: ChannelSettings,
        expires: float,
        *,
        read_token: str = "",
        publish_token: str = "",
    ) -> None:
        """Change the settings and the end of a channel, and those of its tokens that are given.

        Raises:
            RefusalError: it isn't changed at the nodes of a cluster.
            NotStoredError: the change isn't stored, but made.
        """
        if self.cluster is not None:
            following = channel.revision + 1
            changed = replace(channel, settings=settings, expires=expires, revision=following)
            _replace_tokens(changed, read_token, publish_token)
            await self.cluster.change(changed)
            return
        channel.settings, channel.expires = self.records.shared(settings), expires
        _replace_tokens(channel, read_token, publish_token)
        self._apply_changes(channel)
        if self.store is not None:
            await self.store.store(line_of(channel), keeps=True)

    def _apply_changes(self, channel: CreatedChannel) -> None:
        """Keep as many events as a channel's settings say now, until it ends."""
        self._call_at(channel.expires, channel.name)
        if (opened := self._open.get(channel.name)) is not None:
            options = self.maker.options(channel.settings)
            opened.channel.resize(options)
            if self.cluster is not None and opened.shared is not None:
                self.cluster.keep(opened.shared, channel, options.limits)

    async def delete(self, name: str) -> None:
        """Delete a channel, whose readers get its end.

        Raises:
            RefusalError: it isn't deleted at the nodes of a cluster.
            NotStoredError: the deletion isn't stored, but made.
        """
        channel = self.records.channels.get(name)
        if self.cluster is not None:
            if channel is not None:
                forgotten = self._clock() + self._seconds_gone(channel.settings)
                await self.cluster.delete(channel, forgotten)
            return
        until = self._remove(name)
        if channel is not None and channel.is_stored and until is not None and self.store is not None:
            await self.store.store(line_of_gone(name, until), keeps=True)

    def _remove(self, name: str) -> float | None:
        """Remove a channel; return until when it counts as gone, None where there is none."""
        channel = self.records.channels.get(name)
        if channel is None:
            return None
        if channel.stop is not None:
            # The error for its readers comes before the channel's end.
            channel.stop(DELETED if self.get(name) is channel else EXPIRED)
        del self.records.channels[name]
        self._drop_alias(channel)
        if not channel.is_answer:
            folder = self._folders[folder_of(name)]
            del folder[name]
            if not folder:
                del self._folders[folder_of(name)]
        self._counts[channel.creator] -= 1
        if not self._counts[channel.creator]:
            del self._counts[channel.creator]
        settings = channel.settings
        self._drop_packed(name)
        opened = self._open.get(name)
        if opened is not None:
            if self.cluster is not None and opened.shared is not None:
                # Each node tells its own readers of the end.
                self.cluster.let_go(opened.shared)
            opened.channel.delete()
        if settings.history and self.cluster is None:
            self._remove_history(channel, opened)
        elif opened is not None:
            del self._open[name]
        return self._note_gone(name, self._clock() + self._seconds_gone(settings))

    def _seconds_gone(self, settings: ChannelSettings) -> float:
        """Return for how long it is answered that a channel is gone."""
        return max(settings.keep_for, settings.history) or self.limits.gone_seconds

    def _note_gone(self, name: str, until: float) -> float:
        self.records.gone[name] = until
        if len(self.records.gone) > self.limits.channels:
            del self.records.gone[next(iter(self.records.gone))]
        return until

    def _remove_history(self, channel: CreatedChannel, opened: OpenChannel | None) -> None:
        """Remove a channel's files, behind what is still being written."""
        if opened is None:
            opened = self._wake(channel)
            opened.channel.delete()
        opened.is_closing = True
        if opened.history is not None:
            opened.history.remove_all()
        if opened.ended is None:
            del self._open[channel.name]

    def _evict(self) -> bool:
        """Remove the channel that nobody has used for longest, if its events needn't be kept any more."""
        now, oldest = self._clock(), None
        for channel, _ in zip(self.records.channels.values(), range(self.limits.looked_at), strict=False):
            kept = max(channel.settings.keep_for, channel.settings.history)
            opened = self._open.get(channel.name)
            is_idle = (opened is None or not opened.uses) and channel.used + kept < now
            if kept and is_idle and (oldest is None or channel.used < oldest.used):
                oldest = channel
        if oldest is None:
            return False
        self._store_gone(oldest, self._remove(oldest.name))
        return True

    # Using

    @contextlib.asynccontextmanager
    async def using(self, name: str, scope: Scope | None = None) -> AsyncIterator[OpenChannel | None]:
        """Hold a channel open while a request for it goes on; None where there is none any more.

        Args:
            scope: of the request, whose stream may go on when the application has returned.
        """
        opened = await self._opened(name)
        if opened is None:
            yield None
            return
        opened.uses += 1
        self.readers += 1
        try:
            yield opened
        finally:
            at_end(scope or {}, functools.partial(self._end_use, opened))

    def _end_use(self, opened: OpenChannel) -> None:
        opened.uses -= 1
        self.readers -= 1
        opened.since = time.monotonic()

    async def _opened(self, name: str) -> OpenChannel | None:
        while (channel := self.get(name)) is not None:
            opened = self._open.get(name)
            if opened is None:
                opened = self._wake(channel)
            elif opened.is_closing:
                if opened.ended is not None:
                    await asyncio.wait((opened.ended,))
                continue
            if self.cluster is not None and opened.shared is not None and not opened.is_read:
                await self._read_shared(self.cluster, opened, opened.shared)
                continue
            if opened.history is None:
                break
            # The channel counts as used meanwhile.
            opened.uses += 1
            try:
                await opened.history.wait_until_restored()
            finally:
                opened.uses -= 1
            if self._open.get(name) is opened and not opened.is_closing:
                break
        else:
            return None
        if channel.is_answer and channel.stop is None and not opened.channel.ended:
            self.maker.end_abandoned(channel, opened.channel)
        # Behind all that were used before: `_evict` looks at the first ones.
        channel.used = self._clock()
        self.records.channels[name] = self.records.channels.pop(name)
        return opened

    @staticmethod
    async def _read_shared(
        cluster: CreatedChannelsOfCluster, opened: OpenChannel, shared: SharedEventChannel
    ) -> None:
        """Read the events that are in Redis; meanwhile the channel counts as used.

        Raises:
            RefusalError: nobody knows them now.
        """
        opened.uses += 1
        try:
            await cluster.read(shared)
            opened.is_read = True
        finally:
            opened.uses -= 1
            opened.since = time.monotonic()

    def _wake(self, channel: CreatedChannel) -> OpenChannel:
        """Make the channel of a record, with the events that were packed."""
        name = channel.name
        options = self.maker.options(channel.settings)
        packed = self._drop_packed(name)
        made: EventChannel | None = None
        if packed:
            make = functools.partial(EventChannel, name, options=options, count=self.maker.count)
            folding = FollowedEventLog(name, make, {})
            for message in _messages_in(packed):
                folding.fold(folding.read(message)[1])
            made = folding.channel
        if made is None:
            epoch = self._next_epoch() if self.cluster is None else NO_EPOCH
            made = EventChannel(name, epoch, options, count=self.maker.count)
        if self._closed.is_set():
            made.close()  # readers come again to the next server
        made.on_entry = self._count_event
        publisher = EventPublisher(made, self.maker.publish, has_room=self._has_room)
        opened = self._open[name] = OpenChannel(made, publisher, since=time.monotonic())
        self._open_bytes += made.log.size
        if self.cluster is not None:
            opened.shared = self.cluster.share(made, channel)
        is_kept = channel.settings.history and not self._closed.is_set()
        if is_kept and self.maker.history is not None and self._group is not None:
            opened.history = self.maker.history(made, channel.settings)
            opened.ended = self._group.create_task(self._keep_history(name, opened, opened.history))
        return opened

    def _next_epoch(self) -> str:
        """Name a new epoch: by the time, and never twice."""
        self._epoch = max(self._epoch + 1, time.time_ns() // 1_000_000)
        return f"{self._epoch:x}"

    def _count_event(self, entry: object) -> None:
        if isinstance(entry, Event):
            self._open_bytes += entry.size

    def _has_room(self) -> bool:
        of_all_nodes = 0 if self.cluster is None else self.cluster.records.event_bytes
        return max(self.event_bytes, of_all_nodes) < self.limits.event_bytes

    def _drop_packed(self, name: str) -> bytes | None:
        packed = self._packed.pop(name, None)
        self._packed_bytes -= len(packed or b"")
        return packed

    async def _keep_history(self, name: str, opened: OpenChannel, history: EventHistory) -> None:
        """Keep a channel's events on disk until it is closed."""
        try:
            await history.run()
        except Exception:  # other channels go on
            log.exception("a created event channel's history broke", channel=name)
        finally:
            if self._open.get(name) is opened:
                del self._open[name]

    # Time

    async def wait_until_restored(self) -> None:
        """Wait for the stored channels, unless that takes too long: they may still come later."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.limits.restore_seconds):
                await self._ready.wait()

    async def run(self) -> None:
        """Restore what is stored, then look after the channels until closed or cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            if self.store is not None:
                await self._restore(self.store)
                writing = group.create_task(self.store.run())
            if self.cluster is None:
                self._ready.set()
            while not self._closed.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.limits.beat_seconds):
                        await self._closed.wait()
                await self._beat()
            if self.store is not None:
                writing.cancel()

    async def _restore(self, store: ChannelStore) -> None:
        records, budget = await store.read(self.limits.channels), StepBudget()
        self.records = records
        self._folders.clear()
        self._counts.clear()
        self._aliases.clear()
        for channel in tuple(records.channels.values()):
            if channel.is_answer:
                # The answer ended with the server before at the latest.
                channel.expires = min(channel.expires, self._clock() + channel.settings.keep_for)
            self._index(channel)
            if channel.settings.history:
                # Files may have events that are too old.
                self._call_at(self._clock() + channel.settings.history * HISTORY_SHARE, channel.name)
            await budget.spend()

    def close(self) -> None:
        """Disconnect all readers, who come again, and write what waits."""
        self._closed.set()
        for opened in tuple(self._open.values()):
            opened.channel.close()
            if opened.history is not None:
                opened.history.close()

    async def _beat(self) -> None:
        """Keep the readers' connections alive, and pack the channels that nobody uses any more."""
        budget, size = StepBudget(), 0
        for name, opened in tuple(self._open.items()):
            await budget.spend()
            if self._open.get(name) is not opened or opened.is_closing:
                continue
            try:
                opened.channel.beat()
            except Exception:  # other channels go on
                log.exception("an event channel's readers can't be written to", channel=name)
            idle = time.monotonic() - opened.since
            if not opened.uses and idle >= self.limits.idle_seconds and not opened.channel.readers_here:
                self._put_to_rest(name, opened)
            if name in self._open:
                size += opened.channel.log.size
        self._open_bytes = size
        await self._look_at_times(budget)

    def _put_to_rest(self, name: str, opened: OpenChannel) -> None:
        """Keep of a channel without clients its record alone, and its events in few bytes."""
        channel, record = opened.channel, self.records.channels.get(name)
        count = channel.log.end - channel.log.first
        if self.cluster is not None and opened.shared is not None:
            # Redis has the events; while it is away they can be read here alone.
            if self.cluster.is_up or not opened.is_read:
                self.cluster.let_go(opened.shared)
                del self._open[name]
            return
        if record is None or channel.log.size > self.limits.packed_bytes or count > self.limits.packed_events:
            return
        if opened.history is not None:
            if opened.history.trouble is None:
                # The files have the events.
                opened.is_closing = True
                opened.history.close()
                if channel.log.end > channel.log.first:
                    self._call_at(self._clock() + record.settings.history * HISTORY_SHARE, name)
            return
        del self._open[name]
        if channel.entered or channel.log.end or channel.log.epochs or channel.log.begin:
            served = ServedEventLog(channel)
            packed = b"".join(_framed(served.encode(entry)) for entry in served.snapshot())
            self._packed[name] = packed
            self._packed_bytes += len(packed)
            newest = channel.log.newest
            if record.settings.keep_for and newest is not None:
                self._call_at(newest.time + record.settings.keep_for, name)

    async def _look_at_times(self, budget: StepBudget) -> None:
        """End the channels whose time is over, and drop events that are too old."""
        now = self._clock()
        if len(self._times) > 2 * len(self.records.channels) + SPARE_TIMES:
            await self._drop_old_times(budget)
        while self._times and self._times[0][0] <= now:
            moment, name = heapq.heappop(self._times)
            await budget.spend()
            channel = self.records.channels.get(name)
            if channel is None or channel.due != moment:
                continue
            channel.due = math.inf
            self._call_at(channel.expires, name)
            if channel.expires <= now:
                self._store_gone(channel, self._remove(name))
            elif name not in self._open and (channel.settings.keep_for or channel.settings.history):
                self._wake(channel).channel.log.expire()

    async def _drop_old_times(self, budget: StepBudget) -> None:
        """Forget the times of channels that are gone, or are looked at at another time."""
        times, self._times = self._times, []
        for moment, name in times:
            channel = self.records.channels.get(name)
            if channel is not None and channel.due == moment:
                heapq.heappush(self._times, (moment, name))
            await budget.spend()

    def _lines(self) -> Collection[LineMaker]:
        """Return what writes the lines that still count."""
        now = self._clock()
        gone = [
            functools.partial(line_of_gone, name, until)
            for name, until in self.records.gone.items()
            if until > now
        ]
        stored = [one for one in self.records.channels.values() if one.is_stored]
        return [*(functools.partial(line_of, one) for one in stored), *gone]


def new_token() -> str:
    """Return a token that nobody can guess."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def _replace_tokens(channel: CreatedChannel, read_token: str, publish_token: str) -> None:
    """Keep hashes of those tokens that are given, in place of the former ones."""
    channel.read_token = KeyHash.of(read_token) if read_token else channel.read_token
    channel.publish_token = KeyHash.of(publish_token) if publish_token else channel.publish_token


def _framed(message: bytes) -> bytes:
    return len(message).to_bytes(4, "big") + message


def _messages_in(packed: bytes) -> Iterator[bytes]:
    """Split what was packed into the messages of a channel's log."""
    position = 0
    while position < len(packed):
        begin = position + 4
        position = begin + int.from_bytes(packed[position:begin], "big")
        yield packed[begin:position]


class CreatedKeys(Mapping[str, ChannelKeys]):
    """The keys of all event channels, by name: those of the configuration, and those made at run time."""

    def __init__(self, configured: Mapping[str, ChannelKeys], created: CreatedChannels) -> None:
        self._configured = configured
        self._created = created

    def __getitem__(self, name: str) -> ChannelKeys:
        found = self._configured.get(name) or self._created.keys_of(name)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._configured)

    def __len__(self) -> int:
        return len(self._configured)
