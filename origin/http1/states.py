"""What a connection is reading of its client's requests, and what may come next.

    IDLE ──BEGIN──▶ HEAD ──END_OF_HEAD──▶ BODY ──END_OF_MESSAGE──▶ IDLE
                     │
                     └──END_OF_UNFRAMED_HEAD──▶ UNFRAMED (until the client ends its side)

    IDLE, HEAD, BODY ──FAULT──▶ STOPPED
    IDLE ──UPGRADE──▶ STOPPED
    IDLE, HEAD, BODY, UNFRAMED ──END_OF_INPUT──▶ STOPPED
    UNFRAMED ──END_OF_MESSAGE, UPGRADE──▶ UNFRAMED (what the parser makes of its head)

A request without a body passes through BODY too, for as long as the parser needs between its two events. How
the requests are answered meanwhile is not part of this: pipelined ones may be read before their turn comes.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType


class Reading(enum.Enum):
    """What the next byte of the client belongs to."""

    # Members are unique objects; the hash of their names, which Enum takes, is a call in Python.
    __hash__ = object.__hash__

    IDLE = "between requests"
    HEAD = "the head of a request"
    BODY = "the body of a request, or its trailer"
    UNFRAMED = "a body without framing, which is all that comes"
    STOPPED = "nothing: it is dropped"


class ReadingEvent(enum.Enum):
    """What the connection meets while it reads."""

    __hash__ = object.__hash__

    BEGIN = "the first byte of a request"
    END_OF_HEAD = "the empty line behind a head"
    END_OF_UNFRAMED_HEAD = "the empty line behind a source's head, whose body has no framing"
    END_OF_MESSAGE = "the last byte of a request, as the parser sees it"
    UPGRADE = "a request for another protocol, which nobody here speaks, has been read"
    FAULT = "bytes that can't be accepted, or a head that doesn't come in time"
    END_OF_INPUT = "the client has ended its side, and all that it sent is taken"


# By these names nobody pays for Enum's lookup of a member, which is a call in Python 3.11.
IDLE, HEAD, BODY, UNFRAMED, STOPPED = Reading
BEGIN, END_OF_HEAD, END_OF_UNFRAMED_HEAD, END_OF_MESSAGE, UPGRADE, FAULT, END_OF_INPUT = ReadingEvent


TRANSITIONS: Mapping[tuple[Reading, ReadingEvent], Reading] = MappingProxyType(
    {
        (IDLE, BEGIN): HEAD,
        # RFC 9112 §2.2: what isn't a request is answered with 400 and the end of the connection.
        (IDLE, FAULT): STOPPED,
        # RFC 9110 §7.8: an upgrade may be ignored; the parser reads nothing behind one that is asked for.
        (IDLE, UPGRADE): STOPPED,
        (IDLE, END_OF_INPUT): STOPPED,
        # RFC 9112 §6: behind the head comes the body, which may be empty.
        (HEAD, END_OF_HEAD): BODY,
        (HEAD, END_OF_UNFRAMED_HEAD): UNFRAMED,
        (HEAD, FAULT): STOPPED,
        # RFC 9112 §8: a request that is cut short by the end of the connection is incomplete.
        (HEAD, END_OF_INPUT): STOPPED,
        # RFC 9112 §9.3: a connection persists, and the next request follows the body.
        (BODY, END_OF_MESSAGE): IDLE,
        (BODY, FAULT): STOPPED,
        (BODY, END_OF_INPUT): STOPPED,
        # RFC 9112 §6.3, rule 7: to the parser such a request has no body and is complete.
        (UNFRAMED, END_OF_MESSAGE): UNFRAMED,
        (UNFRAMED, UPGRADE): UNFRAMED,
        (UNFRAMED, END_OF_INPUT): STOPPED,
    }
)
"""The state after an event; what isn't listed can't happen."""


class IllegalTransitionError(RuntimeError):
    """An event came in a state in which it can't: a fault of the server, not of the client."""
