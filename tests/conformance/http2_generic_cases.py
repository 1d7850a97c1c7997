"""The cases of h2spec's section "generic": what every server of HTTP/2 accepts."""

from __future__ import annotations

from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from tests.conformance.http2_case import (
    ENDLESS,
    GET,
    POST,
    Step,
    answers,
    cases,
    confirms,
    data,
    echoes,
    finishes,
    head,
    ping,
    priority,
    raw_head,
    reset,
    rest,
    sends,
    window,
)
from tests.http2_frames import (
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    PREFACE,
    SETTINGS,
    FrameClient,
    block,
    frame,
    settings,
)

TEXT = b"h2spec\0\0"
EXCLUSIVE = 1 << 31
BLOCK = block(*GET)
LITERALS = ("with incremental indexing", 0x40, 6), ("without indexing", 0x00, 4), ("never indexed", 0x10, 4)
"""RFC 7541 §6.2: representations, the bits with which each begins, and how many bits of an index follow."""


def opens_with_settings(client: FrameClient) -> None:
    """Check that the first frame of the server has settings (RFC 9113 §3.4)."""
    first = client.read()
    assert first is not None
    assert (first.kind, first.flags) == (SETTINGS, 0)


def string(text: bytes, *, is_coded: bool) -> bytes:
    """Return a string literal, by Huffman's code if `is_coded` is set (RFC 7541 §5.2)."""
    if not is_coded:
        return bytes((len(text),)) + text
    coded = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(text)
    return bytes((0x80 | len(coded),)) + coded


def request_with(representation: bytes) -> tuple[Step, Step]:
    """Return the steps of a request that has another header field, and is answered."""
    return raw_head(BLOCK + representation), answers


def literals(kind: str, first: int, bits: int) -> list[tuple[str, Step, Step]]:
    """Return the four cases of a literal: with a name of the static table or a new one, coded or not.

    The checker has two titles for the same coding, and says "indexed" of names that are literals.
    """
    most = (1 << bits) - 1
    # user-agent is entry 58 of the static table.
    known = bytes((first | 58,)) if most > 58 else bytes((first | most, 58 - most))
    return [
        (
            f"Sends a literal header field {kind} - {title}{' (with Huffman coding)' if is_coded else ''}",
            *request_with(name + string(b"h2spec", is_coded=is_coded)),
        )
        for title, is_new in (("indexed name", False), ("new name", True))
        for is_coded in (False, True)
        for name in [bytes((first,)) + string(b"x-test", is_coded=is_coded) if is_new else known]
    ]


GENERIC = (
    *cases(
        "generic/1",
        ("Sends a client connection preface", PREFACE + settings((4, DEFAULT_WINDOW)), opens_with_settings),
        first=(),
    ),
    *cases(
        "generic/2",
        ("Sends a PRIORITY frame on idle stream", priority() + ping(), echoes()),
        (
            "Sends a WINDOW_UPDATE frame on half-closed (remote) stream",
            settings((4, 0)) + head() + window(1),
            sends(),
        ),
        (
            "Sends a PRIORITY frame on half-closed (remote) stream",
            settings((4, 0)) + head() + priority() + window(1),
            sends(),
        ),
        (
            "Sends a RST_STREAM frame on half-closed (remote) stream",
            head() + reset() + ping(),
            echoes(may_end=True),
        ),
        ("Sends a PRIORITY frame on closed stream", head(), finishes, priority() + ping(), echoes()),
    ),
    *cases(
        "generic/3.1",
        ("Sends a DATA frame", head(POST, END_HEADERS) + data(), answers),
        ("Sends multiple DATA frames", head(POST, END_HEADERS) + data(flags=0) + data(), answers),
        (
            "Sends a DATA frame with padding",
            head(POST, END_HEADERS) + data(b"\x05test" + bytes(5), END_STREAM | PADDED),
            answers,
        ),
    ),
    *cases(
        "generic/3.2",
        ("Sends a HEADERS frame", head(), answers),
        (
            "Sends a HEADERS frame with padding",
            frame(HEADERS, 1, b"\x08" + BLOCK + bytes(8), END_STREAM | END_HEADERS | PADDED),
            answers,
        ),
        (
            "Sends a HEADERS frame with priority",
            frame(HEADERS, 1, bytes(4) + b"\xff" + BLOCK, END_STREAM | END_HEADERS | HAS_PRIORITY),
            answers,
        ),
    ),
    *cases(
        "generic/3.3",
        ("Sends a PRIORITY frame with priority 1", priority(weight=0) + head(), answers),
        ("Sends a PRIORITY frame with priority 256", priority(weight=255) + head(), answers),
        ("Sends a PRIORITY frame with stream dependency", priority(3, 1, 0) + head(), answers),
        ("Sends a PRIORITY frame with exclusive", priority(1, EXCLUSIVE, 0) + head(), answers),
        (
            "Sends a PRIORITY frame for an idle stream, then send a HEADER frame for a lower stream ID",
            priority(3) + head(),
            answers,
        ),
    ),
    *cases(
        "generic/3.4",
        ("Sends a RST_STREAM frame", head(ENDLESS, END_HEADERS) + reset() + ping(), echoes(may_end=True)),
    ),
    *cases(
        "generic/3.5",
        (
            "Sends a SETTINGS frame",
            settings((1, 4_096), (2, 1), (3, 100), (4, DEFAULT_WINDOW), (5, 16_384), (6, 100)),
            confirms,
        ),
    ),
    *cases("generic/3.7", ("Sends a PING frame", ping(TEXT), echoes(TEXT))),
    *cases(
        "generic/3.8",
        ("Sends a GOAWAY frame", frame(GOAWAY, 0, bytes(8) + TEXT) + ping(TEXT), echoes(TEXT, may_end=True)),
    ),
    *cases(
        "generic/3.9",
        ("Sends a WINDOW_UPDATE frame with stream ID 0", window(1, 0) + ping(), echoes()),
        ("Sends a WINDOW_UPDATE frame with stream ID 1", head() + window(1), answers),
    ),
    *cases(
        "generic/3.10",
        (
            "Sends a CONTINUATION frame",
            frame(HEADERS, 1, BLOCK[:5], END_STREAM) + rest(BLOCK[5:]),
            answers,
        ),
        (
            "Sends multiple CONTINUATION frames",
            frame(HEADERS, 1, BLOCK[:5], END_STREAM) + rest(BLOCK[5:10], 0) + rest(BLOCK[10:]),
            answers,
        ),
    ),
    *cases(
        "generic/4",
        ("Sends a GET request", head(), answers),
        ("Sends a HEAD request", head(((":method", "HEAD"), *GET[1:])), answers),
        ("Sends a POST request", head(POST, END_HEADERS) + data(), answers),
        (
            "Sends a POST request with trailers",
            head((*POST, ("trailer", "x-test")), END_HEADERS) + data(flags=0) + head((("x-test", "ok"),)),
            answers,
        ),
    ),
    *cases(
        "generic/5",
        ("Sends a indexed header field representation", *request_with(b"\xba")),
        *(entry for literal in LITERALS for entry in literals(*literal)),
        # Table sizes of 128, and of 128 and then 4096 bytes.
        ("Sends a dynamic table size update", raw_head(b"\x3f\x61" + BLOCK), answers),
        ("Sends multiple dynamic table size update", raw_head(b"\x3f\x61\x3f\xe1\x1f" + BLOCK), answers),
    ),
)
