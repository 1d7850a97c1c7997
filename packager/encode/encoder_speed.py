"""The speed at which this machine encodes pictures, measured by a short trial and kept in a file.

Processor time counts, so that other programs don't change the result.
"""

from __future__ import annotations

import asyncio
import json
import re

import structlog

from packager.concurrency import usable_cores
from packager.encode.renditions import RUNGS
from packager.encode.segment_encoder import encoder_sandbox
from packager.ffmpeg.encode import trial_arguments
from packager.ffmpeg.picture_encoder import SOFTWARE, THREADS, PictureEncoder
from packager.process.ffmpeg_discovery import Tools, ToolsError
from packager.process.process import Process
from packager.safe_files import DataFolder
from packager.threads import SHARED_THREADS

log = structlog.get_logger()

TRIAL_PICTURE = 1920, 1080
TRIAL_SECONDS = 1.0
"""Length of the test picture that is encoded in a trial."""

MAX_SECONDS = 60.0
"""Longest time of a trial."""

REAL_TIME = 1.0

RECORD, RECORD_BYTES = "speed.json", 4096
"""Name of the file with the result, and its largest size."""

_PROCESSOR_TIME = re.compile(r"bench: utime=([0-9.]+)s stime=([0-9.]+)s")


async def encoding_speed(tools: Tools, height: int, rate: int, encoder: PictureEncoder = SOFTWARE) -> float:
    """Return how many seconds of a film of 1080 lines one encoder encodes in a second.

    A device is taken for fast enough: what it leaves to the processor counts.

    Args:
        height: of the result in pixels.
        rate: largest bit rate of the result.

    Raises:
        ToolsError: the trial failed.
    """
    words = trial_arguments(TRIAL_PICTURE, height, rate, TRIAL_SECONDS, encoder)
    process = await Process.start([tools.ffmpeg, *words], sandbox=encoder_sandbox(encoder))
    try:
        async with asyncio.timeout(MAX_SECONDS):
            status = await process.wait()
    except TimeoutError:
        raise ToolsError(f"{tools.ffmpeg} took longer than {MAX_SECONDS:g} s for a test picture") from None
    finally:
        await process.stop()
    told = _PROCESSOR_TIME.search(process.errors)
    if status != 0 or told is None:
        raise ToolsError(f"{tools.ffmpeg} doesn't encode a test picture")
    seconds = max(float(told[1]) + float(told[2]), 1e-3)
    return TRIAL_SECONDS * min(THREADS, usable_cores()) / seconds


async def largest_in_real_time(
    tools: Tools, least: float = REAL_TIME, encoder: PictureEncoder = SOFTWARE
) -> tuple[int, float]:
    """Return the largest height that is encoded in real time, or else the smallest, and its speed.

    Args:
        least: seconds of a film that must be encoded in a second.

    Raises:
        ToolsError: the trial failed.
    """
    height, speed = 0, 0.0
    for height, rate in RUNGS:
        speed = await encoding_speed(tools, height, rate, encoder)
        if speed >= least:
            break
    return height, speed


async def record_speed(tools: Tools, folder: DataFolder, encoder: PictureEncoder = SOFTWARE) -> None:
    """Measure the largest picture that is encoded in real time, and write it to a file."""
    try:
        height, speed = await largest_in_real_time(tools, encoder=encoder)
        await SHARED_THREADS.run(_write, tools, folder, height, encoder)
    except (ToolsError, OSError) as error:
        log.warning("the speed of encoding isn't known", reason=str(error))
        return
    log.info("the speed of encoding was measured", largest_height=height, times_real_time=round(speed, 1))


def _write(tools: Tools, folder: DataFolder, height: int, encoder: PictureEncoder) -> None:
    with folder.open(make=True) as opened:
        opened.write_whole(RECORD, json.dumps({**_machine(tools, encoder), "height": height}).encode())


def recorded_height(
    tools: Tools, folder: DataFolder | None, encoder: PictureEncoder = SOFTWARE
) -> int | None:
    """Return the largest height that this machine encodes in real time; None where that wasn't measured."""
    if folder is None:
        return None
    try:
        with folder.open() as opened:
            found = json.loads(opened.read(RECORD, RECORD_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    machine = _machine(tools, encoder)
    return next((height for height, _ in RUNGS if found == {**machine, "height": height}), None)


def _machine(tools: Tools, encoder: PictureEncoder) -> dict[str, object]:
    return {"encoder": f"{tools.version} {encoder.profile}".strip(), "cores": usable_cores()}
