"""Decides whether a channel takes a publisher now: it is known, nobody else publishes, a webhook allows it.

The same for all protocols. `packager.sources.published_source` decides about a publisher that is there
already.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from heapq import nsmallest
from typing import Protocol

from origin.access.authentication import GUESSABLE_CHARACTERS, WRONG_KEY, Secret
from origin.access.authorization import NEEDS, Action, Authorization, NamedResource, ResourceKind
from origin.access.guess_delay import GuessDelay
from origin.access.refusal_log import RefusalLog
from origin.http1.shared_turns import turns_of
from origin.ingest.limits import DEFAULT_LIMITS, IngestLimits
from packager.sources.publication import Publication, PublicationEndedError, Publisher
from packager.sources.published_source import PublishedSource, TakenError, TooManyPublishersError

Webhook = Callable[[str, Publisher], Awaitable[None]]
"""Asks about a publisher to a channel; raises ``RefusedError`` where it may not."""

AGENT_CHARACTERS = 200
"""Longest name of an encoder that is kept and logged."""

NAME_CHARACTERS = 64
"""Most characters of an unknown channel's name that are compared with the names of channels."""

NAMES_COMPARED = 32
"""Most names of channels that are compared with an unknown one: those of about its length."""


class RefusalReason(enum.Enum):
    """Why somebody may not publish; each protocol has its own code for it."""

    UNKNOWN_CHANNEL = enum.auto()
    OTHER_SOURCE = enum.auto()
    """The channel's source isn't ``publish``."""
    WRONG_KEY = enum.auto()
    DENIED = enum.auto()
    """``server.publish_webhook`` doesn't allow it."""
    UNANSWERED = enum.auto()
    """``server.publish_webhook`` can't be asked now."""
    TAKEN = enum.auto()
    TOO_MANY = enum.auto()
    CLOSED = enum.auto()


class RefusedError(Exception):
    """Somebody may not publish; the text is one line for the publisher.

    Attributes:
        reason: why not.
        delay_seconds: for how long the answer is to be held back, as guessing keys must be slow.
    """

    def __init__(self, reason: RefusalReason, line: str, delay_seconds: float = 0.0) -> None:
        super().__init__(line)
        self.reason = reason
        self.delay_seconds = delay_seconds


@dataclass(frozen=True, slots=True)
class Approval:
    """The permission for a publisher to begin, made by ``IngestAdmission.approve``.

    Attributes:
        channel: to which.
        secrets: the keys that opened the channel at that moment.
    """

    channel: str
    publisher: Publisher
    secrets: frozenset[Secret]


class LiveChannelMaker(Protocol):
    """Makes channels that aren't there yet for their publishers."""

    def may_make(self, channel: str, /) -> bool:
        """Return whether a channel of a name may be made; any thread may call."""

    async def make(self, channel: str, publisher: Publisher, /) -> None:
        """Make a channel, if it isn't there.

        Raises:
            RefusedError: it can't be made now.
        """


class IngestAdmission:
    """Decides who may publish to the channels of this server, by any protocol.

    Args:
        sources: the published sources by the channel's name; None for a channel with another source.
        limits: how many publishers there may be.
        webhook: is asked about those who have the key; None where the key is enough.

    Attributes:
        maker: makes channels for publishers; None where only the configuration does.
    """

    def __init__(
        self,
        sources: Mapping[str, PublishedSource | None],
        authorization: Authorization,
        guess_delay: GuessDelay,
        limits: IngestLimits = DEFAULT_LIMITS,
        webhook: Webhook | None = None,
    ) -> None:
        self._sources = sources
        self._authorization = authorization
        self._guess_delay = guess_delay
        self.limits = limits
        self._webhook = webhook
        self.maker: LiveChannelMaker | None = None
        self._refusals = RefusalLog("publisher refused", limits.refusal_log)

    def find(self, channel: str, address: str = "") -> PublishedSource | None:
        """Find what is published to; None where an approved publisher makes the channel.

        Args:
            channel: the name that is published to; whatever came.
            address: the publisher's, if its refusal is to be logged here.

        Raises:
            RefusedError: there is no such channel, or it takes no publisher.
        """
        source = self._sources.get(channel)
        if source is not None or self._may_make(channel):
            return source
        if channel in self._sources:
            error = RefusedError(RefusalReason.OTHER_SOURCE, "this channel takes no publisher")
            if address:
                self._refusals.write(address, reason=str(error), channel=channel)
        else:
            error = RefusedError(RefusalReason.UNKNOWN_CHANNEL, "no such channel")
            if address:
                self._refusals.write(address, lambda: self._similar(channel), reason=str(error))
        raise error

    def _may_make(self, channel: str) -> bool:
        return self.maker is not None and channel not in self._sources and self.maker.may_make(channel)

    def _similar(self, channel: str) -> dict[str, str]:
        """Find the channel that somebody may have meant by an unknown name.

        The name itself isn't logged: some encoders' users enter the key in its place.
        """
        compared = nsmallest(NAMES_COMPARED, self._sources, lambda name: abs(len(name) - len(channel)))
        similar = get_close_matches(channel[:NAME_CHARACTERS], compared, n=1)
        return {"similar": similar[0]} if similar else {}

    def seconds_to_wait(self, address: str) -> float:
        """Return for how long no guessable key of an address is compared."""
        return self._guess_delay.seconds_to_wait(address)

    def has_key(self, channel: str, key: str, address: str) -> bool:
        """Return whether a key is one of a channel's, without counting it as a guess."""
        resource = _published(channel)
        return self._authorization.key_permission(Action.PUBLISH, resource, key, address) is not None

    def check_key(self, channel: str, key: str, address: str) -> None:
        """Check a key that was presented outside of HTTP.

        Raises:
            RefusedError: it is none of the channel's; the refusal may be sent after ``delay_seconds``. Or it
                could be guessed, and wrong ones have come from the address.
        """
        if key and len(key) <= GUESSABLE_CHARACTERS and self.seconds_to_wait(address) > 0:
            raise RefusedError(RefusalReason.WRONG_KEY, "wrong keys came from this address: wait a little")
        if not self.has_key(channel, key, address):
            # No key at all is no guess: some encoders ask once without, and then with it.
            fault = self._authorization.key_fault(_published(channel), key, address)
            is_guess = bool(key) and (fault is None or not fault.is_signed)
            delay = self._guess_delay.failed(address) if is_guess else 0.0
            wrong = WRONG_KEY if fault is None else fault.line
            needed = NEEDS[Action.PUBLISH, ResourceKind.LIVE].line
            reason = f"{wrong}: {needed}" if key else needed
            self._refusals.write(address, channel=channel, reason=wrong)
            raise RefusedError(RefusalReason.WRONG_KEY, reason, delay)

    async def approve(self, channel: str, publisher: Publisher) -> Approval:
        """Ask the webhook, if there is one, about who has shown the key, and make a channel that lacks.

        Raises:
            RefusedError: the webhook doesn't allow it, or doesn't answer; or no more channels are made.
        """
        approval = Approval(channel, publisher, self._secrets(channel))
        try:
            if self._webhook is not None:
                await self._webhook(channel, publisher)
            if self.maker is not None and self.maker.may_make(channel):
                await self.maker.make(channel, publisher)
        except RefusedError as error:
            self._refusals.write(publisher.address, channel=channel, reason=str(error))
            raise
        return approval

    def begin(
        self,
        channel: str,
        publisher: Publisher,
        container: str = "",
        on_end: Callable[[str], None] | None = None,
        approval: Approval | None = None,
    ) -> Publication:
        """Begin the publication of somebody whose key was checked.

        Args:
            channel: the name that is published to; whatever came.
            container: ffmpeg's name of the container; empty where the first bytes decide.
            on_end: called with the reason when the publication is ended from this side.
            approval: the result of `approve`; needed where there is a webhook.

        Raises:
            RefusedError: there is no such channel, no approval, or no room.
        """
        self.find(channel)
        self._check_approval(channel, publisher, approval)
        try:
            if (source := self.check_room(channel)) is None:
                raise RefusedError(RefusalReason.CLOSED, "the channel ends")
            publication = source.begin(publisher, container, on_end)
        except RefusedError as error:
            self._refusals.write(publisher.address, channel=channel, reason=str(error))
            raise
        # Its bytes are parsed in the turns of its client, by whatever protocol they come.
        publication.budget.take_turns(turns_of(asyncio.get_running_loop()), publisher.address)
        return publication

    def is_taken(self, channel: str) -> bool:
        """Return whether somebody publishes what is on air of a channel."""
        source = self._sources.get(channel)
        return source is not None and source.is_taken

    def check_room(self, channel: str) -> PublishedSource | None:
        """Check that one more may publish to a channel, and return its source; any thread may ask.

        Raises:
            RefusedError: there is no room.
        """
        source = self.find(channel)
        try:
            if self._count() >= self.limits.publishers:
                raise TooManyPublishersError(f"the server has {self.limits.publishers} publishers")
            if source is not None:
                source.check_room()
        except TakenError as error:
            raise RefusedError(RefusalReason.TAKEN, str(error)) from error
        except TooManyPublishersError as error:
            raise RefusedError(RefusalReason.TOO_MANY, str(error)) from error
        except PublicationEndedError as error:
            raise RefusedError(RefusalReason.CLOSED, str(error)) from error
        return source

    def _check_approval(self, channel: str, publisher: Publisher, approval: Approval | None) -> None:
        """Check that the webhook has allowed it, and that the key is still the one that was checked."""
        if approval is None:
            if self._webhook is not None:
                line = "the server's publish_webhook can't be asked about this protocol"
                raise RefusedError(RefusalReason.DENIED, line)
        elif approval != Approval(channel, publisher, self._secrets(channel)):
            raise RefusedError(RefusalReason.WRONG_KEY, "the channel's publish_key was changed")

    def _secrets(self, channel: str) -> frozenset[Secret]:
        return self._authorization.secrets(Action.PUBLISH, _published(channel))

    def _count(self) -> int:
        return sum(len(source.publications) for source in self._sources.values() if source is not None)


def _published(channel: str) -> NamedResource:
    return NamedResource(ResourceKind.LIVE, channel, f"/live/{channel}/ingest")
