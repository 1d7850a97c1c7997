"""Sound of a live source whose format changes, as ffmpeg encodes it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

from packager.ffmpeg.arguments import QUIET
from packager.ffmpeg.ladder import AUDIO
from packager.ffmpeg.live import encoder_arguments
from packager.process.ffmpeg_discovery import Tools
from packager.process.process import run
from packager.process.sandbox import Sandbox
from packager.sources.source import Source
from packager.window.cadence import AAC_FRAME, AUDIO_FRAME_RATE, SAMPLE_RATE, cadence
from tests.packager import films
from tests.packager.vod.lengths import volumes

PART = 4
"""Seconds of each format."""


@pytest.mark.parametrize("codec", ["ac3", "aac", "mp2"])
async def test_encoded_sound_goes_on_where_its_format_changes(
    tools: Tools, tmp_path: Path, codec: str
) -> None:
    """ffmpeg begins with its filters anew there, which mustn't fill the time before with silence again."""
    channels = {"ac3": (2, 6, 2), "aac": (2, 6, 1), "mp2": (2, 1, 2)}[codec]
    film, out = tmp_path / "film.ts", tmp_path / "out.mp4"
    with film.open("wb") as whole:
        for number, count in enumerate(channels):
            part = tmp_path / f"part {number}.ts"
            tone = f"-f lavfi -i sine=440:r={SAMPLE_RATE}:d={PART} -c:a {codec} -ac {count}"
            where = f"-output_ts_offset {number * PART} -muxdelay 0 -muxpreload 0"
            films.run_ffmpeg(*f"{tone} {where}".split(), part)
            whole.write(part.read_bytes())
    source = replace(Source(path=film).input, is_paced=True, is_looped=False)
    times = cadence(AUDIO_FRAME_RATE, 2.0, 0.5)
    words = encoder_arguments(source, "radio", [], [AUDIO], times, Fraction(0), captions=False)
    out.write_bytes(await run([tools.ffmpeg, *QUIET, *words], limit=60, sandbox=Sandbox(read=(str(film),))))
    packets = await asyncio.to_thread(films.packets, out, "a:0")
    seconds = PART * len(channels)
    # The parts overlap by some frames of start-up.
    assert len(packets) == pytest.approx(seconds * SAMPLE_RATE / AAC_FRAME, abs=20)
    assert packets[-1].pts - packets[0].pts == pytest.approx(seconds, abs=0.2)
    assert all(one.pts < other.pts for one, other in pairwise(packets))
    assert min(volumes(out)[:seconds]) > -40
