"""FLV's readers take tags that are there already, as RTMP brings them, like the bytes of the same tags."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from media.errors import MediaError
from media.flv import tags as flv_tags
from media.flv.amf0 import write_values
from media.flv.flv_to_fragments import FlvToFragments
from media.flv.stream_reader import FlvReader
from media.flv.tags import AUDIO, SCRIPT, VIDEO, Tag, write_tags
from media.mp4.fragments import Fragment, InitSegment
from media.stream_reader import StreamChunk
from tests.media.flv.test_flv_to_fragments import samples

AVCC = bytes.fromhex(
    "01640015ffe1001a67640015acd94162" + "9e7e5c0440000003004000000c83c58b6580" + "010006" + "68ebe3cb22c0"
)
AAC = (b"\xaf\0\x11\x90", b"\xaf\0\x12\x10")
METADATA = write_values(["onMetaData", {}])
COMPOSITIONS = (b"\0\0\0", b"\0\0\x50", b"\xff\xff\xb0")
"""0, 80 and -80 ms from decoding to presentation."""


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


@pytest.mark.parametrize("seed", range(20))
def test_tags_are_divided_as_their_bytes_are(seed: int) -> None:
    tags = some_tags(random.Random(seed))
    by_bytes, by_tags = FlvReader(), FlvReader()
    by_bytes.receive_data(flv_tags.file_header())
    by_tags.receive_data(flv_tags.file_header())
    for begin in range(0, len(tags), 25):
        some = tags[begin : begin + 25]
        found = by_tags.receive_tags(some)
        assert [without_tags(one) for one in found] == by_bytes.receive_data(write_tags(some))
        assert all(write_tags(one.tags) == one.data for one in found if one.tags)
        assert all(one.size == len(one.data) for one in found)
    assert by_tags.signature == by_bytes.signature


@pytest.mark.parametrize("take", ["bytes", "tags"])
def test_metadata_go_on_at_time_0_as_ffmpeg_expects_them_and_other_scripts_do_not(take: str) -> None:
    text = write_values(["onTextData", {"text": "a"}])
    frame = (VIDEO, 5000, b"\x17\1\0\0\0ab")
    first = (VIDEO, 5000, b"\x17\0\0\0\0" + AVCC)
    tags = [first, (SCRIPT, 5000, METADATA), frame, (SCRIPT, 5020, text), frame]
    reader = FlvReader()
    reader.receive_data(flv_tags.file_header())
    found = reader.receive_tags(tags) if take == "tags" else reader.receive_data(write_tags(tags))
    expected = [first, (SCRIPT, 0, METADATA), frame, frame]
    assert b"".join(one.data for one in found) == write_tags(expected)


def without_tags(chunk: StreamChunk) -> StreamChunk:
    return chunk._replace(content=chunk.data, tags=())


@pytest.mark.parametrize("seed", range(20))
def test_tags_are_rewritten_as_their_bytes_are(seed: int) -> None:
    tags = some_tags(random.Random(seed))
    by_bytes, by_tags = FlvToFragments(), FlvToFragments()
    by_bytes.receive_data(flv_tags.file_header())
    by_tags.receive_data(flv_tags.file_header())
    for begin in range(0, len(tags), 25):
        some = tags[begin : begin + 25]
        found = outcome(by_tags.receive_tags, some)
        assert found == outcome(by_bytes.receive_data, write_tags(some))
        if isinstance(found, str):
            return


def outcome(take: Callable[[Any], list[InitSegment | Fragment]], given: Sequence[Tag] | bytes) -> object:
    """Give the samples that come of something, or the error."""
    try:
        return samples(take(given))
    except MediaError as error:
        return str(error)
