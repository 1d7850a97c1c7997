"""A station's titles as date ranges, and the queue on which its blocks reach the encoder."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from fractions import Fraction

import m3u8
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packager.publish.date_ranges import DateRangeError, DateRanges
from packager.radio.audio_blocks import AudioBlock
from packager.radio.encoder_supply import EncoderInput, encoder_input_of
from packager.radio.live_encoder_queue import BlockQueue
from packager.radio.title_date_ranges import MAX_TITLE, TitleDateRanges, as_quoted_string, id3_frames_of

NOON = Fraction(1_795_172_400)


def block(number: int, seconds: int = 1) -> AudioBlock:
    return AudioBlock(bytes([number]), 44_100 * seconds, 44_100, "", (0,))


def lines(ranges: DateRanges) -> list[m3u8.model.DateRange]:
    text = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n" + "".join(f"{tag}\n" for tag in ranges.tags())
    return list(m3u8.loads(text + "#EXTINF:4,\n1.m4s\n").segments[0].dateranges)


def test_a_title_is_a_range_that_ends_where_the_next_one_begins() -> None:
    ranges = DateRanges()
    titles = TitleDateRanges(lambda tag: ranges.add(tag, 0.0))
    assert titles.change("Ada - One", NOON)
    assert not titles.change("Ada - One", NOON + 3)
    assert titles.change("Two", NOON + Fraction("5.25"))
    first, over, second = lines(ranges)
    assert (first.id, first.class_, first.start_date) == (over.id, "headwater.title", over.start_date)
    assert first.duration is None
    assert over.duration == 5.25
    assert dict(first.x_client_attrs) == {"x_title": '"Ada - One"'}
    assert second.start_date == "2026-11-20T11:00:05.250Z"
    assert second.id != first.id
    assert titles.change("", NOON + 9)
    assert [tag.duration for tag in lines(ranges)] == [None, 5.25, None, 3.75]


def test_a_range_goes_when_it_is_over_and_no_segment_touches_it_any_more() -> None:
    ranges = DateRanges()
    titles = TitleDateRanges(lambda tag: ranges.add(tag, 0.0))
    for number in range(3):
        titles.change(str(number), NOON + 10 * number)
    ranges.evict(NOON + 15, 20.0, 24.0)
    assert [tag.client_attributes.get("X-TITLE") for tag in ranges.tags()] == ["1", None, "2"]


def test_who_takes_over_goes_on_with_the_title_that_is_heard_and_ends_others() -> None:
    own, shared = DateRanges(), DateRanges()
    titles = TitleDateRanges(lambda tag: own.add(tag, 0.0))
    other = TitleDateRanges(lambda tag: shared.add(tag, 0.0))

    def take_over() -> None:
        for tag in titles.behind(shared.tags()):
            shared.add(tag, 0.0)

    def follow() -> None:
        """Hand on what has been told last, as an owner does."""
        shared.add(own.tags()[-1], 0.0)

    def shown() -> list[tuple[object, object]]:
        known = {tag.id: tag for tag in shared.tags()}
        titled = [tag for tag in shared.tags() if "X-TITLE" in tag.client_attributes]
        return [(tag.client_attributes["X-TITLE"], known[tag.id].duration) for tag in titled]

    other.change("One", NOON)
    titles.change("One", NOON + Fraction("0.1"))
    take_over()
    assert shown() == [("One", None)]
    # The first node's title is ended by the second one.
    titles.change("", NOON + 4)
    follow()
    assert shown() == [("One", 4)]
    # The first one is back, with a title that the second one hasn't heard.
    other = TitleDateRanges(lambda tag: shared.add(tag, 0.0))
    other.change("Two", NOON + 5)
    titles.change("Three", NOON + 7)
    take_over()
    assert shown() == [("One", 4), ("Two", 2), ("Three", None)]
    # Nothing is told twice.
    take_over()
    assert shown() == [("One", 4), ("Two", 2), ("Three", None)]
    # What another has ended meanwhile goes on under another ID.
    (tag,) = (tag for tag in shared.tags() if tag.client_attributes.get("X-TITLE") == "Three")
    shared.add(replace(tag, duration=Fraction(1), client_attributes={}), 0.0)
    take_over()
    assert shown() == [("One", 4), ("Two", 2), ("Three", 1), ("Three", None)]


def test_more_titles_than_a_playlist_may_have_are_refused_and_the_others_stay() -> None:
    ranges = DateRanges()
    titles = TitleDateRanges(lambda tag: ranges.add(tag, 0.0))
    for number in range(250):
        titles.change(str(number), NOON + number)
    with pytest.raises(DateRangeError):
        titles.change("one more", NOON + 250)
    assert len(ranges.tags()) == 500
    ranges.evict(NOON + 240, 300.0, 24.0)
    assert titles.change("again", NOON + 300)
    assert [tag.duration for tag in lines(ranges)][-3:] == [None, 1.0, None]


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ('say "hi"', "say 'hi'"),
        ("one\r\n#EXT-X-ENDLIST", "one  #EXT-X-ENDLIST"),
        ("a\x00b\x7f", "a b"),
        (" ", ""),
    ],
)
def test_a_title_can_stand_in_a_quoted_string_whatever_it_is(title: str, text: str) -> None:
    # RFC 8216bis §4.2: no line feed, no carriage return, no double quote
    assert as_quoted_string(title) == text
    assert len(as_quoted_string("x" * 5000)) == MAX_TITLE


@settings(deadline=None)
@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_any_title_leaves_the_playlist_its_lines(title: str) -> None:
    """Titles are a third party's, and one that breaks a playlist would break all of the channel."""
    ranges = DateRanges()
    TitleDateRanges(lambda tag: ranges.add(tag, 0.0)).change(title, NOON)
    assert all(len(line.splitlines()) == 1 and line.encode() for line in ranges.lines())


def test_an_artist_stands_before_the_dash() -> None:
    # ID3v2.4 §4.2: TPE1 is the lead performer, TIT2 the title
    assert id3_frames_of("Ada - One - live") == [("TPE1", "Ada"), ("TIT2", "One - live")]
    assert id3_frames_of("One") == [("TIT2", "One")]


def test_a_queue_lets_go_of_the_oldest_blocks() -> None:
    queue = BlockQueue(3.0)
    for number in range(5):
        queue.put(block(number), float(number))
    assert [one.data[0] for one in queue] == [2, 3, 4]
    assert (float(queue.seconds), queue.dropped, queue.arrived) == (3.0, 2, 4.0)
    queue.trim(1.5)
    assert [one.data[0] for one in queue] == [4]
    queue.trim(-1.0)
    assert (list(queue), float(queue.seconds), queue.dropped) == ([], 0.0, 2)


async def test_a_queue_gives_a_block_as_soon_as_there_is_one() -> None:
    queue = BlockQueue(3.0)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        waiting = group.create_task(queue.first())
        await asyncio.sleep(0)
        assert not waiting.done()
        queue.put(block(7), 0.0)
    assert waiting.result().data == b"\x07"
    assert (await queue.first()).data == b"\x07"


def test_what_an_ffmpeg_can_go_on_with_is_told_by_the_frames_header() -> None:
    # ISO/IEC 11172-3 §2.4.1.3: mode 11 is a single channel; sampling_frequency 00 is 44.1 kHz, 01 is 48 kHz
    stereo, mono = (b"\xff\xfb\x90" + bytes([mode]) for mode in (0x00, 0xC0))
    other = b"\xff\xfb\x94\x00"
    found = [
        encoder_input_of(AudioBlock(data + bytes(500), 1152, 44_100, "", (0,)))
        for data in (stereo, mono, other)
    ]
    assert found == [
        EncoderInput("mp3", 44_100, 2),
        EncoderInput("mp3", 44_100, 1),
        EncoderInput("mp3", 48_000, 2),
    ]
