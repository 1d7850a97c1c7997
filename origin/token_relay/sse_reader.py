"""Reads server-sent events (WHATWG HTML §9.2) without I/O: bytes in, events out."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

DONE = "[DONE]"
"""Data of the last event of a stream of an OpenAI-compatible server."""

_LINE_END = re.compile(rb"\r\n?|\n")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class SseError(Exception):
    """The stream can't be read on; the text says why."""


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """A server-sent event that was received."""

    name: str
    data: str


class SseReader:
    """Reads one stream; the same input gives the same events, however it is cut.

    Args:
        line_bytes: longest line, and most data of one event.

    Attributes:
        lines: number of complete lines so far, comments included: a sign that the other side lives.
    """

    def __init__(self, line_bytes: int) -> None:
        self._most = line_bytes
        self._line = bytearray()
        self._behind_cr = False
        self._is_begun = False
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0
        self._events: deque[ServerSentEvent] = deque()
        self._error: SseError | None = None
        self.lines = 0

    def receive_data(self, data: bytes) -> None:
        """Read the next bytes."""
        if not data or self._error is not None:
            return
        if self._behind_cr and data.startswith(b"\n"):
            data = data[1:]
        start = 0
        for end in _LINE_END.finditer(data):
            self._line += data[start : end.start()]
            start = end.end()
            if not self._take_line():
                return
        # §9.2.5: a line ends at CR, LF or CRLF; whether an LF follows isn't known yet.
        self._behind_cr = data.endswith(b"\r")
        self._line += data[start:]
        self._check_line()

    def receive_eof(self) -> None:
        """Discard an incomplete event at the stream's end (§9.2.6)."""
        self._line.clear()
        self._data.clear()

    @property
    def unfinished(self) -> str:
        """The data of an event behind which the blank line is missing; empty where no event has begun."""
        field, _, value = bytes(self._line).partition(b":")
        begun = [value.removeprefix(b" ")] if field == b"data" else []
        return _text(b"\n".join([*self._data, *begun]))

    def events(self) -> Iterator[ServerSentEvent]:
        """Yield the events that are complete.

        Raises:
            SseError: behind the last of them, where the stream can't be read on.
        """
        while self._events:
            yield self._events.popleft()
        if self._error is not None:
            raise self._error

    def _check_line(self) -> bool:
        if len(self._line) > self._most:
            self._error = SseError(f"a line has more than {self._most} bytes")
        return self._error is None

    def _take_line(self) -> bool:
        if not self._check_line():
            return False
        line = bytes(self._line)
        self._line.clear()
        self.lines += 1
        if not self._is_begun:
            self._is_begun, line = True, line.removeprefix(_BYTE_ORDER_MARK)
        if line:
            self._take_field(*line.partition(b":")[::2])
        else:
            self._dispatch()
        return self._error is None

    def _take_field(self, field: bytes, value: bytes) -> None:
        value = value.removeprefix(b" ")
        if field == b"event":
            self._name = _text(value)
        elif field in (b"data", b"error"):
            # llama.cpp has sent errors as lines "error: {…}", which the standard doesn't know.
            self._name = "error" if field == b"error" else self._name
            self._data.append(value)
            self._size += len(value) + 1
            if self._size > self._most + 1:
                self._error = SseError(f"an event has more than {self._most} bytes")

    def _dispatch(self) -> None:
        if self._data:
            self._events.append(ServerSentEvent(self._name or "message", _text(b"\n".join(self._data))))
        self._name, self._size = "", 0
        self._data.clear()


def _text(value: bytes) -> str:
    # §9.2.4: what isn't UTF-8 becomes U+FFFD.
    return value.decode("utf-8", "replace")
