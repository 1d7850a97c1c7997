"""HTTP as it is on the wire: requests sent as they are written, answers taken apart by their framing."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Self

PATIENCE = 120.0


@dataclass(frozen=True)
class Answer:
    status: int
    version: str
    fields: list[tuple[str, str]]
    body: bytes
    closed: bool = False
    """The connection ended before the body was complete."""

    def __getitem__(self, name: str) -> str:
        values = [value for key, value in self.fields if key == name]
        assert len(values) == 1, f"{name}: {values}"
        return values[0]

    def __contains__(self, name: str) -> bool:
        return any(key == name for key, _ in self.fields)


class Client:
    """One connection."""

    def __init__(self, address: tuple[str, int], receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(address)
        self._pending = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Go without a word more: the other side's kernel learns it at once."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, text: str | bytes) -> None:
        self.socket.sendall(text.encode("latin-1") if isinstance(text, str) else text)

    def ask(self, target: str, *fields: str, method: str = "GET", version: str = "1.1") -> Answer:
        lines = [f"{method} {target} HTTP/{version}", "Host: origin.localhost", *fields, "", ""]
        self.send("\r\n".join(lines))
        return self.answer(method)

    def answer(self, method: str = "GET") -> Answer:
        head = self._until(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")
        version, status = line.split(" ")[:2]
        fields = [
            (name.lower(), value.strip(" ")) for name, _, value in (each.partition(":") for each in lines)
        ]
        known = dict(fields)
        length = known.get("content-length")
        if method == "HEAD" or status in ("204", "304"):
            body, closed = b"", False
        elif known.get("transfer-encoding") == "chunked":
            assert length is None
            body, closed = self._chunks(), False
        elif length is None:
            body, closed = self.rest(), False
        else:
            body = self._exactly(int(length))
            closed = len(body) < int(length)
        return Answer(int(status), version, fields, body, closed)

    def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        data, self._pending = [self._pending], b""
        try:
            while more := self.socket.recv(1 << 16):
                data.append(more)
        except ConnectionError:
            pass
        return b"".join(data)

    def take(self, length: int) -> bytes:
        """The next bytes as they come, fewer only at the end of the connection."""
        return self._exactly(length)

    def is_closed(self) -> bool:
        return self.rest() == b""

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self._until(b"\r\n"), 16):
            body += self._exactly(size)
            assert self._until(b"\r\n") == b""
        assert self._until(b"\r\n") == b""
        return body

    def _exactly(self, length: int) -> bytes:
        data = [self._pending]
        have = len(self._pending)
        while have < length:
            try:
                more = self.socket.recv(1 << 16)
            except ConnectionError:
                more = b""
            if not more:
                break
            data.append(more)
            have += len(more)
        whole = b"".join(data)
        self._pending = whole[length:]
        return whole[:length]

    def _until(self, end: bytes) -> bytes:
        while end not in self._pending:
            more = self.socket.recv(1 << 16)
            assert more, f"the connection ended after {self._pending[:200]!r}"
            self._pending += more
        found, _, self._pending = self._pending.partition(end)
        return found
