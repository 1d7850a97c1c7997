"""Sessions of viewers by the name of their tokens, of which each name may have so many at once.

A session is a token with an address and a User-Agent: requests with the same three come from one player. Of
a station each stream is a session of its own. All processes and nodes exchange their sessions
(`SessionFeed`), and come to the same decision by the times at which sessions began.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from itertools import islice
from typing import Annotated

import msgspec
from msgspec import Meta

from origin.access.limits import AccessLimits
from packager.bounded_dict import BoundedDict
from packager.step_budget import StepBudget

IDLE_SECONDS = 45.0
"""Time without a request after which a session doesn't count: players whose buffer is full fetch seldom."""

ANNOUNCE_SECONDS = 10.0
"""Pause between two messages of one session to other processes."""

KEPT_OUT_SECONDS = 60.0
"""How long the player of a session stays refused that was ended for another one."""

SAME_DEVICE_SECONDS = 10.0
"""The same for another token of one player, so that its viewer may go back to what was on before."""

REFUSED_SECONDS = 3.0
"""How long a new session stays refused where the earlier ones stay, before its place is looked for again."""

MOST_LISTED = 1000
"""Most sessions in a list for the administrator."""

REMEMBERED_SECONDS = 60.0
"""How long an ended session is remembered, which others may still have for a live one."""

MOST_NAME = 128
"""Most characters of a name."""

MOST_AGENT = 120
"""Most characters of a User-Agent that lists show."""

TICK_SECONDS = 5.0
"""Pause between two searches for idle sessions."""

SHARE_SECONDS = 0.02
"""Least pause between two messages to another process."""

RECORDS_AT_ONCE = 200
"""Most sessions in a message."""

RECORDS_WAITING = 10_000
"""Most sessions whose changes wait for a process that can't be reached; the oldest are lost to it."""

MOST_ADDRESS = 64
"""Most characters of an address."""

ELSEWHERE = "another session with this name has begun, and it may have no more at once"
FULL = "this name has as many sessions at once as it may have"
ENDED = "the session was ended"

_ID = 16


class SessionRecord(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """The state of a session, as processes send it to each other.

    Attributes:
        id: a digest of token, address and User-Agent, with a serial number behind it for a stream.
        device: a digest of address and User-Agent.
        started: seconds since the epoch, as `seen`, the time of its last request, and the others.
        expires: the end of the token's validity.
        ended: when it came to its end; 0 as long as it lasts.
        kept_out: until when its player is refused.
        token: a digest of the token.
        refuses_token: whether `kept_out` holds for all players with the token.
    """

    id: Annotated[str, Meta(pattern=r"^[0-9a-f]{16,24}\Z")]
    name: Annotated[str, Meta(max_length=MOST_NAME)]
    device: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
    started: float
    seen: float
    expires: float
    address: Annotated[str, Meta(max_length=MOST_ADDRESS)] = ""
    agent: Annotated[str, Meta(max_length=MOST_AGENT)] = ""
    ended: float = 0.0
    kept_out: float = 0.0
    reason: Annotated[str, Meta(max_length=MOST_AGENT)] = ""
    token: Annotated[str, Meta(pattern=r"^(?:[0-9a-f]{16})?\Z")] = ""
    refuses_token: bool = False


class ViewerSession:
    """A session of a viewer, whose replies that are being sent can be cut."""

    __slots__ = ("_cuts", "_sessions", "announced", "is_over", "record", "seen")

    def __init__(self, sessions: ViewerSessions, record: SessionRecord) -> None:
        self._sessions = sessions
        self._cuts: set[Callable[[], None]] = set()
        self.record = record
        self.seen = record.seen
        self.announced = 0.0
        self.is_over = False

    @property
    def is_open(self) -> bool:
        """Whether a reply is being sent, or waits."""
        return bool(self._cuts)

    def begin(self, cut: Callable[[], None]) -> None:
        """Note a reply that is being sent; it is cut when the session is ended."""
        self._cuts.add(cut)
        if self.is_over:
            cut()

    def end(self, cut: Callable[[], None]) -> None:
        """Note the end of a reply."""
        self._cuts.discard(cut)
        if not self._cuts and len(self.record.id) > _ID:
            self._sessions.leave(self)

    def cut(self) -> None:
        """End all replies that are being sent."""
        self.is_over = True
        for cut in tuple(self._cuts):
            cut()


class SessionFeed:
    """The sessions whose changes another process doesn't know yet."""

    def __init__(self) -> None:
        self._changed = BoundedDict[str, SessionRecord](RECORDS_WAITING)
        self._news = asyncio.Event()

    def add(self, record: SessionRecord) -> None:
        """Note a session that has changed."""
        self._changed[record.id] = record
        self._news.set()

    async def changes(self) -> list[SessionRecord]:
        """Wait for sessions that have changed, and return them; they don't come again."""
        if not self._changed:
            self._news.clear()
            await asyncio.sleep(SHARE_SECONDS)
            await self._news.wait()
        return self.next_records()

    def next_records(self) -> list[SessionRecord]:
        """Return sessions that have changed; they don't come again."""
        ids = list(self._changed)[:RECORDS_AT_ONCE]
        return [self._changed.pop(one) for one in ids]


class ViewerSessions:
    """The sessions of all viewers whose tokens have names.

    Args:
        most: sessions of a name at once.
        ends_oldest: whether a new session ends the oldest one of its name; otherwise it is refused.
        clock: returns seconds since the epoch.
    """

    name = "viewers' sessions"

    def __init__(
        self,
        most: int,
        limits: AccessLimits,
        *,
        ends_oldest: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._limits = limits
        self._most = most
        self._ends_oldest = ends_oldest
        self._clock = clock
        self._names: dict[str, dict[str, ViewerSession]] = {}
        self._count = 0
        self._kept_out = BoundedDict[str, tuple[float, str]](limits.ended)
        self._ended = BoundedDict[str, SessionRecord](limits.ended)
        self._feeds: list[SessionFeed] = []

    def feed(self) -> SessionFeed:
        """Return a new feed for another process, with the changes from now on."""
        feed = SessionFeed()
        self._feeds.append(feed)
        return feed

    def snapshot(self) -> Iterator[list[SessionRecord]]:
        """Return sessions of now, and some that have ended lately, in messages for a new process.

        There are at most `MOST_LISTED` of both kinds: a process hears of the others when they are announced
        again.
        """
        feed = SessionFeed()
        ended = reversed(self._ended.values())
        for record in (*islice(self._records(), MOST_LISTED), *islice(ended, MOST_LISTED)):
            feed.add(record)
        return iter(feed.next_records, [])

    async def run(self) -> None:
        """Forget idle sessions until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            budget = StepBudget()
            for name in tuple(self._names):
                self._look_at(name)
                await budget.spend()
            self._forget_ends()

    def enter(
        self, name: str, token: str, expires: float, address: str, agent: str, *, is_stream: bool = False
    ) -> ViewerSession | str:
        """Return the session of a request, or the reason why it is refused.

        Args:
            token: the label of the token.
            expires: the end of the token's validity, in seconds since the epoch.
            is_stream: whether the request is for a stream of a station.
        """
        now = self._clock()
        key, device, token_digest = _digests(token, address, agent)
        for one in (key, token_digest):
            if (kept_out := self._kept_out.get(one)) is not None:
                if kept_out[0] > now:
                    return kept_out[1]
                del self._kept_out[one]
        session = None if is_stream else self._names.get(name, {}).get(key)
        if session is not None and not self._is_idle(session):
            session.seen = now
            if now - session.announced >= ANNOUNCE_SECONDS:
                self._announce(session, None)
            return session
        identifier = f"{key}{secrets.token_hex(4)}" if is_stream else key
        shown = address[:MOST_ADDRESS], agent[:MOST_AGENT]
        record = SessionRecord(identifier, name, device, now, now, expires, *shown, token=token_digest)
        session = self._add(record)
        self._limit(name)
        if session.is_over:
            return self._kept_out.get(key, (0.0, ELSEWHERE))[1]
        self._announce(session, None)
        return session

    def leave(self, session: ViewerSession) -> None:
        """Forget a stream that has come to its end."""
        if self._remove(session.record) is not None:
            record = msgspec.structs.replace(session.record, ended=self._clock())
            self._forget(record)
            self._publish(record, None)

    def end(self, name: str, identifier: str = "") -> int:
        """End the sessions of a name, whose tokens then are refused to everybody; return how many.

        Args:
            identifier: of the only one to end, whose token is refused to its player alone; empty for all.
        """
        ended = [
            session for session in self._names.get(name, {}).values() if identifier in ("", session.record.id)
        ]
        for session in ended:
            if not identifier:
                session.record = msgspec.structs.replace(session.record, refuses_token=True)
            self._end(session, session.record.expires, ENDED, None)
        return len(ended)

    def listed(self, name: str = "") -> list[SessionRecord]:
        """Return the sessions of now, of a name or of all, at most `MOST_LISTED`."""
        names = [name] if name else list(islice(self._names, MOST_LISTED))
        for one in names:
            self._look_at(one)
        return list(islice(self._records(names), MOST_LISTED))

    def merge(self, records: Iterable[SessionRecord], feed: SessionFeed | None = None) -> None:
        """Apply the changes of sessions in another process.

        Args:
            feed: the feed of that process, to which the changes aren't sent back.
        """
        for record in records:
            self._merge(record, feed)

    def _look_at(self, name: str) -> None:
        """Forget the idle sessions of a name, and tell others of those with open replies."""
        now = self._clock()
        for session in tuple(self._names.get(name, {}).values()):
            if session.is_open:
                session.seen = now
                if now - session.announced >= ANNOUNCE_SECONDS:
                    self._announce(session, None)
            elif self._is_idle(session):
                self._remove(session.record)

    def _forget_ends(self) -> None:
        """Forget what ended long ago: both are in the order in which it did."""
        now = self._clock()
        self._ended.evict_while(lambda record: now - record.ended > REMEMBERED_SECONDS)
        if len(self._kept_out) > self._limits.ended // 2:
            for key in [key for key, (until, _) in self._kept_out.items() if until <= now]:
                del self._kept_out[key]

    def _records(self, names: Iterable[str] | None = None) -> Iterator[SessionRecord]:
        for name in self._names if names is None else names:
            for session in self._names.get(name, {}).values():
                yield msgspec.structs.replace(session.record, seen=session.seen)

    def _merge(self, record: SessionRecord, feed: SessionFeed | None) -> None:
        known = self._names.get(record.name, {}).get(record.id)
        known_end = self._ended.get(record.id)
        last_end = 0.0 if known_end is None else known_end.ended
        if record.ended:
            if record.ended > last_end:
                self._forget(record)
                self._publish(record, feed)
                if known is not None and known.record.started <= record.ended:
                    self._remove(record)
                    known.cut()
        elif record.started <= last_end:
            pass  # the other process doesn't know yet that the session has ended
        elif known is None or (record.started > known.record.started and self._is_idle(known)):
            self._announce(self._add(record), feed)
            self._limit(record.name)
        elif record.seen > known.seen or record.started < known.record.started:
            # Requests of one player came to several processes at once: the first one counts.
            started = min(record.started, known.record.started)
            known.record = msgspec.structs.replace(known.record, started=started)
            known.seen = max(known.seen, min(record.seen, self._clock()))
            if known.seen - known.announced >= ANNOUNCE_SECONDS:
                self._announce(known, feed)

    def _is_idle(self, session: ViewerSession) -> bool:
        return not session.is_open and self._clock() - session.seen > IDLE_SECONDS

    def _add(self, record: SessionRecord) -> ViewerSession:
        self._remove(record)
        if self._count >= self._limits.sessions:
            # Nobody but those with a key can make so many names.
            oldest = next(iter(self._names.values()))
            self._remove(next(iter(oldest.values())).record)
        session = self._names.setdefault(record.name, {})[record.id] = ViewerSession(self, record)
        self._count += 1
        return session

    def _remove(self, record: SessionRecord) -> ViewerSession | None:
        sessions = self._names.get(record.name, {})
        session = sessions.pop(record.id, None)
        if session is not None:
            self._count -= 1
            if not sessions:
                del self._names[record.name]
        return session

    def _limit(self, name: str) -> None:
        """End sessions of a name that are too many, by what all processes know alike."""
        now = self._clock()
        active = [session for session in self._names[name].values() if not self._is_idle(session)]
        active.sort(key=lambda one: (one.record.started, one.record.id))
        while len(active) > self._most:
            newest = active[-1]
            # A player that goes on to something else with another token ends its own session first.
            same = [one for one in active[:-1] if one.record.device == newest.record.device]
            ended = same[0] if same else active[0] if self._ends_oldest else newest
            active.remove(ended)
            if ended is newest:
                self._end(ended, now + REFUSED_SECONDS, FULL, None)
            elif ended.record.id[:_ID] == newest.record.id[:_ID]:
                self._end(ended, 0.0, ELSEWHERE, None)
            else:
                seconds = SAME_DEVICE_SECONDS if same else KEPT_OUT_SECONDS
                self._end(ended, now + seconds, ELSEWHERE, None)

    def _end(self, session: ViewerSession, kept_out: float, reason: str, feed: SessionFeed | None) -> None:
        self._remove(session.record)
        record = msgspec.structs.replace(
            session.record, ended=self._clock(), kept_out=kept_out, reason=reason
        )
        self._forget(record)
        self._publish(record, feed)
        session.cut()

    def _forget(self, record: SessionRecord) -> None:
        """Remember the end of a session, and keep its player out."""
        self._ended[record.id] = record
        if record.kept_out > self._clock():
            out = record.token if record.refuses_token else record.id[:_ID]
            self._kept_out[out] = (record.kept_out, record.reason)

    def _announce(self, session: ViewerSession, feed: SessionFeed | None) -> None:
        session.announced = session.seen
        self._publish(msgspec.structs.replace(session.record, seen=session.seen), feed)

    def _publish(self, record: SessionRecord, but: SessionFeed | None) -> None:
        for feed in self._feeds:
            if feed is not but:
                feed.add(record)


@functools.lru_cache(maxsize=8192)
def _digests(token: str, address: str, agent: str) -> tuple[str, str, str]:
    """Return digests of a player with its token, of the player, and of the token."""
    device = sha256(f"{address}\n{agent}".encode("utf-8", "surrogatepass")).hexdigest()[:_ID]
    player = sha256(f"{token}\n{device}".encode()).hexdigest()[:_ID]
    return player, device, sha256(f"token\n{token}".encode()).hexdigest()[:_ID]
