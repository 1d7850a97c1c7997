"""A server on grpcio's C core, whose calls are asyncio's.

It stands on what grpcio's own servers stand on: ``grpc.server`` takes a thread for each reader, and
``grpc.aio.server`` ends, with all calls, at the first request for a path that isn't UTF-8 (grpcio 1.85).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any
from urllib.parse import unquote

import grpc
from grpc._cython import cygrpc

NO_FLAGS = 0

REQUESTED = 8
"""Calls that the core hands over in one step of the event loop; others wait in it."""

# grpcio logs a traceback for each metadatum of a stranger's that isn't UTF-8.
logging.getLogger("grpc").setLevel(logging.CRITICAL)


def lower_priority(niceness: int) -> None:
    """Lower the priority of this thread, and of those that it starts later, on a busy processor.

    The C core starts its threads from those that use it first. By SCHED_BATCH they never interrupt another
    thread when they have something to do (sched(7)). On other systems than Linux, the whole process would get
    less.
    """
    if sys.platform == "linux":
        # A container may forbid both.
        with contextlib.suppress(OSError):
            os.nice(niceness)
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


class CallEndedError(Exception):
    """The client has left, or its deadline has passed."""


class CallError(Exception):
    """A call ends with a status code and a line."""

    def __init__(self, code: grpc.StatusCode, line: str) -> None:
        super().__init__(line)
        self.code = code


class Call:
    """A client's call.

    Attributes:
        method: its path, such as ``/package.Service/Method``.
        metadata: names and values; bytes where a name ends with ``-bin``.
        peer: such as ``ipv4:127.0.0.1:50000``.
        has_begun: whether the initial metadata was sent.
        on_begun: called once when they are.
    """

    def __init__(self, event: Any, run: Callable[..., asyncio.Future[Any]]) -> None:
        self._call = event.call
        self._run = run
        self.method: str = event.call_details.method.decode("utf-8", "replace")
        self.metadata: Sequence[tuple[str, str | bytes]] = event.invocation_metadata
        self.peer: str = self._call.peer().decode("utf-8", "replace")
        self.has_begun = False
        self.on_begun: Callable[[], None] = _nothing

    @property
    def address(self) -> tuple[str, int]:
        """Address and port of the peer."""
        host, _, port = unquote(self.peer).partition(":")[2].rpartition(":")
        return host.strip("[]"), int(port) if port.isdecimal() else 0

    async def begin(self) -> None:
        """Send the initial metadata, by which a client knows that its call is answered."""
        await self._send()

    async def read(self) -> bytes:
        """Read the client's next message; empty where none comes any more."""
        operation = cygrpc.ReceiveMessageOperation(NO_FLAGS)
        await self._batch(operation)
        return operation.message() or b""

    async def write(self, message: bytes) -> None:
        """Send a message; this waits until the client has room for it.

        Raises:
            CallEndedError: the client has left.
        """
        await self._send(cygrpc.SendMessageOperation(message, NO_FLAGS))

    async def end(self, code: grpc.StatusCode = grpc.StatusCode.OK, line: str = "") -> None:
        """Send the status behind all messages.

        Raises:
            CallEndedError: the client has left.
        """
        await self._send(cygrpc.SendStatusFromServerOperation((), code.value[0], line.encode(), NO_FLAGS))

    def cut(self, code: grpc.StatusCode, line: str) -> None:
        """End the call at once, without the messages that wait for the client."""
        self._call.cancel(code.value[0], line)

    async def ended(self) -> None:
        """Wait until the client has left, or has got the status."""
        with contextlib.suppress(CallEndedError):
            await self._batch(cygrpc.ReceiveCloseOnServerOperation(NO_FLAGS))

    async def _send(self, *operations: Any) -> None:
        if not self.has_begun:
            self.has_begun = True
            self.on_begun()
            operations = (cygrpc.SendInitialMetadataOperation((), NO_FLAGS), *operations)
        await self._batch(*operations)

    async def _batch(self, *operations: Any) -> None:
        done = self._run(lambda tag: self._call.start_server_batch(operations, tag))
        if not (await done).success:
            raise CallEndedError


class CoreServer:
    """A listening server, which must be closed once it is started.

    Args:
        options: names and values for the C core.
    """

    def __init__(self, options: Sequence[tuple[str, int]]) -> None:
        self._queue = cygrpc.CompletionQueue()
        self._server = cygrpc.Server(options, False)
        self._server.register_completion_queue(self._queue)
        self._is_closing = False

    def bind(self, address: str, credentials: Any = None) -> int:
        """Bind an address and return its port; 0 where another program has it."""
        secure = () if credentials is None else (credentials._credentials,)  # noqa: SLF001
        return int(self._server.add_http2_port(address.encode(), *secure))

    def listen(self, accept: Callable[[Call], None]) -> None:
        """Accept calls, until the server is closed."""
        self._server.start()
        threading.Thread(target=self._poll, name="grpc", daemon=True).start()
        for _ in range(REQUESTED):
            self._request(accept)

    def _request(self, accept: Callable[[Call], None]) -> None:
        """Have the core hand over the next call."""
        done = self._run(lambda tag: self._server.request_call(self._queue, self._queue, tag))
        done.add_done_callback(partial(self._on_call, accept))

    def _on_call(self, accept: Callable[[Call], None], done: asyncio.Future[Any]) -> None:
        if self._is_closing:
            return
        self._request(accept)
        event = done.result()
        if event.success:
            accept(Call(event, self._run))

    async def close(self, calls: Collection[asyncio.Task[None]], seconds: float) -> None:
        """Take no more calls, and end those that haven't ended by themselves.

        Args:
            calls: the tasks that answer them.
            seconds: how long they may take.
        """
        self._is_closing = True
        shut = self._run(lambda tag: self._server.shutdown(self._queue, tag))
        if calls:
            await asyncio.wait(calls, timeout=seconds)
        self._server.cancel_all_calls()
        await shut
        for one in calls:
            one.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        self._server.destroy()
        self._queue.shutdown()

    def _run(self, start: Callable[[Any], Any]) -> asyncio.Future[Any]:
        """Start an operation whose completion the future returns.

        Args:
            start: starts it with a tag, and returns a number for an error.

        Raises:
            CallEndedError: it can't be started any more.
        """
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if start(done):
            raise CallEndedError
        return done

    def _poll(self) -> None:
        """Pass completions on to the event loop."""
        while True:
            event = self._queue.poll()
            if event.tag is None:
                return
            done: asyncio.Future[Any] = event.tag
            with contextlib.suppress(RuntimeError):  # the loop has ended
                done.get_loop().call_soon_threadsafe(_complete, done, event)
            # An event that is kept keeps its call.
            del event, done


def _complete(done: asyncio.Future[Any], event: Any) -> None:
    if not done.done():
        done.set_result(event)


def _nothing() -> None:
    pass
