"""Fragmented MP4 and Matroska on their way to a decoder: nothing is lost, and who joins late can follow."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.errors import MediaError, UnsupportedError
from media.matroska.stream_reader import MatroskaStreamReader
from media.mp4.fragments.stream_reader import FragmentedStreamReader
from media.stream_reader import CLOCK_RATE, StreamChunk, StreamReader
from packager.sources.gop_cache import GopCache

SECONDS = 4
CODING = "-c:v libx264 -preset ultrafast -g 25 -pix_fmt yuv420p -c:a aac"
FORMS = {
    "Matroska": ("matroska", ""),
    "WebM": ("webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -c:a libopus"),
    "Matroska with B-frames and long clusters": ("matroska", "-bf 2 -cluster_time_limit 30000"),
    "MP4 with offsets from its beginning": ("mp4", "-movflags frag_keyframe+empty_moov"),
    "MP4 of small fragments": ("mp4", "-movflags empty_moov+default_base_moof -frag_duration 200000"),
    "CMAF of long fragments": ("mp4", "-bf 2 -movflags cmaf+empty_moov -frag_duration 3000000"),
}
"""ffmpeg's name of the container, and its options."""

JOINABLE = [form for form in FORMS if "offsets" not in form]
"""Where one stream may stand behind another: offsets from the beginning then mean another place."""

Made = Callable[..., bytes]


@pytest.fixture(scope="module")
def made() -> Made:
    """Make a stream of a form, with a key frame each second; the same once."""
    known: dict[tuple[str, str, str], bytes] = {}

    def make(form: str, size: str = "160x120", more: str = "") -> bytes:
        if (form, size, more) not in known:
            container, options = FORMS[form]
            source = f"-f lavfi -i testsrc2=size={size}:rate=25 -f lavfi -i sine=440"
            coding = f"-t {SECONDS} {CODING} {options} {more}"
            line = f"ffmpeg -v error {source} {coding} -f {container} pipe:1"
            known[form, size, more] = subprocess.run(line.split(), capture_output=True, check=True).stdout
        return known[form, size, more]

    return make


def reader_of(form: str) -> StreamReader:
    return FragmentedStreamReader() if FORMS[form][0] == "mp4" else MatroskaStreamReader()


def read(form: str, data: bytes, step: int = 1 << 20) -> list[StreamChunk]:
    reader, found = reader_of(form), list[StreamChunk]()
    for start in range(0, len(data), step):
        found += reader.receive_data(data[start : start + step])
    return found


def packets(form: str, data: bytes) -> list[str]:
    """List a stream's packets by ffprobe: of which stream, when, how long, key frame or not."""
    container = FORMS[form][0].replace("webm", "matroska")
    shown = "packet=stream_index,pts_time,dts_time,size,flags"
    line = f"ffprobe -v error -show_entries {shown} -of csv=p=0 -f {container} pipe:0"
    run = subprocess.run(line.split(), input=data, capture_output=True, check=True)
    assert run.stderr == b""
    return sorted(run.stdout.decode().split())


def pictures(form: str, data: bytes) -> set[tuple[str, ...]]:
    """Give when each picture is shown and its size; a decoder guesses the times of decoding in Matroska."""
    listed = [line.split(",")[:5] for line in packets(form, data)]
    return {(time, size, flags) for index, time, _, size, flags in listed if index == "0"}


@pytest.mark.parametrize("form", FORMS)
def test_a_decoder_gets_the_same_packets(made: Made, form: str) -> None:
    data = made(form)
    for step in (1 << 20, 313):
        found = read(form, data, step)
        assert packets(form, b"".join(one.data for one in found)) == packets(form, data)
        assert sum(one.access for one in found) == SECONDS
        assert not any(one.changes for one in found)
        assert (SECONDS - 1.1) * CLOCK_RATE < (found[-1].clock or 0) < SECONDS * CLOCK_RATE


@pytest.mark.parametrize("form", FORMS)
def test_a_decoder_that_joins_late_begins_with_the_newest_key_frame(made: Made, form: str) -> None:
    data, cache = made(form), GopCache()
    for one in read(form, data):
        cache.push(one)
    expected, found = pictures(form, data), pictures(form, b"".join(one.data for one in cache.beginning()))
    assert len(found) == 25
    assert found <= expected


@pytest.mark.parametrize("form", JOINABLE)
def test_another_size_and_a_jump_of_the_times_are_changes(made: Made, form: str) -> None:
    other = read(form, made(form) + made(form, "320x240"), 997)
    assert sum(one.changes for one in other) == 1
    cache = GopCache()
    for one in other:
        cache.push(one)
    assert pictures(form, b"".join(one.data for one in cache.beginning())) <= pictures(
        form, made(form, "320x240")
    )
    later = made(form, more="-output_ts_offset 900")
    jumped = read(form, made(form) + later, 997)
    assert sum(one.changes for one in jumped) == 1


@pytest.mark.parametrize("form", JOINABLE)
def test_a_stream_that_is_repeated_goes_back_and_is_another_one(made: Made, form: str) -> None:
    found = read(form, made(form) + made(form))
    assert sum(one.changes for one in found) == 1


def test_a_fragment_that_is_repeated_begins_another_stream(made: Made) -> None:
    """Decoders don't like times that go back, and ffmpeg smooths them."""
    data = made("CMAF of long fragments")
    second = data.index(b"moof", data.index(b"moof") + 4) - 4
    found = read("CMAF of long fragments", data + data[second:])
    assert sum(one.changes for one in found) == 1


def test_an_mp4_that_is_not_fragmented_is_refused_with_that_reason(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    source = "-f lavfi -i testsrc2=size=160x120:rate=25 -t 1 -pix_fmt yuv420p -movflags faststart"
    subprocess.run(["ffmpeg", "-v", "error", *source.split(), str(path)], check=True)
    with pytest.raises(UnsupportedError, match="isn't fragmented"):
        FragmentedStreamReader().receive_data(path.read_bytes())


@pytest.mark.parametrize("form", ["Matroska", "MP4 of small fragments"])
@settings(max_examples=150, deadline=None)
@given(cut=st.tuples(st.integers(0, 30_000), st.integers(0, 200)), damage=st.binary(max_size=40))
def test_damage_is_refused_or_passed_over_whole_or_byte_by_byte(
    made: Made, form: str, cut: tuple[int, int], damage: bytes
) -> None:
    data = made(form)[:30_000]
    data = data[: cut[0]] + damage + data[cut[0] + cut[1] :]

    def told(step: int) -> bytes:
        reader, found = reader_of(form), b""
        with contextlib.suppress(MediaError):
            for start in range(0, len(data), step):
                found += b"".join(one.data for one in reader.receive_data(data[start : start + step]))
        return found

    # What is found in front of the error in the same bytes isn't given when they come whole.
    assert told(701).startswith(told(len(data)))
