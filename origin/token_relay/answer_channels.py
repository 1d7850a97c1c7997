"""The event channels of a relay's answers: each has one, with a name that nobody can guess."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from origin.events.channel import END, EventChannel
from origin.events.created.channels import CreatedChannels, FullError
from origin.events.created.open_channels import DELETED, RESTARTED, OpenChannel
from origin.events.created.records import RELAY, ChannelSettings, CreatedChannel
from origin.events.delivery import as_text
from origin.responses.refusal import RefusalError
from origin.token_relay.dialects import CHAT, Dialect, dialect_named
from origin.token_relay.errors import CANCELLED, ERROR, CompletionError

ENDED_BY = {
    RESTARTED: "the server that relayed the answer has ended, and with it the answer",
    DELETED: "the answer was deleted",
}
"""The lines of errors that end an answer in place of the relay, by the reason."""


FULL_SECONDS = "60"
"""Retry-After where there is no room for a channel."""


@dataclass(frozen=True, slots=True)
class AnswerChannel:
    """The channel of an answer that is under way.

    Attributes:
        read_token: with which one may read this answer alone.
    """

    record: CreatedChannel
    opened: OpenChannel
    read_token: str

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Fields with which a caller learns of the channel."""
        name = self.record.name.encode()
        return [
            (b"location", b"/events/" + name),
            (b"x-request-id", name),
            (b"x-read-token", self.read_token.encode()),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerKeeping:
    """For how long answers are kept.

    Attributes:
        keep_for: seconds behind the answer's end.
        history: whether they survive a restart of the server.
        longest_answer: seconds.
    """

    keep_for: float
    history: bool = False
    longest_answer: float


class AnswerChannels:
    """Makes the channels of a relay's answers, and finds them.

    Args:
        relay: its name, which is the template of the channels: they have its keys and limits.
    """

    def __init__(self, created: CreatedChannels, relay: str, keeping: AnswerKeeping) -> None:
        self.created = created
        self._creator = f"{RELAY}{relay}"
        self._keeping = keeping
        longest = keeping.longest_answer + keeping.keep_for
        history = longest if keeping.history else 0.0
        self._settings = ChannelSettings(relay, keep_for=keeping.keep_for, history=history)

    @property
    def refusal(self) -> str:
        """Why no answers are kept here; empty if they are."""
        return (
            ""
            if self.created.limits.created_channels
            else "limits.created_channels is 0, so no answers are kept"
        )

    def check(self) -> None:
        """Check that answers can be kept now.

        Raises:
            RefusalError: they can't be.
        """
        if self.refusal:
            raise RefusalError(501, self.refusal)
        if not self.created.is_ready:
            raise RefusalError(503, "the stored answers aren't read yet", {"retry-after": "2"})

    def make(self, dialect: Dialect, stop: Callable[[str], None]) -> AnswerChannel | None:
        """Make the channel of an answer; None where none can be made now.

        Args:
            stop: called with the reason when the channel is deleted.

        Raises:
            FullError: there is no room for one more.
        """
        if self.refusal or not self.created.is_ready:
            return None
        latest = time.time() + self._keeping.longest_answer + self._keeping.keep_for
        return AnswerChannel(
            *self.created.produce(self._creator, self._settings, latest, f"{dialect.name}/", stop)
        )

    async def settle(self, channel: AnswerChannel) -> None:
        """Wait until all nodes of a cluster know of an answer's channel, unless that takes long.

        Raises:
            CompletionError: there is no room for it.
        """
        try:
            await self.created.settle(channel.record)
        except FullError as error:
            raise CompletionError(str(error), 429, fields={"retry-after": FULL_SECONDS}) from None

    def name(self, channel: AnswerChannel, dialect: Dialect, identity: str) -> None:
        """Find the channel of an answer by the id, too, that the upstream server has given the answer."""
        self.created.set_alias(channel.record, f"{dialect.name}/{identity}")

    def finish(self, channel: AnswerChannel) -> None:
        """Keep the channel of an answer that is over for a while."""
        self.created.finish(channel.record, channel.opened, time.time() + self._keeping.keep_for)

    async def find(self, dialect: Dialect, identity: str) -> list[CreatedChannel]:
        """Return the channels of the answers with an id, those that other nodes have made among them.

        Raises:
            RefusalError: nobody knows them now.
        """
        if not (found := self.candidates(dialect, identity)):
            await self.created.catch_up()
            found = self.candidates(dialect, identity)
        return found

    def candidates(self, dialect: Dialect, identity: str) -> list[CreatedChannel]:
        """Return the channels of the answers with an id: the channel's name, or the upstream server's."""
        found = self.created.get(identity)
        if found is not None and found.creator == self._creator and dialect_of(found) is dialect:
            return [found]
        return self.created.aliased(self._creator, f"{dialect.name}/{identity}", most=2)


def only_one(candidates: Sequence[CreatedChannel]) -> CreatedChannel | None:
    """Return the channel of the answer that has an id; None for none.

    Raises:
        RefusalError: several answers have it.
    """
    if len(candidates) > 1:
        raise RefusalError(409, "several answers have this id: use the one of the answer's Location")
    return candidates[0] if candidates else None


def dialect_of(channel: CreatedChannel) -> Dialect:
    """Return the API of the answer that a channel has."""
    return dialect_named(channel.alias.rpartition("/")[0]) or CHAT


def last_events(record: CreatedChannel, channel: EventChannel, reason: str) -> list[tuple[str, str]]:
    """Return the types and texts of the events that end an answer whose relay can't."""
    dialect = dialect_of(record)
    status = CANCELLED if reason == DELETED else 503
    error = dialect.write_error(ENDED_BY.get(reason, reason), status, dialect.next_number(channel.log))
    return [(ERROR, error), (END, as_text({"reason": reason}))]


def reason_of(channel: EventChannel) -> str:
    """Return how the answer of a channel ended; empty if it goes on."""
    newest = channel.log.newest
    if not channel.ended or newest is None or newest.name != END:
        return ""
    try:
        return str(msgspec.json.decode(newest.data).get("reason", ""))
    except (ValueError, AttributeError):
        return ""
