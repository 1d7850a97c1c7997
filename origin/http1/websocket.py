"""WebSocket (RFC 6455): the handshake, and frames as they are read from a client and written to it. No I/O.

A server's side alone, without extensions: compression is never negotiated, so that no message is larger than
its bytes on the wire.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455 §1.3: what a server adds to a client's key."""

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
"""RFC 6455 §5.2: opcodes."""

NORMAL, PROTOCOL_ERROR, UNSUPPORTED, INVALID_DATA, POLICY, TOO_BIG = 1000, 1002, 1003, 1007, 1008, 1009
SERVICE_RESTART = 1012
"""RFC 6455 §7.4.1, and the registry that it founded: why a connection is closed."""

MOST_OF_CONTROL = 125
"""RFC 6455 §5.5: bytes of a control frame's payload at most."""

_FINAL, _RESERVED, _MASKED = 0x80, 0x70, 0x80
_KNOWN = frozenset((CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))
_MAY_BE_SENT = frozenset((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014))


class WebSocketError(Exception):
    """The client broke a rule; the connection is closed with this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class HandshakeError(Exception):
    """The request can't become a WebSocket; the answer is this status with this line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketLimits:
    """Limits of what a WebSocket client may send.

    Attributes:
        message_bytes: of a message, all its fragments together.
        fragments: of a message: an empty one costs no bytes.
    """

    message_bytes: int = 1 << 20
    fragments: int = 1024


@dataclass(frozen=True, slots=True)
class WebSocketMessage:
    """A whole message: text, or bytes where it is binary."""

    data: str | bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """A ping, which wants a pong with the same data."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """A pong: the answer to a ping, or sent without one."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """A Close frame, behind which nothing follows; without a code in it, `code` is None."""

    code: int | None
    reason: str


WebSocketEvent = WebSocketMessage | Ping | Pong | Close


class FrameReader:
    """Reads the WebSocket frames that a client sends, and joins fragments to messages."""

    def __init__(self, limits: WebSocketLimits) -> None:
        self._limits = limits
        self._unread = bytearray()
        self._opcode: int | None = None
        self._message = bytearray()
        self._fragments = 0
        self._is_closed = False

    def receive_data(self, data: bytes) -> None:
        """Read the next bytes."""
        if not self._is_closed:
            self._unread += data

    def receive_eof(self) -> None:
        """The client's side has ended."""
        self._is_closed = True

    def events(self) -> Iterator[WebSocketEvent]:
        """Yield what the bytes so far complete.

        Raises:
            WebSocketError: the client broke a rule; nothing more is read.
        """
        while not self._is_closed:
            try:
                frame = self._next_frame()
                if frame is None:
                    return
                event = self._on_frame(*frame)
            except WebSocketError:
                self._is_closed = True
                raise
            if isinstance(event, Close):
                self._is_closed = True
            if event is not None:
                yield event

    def _next_frame(self) -> tuple[bool, int, bytes] | None:
        """Read a frame: whether it is the last of its message, its opcode and payload; None if incomplete."""
        data = self._unread
        if len(data) < 2:
            return None
        first, second = data[0], data[1]
        is_final, opcode = bool(first & _FINAL), first & 0x0F
        length, place = second & 0x7F, 2
        # RFC 6455 §5.2: without extensions the reserved bits are 0.
        if first & _RESERVED or opcode not in _KNOWN:
            raise WebSocketError(PROTOCOL_ERROR, "reserved bits or an unknown opcode")
        # RFC 6455 §5.1: a client masks all its frames.
        if not second & _MASKED:
            raise WebSocketError(PROTOCOL_ERROR, "a frame without a mask")
        if opcode >= CLOSE and (not is_final or length > MOST_OF_CONTROL):
            raise WebSocketError(PROTOCOL_ERROR, "a control frame in fragments, or too long")
        if length >= 126:
            size = 2 if length == 126 else 8
            if len(data) < place + size:
                return None
            length, place = int.from_bytes(data[place : place + size]), place + size
            if length < (126 if size == 2 else 1 << 16) or length >> 63:
                raise WebSocketError(PROTOCOL_ERROR, "a length that isn't in its shortest form, or negative")
        # Before anything of it is kept.
        if length + len(self._message) > self._limits.message_bytes and opcode < CLOSE:
            raise WebSocketError(TOO_BIG, f"more than {self._limits.message_bytes} bytes")
        end = place + 4 + length
        if len(data) < end:
            return None
        payload = unmasked(bytes(data[place + 4 : end]), bytes(data[place : place + 4]))
        del data[:end]
        return is_final, opcode, payload

    def _on_frame(self, is_final: bool, opcode: int, payload: bytes) -> WebSocketEvent | None:
        if opcode == CLOSE:
            return _read_close(payload)
        if opcode in (PING, PONG):
            return Ping(payload) if opcode == PING else Pong(payload)
        # RFC 6455 §5.4: a message's fragments follow each other.
        if (opcode == CONTINUATION) is (self._opcode is None):
            raise WebSocketError(PROTOCOL_ERROR, "a fragment out of order")
        if self._opcode is None:
            self._opcode = opcode
        self._message += payload
        self._fragments += 1
        if self._fragments > self._limits.fragments:
            raise WebSocketError(TOO_BIG, f"more than {self._limits.fragments} fragments")
        if not is_final:
            return None
        whole, is_text = bytes(self._message), self._opcode == TEXT
        self._opcode, self._message, self._fragments = None, bytearray(), 0
        if not is_text:
            return WebSocketMessage(whole)
        try:
            return WebSocketMessage(whole.decode())
        except UnicodeDecodeError:
            raise WebSocketError(INVALID_DATA, "text that isn't UTF-8") from None


def _read_close(payload: bytes) -> Close:
    """Read a Close frame's payload (RFC 6455 §5.5.1)."""
    if not payload:
        return Close(None, "")
    code = int.from_bytes(payload[:2])
    if len(payload) < 2 or not (code in _MAY_BE_SENT or 3000 <= code < 5000):
        raise WebSocketError(PROTOCOL_ERROR, "a close code that may not be sent")
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        raise WebSocketError(INVALID_DATA, "a reason that isn't UTF-8") from None


def unmasked(payload: bytes, mask: bytes) -> bytes:
    """Mask a payload, or remove its mask (RFC 6455 §5.3)."""
    length = len(payload)
    if not length:
        return b""
    whole = mask * (length // 4 + 1)
    return (int.from_bytes(payload) ^ int.from_bytes(whole[:length])).to_bytes(length)


def frame(opcode: int, payload: bytes) -> bytes:
    """Write one frame of a server: whole and without a mask (RFC 6455 §5.1, §5.2)."""
    length = len(payload)
    if length < 126:
        head = bytes((_FINAL | opcode, length))
    elif length < 1 << 16:
        head = bytes((_FINAL | opcode, 126)) + length.to_bytes(2)
    else:
        head = bytes((_FINAL | opcode, 127)) + length.to_bytes(8)
    return head + payload


def close_frame(code: int | None, reason: str = "") -> bytes:
    """Write a Close frame; the reason is cut to what fits."""
    if code is None:
        return frame(CLOSE, b"")
    text = reason.encode()[: MOST_OF_CONTROL - 2].decode(errors="ignore").encode()
    return frame(CLOSE, code.to_bytes(2) + text)


def is_upgrade(method: str, fields: Sequence[tuple[bytes, bytes]]) -> bool:
    """Return whether a request asks for WebSocket, well or not."""
    return method == "GET" and b"websocket" in _tokens(fields, b"upgrade")


Fields = Sequence[tuple[bytes, bytes]]


def accept(fields: Fields, subprotocols: Sequence[str] = ()) -> list[tuple[bytes, bytes]]:
    """Answer a handshake (RFC 6455 §4.2).

    Args:
        fields: of the request, names in lower case.
        subprotocols: subprotocols of the server, the preferred first.

    Returns:
        The header fields of a 101.

    Raises:
        HandshakeError: it isn't one.
    """
    values = {
        name: [value.strip() for found, value in fields if found == name]
        for name in (b"sec-websocket-key", b"sec-websocket-version")
    }
    if b"upgrade" not in _tokens(fields, b"connection"):
        raise HandshakeError(400, "Connection: Upgrade is missing")
    if any(name in (b"content-length", b"transfer-encoding") for name, _ in fields):
        raise HandshakeError(400, "a handshake has no body")
    # RFC 6455 §4.4: the answer names the version that is spoken.
    if values[b"sec-websocket-version"] != [b"13"]:
        raise HandshakeError(426, "WebSocket of version 13 is spoken here")
    keys = values[b"sec-websocket-key"]
    if len(keys) != 1 or not _is_key(keys[0]):
        raise HandshakeError(400, "Sec-WebSocket-Key isn't 16 bytes in Base64")
    digest = base64.b64encode(hashlib.sha1(keys[0] + GUID, usedforsecurity=False).digest())
    answer = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade"), (b"sec-websocket-accept", digest)]
    offered = _tokens(fields, b"sec-websocket-protocol", lower=False)
    chosen = next((one for one in subprotocols if one.encode() in offered), None)
    # RFC 6455 §4.2.2: where none of them is spoken, the field is left out, and browsers close.
    return answer if chosen is None else [*answer, (b"sec-websocket-protocol", chosen.encode())]


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False


def _tokens(fields: Sequence[tuple[bytes, bytes]], name: bytes, *, lower: bool = True) -> list[bytes]:
    """Read a field that is a list of tokens."""
    found = [one.strip() for key, value in fields if key == name for one in value.split(b",")]
    return [one.lower() for one in found] if lower else found
