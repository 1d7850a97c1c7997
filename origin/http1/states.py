"""The states in which a connection reads requests, and which events may change them, as a table.

    IDLE ──BEGIN──▶ HEAD ──END_OF_HEAD──▶ BODY ──END_OF_MESSAGE──▶ IDLE
                     │
                     └──END_OF_UNFRAMED_HEAD──▶ UNFRAMED (until the client ends its side)

    IDLE, HEAD, BODY ──FAULT──▶ STOPPED
    IDLE ──UPGRADE──▶ STOPPED
    IDLE, HEAD, BODY, UNFRAMED ──END_OF_INPUT──▶ STOPPED
    HEAD ──HAND_OVER──▶ LEAVING
    UNFRAMED ──END_OF_MESSAGE, UPGRADE──▶ UNFRAMED (what the parser makes of its head)

A request without a body passes through BODY too, between two events of the parser. How requests are answered
isn't part of this: pipelined ones may be read before their turn comes.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType


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
    HAND_OVER = "the empty line behind a head that another process has to answer"


# Looking up a member in its Enum is a call in Python 3.11, which these names save.
IDLE, HEAD, BODY, UNFRAMED, STOPPED, LEAVING = ReadingState
BEGIN, END_OF_HEAD, END_OF_UNFRAMED_HEAD, END_OF_MESSAGE, UPGRADE, FAULT, END_OF_INPUT, HAND_OVER = (
    ReadingEvent
)


TRANSITIONS: Mapping[tuple[ReadingState, ReadingEvent], ReadingState] = MappingProxyType(
    {
        (IDLE, BEGIN): HEAD,
        # RFC 9112 §2.2: bytes that aren't a request are answered with 400, and the connection is closed.
        (IDLE, FAULT): STOPPED,
        # RFC 9110 §7.8: an upgrade may be ignored, but the parser reads nothing behind a request for one.
        (IDLE, UPGRADE): STOPPED,
        (IDLE, END_OF_INPUT): STOPPED,
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


class IllegalTransitionError(RuntimeError):
    """An event came in a state in which it can't: the server is at fault, not the client."""
