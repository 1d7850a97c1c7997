"""The event channels of a relay's answers: each has one, with a name that nobody can guess."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from origin.events.channel import END, EventChannel
from origin.events.created.channels import CreatedChannels
from origin.events.created.open_channels import OpenChannel
from origin.events.created.records import RELAY, ChannelSettings, CreatedChannel
from origin.events.delivery import as_text
from origin.responses.refusal import RefusalError
from origin.token_relay.dialects import CHAT, Dialect, dialect_named
from origin.token_relay.errors import ERROR

RESTARTED = "the server was restarted, and with it the answer ended"


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
        is_none = not self.created.limits.channels
        return (
            "limits.created_channels is 0, so no answers are kept" if is_none else self.created.answer_refusal
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

    def name(self, channel: AnswerChannel, dialect: Dialect, identity: str) -> None:
        """Find the channel of an answer by the id, too, that the upstream server has given the answer."""
        self.created.set_alias(channel.record, f"{dialect.name}/{identity}")

    def finish(self, channel: AnswerChannel) -> None:
        """Keep the channel of an answer that is over for a while."""
        self.created.finish(channel.record, channel.opened, time.time() + self._keeping.keep_for)

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


def end_abandoned(record: CreatedChannel, channel: EventChannel) -> None:
    """End the channel of an answer whose relay ended with another run of the server."""
    dialect = dialect_of(record)
    channel.publish_text(dialect.write_error(RESTARTED, 503, dialect.next_number(channel.log)), ERROR)
    channel.publish_text(as_text({"reason": "restart"}), END)


def reason_of(channel: EventChannel) -> str:
    """Return how the answer of a channel ended; empty if it goes on."""
    newest = channel.log.newest
    if not channel.ended or newest is None or newest.name != END:
        return ""
    try:
        return str(msgspec.json.decode(newest.data).get("reason", ""))
    except (ValueError, AttributeError):
        return ""
