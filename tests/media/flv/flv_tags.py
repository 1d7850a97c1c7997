"""Tags of FLV, written by hand."""

from __future__ import annotations

import random

from media.flv.amf0 import write_values
from media.flv.tags import AUDIO, SCRIPT, VIDEO, Tag, write_tags

AVCC = bytes.fromhex(
    "01640015ffe1001a67640015acd94162" + "9e7e5c0440000003004000000c83c58b6580" + "010006" + "68ebe3cb22c0"
)

AAC = (b"\xaf\0\x11\x90", b"\xaf\0\x12\x10")

METADATA = write_values(["onMetaData", {}])

COMPOSITIONS = (b"\0\0\0", b"\0\0\x50", b"\xff\xff\xb0")
"""0, 80 and -80 ms from decoding to presentation."""


def write_tag(kind: int, timestamp: int, body: bytes) -> bytes:
    """Write a tag (§E.4.1); timestamps are milliseconds, modulo 2^32."""
    return write_tags(((kind, timestamp, body),))


def some_tags(chance: random.Random) -> list[Tag]:
    """Give a stream with metadata, configurations that are repeated and change, jumps, and empty tags."""
    time = chance.choice((0, 5000, (1 << 32) - 1500))
    found = [(SCRIPT, time, METADATA), (VIDEO, time, b"\x17\0\0\0\0" + AVCC), (AUDIO, time, AAC[0])]
    for _ in range(150):
        time = (time + (20 if chance.random() < 0.99 else chance.choice((60_000, -1000)))) % (1 << 32)
        kind, what = chance.choice((VIDEO, AUDIO)), chance.random()
        body = chance.randbytes(chance.randrange(9))
        if what < 0.02:
            found.append(chance.choice(((kind, time, b""), (SCRIPT, time, METADATA + body), (7, time, body))))
        elif what < 0.05:
            found.append((AUDIO, time, AAC[what < 0.03]) if kind == AUDIO else (VIDEO, time, found[1][2]))
        elif kind == AUDIO:
            found.append((AUDIO, time, b"\xaf\1" + body))
        else:
            first = b"\x17" if what < 0.2 else b"\x27"
            found.append((VIDEO, time, first + b"\1" + chance.choice(COMPOSITIONS) + body))
    return found
