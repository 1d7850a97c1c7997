"""RFC 6455's rules for a server that reads frames and writes them."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Close as TheirClose
from websockets.frames import Frame, Opcode

from origin.http1 import websocket
from origin.http1.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Close,
    FrameReader,
    HandshakeError,
    Ping,
    Pong,
    WebSocketError,
    WebSocketEvent,
    WebSocketLimits,
    WebSocketMessage,
)

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="


def sent(opcode: int, payload: bytes = b"", *, final: bool = True) -> bytes:
    """Write a client's frame as another implementation does."""
    return Frame(Opcode(opcode), payload, fin=final).serialize(mask=True)


def events(*pieces: bytes, limits: WebSocketLimits | None = None) -> Iterator[WebSocketEvent]:
    reader = FrameReader(limits or WebSocketLimits())
    for piece in pieces:
        reader.receive_data(piece)
        yield from reader.events()


def code_of(*pieces: bytes, limits: WebSocketLimits | None = None) -> int:
    """Give the close code by which a stream of frames is refused; 0 if it isn't."""
    try:
        list(events(*pieces, limits=limits))
    except WebSocketError as error:
        return error.code
    return 0


SESSION = (
    sent(TEXT, "Grüße".encode()),
    sent(PING, b"one"),
    sent(TEXT, b"a", final=False),
    sent(PING),
    sent(CONTINUATION, b"", final=False),
    sent(CONTINUATION, b"b"),
    sent(BINARY, bytes(range(256)) * 300),
    sent(PONG, b"late"),
    sent(TEXT, b"x" * 126),
    sent(TEXT),
    sent(CLOSE, TheirClose(1000, "bye").serialize()),
    sent(TEXT, b"nobody reads this"),
)
TOLD = [
    WebSocketMessage("Grüße"),
    Ping(b"one"),
    Ping(b""),
    WebSocketMessage("ab"),
    WebSocketMessage(bytes(range(256)) * 300),
    Pong(b"late"),
    WebSocketMessage("x" * 126),
    WebSocketMessage(""),
    Close(1000, "bye"),
]


@pytest.mark.clause("RFC 6455 §5.2", "RFC 6455 §5.4", "RFC 6455 §5.5")
@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1 << 32))
def test_frames_are_the_same_however_they_are_cut(seed: int) -> None:
    stream, chance, place = b"".join(SESSION), random.Random(seed), 0
    pieces = []
    while place < len(stream):
        size = chance.choice((1, 2, 3, 7, 100, 5000, len(stream)))
        pieces.append(stream[place : place + size])
        place += size
    assert list(events(*pieces)) == TOLD


def test_frames_byte_by_byte() -> None:
    stream = b"".join(SESSION[:6])
    assert list(events(*(stream[place : place + 1] for place in range(len(stream))))) == TOLD[:4]


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (Frame(Opcode.TEXT, b"x").serialize(mask=False), 1002),
        *[(bytes((0x81 | bit, 0x80)) + bytes(4), 1002) for bit in (0x40, 0x20, 0x10)],
        *[(bytes((0x80 | opcode, 0x80)) + bytes(4), 1002) for opcode in (3, 7, 11, 15)],
        # A length with its highest bit, one that isn't in its shortest form, and more than may be.
        (b"\x81\xff" + (1 << 63).to_bytes(8) + bytes(4), 1002),
        (b"\x81\xff" + (1 << 62).to_bytes(8) + bytes(4), 1009),
        (b"\x81\xfe" + (125).to_bytes(2) + bytes(4), 1002),
        (b"\x81\xff" + (65535).to_bytes(8) + bytes(4), 1002),
        (b"\x89\xfe" + (126).to_bytes(2) + bytes(4), 1002),
        (b"\x09\x80" + bytes(4), 1002),
        (b"\x08\x80" + bytes(4), 1002),
        (sent(CONTINUATION, b"x"), 1002),
        (sent(TEXT, b"x", final=False) + sent(TEXT, b"y"), 1002),
        (sent(TEXT, b"\xff"), 1007),
        (sent(TEXT, b"\xed\xa0\x80"), 1007),
        (sent(TEXT, b"\xe2\x82", final=False) + sent(CONTINUATION), 1007),
        (sent(CLOSE, b"\x03"), 1002),
        (sent(CLOSE, (1000).to_bytes(2) + b"\xff"), 1007),
        *[
            (sent(CLOSE, code.to_bytes(2)), 1002)
            for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
        ],
        *[(sent(CLOSE, code.to_bytes(2)), 0) for code in (1000, 1001, 1003, 1007, 1011, 3000, 4999)],
        (sent(TEXT, b"\xe2\x82", final=False) + sent(CONTINUATION, b"\xac"), 0),
        (sent(CLOSE), 0),
    ],
    # Masks are random, and names of tests may not be.
    ids=lambda value: "frames" if isinstance(value, bytes) else str(value),
)
def test_what_breaks_a_rule_is_closed_with_its_code(stream: bytes, code: int) -> None:
    assert code_of(stream) == code
    assert code_of(*(stream[place : place + 1] for place in range(len(stream)))) == code


def test_nothing_is_kept_for_a_length_alone_and_a_message_has_a_limit_of_bytes_and_fragments() -> None:
    limits = WebSocketLimits(message_bytes=1000, fragments=10)
    tracemalloc.start()
    try:
        assert code_of(b"\x81\xff" + (1 << 40).to_bytes(8) + bytes(4)) == 1009
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert code_of(sent(TEXT, b"x" * 1000), limits=limits) == 0
    assert code_of(sent(TEXT, b"x" * 1001), limits=limits) == 1009
    half = sent(TEXT, b"x" * 600, final=False)
    assert code_of(half, sent(CONTINUATION, b"x" * 401), limits=limits) == 1009
    empty = sent(CONTINUATION, final=False)
    assert code_of(sent(TEXT, final=False), empty * 9, limits=limits) == 0
    assert code_of(sent(TEXT, final=False), empty * 10, limits=limits) == 1009
    assert code_of(sent(TEXT, final=False), *[empty * 1000] * 10) == 1009


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536])
def test_frames_of_every_length_are_read_by_others_and_in_their_shortest_form(length: int) -> None:
    written = websocket.frame(TEXT, b"x" * length)
    assert written == Frame(Opcode.TEXT, b"x" * length).serialize(mask=False)


def test_a_reason_is_cut_at_a_character_so_that_it_fits() -> None:
    written = websocket.close_frame(1008, "ж" * 100)
    assert len(written) <= 2 + 125
    assert written[4:].decode() == "ж" * 61
    assert websocket.close_frame(None) == b"\x88\x00"


GOOD = [
    (b"upgrade", b"WebSocket"),
    (b"connection", b"keep-alive, Upgrade"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", KEY),
]


@pytest.mark.clause("RFC 6455 §4.2.2")
def test_a_handshake_is_answered_as_the_standards_example_says() -> None:
    assert websocket.is_upgrade("GET", GOOD)
    assert dict(websocket.accept(GOOD))[b"sec-websocket-accept"] == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    ("offered", "chosen"), [(b"x, b", b"b"), (b"b,a", b"a"), (b"B", None), (b"x", None), (None, None)]
)
def test_a_subprotocol_is_chosen_among_those_that_are_offered(
    offered: bytes | None, chosen: bytes | None
) -> None:
    fields = [*GOOD, (b"sec-websocket-protocol", offered)] if offered is not None else GOOD
    assert dict(websocket.accept(fields, ["a", "b"])).get(b"sec-websocket-protocol") == chosen


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        (b"connection", b"close", 400),
        (b"sec-websocket-version", b"8", 426),
        (b"sec-websocket-key", b"c2hvcnQ=", 400),
        (b"sec-websocket-key", b"!", 400),
        (b"content-length", b"5", 400),
        (b"transfer-encoding", b"chunked", 400),
    ],
)
def test_a_handshake_that_isnt_one_is_refused(field: bytes, value: bytes, status: int) -> None:
    fields = [(name, value if name == field else one) for name, one in GOOD]
    if field not in dict(GOOD):
        fields.append((field, value))
    with pytest.raises(HandshakeError) as refused:
        websocket.accept(fields)
    assert refused.value.status == status
