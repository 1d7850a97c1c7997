"""The cases of h2spec's section "http2", 3 to 5: the connection's start, frames, and states of streams.

They are numbered by RFC 7540, whose rules RFC 9113 has kept, but for priorities.
"""

from __future__ import annotations

from tests.conformance.http2_case import (
    COMPRESSION_ERROR,
    ENDLESS,
    FRAME_SIZE_ERROR,
    GET,
    LONG,
    POST,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    answers,
    cases,
    closes,
    data,
    echoes,
    ends,
    fails,
    finishes,
    head,
    is_ended,
    ping,
    priority,
    raw_head,
    reset,
    rest,
    window,
)
from tests.conformance.http2_generic_cases import BLOCK, opens_with_settings
from tests.http2_frames import (
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    PREFACE,
    FrameClient,
    frame,
    settings,
)

MOST_PAYLOAD = 16_384
UNKNOWN = frame(0x16, 0, bytes(8))
RESERVED = 1 << 31
"""The bit before the number of a stream, which has no meaning (RFC 9113 §4.1)."""


def has_too_many_streams(client: FrameClient) -> None:
    """Check that one request more than is allowed at once is refused, or ends the connection."""
    client.send(PREFACE + settings((4, 0)))
    first = client.read()
    assert first is not None
    pairs = [first.payload[start : start + 6] for start in range(0, len(first.payload), 6)]
    most = next(int.from_bytes(one[2:]) for one in pairs if one[:2] == b"\x00\x03")
    # A window of 0 keeps each of them under way.
    client.send(b"".join(frame(HEADERS, 2 * n + 1, BLOCK, END_STREAM | END_HEADERS) for n in range(most + 1)))
    fails(PROTOCOL_ERROR, REFUSED_STREAM)(client)


STREAMS = (
    *cases(
        "http2/3.5",
        ("Sends client connection preface", PREFACE + settings((4, DEFAULT_WINDOW)), opens_with_settings),
        ("Sends invalid connection preface", b"INVALID CONNECTION PREFACE\r\n\r\n", closes),
        first=(),
    ),
    *cases(
        "http2/4.1",
        ("Sends a frame with unknown type", UNKNOWN + ping(), echoes()),
        ("Sends a frame with undefined flag", ping(flags=0x16), echoes()),
        ("Sends a frame with reserved field bit", ping(flags=0x16, n=RESERVED), echoes()),
    ),
    *cases(
        "http2/4.2",
        (
            "Sends a DATA frame with 2^14 octets in length",
            head(POST, END_HEADERS) + data(bytes(MOST_PAYLOAD)),
            answers,
        ),
        (
            "Sends a large size DATA frame that exceeds the SETTINGS_MAX_FRAME_SIZE",
            head(POST, END_HEADERS) + data(bytes(MOST_PAYLOAD + 1)),
            fails(FRAME_SIZE_ERROR),
        ),
        (
            "Sends a large size HEADERS frame that exceeds the SETTINGS_MAX_FRAME_SIZE",
            raw_head(BLOCK + LONG * 5),
            ends(FRAME_SIZE_ERROR),
        ),
    ),
    *cases(
        "http2/4.3",
        # A literal with incremental indexing, without its strings.
        ("Sends invalid header block fragment", raw_head(b"\x40"), ends(COMPRESSION_ERROR)),
        (
            "Sends a PRIORITY frame while sending the header blocks",
            head(GET, 0) + priority() + rest(),
            ends(PROTOCOL_ERROR),
        ),
        (
            "Sends a HEADERS frame to another stream while sending the header blocks",
            head(GET, 0) + head(n=3) + rest(),
            ends(PROTOCOL_ERROR),
        ),
    ),
    *cases(
        "http2/5.1",
        ("idle: Sends a DATA frame", data(), fails(PROTOCOL_ERROR, STREAM_CLOSED)),
        ("idle: Sends a RST_STREAM frame", reset(), ends(PROTOCOL_ERROR)),
        ("idle: Sends a WINDOW_UPDATE frame", window(100), ends(PROTOCOL_ERROR)),
        ("idle: Sends a CONTINUATION frame", rest(BLOCK), ends(PROTOCOL_ERROR)),
        ("half closed (remote): Sends a DATA frame", head() + data(), fails(STREAM_CLOSED)),
        ("half closed (remote): Sends a HEADERS frame", head() + head(), fails(STREAM_CLOSED)),
        (
            "half closed (remote): Sends a CONTINUATION frame",
            head() + rest(BLOCK),
            fails(STREAM_CLOSED, PROTOCOL_ERROR),
        ),
        (
            "closed: Sends a DATA frame after sending RST_STREAM frame",
            head(ENDLESS, END_HEADERS) + reset() + data(),
            fails(STREAM_CLOSED),
        ),
        (
            "closed: Sends a HEADERS frame after sending RST_STREAM frame",
            head(ENDLESS, END_HEADERS) + reset() + head(),
            fails(STREAM_CLOSED),
        ),
        (
            "closed: Sends a CONTINUATION frame after sending RST_STREAM frame",
            head(ENDLESS, END_HEADERS) + reset() + rest(),
            fails(STREAM_CLOSED, PROTOCOL_ERROR),
        ),
        ("closed: Sends a DATA frame", head(), finishes, data(), fails(STREAM_CLOSED)),
        ("closed: Sends a HEADERS frame", head(), finishes, head(), ends(STREAM_CLOSED)),
        ("closed: Sends a CONTINUATION frame", head(), finishes, rest(), ends(STREAM_CLOSED, PROTOCOL_ERROR)),
    ),
    *cases(
        "http2/5.1.1",
        ("Sends even-numbered stream identifier", head(n=2), ends(PROTOCOL_ERROR)),
        (
            "Sends stream identifier that is numerically smaller than previous",
            head(n=5) + head(n=3),
            ends(PROTOCOL_ERROR),
        ),
    ),
    *cases(
        "http2/5.1.2",
        (
            "Sends HEADERS frames that causes their advertised concurrent stream limit to be exceeded",
            has_too_many_streams,
        ),
        first=(),
    ),
    *cases(
        "http2/5.3.1",
        (
            "Sends HEADERS frame that depends on itself",
            frame(HEADERS, 1, (1).to_bytes(4) + b"\xff" + BLOCK, END_STREAM | END_HEADERS | HAS_PRIORITY),
            fails(PROTOCOL_ERROR),
        ),
        ("Sends PRIORITY frame that depend on itself", priority(1, 1), fails(PROTOCOL_ERROR)),
    ),
    *cases(
        "http2/5.4.1",
        ("Sends an invalid PING frame for connection close", ping(n=3), closes),
        (
            "Sends an invalid PING frame to receive GOAWAY frame",
            ping(n=3),
            is_ended(GOAWAY, PROTOCOL_ERROR),
        ),
    ),
    *cases(
        "http2/5.5",
        ("Sends an unknown extension frame", UNKNOWN + ping(), echoes()),
        (
            "Sends an unknown extension frame in the middle of a header block",
            head(GET, END_STREAM) + UNKNOWN,
            ends(PROTOCOL_ERROR),
        ),
    ),
)
