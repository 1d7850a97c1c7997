"""Streams on their way to a decoder: what it needs first, and what it can't follow, in MPEG-TS and FLV."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.errors import MalformedError, TooLargeError
from media.flv.demuxer import FlvDemuxer
from media.flv.stream_reader import FlvReader
from media.flv.tags import FILE_HEADER, ON_METADATA, SCRIPT, VIDEO, file_header
from media.muxers.flv_muxer import FlvMuxer
from media.stream_reader import StreamChunk, StreamReader
from media.ts.stream_reader import TransportReader
from media.ts.tables import PACKET
from packager.sources.gop_cache import GopCache
from packager.sources.limits import SourceLimits
from tests.media.flv.flv_tags import write_tag

SECONDS = 3


def made(path: Path, size: str, video: str = "libx264 -bf 2", rate: int = 48000) -> bytes:
    words = (
        f"-v error -f lavfi -i testsrc2=size={size}:rate=25 -f lavfi -i sine=sample_rate={rate} -t {SECONDS}"
    )
    words += f" -c:v {video} -g 25 -pix_fmt yuv420p -c:a aac {path}"
    subprocess.run(["ffmpeg", *words.split()], check=True)
    return path.read_bytes()


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("streams")
    hevc = "libx265 -preset ultrafast -x265-params log-level=none:keyint=25"
    return {
        "small.ts": made(folder / "small.ts", "160x120"),
        "large.ts": made(folder / "large.ts", "320x240"),
        "hevc.ts": made(folder / "hevc.ts", "160x120", hevc),
        "small.flv": made(folder / "small.flv", "160x120", rate=44100),
        "large.flv": made(folder / "large.flv", "320x240", rate=44100),
    }


def reader_of(name: str) -> StreamReader:
    return FlvReader() if name.endswith("flv") else TransportReader()


def read(name: str, data: bytes, step: int = 1 << 20) -> list[StreamChunk]:
    reader, found = reader_of(name), list[StreamChunk]()
    for start in range(0, len(data), step):
        found += reader.receive_data(data[start : start + step])
    return found


def written(chunks: Iterable[StreamChunk]) -> bytes:
    """Give a stream as an ffmpeg gets it that begins with these chunks."""
    chunks = list(chunks)
    if not any(one.packets for one in chunks):
        return b"".join(one.data for one in chunks)
    return FlvMuxer().push(packet for one in chunks for packet in one.packets)


def without_tables(data: bytes) -> bytes:
    """Leave out the PAT and the PMT of a transport stream by ffmpeg; anything else stays as it is."""
    if data[:1] != b"\x47":
        return data
    packets = (data[begin : begin + PACKET] for begin in range(0, len(data), PACKET))
    return b"".join(one for one in packets if (one[1] & 0x1F, one[2]) not in ((0, 0), (0x10, 0)))


def maps(data: bytes) -> set[bytes]:
    """Return the different sections of the PMT of a transport stream by ffmpeg, as they are."""
    packets = (data[begin : begin + PACKET] for begin in range(0, len(data), PACKET))
    return {one[5 : 8 + one[7]] for one in packets if one[:3] == b"\x47\x50\0"}


SEQUENCE_END = write_tag(VIDEO, 2960, b"\x17\2\0\0\0")
"""What ffmpeg writes at the end, and tells nothing: the last picture's decode time is 2.96 s."""


def facts(data: bytes, path: Path, entries: str) -> list[str]:
    path.write_bytes(data)
    command = ["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", entries, "-of", "csv=p=0"]
    listed = subprocess.run([*command, str(path)], check=True, capture_output=True, text=True).stdout
    return [line.strip(",") for line in listed.splitlines() if line.strip(",")]


@pytest.mark.parametrize("name", ["small.ts", "hevc.ts", "small.flv"])
def test_a_stream_comes_through_whole_and_its_key_frames_are_access_points(
    streams: dict[str, bytes], name: str, tmp_path: Path
) -> None:
    data = streams[name]
    for step in (1 << 20, 101):
        found = read(name, data, step)
        assert without_tables(written(found)) == without_tables(data.removesuffix(SEQUENCE_END))
        assert maps(written(found)) == maps(data)
        flags = facts(data, tmp_path / name, "packet=flags")
        assert sum(piece.access for piece in found) == sum("K" in line for line in flags) == SECONDS
        assert not any(piece.changes for piece in found)


@pytest.mark.parametrize(
    ("first", "second", "size"),
    [
        ("small.ts", "large.ts", "320,240"),
        ("large.ts", "small.ts", "160,120"),
        ("small.ts", "hevc.ts", "160,120"),
        ("small.flv", "large.flv", "320,240"),
    ],
    ids=["a larger picture", "a smaller picture", "another codec", "FLV's new sequence headers"],
)
def test_what_a_decoder_can_not_follow_is_told_and_a_new_one_begins_with_it(
    streams: dict[str, bytes], first: str, second: str, size: str, tmp_path: Path
) -> None:
    skipped = FILE_HEADER if second.endswith("flv") else 0
    found = read(first, streams[first] + streams[second][skipped:], 997)
    changes = [index for index, piece in enumerate(found) if piece.changes]
    assert changes
    before = written(found[: changes[0]])
    sizes = set(facts(before, tmp_path / first, "frame=width,height"))
    assert sizes == set(facts(streams[first], tmp_path / first, "stream=width,height"))
    cache = GopCache()
    for piece in found:
        cache.push(piece)
    codec = "hevc" if second.startswith("hevc") else "h264"
    said = facts(written(cache.beginning()), tmp_path / second, "stream=codec_name,width,height")
    assert set(said) == {f"{codec},{size}"}


@pytest.mark.parametrize("name", ["small.ts", "small.flv"])
def test_a_jump_of_the_times_is_a_change_at_the_next_key_frame(
    streams: dict[str, bytes], name: str, tmp_path: Path
) -> None:
    data = streams[name]
    ahead = {"small.ts": "-output_ts_offset 90000", "small.flv": "-output_ts_offset 900"}[name]
    path, later = tmp_path / name, tmp_path / f"later-{name}"
    path.write_bytes(data)
    words = f"-v error -i {path} -c copy {ahead} {later}"
    subprocess.run(["ffmpeg", *words.split()], check=True)
    for jump in (later.read_bytes(), data):  # forwards, and back again
        found = read(name, data + jump[FILE_HEADER if name.endswith("flv") else 0 :])
        changes = [index for index, piece in enumerate(found) if piece.changes]
        if jump == data and name.endswith("flv"):
            continue  # three seconds back are within what interleaving explains
        assert len(changes) == 1
        behind = written(found[changes[0] :])
        flags = facts(behind, tmp_path / f"behind-{name}", "packet=flags")
        assert "K" in flags[0]
        assert sum("K" in line for line in flags) == SECONDS


def test_sound_that_comes_late_is_a_change(streams: dict[str, bytes], tmp_path: Path) -> None:
    """In FLV; a transport stream lists it in its program map (``small.ts`` has one)."""
    data, kept, position = streams["small.flv"], bytearray(streams["small.flv"][:FILE_HEADER]), FILE_HEADER
    header = b""
    while position < len(data):
        size = int.from_bytes(data[position + 1 : position + 4], "big") + 15
        tag, position = data[position : position + size], position + size
        time = int.from_bytes(tag[7:8] + tag[4:7], "big")
        if tag[0] == 8 and tag[12] == 0:
            header = tag
        elif tag[0] == 8 and time < 1500:
            continue
        elif tag[0] == 8:
            kept += header + tag
            header = b""
        else:
            kept += tag
    found = read("small.flv", bytes(kept), 997)
    (change,) = [index for index, piece in enumerate(found) if piece.changes]
    cache = GopCache()
    for piece in found[change:]:
        cache.push(piece)
    (tmp_path / "late.flv").write_bytes(written(cache.beginning()))
    line = f"ffprobe -v error -show_entries stream=codec_type -of csv=p=0 {tmp_path / 'late.flv'}"
    told = subprocess.run(line.split(), check=True, capture_output=True, text=True).stdout.split()
    assert sorted(told) == ["audio", "video"]


def test_pictures_between_a_jump_of_flvs_time_and_the_next_key_frame_are_dropped() -> None:
    key, other = b"\x17\1\0\0\0ab", b"\x27\1\0\0\0cd"
    tags = [(0, b"\x17\0\0\0\0" + bytes(20)), (0, key), (40, other), (90_000, other), (90_040, key)]
    found = FlvReader().receive_data(file_header() + b"".join(write_tag(VIDEO, *tag) for tag in tags))
    (change,) = [index for index, piece in enumerate(found) if piece.changes]
    assert [piece.access for piece in found if piece.clock is not None] == [True, False, True]
    assert written(found[change + 1 :]).endswith(write_tag(VIDEO, 90_040, key))


@pytest.mark.clause("CWE-770")
@pytest.mark.parametrize("make", [FlvReader, FlvDemuxer])
def test_a_tag_of_flv_larger_than_it_may_be_is_refused_at_its_header(
    make: type[FlvReader | FlvDemuxer],
) -> None:
    reader = make(100)
    reader.receive_data(file_header() + write_tag(SCRIPT, 0, bytes(100)))
    with pytest.raises(TooLargeError):
        reader.receive_data(b"\x09" + (101).to_bytes(3, "big") + bytes(7))


def test_what_is_repeated_at_each_key_frame_leaves_the_headers_of_flv_as_they_are() -> None:
    """Encoders repeat their configuration, and metadata may change: a decoder that joins has the first."""
    reader, cache = FlvReader(), GopCache()
    for time in range(0, 40_000, 1000):
        repeated = write_tag(VIDEO, time, b"\x17\0\0\0\0avcC")
        metadata = write_tag(SCRIPT, 0, ON_METADATA + b"%d" % time + bytes(1 << 20))
        data = metadata + repeated + write_tag(VIDEO, time, b"\x17\1\0\0\0picture")
        for piece in reader.receive_data(data if time else file_header() + data):
            cache.push(piece)
    beginning = written(cache.beginning())
    assert beginning.startswith(file_header() + write_tag(SCRIPT, 0, ON_METADATA + b"0" + bytes(1 << 20)))
    assert b"avcC" in beginning
    assert len(beginning) < 4 << 20


@pytest.mark.clause("CWE-770")
def test_metadata_that_never_end_are_kept_no_longer_than_pictures() -> None:
    reader, cache = FlvReader(), GopCache(limits=SourceLimits(gop_bytes=8 << 20))
    key = write_tag(VIDEO, 0, b"\x17\0\0\0\0avcC") + write_tag(VIDEO, 0, b"\x17\1\0\0\0picture")
    for number in range(20):
        metadata = write_tag(SCRIPT, 0, ON_METADATA + b"%d" % number + bytes(1 << 20))
        for piece in reader.receive_data(metadata if number else file_header() + key + metadata):
            cache.push(piece)
    assert sum(len(written([one])) for one in cache.beginning()) < 9 << 20


@pytest.mark.parametrize("step", [1, 1000, 1 << 20])
def test_bytes_without_packets_are_no_transport_stream_however_they_are_cut(step: int) -> None:
    # Among them are bytes that packets begin with.
    data = b"\x47".ljust(188, b"a") * 3 + (b"a" * 400 + b"\x47" + b"a" * 400) * 100
    with pytest.raises(MalformedError):
        read("small.ts", data, step)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=12), st.integers(0, 3000), st.binary(max_size=40))
def test_no_input_breaks_a_reader(chunks: list[bytes], where: int, damage: bytes) -> None:
    transport = b"".join(b"\x47" + chunk.ljust(187, b"\0")[:187] for chunk in chunks)
    flv = b"FLV\1\5\0\0\0\x09\0\0\0\0" + b"".join(
        bytes([9, *len(chunk).to_bytes(3, "big"), 0, 0, 0, 0, 0, 0, 0]) + chunk + b"\0\0\0\0"
        for chunk in chunks
    )
    for whole, reader in ((transport, TransportReader()), (flv, FlvReader())):
        with contextlib.suppress(MalformedError, TooLargeError):
            reader.receive_data(whole[:where] + damage + whole[where:])
