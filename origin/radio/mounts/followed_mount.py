"""A station that another process makes, with listeners of this process, who get the same bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping

import structlog

from origin.radio.mounts.audio_ring import MountBlock
from origin.radio.mounts.broadcast import StationBroadcast
from origin.radio.mounts.icy_headers import StationDescription
from origin.radio.mounts.listener_media_time import ListenerTime, MediaTimeMark
from origin.radio.mounts.listeners import Listener
from origin.radio.mounts.listeners_elsewhere import ListenerReport, NewListener, NewMark
from origin.radio.mounts.mount_entries import ListenersMoved, StationEntry, StationFacts
from origin.radio.mounts.options import MountOptions
from packager.concurrency import wait_within

log = structlog.get_logger()


class FollowedMount:
    """A station in a process that follows its log, with the listeners there.

    Args:
        name: of the address ``/radio/NAME``.
        options: the station's, as in the process that makes it.
        count: called with the bytes written to listeners.
        mounts: the other mounts, to which listeners may be moved, by name.

    Attributes:
        broadcast: the audio, and the listeners of this process, who are its ``audience``.
    """

    def __init__(
        self,
        name: str,
        options: MountOptions,
        count: Callable[[int], None],
        mounts: Mapping[str, FollowedMount],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.options = options
        self.broadcast = StationBroadcast(name, options, self._accompany, clock, count)
        self.audience = self.broadcast.audience
        self._mounts = mounts
        self._has_news = asyncio.Event()
        # Reports about the listeners that were sent to the other process, or are to be sent.
        self._reported: set[int] = set()
        self._reported_listeners = self._reported_dropped = self._reported_bytes = 0
        self._reported_settled = 0
        self._connections = 0
        self._marks: list[NewMark] = []
        self._gone_tokens: list[str] = []

    @property
    def is_live(self) -> bool:
        """Whether the station has audio; else requests are answered by the process that makes it."""
        return self.broadcast.facts is not None and self.broadcast.facts.is_live

    @property
    def is_down(self) -> bool:
        """Whether listeners are refused, for there was no audio for long."""
        return not self.is_live

    @property
    def listeners(self) -> int:
        """Number of listeners of all processes, as far as that is known here."""
        told = 0 if self.broadcast.facts is None else self.broadcast.facts.listeners
        return max(told - self._reported_listeners, 0) + len(self.audience)

    @property
    def full(self) -> bool:
        """Whether ``max_listeners`` is reached."""
        return self.listeners >= self.options.max_listeners

    @property
    def description(self) -> StationDescription:
        """The description of the station for lists; the station must be live."""
        return self.facts.description

    @property
    def facts(self) -> StationFacts:
        """The station's facts, from the other process; it must be live."""
        if self.broadcast.facts is None:
            raise RuntimeError("nothing is known of a station that is listened to")
        return self.broadcast.facts

    def _accompany(self, listener: Listener) -> None:
        """Report the media times of a listener with a token: its titles come from the other process."""
        self._connections += 1
        if (token := listener.token) is None:
            return

        def publish_mark(mark: MediaTimeMark) -> None:
            self._marks.append(
                NewMark(token, mark.position.as_integer_ratio(), mark.media_time.as_integer_ratio())
            )

        listener.listener_time = ListenerTime(publish_mark, self.options.limits)
        listener.done.add_done_callback(lambda _: self._gone_tokens.append(token))

    async def run(self) -> None:
        """Write what comes to the listeners, until cancelled."""
        while True:
            await wait_within(self.options.limits.watch_seconds, self._has_news.wait())
            try:
                await self._serve()
            except Exception:  # other stations go on, and perhaps this one can
                log.exception("a station's listeners can't be written to", mount=self.name)
                await asyncio.sleep(self.options.limits.watch_seconds)

    async def _serve(self) -> None:
        """Write what has come, and let those go whose time is over."""
        if self._has_news.is_set():
            self._has_news.clear()
            await self.audience.flush()
        await self.broadcast.keep_times()

    def close(self) -> None:
        """Disconnect all listeners, and new ones at once."""
        self.broadcast.close()

    # Entries of the other process's log

    def take_block(self, sequence: int, block: MountBlock) -> None:
        """Append the next block of audio; missing blocks before it are a gap."""
        ring = self.broadcast.ring
        if sequence < ring.next_sequence:
            return
        if sequence > ring.next_sequence:
            ring.skip_to(sequence)
        ring.media_time = block.begins
        duration = block.ends - block.begins
        ring.append(block.data, block.label, block.cuts, duration, block.lead, block.link)
        self._has_news.set()

    def fold(self, entry: StationEntry) -> None:
        """Fold an entry that is no audio."""
        if isinstance(entry, ListenersMoved):
            destination = self._mounts.get(entry.destination)
            self.broadcast.move(None if destination is None else destination.broadcast, entry)
        else:
            self.broadcast.fold(entry)

    # Reports to the other process

    def forget_reports(self) -> None:
        """Report all listeners anew, as the other process has forgotten them."""
        self._reported.clear()
        self._reported_listeners = self._reported_settled = 0
        times = ((one.token, one.listener_time) for one in self.audience.present)
        self._marks = [
            NewMark(token, mark.position.as_integer_ratio(), mark.media_time.as_integer_ratio())
            for token, listener_time in times
            if token is not None and listener_time is not None
            for mark in listener_time.marks
        ]

    def reports(self) -> Iterator[ListenerReport]:
        """Yield what has changed with the listeners since the last report."""
        present = {one.number: one for one in self.audience.present}
        came = [one for number, one in present.items() if number not in self._reported]
        left = tuple(self._reported - present.keys())
        sent = self.audience.sent_bytes - self._reported_bytes
        changed = came or left or sent or self._marks or self._gone_tokens
        if not changed and self.audience.settled == self._reported_settled:
            return
        limits = self.options.limits
        for begin in range(0, max(len(came), 1), limits.reported_listeners):
            told = tuple(self._described(one) for one in came[begin : begin + limits.reported_listeners])
            yield self._report(told, () if begin else left)

    def _described(self, listener: Listener) -> NewListener:
        agent = listener.client.agent[: self.options.limits.reported_characters]
        return NewListener(listener.number, listener.client.address, agent, self.audience.seconds(listener))

    def _report(self, came: tuple[NewListener, ...], left: tuple[int, ...]) -> ListenerReport:
        audience = self.audience
        report = ListenerReport(
            came=came,
            left=left,
            connections=self._connections,
            settled=audience.settled,
            dropped=audience.dropped - self._reported_dropped,
            sent_bytes=audience.sent_bytes - self._reported_bytes,
            marks=tuple(self._marks),
            gone_tokens=tuple(self._gone_tokens),
        )
        self._reported.update(one.number for one in came)
        self._reported.difference_update(left)
        self._reported_listeners = len(self._reported)
        self._reported_dropped, self._reported_bytes = audience.dropped, audience.sent_bytes
        self._reported_settled = audience.settled
        self._connections = 0
        self._marks, self._gone_tokens = [], []
        return report
