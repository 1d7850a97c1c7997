"""Playlists are written as RFC 8216bis says; the m3u8 package, which somebody else wrote, reads them back."""

from __future__ import annotations

from fractions import Fraction

import m3u8
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.hls.attribute_values import adding_up, date_time, decimal, quoted
from media.hls.date_range import DateRange
from media.hls.media_playlist import (
    ByteRange,
    Map,
    MediaPlaylist,
    Part,
    RenditionReport,
    Segment,
    ServerControl,
)
from media.hls.multivariant import Media, MultivariantPlaylist, Variant

LIVE = MediaPlaylist(
    target_duration=2,
    media_sequence_number=266,
    discontinuity_sequence=3,
    part_target=Fraction(334, 1000),
    server_control=ServerControl(True, Fraction(6), Fraction(1002, 1000), Fraction(12)),
    segments=(
        Segment("266.m4s", Fraction(2), Map("init-0.mp4"), program_date_time=Fraction(1_700_000_000)),
        Segment(
            "267.m4s",
            Fraction(60060, 30000),
            Map("init-0.mp4"),
            (
                Part("267.0.m4s", Fraction(1, 3), independent=True),
                Part("267.1.m4s", Fraction(1, 3), gap=True),
            ),
        ),
        Segment("268.m4s", Fraction(2), Map("init-1.mp4"), discontinuity=True),
        Segment(None, parts=(Part("269.0.m4s", Fraction(1, 3), independent=True),), map=Map("init-1.mp4")),
    ),
    preload_hint="269.1.m4s",
    rendition_reports=(RenditionReport("../audio/media.m3u8", 269, 0),),
)


def test_a_live_playlist_reads_as_the_draft_writes_it() -> None:
    assert LIVE.render().splitlines() == [
        "#EXTM3U",
        "#EXT-X-VERSION:6",
        "#EXT-X-TARGETDURATION:2",
        "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.000,HOLD-BACK=6.000,PART-HOLD-BACK=1.002",
        "#EXT-X-PART-INF:PART-TARGET=0.33400",
        "#EXT-X-MEDIA-SEQUENCE:266",
        "#EXT-X-DISCONTINUITY-SEQUENCE:3",
        '#EXT-X-MAP:URI="init-0.mp4"',
        "#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:20.000Z",
        "#EXTINF:2.00000,",
        "266.m4s",
        '#EXT-X-PART:DURATION=0.33333,URI="267.0.m4s",INDEPENDENT=YES',
        '#EXT-X-PART:DURATION=0.33333,URI="267.1.m4s",GAP=YES',
        "#EXTINF:2.00200,",
        "267.m4s",
        "#EXT-X-DISCONTINUITY",
        '#EXT-X-MAP:URI="init-1.mp4"',
        "#EXTINF:2.00000,",
        "268.m4s",
        '#EXT-X-PART:DURATION=0.33333,URI="269.0.m4s",INDEPENDENT=YES',
        '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="269.1.m4s"',
        '#EXT-X-RENDITION-REPORT:URI="../audio/media.m3u8",LAST-MSN=269,LAST-PART=0',
    ]


def test_another_reader_finds_the_same_in_it() -> None:
    playlist = m3u8.loads(LIVE.render())
    assert playlist.media_sequence == 266
    assert playlist.discontinuity_sequence == 3
    assert playlist.part_inf.part_target == 0.334
    assert playlist.server_control.can_block_reload == "YES"
    assert playlist.server_control.part_hold_back == 1.002
    assert [segment.uri for segment in playlist.segments if segment.uri] == ["266.m4s", "267.m4s", "268.m4s"]
    whole = [segment for segment in playlist.segments if segment.uri]
    assert [segment.init_section.uri for segment in whole] == ["init-0.mp4"] * 2 + ["init-1.mp4"]
    assert [segment.discontinuity for segment in whole] == [False, False, True]
    assert playlist.preload_hint.uri == "269.1.m4s"
    assert playlist.rendition_reports[0].last_msn == 269
    assert not playlist.is_endlist


def test_a_vod_playlist_ends() -> None:
    playlist = MediaPlaylist(
        6, (Segment("0.m4s", Fraction(6), Map("init.mp4")),), playlist_type="VOD", ended=True
    )
    read = m3u8.loads(playlist.render())
    assert read.playlist_type == "vod"
    assert read.is_endlist
    assert read.target_duration == 6


def test_byte_ranges_are_read_back() -> None:
    init = Map("media.mp4", ByteRange(700, 0))
    segments = [
        Segment("media.mp4", Fraction(6), init, byte_range=ByteRange(5000, 1000)),
        Segment("media.mp4", Fraction(6), init, byte_range=ByteRange(4000, 6000)),
    ]
    read = m3u8.loads(MediaPlaylist(6, segments, playlist_type="VOD", ended=True).render())
    assert read.segments[0].init_section.byterange == "700@0"
    assert [segment.byterange for segment in read.segments] == ["5000@1000", "4000@6000"]


def test_a_delta_update_needs_version_9() -> None:
    # RFC 8216bis §8: EXT-X-SKIP is of version 9.
    text = MediaPlaylist(2, (Segment("9.m4s", Fraction(2)),), skipped_segments=7).render()
    assert "#EXT-X-VERSION:9\n" in text
    assert "#EXT-X-SKIP:SKIPPED-SEGMENTS=7\n" in text


def test_a_multivariant_playlist_is_read_back() -> None:
    playlist = MultivariantPlaylist(
        (
            Variant(
                uri="720p/media.m3u8",
                bandwidth=2_500_000,
                average_bandwidth=2_000_000,
                codecs="avc1.64001f,mp4a.40.2",
                resolution=(1280, 720),
                frame_rate=Fraction(30000, 1001),
                audio="aac",
            ),
        ),
        (Media("AUDIO", "aac", "English", "audio/media.m3u8", language="en", default=True, channels=2),),
    )
    read = m3u8.loads(playlist.render())
    information = read.playlists[0].stream_info
    assert (information.bandwidth, information.average_bandwidth) == (2_500_000, 2_000_000)
    assert (information.codecs, information.resolution) == ("avc1.64001f,mp4a.40.2", (1280, 720))
    assert information.frame_rate == 29.970
    assert (information.audio, read.media[0].group_id, read.media[0].channels) == ("aac", "aac", "2")
    assert (read.media[0].default, read.media[0].autoselect, read.media[0].language) == ("YES", "YES", "en")


def test_a_variant_of_a_few_slides_says_no_frame_rate() -> None:
    """RFC 8216bis §4.4.6.2: it is rounded to three places, of which 0 would be no rate."""
    for seconds, told in ((1999, "FRAME-RATE=0.001"), (2001, ""), (4000, "")):
        (tag, _) = Variant("a.m3u8", 1, frame_rate=Fraction(1, seconds)).lines()
        assert tag.removeprefix("#EXT-X-STREAM-INF:BANDWIDTH=1").lstrip(",") == told


@settings(deadline=None)
@given(st.fractions(0, 100_000, max_denominator=90_000))
def test_a_decimal_is_within_half_of_its_last_digit(seconds: Fraction) -> None:
    text = decimal(seconds)
    assert abs(Fraction(text) - seconds) <= Fraction(1, 200_000)
    assert "e" not in text


@pytest.mark.parametrize("value", ['a"b', "a\nb", "a\rb"])
def test_what_a_quoted_string_cannot_say_is_refused(value: str) -> None:
    # RFC 8216bis §4.2: a quoted-string has no LF, CR or double quote, and no escapes.
    with pytest.raises(ValueError, match="quoted-string"):
        quoted(value)


def test_date_and_time_are_to_the_millisecond_in_utc() -> None:
    assert date_time(Fraction(1_700_000_000_1234, 10_000)) == "2023-11-14T22:13:20.123Z"
    assert date_time(Fraction(1_700_000_000_9996, 10_000)) == "2023-11-14T22:13:21.000Z"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.fractions(min_value=0, max_value=3, max_denominator=100_000), max_size=20))
def test_written_durations_in_a_row_add_up_to_their_written_sum(durations: list[Fraction]) -> None:
    written = list(adding_up(durations))
    assert decimal(sum(written, Fraction(0))) == decimal(sum(durations, Fraction(0)))
    assert all(
        abs(one - other) <= Fraction(1, 100_000) for one, other in zip(written, durations, strict=True)
    )


@pytest.mark.parametrize(
    "character", ['"', "\n", "\r", "\0", "\x0b", "\x0c", "\x1e", "\x85", "\x7f", "\u2028", "\u2029", "\udc80"]
)
def test_a_quoted_string_has_nothing_that_ends_a_line_or_the_string(character: str) -> None:
    for text in (character, f"a{character}", f"{character}a", f"a{character}b"):
        with pytest.raises(ValueError, match="quoted-string"):
            quoted(text)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), 1e16, -1e300])
def test_numbers_that_no_attribute_has_are_not_written(value: float) -> None:
    with pytest.raises(ValueError, match="number"):
        str(DateRange("a", Fraction(0), client_attributes={"X-A": value}))
