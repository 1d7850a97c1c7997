"""packager.live.restarts: when a source that ended is played again, what of it is told; what a success is."""

from __future__ import annotations

from fractions import Fraction

from structlog.testing import capture_logs

from media.mp4.codecs.sample_entry import SampleEntry
from packager.live.limits import ENCODER_RETRY
from packager.live.restarts import Backoff
from packager.window.aligned_windows import AlignedWindows
from packager.window.model import LivePart, WindowOptions
from packager.window.window import Window
from tests.packager.writers import writer_of

ENTRY = SampleEntry(b"avc1", "avc1.42c01e", b"", (), width=640, height=360)


def test_a_source_that_stays_away_is_told_a_few_times_and_its_return_once() -> None:
    backoff = Backoff("test")
    with capture_logs() as logs:
        pauses = [backoff.ended("gone", 1.0, published=False) for _ in range(60)]
        backoff.ended("killed", ENCODER_RETRY.steady_seconds, published=True)
    assert [line["event"] for line in logs] == [
        *["source ended"] * ENCODER_RETRY.quiet_after,
        "source was back",
        "source ended",
    ]
    assert logs[ENCODER_RETRY.quiet_after]["failures"] == 60
    assert pauses[1] == 2 * pauses[0]
    assert pauses[-1] == ENCODER_RETRY.longest_seconds


def test_gaps_that_stand_for_a_source_are_no_success_of_it() -> None:
    windows = [Window(WindowOptions(1, 100)) for _ in range(2)]
    aligned = AlignedWindows([writer_of(window) for window in windows])
    for window in windows:
        window.begin(b"init", ENTRY)
        window.append(LivePart(b"part", Fraction(1), True), Fraction(1000), ends_segment=True)
    for _ in range(5):
        aligned.fill(Fraction(1))
    assert aligned.next_number == 106
    assert aligned.has_media_since(100)
    assert not aligned.has_media_since(101)
    windows[1].append(LivePart(b"part", Fraction(1), True), Fraction(1006), ends_segment=True)
    assert aligned.has_media_since(106)
