"""The commands that queue jobs in Redis for other processes, and that do them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog

from origin.config.errors import CommandError
from origin.config.options import Config
from origin.server.services.library_services import (
    check_library,
    drawing_tools,
    make_served_library,
)
from origin.server.services.limits import Limits
from origin.system.end_signals import ended_by_signals
from packager.jobs.job import Job, JobKind, JobState, Status
from packager.jobs.limits import JobsLimits
from packager.jobs.package_job import LadderMode, Packaged, package_jobs, package_kind
from packager.process.ffmpeg_discovery import ToolsError, discover
from packager.threads import SHARED_THREADS

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger()


@dataclass(slots=True)
class PackagingResults:
    """The results of a command's jobs.

    Attributes:
        films: paths of playlists of films.
    """

    films: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    is_whole: bool = True

    @property
    def playlists(self) -> list[str]:
        """All playlists, those of titles last."""
        return self.films + self.titles


def package(
    config: Config,
    inputs: Sequence[Path],
    out: Path,
    *,
    single_file: bool,
    ladder: LadderMode | None,
    tell: Callable[[str], None],
    limits: Limits | None,
) -> PackagingResults:
    """Queue the packaging of films, and wait for it.

    Args:
        config: has the URL of Redis.
        single_file: whether all segments of a track go into one file.
        ladder: which renditions the workers encode; None for none.
        tell: called with each line for the user.
        limits: a server's limits; None: the usual ones.

    Raises:
        CommandError: there is no Redis, or it was away for too long.
        MediaError, OSError: as ``packager.export.export.plan``.
    """
    jobs = package_jobs(inputs, out, single_file=single_file, ladder=ladder)
    return asyncio.run(_follow(config, jobs, tell, (limits or Limits()).jobs))


async def _follow(
    config: Config, jobs: Sequence[Job], tell: Callable[[str], None], limits: JobsLimits
) -> PackagingResults:
    done, advice = PackagingResults(), "what is queued goes on; give the command again to see how far it is"
    async with _redis(config, limits) as redis:
        from packager.jobs.redis_queue import JobQueue, QueueAwayError

        queue = JobQueue(redis, package_kind(limits.package), limits)
        try:
            if not await queue.has_workers():
                tell("nobody does what is queued: start 'headwater work'")
            async for job, state in queue.follow(jobs, tell):
                _take_note(done, job, state, tell)
        except QueueAwayError as error:
            raise CommandError(f"cluster.url: {error}; {advice}") from None
    return done


def _take_note(done: PackagingResults, job: Job, state: JobState, tell: Callable[[str], None]) -> None:
    name = ", ".join(Path(film["path"]).name for film in job.arguments["films"])
    if state.status is Status.DONE:
        packaged = msgspec.convert(state.result, Packaged)
        done.films += packaged.films
        done.titles += packaged.titles
        for line in packaged.left_out:
            tell(f"left out: {line}")
        for line in packaged.failures:
            tell(line)
        done.is_whole &= not packaged.failures
    elif state.status is Status.FAILED:
        done.is_whole = False
        tell(f"{name}: {state.reason}")
    elif state.reason:
        tell(f"{name}: is tried again: {state.reason}")


async def work(config: Config, limits: Limits | None) -> None:
    """Do queued jobs until SIGTERM or Ctrl-C.

    Raises:
        CommandError: there is no Redis, or the extra for S3 isn't installed.
    """
    found = limits or Limits()
    async with _redis(config, found.jobs) as redis:
        from packager.jobs.worker import work as work_off

        kinds = [package_kind(found.jobs.package)]
        with contextlib.ExitStack() as stack:
            if (thumbnails := await _thumbnail_kind(config, found, stack)) is not None:
                kinds.append(thumbnails)
            working = asyncio.ensure_future(work_off(redis, kinds, found.jobs))
            with ended_by_signals(working.cancel), contextlib.suppress(asyncio.CancelledError):
                log.info("waiting for jobs", queue=config.cluster.url, kinds=[kind.name for kind in kinds])
                await working
    log.info("the worker has ended")


async def _thumbnail_kind(config: Config, limits: Limits, stack: contextlib.ExitStack) -> JobKind | None:
    """Make what draws thumbnails; None without ffmpeg, or where the library isn't."""
    try:
        tools = drawing_tools(config.library, await discover(limits=limits.tools))
    except ToolsError as error:
        log.warning("no thumbnails are made", reason=str(error))
        return None
    if tools is None:
        return None
    served = await SHARED_THREADS.run(make_served_library, config, limits, (), thumbnails=True)
    stack.callback(served.close)
    if not await SHARED_THREADS.run(check_library, served.storage, needed=False):
        return None
    from packager.jobs.sprite_job import sprite_kind

    return sprite_kind(limits.jobs.thumbnails, served.titles, tools)


@contextlib.asynccontextmanager
async def _redis(config: Config, limits: JobsLimits) -> AsyncIterator[Redis]:
    """Yield a client of the configured Redis."""
    if not config.cluster.url:
        raise CommandError("cluster.url: is missing; name a Redis, such as redis://127.0.0.1:6379/0")
    if not config.cluster.takes_jobs:
        raise CommandError("cluster.url: a Redis Cluster takes no jobs; name a Redis of their own")
    try:
        # Here and not above: they are an extra, which most installations don't have.
        from packager.jobs.redis_queue import queues_client
    except ModuleNotFoundError as error:
        if error.name not in ("redis", "saq"):
            raise
        raise CommandError("cluster.url: Redis needs an extra; install headwater[cluster]") from None
    try:
        redis = queues_client(config.cluster.url, limits)
    except ValueError:
        raise CommandError("cluster.url: such as redis://127.0.0.1:6379/0 or rediss://…") from None
    try:
        yield redis
    finally:
        await redis.aclose()
