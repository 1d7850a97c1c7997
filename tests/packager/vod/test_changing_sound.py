"""Sound whose format changes within a film: what has another format costs its own time, and no more."""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from media.mp4.boxes import box, walk
from packager.vod.index.file_index import FileIndex
from tests.packager import films
from tests.packager.rewritten import CONTAINERS, boxes_of, changed_box, rewrite
from tests.packager.vod.lengths import H264, spans, volumes
from tests.packager.vod.vod_titles import titles_of, write_out

STEREO, SURROUND = "-c:a aac -ac 2", "-c:a aac -ac 6 -channel_layout 5.1"
PART = 8
"""Seconds of each of a recording's parts."""


def recorded(path: Path, parts: list[str], *, map_sound: str = "", back: float = 0) -> Path:
    """Write a recording off the air: one MPEG-TS whose sound is encoded otherwise in each part.

    Args:
        back: seconds by which the clock steps back from part to part.
    """
    with path.open("wb") as whole:
        for number, words in enumerate(parts):
            part = path.with_name(f"part {number}.ts")
            inputs = f"-f lavfi -i testsrc2=s=64x48:r=25:d={PART} -f lavfi -i sine=440:r=48000:d={PART}"
            where = f"-output_ts_offset {number * (PART - back)} -muxdelay 0 -muxpreload 0"
            films.run_ffmpeg(*f"{inputs} {H264} -bf 0 -g 25 {words} {where} {map_sound}".split(), part)
            whole.write(part.read_bytes())
    return path


def index_of(path: Path) -> FileIndex:
    return titles_of(path).files.find(path.name).index


def heard(path: Path, folder: Path, track: str = "audio") -> list[float]:
    """Return the level of each second of a film's sound as ffmpeg hears it in HLS, from 0 on."""
    return volumes(write_out(path, track, folder / "out"))


def assert_heard(loud: list[float], silent: range, seconds: int) -> None:
    """Assert that the tone is heard before and behind some seconds, and nothing within them."""
    assert len(loud) >= seconds - 1
    assert max(loud[second] for second in silent if second not in (silent[0], silent[-1])) < -70
    rest = [at for at in range(1, seconds - 1) if not silent.start - 1 <= at <= silent.stop]
    assert min(loud[second] for second in rest) > -40


@pytest.mark.parametrize(
    "parts",
    [
        (STEREO, SURROUND, STEREO),
        (SURROUND, STEREO, SURROUND),
        (STEREO, "-c:a aac -ac 1", STEREO),
        (STEREO, "-c:a aac -ac 2 -ar 44100", STEREO),
        ("-c:a mp2 -ac 2", "-c:a libmp3lame -ac 2", "-c:a libmp3lame -ac 2"),
        ("-c:a libmp3lame -ac 2", "-c:a libmp3lame -ac 1", "-c:a libmp3lame -ac 2"),
    ],
)
def test_sound_of_another_format_is_silent_and_the_rest_is_heard(
    parts: tuple[str, ...], tmp_path: Path
) -> None:
    path = recorded(tmp_path / "film.ts", list(parts))
    assert spans(path) == {"video": pytest.approx(24, abs=0.3), "audio": pytest.approx(24, abs=0.3)}
    foreign = next(number for number in range(3) if parts.count(parts[number]) == 1)
    assert_heard(heard(path, tmp_path), range(foreign * PART, foreign * PART + PART), 24)
    (told,) = [line for line in index_of(path).left_out if "another format" in line]
    assert "silence stands in" in told
    assert float(told.split(": ")[1].split()[0]) == pytest.approx(PART, abs=0.2)


def test_sound_of_another_format_at_the_end_is_silent(tmp_path: Path) -> None:
    path = recorded(tmp_path / "film.ts", [STEREO, STEREO, SURROUND], map_sound="-map 1")
    assert spans(path) == {"audio": pytest.approx(24, abs=0.3)}
    assert_heard(heard(path, tmp_path), range(2 * PART, 3 * PART), 24)


@pytest.mark.parametrize("codec", ["ac3", "eac3"])
def test_channels_of_frames_that_say_them_may_change(codec: str, tmp_path: Path) -> None:
    words = [f"-c:a {codec} -ac {channels}" for channels in (2, 6, 2)]
    path = recorded(tmp_path / "film.ts", words)
    loud = heard(path, tmp_path)
    assert min(loud[1:23]) > -40
    assert not any("another format" in line for line in index_of(path).left_out)
    source = [one.digest for one in films.packets(path, "a:0")]
    ours = [one.digest for one in films.packets(tmp_path / "out/film.ts/audio/media.m3u8", "a")]
    assert [one for one in ours if one in source] == source


def sound_alone(path: Path, words: str, more: str = "") -> Path:
    """Make eight seconds of a tone."""
    tone = f"-f lavfi -i sine=440:r=48000:d={PART}"
    films.run_ffmpeg(*f"{tone} {words} {more} -flags +bitexact".split(), path)
    return path


def in_one_mp4(path: Path, parts: tuple[Path, Path], order: tuple[int, ...]) -> Path:
    """Join the sounds of two MP4 files, in an order, as samples of two sample entries of one track."""
    entries = [boxes_of(one, b"stsd")[16:] for one in parts]
    sizes = [np.frombuffer(boxes_of(one, b"stsz")[20:], ">u4") for one in parts]
    data = [one.read_bytes() for one in parts]
    begins = [data[at].index(b"mdat") + 4 for at in range(2)]
    whole = np.concatenate([sizes[at] for at in order])
    second = 0

    def change(_: bytes, kind: bytes, old: bytes) -> bytes:
        if kind == b"stsd":
            return old[:4] + struct.pack(">I", 2) + entries[0] + entries[1]
        if kind == b"stts":
            return struct.pack(">4xIII", 1, len(whole), 1024)
        if kind == b"stsz":
            return struct.pack(">4xII", 0, len(whole)) + whole.astype(">u4").tobytes()
        if kind == b"stsc":
            rows = [(number, len(sizes[at]), at + 1) for number, at in enumerate(order, 1)]
            return struct.pack(">4xI", len(rows)) + b"".join(struct.pack(">III", *one) for one in rows)
        if kind == b"stco":
            places = [begins[0] if at == 0 else second for at in order]
            return struct.pack(f">4xI{len(order)}I", len(order), *places)
        if kind == b"elst":
            return old[:8] + struct.pack(">I", 0) + old[12:]
        return b"" if kind in (b"sgpd", b"sbgp") else old

    rewrite(parts[0], path, change)
    second = path.stat().st_size + 8
    rewrite(parts[0], path, change)
    with path.open("ab") as file:
        file.write(box(b"mdat", data[1][begins[1] :][: int(sizes[1].sum())]))
    return path


@pytest.mark.parametrize("order", [(0, 1, 0), (1, 0, 1), (0, 1, 1)])
def test_an_mp4_of_several_sample_entries_is_silent_where_it_has_another(
    order: tuple[int, ...], tmp_path: Path
) -> None:
    parts = sound_alone(tmp_path / "a.mp4", STEREO), sound_alone(tmp_path / "b.mp4", SURROUND)
    path = in_one_mp4(tmp_path / "film.mp4", parts, order)
    foreign = next(at for at in range(3) if order.count(order[at]) == 1)
    assert_heard(heard(path, tmp_path), range(foreign * PART, foreign * PART + PART), 24)
    (told,) = index_of(path).left_out
    assert told.startswith("sound of track 1: 8.0 s of another format; silence stands in")


def in_one_flv(path: Path, parts: list[Path], back: int = 0) -> Path:
    """Join the tags of FLV files, each so many milliseconds before the end of the one in front of it."""
    with path.open("wb") as whole:
        for number, part in enumerate(parts):
            data, at = part.read_bytes(), 13
            whole.write(b"" if number else data[:at])
            while at < len(data):
                length = int.from_bytes(data[at + 1 : at + 4], "big")
                later = number * (PART * 1000 - back)
                time = (int.from_bytes(data[at + 4 : at + 7], "big") + later).to_bytes(4, "big")
                end = at + 11 + length + 4
                whole.write(data[at : at + 4] + time[1:] + time[:1] + data[at + 8 : end])
                at = end
    return path


def test_an_flv_whose_sound_is_configured_anew_is_silent_there(tmp_path: Path) -> None:
    parts = [
        sound_alone(tmp_path / f"{number}.flv", words)
        for number, words in enumerate((STEREO, "-c:a aac -ac 1", STEREO))
    ]
    path = in_one_flv(tmp_path / "film.flv", parts)
    assert_heard(heard(path, tmp_path), range(PART, 2 * PART), 24)
    (told,) = index_of(path).left_out
    assert "s of another format; silence stands in" in told


def fragmented(path: Path, parts: tuple[Path, Path], order: tuple[int, ...]) -> Path:
    """Join the fragments of two MP4 files, whose samples use the first and the second sample entry."""
    entries = [boxes_of(one, b"stsd")[16:] for one in parts]
    data = [one.read_bytes() for one in parts]

    def change(_: bytes, kind: bytes, old: bytes) -> bytes:
        return old[:4] + struct.pack(">I", 2) + entries[0] + entries[1] if kind == b"stsd" else old

    (moov,) = (data[0][one.start : one.end] for one in walk(data[0], 0) if one.kind == b"moov")
    out = data[0][: data[0].index(moov)] + changed_box(moov, change)
    for number, at in enumerate(order):
        for one in walk(data[at], 0):
            if one.kind == b"moof":
                out += moof_of(data[at][one.start : one.end], at + 1, number * PART * 48000)
            elif one.kind == b"mdat":
                out += data[at][one.start : one.end]
    path.write_bytes(out)
    return path


def moof_of(moof: bytes, description: int, later: int) -> bytes:
    """Return a fragment with a sample description index (ISO/IEC 14496-12 §8.8.7), and later."""

    def change(_: bytes, kind: bytes, old: bytes) -> bytes:
        if kind == b"tfhd":
            flags = int.from_bytes(old[:4], "big")
            assert not flags & 3
            return (flags | 2).to_bytes(4, "big") + old[4:8] + description.to_bytes(4, "big") + old[8:]
        if kind == b"trun":
            return old[:8] + (int.from_bytes(old[8:12], "big") + 4).to_bytes(4, "big") + old[12:]
        if kind == b"tfdt":
            assert old[0] == 1
            return old[:4] + (int.from_bytes(old[4:], "big") + later).to_bytes(8, "big")
        return old

    return changed_box(moof, change, (*CONTAINERS, b"moof", b"traf"))


@pytest.mark.parametrize("order", [(0, 1, 0), (1, 0, 0)])
def test_fragments_of_another_sample_entry_are_silent(order: tuple[int, ...], tmp_path: Path) -> None:
    fragments = "-movflags +frag_keyframe+empty_moov+default_base_moof -frag_duration 2000000"
    parts = (
        sound_alone(tmp_path / "a.mp4", STEREO, fragments),
        sound_alone(tmp_path / "b.mp4", SURROUND, fragments),
    )
    path = fragmented(tmp_path / "film.mp4", parts, order)
    foreign = order.index(1)
    assert_heard(heard(path, tmp_path), range(foreign * PART, foreign * PART + PART), 24)
    (told,) = index_of(path).left_out
    assert told.startswith("sound of track 1: 8.0 s of another format; silence stands in")


def test_ac3_that_becomes_aac_is_two_tracks_each_of_which_lasts_as_long_as_the_film(tmp_path: Path) -> None:
    path = recorded(tmp_path / "film.ts", ["-c:a ac3 -ac 2", STEREO, STEREO])
    index = index_of(path)
    assert [track.entry.codec for track in index.sounds] == ["ac-3", "mp4a.40.2"]
    assert all(span == pytest.approx(24, abs=0.3) for span in spans(path).values())
    assert_heard(heard(path, tmp_path, "audio"), range(PART, 3 * PART), 24)
    assert_heard(heard(path, tmp_path, "audio-2"), range(PART), 24)


def test_ac3_between_two_parts_of_aac_on_one_pid_is_silent(tmp_path: Path) -> None:
    path = recorded(tmp_path / "film.ts", [STEREO, "-c:a ac3 -ac 2", STEREO])
    index = index_of(path)
    assert [track.entry.codec for track in index.sounds] == ["mp4a.40.2", "ac-3"]
    assert_heard(heard(path, tmp_path, "audio"), range(PART, 2 * PART), 24)
    loud = heard(path, tmp_path, "audio-2")
    assert min(loud[PART + 1 : 2 * PART - 1]) > -40
    assert max(loud[1 : PART - 1] + loud[2 * PART + 2 : 22]) < -70


def frames_of(path: Path, begin: float = 0) -> list[tuple[float, str]]:
    """Return when each frame of a part comes by ffprobe, and the digest of what ffmpeg copies into an MP4."""
    copied = path.with_suffix(".copied.mp4")
    films.run_ffmpeg("-i", path, "-map", "0:a", "-c", "copy", copied)
    pairs = zip(films.packets(path, "a:0"), films.packets(copied, "a:0"), strict=True)
    return [(one.pts + begin, other.digest) for one, other in pairs]


def assert_in_time(path: Path, folder: Path, parts: list[list[tuple[float, str]]], back: float) -> None:
    """Assert that our frames keep the times of two parts, of which the second begins too early."""
    first, second = parts
    assert first[-1][0] - second[0][0] == pytest.approx(back, abs=0.05)
    packets = films.packets(write_out(path, "audio", folder / "out"), "a")
    assert all(b.pts > a.pts for a, b in pairwise(packets))
    ours = {one.digest: one.pts for one in packets}
    # Nothing is lost but what overlaps.
    assert sum(digest not in ours for _, digest in first + second) <= (back + 0.1) * 47
    moved = [ours[digest] - at for part in parts for at, digest in part if digest in ours]
    assert len(moved) > 600
    assert max(moved) - min(moved) < 0.003


@pytest.mark.parametrize("back", [0.08, 0.3, 1.5])
def test_sound_that_steps_back_at_a_splice_stays_in_time(back: float, tmp_path: Path) -> None:
    earlier = f"-af asetpts=PTS-{back}/TB,volume=0.7 -avoid_negative_ts disabled"
    path = recorded(tmp_path / "film.ts", [STEREO, f"{STEREO} {earlier}"])
    parts = [frames_of(tmp_path / f"part {number}.ts") for number in range(2)]
    assert_in_time(path, tmp_path, parts, back)


@pytest.mark.parametrize("back", [0.3, 1.5])
def test_a_clock_that_steps_back_with_picture_and_sound_goes_on(back: float, tmp_path: Path) -> None:
    words = [f"{STEREO} -af volume={volume}" for volume in (1, 0.8, 0.6)]
    path = recorded(tmp_path / "film.ts", words, back=back)
    assert spans(path) == {"video": pytest.approx(24, abs=0.3), "audio": pytest.approx(24, abs=0.3)}
    assert min(heard(path, tmp_path)[1:23]) > -40
    # Picture and sound of each part begin together, as in the part by itself.
    pictures = sorted(one.pts for one in films.packets(write_out(path, "video", tmp_path / "v"), "v"))
    assert len(pictures) == 600
    sounds = films.packets(tmp_path / "out/film.ts/audio/media.m3u8", "a")
    ours = {one.digest: one.pts for one in sounds}
    for number in range(3):
        part = tmp_path / f"part {number}.ts"
        begin = min(one.pts for one in films.packets(part, "v:0"))
        at, digest = frames_of(part)[100]
        assert ours[digest] - pictures[200 * number] == pytest.approx(at - begin, abs=0.05)


def test_the_sound_of_an_flv_that_steps_back_stays_in_time(tmp_path: Path) -> None:
    quiet = f"{STEREO} -af volume=0.7"
    parts = [sound_alone(tmp_path / "0.flv", STEREO), sound_alone(tmp_path / "1.flv", quiet)]
    path = in_one_flv(tmp_path / "film.flv", parts, back=300)
    found = [frames_of(part, number * (PART - 0.3)) for number, part in enumerate(parts)]
    assert_in_time(path, tmp_path, found, 0.3)
