"""The reply to a request, and the reply that comes later: what a handler returns, whatever the wire."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, NamedTuple, Protocol

from origin.answers.heads import ReplyHead, RepresentationHead
from origin.answers.pieces import Piece
from origin.answers.request import Request


class ByteSource(Protocol):
    """The file or the like of which the ranges of a reply's body are read."""

    def descriptor(self) -> int | None:
        """Return the descriptor of an open file with these bytes, from which the kernel may send; or None."""

    async def read(self, offset: int, length: int) -> bytes | memoryview:
        """Return up to `length` bytes from `offset`; b"" only at the end.

        Raises:
            OSError: the bytes can't be read.
        """

    def release(self) -> None:
        """Release what the reply holds of the source; called exactly once, at the end of the reply."""


class SharedSource(ByteSource, Protocol):
    """A source with a descriptor that several replies hold at once."""

    def descriptor(self) -> int:
        """Return the descriptor of an open file with these bytes."""

    def acquire(self) -> None:
        """Hold the source for one more reply, until `release` is called once more."""


class Repeatable(Protocol):
    """A representation that answers further requests, as long as it is still valid."""

    def current(self) -> tuple[RepresentationHead, SharedSource] | None:
        """Return the head of the representation and the file that is sent as its body, with a descriptor.

        Returns:
            None where the request has to be handled anew. The source isn't held for the caller: sending for
            longer than one step of the loop takes a call of its `acquire`.
        """


class ReplyWatch(Protocol):
    """The cause of a reply's early end, such as the end of its viewer's session."""

    def begin(self, cut: Callable[[], None]) -> None:
        """Note a reply that is being sent, and what ends it at once."""

    def end(self, cut: Callable[[], None]) -> None:
        """Note that the reply has come to its end."""


class Reply(NamedTuple):
    """A reply to a request.

    Attributes:
        head: the status and the header fields; Content-Length among them unless there is a `stream`.
        body: pieces of the body in their order; none in reply to HEAD.
        source: the file or the like to which ranges among the pieces refer; None where there are no ranges.
        stream: a body of unknown length in place of pieces; it is closed at the end.
        repeat: the representation that answers the same request again; None where there is none.
        watch: the cause of an early end of the reply; None where there is none.
    """

    head: ReplyHead
    body: Sequence[Piece] = ()
    source: ByteSource | None = None
    stream: AsyncIterator[bytes | memoryview] | None = None
    repeat: Repeatable | None = None
    watch: ReplyWatch | None = None

    def release(self) -> None:
        """Release what the reply holds; called once, after its end, also where it was never sent."""
        if self.source is not None:
            self.source.release()


class ReplyReceiver(Protocol):
    """An exchange of a wire that waits for a reply which comes later."""

    def reply(self, reply: Reply) -> None:
        """Send the reply."""

    def fail(self, error: BaseException) -> None:
        """Reply with 500, and log the error: the reply can't be made."""


class Pending(abc.ABC):
    """A reply that comes later: a task of its own isn't needed to wait for it.

    A thousand replies that wait for the same thing are a thousand small objects, and what releases them sends
    them all in one pass.
    """

    __slots__ = ()

    @abc.abstractmethod
    def start(self, receiver: ReplyReceiver) -> None:
        """Begin to wait; `receiver.reply` or `receiver.fail` is called once, perhaps before this returns."""

    @abc.abstractmethod
    def cancel(self) -> None:
        """Stop waiting, because the client has gone: the receiver isn't called any more."""


class PendingTask(Pending):
    """A reply that a coroutine makes, in a task that ends with the request."""

    __slots__ = ("_coroutine", "_receiver", "_task")

    def __init__(self, coroutine: Coroutine[Any, Any, Reply]) -> None:
        self._coroutine = coroutine
        self._receiver: ReplyReceiver | None = None
        self._task: asyncio.Task[Reply] | None = None

    def start(self, receiver: ReplyReceiver) -> None:
        """Run the coroutine."""
        self._receiver = receiver
        self._task = asyncio.get_running_loop().create_task(self._coroutine)
        self._task.add_done_callback(self._done)

    def cancel(self) -> None:
        """Cancel the coroutine; a reply that it has made all the same is released."""
        self._receiver = None
        if self._task is None:
            self._coroutine.close()
        else:
            self._task.cancel()

    def _done(self, task: asyncio.Task[Reply]) -> None:
        receiver, self._receiver = self._receiver, None
        if task.cancelled():
            error: BaseException | None = asyncio.CancelledError()
        else:
            error = task.exception()
        if receiver is None:
            if error is None:
                task.result().release()
        elif error is None:
            receiver.reply(task.result())
        else:
            receiver.fail(error)


class FailedReply(Pending):
    """The failure of a handler, which concerns its request alone."""

    __slots__ = ("_error",)

    def __init__(self, error: Exception) -> None:
        self._error = error

    def start(self, receiver: ReplyReceiver) -> None:
        """Report the failure."""
        receiver.fail(self._error)

    def cancel(self) -> None:
        """Nothing waits."""


class Handler(Protocol):
    """Answers the requests of one room: of files, of VOD or of live channels. It knows no wire."""

    def handle(self, request: Request) -> Reply | Pending | None:
        """Return the reply to a request, or the reply that comes later.

        This decides at once and never waits: what has to be looked up in a thread comes later.

        Returns:
            None where the target names nothing that this process serves; another process, or another handler
            of the application, may. Nothing has changed then.
        """

    def absent(self, request: Request) -> Reply:
        """Return the refusal of a request for which `handle` returns None, where nobody else answers it."""
