"""Tracks of live streams: what comes of them can be written, whatever times a publisher sends."""

from __future__ import annotations

import pytest

from media.errors import MalformedError
from media.matroska.sample_entries import codec_facts
from media.matroska.tracks import VIDEO, MatroskaTrack
from media.mp4.fragments.fragments import write_fragment
from media.mp4.fragments.moof import Sample
from media.mp4.fragments.track_fragmenter import FragmentTrack, begin_track

LONGEST = (1 << 32) - 1
"""ISO/IEC 14496-12 §8.8.8: the duration of a sample has 32 bits."""

RATE, FRAME = 90_000, 1920
"""Ticks of a second, and of a frame of 1024 samples at 48 kHz."""


@pytest.fixture
def track() -> FragmentTrack:
    facts = MatroskaTrack(1, VIDEO, "V_AV1", b"\x81\0\0\0", pixels=(16, 16))
    return begin_track(1, b"vide", 90_000, codec_facts(facts, b"", 0.0).sample_entry)


def test_a_sample_lasts_at_most_as_long_as_can_be_written(track: FragmentTrack) -> None:
    track.add_picture(-5, 0, b"a", is_sync=True)
    track.add_picture(LONGEST - 5, LONGEST, b"b", is_sync=True)
    fragment = track.pull()
    assert fragment is not None
    assert fragment.samples == (Sample(LONGEST, 1, is_sync=True, composition_offset=5),)
    assert write_fragment(
        sequence_number=1, track_id=1, base_media_decode_time=0, samples=fragment.samples, data=fragment.data
    )


def test_pictures_whose_times_jump_further_are_refused(track: FragmentTrack) -> None:
    track.add_picture(0, 0, b"a", is_sync=True)
    with pytest.raises(MalformedError, match="video times jump"):
        track.add_picture(LONGEST + 1, LONGEST + 1, b"b", is_sync=True)


def test_sound_whose_times_jump_further_is_refused(track: FragmentTrack) -> None:
    track.add_sound(0, 1024, b"a")
    with pytest.raises(MalformedError, match="audio times jump"):
        track.add_sound(LONGEST + 1, 1024, b"b")


def test_sound_that_lasts_longer_than_its_times_say_stays_beside_the_picture(track: FragmentTrack) -> None:
    # A film of 4 s in a loop, whose sound has 188 frames of 1024 samples: 10.7 ms too many each time.
    latest, ends = 0.0, 0
    for turn in range(200):
        for frame in range(188):
            track.add_sound(turn * 4 * RATE + frame * FRAME, FRAME, b"a")
        fragment = track.pull()
        assert fragment is not None
        assert fragment.base_media_decode_time >= ends
        ends = fragment.base_media_decode_time + sum(sample.duration for sample in fragment.samples)
        latest = max(latest, ends / RATE - 4 * (turn + 1))
    # ITU-R BT.1359-1 §3: sound may be 185 ms late before viewers mind.
    assert latest < 0.185
