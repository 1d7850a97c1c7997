"""Sources whose subtitles and teletext nobody decodes are played, and listed, for their picture and sound."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from media.ts.sections import SectionReader
from media.ts.tables import PACKET, ElementaryStream, read_program_map, write_tables
from packager.library.file_probe import probe
from packager.process.ffmpeg_discovery import Tools
from packager.sources.probe import inspect_source

ENCODER = (
    "-f lavfi -i testsrc2=size=160x120:rate=10:duration=2 -f lavfi -i sine=duration=2 MORE "
    "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a aac"
)
CUE = "1\n00:00:00,000 --> 00:00:02,000\nHello\n"

PROGRAM_MAP, PRIVATE_DATA = 0x1000, 6
"""Where ffmpeg writes its program map; a type of streams (ISO/IEC 13818-1 §2.4.4.9)."""


def made(path: Path, *more: str) -> Path:
    words = ENCODER.replace("MORE", " ".join(more)).split()
    command = ["ffmpeg", "-nostdin", "-v", "error", *words, str(path)]
    subprocess.run(command, check=True)
    return path


def announced(stream: bytes, descriptor: bytes) -> bytes:
    """Add a stream of private data with a descriptor to the program map (ISO/IEC 13818-1 §2.4.4.8)."""
    packets = [stream[begin : begin + PACKET] for begin in range(0, len(stream), PACKET)]
    return b"".join(_announced(one, descriptor) if pid_of(one) == PROGRAM_MAP else one for one in packets)


def pid_of(packet: bytes) -> int:
    return int.from_bytes(packet[1:3], "big") & 0x1FFF


def _announced(packet: bytes, descriptor: bytes) -> bytes:
    (section,) = SectionReader().push(packet)
    program = read_program_map(section)
    assert program is not None
    more = ElementaryStream(PRIVATE_DATA, 0x150, descriptor)
    return write_tables(replace(program, streams=(*program.streams, more)), PROGRAM_MAP)[PACKET:]


TELETEXT, DVB_SUBTITLES = b"\x56\5eng\x10\0", b"\x59\x08eng\x10\0\1\0\1"
"""ETSI EN 300 468 §6.2.43, §6.2.41."""


@pytest.mark.parametrize("descriptor", [TELETEXT, DVB_SUBTITLES, TELETEXT + DVB_SUBTITLES], ids=len)
async def test_a_broadcasters_stream_is_played(tools: Tools, tmp_path: Path, descriptor: bytes) -> None:
    path = made(tmp_path / "plain.ts")
    path.write_bytes(announced(path.read_bytes(), descriptor))
    source = await inspect_source(str(path), tools)
    assert (source.video_codec, source.audio_codec) == ("h264", "aac")


@pytest.mark.parametrize("codec", ["ass", "webvtt", "srt"])
async def test_a_film_with_subtitles_is_played_and_listed(tools: Tools, tmp_path: Path, codec: str) -> None:
    (tmp_path / "cue.srt").write_text(CUE)
    subtitles = ["-i", str(tmp_path / "cue.srt"), "-map", "0", "-map", "1", "-map", "2", "-c:s", codec]
    path = made(tmp_path / "film.mkv", *subtitles)
    source = await inspect_source(str(path), tools)
    assert (source.video_codec, source.audio_codec) == ("h264", "aac")
    facts = await probe(path, tools)
    assert (facts.width, facts.height) == (160, 120)
