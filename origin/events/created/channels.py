"""The event channels that are made at run time: made, changed, found and ended, here or at all nodes."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from origin.access.key_hash import KeyHash
from origin.events.channel import EventChannel
from origin.events.channel_keys import ChannelKeys
from origin.events.created.channel_index import ChannelIndex, ChannelTimes
from origin.events.created.open_channels import (
    DELETED,
    EXPIRED,
    HISTORY_SHARE,
    RESTARTED,
    ChannelMaker,
    OpenChannel,
    OpenChannels,
    Template,
)
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
from origin.events.limits import EventLimits
from origin.events.shared_event_channel import SharedEventChannel
from origin.http.channel_patterns import ANY, template_of
from packager.cluster.shared_records import RecordRefusedError
from packager.concurrency import wait_within
from packager.step_budget import StepBudget

if TYPE_CHECKING:
    from origin.events.created.cluster import CreatedChannelsOfCluster

TOKEN_BYTES = 16
"""Random bytes of tokens and of names that nobody can guess."""

EXISTS = "a channel of this name exists"
FULL = "limits.created_channels: so many channels are there"
FULL_OF_CREATOR = "limits.created_channels_per_token: so many channels of one creator are there"

NUMBER_BYTES = 8
"""Random bytes by which nodes of a cluster tell channels of one name apart."""


class CreationError(Exception):
    """A channel isn't made; the text is one line that says why."""


class ExistsError(CreationError):
    """A channel has the name."""


class FullError(CreationError):
    """There is no room for one more channel."""


class CreatedChannels:
    """The channels that were made at run time, by name.

    Args:
        store: keeps them on disk; None where nothing survives a restart.
        clock: seconds since the epoch of Unix.

    Attributes:
        created: how many were made since the start.
        records: the channels without their events, and the names of those that are gone.
        open: the channels in use, and the events of all.
        cluster: shares the channels with the other nodes of a cluster; None without one.
    """

    name = "created event channels"

    def __init__(
        self,
        maker: ChannelMaker,
        limits: EventLimits,
        store: ChannelStore | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.maker = maker
        self.limits = limits
        self._clock = clock
        self.records = Records(limits.created_channels)
        self._index = ChannelIndex()
        self._times = ChannelTimes()
        self.open = OpenChannels(maker, limits, self.records, self._times, clock)
        self._closed = asyncio.Event()
        self._ready = asyncio.Event()
        self._listeners: set[Callable[[str], None]] = set()
        self.cluster: CreatedChannelsOfCluster | None = None
        self.created = 0
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

    def get(self, name: str) -> CreatedChannel | None:
        """Return the record of a channel; None for none."""
        return self.records.find(name, self._clock())

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
        for name in self._index.in_folder(pattern):
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
            read_key=None if keys is None else keys.read_key,
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
        if not is_own and self._index.count(creator) >= self.limits.per_creator:
            raise FullError(FULL_OF_CREATOR)
        # In a cluster a channel goes by its end, or as it is deleted, alone.
        is_full = len(self.records.channels) >= self.limits.created_channels
        if is_full and (self.cluster is not None or not self._evict()):
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

    def join(self, cluster: CreatedChannelsOfCluster) -> None:
        """Share the channels with the other nodes of a cluster from now on."""
        self.cluster = self.open.cluster = cluster

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
            elif len(self.records.channels) < self.limits.created_channels:
                self.records.gone.pop(name, None)
                self._add(channel)
            return
        known.revision, known.stopped = max(known.revision, channel.revision), channel.stopped
        if known.is_own:
            # Only this node changes an answer otherwise, unless others have ended the answer.
            if channel.expires != known.expires and self.cluster is not None:
                self.cluster.answers.check(name)
            if known.stopped and known.stop is not None:
                known.stop(known.stopped)
            return
        known.settings, known.expires = channel.settings, channel.expires
        if known.alias != channel.alias:
            self._index.set_alias(known, channel.alias)
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
        if not self.open.has_room():
            raise FullError("limits.created_channel_bytes: so many bytes of events are there")
        read = new_token()
        now, shared = self._clock(), self.records.shared(settings)
        channel = CreatedChannel(
            self.unused_name(), creator, now, shared, expires, now, read_token=KeyHash.of(read)
        )
        channel.alias, channel.stop = alias, stop
        if self.cluster is not None:
            channel.number, channel.node = secrets.token_hex(NUMBER_BYTES), self.cluster.token
            channel.is_own = True
        self._add(channel)
        self._store_soon(channel)
        self.created += 1
        opened = self.open.wake(channel)
        opened.uses += 1
        return channel, opened, read

    def finish(self, channel: CreatedChannel, opened: OpenChannel, expires: float) -> None:
        """Let a channel go to which nothing is published any more, and that ends at a time."""
        channel.stop, channel.expires = None, expires
        opened.uses -= 1
        opened.since = time.monotonic()
        if self.records.channels.get(channel.name) is channel:
            self._times.add(channel, expires)
            self._store_soon(channel)

    async def settle(self, channel: CreatedChannel) -> None:
        """Wait until all nodes of a cluster know of a channel that was made here, unless Redis is away.

        Raises:
            FullError: there is no room for it.
        """
        if self.cluster is not None and await self.cluster.answers.settle(channel.name):
            raise FullError(FULL)

    async def stop(self, channel: CreatedChannel, reason: str) -> float:
        """End what is published to a channel, here or at another node.

        Returns:
            For how many seconds the end is to be waited for.

        Raises:
            RefusalError: Redis is away, or others have changed the channel.
        """
        if channel.stop is not None:
            channel.stop(reason)
        elif self.cluster is not None and not channel.is_own:
            if not channel.stopped:
                await self.cluster.stop(channel, reason)
            return self.cluster.stop_seconds
        return 0.0

    def followed_answers(self) -> list[tuple[CreatedChannel, SharedEventChannel]]:
        """Return the answers of other nodes that clients read here, and that haven't ended."""
        found = []
        for opened in self.open.followed_answers():
            record = self.records.channels.get(opened.channel.name)
            if record is not None and opened.shared is not None:
                found.append((record, opened.shared))
        return found

    def last_events(self, record: CreatedChannel, channel: EventChannel) -> Sequence[tuple[str, str]]:
        """Return the last events of an answer whose node is gone."""
        return self.maker.last_events(record, channel, RESTARTED)

    def discard(self, channel: CreatedChannel) -> None:
        """Remove a channel without waiting until that is stored."""
        until = self._remove(channel.name)
        if self.cluster is not None:
            self.cluster.records.undo(channel.name, channel.number)
        self._store_gone(channel, until)

    def set_alias(self, channel: CreatedChannel, alias: str) -> None:
        """Find a channel by another alias, too, from now on."""
        if self.records.channels.get(channel.name) is not channel:
            return
        self._index.set_alias(channel, alias)
        self._store_soon(channel)

    def aliased(self, creator: str, alias: str, most: int) -> list[CreatedChannel]:
        """Return the channels of a creator that have an alias, at most so many."""
        found = map(self.get, self._index.aliased(creator, alias, most))
        return [channel for channel in found if channel is not None]

    def _store_gone(self, channel: CreatedChannel, until: float | None) -> None:
        """Store that a channel is gone, if it was stored that it was there."""
        if self.store is not None and channel.is_stored and until is not None:
            self.store.store_soon(line_of_gone(channel.name, until))

    def _store_soon(self, channel: CreatedChannel) -> None:
        if self.cluster is not None:
            self.cluster.answers.note_change(channel.name)
        if self.store is not None and channel.is_stored:
            self.store.store_soon(line_of(channel))

    def _add(self, channel: CreatedChannel) -> None:
        name = channel.name
        self.records.channels[name] = channel
        self._index.add(channel)
        self._times.add(channel, channel.expires)
        for listener in () if channel.is_answer else tuple(self._listeners):
            listener(name)

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
        self._times.add(channel, channel.expires)
        self.open.resize(channel)

    async def delete(self, name: str) -> None:
        """Delete a channel, whose readers get its end.

        Raises:
            RefusalError: it isn't deleted at the nodes of a cluster.
            NotStoredError: the deletion isn't stored, but made.
        """
        channel = self.records.channels.get(name)
        if self.cluster is not None:
            if channel is not None:
                if channel.stop is not None:
                    # At once, also while Redis is away.
                    channel.stop(DELETED)
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
        self._index.remove(channel)
        if self.cluster is not None:
            self.cluster.answers.forget(name)
        self.open.remove(channel)
        return self._note_gone(name, self._clock() + self._seconds_gone(channel.settings))

    def _seconds_gone(self, settings: ChannelSettings) -> float:
        """Return for how long it is answered that a channel is gone."""
        return max(settings.keep_for, settings.history) or self.limits.created_gone_seconds

    def _note_gone(self, name: str, until: float) -> float:
        self.records.gone[name] = until
        if len(self.records.gone) > self.limits.created_channels:
            del self.records.gone[next(iter(self.records.gone))]
        return until

    def _evict(self) -> bool:
        """Remove the channel that nobody has used for longest, if its events needn't be kept any more."""
        now, oldest = self._clock(), None
        for channel, _ in zip(self.records.channels.values(), range(self.limits.looked_at), strict=False):
            kept = max(channel.settings.keep_for, channel.settings.history)
            is_idle = not self.open.is_used(channel.name) and channel.used + kept < now
            if kept and is_idle and (oldest is None or channel.used < oldest.used):
                oldest = channel
        if oldest is None:
            return False
        self._store_gone(oldest, self._remove(oldest.name))
        return True

    # Time

    async def wait_until_restored(self) -> None:
        """Wait for the stored channels, unless that takes too long: they may still come later."""
        await wait_within(self.limits.created_restore_seconds, self._ready.wait())

    async def run(self) -> None:
        """Restore what is stored, then look after the channels until closed or cancelled."""
        async with asyncio.TaskGroup() as group:
            self.open.group = group
            if self.store is not None:
                await self._restore(self.store)
                writing = group.create_task(self.store.run())
            if self.cluster is None:
                self._ready.set()
            while not self._closed.is_set():
                await wait_within(self.limits.created_beat_seconds, self._closed.wait())
                await self._beat()
            if self.store is not None:
                writing.cancel()

    async def _restore(self, store: ChannelStore) -> None:
        records, budget = await store.read(self.limits.created_channels), StepBudget()
        self.records.begin_from(records)
        self._index.clear()
        for channel in tuple(records.channels.values()):
            if channel.is_answer:
                # The answer ended with the server before at the latest.
                channel.expires = min(channel.expires, self._clock() + channel.settings.keep_for)
            self._index.add(channel)
            self._times.add(channel, channel.expires)
            if channel.settings.history:
                # Files may have events that are too old.
                self._times.add(channel, self._clock() + channel.settings.history * HISTORY_SHARE)
            await budget.spend()

    def close(self) -> None:
        """Disconnect all readers, who come again, and write what waits."""
        self._closed.set()
        self.open.close()

    async def _beat(self) -> None:
        """Keep the open channels alive, and end those whose time has come."""
        budget, now = StepBudget(), self._clock()
        await self.open.beat(budget)
        await self._times.tidy_up(self.records.channels, budget)
        for channel in self._times.take_due(self.records.channels, now):
            await budget.spend()
            if channel is None or self.records.channels.get(channel.name) is not channel:
                continue
            self._times.add(channel, channel.expires)
            if channel.expires <= now:
                self._store_gone(channel, self._remove(channel.name))
            else:
                self.open.expire(channel)

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
