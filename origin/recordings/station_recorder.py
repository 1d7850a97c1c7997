"""Makes the recordings of a cluster's station, on the node that owns the log of its live channel.

Redis has the spans that are to be kept, and S3 those that are recordings. Every packager collects the log's
segments for these spans, so that the next owner of the log goes on with the recordings of the former one.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import msgspec
import structlog

from packager.cluster.broadcast import Broadcast
from packager.cluster.channel_ownership import SharedChannel
from packager.cluster.connection import RedisConnection, RedisUnavailableError
from packager.cluster.shared_station import SharedStation
from packager.concurrency import background_task, running_tasks
from packager.inflation import inflated
from packager.past.programmes import Schedule
from packager.recordings.kept_spans import MAX_STATE_BYTES, DiskSpans, SpansState, decode_state
from packager.recordings.limits import MAX_BUCKET_RECORDINGS, RecordingsLimits
from packager.recordings.metadata import ID
from packager.recordings.playlist_facts import PlaylistFacts
from packager.recordings.span_keeper import KeepingRule, SpanKeeper
from packager.safe_files import DataFolder
from packager.threads import SHARED_THREADS

if TYPE_CHECKING:
    from packager.cluster.node import ClusterNode
    from packager.cluster.shared_dvr import SharedDvr
    from packager.recordings.bucket_recordings import BucketRecordings
    from packager.recordings.staged_recordings import StagedRecordings

log = structlog.get_logger()

LOOK_SECONDS = 0.25
"""How often it is looked whether this node owns the log."""

HEARD_LOOK_SECONDS = 0.1
"""How often it is looked whether a source is heard."""

HEARD_LATE_SECONDS = 1.0
"""A source is known of so long behind its first audio at most."""

KEPT_SECONDS = 400 * 86_400
"""How long the spans stay in Redis behind their last change."""

MOST_UNTOLD = 1000
"""Most messages to other nodes that wait for Redis."""

_VERSION_BYTES = 16

# Only the owner of the log writes: one that has lost it, and doesn't know yet, is refused.
_WRITE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3])
return 1
"""

_READ = """
if redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) == ARGV[1] then
  return ''
end
return redis.call('GET', KEYS[1])
"""


class SharedSpans(DiskSpans):
    """The spans of a station that are to be kept: in Redis, and on each packager's disk if Redis loses them.

    Args:
        place: the station's folder on this node.
    """

    def __init__(self, connection: RedisConnection, channel: SharedChannel, place: DataFolder) -> None:
        super().__init__(channel.keys.name, place)
        self._connection = connection
        self._shared = channel
        self._key = channel.keys.key("spans")
        # The spans that were read or written last, with their version before them.
        self._known: tuple[bytes, SpansState] | None = None

    async def load(self) -> SpansState:
        """Read the spans of the log's owner, once Redis can be reached; see `DiskSpans`."""
        version = b"-" if self._known is None else self._known[0]
        while True:
            await self._connection.wait_until_up()
            with contextlib.suppress(RedisUnavailableError):
                found = await self._connection.call(
                    lambda client: client.eval(_READ, 1, self._key, version), {self._key: "string"}
                )
                break
        if found == b"" and self._known is not None:
            return self._known[1]
        state = None
        if found:
            state = await SHARED_THREADS.run(_unpacked, found[_VERSION_BYTES:])
            if state is None:
                log.warning("the spans in Redis can't be read", channel=self._channel)
        if state is None:
            return await super().load()
        await self._note(found[:_VERSION_BYTES], state)
        return state

    async def _note(self, version: bytes, state: SpansState) -> None:
        self._known = version, state
        try:
            await super().save(state)
        except OSError as error:  # Redis has them
            log.warning("spans can't be written", channel=self._channel, reason=error.strerror)

    async def save(self, state: SpansState) -> None:
        """Write the spans as the owner of the log; see `DiskSpans`."""
        version = os.urandom(_VERSION_BYTES // 2).hex().encode()
        data = version + await SHARED_THREADS.run(_packed, state)
        keys = {self._shared.keys.epoch: "string", self._key: "string"}
        terms = str(self._shared.epoch), data, KEPT_SECONDS
        try:
            is_written = await self._connection.call(
                lambda client: client.eval(_WRITE, len(keys), *keys, *terms), keys
            )
        except RedisUnavailableError as error:
            raise OSError(errno.EAGAIN, f"Redis is away: {error}") from error
        if not is_written:
            raise OSError(errno.EAGAIN, "another node owns the station now")
        await self._note(version, state)


def _packed(state: SpansState) -> bytes:
    return zlib.compress(msgspec.json.encode(state), 1)


def _unpacked(data: bytes) -> SpansState | None:
    """Read what another node has written; None where it can't be read."""
    text = inflated(data, MAX_STATE_BYTES)
    return None if text is None else decode_state(text)


@dataclass(slots=True)
class HeardSource:
    """A source that a cluster's station plays.

    Attributes:
        began: when it was heard first, in seconds since the epoch, or a little before.
    """

    began: float


class HeardSources:
    """The source clients of a cluster's station, whichever node they send to; see `PublisherWatch`."""

    def __init__(self, station: SharedStation) -> None:
        self._station = station
        self._live: HeardSource | None = None

    @property
    def has_publisher(self) -> bool:
        """Whether one is heard at all nodes."""
        return self._station.available and not self._station.trouble

    @property
    def live(self) -> HeardSource | None:
        """The source that is heard; None while there is none."""
        if not self.has_publisher:
            self._live = None
        elif self._live is None:
            self._live = HeardSource(time.time() - HEARD_LATE_SECONDS)
        return self._live

    async def wait_for_change(self, seconds: float) -> None:
        """Wait until a source is heard, or none, but no longer than for some time."""
        before = self.live
        for _ in range(max(round(seconds / HEARD_LOOK_SECONDS), 1)):
            await asyncio.sleep(HEARD_LOOK_SECONDS)
            if self.live is not before:
                return


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedStation:
    """A station of a cluster, and what its recordings need.

    Attributes:
        place: the station's folder on this node.
        channel: its live channel, whose log all nodes serve.
        dvr: of that log.
        rule: decides which spans nobody needs to ask for.
        schedule: returns its programmes as they are now.
        sources: its source clients; None where it has another source.
    """

    place: DataFolder
    channel: SharedChannel
    dvr: SharedDvr
    rule: KeepingRule
    schedule: Callable[[], Schedule]
    sources: HeardSources | None = None


class RecordingNews:
    """Messages between the nodes of a cluster about recordings of stations that were made or removed.

    Args:
        recordings: the recordings in S3, by station.
    """

    def __init__(self, node: ClusterNode, recordings: Mapping[str, BucketRecordings]) -> None:
        self._recordings = recordings
        self._untold: asyncio.Queue[bytes] = asyncio.Queue(MOST_UNTOLD)
        self._due: dict[str, set[str]] = {}
        self._news = asyncio.Event()
        self._broadcast = Broadcast(
            node.connection, node.token, "recordings", self._untold.get, self._take_message
        )
        node.add(self._run)

    def announce(self, station: str, name: str) -> None:
        """Announce a recording that was made or removed; nodes that miss this find it out later."""
        with contextlib.suppress(asyncio.QueueFull):
            self._untold.put_nowait(f"{station}/{name}".encode())

    async def _run(self) -> None:
        async with background_task(self._broadcast.run()):
            while True:
                await self._news.wait()
                self._news.clear()
                while self._due:
                    station, names = self._due.popitem()
                    await self._recordings[station].look(names)

    def _take_message(self, message: bytes) -> None:
        station, _, name = message.decode("utf-8", "replace").partition("/")
        if station in self._recordings and ID.fullmatch(name):
            names = self._due.setdefault(station, set())
            if len(names) < MAX_BUCKET_RECORDINGS:
                names.add(name)
            self._news.set()


class StationRecorder:
    """Collects what is to be kept of one station, and makes its recordings while this node owns the log.

    Attributes:
        records: whether this node may make recordings, once it owns the log.
        span_keeper: keeps the spans; None while another node does, or S3 is waited for.
        recordings: the recordings that any node has made.
    """

    records = True

    def __init__(
        self,
        station: RecordedStation,
        recordings: StagedRecordings,
        connection: RedisConnection,
        limits: RecordingsLimits,
    ) -> None:
        name = station.channel.keys.name
        self.name = f"recordings of {name}"
        self.span_keeper: SpanKeeper | None = None
        self.recordings = recordings
        self._sources = station.sources
        self._channel = channel = station.channel
        dvr, stored_ranges = station.dvr, station.dvr.stored_ranges
        # The epoch for which this node has the spans of the former owner; 0 for none.
        self._epoch = 0
        self._keeper = keeper = SpanKeeper(
            name,
            (station.place, dvr.segment_source()),
            recordings,
            lambda: PlaylistFacts.of(channel.shared.stream, stored_ranges),
            station.rule,
            limits,
        )
        keeper.schedule = station.schedule
        keeper.spans.store = SharedSpans(connection, channel, station.place)
        keeper.follows = lambda: not self._is_owner
        keeper.may_record = lambda: self._is_owner and channel.is_certain_owner
        recordings.may_add = keeper.may_record

    @property
    def trouble(self) -> str:
        """Why a span can't be kept, or soon couldn't be; or empty."""
        return self._keeper.trouble

    @property
    def _is_owner(self) -> bool:
        return 0 < self._epoch == self._channel.epoch

    async def run(self) -> None:
        """Collect, and make recordings whenever this node owns the log, until cancelled."""
        async with self._keeper.running(None), background_task(self._forget_unconfirmed()):
            while True:
                if (epoch := self._channel.epoch) and self._channel.shared.is_owned:
                    async with running_tasks(self._own(epoch), self._until_lost(epoch)) as tasks:
                        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                        for task in done:
                            task.result()
                await asyncio.sleep(LOOK_SECONDS)

    async def _own(self, epoch: int) -> None:
        """Make recordings until cancelled."""
        async with self.recordings.running():
            await self._keeper.spans.load()
            self._epoch, self.span_keeper = epoch, self._keeper
            try:
                async with self._keeper.keeping_publications(self._sources):
                    await asyncio.Event().wait()
            finally:
                self._epoch, self.span_keeper = 0, None

    async def _until_lost(self, epoch: int) -> None:
        while self._channel.epoch == epoch:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)

    async def _forget_unconfirmed(self) -> None:
        """Collect once more what this node had appended and Redis hadn't, once another one has gone on."""
        channel = self._channel
        overtaken, confirmed = channel.overtaken, Fraction(0)
        while True:
            if channel.is_confirmed:
                if channel.overtaken != overtaken:
                    overtaken = channel.overtaken
                    self._keeper.collect_again(confirmed)
                confirmed = self._reached()
            await asyncio.sleep(LOOK_SECONDS)

    def _reached(self) -> Fraction:
        """Return when the newest segments end, in seconds since the epoch."""
        windows = (one.window for one in self._channel.shared.stream.renditions.values())
        newest = [one.listed[-1] for one in windows if one.listed]
        return min((one.program_date_time + one.duration for one in newest), default=Fraction(0))
