"""What stands in for sound and pictures that don't come is bounded, whatever times a publisher sends."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from media.mp4.codecs.silence import USUAL_CHANNELS, USUAL_CONFIGURATION, USUAL_RATE
from media.mp4.fragments.fragments import Fragment
from media.mp4.fragments.moof import Sample
from media.muxers.fragment_tracks import sound_track
from packager.live.limits import LiveLimits
from packager.live.picture_output import PictureFeed
from packager.live.rendition_output import RunContext, RunStart
from packager.live.sound_output import SoundFeed
from packager.live.timed_metadata import TimedMetadata
from packager.segment.keyframe_segmenter import segmenter_factories
from packager.segment.part_packer import CadenceError
from packager.window.cadence import cadence
from packager.window.model import WindowOptions
from packager.window.program_date_time import Instant, WallClock
from packager.window.sequence_numbers import SequenceNumbers
from packager.window.window import Window
from tests.conformance.handfed import NUMBER, Track
from tests.packager.writers import writer_of

TIMES = cadence(Fraction(30), 1.0, 0.25)
GAP_SECONDS = 20
"""Less than a jump of the clock."""


def context(limits: LiveLimits) -> RunContext:
    second = Fraction(1)
    metadata = TimedMetadata(["a"], 1)
    run = RunContext(WallClock(), RunStart(second), second, SequenceNumbers(), metadata, lambda _: None)
    return replace(run, limits=limits)


def test_a_fragment_whose_frames_each_have_a_gap_behind_them_ends_the_run() -> None:
    (make_segmenter,) = segmenter_factories(TIMES, Fraction(NUMBER), 1)
    writer, now = writer_of(Window(WindowOptions(1, NUMBER)), "audio"), Instant(0.0, float(NUMBER))
    limits = LiveLimits()
    feed = SoundFeed(context(LiveLimits()), writer, make_segmenter, limits=limits, on_silence=lambda _: None)
    track = sound_track("A_AAC", USUAL_CONFIGURATION, b"", USUAL_RATE, USUAL_CHANNELS)
    feed.begin(track.init)
    frames = (Sample(GAP_SECONDS * USUAL_RATE, 1, True, 0),) * 10_000
    with pytest.raises(CadenceError, match="jumps"):
        feed.add(Fragment(track.track_id, 0, NUMBER * USUAL_RATE, frames, bytes(10_000)), now)


def test_a_large_key_frame_is_not_repeated_beyond_a_bound(material: dict[str, Track]) -> None:
    (make_segmenter,) = segmenter_factories(TIMES, Fraction(NUMBER), 1)
    name, track = next((name, one) for name, one in material.items() if "audio" not in name)
    limits = LiveLimits(still_picture_bytes=1000, picture_patience_seconds=0)
    writer, now = writer_of(Window(WindowOptions(1, NUMBER)), name), Instant(0.0, float(NUMBER))
    grid = (Fraction(NUMBER), TIMES)
    feed = PictureFeed(context(limits), writer, make_segmenter, grid=grid, on_still=lambda _: None)
    feed.receive_data(track.init.data, now)
    first = track.fragments[0]
    feed.add(first, now)
    later = Instant(10.0, NUMBER + 10.0)
    feed.stand_in(NUMBER + 10.0, now)
    with pytest.raises(CadenceError, match="large"):
        feed.stand_in(NUMBER + 10.0, later)


def test_a_key_frame_behind_a_pause_shows_again_though_it_is_decoded_before_its_end(
    material: dict[str, Track],
) -> None:
    """x264 decodes the pictures behind a pause earlier than they are shown, by as long as it lasted."""
    (make_segmenter,) = segmenter_factories(TIMES, Fraction(NUMBER), 1)
    name, track = next((name, one) for name, one in material.items() if "audio" not in name)
    limits = LiveLimits(picture_patience_seconds=0, encoded_patience_seconds=0)
    stills = list[bool]()
    writer, now = writer_of(Window(WindowOptions(1, NUMBER)), name), Instant(0.0, float(NUMBER))
    grid = (Fraction(NUMBER), TIMES)
    feed = PictureFeed(context(limits), writer, make_segmenter, grid=grid, on_still=stills.append)
    feed.receive_data(track.init.data, now)
    first = track.fragments[0]
    feed.add(first, now)
    for moment in (5.0, 10.0):
        feed.stand_in(NUMBER + 5.0, Instant(moment, NUMBER + moment))
    assert stills == [True]
    decoded = first.base_media_decode_time + sum(one.duration for one in first.samples)
    scale = track.init.tracks[0].timescale
    pause = (NUMBER + 6) * scale - decoded
    frame = scale // 30
    returned = tuple(
        one._replace(
            duration=pause if number == 1 else frame, composition_offset=pause if number < 2 else 2 * frame
        )
        for number, one in enumerate(first.samples)
    )
    feed.add(first._replace(base_media_decode_time=decoded, samples=returned), Instant(11.0, NUMBER + 11.0))
    assert stills == [True, False]
