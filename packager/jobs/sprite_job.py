"""Drawing of a sprite, one picture of a film's thumbnails, as a job."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
from functools import partial
from typing import Annotated, Any

import msgspec
import structlog

from media.errors import MediaError
from packager.jobs.job import Arguments, Job, JobKind, JobState, Progress, Status
from packager.jobs.limits import WORKER_SECONDS, JobLimits, JobsLimits
from packager.jobs.redis_queue import JobQueue, QueueAwayError, queues_client
from packager.process.ffmpeg_discovery import Tools, ToolsError
from packager.reader_guard import ReaderGuard
from packager.vod.pictures.storyboard import Storyboard
from packager.vod.sprites.sprite_maker import draw_sprite
from packager.vod.titles import Titles

NAME = "thumbnails"

log = structlog.get_logger()

LOOKS_FOR_WORKERS = 5
"""Queries of the queue after which a process that could do the job itself waits no more for a worker."""


class _SpriteRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    film: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    key: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
    number: Annotated[int, msgspec.Meta(ge=0, le=100_000)]


class _Drawn(msgspec.Struct, frozen=True):
    """The outcome of drawing a sprite: the JPEG, or the reason why another attempt would fail, too."""

    jpeg: str = ""
    reason: str = ""


def sprite_kind(limits: JobLimits, titles: Titles, tools: Tools) -> JobKind:
    """Make what does these jobs."""
    return JobKind(NAME, partial(_run, titles, tools), limits)


async def _run(titles: Titles, tools: Tools, arguments: Arguments, _progress: Progress) -> dict[str, Any]:
    request = msgspec.convert(arguments, _SpriteRequest)
    storyboard = await titles.threads.run(titles.storyboard, request.film)
    if storyboard.key != request.key or request.number >= storyboard.sprites:
        raise ValueError(f"{request.film} has another version on this machine")
    try:
        with ReaderGuard(request.film):
            data = await draw_sprite(titles, tools, storyboard, request.number)
    except (MediaError, ToolsError) as error:
        return {"reason": str(error)}
    return {"jpeg": base64.b64encode(data).decode()}


class QueuedSprites:
    """Has sprites drawn by workers; see `packager.vod.sprites.sprite_maker.RemoteDrawing`.

    Raises:
        ValueError: the URL is wrong.
    """

    def __init__(self, url: str, limits: JobLimits, asking: JobsLimits) -> None:
        self._asking = asking
        self._redis = queues_client(url, asking)
        self._queue = JobQueue(self._redis, JobKind(NAME, _nothing, limits), asking)

    async def draw(self, storyboard: Storyboard, number: int) -> bytes | None:
        """Queue the drawing of a sprite, and wait for it; None where nobody does it."""
        arguments = {"film": storyboard.path, "key": storyboard.key, "number": number}
        job = Job(f"{storyboard.key}-{number}", arguments)
        try:
            (state,) = await self._queue.states([job])  # another machine may have asked for it
            for _ in range(LOOKS_FOR_WORKERS):
                if state is not None and state.is_over:
                    return _sprite(job, state)
                if not await self._queue.has_workers():
                    return None
                state = await self._last_state(job)
        except QueueAwayError:
            return None
        return None if state is None or not state.is_over else _sprite(job, state)

    async def _last_state(self, job: Job) -> JobState | None:
        """Follow a job for no longer than a worker that was killed counts as there."""
        last: JobState | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WORKER_SECONDS + 1):
                async for _, state in self._queue.follow([job], lambda _: None):
                    last = state
        return last

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def _sprite(job: Job, state: JobState) -> bytes | None:
    if state.status is Status.FAILED:
        log.warning("thumbnails can't be drawn by a worker", film=job.arguments["film"], reason=state.reason)
        return None
    try:
        drawn = msgspec.convert(state.result, _Drawn)
        data = base64.b64decode(drawn.jpeg, validate=True)
    except (msgspec.ValidationError, binascii.Error):
        return None
    if drawn.reason:
        raise ToolsError(drawn.reason)
    return data or None


async def _nothing(_arguments: Arguments, _progress: Progress) -> None:
    """Do nothing, as this process queues jobs and does none."""
