"""MPEG-TS as receivers and broadcasters write it: what of it is played, and what is said of the rest."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from media.ts.elementary_streams import CONFIRMED, find_packets, layout_of
from media.ts.tables import PACKET, ElementaryStream
from packager.vod.index.file_index import FileIndex
from packager.vod.index.index_builder import read_beginning, read_index
from tests.media.ts import coded_fields
from tests.media.ts.rewritten_streams import (
    MAP_PID,
    PICTURE_PID,
    SOUND_PID,
    WHOLE,
    encrypted,
    packed,
    packets_of,
    pid_of,
    program_map,
    told,
    with_tables,
)
from tests.packager import films
from tests.packager.vod.lengths import H264
from tests.packager.vod.vod_titles import write_out


@pytest.fixture(scope="module")
def recorded() -> bytes:
    path = films.folder() / "recorded.ts"
    if not path.exists():
        inputs = "-f lavfi -i testsrc2=size=64x48:rate=25 -f lavfi -i sine=440 -t 8"
        encoder = "-c:v libx264 -preset ultrafast -bf 2 -g 50 -pix_fmt yuv420p -c:a aac"
        films.run_ffmpeg(*f"{inputs} {encoder}".split(), path)
    return path.read_bytes()


def indexed(data: bytes) -> FileIndex:
    return read_index(lambda at, length: data[at : at + length], len(data))


def digests(data: bytes, folder: Path) -> dict[str, list[str]]:
    """Return the digests of the samples in a film's segments, of its picture and its sound."""
    path = folder / "film.ts"
    path.write_bytes(data)
    out = folder / "out"
    return {
        track: [one.digest for one in films.packets(write_out(path, track, out / track), stream)]
        for track, stream in (("video", "v:0"), ("audio", "a:0"))
    }


@pytest.mark.clause("ISO/IEC 13818-1 §2.4.4")
@pytest.mark.parametrize("name", WHOLE)
def test_the_segments_are_the_same_however_a_film_is_written(
    recorded: bytes, name: str, tmp_path: Path
) -> None:
    (tmp_path / "plain").mkdir()
    data = WHOLE[name](recorded)
    assert digests(data, tmp_path) == digests(recorded, tmp_path / "plain")
    garbage = {"bytes put in": "160 bytes, which are of no packet"}.get(name)
    assert indexed(data).left_out == (() if garbage is None else (garbage,))


def test_what_is_lost_is_lost_alone_and_is_said(recorded: bytes) -> None:
    every, whole = packets_of(recorded), indexed(recorded)
    middle = len(every) // 2
    cases = {
        "packets": b"".join(every[:middle] + every[middle + 10 :]),
        "bytes": recorded[: middle * PACKET - 50] + recorded[middle * PACKET :],
        "damaged": damaged(every),
    }
    for name, data in cases.items():
        index = indexed(data)
        for found, track in zip(index.tracks, whole.tracks, strict=True):
            assert 0 <= len(track.samples) - len(found.samples) <= 10, name
            assert float(found.duration) == pytest.approx(float(track.duration), abs=0.1), name
        (note,) = index.left_out
        assert ("which its recording has lost" in note) == (name != "damaged")
        assert ("which are of no packet" in note) == (name == "bytes")
        assert ("with errors" in note) == (name == "damaged")


def damaged(every: list[bytes]) -> bytes:
    """Set the error indicator of some packets, and make zeros of a part of them (§2.4.3.2)."""
    bad = [one[:1] + bytes((one[1] | 0x80,)) + one[2:40] + bytes(80) + one[120:] for one in every]
    return b"".join(bad[n] if n % 100 == 50 else one for n, one in enumerate(every))


def scrambled(data: bytes, pid: int, share: range | None = None) -> bytes:
    """Scramble the packets of a stream, or those of some hundredths of the file (§2.4.3.3)."""
    every = packets_of(data)

    def is_one(number: int, packet: bytes) -> bool:
        return pid_of(packet) == pid and (share is None or number * 100 // len(every) in share)

    return b"".join(encrypted(one) if is_one(number, one) else one for number, one in enumerate(every))


@pytest.mark.clause("ISO/IEC 13818-1 §2.4.3.3")
@pytest.mark.parametrize("share", [range(30), range(40, 60), range(70, 100)])
@pytest.mark.parametrize("pid", [PICTURE_PID, SOUND_PID])
def test_what_is_scrambled_is_lost_alone_and_is_said(
    recorded: bytes, pid: int, share: range, tmp_path: Path
) -> None:
    data = scrambled(recorded, pid, share)
    index, whole = indexed(data), indexed(recorded)
    assert [track.name for track in index.tracks] == ["video", "audio"]
    for found, track in zip(index.tracks, whole.tracks, strict=True):
        assert float(found.duration) == pytest.approx(float(track.duration), abs=0.1)
    (note,) = index.left_out
    assert "packets, which are encrypted" in note
    (tmp_path / "plain").mkdir()
    ours, theirs = digests(data, tmp_path), digests(recorded, tmp_path / "plain")
    name = "video" if pid == PICTURE_PID else "audio"
    assert 0.4 < len(set(ours[name]) & set(theirs[name])) / len(theirs[name]) < 0.9


@pytest.mark.parametrize(("pid", "left"), [(PICTURE_PID, "audio"), (SOUND_PID, "video")])
def test_a_stream_that_is_scrambled_takes_no_other_one_along(recorded: bytes, pid: int, left: str) -> None:
    index = indexed(scrambled(recorded, pid))
    assert [track.name for track in index.tracks] == [left]
    assert f"track {pid}: encrypted media" in index.left_out


def test_a_film_whose_picture_loses_where_its_packets_begin_goes_on(recorded: bytes) -> None:
    """§2.4.3.6: without the beginning of a PES packet its bytes have no time, and the next one has."""
    every = packets_of(recorded)
    starts = [n for n, one in enumerate(every) if pid_of(one) == PICTURE_PID and one[1] & 0x40]
    lost = set(starts[20:120:10])
    index, whole = indexed(b"".join(one for n, one in enumerate(every) if n not in lost)), indexed(recorded)
    assert len(index.tracks[0].samples) == len(whole.tracks[0].samples) - len(lost)
    assert index.tracks[0].duration == whole.tracks[0].duration


def test_a_stream_that_a_later_map_adds_plays_from_then_on(recorded: bytes) -> None:
    program, every = told(recorded), packets_of(recorded)
    alone = program_map(replace(program, streams=program.streams[:1]))
    late = [one for n, one in enumerate(every) if pid_of(one) != SOUND_PID or n > len(every) // 2]
    grown = with_tables(b"".join(late), (), lambda turn: [alone if turn < 30 else program_map(program, 1, 1)])
    index, whole = indexed(grown), indexed(recorded)
    assert [track.name for track in index.tracks] == ["video", "audio"]
    assert index.left_out == ()
    ends = [float(track.times[-1] / track.timescale) for track in (*index.tracks, *whole.tracks)]
    assert ends[1] - ends[0] == pytest.approx(ends[3] - ends[2], abs=0.05)
    # Until then it is silent: 3 seconds are 140 frames of one size.
    assert index.sounds[0].times[0] == 0
    assert len(set(index.sounds[0].samples.table.sizes(0, 140).tolist())) == 1
    assert len(set(index.sounds[0].samples.table.sizes(140, 340).tolist())) > 1


OTHER_PIDS = {
    "the picture": {PICTURE_PID: 0x200},
    "the sound": {SOUND_PID: 0x200},
    "both": {PICTURE_PID: 0x200, SOUND_PID: 0x201},
    "each other's": {PICTURE_PID: SOUND_PID, SOUND_PID: PICTURE_PID},
}
"""Streams that go on with other packet IDs in the middle of a recording, and with which."""


@pytest.mark.clause("ISO/IEC 13818-1 §2.4.4.9")
@pytest.mark.parametrize("name", OTHER_PIDS)
@pytest.mark.parametrize("and_back", [False, True])
def test_a_stream_goes_on_where_a_later_map_has_it(
    recorded: bytes, name: str, and_back: bool, tmp_path: Path
) -> None:
    others, every, program = OTHER_PIDS[name], packets_of(recorded), told(recorded)
    streams = tuple(replace(one, pid=others.get(one.pid, one.pid)) for one in program.streams)
    maps = [program_map(program), program_map(replace(program, streams=streams), version=1)]
    maps.append(program_map(program, version=2))
    counters, version, out = count(), 0, list[bytes]()
    for number, packet in enumerate(every):
        # Each map comes before the streams that it has.
        due = 2 if and_back and number > len(every) * 3 // 4 else int(number > len(every) // 2)
        if due != version or pid_of(packet) == MAP_PID:
            version = due
            out += packed(MAP_PID, [maps[version]], counters)
        if pid_of(packet) == MAP_PID:
            continue
        pid = others.get(pid_of(packet), pid_of(packet)) if version == 1 else pid_of(packet)
        out.append(packet[:1] + bytes((packet[1] & 0xE0 | pid >> 8, pid & 0xFF)) + packet[3:])
    (tmp_path / "plain").mkdir()
    assert digests(b"".join(out), tmp_path) == digests(recorded, tmp_path / "plain")


def test_a_stream_that_is_announced_and_never_there_is_named(recorded: bytes) -> None:
    silent = b"".join(one for one in packets_of(recorded) if pid_of(one) != SOUND_PID)
    index = indexed(silent)
    assert [track.name for track in index.tracks] == ["video"]
    assert index.left_out == (f"track {SOUND_PID}: it has no samples",)


@pytest.mark.parametrize("codec", ["aac", "ac3", "eac3"])
def test_sound_of_which_the_map_says_nothing_is_known_by_its_frames(codec: str, tmp_path: Path) -> None:
    """ffmpeg writes AAC so into .m2ts, and finds it again."""
    path = tmp_path / "plain.ts"
    inputs = "-f lavfi -i testsrc2=size=64x48:rate=25 -f lavfi -i sine=440 -t 4"
    films.run_ffmpeg(*f"{inputs} {H264} -c:a {codec}".split(), path)
    program = told(path.read_bytes())
    streams = program.streams[0], ElementaryStream(0x06, SOUND_PID)
    data = with_tables(path.read_bytes(), (), lambda _: [program_map(replace(program, streams=streams))])
    (tmp_path / "plain").mkdir()
    assert digests(data, tmp_path) == digests(path.read_bytes(), tmp_path / "plain")
    assert indexed(data).left_out == ()


def test_private_data_of_which_the_map_says_nothing_are_named(recorded: bytes) -> None:
    program = told(recorded)
    streams = program.streams[0], ElementaryStream(0x06, SOUND_PID)
    every = [
        one[:20] + bytes(PACKET - 20) if pid_of(one) == SOUND_PID else one for one in packets_of(recorded)
    ]
    data = with_tables(b"".join(every), (), lambda _: [program_map(replace(program, streams=streams))])
    index = indexed(data)
    assert [track.name for track in index.tracks] == ["video"]
    assert any("private data" in line for line in index.left_out)


CODINGS = {0x1C: "AAC without headers", 0x2D: "MPEG-H 3D Audio"}
"""Types of streams (ISO/IEC 13818-1 table 2-34) that aren't played."""


@pytest.mark.parametrize("kind", CODINGS)
def test_a_stream_of_another_coding_is_named(recorded: bytes, kind: int) -> None:
    program = told(recorded)
    streams = program.streams[0], replace(program.streams[1], kind=kind)
    index = indexed(with_tables(recorded, (), lambda _: [program_map(replace(program, streams=streams))]))
    assert [track.name for track in index.tracks] == ["video"]
    (note,) = index.left_out
    assert CODINGS[kind] in note


def test_a_recording_is_known_by_its_packets_wherever_it_begins(recorded: bytes) -> None:
    for name in ("192 bytes", "204 bytes"):
        data = WHOLE[name](recorded)
        layout = layout_of(data[:2000])
        assert layout is not None
        assert str(layout.stride) in name
        for cut in (1, 100, 187):
            assert find_packets(data[cut:]) == (layout, layout.stride - cut)
    assert find_packets(recorded[100 : 100 + (CONFIRMED - 1) * PACKET]) is None
    assert find_packets(bytes(100_000)) is None


def test_a_long_recording_that_begins_within_a_packet_is_listed_by_its_beginning(recorded: bytes) -> None:
    data = recorded[100:] + bytes(20 << 20)
    found = read_beginning(lambda at, length: data[at : at + length], len(data))
    assert found is not None
    assert [track.name for track in found.tracks] == ["video", "audio"]


@pytest.mark.clause("ISO/IEC 13818-1 §2.4.3.7")
@pytest.mark.parametrize("way", coded_fields.WAYS)
def test_both_fields_of_a_picture_are_one_sample(way: str, tmp_path: Path) -> None:
    """ISO/IEC 14496-15 §5.2.2: a sample is a picture, of which ffmpeg finds and decodes 25 a second."""
    path = tmp_path / "fields.ts"
    path.write_bytes(coded_fields.stream(way, pictures=100))
    index = indexed(path.read_bytes())
    (video,) = index.tracks
    assert (len(video.samples), float(video.duration)) == (100, 4.0)
    assert video.frame_rate == 25
    sums: list[list[str]] = []
    for source in (path, write_out(path, "video", tmp_path / "out")):
        out = tmp_path / f"{len(sums)}.md5"
        films.run_ffmpeg("-i", source, "-map", "0:v", "-f", "framemd5", out)
        lines = [line for line in out.read_text().splitlines() if not line.startswith("#")]
        sums.append([line.rpartition(",")[2] for line in lines])
    assert len(sums[0]) == 100
    assert sums[1] == sums[0]


def test_pictures_that_share_a_packet_are_samples_of_their_own_with_times_between() -> None:
    data = coded_fields.stream("frames", pictures=100, each=2)
    (video,) = indexed(data).tracks
    assert len(video.samples) == 100
    assert video.samples.times(0, 4).tolist() == [0, 3600, 7200, 10_800]
    assert float(video.duration) == 4.0
