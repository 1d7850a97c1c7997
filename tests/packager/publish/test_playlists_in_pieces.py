"""Playlists and manifests of long windows, kept in pieces: the same bytes as those made from scratch."""

from __future__ import annotations

import gzip
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.hls.date_range import DateRange
from media.hls.media_playlist import RenditionReport
from media.hls.precompressed_text import FilledText, SharedText, rendered, size_of
from origin.answers import gzip_cache
from packager.publish import hls_line_cache
from packager.publish.dash import LiveManifest
from packager.publish.hls import Presentation, media_playlist
from packager.window.limits import PublishLimits
from packager.window.model import LivePart, WindowOptions
from packager.window.rendition import Rendition
from packager.window.window import Window
from tests.packager.publish.aired_periods import LONG_AFTER, NUMBER, Air
from tests.packager.publish.published_windows import CADENCE, SOUND, VIDEO, publish

BLOCK = PublishLimits().block_segments
SUFFIX = "?token=a%22b.m4s"

Step = tuple[str, int]

EVENTS = ["begin", "gap", "interrupt", "retire", "forget", "skip", "ask", "range"]

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
    elif kind == "forget":
        window.forget()
    elif kind == "range":
        tag = DateRange(
            f"{presentation.date_ranges.version}", Fraction(100 + window.next_number), duration=Fraction(3)
        )
        presentation.date_ranges.add(tag, 0.0)


def windows(kept: float) -> dict[str, Rendition]:
    renditions = {
        "720p": Rendition("720p", Window(WindowOptions(2, 50, kept)), video=True, bitrate=2_800_000),
        "audio": Rendition("audio", Window(WindowOptions(2, 50, kept)), video=False, bitrate=128_000),
    }
    renditions["720p"].window.begin(b"init", VIDEO)
    renditions["audio"].window.begin(b"init", SOUND)
    return renditions


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, block=st.sampled_from([1, 2, 3, 8]), kept=st.sampled_from([0, 40, 400]))
def test_what_is_kept_gives_the_playlist_that_is_made_from_scratch(
    steps: list[Step], block: int, kept: float
) -> None:
    renditions = windows(kept)
    presentation = Presentation(renditions, CADENCE, PublishLimits(block_segments=block))
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
                assert b"".join(rendered(pieces)).decode() == scratch
                assert gzip.decompress(gzip_cache.gzip(pieces)).decode() == scratch


@settings(max_examples=20, deadline=None)
@given(
    runs=st.lists(
        st.tuples(st.integers(1, 60), st.integers(-9, 9), st.integers(0, 3)), min_size=1, max_size=30
    ),
    kept=st.sampled_from([0.0, 30.0, 300.0]),
    block=st.sampled_from([2, 3, 64]),
)
def test_what_is_kept_gives_the_manifest_that_is_made_from_scratch(
    runs: list[tuple[int, int, int]], kept: float, block: int
) -> None:
    air = Air(kept)
    air.manifest = LiveManifest(air.renditions, air.manifest._cadence, block)
    for pictures, sounds, late in runs:
        air.run(pictures, max(pictures + sounds, 1), Fraction(late))
        if pictures % 2:
            air.manifest.keep_up()
        for suffix in ("", "?token=a%26b&c=d"):
            followed = LiveManifest(air.renditions, air.manifest._cadence)
            followed._tracker = air.manifest._tracker
            kept_text = air.manifest.render(suffix, NUMBER)
            over, followed._tracker._over = followed._tracker._over, {}
            followed._published = air.manifest._published
            assert followed.render(suffix, NUMBER) == kept_text
            followed._tracker._over = over
            pieces = air.manifest.pieces(suffix, NUMBER)
            assert size_of(pieces) == len(kept_text)
            assert gzip.decompress(gzip_cache.gzip(pieces)) == kept_text
    air.aligned.end()
    for now in (NUMBER, LONG_AFTER):
        for _ in air.manifest.written_in_steps(now):
            pass
        kept_text = air.manifest.render("", now)
        scratch = LiveManifest(air.renditions, air.manifest._cadence)
        scratch._tracker = air.manifest._tracker
        scratch._tracker._over = {}
        assert scratch.render("", now) == kept_text


def long_window(segments: int) -> Window:
    """A window that is full, and slides."""
    window = Window(WindowOptions(2, 0, dvr_window=2 * segments))
    window.begin(b"init", VIDEO)
    part = LivePart(b"x", Fraction(2), True)
    for number in range(segments + 400):
        window.append(part, Fraction(2 * number), ends_segment=True)
    return window


@pytest.mark.parametrize("segments", [3600, 14_400])
def test_a_new_part_costs_the_same_however_long_the_window_is(
    segments: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in lines that are written and bytes that are compressed."""
    window = long_window(segments)
    presentation = Presentation({"720p": Rendition("720p", window, video=True, bitrate=1)}, CADENCE)
    window.on_listed()
    said: list[Any] = []
    compressed: list[int] = []
    lines, make = hls_line_cache.playlist_segment, SharedText.of

    def listing(*details: Any, **more: Any) -> Any:
        said.append(details)
        return lines(*details, **more)

    def making(text: bytes) -> SharedText:
        compressed.append(len(text))
        return make(text)

    monkeypatch.setattr(hls_line_cache, "playlist_segment", listing)
    monkeypatch.setattr(SharedText, "of", making)
    part = LivePart(b"x", Fraction(2), True)
    most = 0
    for _ in range(2 * BLOCK):
        said.clear()
        window.append(part, Fraction(2 * window.next_number), ends_segment=True)
        pieces = presentation.media_pieces("720p")
        own = sum(len(piece) for piece in pieces if not isinstance(piece, SharedText))
        # The lines before the first whole block and behind the last.
        assert own < 3 * BLOCK * 110
        most = max(most, len(said))
    # Now and then the oldest block is taken apart; else they are the new segment's, and the oldest one's.
    assert most <= BLOCK + 10
    assert len(compressed) == 2
    # With another suffix nothing is written anew but the first line and the latest ones.
    said.clear()
    compressed.clear()
    assert size_of(presentation.media_pieces("720p", suffix="?token=x")) > 70 * segments
    assert len(said) < 20
    assert not compressed


@pytest.mark.parametrize("segments", [3600, 14_400])
def test_a_token_costs_a_bounded_step_however_long_it_and_the_window_are(
    segments: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lines are made when they are sent, a piece at a time; counted in bytes."""
    window = long_window(segments)
    presentation = Presentation({"720p": Rendition("720p", window, video=True, bitrate=1)}, CADENCE)
    window.on_listed()
    plain = b"".join(rendered(presentation.media_pieces("720p")))
    suffix = f"?token={'x' * 2048}"
    made: list[int] = []
    render = FilledText.render

    def rendering(text: FilledText) -> bytes:
        made.append(1)
        return render(text)

    monkeypatch.setattr(FilledText, "render", rendering)
    pieces = presentation.media_pieces("720p", suffix=suffix)
    tag, others_tag = gzip_cache.tag(pieces), gzip_cache.tag(presentation.media_pieces("720p"))
    assert tag != others_tag
    assert not gzip_cache.is_quick(pieces)
    assert not made
    own = sum(len(piece) for piece in pieces if isinstance(piece, bytes))
    assert own < 4 * BLOCK * (110 + len(suffix))
    assert presentation._rendered_bytes < own + 200 * segments / BLOCK
    assert max(size_of((piece,)) for piece in pieces) < 2 * BLOCK * (110 + len(suffix))
    whole = b"".join(rendered(pieces))
    assert len(whole) == size_of(pieces) > 2048 * segments
    assert whole.replace(suffix.encode(), b"") == plain


def test_what_nobody_asks_for_is_ready_when_somebody_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel without viewers for a day has its lines when the first one comes."""
    window = Window(WindowOptions(2, 0, dvr_window=20_000))
    presentation = Presentation({"720p": Rendition("720p", window, video=True, bitrate=1)}, CADENCE)
    window.begin(b"init", VIDEO)
    part = LivePart(b"x", Fraction(2), True)
    for number in range(9000):
        window.append(part, Fraction(2 * number), ends_segment=True)
    said: list[Any] = []
    lines = hls_line_cache.playlist_segment

    def listing(*details: Any, **more: Any) -> Any:
        said.append(details)
        return lines(*details, **more)

    monkeypatch.setattr(hls_line_cache, "playlist_segment", listing)
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


def test_a_manifest_of_thousands_of_breaks_is_made_in_bounded_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a start with a DVR all periods are new; then few bytes are made in each segment."""
    air = Air(40_000)
    for _ in range(1500):
        air.run(10, 10)
    written: list[int] = []
    period = LiveManifest._period

    def writing(manifest: LiveManifest, span: Any) -> Any:
        written.append(span.stretch.number)
        return period(manifest, span)

    monkeypatch.setattr(LiveManifest, "_period", writing)
    steps = []
    for _ in air.manifest.written_in_steps(NUMBER):
        steps.append(len(written))
        written.clear()
    assert max(steps) < 20
    assert sum(steps) > 1300

    def filled(suffix: str) -> list[FilledText]:
        return [piece for piece in air.manifest.pieces(suffix, NUMBER) if isinstance(piece, FilledText)]

    first = filled("")
    assert len(written) < 60
    air.run(10, 10)
    second = filled(f"?token={'x' * 2048}")
    templates = [{id(piece.template) for piece in pieces} for pieces in (first, second)]
    new = [piece for piece in second if id(piece.template) not in templates[0]]
    assert len(new) < 4
    assert len(second) > 20
    assert max(len(piece.template.text) for piece in new) < 200 * 2500
    assert max(piece.size for piece in second) < 200 * (2500 + 6 * 2100)
