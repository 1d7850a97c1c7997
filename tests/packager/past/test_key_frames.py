"""Pictures of key frames, beside those that ffmpeg decodes of the whole."""

from __future__ import annotations

import asyncio
import json
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest
from msgspec.structs import replace

from media.errors import UnsupportedError
from media.mp4.codecs.sample_entry import parse_sample_entry
from media.mp4.fragments.fragments import Fragment, FragmentReader, InitSegment
from packager.live.snapshot import draw_snapshot
from packager.past.key_frames import MOST_GAPS, read_key_frame, segment_before
from packager.past.segment_samples import Read, first_sample
from packager.process.ffmpeg_discovery import Tools
from packager.window.model import LivePart, LiveSegment, StoredSegment, Timeline
from tests.patience import CLIENT_SECONDS

RATE = 10
ENCODERS = {
    "closed": "libx264 -preset ultrafast -g 10",
    "open": "libx264 -preset veryfast -g 10 -bf 2 -x264-params open-gop=1:scenecut=0:keyint=10:min-keyint=10",
    "hevc": "libx265 -preset veryfast -x265-params keyint=10:min-keyint=10:open-gop=1:log-level=none",
}


def encode(tools: Tools, folder: Path, encoder: str, part: int = 50_000) -> tuple[LiveSegment, bytes]:
    """Encode four seconds, whose first picture is shown at second 1000, as one segment of many parts."""
    path = folder / "film.mp4"
    words = f"-nostdin -v error -f lavfi -i testsrc2=size=320x180:rate={RATE}:duration=4 -c:v {encoder}"
    words += f" -pix_fmt yuv420p -f mp4 -frag_duration {part}"
    words += " -movflags +frag_keyframe+empty_moov+default_base_moof"
    command = [str(tools.ffmpeg), *words.split(), str(path)]
    subprocess.run(command, check=True, timeout=CLIENT_SECONDS)
    data = path.read_bytes()
    reader = FragmentReader()
    reader.receive_data(data)
    init, *fragments = reader.events()
    assert isinstance(init, InitSegment)
    starts = [at for at in range(len(data)) if data[at + 4 : at + 8] == b"moof"]
    end = data.rindex(b"mfra") - 4
    sizes = [after - before for before, after in zip(starts, [*starts[1:], end], strict=True)]
    assert len(sizes) == len([one for one in fragments if isinstance(one, Fragment)])
    timeline = Timeline(1, init.data, parse_sample_entry(init.tracks[0].sample_entries[0]))
    stored = StoredSegment.of(sizes, (0, 1))
    segment = LiveSegment(1, timeline, (1000, 1), duration=Fraction(4), stored=stored)
    return segment, data[starts[0] : end]


def reading(data: bytes) -> Read:
    return lambda at, length: data[at : at + length]


def luma(tools: Tools, path: Path, *words: str) -> bytes:
    command = [str(tools.ffmpeg), "-nostdin", "-v", "error", *words, "-i", str(path), "-frames:v", "1"]
    command += ["-vf", "scale=out_range=pc,format=gray", "-f", "rawvideo", "-"]
    return subprocess.run(command, check=True, capture_output=True, timeout=CLIENT_SECONDS).stdout


@pytest.mark.parametrize("kind", list(ENCODERS))
async def test_each_key_frame_is_drawn_alone(tools: Tools, tmp_path: Path, kind: str) -> None:
    segment, data = await asyncio.to_thread(encode, tools, tmp_path, ENCODERS[kind])
    for place, moment in enumerate((1000.4, 1001.7, 1002.05, 1003.9)):
        found = read_key_frame(reading(data), segment, Fraction(moment))
        assert (found.place, found.date) == (place, Fraction(1000 + place))
        jpeg = tmp_path / f"{place}.jpg"
        drawn = await draw_snapshot(tools, found.movie)
        await asyncio.to_thread(jpeg.write_bytes, drawn)
        ours = await asyncio.to_thread(luma, tools, jpeg)
        theirs = await asyncio.to_thread(luma, tools, tmp_path / "film.mp4", "-ss", f"{place}")
        difference = sum(abs(a - b) for a, b in zip(ours, theirs, strict=True)) / len(ours)
        assert difference < 3, f"the picture of second {place}, but for what JPEG loses"


@pytest.mark.parametrize("kind", list(ENCODERS))
def test_a_segment_up_to_the_end_of_its_first_key_frame_is_one_picture(
    tools: Tools, tmp_path: Path, kind: str
) -> None:
    segment, data = encode(tools, tmp_path, ENCODERS[kind], part=1_000_000)
    assert segment.timeline is not None
    assert segment.stored is not None
    size = segment.stored.part_sizes[0]
    part = LivePart(data[:size], Fraction(1), independent=True)
    end = first_sample(replace(segment, stored=None, parts=(part,))).key_frame_end
    assert 0 < end < size
    words = ["-v", "error", "-show_frames", "-show_entries", "frame=pict_type", "-of", "json", "-"]
    movie = segment.timeline.init + data[:end]
    seen = subprocess.run(
        [str(tools.ffprobe), *words], input=movie, check=True, capture_output=True, timeout=CLIENT_SECONDS
    )
    assert [one["pict_type"] for one in json.loads(seen.stdout)["frames"]] == ["I"]


def test_without_media_there_is_no_picture(tools: Tools, tmp_path: Path) -> None:
    segment, data = encode(tools, tmp_path, ENCODERS["closed"])
    nothing = LiveSegment(segment.number, None, segment.date_ratio, stored=segment.stored)
    with pytest.raises(UnsupportedError):
        read_key_frame(reading(data), nothing, Fraction(1001))


def test_gaps_are_passed_over_up_to_a_number() -> None:
    gap, segment = LiveSegment(2, None, (0, 1), gap=True), LiveSegment(1, None, (0, 1))
    assert segment_before([segment, *[gap] * 9], 10) is segment
    assert segment_before([segment, *[gap] * 9], 0) is None
    assert segment_before([segment, *[gap] * MOST_GAPS], MOST_GAPS + 1) is None
