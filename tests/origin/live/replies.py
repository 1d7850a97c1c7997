"""What a test needs to get the replies of a handler without a wire."""

from __future__ import annotations

from origin.answers.reply import Pending, Reply


class Received:
    """What has come for a request that waited."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.errors: list[BaseException] = []

    def reply(self, reply: Reply) -> None:
        """Note the reply."""
        self.replies.append(reply)

    def fail(self, error: BaseException) -> None:
        """Note the failure."""
        self.errors.append(error)


def reply_of(outcome: Reply | Pending | None) -> Reply:
    """Return a reply that is there at once."""
    assert isinstance(outcome, Reply)
    return outcome


def later(outcome: Reply | Pending | None) -> Pending:
    """Return a reply that comes later."""
    assert isinstance(outcome, Pending)
    return outcome
