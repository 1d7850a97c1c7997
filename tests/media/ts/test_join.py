"""Picture and sound in streams of their own, as one transport stream; what is in it is told by ffmpeg."""

from __future__ import annotations

import contextlib
import struct
import subprocess
from pathlib import Path

import pytest

from media.errors import MediaError, UnsupportedError
from media.mp4.fragments.fragment_join import JoinLimits
from media.stream_reader import StreamChunk
from media.ts.join import TransportJoiner
from media.ts.tables import (
    PACKET,
    ElementaryStream,
    ProgramMap,
    StreamType,
    checksum,
    write_tables,
)
from media.ts.timestamps import CLOCK_WRAP

SECONDS, SOUND_RATE = 4, 48_000
HELD_BYTES = JoinLimits().held_bytes
MADE = f"-v error -f lavfi -i testsrc2=size=160x120:rate=25 -f lavfi -i sine=sample_rate={SOUND_RATE}"
CODED = f"-t {SECONDS} -c:v libx264 -preset ultrafast -bf 2 -g 25 -pix_fmt yuv420p -c:a aac"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("joined")
    wraps = CLOCK_WRAP / 90_000 - 2
    for name, options in (("picture.ts", "-map 0:v"), ("sound.ts", "-map 1:a"), ("sound.aac", "-map 1:a")):
        offset = "" if name.endswith("aac") else f"-muxdelay 0 -muxpreload 0 -output_ts_offset {wraps}"
        words = f"{MADE} {CODED} {options} {offset} {path / name}"
        subprocess.run(["ffmpeg", *words.split()], check=True)
    return path


def hashes(path: Path, kind: str) -> list[str]:
    """The coded frames of one kind, as ffmpeg's demuxer gives them."""
    words = f"-v error -i {path} -map 0:{kind} -c copy -f framehash -hash md5 -"
    told = subprocess.run(["ffmpeg", *words.split()], check=True, capture_output=True, text=True).stdout
    return [line.split(",")[5].strip() for line in told.splitlines() if not line.startswith("#")]


def times(path: Path, kind: str) -> list[float]:
    words = f"-v error -select_streams {kind} -show_entries packet=pts_time -of csv=p=0 {path}"
    told = subprocess.run(["ffprobe", *words.split()], check=True, capture_output=True, text=True).stdout
    return sorted(float(line.strip(",")) for line in told.split())


def joined(picture: bytes, sound: bytes, step: int) -> list[StreamChunk]:
    """Join them in turns: so much of the one, as much of the other."""
    joiner, found = TransportJoiner(HELD_BYTES), list[StreamChunk]()
    for start in range(0, max(len(picture), len(sound)), step):
        for index, data in enumerate((picture, sound)):
            if part := data[start : start + step]:
                found += joiner.receive_data(index, part)
    return found + joiner.receive_eof()


@pytest.mark.parametrize("step", [188 * 40, 50_001])
def test_all_frames_of_both_are_in_the_joint_stream_at_their_times_over_the_clocks_wrap(
    folder: Path, step: int
) -> None:
    picture, sound = folder / "picture.ts", folder / "sound.ts"
    found = joined(picture.read_bytes(), sound.read_bytes(), step)
    both = folder / f"both-{step}.ts"
    both.write_bytes(b"".join(piece.data for piece in found))
    assert hashes(both, "v") == hashes(picture, "v")
    assert hashes(both, "a") == hashes(sound, "a")
    assert times(both, "v") == times(picture, "v")
    assert times(both, "a") == times(sound, "a")
    assert sum(piece.access for piece in found) == SECONDS
    assert not any(piece.changes for piece in found)
    # Neither is far ahead of the other in the order of the bytes.
    places = [place for place in ordered(both) if place[1] is not None]
    ahead = {"video": 0.0, "audio": 0.0}
    for kind, time in places:
        ahead[kind] = time
        assert abs(ahead["video"] - ahead["audio"]) < 1 or 0.0 in ahead.values()


def ordered(path: Path) -> list[tuple[str, float]]:
    words = f"-v error -show_entries packet=codec_type,dts_time,pos -of csv=p=0 {path}"
    told = subprocess.run(["ffprobe", *words.split()], check=True, capture_output=True, text=True).stdout
    rows = [line.split(",") for line in told.split()]
    rows.sort(key=lambda row: int(row[2]))
    return [(row[0], float(row[1])) for row in rows]


def tag(ticks: int) -> bytes:
    """An ID3v2.4 tag with the time of RFC 8216bis §3.1.4, by the layout of ID3v2.4 §3.1 and §4.27."""
    content = b"com.apple.streaming.transportStreamTimestamp\0" + struct.pack(">Q", ticks)
    frame = b"PRIV" + bytes((0, 0, 0, len(content))) + b"\0\0" + content
    return b"ID3\x04\0\0" + bytes((0, 0, 0, len(frame))) + frame


def test_packed_sound_has_the_time_of_its_tag(folder: Path) -> None:
    picture, sound = folder / "picture.ts", folder / "sound.aac"
    first = times(picture, "v")[0]
    ticks = round(first * 90_000) % CLOCK_WRAP
    data = tag(ticks) + sound.read_bytes()
    found = joined(picture.read_bytes(), data, 30_000)
    both = folder / "packed.ts"
    both.write_bytes(b"".join(piece.data for piece in found))
    theirs = hashes(sound, "a")
    assert hashes(both, "a")[: len(theirs) - 1] == theirs[:-1]
    heard = times(both, "a")
    assert heard[0] == pytest.approx(first, abs=0.001)
    # A frame has 1024 samples.
    assert heard[-1] - heard[0] == pytest.approx((len(heard) - 1) * 1024 / SOUND_RATE, abs=0.001)
    assert hashes(both, "v") == hashes(picture, "v")


def test_what_can_not_be_joined_is_refused(folder: Path) -> None:
    picture, sound = (folder / name for name in ("picture.ts", "sound.ts"))
    with pytest.raises(UnsupportedError, match="without sound"):
        joined(picture.read_bytes(), picture.read_bytes(), 1 << 20)
    with pytest.raises(UnsupportedError, match="without a picture"):
        joined(sound.read_bytes(), sound.read_bytes(), 1 << 20)
    with pytest.raises(MediaError):
        joined(picture.read_bytes(), (folder / "sound.aac").read_bytes(), 1 << 20)  # no tag says its time
    with pytest.raises(MediaError):
        joined(picture.read_bytes() + b"no packet" * 188, sound.read_bytes(), 1 << 20)


def test_a_stream_much_too_far_ahead_of_the_other_is_refused(folder: Path) -> None:
    joiner = TransportJoiner(100 * PACKET)
    picture = (folder / "picture.ts").read_bytes()
    assert joiner.receive_data(0, picture[: 100 * PACKET]) == []
    with pytest.raises(UnsupportedError, match="aren't of the same time"):
        joiner.receive_data(0, picture[100 * PACKET :])


def beginning(kind: int, descriptors: bytes) -> bytes:
    """The tables of one stream, and a packet of it with a time."""
    header = b"\0\0\1\xe0\0\0\x84\x80\5" + struct.pack(">BHH", 0x21, 1, 1)
    packet = struct.pack(">BHB", 0x47, 0x4100, 0x10) + header.ljust(PACKET - 4, b"\0")
    return write_tables(ProgramMap(0x100, (ElementaryStream(kind, 0x100, descriptors),)), 0x30) + packet


@pytest.mark.parametrize("count", [1, 3])
def test_descriptors_that_fit_no_joint_table_are_refused(count: int) -> None:
    """Each table fits into a section of 1,024 bytes, but three descriptors of each don't fit into one."""
    descriptors = (bytes((5, 200)) + bytes(200)) * count
    joiner = TransportJoiner(HELD_BYTES)
    joiner.receive_data(0, beginning(StreamType.H264, descriptors))
    refused = pytest.raises(UnsupportedError, match="longer than a section")
    with refused if count == 3 else contextlib.nullcontext():
        joiner.receive_data(1, beginning(StreamType.AAC, descriptors))


def test_a_tables_checksum_is_that_of_the_catalogue() -> None:
    # CRC-32/MPEG-2: the check value of "123456789"
    assert checksum(b"123456789") == 0x0376E6E7
