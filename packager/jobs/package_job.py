"""Packaging of a film, or of a title's renditions, as a job."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from packager.export.export import ExportReport, FilmOutcome, Package, package, plan
from packager.export.ladder import ladder_of
from packager.export.sources import PackagedFilm
from packager.jobs.job import Arguments, Job, JobKind, Progress
from packager.jobs.limits import JobLimits
from packager.process.ffmpeg_discovery import discover
from packager.threads import SHARED_THREADS

NAME = "package"

LadderMode = Literal["auto", "all"]
"""Which renditions are encoded of a film."""

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


class _RequestedFilm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: Text
    folder: Annotated[tuple[Text, ...], msgspec.Meta(max_length=100)]


class _PackageRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    films: Annotated[tuple[_RequestedFilm, ...], msgspec.Meta(min_length=1, max_length=1000)]
    out: Text
    layout: Annotated[str, msgspec.Meta(pattern=r"^(segments|single-file)\Z")]
    ladder: LadderMode | None = None


class Packaged(msgspec.Struct, frozen=True):
    """The result of a packaging job.

    Attributes:
        films: paths of the multivariant playlists of films.
        left_out: a line for each track that isn't packaged.
        failures: why films couldn't be packaged, which no other attempt would change.
    """

    films: tuple[str, ...]
    titles: tuple[str, ...]
    left_out: tuple[str, ...]
    failures: tuple[str, ...]


def package_jobs(
    inputs: Sequence[Path], out: Path, *, single_file: bool, ladder: LadderMode | None = None
) -> list[Job]:
    """Make jobs of what is to be packaged, by paths that are the same on every machine; raises as `plan`."""
    absolute = [path.absolute() for path in inputs]
    return [_job(one, ladder) for one in plan(absolute, out.absolute(), single_file=single_file)]


def _job(one: Package, ladder: LadderMode | None) -> Job:
    films = [{"path": str(source.path), "folder": list(source.folder)} for source in one.sources]
    arguments: dict[str, Any] = {"films": films, "out": str(one.out), "layout": one.layout}
    if ladder is not None:
        arguments["ladder"] = ladder
    versions = [_version(source.path) for source in one.sources]
    key = hashlib.sha256(json.dumps([arguments, versions]).encode()).hexdigest()
    return Job(key, arguments)


def _version(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError:  # the job says why
        return []
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def package_kind(limits: JobLimits) -> JobKind:
    """Make what does these jobs."""
    return JobKind(NAME, _run, limits)


async def _run(arguments: Arguments, progress: Progress) -> dict[str, Any]:
    """Package in a thread; one that is to end does so behind its next segment, and another goes on there."""
    request = msgspec.convert(arguments, _PackageRequest)
    one = Package(
        tuple(PackagedFilm(_absolute(film.path), _names(film.folder)) for film in request.films),
        _absolute(request.out),
        request.layout,
    )
    ladder = None if request.ladder is None else ladder_of(request.ladder, await discover())
    ending = threading.Event()
    left_out: list[str] = []

    def told(_name: str, done: int, total: int) -> None:
        if ending.is_set():
            raise _EndedError
        progress(done, total)

    working = asyncio.ensure_future(
        SHARED_THREADS.run(package, one, ExportReport(told, left_out.append, lambda _: None), ladder)
    )
    try:
        outcome = await asyncio.shield(working)
    except asyncio.CancelledError:
        ending.set()
        await asyncio.wait((working,))
        working.exception()
        raise
    result: dict[str, Any] = msgspec.to_builtins(_packaged(outcome, left_out))
    return result


class _EndedError(Exception):
    """The worker is to end."""


def _packaged(outcome: FilmOutcome, left_out: Sequence[str]) -> Packaged:
    return Packaged(
        tuple(map(str, outcome.films)),
        tuple(map(str, outcome.titles)),
        tuple(left_out),
        tuple(map(_told, outcome.failures)),
    )


def _told(error: Exception) -> str:
    return str(error) or type(error).__name__


def _absolute(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute() or "\0" in text or ".." in path.parts:
        raise ValueError(f"{text!r} is no absolute path")
    return path


def _names(folder: Sequence[str]) -> tuple[str, ...]:
    for name in folder:
        if name in (".", "..") or os.sep in name or "\0" in name:
            raise ValueError(f"{name!r} is no name of a folder")
    return tuple(folder)
