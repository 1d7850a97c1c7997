"""A connection's reading goes where RFC 9112 lets it, whatever comes, cut anywhere, and whoever ends it."""

from __future__ import annotations

import asyncio
import functools
import logging
from itertools import product
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from origin.http1.limits import HttpLimits
from origin.http1.protocol import http_protocol
from origin.http1.states import (
    ANSWERING,
    AWAITED,
    BEGIN,
    BEGUN,
    BODY,
    COMPLETE,
    END_OF_HEAD,
    END_OF_INPUT,
    END_OF_MESSAGE,
    END_OF_UNFRAMED_HEAD,
    FAULT,
    HAND_OVER,
    HEAD,
    IDLE,
    LEAVING,
    LOSS,
    NO_ANSWER,
    OVER,
    REPLY,
    STOPPED,
    TRANSITIONS,
    TURN,
    UNFRAMED,
    UPGRADE,
    WITHDRAWAL,
    AnsweringEvent,
    AnsweringState,
    IllegalTransitionError,
    ReadingEvent,
    ReadingState,
)
from origin.http1.timeouts import AwaitedFromClient
from tests.origin.http1.wire import Wire

EXPECTED: dict[ReadingState, dict[ReadingEvent, ReadingState]] = {
    IDLE: {BEGIN: HEAD, UPGRADE: STOPPED, FAULT: STOPPED, END_OF_INPUT: STOPPED, HAND_OVER: LEAVING},
    HEAD: {
        END_OF_HEAD: BODY,
        END_OF_UNFRAMED_HEAD: UNFRAMED,
        FAULT: STOPPED,
        HAND_OVER: LEAVING,
        END_OF_INPUT: STOPPED,
    },
    BODY: {END_OF_MESSAGE: IDLE, FAULT: STOPPED, END_OF_INPUT: STOPPED},
    UNFRAMED: {END_OF_MESSAGE: UNFRAMED, UPGRADE: UNFRAMED, END_OF_INPUT: STOPPED},
    STOPPED: {},
    LEAVING: {},
}
"""RFC 9112 §2.1, §6, §9.3: a head, then its body, then the next head; §2.2, §9.6: behind the end, nothing."""


EXPECTED_ANSWERS: dict[AnsweringState, dict[AnsweringEvent, AnsweringState]] = {
    NO_ANSWER: {TURN: AWAITED, LOSS: OVER},
    AWAITED: {REPLY: BEGUN, WITHDRAWAL: NO_ANSWER, LOSS: OVER},
    BEGUN: {COMPLETE: NO_ANSWER, LOSS: OVER},
    OVER: {},
}
"""RFC 9112 §9.3.2: one answer behind the other; §8: only what hasn't begun makes room for an error."""


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer before the body, around it, behind it, or fail, as the path says."""
    path = scope["path"]
    if path == "/fails":
        raise RuntimeError("as it should")
    if path == "/around":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    length, more = 0, path != "/before"
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    if path != "/around":
        await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d bytes" % length})


class ClosingWire(Wire):
    """A client's end that closes, and tells the connection so in the loop's next turn."""

    def __init__(self) -> None:
        super().__init__()
        self.connection: Any = None

    def is_closing(self) -> bool:
        return self.connection is None

    def close(self) -> None:
        if self.connection is not None:
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)
            self.connection = None

    def abort(self) -> None:
        self.close()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.written += b"<end>"


@functools.cache
def configuration() -> uvicorn.Config:
    """The server's, with a protocol that keeps its transitions."""
    parent: Any = http_protocol(HttpLimits(target_bytes=100, header_bytes=500, linger_seconds=0))

    def move(connection: Any, event: AnsweringEvent) -> None:
        connection.steps.append((connection._answering, event))
        parent._move(connection, event)

    config = uvicorn.Config(application, http=type("Watched", (parent,), {"_move": move}), log_config=None)
    config.load()
    return config


class Driven:
    """A connection on such a wire, and the transitions that it made."""

    def __init__(self) -> None:
        self.wire = ClosingWire()
        config = configuration()
        protocol: Any = config.http_protocol_class
        self.connection: Any = protocol(config, ServerState(), app_state={})
        self.steps: list[tuple[ReadingState, ReadingEvent]] = []
        self.answers: list[tuple[AnsweringState, AnsweringEvent]] = []
        self.connection.steps = self.answers
        self.reader = self.connection._reader
        self._move_reading = self.reader.move
        self.reader.move = self.move_reading
        self.wire.connection = self.connection
        self.connection.connection_made(self.wire)

    def move_reading(self, event: ReadingEvent) -> None:
        self.steps.append((self.reader.state, event))
        self._move_reading(event)

    async def feed(self, data: bytes, turns: int) -> None:
        """Send bytes, and give the loop some turns, as far as it has something to do."""
        loop: Any = asyncio.get_running_loop()
        if data and self.wire.connection is not None:
            self.connection.data_received(data)
        for _ in range(turns):
            await asyncio.sleep(0)
            if not loop._ready and not loop._scheduled:
                break

    def act(self, action: str) -> None:
        """Let something happen to the connection, unless it is closed."""
        if self.wire.connection is None:
            return
        if action == "eof":
            if not self.connection.eof_received():
                self.wire.close()
        elif action == "expire":
            if (awaited := self.connection.awaited) is not AwaitedFromClient.NOTHING:
                self.connection.expire(awaited)
        elif action == "lost":
            self.wire.close()
        elif action:
            getattr(self.connection, action)()


GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
SOURCE = b"SOURCE /radio/x HTTP/1.1\r\nHost: a\r\n\r\n"
STREAMS = {
    "pipelined": GET + b"\r\n" + POST % b"/x" + GET,
    "answered before the body": POST % b"/before" + POST % b"/around" + GET,
    "chunked with a trailer": CHUNKED % b"/x" + b"2\r\nab\r\n0\r\nA: b\r\n\r\n" + GET,
    "a broken body": CHUNKED % b"/x" + b"2\r\nab\r\nX\r\n" + GET,
    "a broken body behind its answer": CHUNKED % b"/before" + b"2\r\nab\r\nX\r\n" + GET,
    "a broken body in its answer": GET + CHUNKED % b"/around" + b"2\r\nab\r\nX\r\n" + GET,
    "no method": GET + b"\x00\x01\x02\r\n\r\n" + GET,
    "an unknown method": POST % b"/x" + b"BREW /x HTTP/1.1\r\n\r\n",
    "no host": GET + b"GET /x HTTP/1.1\r\n\r\n" + GET,
    "no version": b"GET /x\r\n\r\n" + GET,
    "a long target": b"GET /" + b"x" * 100 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "a long field": b"GET /x HTTP/1.1\r\nA: " + b"x" * 600 + b"\r\n\r\n",
    "an upgrade": b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: b\r\n\r\n" + GET,
    "an upgrade with a body": b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: b\r\n"
    b"Content-Length: 3\r\n\r\nabc" + GET,
    "a tunnel": b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n" + GET,
    "closing": b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + GET,
    "the version before": b"POST /around HTTP/1.0\r\nContent-Length: 1\r\n\r\nx" + GET,
    "leave to send": b"POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
    b"Content-Length: 2\r\n\r\nab" + GET,
    "a failing application": POST % b"/fails" + GET,
    "a source": SOURCE + b"audio\r\n\r\naudio",
    "a source behind another request": POST % b"/x" + SOURCE + b"audio\r\n\r\naudio",
    "a source with bare line ends": SOURCE.replace(b"\r", b"") + b"audio\n\n" + GET,
    "a source that puts": SOURCE.replace(b"SOURCE", b"PUT") + b"\x00audio" + GET,
    "a source that asks for an upgrade": SOURCE.replace(
        b"\r\n\r\n", b"\r\nConnection: upgrade\r\nUpgrade: b\r\n\r\naudio"
    ),
}
ACTIONS = ("", "eof", "expire", "lost", "retire", "shutdown")


async def steps_of(stream: bytes, cut: int, action: str, turns: int) -> Driven:
    """Send a stream in two pieces, with an action between them."""
    driven = Driven()
    await driven.feed(stream[:cut], turns)
    driven.act(action)
    if action != "eof":
        await driven.feed(stream[cut:], 0)
    await driven.feed(b"", 12)
    driven.act("eof")
    await driven.feed(b"", 8)
    driven.wire.close()
    await driven.feed(b"", 8)
    return driven


def places(stream: bytes) -> list[int]:
    """Return where a stream is cut: on both sides of all that isn't a letter, and seldom within words."""
    return [n for n in range(len(stream) + 1) if n % 13 == 0 or not stream[max(n - 1, 0) : n + 1].isalpha()]


@pytest.mark.clause("RFC 9112 §2.1", "RFC 9112 §9.3", "RFC 9112 §9.6")
@pytest.mark.parametrize(("state", "event"), list(product(ReadingState, ReadingEvent)))
async def test_every_event_in_every_state_goes_where_it_may_or_cuts_the_connection(
    state: ReadingState, event: ReadingEvent
) -> None:
    driven = Driven()
    driven.reader.state = state
    if event in EXPECTED[state]:
        driven.reader.move(event)
        assert driven.reader.state is EXPECTED[state][event]
    else:
        with pytest.raises(IllegalTransitionError, match=f"{event.name} in the state {state.name}"):
            driven.reader.move(event)
        assert driven.reader.state is STOPPED
    assert driven.wire.is_closing() is (event not in EXPECTED[state])
    driven.wire.close()
    await driven.feed(b"", 4)


@pytest.mark.clause("RFC 9112 §9.3.2", "RFC 9112 §8")
@pytest.mark.parametrize(("state", "event"), list(product(AnsweringState, AnsweringEvent)))
async def test_every_event_in_every_state_of_an_answer_goes_where_it_may_or_cuts_the_connection(
    state: AnsweringState, event: AnsweringEvent
) -> None:
    driven = Driven()
    driven.connection._answering = state
    if event in EXPECTED_ANSWERS[state]:
        driven.connection._move(event)
        assert driven.connection._answering is EXPECTED_ANSWERS[state][event]
    else:
        with pytest.raises(IllegalTransitionError, match=f"{event.name} in the state {state.name}"):
            driven.connection._move(event)
    assert driven.wire.is_closing() is (event not in EXPECTED_ANSWERS[state])
    driven.connection._answering = NO_ANSWER
    driven.wire.close()
    await driven.feed(b"", 4)


async def test_no_connection_ever_makes_an_illegal_transition(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "uvicorn.error")
    seen, answered = set(), set()
    for name, stream in STREAMS.items():
        for cut, action, turns in product(places(stream), ACTIONS, (0, 6)):
            driven = await steps_of(stream, cut, action, turns)
            assert set(driven.steps) <= TRANSITIONS.keys(), (name, cut, action, turns)
            assert set(driven.answers) <= ANSWERING.keys(), (name, cut, action, turns)
            seen.update(driven.steps)
            answered.update(driven.answers)
    # To the parser any byte begins a request: what it objects to is in a head or a body.
    # There is no other process here.
    assert seen == TRANSITIONS.keys() - {(IDLE, FAULT), (IDLE, HAND_OVER), (HEAD, HAND_OVER)}
    assert answered == ANSWERING.keys()


async def test_bytes_one_by_one_make_no_illegal_transition_either() -> None:
    for (name, stream), turns in product(STREAMS.items(), (0, 3)):
        driven = Driven()
        for place in range(len(stream)):
            await driven.feed(stream[place : place + 1], turns)
        await driven.feed(b"", 12)
        driven.wire.close()
        await driven.feed(b"", 8)
        assert set(driven.steps) <= TRANSITIONS.keys(), (name, turns)
        assert set(driven.answers) <= ANSWERING.keys(), (name, turns)


async def test_an_illegal_transition_in_the_parser_is_not_refused_but_cut(
    capsys: pytest.CaptureFixture[str],
) -> None:
    driven = Driven()
    driven.reader.state = BODY
    await driven.feed(GET, 6)
    assert driven.wire.is_closing()
    assert driven.wire.written == b""
    assert "in a state that can't be" in capsys.readouterr().out
