"""Captions in movie fragments: the samples that ISO/IEC 14496-30 §7 asks for; tests/e2e has players."""

from __future__ import annotations

import pytest

from media.errors import MalformedError
from media.mp4.boxes import walk
from media.mp4.fragments.fragments import Fragment, FragmentReader, InitSegment
from media.mp4.text import wvtt
from media.subtitles import webvtt
from media.subtitles.webvtt import Cue


def samples(cues: list[Cue], start: int, end: int) -> list[tuple[int, list[tuple[bytes, bytes]]]]:
    """Duration of each sample in milliseconds, and its boxes with what is in them."""
    reader = FragmentReader()
    reader.receive_data(wvtt.INIT + wvtt.fragment(cues, start, end, 7))
    init, fragment = reader.events()
    assert isinstance(init, InitSegment)
    assert isinstance(fragment, Fragment)
    assert [(track.handler, track.timescale) for track in init.tracks] == [(b"text", 1000)]
    assert fragment.base_media_decode_time == start
    found, position = [], 0
    for sample in fragment.samples:
        data = bytes(fragment.data[position : position + sample.size])
        position += sample.size
        found.append((sample.duration, [(one.kind, data[one.payload : one.end]) for one in walk(data)]))
    return found


def payload(text: str, settings: str = "") -> bytes:
    """What is in the box of a cue (§7.4): its settings, then its text, each with a header of eight bytes."""
    boxes = [(b"sttg", settings.encode())] if settings else []
    boxes.append((b"payl", text.encode()))
    return b"".join((8 + len(data)).to_bytes(4, "big") + kind + data for kind, data in boxes)


def test_a_time_without_a_cue_is_a_sample_that_says_so() -> None:
    assert samples([], 5000, 7000) == [(2000, [(b"vtte", b"")])]


def test_a_sample_has_all_cues_of_its_time() -> None:
    first, second = Cue(4000, 6500, "é\nb", "align:start"), Cue(6000, 9000, "c")
    (one, two) = payload("é\nb", "align:start"), payload("c")
    assert samples([first, second], 5000, 8000) == [
        (1000, [(b"vttc", one)]),
        (500, [(b"vttc", one), (b"vttc", two)]),
        (1500, [(b"vttc", two)]),
    ]


def test_what_lies_outside_of_a_segment_is_in_another() -> None:
    assert samples([Cue(0, 5000, "before"), Cue(7000, 8000, "behind")], 5000, 7000) == [
        (2000, [(b"vtte", b"")])
    ]


@pytest.mark.parametrize("media_time", [86_400, 1_795_000_000, 95_443 * 7 + 80_000])
def test_a_segment_of_hls_is_read_at_its_media_time_however_often_timestamps_began_anew(
    media_time: int,
) -> None:
    origin = media_time - 50_000
    cue = Cue(50_000_500, 50_001_500, "word")
    data = webvtt.segment([cue], origin)
    assert wvtt.read_segment(data, 1000 * media_time) == [
        Cue(1000 * media_time + 500, 1000 * media_time + 1500, "word")
    ]


def test_another_file_is_refused() -> None:
    with pytest.raises(MalformedError):
        wvtt.read_segment(b"WEBVTT\n\n00:00.000 --> 00:01.000\na\n", 0)
