"""The cases of h2spec's section "hpack": blocks of header fields that can't be decoded (RFC 7541)."""

from __future__ import annotations

from tests.conformance.http2_case import COMPRESSION_ERROR, GET, Step, cases, ends, raw_head
from tests.http2_frames import block

BLOCK = block(*GET)
NAME = b"\x00\x06x-test"
"""A literal without indexing, without its value; Huffman's code of "test" is 49 50 9F."""


def is_refused(fragment: bytes) -> tuple[Step, Step]:
    """Return the steps of a request whose block of header fields ends the connection."""
    return raw_head(fragment), ends(COMPRESSION_ERROR)


HPACK = (
    *cases(
        "hpack/2.3.3",
        (
            "Sends a indexed header field representation with invalid index",
            # Index 70: the tables have some entries more than the 61 of the static one.
            *is_refused(BLOCK + b"\xc6"),
        ),
        (
            "Sends a literal header field representation with invalid index",
            *is_refused(BLOCK + b"\x7f\x07\x00"),
        ),
    ),
    *cases(
        "hpack/4.2",
        ("Sends a dynamic table size update at the end of header block", *is_refused(BLOCK + b"\x21")),
    ),
    *cases(
        "hpack/5.2",
        (
            "Sends a Huffman-encoded string literal representation with padding longer than 7 bits",
            *is_refused(BLOCK + NAME + b"\x84\x49\x50\x9f\xff"),
        ),
        (
            "Sends a Huffman-encoded string literal representation padded by zero",
            *is_refused(BLOCK + NAME + b"\x83\x49\x50\x90"),
        ),
        (
            "Sends a Huffman-encoded string literal representation containing the EOS symbol",
            # The codes of "tes", the 30 bits of EOS, the code of "t", and padding.
            *is_refused(BLOCK + NAME + b"\x87\x49\x51\xff\xff\xff\xfa\x7f"),
        ),
    ),
    *cases(
        "hpack/6.1",
        ("Sends a indexed header field representation with index 0", *is_refused(BLOCK + b"\x80")),
    ),
    *cases(
        "hpack/6.3",
        (
            "Sends a dynamic table size update larger than the value of SETTINGS_HEADER_TABLE_SIZE",
            # 4097 bytes: the server leaves the setting at 4096.
            *is_refused(b"\x3f\xe2\x1f" + BLOCK),
        ),
    ),
)
