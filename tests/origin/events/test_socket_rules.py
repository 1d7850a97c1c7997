"""RFC 6455's rules for what a client sends, case by case in the order of the Autobahn test suite.

Each is judged by the reader alone, cut in every way, by another implementation, and by a real server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import SERVER, Protocol, State

from origin.http1.websocket import FrameReader, WebSocketError, WebSocketLimits, WebSocketMessage
from tests.event_server import LIMIT, serving
from tests.origin.events.raw_websockets import opened, raw
from tests.waiting import until

MASK = b"\x37\xfa\x21\x3d"
OK, PROTOCOL_ERROR, INVALID_DATA = 0, 1002, 1007


def sent(opcode: int, payload: bytes = b"", *, final: bool = True, reserved: int = 0) -> bytes:
    """Write a client's frame of up to 125 bytes, as RFC 6455 §5.2 draws it; nothing is checked."""
    masked = bytes(byte ^ MASK[place % 4] for place, byte in enumerate(payload))
    return bytes((final << 7 | reserved << 4 | opcode, 0x80 | len(payload))) + MASK + masked


CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
RESERVED_OPCODES = (*range(3, 8), *range(11, 16))
BYE = sent(CLOSE, (1000).to_bytes(2))
FIRST, MORE, LAST = (
    sent(TEXT, b"a", final=False),
    sent(CONTINUATION, b"b", final=False),
    sent(CONTINUATION, b"c"),
)

RULES: dict[str, tuple[bytes, int]] = {
    # Autobahn 2: pings and pongs
    **{f"a {name} of {size} bytes": (sent(code, b"\xfe" * size), OK)
       for name, code in (("ping", PING), ("pong", PONG)) for size in (0, 1, 125)},
    "ten pings": (sent(PING, b"x") * 10, OK),
    "a pong that nobody asked for, then a ping": (sent(PONG, b"x") + sent(PING), OK),
    **{f"a {name} of 126 bytes": (bytes((0x80 | code, 0xFE, 0, 126)) + MASK + bytes(126), PROTOCOL_ERROR)
       for name, code in (("ping", PING), ("pong", PONG), ("close", CLOSE))},
    # Autobahn 3: reserved bits, of each kind of frame, behind a good one, too
    **{f"reserved bits {bits:03b} of opcode {code}": (sent(code, reserved=bits), PROTOCOL_ERROR)
       for bits in range(1, 8) for code in (TEXT, BINARY, CLOSE, PING, PONG)},
    "reserved bits behind a message": (sent(TEXT, b"x") + sent(TEXT, reserved=1), PROTOCOL_ERROR),
    # Autobahn 4: opcodes that aren't defined
    **{f"opcode {code}{' with a payload' * bool(payload)}": (sent(code, payload), PROTOCOL_ERROR)
       for code in RESERVED_OPCODES for payload in (b"", b"x")},
    "an unknown opcode behind a message": (sent(TEXT, b"x") + sent(3), PROTOCOL_ERROR),
    "an unknown opcode between fragments": (FIRST + sent(5), PROTOCOL_ERROR),
    # Autobahn 5: fragments
    "a ping in fragments": (sent(PING, final=False) + sent(CONTINUATION), PROTOCOL_ERROR),
    "a pong in fragments": (sent(PONG, final=False) + sent(CONTINUATION), PROTOCOL_ERROR),
    "a close in fragments": (sent(CLOSE, final=False) + sent(CONTINUATION), PROTOCOL_ERROR),
    "two fragments": (FIRST + LAST, OK),
    "three fragments": (FIRST + MORE + LAST, OK),
    "pings and pongs between fragments": (FIRST + sent(PING, b"x") + MORE + sent(PONG) + LAST, OK),
    "a last fragment without a first": (LAST, PROTOCOL_ERROR),
    "a middle fragment without a first": (MORE, PROTOCOL_ERROR),
    "a fragment behind a whole message": (sent(TEXT, b"x") + LAST, PROTOCOL_ERROR),
    "a fragment behind the last": (FIRST + LAST + LAST, PROTOCOL_ERROR),
    "a message between fragments": (FIRST + sent(TEXT, b"x"), PROTOCOL_ERROR),
    "another first fragment": (FIRST + FIRST, PROTOCOL_ERROR),
    "fragments without anything in them": (
        sent(TEXT, final=False) + sent(CONTINUATION, final=False) + sent(CONTINUATION), OK),
    "a close between fragments": (FIRST + BYE, OK),
    # Autobahn 7: closing
    "a close without a code": (sent(CLOSE), OK),
    "a close with half a code": (sent(CLOSE, b"\x03"), PROTOCOL_ERROR),
    "a close with the longest reason": (sent(CLOSE, (1000).to_bytes(2) + b"x" * 123), OK),
    "a close whose reason isn't UTF-8": (sent(CLOSE, b"\x03\xe8\xce\xba\xed\xa0\x80"), INVALID_DATA),
    "two closes": (BYE + BYE, OK),
    "a ping behind a close": (BYE + sent(PING), OK),
    "a message behind a close": (BYE + sent(TEXT, b"x"), OK),
    "nonsense behind a close": (BYE + b"\xff" * 20, OK),
    **{f"close code {code}": (sent(CLOSE, code.to_bytes(2)), OK)
       for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)},
    **{f"close code {code}": (sent(CLOSE, code.to_bytes(2)), PROTOCOL_ERROR)
       for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535)},
}  # fmt: skip
"""What is sent, and the code by which the server closes; 0: it has no reason to."""

OWN = {"a close between fragments"}
"""By RFC 6455 §5.4 control frames may stand there; websockets takes a Close there for an error."""

WELL_FORMED = {
    "κόσμε": "κόσμε".encode(),
    **{f"U+{point:04X}": chr(point).encode()
       for point in (0, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFD, 0xFFFE, 0xFFFF, 0x10000, 0x10FFFF)},
}  # fmt: skip

ILL_FORMED = {
    "a continuation": b"\x80", "another": b"\xbf", "several": b"\x80\xbf" * 3,
    "a first of two": b"\xc2 ", "of three": b"\xe0\xa0 ", "of four": b"\xf0\x90\x80 ",
    "cut in two": b"\xc2", "in three": b"\xe2\x82", "in four": b"\xf0\x9f\x98",
    "overlong of two": b"\xc0\xaf", "the longest": b"\xc1\xbf", "overlong of three": b"\xe0\x9f\xbf",
    "overlong of four": b"\xf0\x8f\xbf\xbf", "an overlong NUL": b"\xc0\x80",
    "U+D800": b"\xed\xa0\x80", "U+DFFF": b"\xed\xbf\xbf", "a pair": b"\xed\xa0\x80\xed\xb0\x80",
    "U+110000": b"\xf4\x90\x80\x80", "of five": b"\xf8\x88\x80\x80\x80",
    "of six": b"\xfc\x84\x80\x80\x80\x80",
    "0xFE": b"\xfe", "0xFF": b"\xff", "behind good ones": "κόσμε".encode() + b"\xed\xa0\x80" + b"edited",
}  # fmt: skip
"""The Unicode Standard, table 3-7, has no such sequences."""


def code_of(*pieces: bytes) -> int:
    """Give the code by which the reader refuses what comes; 0 if it doesn't."""
    reader = FrameReader(WebSocketLimits())
    try:
        for piece in pieces:
            reader.receive_data(piece)
            list(reader.events())
    except WebSocketError as error:
        return error.code
    return OK


def cuts(stream: bytes) -> Iterator[tuple[bytes, ...]]:
    """Cut a stream in two at each place, and into bytes."""
    yield (stream,)
    for place in range(1, len(stream)):
        yield stream[:place], stream[place:]
    yield tuple(stream[place : place + 1] for place in range(len(stream)))


@pytest.mark.clause("RFC 6455 §5.2", "RFC 6455 §5.4", "RFC 6455 §5.5", "RFC 6455 §7.4")
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_holds_however_the_frames_are_cut(rule: str) -> None:
    stream, code = RULES[rule]
    assert {code_of(*pieces) for pieces in cuts(stream)} == {code}


@pytest.mark.parametrize("rule", sorted(RULES.keys() - OWN))
def test_another_implementation_judges_alike(rule: str) -> None:
    stream, code = RULES[rule]
    theirs = Protocol(SERVER, state=State.OPEN)
    theirs.receive_data(stream)
    assert (OK if theirs.parser_exc is None else theirs.close_sent and theirs.close_sent.code) == code


@pytest.mark.clause("RFC 6455 §8.1")
@pytest.mark.parametrize("name", WELL_FORMED)
def test_text_that_is_utf_8_is_taken_however_it_is_in_fragments(name: str) -> None:
    text = WELL_FORMED[name]
    for first, *rest in cuts(text):
        reader = FrameReader(WebSocketLimits())
        fragments = [sent(CONTINUATION, piece, final=False) for piece in rest]
        reader.receive_data(b"".join((sent(TEXT, first, final=False), *fragments, sent(CONTINUATION))))
        assert list(reader.events()) == [WebSocketMessage(text.decode())]


@pytest.mark.clause("RFC 6455 §8.1")
@pytest.mark.parametrize("name", ILL_FORMED)
def test_text_that_isnt_utf_8_is_refused_however_it_is_in_fragments(name: str) -> None:
    for first, *rest in cuts(ILL_FORMED[name]):
        fragments = [sent(CONTINUATION, piece, final=False) for piece in rest]
        assert code_of(sent(TEXT, first, final=False), *fragments, sent(CONTINUATION)) == INVALID_DATA
    assert code_of(sent(BINARY, ILL_FORMED[name])) == OK


async def test_on_the_wire_the_connection_ends_with_the_rules_code() -> None:
    """What is right is followed by a Close, whose code comes back."""
    ill_formed = {name: (sent(TEXT, text), INVALID_DATA) for name, text in ILL_FORMED.items()}
    async with serving() as server:
        for rule, (stream, code) in (RULES | ill_formed).items():
            async with raw(server) as client:
                await opened(client)
                client.writer.write(stream + BYE)
                found = await client.close_code()
            own = (
                int.from_bytes(stream[6:8]) ^ int.from_bytes(MASK[:2])
                if rule.startswith("close code")
                else 1000
            )
            # RFC 6455 §5.5.1: the answer to a Close without a code has none.
            expected = code or (0 if rule == "a close without a code" else own)
            assert found == expected, rule
        await until(lambda: server.channel.readers == 0)


@pytest.mark.clause("RFC 6455 §5.5.3")
@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(125)), b"\x00\xff\xfe\xfd"])
async def test_a_pong_has_what_the_ping_had(payload: bytes) -> None:
    async with serving() as server, raw(server) as client:
        await opened(client)
        client.writer.write(sent(PING, payload))
        expected = Frame(Opcode.PONG, payload).serialize(mask=False)
        assert await asyncio.wait_for(client.reader.readexactly(len(expected)), LIMIT) == expected
        client.writer.write(sent(CLOSE, Close(1000, "").serialize()))
        assert await client.close_code() == 1000
