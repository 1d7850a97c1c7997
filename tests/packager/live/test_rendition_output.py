"""A pipe is left alone between the ends of parts, which hardly come later for it."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from fractions import Fraction

import pytest

from media.mp4.fragments.fragments import Fragment, write_fragment
from packager.live.encoder_run import EncoderRun
from packager.live.limits import LiveLimits
from packager.live.rendition_output import PART_LOOK_SHIFT_SECONDS, Feed, RunContext, RunStart
from packager.live.timed_metadata import TimedMetadata
from packager.publish.dash_periods import parse_time
from packager.segment.keyframe_segmenter import segmenter_factories
from packager.sources.source import Source
from packager.window.aligned_windows import AlignedWindows
from packager.window.cadence import cadence
from packager.window.model import LiveSegment, WindowOptions
from packager.window.program_date_time import Instant, WallClock
from packager.window.rendition_log_writer import RenditionWriter
from packager.window.sequence_numbers import SequenceNumbers
from packager.window.window import Window
from tests.conformance.handfed import NUMBER, Track
from tests.packager.writers import writer_of

PIPE_BYTES = 1 << 20
LATEST_SECONDS = 0.015
"""By which frames come late here, each by another time."""


def written(fragment: Fragment) -> bytes:
    """Give a fragment as ffmpeg wrote it."""
    return write_fragment(
        sequence_number=1,
        track_id=fragment.track_id,
        base_media_decode_time=fragment.base_media_decode_time,
        samples=fragment.samples,
        data=fragment.data,
    )


class Reading:
    """A rendition that comes at real time, of which the pipe is read as the feed asks for it.

    Attributes:
        reads: when the pipe was read, in seconds.
        published: when each part was, in seconds.
    """

    def __init__(self, track: Track, name: str, *, capacity: int = PIPE_BYTES) -> None:
        self.reads: list[float] = []
        self.published: list[float] = []
        window = Window(WindowOptions(1, NUMBER))
        (make_segmenter,) = segmenter_factories(cadence(Fraction(30), 1.0, 0.25), Fraction(NUMBER), 1)
        second = Fraction(1)
        timed_metadata = TimedMetadata([name], 1)
        run = RunContext(
            WallClock(), RunStart(second), second, SequenceNumbers(), timed_metadata,
            lambda _: self.published.append(self._now),
        )  # fmt: skip
        self._feed = Feed(run, writer_of(window, name), make_segmenter)
        self._now = 0.0
        self._read(track, capacity)

    def _read(self, track: Track, capacity: int) -> None:
        chance, timescale = random.Random(1), track.init.tracks[0].timescale
        coming = []
        for fragment in track.fragments:
            duration = sum(sample.duration for sample in fragment.samples)
            end = (fragment.base_media_decode_time + duration) / timescale - NUMBER
            coming.append((end + chance.uniform(0, LATEST_SECONDS), written(fragment)))
        # A pipe gives what was written first.
        arrivals = itertools.accumulate((moment for moment, _ in coming), max)
        queue = list(zip(arrivals, (data for _, data in coming), strict=True))
        ready, resume = track.init.data, 0.0
        while queue:
            self._now = max(queue[0][0], resume)
            while queue and queue[0][0] <= self._now:
                ready += queue.pop(0)[1]
            self.reads.append(self._now)
            now = Instant(self._now, NUMBER + self._now)
            came = self._feed.receive_data(ready, now)
            resume, ready = self._now + (self._feed.rest(now, capacity) if came else 0.0), b""


class Burst:
    """Both renditions of one run; what comes, comes at once in a moment that the test sets."""

    def __init__(self, material: dict[str, Track], monkeypatch: pytest.MonkeyPatch) -> None:
        self.windows, self.feeds = dict[str, Window](), dict[str, Feed]()
        writers: dict[str, RenditionWriter] = {}
        self._material, self._now = material, Instant(0.0, float(NUMBER))
        monkeypatch.setattr(Instant, "now", lambda: self._now)
        second = Fraction(1)
        numbers, clock = SequenceNumbers(), WallClock()
        start = self.start = RunStart(second, Fraction(NUMBER))
        for name, track in material.items():
            self.windows[name] = Window(WindowOptions(1, NUMBER))
            (make_segmenter,) = segmenter_factories(cadence(Fraction(30), 1.0, 0.25), Fraction(NUMBER), 1)
            writer = writers[name] = writer_of(self.windows[name], name)
            timed_metadata = TimedMetadata([name], 1)
            run = RunContext(clock, start, second, numbers, timed_metadata, lambda _: None)
            self.feeds[name] = Feed(run, writer, make_segmenter)
            self.feeds[name].receive_data(track.init.data, self._now)
        self.aligned = AlignedWindows(list(writers.values()))
        self.run = EncoderRun(Source(), list(self.feeds.values()), start, self.aligned, asyncio.Event())

    def come(self, seconds: range, moment: float) -> None:
        """Let these seconds of media come at a moment."""
        self._now = Instant(moment, NUMBER + moment)
        for second, (name, track) in itertools.product(seconds, self._material.items()):
            timescale = track.init.tracks[0].timescale
            for fragment in track.fragments:
                if fragment.base_media_decode_time // timescale == NUMBER + second:
                    self.feeds[name].receive_data(written(fragment), self._now)

    def stand_still_behind(self, seconds: int) -> None:
        """Let so many come in time and then none, so that two gaps stand for what lacks."""
        self.come(range(seconds), float(seconds))
        self.run.suspend()
        for _ in range(2):
            self.aligned.fill(Fraction(1))

    def listed(self) -> list[tuple[int, int | None, bool]]:
        """Give each segment's number, second of media (None: a gap) and discontinuity, in all the same."""
        found = [
            [(one.number - NUMBER, self._second(name, one), one.discontinuity) for one in window.listed]
            for name, window in self.windows.items()
        ]
        shortest = min(map(len, found))
        assert all(one[:shortest] == found[0][:shortest] for one in found)
        return found[0][:shortest]

    def _second(self, name: str, segment: LiveSegment) -> int | None:
        if segment.gap:
            return None
        time, timescale = parse_time(self._material[name].init.data, bytes(segment.parts[0].data))
        return time // timescale - NUMBER


@pytest.mark.clause("RFC 8216bis §6.2.2")
def test_what_comes_before_its_numbers_time_is_left_out_by_all_renditions_and_the_encoder_goes_on(
    material: dict[str, Track], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number means one segment for ever, so none is used ahead of the clock."""
    burst = Burst(material, monkeypatch)
    burst.come(range(5), 2.0)
    burst.come(range(5, 9), 6.0)
    assert burst.listed()[:4] == [(0, 0, False), (1, 1, False), (2, 2, False), (3, 5, True)]


@pytest.mark.clause("RFC 8216bis §6.2.2")
@pytest.mark.parametrize(("began", "first"), [(None, 0), (-0.4, 0), (-1.0, 1), (-2.0, 2), (-2.4, 2)])
def test_what_was_kept_from_before_its_numbers_time_is_left_out_in_front_and_nothing_behind_it(
    material: dict[str, Track], monkeypatch: pytest.MonkeyPatch, began: float | None, first: int
) -> None:
    burst = Burst(material, monkeypatch)
    burst.start.began = began
    kept = math.floor(-(began or 0.0))
    burst.come(range(kept), 0.0)
    for second in range(kept, 6):
        burst.come(range(second, second + 1), second + 1 + (began or 0.0))
    assert burst.listed()[:3] == [(index, first + index, False) for index in range(3)]


def test_what_an_encoder_makes_up_for_behind_a_standstill_is_dropped_where_gaps_stand_for_it(
    material: dict[str, Track], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then numbers and media times go on as they were: players of DASH count by them (§5.3.9.5.3)."""
    burst = Burst(material, monkeypatch)
    burst.stand_still_behind(3)
    burst.come(range(3, 9), 8.0)
    assert burst.listed()[2:7] == [
        (2, 2, False),
        (3, None, False),
        (4, None, False),
        (5, 5, True),
        (6, 6, False),
    ]


def test_a_source_that_stood_still_itself_loses_no_more_than_one_segment_more(
    material: dict[str, Track], monkeypatch: pytest.MonkeyPatch
) -> None:
    burst = Burst(material, monkeypatch)
    burst.stand_still_behind(3)
    for second in range(3, 8):
        burst.come(range(second, second + 1), second + 3.0)
    assert burst.listed()[4:7] == [(4, None, False), (5, 4, True), (6, 5, False)]


def test_one_look_finds_most_parts_and_hardly_later(material: dict[str, Track]) -> None:
    for name in ("240p", "audio"):
        at_once, rested = (Reading(material[name], name, capacity=size) for size in (0, PIPE_BYTES))
        assert len(at_once.reads) == len(material[name].fragments)
        delays = [late - soon for soon, late in zip(at_once.published, rested.published, strict=True)]
        assert min(delays) >= 0
        assert max(delays) < LATEST_SECONDS + PART_LOOK_SHIFT_SECONDS
        assert sum(delays) / len(delays) < LATEST_SECONDS / 2
        # Behind the time in which it is found out when parts come, a few of the looks are in vain.
        settled = 2 * LiveLimits().clock_bucket_seconds
        parts, reads = (sum(moment > settled for moment in of) for of in (rested.published, rested.reads))
        assert parts > 50
        assert reads < 1.5 * parts


def test_a_look_that_comes_in_vain_moves_the_next_ones_back_and_others_move_them_forward(
    material: dict[str, Track], monkeypatch: pytest.MonkeyPatch
) -> None:
    burst = Burst(material, monkeypatch)
    feed, most, looks = next(iter(burst.feeds.values())), PART_LOOK_SHIFT_SECONDS, 700
    burst.come(range(1), 1.0)
    # An encoder that was just started catches up.
    dues = [feed.due]
    burst.come(range(1, 2), 20.0)
    dues.append(feed.due)
    for whole in (False, True):
        for _ in range(looks):
            feed.looked(whole=whole)
            dues.append(feed.due)
    assert dues[0] is None
    known = [due for due in dues if due is not None]
    moved = [due - known[0] for due in known]
    assert len(moved) == 1 + 2 * looks
    assert moved[: looks + 1] == sorted(moved[: looks + 1])
    assert moved[looks:] == sorted(moved[looks:], reverse=True)
    assert (moved[looks], moved[-1]) == pytest.approx((most, -most))
