"""A station's listeners in other processes, as these report them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from fractions import Fraction

from msgspec import Struct

from origin.radio.mounts.listener_media_time import ListenerTime, MediaTimeMark
from origin.radio.mounts.listeners import ListenerClient


class NewListener(Struct, frozen=True, array_like=True):
    """A listener that has come.

    Attributes:
        number: by which the administrator names it.
        agent: its program, as it calls itself.
        seconds: how long it has been there.
    """

    number: int
    address: str
    agent: str
    seconds: float


class NewMark(Struct, frozen=True, array_like=True):
    """A mark of a listener that named itself.

    Attributes:
        position: seconds of audio before it, as a fraction.
        media_time: media time of the audio behind it, as a fraction of seconds.
    """

    token: str
    position: tuple[int, int]
    media_time: tuple[int, int]


class ListenerReport(Struct, frozen=True):
    """The changes among a station's listeners in one process since its last report.

    Attributes:
        left: numbers of those that have gone, or were moved.
        connections: how many have come, those that have gone meanwhile among them.
        settled: how many there are that are no probes.
        dropped: how many fell too far behind.
        marks: of listeners that named themselves.
        gone_tokens: names of those of them that have gone.
    """

    came: tuple[NewListener, ...] = ()
    left: tuple[int, ...] = ()
    connections: int = 0
    settled: int = 0
    dropped: int = 0
    sent_bytes: int = 0
    marks: tuple[NewMark, ...] = ()
    gone_tokens: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ListenerThere:
    """A listener of any process, as the administrator sees it.

    Attributes:
        number: by which it is named.
        seconds: how long it has been there.
    """

    number: int
    client: ListenerClient
    seconds: float


@dataclass(slots=True)
class _ListeningProcess:
    """The listeners of one process: client and time of coming by number."""

    present: dict[int, tuple[ListenerClient, float]] = field(default_factory=dict)
    settled: int = 0
    times: dict[str, ListenerTime] = field(default_factory=dict)


class ListenersElsewhere:
    """The listeners of a station in all other processes.

    Args:
        begin_times: begins the marks of a listener with a name.

    Attributes:
        connections: how many have come since the start.
        dropped: how many of them fell too far behind.
        sent_bytes: how much was written to them.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        begin_times: Callable[[str], ListenerTime],
        end_times: Callable[[str, ListenerTime], None],
    ) -> None:
        self._clock = clock
        self._begin_times = begin_times
        self._end_times = end_times
        self._processes: dict[Hashable, _ListeningProcess] = {}
        self.connections = self.dropped = self.sent_bytes = 0

    def __len__(self) -> int:
        """Count the listeners that other processes serve."""
        return sum(len(process.present) for process in self._processes.values())

    def __contains__(self, number: int) -> bool:
        """Return whether another process serves the listener with this number."""
        return any(number in process.present for process in self._processes.values())

    @property
    def settled(self) -> int:
        """Number of listeners of other processes that aren't probes."""
        return sum(process.settled for process in self._processes.values())

    @property
    def present(self) -> list[ListenerThere]:
        """All listeners that other processes serve."""
        now = self._clock()
        return [
            ListenerThere(number, client, now - came)
            for process in self._processes.values()
            for number, (client, came) in process.present.items()
        ]

    def fold_report(self, process: Hashable, report: ListenerReport) -> None:
        """Fold a process's report."""
        known = self._processes.setdefault(process, _ListeningProcess())
        now = self._clock()
        for one in report.came:
            known.present[one.number] = ListenerClient(one.address, one.agent), now - one.seconds
        for number in report.left:
            known.present.pop(number, None)
        known.settled = report.settled
        self.connections += report.connections
        self.dropped += report.dropped
        self.sent_bytes += report.sent_bytes
        for mark in report.marks:
            if (times := known.times.get(mark.token)) is None:
                times = known.times[mark.token] = self._begin_times(mark.token)
            times.add(MediaTimeMark(Fraction(*mark.position), Fraction(*mark.media_time)))
        for token in report.gone_tokens:
            if (gone := known.times.pop(token, None)) is not None:
                self._end_times(token, gone)

    def forget(self, process: Hashable) -> None:
        """Forget the listeners of a process that is gone."""
        if (gone := self._processes.pop(process, None)) is not None:
            for token, times in gone.times.items():
                self._end_times(token, times)
