"""The states in which a connection reads and answers requests, and the events that change them, as tables.

Reading:

    IDLE ──BEGIN──▶ HEAD ──END_OF_HEAD──▶ BODY ──END_OF_MESSAGE──▶ IDLE
                     │
                     └──END_OF_UNFRAMED_HEAD──▶ UNFRAMED (until the client ends its side)

    IDLE, HEAD, BODY ──FAULT──▶ STOPPED
    IDLE ──UPGRADE──▶ STOPPED
    IDLE, HEAD, BODY, UNFRAMED ──END_OF_INPUT──▶ STOPPED
    IDLE, HEAD ──HAND_OVER──▶ LEAVING
    UNFRAMED ──END_OF_MESSAGE, UPGRADE──▶ UNFRAMED (what the parser makes of its head)

A request without a body passes through BODY too, between two events of the parser.

Answering, of which reading is independent, as pipelined requests may be read before their turn comes:

    NO_ANSWER ──TURN──▶ AWAITED ──REPLY──▶ BEGUN ──COMPLETE──▶ NO_ANSWER
                         │
                         └──WITHDRAWAL──▶ NO_ANSWER

    NO_ANSWER, AWAITED, BEGUN ──LOSS──▶ OVER
"""

from __future__ import annotations

import enum
from typing import Generic, TypeVar

State = TypeVar("State", bound=enum.Enum)
Event = TypeVar("Event", bound=enum.Enum)


class IllegalTransitionError(RuntimeError):
    """An event came in a state in which it can't: the server is at fault, not the client."""


class Transitions(dict[tuple[State, Event], State], Generic[State, Event]):
    """The state after an event in a state, for each pair that can happen."""

    def __missing__(self, pair: tuple[State, Event]) -> State:
        """Raise an error, since this pair can't happen."""
        state, event = pair
        raise IllegalTransitionError(f"{event.name} in the state {state.name}")


class ReadingState(enum.Enum):
    """The part of a message to which the client's next byte belongs."""

    # Members are unique objects, and Enum's own hash, that of their names, would be a call in Python.
    __hash__ = object.__hash__

    IDLE = "between requests"
    HEAD = "the head of a request"
    BODY = "the body of a request, or its trailer"
    UNFRAMED = "a body without framing, which is all that comes"
    STOPPED = "nothing: it is dropped"
    LEAVING = "another process, which gets it with the connection"


class ReadingEvent(enum.Enum):
    """An event that the connection meets while it reads."""

    __hash__ = object.__hash__

    BEGIN = "the first byte of a request"
    END_OF_HEAD = "the empty line behind a head"
    END_OF_UNFRAMED_HEAD = "the empty line behind a source's head, whose body has no framing"
    END_OF_MESSAGE = "the last byte of a request, as the parser sees it"
    UPGRADE = "a request for another protocol, which nobody here speaks, has been read"
    FAULT = "bytes that can't be accepted, or a head that doesn't come in time"
    END_OF_INPUT = "the client has ended its side, and all that it sent is taken"
    HAND_OVER = (
        "the end of a head that another process has to answer, or the preface of HTTP/2 (RFC 9113 §3.4)"
    )


# Looking up a member in its Enum is a call in Python 3.11, which these names save.
IDLE, HEAD, BODY, UNFRAMED, STOPPED, LEAVING = ReadingState
BEGIN, END_OF_HEAD, END_OF_UNFRAMED_HEAD, END_OF_MESSAGE, UPGRADE, FAULT, END_OF_INPUT, HAND_OVER = (
    ReadingEvent
)


TRANSITIONS: Transitions[ReadingState, ReadingEvent] = Transitions(
    {
        (IDLE, BEGIN): HEAD,
        # RFC 9112 §2.2: bytes that aren't a request are answered with 400, and the connection is closed.
        (IDLE, FAULT): STOPPED,
        # RFC 9110 §7.8: an upgrade may be ignored, but the parser reads nothing behind a request for one.
        (IDLE, UPGRADE): STOPPED,
        (IDLE, END_OF_INPUT): STOPPED,
        (IDLE, HAND_OVER): LEAVING,
        # RFC 9112 §6: the body, which may be empty, follows the head.
        (HEAD, END_OF_HEAD): BODY,
        (HEAD, END_OF_UNFRAMED_HEAD): UNFRAMED,
        (HEAD, FAULT): STOPPED,
        # RFC 9112 §8: a request that is cut short by the end of the connection is incomplete.
        (HEAD, END_OF_INPUT): STOPPED,
        (HEAD, HAND_OVER): LEAVING,
        # RFC 9112 §9.3: a connection persists, and the next request follows the body.
        (BODY, END_OF_MESSAGE): IDLE,
        (BODY, FAULT): STOPPED,
        (BODY, END_OF_INPUT): STOPPED,
        # RFC 9112 §6.3, rule 7: the parser takes such a request for one without a body, and so for complete.
        (UNFRAMED, END_OF_MESSAGE): UNFRAMED,
        (UNFRAMED, UPGRADE): UNFRAMED,
        (UNFRAMED, END_OF_INPUT): STOPPED,
    }
)
"""The state after an event in a state; a pair that isn't listed can't happen."""


class AnsweringState(enum.Enum):
    """How far the answer to the request is whose turn it is."""

    __hash__ = object.__hash__

    NO_ANSWER = "no request is being answered"
    AWAITED = "a handler or the application has the request, and the client has nothing of the answer yet"
    BEGUN = "the head of the answer was sent, and the rest follows"
    OVER = "the connection is gone"


class AnsweringEvent(enum.Enum):
    """An event that the connection meets while it answers."""

    __hash__ = object.__hash__

    TURN = "all requests before this one are answered"
    REPLY = "the head of an answer"
    COMPLETE = "the last byte of an answer was handed on"
    WITHDRAWAL = "a fault in the body of a request whose answer hasn't begun: an error takes its place"
    LOSS = "the connection is lost"


NO_ANSWER, AWAITED, BEGUN, OVER = AnsweringState
TURN, REPLY, COMPLETE, WITHDRAWAL, LOSS = AnsweringEvent


ANSWERING: Transitions[AnsweringState, AnsweringEvent] = Transitions(
    {
        # RFC 9112 §9.3.2: answers go out in the order of the requests, so one is made at a time.
        (NO_ANSWER, TURN): AWAITED,
        (AWAITED, REPLY): BEGUN,
        (BEGUN, COMPLETE): NO_ANSWER,
        # RFC 9112 §8: a request that an error has left incomplete is answered with an error.
        (AWAITED, WITHDRAWAL): NO_ANSWER,
        (NO_ANSWER, LOSS): OVER,
        (AWAITED, LOSS): OVER,
        (BEGUN, LOSS): OVER,
    }
)
"""The state after an event in a state; a pair that isn't listed can't happen."""
