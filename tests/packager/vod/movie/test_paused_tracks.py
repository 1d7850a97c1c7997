"""Films whose edit lists have empty time in the middle, and samples that last for nothing."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from media.mp4.boxes import box, walk
from tests.packager import films
from tests.packager.vod.lengths import H264, spans, volumes
from tests.packager.vod.movie.changed_boxes import changed
from tests.packager.vod.vod_titles import write_out

SECONDS, CUT, PAUSE = 10, 4, 3
MOVIE_SCALE = 1000
LENGTHS = {name: pytest.approx(SECONDS + PAUSE, abs=0.1) for name in ("video", "audio")}


def made(folder: Path, coding: str, name: str = "whole.mov") -> Path:
    inputs = f"-f lavfi -i testsrc2=s=64x48:r=25:d={SECONDS} -f lavfi -i sine=440:r=48000:d={SECONDS}"
    films.run_ffmpeg(*f"{inputs} {H264} {coding} -c:a aac".split(), folder / name)
    return folder / name


def payload_of(data: bytes, *kinds: bytes) -> bytes:
    """Return the payload of a box within others."""
    for kind in kinds:
        data = next(data[one.payload : one.end] for one in walk(data) if one.kind == kind)
    return data


def paused(kind: bytes, payload: bytes) -> bytes:
    """Put three seconds of nothing behind the first four of each track, and make the movie as much longer."""
    if kind == b"mvhd":
        (duration,) = struct.unpack_from(">I", payload, 16)
        return box(kind, payload[:16], struct.pack(">I", duration + PAUSE * MOVIE_SCALE), payload[20:])
    if kind != b"trak":
        return box(kind, payload)
    (timescale,) = struct.unpack_from(">I", payload_of(payload, b"mdia", b"mdhd"), 12)
    elst = payload_of(payload, b"edts", b"elst")
    duration, begin = struct.unpack_from(">Ii", elst, 8)
    rate = elst[16:20]
    edits = [(CUT * MOVIE_SCALE, begin), (PAUSE * MOVIE_SCALE, -1)]
    edits.append((duration - CUT * MOVIE_SCALE, begin + CUT * timescale))
    rows = b"".join(struct.pack(">Ii", *one) + rate for one in edits)
    kept = []
    for one in walk(payload):
        inner = payload[one.payload : one.end]
        if one.kind == b"edts":
            inner = box(b"elst", struct.pack(">II", 0, len(edits)), rows)
        elif one.kind == b"tkhd":
            (told,) = struct.unpack_from(">I", inner, 20)
            inner = inner[:20] + struct.pack(">I", told + PAUSE * MOVIE_SCALE) + inner[24:]
        kept.append(box(one.kind, inner))
    return box(kind, *kept)


@pytest.mark.clause("ISO/IEC 14496-12 §8.6.6")
@pytest.mark.parametrize("coding", ["-bf 0 -g 25", "-bf 2 -g 25", "-bf 3 -b_strategy 0 -g 250"])
def test_empty_time_in_the_middle_is_a_pause_of_picture_and_sound(coding: str, tmp_path: Path) -> None:
    whole, path = made(tmp_path, coding), tmp_path / "film.mov"
    path.write_bytes(changed(whole.read_bytes(), paused))
    # §8.6.6: the sum of the edits. ffmpeg plays other pictures in the place of the pause.
    assert spans(path) == LENGTHS
    source = films.packets(whole, "v:0")
    out = write_out(path, "video", tmp_path / "out")
    films.run_ffmpeg("-xerror", "-i", out, "-f", "null", "-")
    ours = films.packets(out, "v")
    assert [one.digest for one in ours] == [one.digest for one in source]
    base = min(one.pts for one in ours)
    for one, other in zip(ours, source, strict=True):
        late = PAUSE if other.pts >= CUT - 0.001 else 0
        assert one.pts - base == pytest.approx(other.pts + late, abs=0.002)
        assert one.dts <= one.pts
    loud = volumes(write_out(path, "audio", tmp_path / "sound"))
    assert min(loud[1], loud[3], loud[8], loud[11]) > -30
    assert loud[5] < -70


def with_empty_samples(kind: bytes, payload: bytes) -> bytes:
    """Let each tenth sample last for nothing, and the one before it for the time of both."""
    if kind != b"stts" or struct.unpack_from(">I", payload, 4) != (1,):
        return box(kind, payload)
    count, delta = struct.unpack_from(">II", payload, 8)
    durations = [delta] * count
    for at in range(5, count, 10):
        durations[at - 1], durations[at] = 2 * delta, 0
    rows = b"".join(struct.pack(">II", 1, one) for one in durations)
    return box(kind, payload[:4], struct.pack(">I", count), rows)


@pytest.mark.parametrize("name", ["whole.mov", "whole.mp4"])
@pytest.mark.parametrize("coding", ["-bf 0 -g 25", "-bf 2 -g 25"])
def test_samples_that_last_for_nothing_leave_the_film_as_long_as_it_is(
    coding: str, name: str, tmp_path: Path
) -> None:
    path = tmp_path / f"film.{name[-3:]}"
    path.write_bytes(changed(made(tmp_path, coding, name).read_bytes(), with_empty_samples))
    told = float(films.probe(path, "-show_format")["format"]["duration"])
    found = spans(path)
    assert found == {"video": pytest.approx(told, abs=0.1), "audio": pytest.approx(told, abs=0.1)}
    out = write_out(path, "video", tmp_path / "out")
    ours = films.packets(out, "v")
    assert {one.digest for one in ours} == {one.digest for one in films.packets(path, "v:0")}
    films.run_ffmpeg("-xerror", "-i", out, "-f", "null", "-")
