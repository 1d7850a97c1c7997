"""The choice of the encoder of pictures: a trial decides whether a device works, and a file keeps the result.

A trial encodes a short film by the way that every segment goes, and compares the pictures.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import structlog

from media.errors import MalformedError, MediaError
from packager.encode.renditions import EncodedRendition, EncodedRenditions, find_rendition
from packager.encode.segment_encoder import encode_init, encode_segment
from packager.ffmpeg.encode import sample_film_arguments, thumbnail_arguments
from packager.ffmpeg.picture_encoder import SOFTWARE, PictureEncoder, encoders_with_nodes
from packager.process.ffmpeg_discovery import Tools, ToolsError
from packager.process.process import Process, run
from packager.safe_files import DataFolder
from packager.threads import SHARED_THREADS
from packager.vod.index.index_builder import read_index

log = structlog.get_logger()

AUTO = "auto"

FILM_PICTURE, FILM_SECONDS = (640, 360), 0.3
"""Width, height and seconds of a trial's film. The height isn't a multiple of a macroblock's."""

THUMBNAIL = 64, 36
"""Width and height in pixels to which pictures are reduced before they are compared."""

MAX_DIFFERENCE = 8.0
"""Largest mean difference of a colour, of 255, between the film and what was encoded."""

TRIAL_SECONDS = 30.0
"""Longest time of a trial."""

RECORD, RECORD_BYTES = "hardware.json", 16384
"""Name of the file with the encoder that worked, and its largest size."""


async def choose_encoder(tools: Tools, name: str, nodes: Path, folder: DataFolder | None) -> PictureEncoder:
    """Return the encoder of pictures: of the named hardware that works, or else software.

    Args:
        name: as ``library.encoder`` has it.
        nodes: folder of the device nodes.
        folder: where the result is kept; None for nowhere.
    """
    if name == SOFTWARE.name:
        return SOFTWARE
    candidates = [
        one for one in await SHARED_THREADS.run(encoders_with_nodes, nodes) if name in (AUTO, one.name)
    ]
    if not candidates and name != AUTO:
        log.warning("films are encoded in software", encoder=name, reason=f"{nodes} has no such device")
    if not candidates:
        return SOFTWARE
    recorded = await SHARED_THREADS.run(_recorded, folder)
    for encoder in candidates:
        if recorded == _facts(tools, encoder):
            return encoder
    reasons = list[str]()
    async for encoder, reason in trials(tools, candidates):
        if not reason:
            log.info("films are encoded by hardware", encoder=encoder.name, nodes=encoder.nodes)
            await SHARED_THREADS.run(record_choice, folder, _facts(tools, encoder))
            return encoder
        reasons.append(f"{encoder.name}: {reason}")
    report = log.info if name == AUTO else log.warning
    report("films are encoded in software", encoder=name, reason="; ".join(dict.fromkeys(reasons)))
    return SOFTWARE


async def trials(tools: Tools, encoders: list[PictureEncoder]) -> AsyncIterator[tuple[PictureEncoder, str]]:
    """Try encoders, and yield each with the reason why it doesn't work; "" where it works."""
    film = b""
    for encoder in encoders:
        try:
            async with asyncio.timeout(TRIAL_SECONDS):
                words = sample_film_arguments(FILM_PICTURE, FILM_SECONDS)
                film = film or await run([tools.ffmpeg, *words], limit=TRIAL_SECONDS)
                await _try(tools, encoder, film)
        except TimeoutError:
            yield encoder, f"a trial took longer than {TRIAL_SECONDS:g} s"
        except (MediaError, ToolsError, OSError) as error:
            yield encoder, str(error)
        else:
            yield encoder, ""


async def _try(tools: Tools, encoder: PictureEncoder, film: bytes) -> None:
    """Encode a short film, as any segment is encoded.

    Raises:
        MediaError, ToolsError, OSError: the encoder doesn't work.
    """
    if lacking := tools.missing(encoders=(str(encoder.options["c:v"]),)):
        raise ToolsError(f"{tools.ffmpeg} lacks {lacking[0]}")

    def read(offset: int, length: int) -> bytes:
        return film[offset : offset + length]

    index = await SHARED_THREADS.run(read_index, read, len(film))
    tracks = EncodedRenditions("all").tracks(index)
    found = find_rendition(index.with_encoded(tracks), tracks[0].name)
    rendition = replace(cast("EncodedRendition", found), encoder=encoder)
    encoded = await encode_init(tools, rendition, read)
    encoded += await encode_segment(tools, rendition, 0, None, read)
    pictures, expected = [await _thumbnails(tools, one) for one in (encoded, film)]
    if len(pictures) != len(expected):
        raise MalformedError("the encoder doesn't encode all pictures")
    if np.abs(pictures - expected).mean() > MAX_DIFFERENCE:
        raise MalformedError("the encoder encodes other pictures")


async def _thumbnails(tools: Tools, film: bytes) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    """Return the colours of a film's pictures, which are reduced."""

    async def feed(process: Process) -> None:
        await process.write(film)
        process.close_stdin()

    words = thumbnail_arguments(THUMBNAIL)
    output = await run([tools.ffmpeg, *words], limit=TRIAL_SECONDS, feed=feed)
    return np.frombuffer(output, np.uint8).astype(np.int16)


def _facts(tools: Tools, encoder: PictureEncoder) -> dict[str, object]:
    """Return what a trial's result depends on."""
    options = repr(encoder.options)
    return {
        "ffmpeg": tools.version,
        "system": os.uname().release,
        "nodes": [*encoder.nodes],
        "options": options,
    }


def record_choice(folder: DataFolder | None, facts: dict[str, object]) -> None:
    """Keep the facts of the encoder that worked; none where another trial is needed."""
    if folder is None:
        return
    try:
        with folder.open(make=True) as opened:
            opened.write_whole(RECORD, json.dumps(facts).encode())
    except OSError as error:
        log.warning("the choice of the encoder can't be kept", reason=str(error))


def _recorded(folder: DataFolder | None) -> object:
    if folder is None:
        return None
    try:
        with folder.open() as opened:
            return json.loads(opened.read(RECORD, RECORD_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
