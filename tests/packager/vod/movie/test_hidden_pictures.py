"""Pictures that an edit list cuts off within their group aren't shown, and samples of no bytes aren't sent.

What is right is what ffmpeg shows of the file itself, which obeys edit lists.
"""

from __future__ import annotations

import struct
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest

from packager.vod.index.file_index import FileIndex
from packager.vod.index.index_builder import read_index
from packager.vod.pictures.i_frame_file import marked_i_frames
from tests.packager.films import folder, packets, probe, run_ffmpeg
from tests.packager.vod.vod_titles import write_out

RATE, GROUP, SECONDS = 25, 50, 12
CLOCK = "-enc_time_base 1:90000"
SHORT = 0.001
"""Seconds below which no screen shows a picture."""


def plain() -> Path:
    path = folder() / "groups.mp4"
    if not path.exists():
        source = (
            f"-f lavfi -i testsrc2=s=160x90:r={RATE}:d={SECONDS} -f lavfi -i sine=440:r=48000:d={SECONDS}"
        )
        x264 = f"-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g {GROUP} -sc_threshold 0 -bf 2 -c:a aac"
        run_ffmpeg(*source.split(), *x264.split(), path)
    return path


def cut(seconds: float) -> Path:
    """Return the film from a time on, as ffmpeg cuts it without encoding: by an edit list."""
    path = folder() / f"groups-from-{seconds}.mp4"
    run_ffmpeg("-ss", str(seconds), "-i", plain(), *["-c", "copy", "-avoid_negative_ts", "disabled"], path)
    return path


def index_of(path: Path) -> FileIndex:
    data = path.read_bytes()
    return read_index(lambda offset, length: data[offset : offset + length], len(data))


def frames(path: Path) -> list[tuple[float, str]]:
    """Return time and digest of each picture that ffmpeg decodes."""
    options = "-allowed_extensions ALL" if path.suffix == ".m3u8" else ""
    words = f"ffmpeg -v error {options} -i {path} -map 0:v -fps_mode passthrough {CLOCK} -f framemd5 -"
    text = subprocess.run(words.split(), capture_output=True, text=True, check=True, timeout=60).stdout
    (base,) = (line.partition(": ")[2] for line in text.splitlines() if line.startswith("#tb 0"))
    rows = [line.split(",") for line in text.splitlines() if not line.startswith("#")]
    return [(float(int(row[2]) * Fraction(base)), row[5].strip()) for row in rows]


@pytest.mark.clause("ISO/IEC 14496-12 §8.6.6")
@pytest.mark.parametrize("seconds", [3.1, 4.5, 1.98])
def test_pictures_before_an_edit_are_decoded_and_not_shown(seconds: float, tmp_path: Path) -> None:
    path = cut(seconds)
    expected = frames(path)
    sent = frames(write_out(path, "video", tmp_path / "out"))
    assert len(sent) > len(expected)
    ends = [*(time for time, _ in sent[1:]), sent[-1][0] + 1 / RATE]
    shown = [(time, digest) for (time, digest), end in zip(sent, ends, strict=True) if end - time > SHORT]
    # The picture in whose time the edit begins is shown for the rest of it.
    assert 0 <= len(shown) - len(expected) <= 1
    assert [digest for _, digest in shown][-len(expected) :] == [digest for _, digest in expected]
    times = [time for time, _ in shown[-len(expected) :]]
    assert times[0] < 1 / RATE + 0.006
    # ffmpeg writes times from the first picture on.
    right = [time - expected[0][0] for time, _ in expected]
    assert [time - times[0] for time in times] == pytest.approx(right, abs=0.001)
    index = index_of(path)
    assert index.lead_in < Fraction(1, 100)
    assert float(index.duration) == pytest.approx(
        float(probe(path, "-show_format")["format"]["duration"]), abs=0.03
    )
    assert index.video is not None
    assert index.video.frame_rate == pytest.approx(RATE, rel=0.02)


def test_the_key_frame_of_hidden_pictures_is_in_no_thumbnail() -> None:
    index = index_of(cut(3.1))
    assert index.video is not None
    marked = marked_i_frames(index.video)
    assert marked is not None
    keys = [one for one in packets(cut(3.1), "v:0") if one.key]
    assert len(keys) == len(marked) + 1
    first = index.video.samples.samples(0, 1)
    assert int(first.offset[0]) not in marked.offsets.tolist()
    assert marked.times[0] == index.video.times[0]


def test_a_film_that_is_not_cut_keeps_its_tables() -> None:
    video = index_of(plain()).video
    assert video is not None
    assert not video.samples.hidden


def with_sizes(change: dict[int, int], tmp_path: Path) -> Path:
    """Write the film with other sizes of some samples of its picture, which are listed first."""
    data = bytearray(plain().read_bytes())
    place = data.index(b"stsz") + 16
    for number, size in change.items():
        struct.pack_into(">I", data, place + 4 * number, size)
    path = tmp_path / "empty.mp4"
    path.write_bytes(data)
    return path


def test_a_last_sample_of_no_bytes_is_left_out(tmp_path: Path) -> None:
    count = RATE * SECONDS
    path = with_sizes({count - 1: 0}, tmp_path)
    sent = packets(write_out(path, "video", tmp_path / "out"), "v:0")
    right = packets(plain(), "v:0")[: count - 1]
    assert [one.digest for one in sent] == [one.digest for one in right]
    assert len(frames(tmp_path / "out/empty.mp4/video/media.m3u8")) == count - 1
    assert index_of(path).duration == index_of(plain()).duration


def test_samples_of_no_bytes_within_a_film_are_a_pause(tmp_path: Path) -> None:
    data = plain().read_bytes()
    place = data.index(b"stsz") + 16
    sizes = struct.unpack_from(">60I", data, place)
    # The sample before has the bytes of both, as where a recorder drops a frame.
    path = with_sizes({58: sizes[58] + sizes[59], 59: 0}, tmp_path)
    sent = packets(write_out(path, "video", tmp_path / "out"), "v:0")
    right = packets(plain(), "v:0")
    assert len(sent) == len(right) - 1
    assert [one.pts for one in sent] == pytest.approx(
        [one.pts for at, one in enumerate(right) if at != 59], abs=1e-3
    )
