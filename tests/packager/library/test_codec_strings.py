"""What browsers are asked with about a file, and the size of its picture as it is shown."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from origin.server.endpoints.library_list import content_type
from packager.library.codec_strings import codec_string
from packager.library.file_probe import probe
from packager.process.ffmpeg_discovery import Tools


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        ({"codec_name": "h264", "profile": "High", "level": 31}, "avc1.64001f"),
        ({"codec_name": "h264", "profile": "Constrained Baseline", "level": 30}, "avc1.42e01e"),
        ({"codec_name": "h264", "profile": "Sideways", "level": -99}, "avc1.640028"),
        # What an iPhone records.
        ({"codec_name": "hevc", "profile": "Main", "level": 123}, "hvc1.1.6.L123.B0"),
        ({"codec_name": "hevc", "profile": "Main 10", "level": 153}, "hvc1.2.4.L153.B0"),
        ({"codec_name": "av1", "profile": "Main", "level": 8, "pix_fmt": "yuv420p10le"}, "av01.0.08M.10"),
        ({"codec_name": "vp9", "profile": "Profile 0", "level": 31}, "vp09.00.31.08"),
        ({"codec_name": "vp9"}, "vp09.00.40.08"),
        ({"codec_name": "aac", "profile": "HE-AAC"}, "mp4a.40.5"),
        ({"codec_name": "aac", "profile": "LC"}, "mp4a.40.2"),
        ({"codec_name": "dts"}, "dts"),
        ({}, "unknown"),
    ],
)
@pytest.mark.clause("RFC 6381 §3.3")
def test_a_stream_has_the_string_that_browsers_know_it_by(stream: dict[str, Any], expected: str) -> None:
    assert codec_string(stream) == expected


def test_a_file_that_cant_be_read_has_no_content_type() -> None:
    assert content_type("film.mp4", ()) is None
    assert content_type("a/film.mov", ("hvc1.1.6.L93.B0", "mp4a.40.2")) == (
        'video/quicktime; codecs="hvc1.1.6.L93.B0, mp4a.40.2"'
    )


async def test_a_film_of_a_phone_held_upright_has_the_size_that_is_seen(tools: Tools, tmp_path: Path) -> None:
    path = tmp_path / "upright.mp4"
    source = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=0.4")
    words = (*source, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
    subprocess.run((str(tools.ffmpeg), "-v", "error", *words, str(path)), check=True, timeout=300)
    data = bytearray(path.read_bytes())
    # ISO/IEC 14496-12 §8.3.2: the matrix of a track header of version 0, turned by a quarter.
    matrix = data.index(b"tkhd") + 4 + 40
    quarter = (0, 1 << 16, 0, -1 << 16, 0, 0, 180 << 16, 0, 1 << 30)
    data[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in quarter)
    lying = await probe(path, tools)
    path.write_bytes(data)
    upright = await probe(path, tools)
    assert (lying.width, lying.height, lying.frame_rate) == (320, 180, 25.0)
    assert (upright.width, upright.height) == (180, 320)
