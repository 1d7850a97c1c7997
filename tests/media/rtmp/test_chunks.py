"""Messages in chunks (RTMP 1.0 §5.3): every format, however they are cut, and chunks made as traps."""

from __future__ import annotations

import contextlib
import itertools
import time
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.errors import MalformedError, MediaError, TooLargeError
from media.flv.tags import Tag
from media.rtmp.chunks import (
    AUDIO,
    COMMAND,
    COMMAND_BYTES,
    DATA,
    VIDEO,
    ChunkReader,
    Message,
    RtmpConnectionLimits,
    write_message,
)
from tests.loop_watch import slowness

LIMITS = RtmpConnectionLimits()
SMALL = RtmpConnectionLimits(media_bytes=100_000)


def read(pieces: Iterable[bytes], limits: RtmpConnectionLimits = LIMITS) -> list[Message]:
    reader, found = ChunkReader(limits), list[Message]()
    reader.expect_media()
    for piece in pieces:
        reader.receive_data(piece)
        found += reader.events()
    return found


def chunk_size(size: int) -> bytes:
    return b"\2\0\0\0\0\0\4\1\0\0\0\0" + size.to_bytes(4, "big")


def head(timestamp: int, size: int, kind: int = VIDEO, stream: int = 1, number: int = 6) -> bytes:
    return (
        bytes((number,))
        + timestamp.to_bytes(3, "big")
        + size.to_bytes(3, "big")
        + bytes((kind,))
        + stream.to_bytes(4, "little")
    )


def payload(size: int) -> bytes:
    return bytes(index * 7 % 251 for index in range(size))


BODY = payload(300)


@pytest.mark.clause("RTMP 1.0 §5.3.2.1")
def test_the_specifications_audio_messages_are_read() -> None:
    # The example's: 32 bytes each, chunk stream 3, message stream 12345, 1000 ms and 20 ms apart.
    first = b"\x03\x00\x03\xe8\x00\x00\x20\x08\x39\x30\x00\x00" + BODY[:32]
    second = b"\x83\x00\x00\x14" + BODY[:32]
    third = b"\xc3" + BODY[:32]
    assert read([first + second + third + third]) == [
        Message(AUDIO, 12345, time, BODY[:32]) for time in (1000, 1020, 1040, 1060)
    ]


@pytest.mark.clause("RTMP 1.0 §5.3.2.2")
def test_a_message_of_307_bytes_comes_in_three_chunks() -> None:
    body = payload(307)
    wire = head(1000, 307, VIDEO, 12346, 4) + body[:128] + b"\xc4" + body[128:256] + b"\xc4" + body[256:]
    assert read([wire]) == [Message(VIDEO, 12346, 1000, body)]
    assert write_message(4, Message(VIDEO, 12346, 1000, body), 128) == wire


@pytest.mark.clause("RTMP 1.0 §5.3.1.1")
@pytest.mark.parametrize(
    ("begin", "again"),
    # The last two are of one chunk stream, 69: the third byte counts 256 each.
    [(b"\x00\x05", b"\xc0\x05"), (b"\x01\x05\x01", b"\xc1\x05\x01"), (b"\x00\x05", b"\xc1\x05\x00")],
)
def test_numbers_of_chunk_streams_have_one_two_or_three_bytes(begin: bytes, again: bytes) -> None:
    wire = begin + head(5, 200)[1:] + BODY[:128] + again + BODY[128:200]
    assert read([wire]) == read([wire[at : at + 1] for at in range(len(wire))])
    assert read([wire]) == [Message(VIDEO, 1, 5, BODY[:200])]


@pytest.mark.clause("RTMP 1.0 §5.3.1.3")
@pytest.mark.parametrize("repeats", [True, False], ids=["repeated", "left out"])
def test_extended_timestamps_are_read_with_and_without_their_repetition(*, repeats: bool) -> None:
    moment = 0x01020304
    extended = moment.to_bytes(4, "big")
    between = b"\xc6" + (extended if repeats else b"")
    one = head(0xFFFFFF, 300) + extended + BODY[:128] + between + BODY[128:256] + between + BODY[256:]
    wire = one * 3 + head(7, 3) + b"abc"
    expected = [*[Message(VIDEO, 1, moment, BODY)] * 3, Message(VIDEO, 1, 7, b"abc")]
    assert read([wire]) == expected
    assert read([wire[at : at + 1] for at in range(len(wire))]) == expected
    for cut in range(len(wire)):
        assert read([wire[:cut], wire[cut:]]) == expected


def test_an_extended_timestamp_holds_for_many_chunks_that_come_at_once() -> None:
    extended, body = (0xFFFFFFFE).to_bytes(4, "big"), payload(70_000)
    pieces = [body[at : at + 128] for at in range(0, len(body), 128)]
    for between in (b"\xc6" + extended, b"\xc6"):
        wire = head(0xFFFFFF, len(body)) + extended + between.join(pieces)
        assert read([wire]) == [Message(VIDEO, 1, 0xFFFFFFFE, body)]


def test_times_wrap_at_32_bits() -> None:
    wire = head(0xFFFFFF, 1) + (0xFFFFFFF0).to_bytes(4, "big") + b"a" + b"\x86\0\0\x20b"
    assert [one.timestamp for one in read([wire])] == [0xFFFFFFF0, 0x10]


def test_messages_of_several_chunk_streams_are_interleaved() -> None:
    video, audio = payload(400), payload(200)
    wire = (
        head(40, 400)
        + video[:128]
        + head(41, 200, AUDIO, 1, 4)
        + audio[:128]
        + b"\xc6"
        + video[128:256]
        + b"\xc4"
        + audio[128:]
        + b"\xc6"
        + video[256:384]
        + b"\xc6"
        + video[384:]
    )
    expected = [Message(AUDIO, 1, 41, audio), Message(VIDEO, 1, 40, video)]
    assert read([wire]) == expected
    assert read([wire[at : at + 1] for at in range(len(wire))]) == expected


def test_an_aborted_message_is_forgotten() -> None:
    abort = b"\2\0\0\0\0\0\4\2\0\0\0\0" + (6).to_bytes(4, "big")
    wire = head(0, 300) + BODY[:128] + abort + head(9, 3) + b"abc"
    assert read([wire]) == [Message(VIDEO, 1, 9, b"abc")]


def test_aborted_messages_take_no_room() -> None:
    abort = b"\2\0\0\0\0\0\4\2\0\0\0\0" + (6).to_bytes(4, "big")
    wire = head(0, 300) + BODY[:128] + abort + head(9, 3, number=7) + b"abc"
    assert len(read([wire] * 1000, SMALL)) == 1000


def test_a_chunk_stream_may_begin_with_format_one_as_librtmps_do() -> None:
    assert read([b"\x46\0\0\x05\0\0\1\x09x"]) == [Message(VIDEO, 0, 5, b"x")]


@pytest.mark.parametrize("size", [1, 2, 127, 128, 4096, 60_000, 16 << 20, (1 << 31) - 1])
def test_chunks_of_every_size_are_read_and_none_is_reserved(size: int) -> None:
    body = payload(90_000)
    written = write_message(6, Message(VIDEO, 1, 40, body), size)
    tracemalloc.start()
    try:
        assert read([chunk_size(size) + written]) == [Message(VIDEO, 1, 40, body)]
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [0, 1 << 31, (1 << 32) - 1])
def test_chunks_of_no_bytes_and_of_reserved_sizes_are_malformed(size: int) -> None:
    with pytest.raises(MalformedError):
        read([chunk_size(size)])


def test_nothing_but_changes_of_the_size_ends_the_connection() -> None:
    with pytest.raises(TooLargeError):
        read([chunk_size(128) * 100])
    assert read([(chunk_size(128) + head(0, 1) + b"x") * 100])


def test_a_chunk_that_continues_nothing_is_malformed() -> None:
    for begin in (b"\xc6", b"\x86\0\0\1"):
        with pytest.raises(MalformedError):
            read([begin + bytes(200)])


def test_a_new_message_within_one_of_the_same_chunk_stream_is_malformed() -> None:
    with pytest.raises(MalformedError):
        read([head(0, 300) + BODY[:128] + head(0, 300)])


@pytest.mark.clause("CWE-770")
def test_messages_longer_than_the_limit_are_refused_at_their_header() -> None:
    for size in (LIMITS.media_bytes + 1, 0xFFFFFF):
        with pytest.raises(TooLargeError):
            read([head(0, size)])
    reader = ChunkReader(LIMITS)
    reader.receive_data(head(0, COMMAND_BYTES + 1, COMMAND))
    with pytest.raises(TooLargeError):
        list(reader.events())


@pytest.mark.clause("CWE-770")
def test_half_messages_on_all_chunk_streams_together_stay_within_the_limit() -> None:
    def flood(streams: int) -> bytes:
        numbers = range(64, 64 + streams)
        begins = b"".join(b"\0" + bytes((one - 64,)) + head(0, 90_000)[1:] + bytes(60_000) for one in numbers)
        return chunk_size(60_000) + begins

    with pytest.raises(TooLargeError):
        read([flood(3)], SMALL)
    # A connection that isn't let in yet has 64 KiB for everything.
    reader, before = ChunkReader(LIMITS), bytes(60_000)
    begin = [chunk_size(60_000)] + [head(0, 61_000, DATA, 0, number) + before for number in (5, 6)]
    reader.receive_data(b"".join(begin))
    with pytest.raises(TooLargeError):
        list(reader.events())


def test_more_chunk_streams_than_anybody_needs_are_refused() -> None:
    begins = [
        b"\1" + number.to_bytes(2, "little") + head(0, 200)[1:] + bytes(128) for number in range(65_536)
    ]
    with pytest.raises(TooLargeError):
        read(begins)
    assert read(begins[:63]) == []


def test_what_drips_costs_no_more_than_its_length() -> None:
    body = bytes(400_000)
    wire = chunk_size(1 << 20) + head(0, len(body)) + body
    begin = time.thread_time()
    assert len(read([wire[at : at + 1] for at in range(len(wire))])) == 1
    # Put together anew for each byte it takes minutes.
    assert time.thread_time() - begin < 10 * slowness()


def test_thousands_of_chunks_that_come_at_once_cost_little_more_than_a_copy() -> None:
    body = bytes(4 << 20)
    wire = write_message(6, Message(VIDEO, 1, 40, body), 128)
    begin = time.thread_time()
    assert read([wire]) == [Message(VIDEO, 1, 40, body)]
    assert time.thread_time() - begin < 1 * slowness()


MESSAGES = st.builds(
    Message,
    st.sampled_from([AUDIO, VIDEO, DATA, COMMAND]),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.binary(max_size=400),
)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(3, 63), MESSAGES), max_size=8),
    st.sampled_from([1, 3, 128, 129, 4096]),
    st.lists(st.integers(0, 4000), max_size=6),
)
def test_what_is_written_is_read_again_however_it_is_cut(
    messages: list[tuple[int, Message]], size: int, cuts: list[int]
) -> None:
    wire = chunk_size(size) + b"".join(write_message(number, one, size) for number, one in messages)
    places = sorted({0, *(min(cut, len(wire)) for cut in cuts), len(wire)})
    pieces = [wire[start:end] for start, end in itertools.pairwise(places)]
    assert read(pieces) == [one for _, one in messages]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(3, 5), MESSAGES), max_size=12),
    st.sampled_from([1, 3, 128, 4096]),
    st.lists(st.integers(0, 4000), max_size=6),
    st.one_of(st.none(), st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=3))),
)
def test_frames_that_are_taken_at_once_are_those_of_their_chunks(
    messages: list[tuple[int, Message]],
    size: int,
    cuts: list[int],
    damage: tuple[int, bytes] | None,
) -> None:
    wire = chunk_size(size) + b"".join(write_message(number, one, size) for number, one in messages)
    if damage is not None:
        place = min(damage[0], len(wire))
        wire = wire[:place] + damage[1] + wire[place + len(damage[1]) :]
    places = sorted({0, *(min(cut, len(wire)) for cut in cuts), len(wire)})

    def told(*, at_once: bool) -> tuple[list[Tag], bool, str]:
        reader, found = ChunkReader(SMALL), list[Tag]()
        reader.expect_media()
        try:
            for start, end in itertools.pairwise(places):
                reader.receive_data(wire[start:end])
                events = reader.events()
                while True:
                    while at_once and (tags := reader.take_frames(3)):
                        assert len(tags) <= 3
                        found += tags
                    message = next(events, None)
                    if message is None:
                        break
                    found.append((message.kind, message.timestamp, message.payload))
        except MediaError as error:
            return found, False, str(error)
        return found, reader.is_within_message, ""

    assert told(at_once=True) == told(at_once=False)


def test_frames_between_whose_chunks_there_is_something_are_not_taken_at_once() -> None:
    between = head(0, 4, AUDIO, number=4) + b"tone"
    wire = head(0, 300) + BODY[:128] + between + b"\xc6" + BODY[128:256] + b"\xc6" + BODY[256:]
    reader = ChunkReader(LIMITS)
    reader.expect_media()
    # Chunk streams that are known, so that what comes on them may be as usual.
    reader.receive_data(head(0, 1) + b"a" + head(0, 1, AUDIO, number=4) + b"b")
    assert len(list(reader.events())) == 2
    reader.receive_data(wire)
    assert reader.take_frames(9) == []
    assert [one.payload for one in reader.events()] == [b"tone", BODY]
    reader.receive_data(head(40, 300) + BODY[:100])
    assert reader.take_frames(9) == []
    assert reader.is_within_message
    assert list(reader.events()) == []
    rest = BODY[100:128] + b"\xc6" + BODY[128:256] + b"\xc6" + BODY[256:]
    reader.receive_data(rest + head(80, 5) + b"later")
    assert reader.take_frames(9) == [(VIDEO, 40, BODY), (VIDEO, 80, b"later")]
    assert not reader.is_within_message


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=600), st.integers(0, 600))
def test_no_bytes_break_the_reader_and_their_cuts_change_nothing(data: bytes, cut: int) -> None:
    def told(pieces: list[bytes]) -> tuple[list[Message], str]:
        reader, found = ChunkReader(SMALL), list[Message]()
        reader.expect_media()
        error = ""
        with contextlib.suppress(MediaError):
            error = "broken"
            for piece in pieces:
                reader.receive_data(piece)
                for message in reader.events():
                    found.append(message)
            error = ""
        return found, error

    whole = told([data])
    assert told([data[:cut], data[cut:]]) == whole
    assert told([data[at : at + 1] for at in range(len(data))]) == whole
