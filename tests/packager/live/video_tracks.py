"""Streams with several video tracks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from media.flv import tags as flv_tags
from media.flv.demuxer import FlvDemuxer
from packager.concurrency import background_task
from packager.sources.publication import Publication, PublicationEndedError
from tests.media.muxers.muxed_streams import tags_of
from tests.packager.live.copied_streams import (
    SECONDS,
)


@contextlib.asynccontextmanager
async def publishing(
    publication: Publication,
    first: Path,
    further: Mapping[int, Path],
    *,
    lasts: float = SECONDS,
    late: float = 0.0,
) -> AsyncIterator[None]:
    """Publish recordings together in real time, for as long as the block lasts or they are wanted.

    Args:
        publication: takes them.
        first: the main picture and the sound.
        further: the pictures beside it, by the numbers of their tracks.
        lasts: seconds of the stream for which they come.
        late: seconds by which they come too late.
    """
    tags = [(_moment(tag), 0, tag) for tag in tags_of(first.read_bytes())]
    for track, recording in further.items():
        of_track = [tag for tag in tags_of(recording.read_bytes()) if tag[0] == flv_tags.VIDEO]
        tags += [(_moment(tag), track, tag) for tag in of_track if _moment(tag) < 1000 * lasts]
    tags.sort(key=lambda one: (one[0] + (1000 * late if one[1] else 0), one[1]))

    async def bring() -> None:
        loop, demuxers = asyncio.get_running_loop(), dict[int, FlvDemuxer]()
        began = loop.time()
        with contextlib.suppress(PublicationEndedError):
            await publication.receive_data(flv_tags.file_header())
            for moment, track, tag in tags:
                await asyncio.sleep(max(began + moment / 1000 + (late if track else 0) - loop.time(), 0))
                if not track:
                    await publication.receive_data(tag)
                else:
                    if track not in demuxers:
                        demuxers[track] = FlvDemuxer()
                        demuxers[track].receive_data(flv_tags.file_header())
                    await publication.receive_further_video_track(track, demuxers[track].receive_data(tag))
            await loop.create_future()

    try:
        async with background_task(bring()):
            yield
    finally:
        publication.end()


def _moment(tag: bytes) -> int:
    return int.from_bytes(tag[4:7], "big")
