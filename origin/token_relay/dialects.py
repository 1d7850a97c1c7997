"""The APIs whose answers a relay streams: their addresses, ids, numbers and errors. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
from msgspec import Raw, Struct

from origin.events import sse_writer
from origin.events.channel import END
from origin.events.event_log import Event, EventLog
from origin.events.formats import Format
from origin.token_relay.errors import ERROR, CompletionError, anthropic_error_data, error_data, kind_of

IDENTITY_EVENTS = 8
"""First events of an answer, one of which has its id."""

ENDING_EVENTS = 4
"""Last events of an answer, one of which says why it ends; usage and ``[DONE]`` may follow it."""

ENDING_BYTES = 1 << 20
"""Largest event that is looked through for that: some milliseconds."""

UNNUMBERED_EVENTS = 100
"""Events without a number behind one that has one, at most."""

TERMINAL = frozenset(("completed", "failed", "incomplete", "cancelled"))
"""States of a response of which no more comes."""

_FINISH_REASON = re.compile(r"[A-Za-z_]{1,64}")
_IDENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


class _Named(Struct):
    """An object with an id."""

    id: str = ""


class _Beginning(Struct):
    """An event of an answer, as far as it says whose it is: in one of three places."""

    id: str = ""
    response: _Named = msgspec.field(default_factory=_Named)
    message: _Named = msgspec.field(default_factory=_Named)


class _Numbered(Struct):
    sequence_number: int | None = None


class _WithResponse(Struct):
    response: Raw = Raw(b"")


class _EndedChoice(Struct):
    finish_reason: str | None = None


class _EndingDelta(Struct):
    stop_reason: str | None = None


class _FaultyEvent(Struct):
    """An event of an answer, as far as it says that the model, or its server, has failed."""

    type: str = ""
    error: Raw = Raw(b"null")
    choices: list[_EndedChoice] | None = None


class _IncompleteDetails(Struct):
    reason: str = ""


class _EndedResponse(Struct):
    status: str = ""
    incomplete_details: _IncompleteDetails | None = None


class _EndingEvent(Struct):
    """One of the last events of an answer, as far as it says why the model wrote no more."""

    choices: list[_EndedChoice] = []
    delta: _EndingDelta | None = None
    response: _EndedResponse | None = None


class _Coded(Struct):
    code: int | str | None = None


_ENDING = msgspec.json.Decoder(_EndingEvent)
_NO_ERRORS = (b"null", b"false", b'""')
_FAULT, _CODE = msgspec.json.Decoder(_FaultyEvent), msgspec.json.Decoder(_Coded)
COMMENT = sse_writer.comment() + b"\n"
"""A comment with an empty line, as clients of these APIs divide streams at such lines."""

_HEAD, _NUMBERED = msgspec.json.Decoder(_Beginning), msgspec.json.Decoder(_Numbered)
_WITH_RESPONSE, _OPTIONS = msgspec.json.Decoder(_WithResponse), msgspec.json.Decoder(dict[str, Raw])


def _write_bare(name: str, data: str, _: str) -> bytes:
    # Clients of these servers know events without type and id alone.
    return _write_named("" if name == ERROR else name, data, "")


def _write_named(name: str, data: str, _: str) -> bytes:
    if name == END:
        return COMMENT
    return sse_writer.event(data, name="" if name == "message" else name)


COMPLETION_STREAM = Format("completion", sse_writer.MEDIA_TYPE, _write_bare, COMMENT)
"""Events as OpenAI's chat completions have them."""

NAMED_STREAM = Format("named completion", sse_writer.MEDIA_TYPE, _write_named, COMMENT)
"""Events as OpenAI's responses and Anthropic's messages have them, whose errors have a type, too."""


def _chat_error(text: str, status: int, _number: int) -> str:
    return error_data(text, status)


def _response_error(text: str, status: int, number: int) -> str:
    error = {"type": ERROR, "code": str(status), "message": text, "param": None, "sequence_number": number}
    return msgspec.json.encode(error).decode()


def _message_error(text: str, status: int, _number: int) -> str:
    return anthropic_error_data(text, status)


def _refusal(text: str, status: int) -> str:
    return error_data(text, status, kind_of(status))


@dataclass(frozen=True, slots=True, eq=False)
class Dialect:
    """An API whose answers are streamed.

    Attributes:
        path: of its address, below the base of the upstream server's.
        form: the events of its streams.
        write_error: writes an error within a stream, by its line, its status and the number of its event.
        write_refusal: writes the error of a request that is refused, by its line and its status.
        is_numbered: whether its events have numbers; where they haven't they are counted, from 0 on.
    """

    path: str
    form: Format
    write_error: Callable[[str, int, int], str] = _chat_error
    write_refusal: Callable[[str, int], str] = _refusal
    is_numbered: bool = False

    @property
    def name(self) -> str:
        """Its path without the slash in front."""
        return self.path[1:]

    def write_status_error(self, text: str, status: int) -> str:
        """Write the error of an upstream server as the answer to a request."""
        return anthropic_error_data(text, status) if self.name == "messages" else error_data(text, status)

    def write_failure(self, error: CompletionError, number: int) -> str:
        """Return the event of an error within a stream.

        Args:
            number: of the event, if events have numbers.
        """
        if not self.is_numbered and error.told:
            return error.told
        return self.write_error(error.line, error.upstream, number)

    def position_behind(self, log: EventLog, number: int) -> int | None:
        """Return the position of the first event behind a number in a log; None if that may be to come."""
        if not self.is_numbered:
            position = log.first + number + 1
            return position if position <= log.end else None
        if number > _number_at(log, log.end - 1):
            return None
        first, end = log.first, log.end
        while first < end:
            middle = (first + end) // 2
            if _number_at(log, middle) > number:
                end = middle
            else:
                first = middle + 1
        return first

    def next_number(self, log: EventLog) -> int:
        """Return the number of the event that would be the next in a log."""
        return _number_at(log, log.end - 1) + 1 if self.is_numbered else log.end - log.first


CHAT = Dialect("/chat/completions", COMPLETION_STREAM)
COMPLETIONS = Dialect("/completions", COMPLETION_STREAM)
RESPONSES = Dialect("/responses", NAMED_STREAM, _response_error, is_numbered=True)
MESSAGES = Dialect("/messages", NAMED_STREAM, _message_error, anthropic_error_data)
DIALECTS = CHAT, COMPLETIONS, RESPONSES, MESSAGES


def dialect_named(name: str) -> Dialect | None:
    """Return the API with a name; None for none."""
    return next((one for one in DIALECTS if one.name == name), None)


def identity_in(data: str) -> str:
    """Return the id that the upstream server has given an answer, by one of its events; empty for none."""
    try:
        head = _HEAD.decode(data)
    except (ValueError, RecursionError):
        return ""
    found = head.id or head.response.id or head.message.id
    return found if _IDENTITY.fullmatch(found) else ""


def finish_reason_in(log: EventLog) -> str:
    """Return why the model wrote no more, in the API's own word such as ``length``; empty for none."""
    for event in reversed(log.between(max(log.first, log.end - ENDING_EVENTS), log.end)):
        if event.size > ENDING_BYTES:
            continue
        try:
            found = _ENDING.decode(event.data)
        except (ValueError, RecursionError):
            continue
        told = next((one.finish_reason for one in found.choices if one.finish_reason not in (None, "")), None)
        if told is None and found.delta is not None:
            told = found.delta.stop_reason
        if told is None and found.response is not None and found.response.status in TERMINAL:
            details = found.response.incomplete_details
            told = details.reason if details is not None else found.response.status
        if told and _FINISH_REASON.fullmatch(told):
            return told
    return ""


def failure_in(name: str, data: str) -> CompletionError | None:
    """Return the failure that an event of this type reports; None for any other event."""
    # All ways have the word: a type, a member, a reason; or a response that has failed.
    if name != ERROR and "error" not in data and "failed" not in data:
        return None
    if len(data) > ENDING_BYTES:
        return None
    try:
        found = _FAULT.decode(data)
    except (ValueError, RecursionError):
        return CompletionError("the upstream server ends with an error", body=data) if name == ERROR else None
    is_error = found.type in (ERROR, "response.failed") or bytes(found.error) not in _NO_ERRORS
    reasons = [one.finish_reason for one in found.choices or ()]
    if not (name == ERROR or is_error or ERROR in reasons):
        return None
    return CompletionError("the upstream server ends with an error", _status_in(bytes(found.error)), data)


def _status_in(error: bytes) -> int:
    """Return the status of an error that an event has, where it says one; else that of a failed server."""
    try:
        code = _CODE.decode(error).code
    except (ValueError, RecursionError):
        return 502
    return code if isinstance(code, int) and 400 <= code < 600 else 502


def _number_at(log: EventLog, position: int) -> int:
    """Return the number of an event of a log, or of the last one before it that has one; -1 for none."""
    for one in range(position, max(log.first, position - UNNUMBERED_EVENTS) - 1, -1):
        if one < log.first:
            break
        try:
            found = _NUMBERED.decode(log.between(one, one + 1)[0].data).sequence_number
        except (ValueError, RecursionError):
            continue
        if found is not None:
            return found
    return -1


def response_in(events: Sequence[Event], status: str = "") -> bytes | None:
    """Return the newest object ``response`` of some events, with another status; None without one.

    Args:
        status: which it has unless it is over; empty for its own.
    """
    for event in reversed(events):
        try:
            found = _WITH_RESPONSE.decode(event.data).response
            if not bytes(found).startswith(b"{"):
                continue
            options = _OPTIONS.decode(found)
            own = msgspec.json.decode(options.get("status", Raw(b"null")))
        except (ValueError, RecursionError):
            continue
        if status and own not in TERMINAL:
            options["status"] = Raw(msgspec.json.encode(status))
            return msgspec.json.encode(options)
        return bytes(found)
    return None
