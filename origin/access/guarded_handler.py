"""A handler in front of which tokens are checked: its replies are private, and end with the token."""

from __future__ import annotations

import asyncio
import functools
import time
import urllib.parse
from typing import NamedTuple

from origin.access.protected_addresses import Grant, TokenGuard
from origin.access.revocations import RevocationWatch
from origin.access.token_keys import EXPIRED
from origin.access.viewer_sessions import ENDED
from origin.answers.heads import RepresentationHead
from origin.answers.refusals import refusal
from origin.answers.reply import Handler, Pending, Repeatable, Reply, ReplyReceiver, ReplyWatch, SharedSource
from origin.answers.request import FIELDS_KEPT, Request, RequestFields


class HandlerGuard(NamedTuple):
    """Puts checks of tokens in front of handlers; see `origin.http1.fast_path.TargetGuard`."""

    guard: TokenGuard

    @property
    def version(self) -> int:
        """The number of the keys and of what needs a token; see `TargetGuard`."""
        return self.guard.keys.version + self.guard.protected.version

    def guarded(self, handler: Handler, token: str, target: str) -> tuple[Handler, str] | None:
        """Return what answers requests for a target; None where the application refuses or leads them."""
        path, _, query = target.partition("?")
        grant = self.guard.decide(token, urllib.parse.unquote(path), query)
        if grant is None:
            return handler, ""
        # A decision of the fast path is kept for further requests.
        if grant.refusal or grant.is_momentary:
            return None
        return GuardedHandler(handler, grant, self.guard), grant.label


class GuardedHandler:
    """Answers requests for one target with one token, as long as the keys are the same; see `Handler`.

    Attributes:
        is_private: whether shared caches may not keep replies.
    """

    def __init__(self, handler: Handler, grant: Grant, guard: TokenGuard) -> None:
        self._handler = handler
        self._grant = grant
        self._guard = guard
        self._version = guard.keys.version
        self._is_counted = guard.sessions is not None and bool(grant.name)
        self.is_private = not guard.keeps_public

    def handle(self, request: Request) -> Reply | Pending | None:
        """Return the handler's reply, or the reply that comes later; see `Handler`."""
        if self._guard.keys.version != self._version:
            return None
        if time.time() >= self._grant.until:
            return refusal(request, 403, 0, EXPIRED.line)
        watch: ReplyWatch | None = None
        if self._is_counted and request.method == "GET":
            found = self._guard.session(self._grant, request.client, _agent_of(request.fields))
            if isinstance(found, str):
                return refusal(request, 403, 0, found)
            watch = found
        if self._grant.digest:
            watch = RevocationWatch(self._guard.keys.revocations, self._grant.digest, watch)
        outcome = self._handler.handle(request)
        if isinstance(outcome, Pending):
            return GuardedPending(request, outcome, self, watch)
        return None if outcome is None else self.guarded(outcome, watch)

    def absent(self, request: Request) -> Reply:
        """Return the handler's refusal of a request for what isn't there."""
        return self.guarded(self._handler.absent(request))

    def guarded(self, reply: Reply, watch: ReplyWatch | None = None) -> Reply:
        """Return a reply that no shared cache keeps, and that is repeated until the token expires."""
        head, body, source, stream, repeat, _ = reply
        if repeat is not None:
            # Each reply that something may end has to be handled by itself.
            repeat = None if self._is_counted or self._grant.digest else GuardedRepeat(repeat, self)
        return Reply(head.private() if self.is_private else head, body, source, stream, repeat, watch)

    @property
    def is_valid(self) -> bool:
        """Whether the permission is still valid, by the keys that there are now."""
        return self._guard.keys.version == self._version and time.time() < self._grant.until

    @property
    def seconds_left(self) -> float:
        """Seconds until requests that wait are refused."""
        return self._grant.ends - time.time()


class GuardedRepeat:
    """A representation that answers further requests until the token expires; see `Repeatable`."""

    __slots__ = ("_handler", "_repeat")

    def __init__(self, repeat: Repeatable, handler: GuardedHandler) -> None:
        self._repeat = repeat
        self._handler = handler

    def current(self) -> tuple[RepresentationHead, SharedSource] | None:
        """Return the head and the source as long as both the representation and the token are valid."""
        current = self._repeat.current() if self._handler.is_valid else None
        if current is None or not self._handler.is_private:
            return current
        return current[0].private(), current[1]


class GuardedPending(Pending):
    """A reply that comes later, but not after the end of the token or of its viewer's session."""

    __slots__ = ("_handler", "_pending", "_receiver", "_request", "_timer", "_watch")

    def __init__(
        self, request: Request, pending: Pending, handler: GuardedHandler, watch: ReplyWatch | None
    ) -> None:
        self._request = request
        self._pending = pending
        self._handler = handler
        self._receiver: ReplyReceiver | None = None
        self._watch = watch
        self._timer: asyncio.TimerHandle | None = None

    def start(self, receiver: ReplyReceiver) -> None:
        """Begin to wait."""
        self._receiver = receiver
        self._timer = asyncio.get_running_loop().call_later(self._handler.seconds_left, self._expire)
        if self._watch is not None:
            self._watch.begin(self._cut)
        self._pending.start(self)

    def cancel(self) -> None:
        """Stop waiting."""
        self._end()
        self._pending.cancel()

    def reply(self, reply: Reply) -> None:
        """Pass the reply on."""
        receiver = self._end()
        if receiver is None:
            reply.release()
        else:
            receiver.reply(self._handler.guarded(reply, self._watch))

    def fail(self, error: BaseException) -> None:
        """Pass the failure on."""
        if (receiver := self._end()) is not None:
            receiver.fail(error)

    def _expire(self) -> None:
        self._refuse(EXPIRED.line)

    def _cut(self) -> None:
        self._refuse(ENDED)

    def _refuse(self, reason: str) -> None:
        receiver = self._end()
        self._pending.cancel()
        if receiver is not None:
            receiver.reply(refusal(self._request, 403, 0, reason))

    def _end(self) -> ReplyReceiver | None:
        receiver, self._receiver = self._receiver, None
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            self._watch.end(self._cut)
        return receiver


@functools.lru_cache(maxsize=FIELDS_KEPT)
def _agent_of(fields: RequestFields) -> str:
    """Return the User-Agent among header fields; empty without one."""
    return next((value.decode("latin-1") for name, value in fields.fields if name == b"user-agent"), "")
