"""Revoked JSON Web Tokens by their identifiers (``jti``, RFC 7519 §4.1.7), and the replies that these end.

Identifiers are kept as digests. A revocation is never taken back: it ends when its tokens have expired.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from itertools import islice
from typing import Annotated

import msgspec
from msgspec import Meta

from origin.answers.reply import ReplyWatch

SPARE_SECONDS = 60.0
"""How long a revocation is kept behind its end: clocks may differ, and media are answered a while longer."""

RECORDS_AT_ONCE = 500
"""Most revocations in a message, and in one step of the event loop."""

CUTS_AT_ONCE = 100
"""Most replies that are ended in one step of the event loop."""

_DIGEST = 32


class Revocation(msgspec.Struct, frozen=True, array_like=True):
    """A revocation, as processes and nodes send it to each other.

    Attributes:
        digest: of the identifier that the revoked tokens have in common.
        until: when the tokens have expired, in seconds since the epoch.
    """

    digest: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
    until: Annotated[float, Meta(ge=0, le=1e12)]


def digest_of(identifier: str) -> str:
    """Return the digest of a token's identifier."""
    return sha256(identifier.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]


def messages_of(until: Mapping[str, float]) -> Iterator[list[Revocation]]:
    """Return revocations, by digest, as lists for messages; they don't change meanwhile."""
    left = iter(until.items())
    while some := list(islice(left, RECORDS_AT_ONCE)):
        yield [Revocation(digest, end) for digest, end in some]


def news_of(until: Mapping[str, float], known: Mapping[str, float]) -> dict[str, float]:
    """Return the revocations, by digest, that aren't known, or end later than what is known of them."""
    return {digest: end for digest, end in until.items() if end > known.get(digest, 0.0)}


class RevocationFeed:
    """The revocations that another process doesn't know yet, in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: dict[str, Revocation] = {}
        self._news = asyncio.Event()

    def add(self, record: Revocation) -> None:
        """Note a revocation that is new."""
        self._waiting[record.digest] = record
        self._news.set()

    async def changes(self) -> list[Revocation]:
        """Wait for revocations, and return some of them; they don't come again."""
        while not self._waiting:
            self._news.clear()
            await self._news.wait()
        return [self._waiting.pop(one) for one in list(islice(self._waiting, RECORDS_AT_ONCE))]


class Revocations:
    """The revoked identifiers of one process, and what runs with tokens that have an identifier.

    Args:
        most: revocations that are kept at once.
        clock: returns seconds since the epoch.

    Attributes:
        version: number of revocations since the start.
        on_change: called behind new revocations.
    """

    def __init__(self, most: int = 100_000, clock: Callable[[], float] = time.time) -> None:
        self.most = most
        self.version = 0
        self._clock = clock
        self._until: dict[str, float] = {}
        # The ends of revocations, soonest first, with those that were put off since.
        self._ends: list[tuple[float, str]] = []
        self._running: dict[str, set[Callable[[], None]]] = {}
        self._feeds: list[RevocationFeed] = []
        self.on_change: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        self._forget_expired()
        return len(self._until)

    def __contains__(self, digest: str) -> bool:
        """Return whether tokens are revoked whose identifier has this digest."""
        return digest in self._until

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another revocation."""
        return len(self) >= self.most

    def ends(self) -> dict[str, float]:
        """Return a copy of all revocations that haven't ended, oldest first: when, by digest."""
        self._forget_expired()
        return self._until.copy()

    def snapshot(self) -> Iterator[list[Revocation]]:
        """Return all revocations in messages for a new process."""
        return messages_of(self.ends())

    def feed(self) -> RevocationFeed:
        """Return a feed for another process, with the revocations from now on."""
        feed = RevocationFeed()
        self._feeds.append(feed)
        return feed

    def merge(self, records: Iterable[Revocation], but: RevocationFeed | None = None) -> None:
        """Apply revocations, and end what runs with the tokens; those for which there is no room are lost.

        Many are applied by `merge_in_steps` on a running event loop.

        Args:
            but: the feed of the process that has sent them, to which they aren't sent back.
        """
        has_news, now = False, self._clock()
        self._forget_expired()
        for record in records:
            known = self._until.get(record.digest, 0.0)
            if record.until <= known or record.until + SPARE_SECONDS <= now:
                continue
            if not known and self.is_full:
                break
            self._until[record.digest] = record.until
            heapq.heappush(self._ends, (record.until, record.digest))
            has_news = True
            self.version += 1
            for feed in self._feeds:
                if feed is not but:
                    feed.add(record)
            self._cut_some(iter(tuple(self._running.get(record.digest, ()))))
        if has_news:
            self.on_change()

    async def merge_in_steps(self, until: Mapping[str, float], but: RevocationFeed | None = None) -> None:
        """Apply many revocations, by digest, while others run; see `merge`."""
        for records in messages_of(until):
            self.merge(records, but)
            await asyncio.sleep(0)

    def hold(self, digest: str, cut: Callable[[], None]) -> None:
        """Note what runs with a token, and what ends it."""
        self._running.setdefault(digest, set()).add(cut)
        if digest in self._until:
            cut()

    def release(self, digest: str, cut: Callable[[], None]) -> None:
        """Note the end of what ran with a token."""
        held = self._running.get(digest, set())
        held.discard(cut)
        if not held:
            self._running.pop(digest, None)

    def _cut_some(self, cuts: Iterator[Callable[[], None]]) -> None:
        for cut in islice(cuts, CUTS_AT_ONCE):
            cut()
        if (following := next(cuts, None)) is not None:
            loop = asyncio.get_running_loop()
            loop.call_soon(following)
            loop.call_soon(self._cut_some, cuts)

    def _forget_expired(self) -> None:
        ended = self._clock() - SPARE_SECONDS
        while self._ends and self._ends[0][0] <= ended:
            _, digest = heapq.heappop(self._ends)
            if self._until.get(digest, ended) <= ended:
                self._until.pop(digest, None)
        if len(self._ends) > 2 * self.most:
            self._ends = [(until, digest) for digest, until in self._until.items()]
            heapq.heapify(self._ends)


class RevocationWatch:
    """Ends replies to a token when it is revoked; see `ReplyWatch`.

    Args:
        further: another cause of their end; None for none.
    """

    def __init__(self, revocations: Revocations, digest: str, further: ReplyWatch | None = None) -> None:
        self._revocations = revocations
        self._digest = digest
        self._further = further

    def begin(self, cut: Callable[[], None]) -> None:
        """Note a reply that is being sent."""
        if self._further is not None:
            self._further.begin(cut)
        self._revocations.hold(self._digest, cut)

    def end(self, cut: Callable[[], None]) -> None:
        """Note the end of a reply."""
        if self._further is not None:
            self._further.end(cut)
        self._revocations.release(self._digest, cut)
