"""A client of HTTP/2 on a plain socket, of which tests decide the windows and all that is sent."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import H2Error

from tests.http2_frames import connected

BIG_WINDOW = 2**31 - 1


@dataclass
class Answer:
    """What came on a stream.

    Attributes:
        order: number of the connection's data frames before each of this stream's.
        reset: the error code by which the server has ended it.
    """

    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    order: list[int] = field(default_factory=list)
    is_over: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(self.headers.get(":status", "0"))


class Http2Client:
    """One connection; if `is_mute` is set, nothing is sent but what a test sends.

    Args:
        window: of each stream, in bytes.
        opens: whether windows are opened again as bytes come.
        is_slow: whether the first bytes are sent one by one.
        sock: a socket that is connected; None: one with an address of its own is made.
    """

    def __init__(
        self,
        url: str,
        window: int = BIG_WINDOW,
        *,
        opens: bool = True,
        is_slow: bool = False,
        sock: socket.socket | None = None,
    ) -> None:
        self.authority = urlsplit(url).netloc
        self.socket = sock or connected(url)
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.h2.update_settings({4: window})
        self.answers: dict[int, Answer] = {}
        self.goaway: int | None = None
        self.is_closed = self.is_mute = False
        self._opens = opens
        self._frames = 0
        self._unread = bytearray()
        if opens:
            self.h2.increment_flow_control_window(BIG_WINDOW - 65_535)
        if is_slow:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in self.h2.data_to_send():
                self.send(bytes((byte,)))
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def flush(self) -> None:
        """Send what h2 has made."""
        self.send(self.h2.data_to_send())

    def send(self, data: bytes) -> None:
        """Send bytes as they are; a server that has closed gets none."""
        try:
            self.socket.sendall(data)
        except OSError:
            self.is_closed = True

    def request(self, path: str, method: str = "GET", body: bytes | None = None, **fields: str) -> int:
        """Send a request and return the number of its stream; a body of None isn't ended."""
        number = self.h2.get_next_available_stream_id()
        named = [(name.replace("_", "-"), value) for name, value in fields.items()]
        pseudo = [(":method", method), (":scheme", "http"), (":authority", self.authority), (":path", path)]
        self.h2.send_headers(number, [*pseudo, *named], end_stream=method in ("GET", "HEAD"))
        if body is not None:
            self.h2.send_data(number, body, end_stream=True)
        self.answers[number] = Answer()
        self.flush()
        return number

    def until(self, condition: Callable[[], Any]) -> None:
        """Read until something is so, or the server has closed."""
        while not condition() and not self.is_closed:
            self.read()

    def get(self, path: str, **fields: str) -> Answer:
        """Ask for something, and return the whole answer."""
        answer = self.answers[self.request(path, "GET", None, **fields)]
        self.until(lambda: answer.is_over)
        return answer

    def read(self) -> None:
        """Read what comes next."""
        try:
            data = self.socket.recv(1 << 20)
        except ConnectionError:
            data = b""
        if not data:
            self.is_closed = True
            return
        self._note_goaway(data)
        try:
            for event in self.h2.receive_data(data):
                self._handle(event)
        except H2Error:
            # Answers to what was sent past the library, or bytes behind a GOAWAY.
            return
        if not self.is_mute:
            self.flush()

    def _note_goaway(self, data: bytes) -> None:
        """Note the code of a GOAWAY, which is read even where the library reads no more."""
        self._unread += data
        while len(self._unread) >= 9 and len(self._unread) >= (end := 9 + int.from_bytes(self._unread[:3])):
            if self._unread[3] == 7:
                self.goaway = int.from_bytes(self._unread[13:17])
            del self._unread[:end]

    def _handle(self, event: Event) -> None:
        answer = self.answers.get(getattr(event, "stream_id", 0))
        if answer is None:
            return
        if isinstance(event, ResponseReceived):
            answer.headers = {str(name): str(value) for name, value in event.headers}
        elif isinstance(event, DataReceived):
            answer.body += event.data
            answer.order.append(self._frames)
            self._frames += 1
            if self._opens:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            answer.is_over = True
        elif isinstance(event, StreamReset):
            answer.is_over, answer.reset = True, int(event.error_code)
