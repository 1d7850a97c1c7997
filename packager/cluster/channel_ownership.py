"""Ownership of a live channel's shared log by one of the packagers that make the channel.

While Redis is away, the owner goes on: its own viewers stay live, and Redis gets what it missed. But an owner
that has stood still appends nothing before Redis has confirmed that no other packager is the owner now. A
channel on demand without viewers has no owner: its log ends with empty windows, and all nodes wait for the
next viewer.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import structlog

from packager.cluster.connection import RedisConnection, RedisUnavailableError
from packager.cluster.demand import OnDemand
from packager.cluster.failover import begin_empty, go_on, is_shared, needs_new_windows, reached_by
from packager.cluster.lease import Lease, Reached
from packager.cluster.limits import APPEND_BYTES, ClusterLimits
from packager.cluster.log_stream import LogStream
from packager.cluster.log_writer import LogWriter
from packager.cluster.shared_log import SharedLog
from packager.concurrency import background_task, wait_within
from packager.publish.date_ranges import MAX_DATE_RANGES, DateRangeError
from packager.publish.live_stream import LiveStream
from packager.step_budget import StepBudget
from packager.window.log import CadenceEntry, DateRangeEntry, Entry
from packager.window.log_encoding import encode
from packager.window.snapshot import SegmentMediaEntry

if TYPE_CHECKING:
    from packager.cluster.shared_dvr import SharedDvr

log = structlog.get_logger()

MAX_WAITING_ENTRIES = 4096
"""Most entries that wait until it is certain who owns the log."""

MAX_LATE_ENDS = 16
"""Most ends of date ranges that wait until the log has room."""

LEVEL_SECONDS = 0.5
"""Seconds for which a new owner of a log waits to have all of it."""


@dataclass(frozen=True, slots=True)
class LogContext:
    """The shared log of a channel, and what a node needs in order to own it.

    Attributes:
        shared: the log that all nodes serve.
    """

    shared: SharedLog
    stream: LogStream
    lease: Lease
    connection: RedisConnection
    limits: ClusterLimits


class _DateRangeQueue:
    """The date ranges that a full log has refused: what ends a listed one is appended later, others never."""

    def __init__(self) -> None:
        self._ends: deque[DateRangeEntry] = deque(maxlen=MAX_LATE_ENDS)
        self._refused: deque[str] = deque(maxlen=MAX_DATE_RANGES)

    def due(self, entry: DateRangeEntry) -> list[DateRangeEntry]:
        """Return the entries to append now, the next one last."""
        due = [*self._ends]
        self._ends.clear()
        return due if entry.tag.id in self._refused else [*due, entry]

    def refuse(self, entry: DateRangeEntry, *, is_listed: bool) -> None:
        """Note that an entry was refused.

        Args:
            is_listed: whether the log has the beginning of its range.
        """
        if is_listed:
            self._ends.append(entry)
        else:
            self._refused.append(entry.tag.id)


class SharedChannel:
    """Appends what a packager makes of a channel to its shared log, while the packager owns that.

    Args:
        own: the stream that the packager's own log is folded into.
        has_media: returns whether the channel's source delivers media, or its event is over.
        dvr: of the log; None where there is none.
        on_demand: of a channel that is made only while it has viewers; None where it always is.

    Attributes:
        shared: the log that all nodes serve.
        keys: the names of its keys.
        overtaken: how often another node has gone on with the log from what Redis had of this one's entries.
    """

    def __init__(
        self,
        own: LiveStream,
        has_media: Callable[[], bool],
        context: LogContext,
        dvr: SharedDvr | None = None,
        on_demand: OnDemand | None = None,
    ) -> None:
        self.shared, self._stream, self._lease = context.shared, context.stream, context.lease
        self._connection, self._limits = context.connection, context.limits
        self.keys = self._stream.keys
        self.overtaken = 0
        self._writer = LogWriter(self._connection, self._stream, self._lease, self._limits)
        self._on_demand = on_demand
        self._dvr = dvr
        if dvr is not None:
            dvr.on_loaded = lambda: self._news.set()
        self._own = own
        self._has_media = has_media
        # Whether every entry since this node took over is its own.
        self._is_level = False
        self._begins_anew = False
        # The end of the log where this node took it over and may lack entries.
        self._reached: Reached | None = None
        # The epoch with which this node appended last.
        self._epoch = 0
        # Since when the lease is left to others, in seconds of the monotonic clock.
        self._free_since: float | None = None
        self._waiting: deque[Entry] = deque()
        self._date_ranges = _DateRangeQueue()
        self._news = asyncio.Event()
        if on_demand is None:
            self.shared.add_follower(self._end_own_range)

    @property
    def is_owner(self) -> bool:
        """Whether this node appends to the shared log."""
        return self._lease.epoch > 0

    @property
    def epoch(self) -> int:
        """The epoch with which this node appends; 0 while another one may own the log."""
        return self._lease.epoch

    @property
    def is_certain_owner(self) -> bool:
        """Whether no other node can append to the shared log meanwhile."""
        return self._lease.is_certain

    @property
    def is_confirmed(self) -> bool:
        """Whether what this node has of the log is what Redis has, and all nodes that follow it."""
        shared = self.shared
        if shared.is_owned:
            return self._is_level and self._lease.is_certain and self._writer.sent >= shared.position
        is_noted = not self._is_level or shared.read.epoch <= self._epoch
        return is_noted and shared.is_whole and not shared.may_differ

    @property
    def dropped(self) -> int:
        """How many entries Redis never got."""
        return self._writer.dropped

    def fold(self, entry: Entry) -> None:
        """Queue an entry of the packager's own log for the shared one."""
        if isinstance(entry, CadenceEntry):
            # Entries that follow at once belong to the new windows.
            self._fall_behind()
            self._news.set()
        elif self._is_level and is_shared(entry):
            self._waiting.append(entry)
            self._append_waiting()
        elif not self._is_level:
            self._news.set()

    def follow(self, own: LiveStream) -> Callable[[Entry], None]:
        """Follow another log of the packager's own, whose windows are still empty.

        Args:
            own: the stream that log is folded into.

        Returns:
            A function to call with each entry of that log.
        """
        self._own = own
        self._begins_anew = True
        self._fall_behind()
        self._news.set()
        return functools.partial(self._take_of, own)

    def _take_of(self, own: LiveStream, entry: Entry) -> None:
        if own is self._own:
            self.fold(entry)

    async def run(self) -> None:
        """Own the log whenever nobody else does, until cancelled; it is given back then."""
        dvr = self._dvr
        storing = contextlib.nullcontext() if dvr is None else background_task(dvr.run())
        lease_seconds = self._limits.lease_seconds
        without_redis = time.monotonic() + lease_seconds
        async with background_task(self._writer.run()), storing:
            try:
                while True:
                    with contextlib.suppress(RedisUnavailableError):
                        await self._look()
                    if self._connection.is_up:
                        without_redis = time.monotonic() + lease_seconds
                    elif time.monotonic() > without_redis:
                        self._serve_own()
                    self._append_waiting()
                    self._news.clear()
                    await wait_within(self._limits.renew_seconds, self._news.wait())
            finally:
                with contextlib.suppress(RedisUnavailableError):
                    await self._lease.release()

    async def store_snapshot(self) -> None:
        """Write a snapshot of the log for somebody who begins to follow it."""
        if self.is_owner and self._is_level:
            await self._stream.store_snapshot(*await self.shared.snapshot())

    async def store_listing(self) -> Callable[[], Awaitable[None]] | None:
        """Write a snapshot without the bytes of segments.

        Returns:
            A function that writes those bytes; None where there was no snapshot to write.
        """
        if not (self.is_owner and self._is_level):
            return None
        last, messages, media = await self.shared.listing()
        token = await self._stream.store_listing(last, messages)
        return functools.partial(self._add_media, token, media)

    async def _add_media(self, token: str, media: Sequence[SegmentMediaEntry]) -> None:
        batch, size, budget = list[bytes](), 0, StepBudget()
        for number, entry in enumerate(media):
            batch.append(encode(entry))
            size += len(batch[-1])
            if size >= APPEND_BYTES or number == len(media) - 1:
                await self._stream.add_media(token, batch)
                batch, size = [], 0
            await budget.spend()

    def _serve_own(self) -> None:
        """Serve what this packager makes, where the shared log can't be served without Redis."""
        if self._on_demand is None:
            if self._dvr is not None:
                self._dvr.serve_own()
        elif not self._may_append() and not self.shared.stream.ready:
            self._on_demand.serve_own()

    async def _look(self) -> None:
        """Renew the lease, or take it."""
        if not self._connection.is_up:
            return
        if self._lease.epoch:
            reached = reached_by(self.shared.stream) if self._is_level and self.shared.is_owned else None
            if not await self._lease.renew(has_media=self._has_media(), reached=reached):
                self._lease.lose()
        self._note_owner()
        if (
            await self._may_own()
            and (self._lease.epoch or await self._lease.acquire(has_media=self._has_media()))
            and not self.shared.is_owned
        ):
            # Also where Redis was lost since this node acquired the lease.
            await self._take_over()
        if self._is_idle:
            await self._give_back()
        elif self._lease.epoch and not self._is_level:
            self._go_on()

    @property
    def _is_idle(self) -> bool:
        return self._on_demand is not None and self._on_demand.is_idle

    async def _give_back(self) -> None:
        """Own the log no more while nobody asks for the channel, once Redis has its empty windows."""
        shared, entry = self.shared, self._own.begun_with
        if not self._lease.epoch or entry is None:
            return
        self._fall_behind()
        if shared.stream.begun_with is None or shared.stream.ready:
            begin_empty(shared.stream, entry, self._append)
        if self._writer.sent < shared.position:
            return
        await self._stream.store_snapshot(*await shared.snapshot(), is_last=True)
        if self._is_idle and self._writer.sent == shared.position:
            shared.disown(self._writer.sent)
            await self._lease.release()

    def _note_owner(self) -> None:
        """Follow another owner, if this node isn't it any more."""
        shared = self.shared
        if shared.is_owned and not self._lease.epoch:
            log.warning(
                "this node lost the log of a live channel, which another may own now", channel=self._own.name
            )
            shared.disown(self._writer.sent)
        elif not shared.is_owned and self._is_level and shared.read.epoch > self._epoch:
            self._follow_another()

    async def _may_own(self) -> bool:
        if self._is_idle:
            return False
        if self._is_level:
            return True
        now, seconds = time.monotonic(), self._limits.lease_seconds
        free_since, self._free_since = self._free_since, None
        # Behind an outage the former owner comes first: it has what others lack.
        if now - self._connection.up_since < seconds or not self._own.ready:
            return False
        if self._lease.epoch or self._has_media():
            return True
        # A restored log is known to other nodes as well: a source that delivers comes first.
        if await self._lease.is_free():
            self._free_since = free_since or now
        return self._free_since is not None and now - self._free_since >= seconds

    async def _take_over(self) -> None:
        last = await self._stream.last(self._lease.epoch)
        shared = self.shared
        if self._is_level and last is not None and last.epoch > self._epoch:
            self._follow_another()
        if not self._is_level:
            self._writer.forget()
            if last is not None:
                self._begins_anew = not await self._wait_until_level(last.position)
            knows_all = shared.is_whole and not self._begins_anew
            self._reached = None if knows_all else self._lease.reached
            # A position that others may have is never given again: it is of the clock where none is known.
            first = 0 if knows_all else self._lease.epoch
            shared.own(self._lease.epoch, max(shared.position, first if last is None else last.position))
            self._writer.sent = shared.position
        else:
            shared.own(self._lease.epoch, shared.position)
        shared.may_differ = False
        self._epoch = self._lease.epoch
        self._writer.begin(last)
        log.info(
            "this node owns the log of a live channel now", channel=self._own.name, epoch=self._lease.epoch
        )

    async def _wait_until_level(self, position: int) -> bool:
        """Wait until all that the former owner appended is here, too; False where that doesn't come."""
        end = time.monotonic() + LEVEL_SECONDS
        while not self.shared.is_whole or self.shared.may_differ or self.shared.position < position:
            if time.monotonic() > end:
                return False
            await asyncio.sleep(self._limits.snapshot_look_seconds)
        return True

    def _go_on(self) -> None:
        """Bring the shared log to the position of this packager's own log."""
        shared, dvr, entry = self.shared.stream, self._dvr, self._own.begun_with
        on_demand = self._on_demand
        # Behind a time in which nobody asked for the channel gaps would lead nowhere.
        anew = self._begins_anew or (on_demand is not None and not shared.ready)
        if dvr is not None and entry is not None:
            restores = anew or needs_new_windows(shared, entry, dvr)
            if restores and not dvr.is_loaded(entry):
                return
        try:
            done = go_on(
                shared,
                self._own,
                self._append,
                dvr,
                gone_seconds=self._limits.log_gone_seconds,
                anew=anew,
                keeps_ranges=on_demand is None or dvr is not None,
                reached=self._reached,
            )
            if done:
                self._exchange_ranges(shared)
        except Exception:  # the log begins anew, as far as that is possible
            log.exception("a live channel's log can't be continued, and begins anew", channel=self._own.name)
            self._begins_anew = True
            return
        if done:
            self._is_level, self._begins_anew, self._reached = True, False, None
            if dvr is not None:
                dvr.begin(shared, self._append, self._may_append)

    def _exchange_ranges(self, shared: LiveStream) -> None:
        """List this packager's date ranges in the shared log, and the former owner's in its own log."""
        listed, own = shared.presentation.date_ranges, self._own.presentation.date_ranges
        on_demand = self._on_demand
        lacking = listed.new_of(own.tags()) if on_demand is None else on_demand.ranges_behind(listed.tags())
        for tag in lacking:
            self._append(DateRangeEntry(listed.arrived(tag, Fraction(shared.wall_clock()))))
        if on_demand is None:
            # Ranges of the former owner may be ended at this one.
            self._own.commands.continue_date_ranges(own.new_of(listed.tags()))

    def _end_own_range(self, entry: Entry) -> None:
        """End a date range in this packager's own log as another owner of the shared one does."""
        if not isinstance(entry, DateRangeEntry) or self.shared.is_owned or self._own.begun_with is None:
            return
        own = self._own.presentation.date_ranges
        if own.start_of(entry.tag.id) is not None:
            self._own.commands.continue_date_ranges(own.new_of([entry.tag]))

    def _may_append(self) -> bool:
        """Return whether an entry can be appended: no other node may own the log unknown to this one."""
        certain = self._lease.is_certain or not self._connection.is_up
        return self._is_level and self.shared.is_owned and certain

    def _append_waiting(self) -> None:
        """Append what has come, unless another node may own the log without this one's knowing."""
        if not self._may_append():
            if len(self._waiting) > MAX_WAITING_ENTRIES:
                self._fall_behind()
            return
        try:
            while self._waiting:
                self._append(self._waiting.popleft())
        except Exception:  # the log begins anew
            log.exception("a live channel's log can't be continued, and begins anew", channel=self._own.name)
            self._fall_behind()
            self._begins_anew = True

    def _append(self, entry: Entry) -> None:
        self._epoch = self._lease.epoch or self._epoch
        if not isinstance(entry, DateRangeEntry):
            self._writer.append(*self.shared.append(entry))
            return
        # A DVR lists more date ranges than this packager's own log, and a playlist has some hundred at most.
        for due in self._date_ranges.due(entry):
            try:
                appended = self.shared.append(due)
            except DateRangeError as error:
                is_listed = self.shared.stream.presentation.date_ranges.start_of(due.tag.id) is not None
                self._date_ranges.refuse(due, is_listed=is_listed)
                log.debug("a date range isn't shared", channel=self._own.name, reason=str(error))
            else:
                self._writer.append(*appended)
                if self._dvr is not None:
                    self._dvr.note(due.tag)

    def _follow_another(self) -> None:
        self.overtaken += 1
        self._fall_behind()

    def _fall_behind(self) -> None:
        self._is_level = False
        self._waiting.clear()
        self._date_ranges = _DateRangeQueue()
