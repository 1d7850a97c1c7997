"""Makes live channels for publishers by patterns such as ``room/*``, and ends those that they have left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec
import structlog

from origin.config.options import LiveOptions, seconds
from origin.http.channel_patterns import matches
from origin.http.client_limits import network_of
from origin.ingest.admission import RefusalReason, RefusedError
from origin.server.tables.table_changes import UnchangeableError
from packager.live.channel import Channel
from packager.threads import SHARED_THREADS

if TYPE_CHECKING:
    from origin.config.options import Config
    from origin.server.services.live_services import LiveServices
    from origin.server.tables.config_reload import ConfigReload
    from packager.process.ffmpeg_discovery import Tools
    from packager.record_book import RecordBook
    from packager.sources.publication import Publisher

log = structlog.get_logger()

KIND = "pattern channel"
"""Kind of the records of these channels in the record book."""

MOST_CHANNELS = 1000
"""Most channels that publishers make; ``limits.created_channels`` may allow fewer."""

MOST_OF_NETWORK = 250
"""Most of them that publishers of one network make."""

LOOK_SECONDS = 1.0
"""Pause between two checks which channels have a publisher."""

SHORTEST_SECONDS = 10.0
"""For how long each of them stays: its publisher begins behind its making, and encoders come again."""


class ChannelHost(Protocol):
    """The server whose channels are made; see `Services`."""

    config: Config
    tools: Tools | None
    live: LiveServices
    record_book: RecordBook | None
    reload: ConfigReload | None
    draining: bool
    ending: bool

    async def hold_data(self) -> None:
        """Lock the data folder."""

    def add_channel(self, channel: Channel, options: LiveOptions, /) -> None:
        """Run and serve a channel."""

    async def remove_channel(self, name: str, /) -> None:
        """End a channel."""


@dataclass(slots=True)
class _Made:
    """A channel that a publisher has made.

    Attributes:
        network: from which the publisher came that has made it; empty for a channel of before a restart.
        left_at: since when it has no publisher, by the event loop's clock.
    """

    network: str
    left_at: float


class PatternChannels:
    """The live channels that publishers have made; a service that ends them.

    Each is in the record book, so that after any end of the server its past is served until its publisher
    comes again, or ``keep_for`` is over.

    Args:
        services: the server that serves them.
    """

    name = "channels of patterns"

    def __init__(self, services: ChannelHost) -> None:
        self._services = services
        self._made: dict[str, _Made] = {}
        self._turn = asyncio.Lock()

    def may_make(self, channel: str, /) -> bool:
        """Return whether a publisher may make a channel of this name, or has made it."""
        live = self._services.live
        return channel in self._made or (channel not in live.options and channel in live.possible_options)

    async def make(self, channel: str, publisher: Publisher, /) -> None:
        """Make a channel, if it isn't there; see `LiveChannelMaker.make`."""
        async with self._changing:
            if (made := self._made.get(channel)) is not None:
                made.left_at = asyncio.get_running_loop().time()
                return
            network = network_of(publisher.address)
            self._check_room(network)
            try:
                await self._services.hold_data()
                await self._write(channel, b"{}")
                await self._begin(channel, network)
            except (OSError, UnchangeableError) as error:
                log.warning("a channel can't be made", channel=channel, reason=str(error))
                raise RefusedError(RefusalReason.CLOSED, "the channel can't be made now") from error
            log.info("a publisher has made a channel", channel=channel, client=publisher.address)

    def _check_room(self, network: str) -> None:
        services, made = self._services, self._made
        if services.ending or services.draining:
            raise RefusedError(RefusalReason.CLOSED, "the server is about to end")
        most = min(MOST_CHANNELS, services.config.limits.created_channels)
        if len(made) >= most:
            raise RefusedError(RefusalReason.TOO_MANY, f"publishers have made {most} channels")
        if sum(one.network == network for one in made.values()) >= MOST_OF_NETWORK:
            line = f"publishers of this network have made {MOST_OF_NETWORK} channels"
            raise RefusedError(RefusalReason.TOO_MANY, line)

    async def restore(self) -> None:
        """Make the channels that were made before, of patterns that there are.

        Raises:
            OSError: they can't be read, or made.
        """
        async with self._changing:
            await self._restore()

    async def _restore(self) -> None:
        book = self._services.record_book
        for name in () if book is None else await book.read(KIND):
            has_room = len(self._made) < MOST_CHANNELS
            if has_room and name not in self._made and self.may_make(name):
                await self._begin(name, "")

    async def run(self) -> None:
        """End channels some time after their publishers have left, until cancelled."""
        # Another server, which had the data folder until now, may have made some.
        await self.restore()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if any(self._expired()):
                async with self._changing:
                    for name in tuple(self._expired()):
                        await self._end(name)

    def _expired(self) -> Iterator[str]:
        """Yield the channels that have had no publisher for as long as their patterns say."""
        now, live = asyncio.get_running_loop().time(), self._services.live
        for name, made in self._made.items():
            if (channel := live.channels.get(name)) is None or _is_in_use(channel):
                made.left_at = now
            elif (kept := seconds(live.options[name].keep_for)) and (
                now - made.left_at >= max(kept, SHORTEST_SECONDS)
            ):
                yield name

    def of(self, pattern: str) -> Collection[str]:
        """Return the names of a pattern's channels."""
        return [name for name in self._made if matches(pattern, name)]

    def change(self, template: LiveOptions) -> None:
        """Apply changed options of a pattern to its channels, which go on."""
        live = self._services.live
        live.templates[template.name] = template
        for name in self.of(template.name):
            live.change(msgspec.structs.replace(template, name=name))

    async def add(self, template: LiveOptions) -> None:
        """Take publishers of a pattern, and begin the channels anew that it had; the turn is held."""
        self._services.live.templates[template.name] = template
        for name in self.of(template.name):
            await self._begin(name, self._made[name].network)
        await self._restore()

    async def remove(self, pattern: str) -> None:
        """Take no publishers of a pattern, whose channels end until it is added again; the turn is held."""
        del self._services.live.templates[pattern]
        for name in self.of(pattern):
            await self._services.remove_channel(name)

    async def forget(self, pattern: str) -> None:
        """Forget the channels of a pattern that was removed for good; the turn is held."""
        for name in self.of(pattern):
            del self._made[name]
            await self._write_end(name)

    async def _begin(self, name: str, network: str) -> None:
        """Make and serve a channel of a pattern that there is."""
        services = self._services
        options = services.live.possible_options.get(name)
        if options is None or services.tools is None:
            raise UnchangeableError("its pattern has gone")
        channel = await SHARED_THREADS.run(services.live.make_channel, options, services.tools)
        services.add_channel(channel, options)
        self._made[name] = _Made(network, asyncio.get_running_loop().time())

    async def _end(self, name: str) -> None:
        del self._made[name]
        await self._services.remove_channel(name)
        await self._write_end(name)
        log.info("a channel that a publisher had made has ended", channel=name)

    async def _write_end(self, name: str) -> None:
        try:
            await self._write(name, None)
        except OSError as error:
            # At the next start it is there once more, for as long as its pattern keeps it.
            log.warning("the end of a channel can't be written down", channel=name, reason=str(error))

    async def _write(self, name: str, record: bytes | None) -> None:
        if (book := self._services.record_book) is not None:
            await book.write(KIND, name, record)

    @property
    def _changing(self) -> asyncio.Lock:
        """The turn to change channels and tables."""
        return self._turn if self._services.reload is None else self._services.reload.turn


def _is_in_use(channel: Channel) -> bool:
    """Return whether somebody publishes to a channel, or a recording of what is over is made."""
    published, keeper = channel.published, channel.span_keeper
    if published is not None and any(not one.is_slate for one in published.publications):
        return True
    now = time.time() * 1000
    return keeper is not None and any(one.end_ms is None or one.end_ms <= now for one in keeper.waiting)
