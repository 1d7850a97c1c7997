"""Ogg as encoders write it, whole and spoilt: pages, links, durations and titles."""

from __future__ import annotations

import struct
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.errors import MalformedError, MediaError, TooLargeError, UnsupportedError
from media.ogg.headers import COMMENT_BYTES, HEADER_BYTES, KEPT_BYTES, Link
from media.ogg.page import FIRST, GARBAGE_BYTES, LAST, Page, PageReader, paginate
from media.ogg.reader import AudioPage, Event, OggReader
from tests.ogg import ENCODERS, SECONDS, encoded
from tests.reading import outcome_of


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {codec: encoded(codec, f"Öne {codec}") for codec in ENCODERS}


def pages(data: bytes) -> list[Page]:
    reader = PageReader()
    reader.receive_data(data)
    reader.receive_eof()
    return list(reader.pages())


def outcome(*chunks: bytes) -> tuple[list[Event], type[MediaError] | None]:
    return outcome_of(OggReader(), *chunks)


def links(events: list[Event]) -> list[Link]:
    return [event for event in events if isinstance(event, Link)]


def audio(events: list[Event]) -> list[AudioPage]:
    return [event for event in events if isinstance(event, AudioPage)]


def seconds(events: list[Event]) -> float:
    return sum(event.duration / event.link.sample_rate for event in audio(events))


def serialized(some: list[Page]) -> bytes:
    return b"".join(page.serialize() for page in some)


def with_headers(data: bytes, *packets: bytes) -> bytes:
    """Put other headers behind the first one of a file."""
    first, *rest = pages(data)
    sound = [page for page in rest if page.granule > 0]
    headers = paginate(packets, first.serial, 1)
    shift = 1 + len(headers) - sound[0].sequence
    return serialized([first, *headers, *(replace(page, sequence=page.sequence + shift) for page in sound)])


def comments(*texts: bytes) -> bytes:
    """RFC 7845 §5.2: the comments of Opus."""
    sized = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return b"OpusTags" + struct.pack("<I", 0) + struct.pack("<I", len(texts)) + sized


# RFC 3533 §6: the checksum too is what ffmpeg has written.
@pytest.mark.parametrize("codec", ENCODERS)
def test_pages_are_written_as_they_were_read(codec: str, files: dict[str, bytes]) -> None:
    found = pages(files[codec])
    assert serialized(found) == files[codec]
    assert (found[0].flags, found[-1].flags) == (FIRST, LAST)
    assert [page.sequence for page in found] == list(range(len(found)))


@pytest.mark.parametrize("codec", ENCODERS)
def test_what_a_link_is_and_how_long_it_is_heard(codec: str, files: dict[str, bytes]) -> None:
    events, error = outcome(files[codec])
    (link,) = links(events)
    assert error is None
    assert (link.codec, link.sample_rate, link.channels) == (codec, ENCODERS[codec][1], 2)
    assert link.title == f"Maker - Öne {codec}"
    assert seconds(events) == SECONDS


def test_a_chain_has_a_link_for_each_of_its_streams(files: dict[str, bytes]) -> None:
    events, error = outcome(b"".join(files.values()))
    assert error is None
    assert [link.codec for link in links(events)] == list(files)
    assert seconds(events) == 3 * SECONDS
    assert [page.link.codec for page in audio(events) if page.page.flags & LAST] == list(files)


@given(cuts=st.lists(st.integers(0, 40_000), max_size=6), codec=st.sampled_from(sorted(ENCODERS)))
@settings(max_examples=40, deadline=None)
def test_cut_anywhere_the_events_are_the_same(cuts: list[int], codec: str, files: dict[str, bytes]) -> None:
    data = files[codec][:20_000] + b"OggS and other garbage" + files["opus"][:20_000]
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert outcome(*(data[a:b] for a, b in pairwise(edges))) == outcome(data)


def test_byte_by_byte_the_events_are_the_same(files: dict[str, bytes]) -> None:
    data = files["vorbis"][:9000] + bytes(100) + files["flac"][:9000]
    assert outcome(*(data[at : at + 1] for at in range(len(data)))) == outcome(data)


@given(noise=st.binary(max_size=300), at=st.integers(0, 30_000), lost=st.integers(0, 500))
@settings(max_examples=150, deadline=None)
def test_whatever_comes_there_are_events_or_one_of_our_errors(
    noise: bytes, at: int, lost: int, files: dict[str, bytes]
) -> None:
    data = files["vorbis"]
    events, error = outcome(data[:at] + noise + data[at + lost :])
    assert error in (None, MalformedError, UnsupportedError)
    assert seconds(events) <= SECONDS


# RFC 3533 §6: the capture pattern is there so that readers find their way back.
def test_garbage_between_pages_changes_nothing(files: dict[str, bytes]) -> None:
    found = pages(files["opus"])
    spoilt = b"".join(page.serialize() + b"OggS\0garbage" * 5 for page in found)
    assert outcome(spoilt) == outcome(files["opus"])


@pytest.mark.parametrize("codec", ENCODERS)
def test_a_page_with_a_wrong_bit_is_lost_and_no_other(codec: str, files: dict[str, bytes]) -> None:
    found = pages(files[codec])
    data = bytearray(files[codec])
    data[sum(page.size for page in found[:3]) + 100] ^= 1
    assert [event.page for event in audio(outcome(bytes(data))[0])] == [found[2], *found[4:]]


def test_of_a_page_that_is_cut_off_by_the_next_nothing_is_heard(files: dict[str, bytes]) -> None:
    found = pages(files["opus"])
    data = serialized(found[:3]) + found[3].serialize()[:-50] + serialized(found[4:])
    assert [event.page for event in audio(outcome(data)[0])] == [found[2], *found[4:]]


def test_garbage_without_an_end_is_malformed(files: dict[str, bytes]) -> None:
    assert outcome(bytes(GARBAGE_BYTES + 1)) == ([], MalformedError)
    assert outcome(b"OggS" * GARBAGE_BYTES)[1] is MalformedError
    events, error = outcome(files["opus"] + bytes(GARBAGE_BYTES + 1))
    assert (seconds(events), error) == (SECONDS, MalformedError)
    assert outcome(files["opus"] + bytes(GARBAGE_BYTES - 10) + files["opus"])[1] is None


@pytest.mark.parametrize("data", [b"", b"Ogg", b"OggS" + bytes(23)])
def test_an_end_without_any_stream_is_malformed(data: bytes) -> None:
    assert outcome(data) == ([], MalformedError)


def test_a_stream_without_its_headers_is_silent_until_the_next_link(files: dict[str, bytes]) -> None:
    found = pages(files["vorbis"])
    events, error = outcome(serialized([found[0], *found[2:]]) + files["flac"])
    assert error is None
    assert [link.codec for link in links(events)] == ["flac"]
    assert seconds(events) == SECONDS


# Vorbis I §5, with the picture as METADATA_BLOCK_PICTURE, in base64.
def test_a_picture_in_the_comments_falls_away_and_the_title_stays(files: dict[str, bytes]) -> None:
    picture = b"METADATA_BLOCK_PICTURE=" + b"A" * (1 << 20)
    data = with_headers(
        files["opus"], comments(picture, b"title=T", b"Artist=A", b"X=" + b"x" * COMMENT_BYTES)
    )
    events, error = outcome(data)
    (link,) = links(events)
    assert (error, link.title, seconds(events)) == (None, "A - T", SECONDS)
    assert sum(map(len, link.packets)) < 200


def test_headers_without_an_end_are_too_large(files: dict[str, bytes]) -> None:
    ten_megabytes = with_headers(files["opus"], comments(b"X=" + bytes(10 << 20)))
    assert len(ten_megabytes) > 2 * HEADER_BYTES
    assert outcome(ten_megabytes) == ([], TooLargeError)
    many = with_headers(files["flac"], *[b"\x04\0\0\x08" + bytes(8)] * 1000)
    assert outcome(many) == ([], TooLargeError)


def test_headers_too_large_for_each_listener_arent_carried(files: dict[str, bytes]) -> None:
    texts = [f"X{number}=".encode() + b"x" * 4000 for number in range(KEPT_BYTES // 4000 + 1)]
    assert outcome(with_headers(files["opus"], comments(*texts))) == ([], TooLargeError)


@pytest.mark.parametrize(
    "first",
    [
        b"\x80theora\3\2\1" + bytes(32),
        b"Speex   1.2.0" + bytes(67),
        b"something else",
        b"",
    ],
)
def test_another_codec_is_not_carried(first: bytes) -> None:
    assert outcome(serialized(paginate([first], 7, 0, FIRST))) == ([], UnsupportedError)


@pytest.mark.parametrize(
    "first",
    [
        b"\x01vorbis" + bytes(23),
        b"\x01vorbis",
        b"OpusHead\x01\0" + bytes(9),
        b"OpusHead\x10\2" + bytes(9),
        b"\x7fFLAC\x01\0",
        b"\x7fFLAC\2\0\0\1fLaC" + bytes(38),
    ],
)
def test_a_first_packet_that_breaks_its_rules_is_malformed(first: bytes) -> None:
    assert outcome(serialized(paginate([first], 7, 0, FIRST))) == ([], MalformedError)


# A skeleton (Ogg Skeleton 3.0) stands beside the audio and only describes it.
def test_a_skeleton_beside_the_audio_is_passed_over(files: dict[str, bytes]) -> None:
    found = pages(files["vorbis"])
    skeleton = paginate([b"fishead\0" + bytes(56)], 1, 0, FIRST)
    end = Page(LAST, 0, 1, 1, b"\0", b"")
    events, error = outcome(serialized([*skeleton, *found[:2], end, *found[2:]]))
    assert (error, seconds(events)) == (None, SECONDS)


def test_who_comes_in_the_middle_hears_no_more_than_there_is(files: dict[str, bytes]) -> None:
    later = [
        replace(page, granule=page.granule + (1 << 40)) if page.granule else page
        for page in pages(files["opus"])
    ]
    assert SECONDS - 1.1 < seconds(outcome(serialized(later))[0]) < SECONDS
    back = [replace(page, granule=-5) if page.sequence == 3 else page for page in pages(files["opus"])]
    assert seconds(outcome(serialized(back))[0]) <= SECONDS


# RFC 3533 §6: a decoder that begins with such a page drops what belongs to the packet before it.
def test_what_is_left_of_a_packet_that_began_before_is_trimmed() -> None:
    packets = [bytes([number]) * 400 for number in range(3)]
    whole = Page(0, 77, 1, 5, b"\xff\x91" * 3, b"".join(packets))
    assert list(whole.pieces()) == [(packet, True) for packet in packets]
    assert whole.trimmed() is whole
    continued = replace(whole, flags=1)
    assert list(continued.trimmed().pieces()) == [(packet, True) for packet in packets[1:]]
    assert continued.trimmed().is_fresh
    middle = Page(1, 77, 1, 5, b"\x91\xff", packets[0][:145] + packets[1][:255])
    assert list(middle.trimmed().pieces()) == [(packets[1][:255], False)]
    assert middle.trimmed().granule == -1


@pytest.mark.parametrize("size", [0, 254, 255, 256, 510, 65_024, 65_025, 65_026, 200_000])
def test_a_packet_of_any_size_is_found_on_its_pages_again(size: int) -> None:
    packets = [b"first", bytes(size), b"last"]
    found = pages(serialized(paginate(packets, 3, 0)))
    joined: list[bytes] = []
    part = b""
    for page in found:
        assert page.is_fresh == (not part)
        for piece, ends in page.pieces():
            part += piece
            if ends:
                joined.append(part)
                part = b""
    assert joined == packets
