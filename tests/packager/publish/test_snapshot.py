"""A snapshot and the entries behind it give the same stream as a log from its beginning."""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction

from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from packager.publish.live_stream import FoldedLog, LiveStream
from packager.window.cadence import cadence
from packager.window.log import CadenceEntry, RenditionFormat, RestoredEntry
from packager.window.log_encoding import encode
from packager.window.model import LiveSegment, StoredSegment, Timeline
from packager.window.snapshot import HeldSegmentsEntry
from tests.origin.live.served_log import NoCommands
from tests.packager.made_channel import ACTS, ENTRIES, INITS, NUMBER, Maker, begin_late, follow, same

USUAL = ["segment"] * 12 + ["parts"] * 2
ACTION = st.sampled_from((*ACTS, *["segment"] * 4, "retire", "forget", "day"))


@settings(max_examples=60, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(st.lists(ACTION, max_size=60), st.integers(0, 60), st.booleans(), st.booleans())
@example([*USUAL, "begin", "segment", "range", "range ends", *USUAL, "gap", *USUAL], 30, True, False)
@example(["segment", "one part", "begin", "segment", *USUAL, "break", *USUAL], 4, False, True)
@example([*USUAL, "captions", "segment", "captions", *USUAL], 18, False, False)
@example(["begin", "begin", "parts"], 1, False, False)
def test_who_comes_late_serves_what_who_was_there_from_the_beginning_serves(
    acts: list[str], cut: int, dvr: bool, ends: bool
) -> None:
    maker = Maker(dvr=dvr)
    for act in acts[:cut]:
        maker.act(act)
    late = begin_late(maker)
    same(maker, late)
    maker.followers.append(late)
    for act in [*acts[cut:], *["end"] * ends]:
        maker.act(act)
    same(maker, late)
    same(maker, begin_late(maker))


@settings(max_examples=40, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(st.lists(ACTION, max_size=40), st.integers(0, 40), st.booleans(), st.integers(0, 5), st.booleans())
@example([*USUAL, "one part", "segment", "parts", "begin", *USUAL], 15, False, 2, False)
@example([*USUAL, "one part", "stored", "segment", "full", *USUAL, "stored"], 13, True, 1, True)
def test_who_has_the_bytes_later_serves_the_same_whatever_comes_in_between(
    acts: list[str], cut: int, dvr: bool, pace: int, again: bool
) -> None:
    maker = Maker(dvr=dvr)
    for act in acts[:cut]:
        maker.act(act)
    late, media = maker.follower(), maker.folded.media()
    for entry in maker.folded.snapshot(has_media=False):
        follow(late, entry)
    maker.followers.append(late)
    for act in acts[cut:]:
        maker.act(act)
        for _ in range(pace):
            if media:
                follow(late, media.pop(0))
        if again:
            # A process that follows the one which awaits them is told which these are.
            further = maker.follower()
            for entry in late.snapshot() if late.begun_with else ():
                follow(further, entry)
            maker.followers[2:] = [further]
    for entry in media:
        for stream in maker.followers[1:]:
            follow(stream, entry)
    assert not late.awaits_media
    for stream in maker.followers[1:]:
        same(maker, stream)


def test_who_lost_some_entries_goes_on_with_a_snapshot_and_keeps_the_playlists_that_are_asked_for() -> None:
    maker = Maker(dvr=False)
    other = begin_late(maker)
    maker.act("segment")
    presentation, windows = other.presentation, [one.window for one in other.renditions.values()]
    assert begin_late(maker, other).ready
    assert other.presentation is presentation
    assert [one.window for one in other.renditions.values()] == windows
    same(maker, other)


def test_another_cadence_than_before_gives_other_windows() -> None:
    maker, later = Maker(dvr=False), Maker(dvr=True)
    other = begin_late(maker)
    waiters = other.renditions["240p"].window.waiters
    begin_late(later, other)
    assert waiters.closed
    same(later, other)


def test_nothing_of_a_snapshot_is_served_before_all_of_it_is_there() -> None:
    maker = Maker(dvr=False)
    other = begin_late(maker)
    for act in USUAL:
        maker.act(act)
    *entries, end = maker.folded.snapshot()
    for entry in entries:
        follow(other, entry)
    assert not other.ready
    assert not other.renditions["240p"].window.listed
    follow(other, end)
    same(maker, other)


DAY = 86_400 // 2


def day() -> tuple[FoldedLog, list[LiveSegment]]:
    timeline = Timeline(NUMBER, INITS[0], ENTRIES["240p"])
    stored = StoredSegment.of((1000,) * 6, (1, 2))
    segments = [
        LiveSegment(NUMBER + index, timeline, (2 * (NUMBER + index), 1), duration=Fraction(2), stored=stored)
        for index in range(DAY)
    ]
    times = cadence(Fraction(24), 2.0, 0.333)
    formats = (RenditionFormat("240p", True, 1000, folder="/data"),)
    folded = FoldedLog(CadenceEntry(times, formats, NUMBER, dvr_window=86_400.0))
    folded.fold(RestoredEntry("240p", tuple(segments), NUMBER + DAY, 0))
    return folded, segments


def cost(step: Callable[[], object]) -> float:
    begin = time.thread_time()
    step()
    return time.thread_time() - begin


def test_a_snapshot_of_a_day_comes_in_pieces_that_hold_nobody_up() -> None:
    folded, segments = day()
    entries = folded.snapshot()
    stream, encoded, costs = LiveStream("test", NoCommands()), [0], list[float]()
    for entry in entries:
        if isinstance(entry, HeldSegmentsEntry):
            assert len(entry.segments) <= 128
        data = encode(entry)
        encoded.append(len(data))
        costs.append(cost(lambda entry=entry: follow(stream, entry)))  # type: ignore[misc]
    assert [one.number for one in stream.renditions["240p"].window.listed] == [one.number for one in segments]
    assert max(encoded) < 64 << 10
    # A hundred of them take some milliseconds each; the garbage collector may come in between.
    assert sorted(costs)[len(costs) * 99 // 100] < 0.05
    assert stream.presentation.media("240p") == folded.presentation.media("240p")
