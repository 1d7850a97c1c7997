"""The cases of h2spec's section "http2", 6 to 8: each type of frame, error codes, and requests.

They are numbered by RFC 7540, whose rules RFC 9113 has kept, but for priorities.
"""

from __future__ import annotations

from tests.conformance.http2_case import (
    ENDLESS,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GET,
    POST,
    PROTOCOL_ERROR,
    STREAM_CLOSED,
    Step,
    answers,
    cases,
    confirms,
    data,
    echoes,
    ends,
    fails,
    head,
    is_ended,
    ping,
    priority,
    reset,
    rest,
    sends,
    window,
)
from tests.conformance.http2_generic_cases import BLOCK, TEXT
from tests.http2_frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    settings,
)

BIGGEST_WINDOW = 2**31 - 1
UNKNOWN_CODE = 0xFF
CONTAINS = "Sends a HEADERS frame that contains"
TOO_WIDE = "Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1"
WRONG_LENGTH = 'Sends a HEADERS frame with the "content-length" header field which does not equal the'


def is_malformed(*fields: tuple[str, str]) -> tuple[Step, Step]:
    """Return the steps of a request without a body that breaks a rule."""
    return head(fields), fails(PROTOCOL_ERROR)


def is_malformed_body(length: str, *bodies: bytes) -> tuple[Step, Step]:
    """Return the steps of a request whose body hasn't the length that it says."""
    return head((*POST, ("content-length", length)), END_HEADERS) + b"".join(bodies), fails(PROTOCOL_ERROR)


FRAMES = (
    *cases(
        "http2/6.1",
        ("Sends a DATA frame with 0x0 stream identifier", data(n=0), ends(PROTOCOL_ERROR)),
        (
            'Sends a DATA frame on the stream that is not in "open" or "half-closed (local)" state',
            head(POST) + data(),
            fails(STREAM_CLOSED),
        ),
        (
            "Sends a DATA frame with invalid pad length",
            head((*POST, ("content-length", "4")), END_HEADERS) + data(b"\x06test", END_STREAM | PADDED),
            ends(PROTOCOL_ERROR),
        ),
    ),
    *cases(
        "http2/6.2",
        (
            "Sends a HEADERS frame without the END_HEADERS flag, and a PRIORITY frame",
            head(GET, 0) + priority() + rest(),
            ends(PROTOCOL_ERROR),
        ),
        (
            "Sends a HEADERS frame to another stream while sending a HEADERS frame",
            head(GET, 0) + head(n=3) + rest(),
            ends(PROTOCOL_ERROR),
        ),
        ("Sends a HEADERS frame with 0x0 stream identifier", head(n=0), ends(PROTOCOL_ERROR)),
        (
            "Sends a HEADERS frame with invalid pad length",
            frame(HEADERS, 1, bytes((len(BLOCK) + 2,)) + BLOCK, END_STREAM | END_HEADERS | PADDED),
            fails(PROTOCOL_ERROR),
        ),
    ),
    *cases(
        "http2/6.3",
        ("Sends a PRIORITY frame with 0x0 stream identifier", priority(0), ends(PROTOCOL_ERROR)),
        (
            "Sends a PRIORITY frame with a length other than 5 octets",
            head() + frame(PRIORITY, 1, b"\x80\x00\x00\x01"),
            fails(FRAME_SIZE_ERROR),
        ),
    ),
    *cases(
        "http2/6.4",
        ("Sends a RST_STREAM frame with 0x0 stream identifier", reset(0), ends(PROTOCOL_ERROR)),
        ("Sends a RST_STREAM frame on a idle stream", reset(), ends(PROTOCOL_ERROR)),
        (
            "Sends a RST_STREAM frame with a length other than 4 octets",
            head() + frame(RST_STREAM, 1, bytes(3)),
            fails(FRAME_SIZE_ERROR),
        ),
    ),
    *cases(
        "http2/6.5",
        (
            "Sends a SETTINGS frame with ACK flag and payload",
            frame(SETTINGS, 0, b"\x00", ACK),
            ends(FRAME_SIZE_ERROR),
        ),
        (
            "Sends a SETTINGS frame with a stream identifier other than 0x0",
            frame(SETTINGS, 1, b"\x00\x03\x00\x00\x00\x64"),
            ends(PROTOCOL_ERROR),
        ),
        (
            "Sends a SETTINGS frame with a length other than a multiple of 6 octets",
            frame(SETTINGS, 0, b"\x00\x03\x00"),
            fails(PROTOCOL_ERROR, FRAME_SIZE_ERROR),
        ),
    ),
    *cases(
        "http2/6.5.2",
        (
            "SETTINGS_ENABLE_PUSH (0x2): Sends the value other than 0 or 1",
            settings((2, 2)),
            ends(PROTOCOL_ERROR),
        ),
        (
            "SETTINGS_INITIAL_WINDOW_SIZE (0x4): Sends the value above the maximum flow control window size",
            settings((4, BIGGEST_WINDOW + 1)),
            ends(FLOW_CONTROL_ERROR),
        ),
        (
            "SETTINGS_MAX_FRAME_SIZE (0x5): Sends the value below the initial value",
            settings((5, 16_383)),
            ends(PROTOCOL_ERROR),
        ),
        (
            "SETTINGS_MAX_FRAME_SIZE (0x5): Sends the value above the maximum allowed frame size",
            settings((5, 2**24)),
            ends(PROTOCOL_ERROR),
        ),
        ("Sends a SETTINGS frame with unknown identifier", settings((0xFF, 1)) + ping(), echoes()),
    ),
    *cases(
        "http2/6.5.3",
        (
            "Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE",
            settings((4, 100), (4, 1)),
            confirms,
            head(),
            sends(1),
        ),
        ("Sends a SETTINGS frame without ACK flag", settings((2, 0)), confirms),
    ),
    *cases(
        "http2/6.7",
        ("Sends a PING frame", ping(TEXT), echoes(TEXT)),
        ("Sends a PING frame with ACK", ping(b"invalid\0", ACK) + ping(TEXT), echoes(TEXT)),
        (
            "Sends a PING frame with a stream identifier field value other than 0x0",
            ping(n=1),
            ends(PROTOCOL_ERROR),
        ),
        (
            "Sends a PING frame with a length field value other than 8",
            frame(PING, 0, bytes(6)),
            ends(FRAME_SIZE_ERROR),
        ),
    ),
    *cases(
        "http2/6.8",
        (
            "Sends a GOAWAY frame with a stream identifier other than 0x0",
            frame(GOAWAY, 1, bytes(8)),
            ends(PROTOCOL_ERROR),
        ),
    ),
    *cases(
        "http2/6.9",
        (
            "Sends a WINDOW_UPDATE frame with a flow control window increment of 0",
            window(0, 0),
            ends(PROTOCOL_ERROR),
        ),
        (
            "Sends a WINDOW_UPDATE frame with a flow control window increment of 0 on a stream",
            head(ENDLESS, END_HEADERS) + window(0),
            fails(PROTOCOL_ERROR),
        ),
        (
            "Sends a WINDOW_UPDATE frame with a length other than 4 octets",
            frame(WINDOW_UPDATE, 0, b"\x00\x00\x01"),
            ends(FRAME_SIZE_ERROR),
        ),
    ),
    *cases(
        "http2/6.9.1",
        (
            "Sends SETTINGS frame to set the initial window size to 1 and sends HEADERS frame",
            settings((4, 1)),
            confirms,
            head(),
            sends(1),
        ),
        (
            TOO_WIDE,
            window(BIGGEST_WINDOW, 0) * 2,
            is_ended(GOAWAY, FLOW_CONTROL_ERROR),
        ),
        (
            f"{TOO_WIDE} on a stream",
            head(ENDLESS, END_HEADERS) + window(BIGGEST_WINDOW) * 2,
            is_ended(RST_STREAM, FLOW_CONTROL_ERROR),
        ),
    ),
    *cases(
        "http2/6.9.2",
        (
            "Changes SETTINGS_INITIAL_WINDOW_SIZE after sending HEADERS frame",
            settings((4, 0)),
            confirms,
            head() + settings((4, 1)),
            sends(1),
        ),
        (
            "Sends a SETTINGS frame for window size to be negative",
            settings((4, 3)),
            confirms,
            head(),
            sends(),
            settings((4, 2)),
            confirms,
            window(2),
            sends(1),
        ),
        (
            "Sends a SETTINGS_INITIAL_WINDOW_SIZE settings with an exceeded maximum window size value",
            settings((4, BIGGEST_WINDOW + 1)),
            ends(FLOW_CONTROL_ERROR),
        ),
    ),
    *cases(
        "http2/6.10",
        (
            "Sends multiple CONTINUATION frames preceded by a HEADERS frame",
            head(GET, END_STREAM) + rest(flags=0) + rest(),
            answers,
        ),
        (
            "Sends a CONTINUATION frame followed by any frame other than CONTINUATION",
            head(POST, 0) + rest(flags=0) + data(),
            ends(PROTOCOL_ERROR),
        ),
        (
            "Sends a CONTINUATION frame with 0x0 stream identifier",
            head(GET, END_STREAM) + rest(n=0),
            ends(PROTOCOL_ERROR),
        ),
        (
            "Sends a CONTINUATION frame preceded by a HEADERS frame with END_HEADERS flag",
            head() + rest(),
            ends(PROTOCOL_ERROR),
        ),
        (
            "Sends a CONTINUATION frame preceded by a CONTINUATION frame with END_HEADERS flag",
            head(GET, END_STREAM) + rest() + rest(),
            ends(PROTOCOL_ERROR),
        ),
        (
            "Sends a CONTINUATION frame preceded by a DATA frame",
            head(POST, 0) + data() + rest(flags=0) + rest(n=0),
            ends(PROTOCOL_ERROR),
        ),
    ),
    *cases(
        "http2/7",
        (
            "Sends a GOAWAY frame with unknown error code",
            frame(GOAWAY, 0, bytes(4) + UNKNOWN_CODE.to_bytes(4)) + ping(TEXT),
            echoes(TEXT, may_end=True),
        ),
        (
            "Sends a RST_STREAM frame with unknown error code",
            head(POST, END_HEADERS) + reset(code=UNKNOWN_CODE) + ping(),
            echoes(may_end=True),
        ),
    ),
    *cases(
        "http2/8.1",
        (
            "Sends a second HEADERS frame without the END_STREAM flag",
            head(POST, END_HEADERS) + data(flags=0) + head((("x-test", "ok"),), END_HEADERS),
            fails(PROTOCOL_ERROR),
        ),
    ),
    *cases(
        "http2/8.1.2",
        (
            f"{CONTAINS} the header field name in uppercase letters",
            *is_malformed(*GET, ("X-TEST", "ok")),
        ),
    ),
    *cases(
        "http2/8.1.2.1",
        (
            f"{CONTAINS} a unknown pseudo-header field",
            *is_malformed(*GET, (":test", "ok")),
        ),
        (
            f"{CONTAINS} the pseudo-header field defined for response",
            *is_malformed(*GET, (":status", "200")),
        ),
        (
            f"{CONTAINS} a pseudo-header field as trailers",
            head(POST, END_HEADERS) + data(flags=0) + head((POST[0],), END_HEADERS),
            fails(PROTOCOL_ERROR),
        ),
        (
            f"{CONTAINS} a pseudo-header field that appears in a header block after a regular header field",
            *is_malformed(("x-test", "ok"), *GET),
        ),
    ),
    *cases(
        "http2/8.1.2.2",
        (
            f"{CONTAINS} the connection-specific header field",
            *is_malformed(*GET, ("connection", "keep-alive")),
        ),
        (
            f'{CONTAINS} the TE header field with any value other than "trailers"',
            *is_malformed(*GET, ("trailers", "test"), ("te", "trailers, deflate")),
        ),
    ),
    *cases(
        "http2/8.1.2.3",
        (
            'Sends a HEADERS frame with empty ":path" pseudo-header field',
            *is_malformed(GET[0], (":path", ""), *GET[2:]),
        ),
        ('Sends a HEADERS frame that omits ":method" pseudo-header field', *is_malformed(*GET[1:])),
        ('Sends a HEADERS frame that omits ":scheme" pseudo-header field', *is_malformed(*GET[:2], GET[3])),
        ('Sends a HEADERS frame that omits ":path" pseudo-header field', *is_malformed(GET[0], *GET[2:])),
        (
            'Sends a HEADERS frame with duplicated ":method" pseudo-header field',
            *is_malformed(*GET, GET[0]),
        ),
        (
            'Sends a HEADERS frame with duplicated ":scheme" pseudo-header field',
            *is_malformed(*GET, GET[2]),
        ),
        ('Sends a HEADERS frame with duplicated ":path" pseudo-header field', *is_malformed(*GET, GET[1])),
    ),
    *cases(
        "http2/8.1.2.6",
        (
            f"{WRONG_LENGTH} DATA frame payload length",
            *is_malformed_body("1", data()),
        ),
        (
            f"{WRONG_LENGTH} sum of the multiple DATA frames payload length",
            *is_malformed_body("1", data(flags=0), data()),
        ),
    ),
    *cases(
        "http2/8.2",
        (
            "Sends a PUSH_PROMISE frame",
            frame(PUSH_PROMISE, 1, (3).to_bytes(4) + BLOCK, END_HEADERS),
            ends(PROTOCOL_ERROR),
        ),
    ),
)
