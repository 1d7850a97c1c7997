"""Playlists and manifests of long windows, kept in pieces: the same bytes as those made from scratch."""

from __future__ import annotations

import gzip
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.hls.date_range import DateRange
from media.hls.lasting_text import LastingText
from media.hls.media_playlist import RenditionReport
from origin.http import content_coding
from packager.publish import hls_history
from packager.publish.dash import LiveManifest
from packager.publish.hls import Presentation, media_playlist
from packager.window.model import LivePart
from packager.window.rendition import Rendition
from packager.window.window import Window
from tests.packager.publish.test_dash_periods import NUMBER, Air
from tests.packager.publish.test_hls import CADENCE, SOUND, VIDEO, publish

SUFFIX = "?token=a%22b.m4s"

Step = tuple[str, int]

EVENTS = ["begin", "gap", "interrupt", "retire", "shorten", "skip", "ask", "range"]

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 40)),
        st.tuples(
            st.sampled_from(EVENTS),
            st.just(1),
        ),
    ),
    max_size=60,
)


RUNS = st.tuples(st.integers(1, 60), st.integers(-9, 9), st.integers(0, 3))
"""Parts of pictures, how many more of sound, and seconds by which dates are late."""


def take(step: Step, window: Window, other: Window, presentation: Presentation) -> None:
    """Let something happen that happens to windows."""
    kind, count = step
    if kind == "publish":
        publish(window, count)
        publish(other, count)
    elif kind == "begin":
        window.begin(b"init%d" % window.next_number, VIDEO)
    elif kind == "gap" and other.listed:
        window.gap(other.listed[-1])
    elif kind == "interrupt":
        window.interrupt()
    elif kind == "retire":
        window.retire()
    elif kind == "shorten":
        window.shorten()
    elif kind == "range":
        tag = DateRange(
            f"{presentation.date_ranges.version}", Fraction(100 + window.next_number), duration=Fraction(3)
        )
        presentation.date_ranges.add(tag, 0.0)


def windows(kept: float) -> dict[str, Rendition]:
    renditions = {
        "720p": Rendition("720p", Window(2, 50, kept), video=True, bitrate=2_800_000),
        "audio": Rendition("audio", Window(2, 50, kept), video=False, bitrate=128_000),
    }
    renditions["720p"].window.begin(b"init", VIDEO)
    renditions["audio"].window.begin(b"init", SOUND)
    return renditions


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, block=st.sampled_from([1, 2, 3, 8]), kept=st.sampled_from([0, 40, 400]))
def test_what_is_kept_gives_the_playlist_that_is_made_from_scratch(
    steps: list[Step], block: int, kept: float
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hls_history, "BLOCK", block)
        renditions = windows(kept)
        presentation = Presentation(renditions, CADENCE)
        window, other = renditions["720p"].window, renditions["audio"].window
        for step in [*steps, ("publish", 1)]:
            take(step, window, other, presentation)
            if step[0] == "skip":
                continue  # nobody asks in this state
            for skip in (False, True):
                for suffix in ("", SUFFIX):
                    pieces = presentation.media_pieces("720p", skip=skip, suffix=suffix)
                    last = other.last
                    report = None if last is None else RenditionReport(f"../audio/media.m3u8{suffix}", *last)
                    scratch = media_playlist(
                        window,
                        CADENCE,
                        () if report is None else (report,),
                        skip=skip,
                        suffix=suffix,
                        date_ranges=presentation.date_ranges,
                    ).render()
                    assert b"".join(pieces).decode() == scratch
                    assert gzip.decompress(content_coding.gzip(pieces)).decode() == scratch


@settings(max_examples=40, deadline=None)
@given(
    runs=st.lists(
        st.tuples(st.integers(1, 60), st.integers(-9, 9), st.integers(0, 3)), min_size=1, max_size=30
    ),
    kept=st.sampled_from([0.0, 30.0, 300.0]),
)
def test_what_is_kept_gives_the_manifest_that_is_made_from_scratch(
    runs: list[tuple[int, int, int]], kept: float
) -> None:
    air = Air(kept)
    for pictures, sounds, late in runs:
        air.run(pictures, max(pictures + sounds, 1), Fraction(late))
        for suffix in ("", "?token=a%26b&c=d"):
            followed = LiveManifest(air.renditions, air.manifest._cadence)
            followed._stretches = air.manifest._stretches
            kept_text = air.manifest.render(suffix, NUMBER)
            over, followed._stretches._over = followed._stretches._over, {}
            followed._published = air.manifest._published
            assert followed.render(suffix, NUMBER) == kept_text
            followed._stretches._over = over


def long_window(segments: int) -> Window:
    """A window that is full, and slides."""
    window = Window(2, 0, dvr_window=2 * segments)
    window.begin(b"init", VIDEO)
    part = LivePart(b"x", Fraction(2), True)
    for number in range(segments + 400):
        window.append(part, Fraction(2 * number), ends_segment=True)
    return window


@pytest.mark.parametrize("segments", [3600, 43_200])
def test_a_new_part_costs_the_same_however_long_the_window_is(
    segments: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in lines that are written and bytes that are compressed."""
    window = long_window(segments)
    presentation = Presentation({"720p": Rendition("720p", window, video=True, bitrate=1)}, CADENCE)
    window.on_listed()
    said: list[Any] = []
    compressed: list[int] = []
    lines, make = hls_history.listed, LastingText.of

    def listing(*details: Any, **more: Any) -> Any:
        said.append(details)
        return lines(*details, **more)

    def making(text: bytes) -> LastingText:
        compressed.append(len(text))
        return make(text)

    monkeypatch.setattr(hls_history, "listed", listing)
    monkeypatch.setattr(LastingText, "of", making)
    part = LivePart(b"x", Fraction(2), True)
    most = 0
    for _ in range(2 * hls_history.BLOCK):
        said.clear()
        window.append(part, Fraction(2 * window.next_number), ends_segment=True)
        pieces = presentation.media_pieces("720p")
        own = sum(len(piece) for piece in pieces if not isinstance(piece, LastingText))
        # The lines before the first whole block and behind the last.
        assert own < 3 * hls_history.BLOCK * 110
        most = max(most, len(said))
    # Now and then the oldest block is taken apart; else they are the new segment's, and the oldest one's.
    assert most <= hls_history.BLOCK + 10
    assert len(compressed) == 2
    # With another suffix nothing is written anew but the first line and the latest ones.
    said.clear()
    compressed.clear()
    assert len(b"".join(presentation.media_pieces("720p", suffix="?token=x"))) > 70 * segments
    assert len(said) < 20
    assert not compressed


def test_what_nobody_asks_for_is_ready_when_somebody_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel without viewers for a day has its lines when the first one comes."""
    window = Window(2, 0, dvr_window=20_000)
    presentation = Presentation({"720p": Rendition("720p", window, video=True, bitrate=1)}, CADENCE)
    window.begin(b"init", VIDEO)
    part = LivePart(b"x", Fraction(2), True)
    for number in range(9000):
        window.append(part, Fraction(2 * number), ends_segment=True)
    said: list[Any] = []
    lines = hls_history.listed

    def listing(*details: Any, **more: Any) -> Any:
        said.append(details)
        return lines(*details, **more)

    monkeypatch.setattr(hls_history, "listed", listing)
    presentation.media_pieces("720p")
    assert len(said) < 20


def test_a_manifest_of_many_breaks_writes_the_new_periods_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    air = Air(10_000)
    for _ in range(300):
        air.run(10, 10)
    assert air.root().findall("{urn:mpeg:dash:schema:mpd:2011}Period")
    written: list[int] = []
    period = LiveManifest._period

    def writing(manifest: LiveManifest, span: Any) -> Any:
        written.append(span.stretch.number)
        return period(manifest, span)

    monkeypatch.setattr(LiveManifest, "_period", writing)
    air.run(10, 10)
    air.root()
    assert len(written) < 20
