"""packager.live.captions: times that stay, what is forgotten, and captions in the DVR and in recordings."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import m3u8
import pytest

from media.subtitles.webvtt import Cue
from packager.live.captions import MAX_CUES, CaptionTrack
from packager.live.limits import LiveLimits
from packager.process.ffmpeg_discovery import Tools
from packager.publish.channel_commands import TooManyCuesError
from packager.window.model import LivePart, LiveSegment, WindowOptions
from packager.window.window import Window
from tests.conformance.handfed import NUMBER, Track
from tests.loop_watch import slowness
from tests.packager.station import Station, on_air
from tests.packager.writers import writer_of

MPD = "{urn:mpeg:dash:schema:mpd:2011}"
PICTURE = LivePart(b"picture", Fraction(1, 2), independent=True)


LIMITS = LiveLimits(caption_bytes=1000)


class Channel:
    """A track that follows a picture of two parts of half a second in each segment."""

    def __init__(self, start: int = NUMBER, limits: LiveLimits = LIMITS) -> None:
        self.track = CaptionTrack(limits)
        self.window = Window(WindowOptions(1, start, text=True))
        self.writer = writer_of(self.window, "captions-en", self.track.document)

    def segment(self, count: int = 1, *, offset: Fraction = Fraction(0), breaks: bool = False) -> None:
        """Publish segments; their dates are their media times and the offset."""
        for _ in range(count):
            number = self.window.next_number
            for parts in (1, 2):
                picture = LiveSegment(
                    number,
                    None,
                    (number + offset).as_integer_ratio(),
                    parts=(PICTURE,) * parts,
                    discontinuity=breaks,
                    duration=parts * PICTURE.duration,
                )
                self.track.follow(picture, self.writer, offset, ended=parts == 2)

    def text(self, number: int) -> str:
        return (self.window.segment(number) or b"").decode()


def times(text: str) -> list[str]:
    return re.findall(r"^\S+ --> \S+", text, re.MULTILINE)


def test_a_cue_keeps_its_times_although_dates_are_corrected() -> None:
    channel = Channel()
    channel.track.add([Cue(0, 3000, "long")], Fraction(NUMBER))
    for milliseconds in (0, 10, 7):
        channel.segment(offset=Fraction(milliseconds, 1000))
    texts = [channel.text(NUMBER + number) for number in range(3)]
    assert len(times(texts[0])) == 1
    assert times(texts[0]) == times(texts[1]) == times(texts[2])


def test_behind_a_break_it_has_the_times_that_are_right_there() -> None:
    channel = Channel()
    channel.track.add([Cue(0, 9000, "long")], Fraction(NUMBER))
    channel.segment()
    # The source comes back two seconds later, and its media times go on.
    channel.segment(offset=Fraction(2), breaks=True)
    origin = re.findall("MPEGTS:.*", channel.text(NUMBER))
    assert origin == re.findall("MPEGTS:.*", channel.text(NUMBER + 1))
    begins = [times(channel.text(NUMBER + number))[0] for number in (0, 1)]
    assert [int(re.findall(r":(\d\d)\.", begin)[0]) for begin in begins] == [
        NUMBER % 60,
        (NUMBER - 2) % 60,
    ]
    assert channel.window.listed[1].discontinuity


def test_times_count_from_at_least_half_a_day_ago_whenever_a_segment_begins() -> None:
    half_day = 43_200
    for start in (2 * half_day - 1, 2 * half_day, 2 * half_day + 1):
        channel = Channel(start)
        channel.track.add([Cue(0, 60_000, "long")], Fraction(start - 30))
        channel.segment()
        text = channel.text(start)
        (mpegts,) = re.findall(r"MPEGTS:(\d+)", text)
        begin = times(text)[0].split(":")
        local = int(begin[0]) * 3600 + int(begin[1]) * 60 + float(begin[2].split(" ")[0])
        # 90 kHz; these are far from the 33rd bit
        assert int(mpegts) / 90_000 + local == start - 30
        assert local >= half_day - 30


def test_what_is_over_makes_room_and_what_does_not_fit_is_not_begun() -> None:
    channel = Channel(limits=LiveLimits(caption_bytes=200))
    two = [Cue(0, 1000, "a"), Cue(0, 1000, "b")]
    assert channel.track.add(two, Fraction(NUMBER)) == 0
    with pytest.raises(TooManyCuesError):
        channel.track.add(two, Fraction(NUMBER))
    channel.segment()
    assert len(times(channel.text(NUMBER))) == 2
    assert channel.track.add(two, Fraction(NUMBER + 1)) == 0
    channel.segment(4)
    assert channel.track.add(two, Fraction(NUMBER)) == 2, "over four seconds ago"
    assert [len(times(channel.text(NUMBER + number))) for number in range(5)] == [2, 2, 0, 0, 0]


def test_of_a_flood_of_cues_the_last_ones_are_told() -> None:
    channel = Channel(limits=replace(LIMITS, cues_at_once=3))
    channel.track.add([Cue(at, 900, f"cue {at}") for at in range(9)], Fraction(NUMBER))
    channel.segment()
    assert re.findall(r"cue \d", channel.text(NUMBER)) == ["cue 6", "cue 7", "cue 8"]


def test_a_segment_that_is_cut_short_has_what_was_told() -> None:
    channel = Channel()
    channel.track.add([Cue(100, 200, "first"), Cue(700, 800, "never")], Fraction(NUMBER))
    picture = LiveSegment(NUMBER, None, (NUMBER, 1), parts=(PICTURE,), duration=PICTURE.duration)
    channel.track.follow(picture, channel.writer, Fraction(0), ended=False)
    channel.writer.interrupt()
    text = channel.text(NUMBER)
    assert "first" in text
    assert "never" not in text
    assert channel.window.listed[0].duration == PICTURE.duration


async def captioned(station: Station, count: int) -> None:
    edge = station.channel.presentation.live_edge or Fraction(NUMBER)
    station.channel.captions.tracks["en"].add([Cue(500, 1500, f"at {edge}")], edge)
    await station.segment(count)


async def test_captions_are_kept_on_disk_and_found_again(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_air(tmp_path, material, tools, monkeypatch, captions=("en",)) as station:
        await captioned(station, 12)
        before = station.bytes_of("captions-en")
        assert b"at " in before[NUMBER]
        assert sum(one.stored is not None and not one.data for one in station.window.listed) > 0
    async with on_air(
        tmp_path, material, tools, monkeypatch, number=NUMBER + 15, captions=("en",)
    ) as station:
        assert station.bytes_of("captions-en") == before
        await station.segment(1)
        window = station.channel.renditions["captions-en"].window
        assert [one.number for one in window.listed if one.gap] == [NUMBER + 12, NUMBER + 13, NUMBER + 14]
        picture, words = station.text(), station.text("captions-en")
        discontinuous = r"#EXT-X-DISCONTINUITY\n(?:#EXT-X-MAP.*\n)?(#EXT-X-PROGRAM-DATE-TIME.*)"
        assert re.findall(discontinuous, words) == re.findall(discontinuous, picture) != []
        assert "EXT-X-MAP" not in words


async def test_a_recording_has_the_captions(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_air(tmp_path, material, tools, monkeypatch, captions=("en",)) as station:
        await captioned(station, 5)
        live = station.bytes_of("captions-en")
        station.channel._aligned.end()
        await station.archive.settle()
        await station.channel.live_event.record(station.channel._ending())
        assert station.channel.live_event.recordings is not None
        (recording,) = station.channel.live_event.recordings
    master = m3u8.loads((recording.path / "master.m3u8").read_text())
    assert [one.uri for one in master.media if one.type == "SUBTITLES"] == ["captions-en/media.m3u8"]
    playlist = m3u8.loads((recording.path / "captions-en" / "media.m3u8").read_text())
    assert [one.uri for one in playlist.segments] == [f"{NUMBER + number}.vtt" for number in range(5)]
    assert all(one.init_section is None for one in playlist.segments)
    folder = recording.path / "captions-en"
    assert {number: (folder / f"{number}.vtt").read_bytes() for number in live} == live
    manifest = ElementTree.fromstring((recording.path / "manifest.mpd").read_bytes())
    (words,) = [
        one for one in manifest.iterfind(f"{MPD}Period/{MPD}AdaptationSet") if one.get("lang") == "en"
    ]
    assert (words.get("contentType"), words.get("mimeType")) == ("text", "application/mp4")
    assert words.findtext(f"{MPD}Representation/{MPD}BaseURL") == "captions-en/"
    template = words.find(f"{MPD}Representation/{MPD}SegmentTemplate")
    assert template is not None
    assert (template.get("initialization"), template.get("media")) == ("init-0.mp4", "$Number$.m4s")
    assert template.get("presentationTimeOffset") == str(1000 * NUMBER)
    # Sound of 235 frames is the longest.
    assert [dict(one.attrib) for one in template.iter(f"{MPD}S")] == [{"t": str(1000 * NUMBER), "d": "5014"}]
    joined = tmp_path / "words.mp4"
    joined.write_bytes(b"".join((folder / name).read_bytes() for name in ("init-0.mp4", f"{NUMBER}.m4s")))
    # Once, although it may be in two segments.
    assert joined.read_bytes().count(b"payl") == 1
    assert f"paylat {NUMBER}".encode() in joined.read_bytes()
    assert recording.metadata.audio == "audio"
    with recording.movie()[0] as head:
        assert head.size > 0


def test_so_many_cues_as_may_be_are_taken_in_a_short_step() -> None:
    # The last one first: each goes in front of all others.
    cues = [Cue(at, 80_000_000, "a") for at in reversed(range(MAX_CUES))]
    seconds = []
    for _ in range(3):
        track = CaptionTrack()
        begin = time.thread_time()
        track.add(cues, Fraction(NUMBER))
        seconds.append(time.thread_time() - begin)
        with pytest.raises(TooManyCuesError):
            track.add(cues[:1], Fraction(NUMBER))
    assert min(seconds) < 0.1 * slowness()
