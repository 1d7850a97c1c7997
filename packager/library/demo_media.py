"""The demo's media: two films and an album of small tunes, made by ffmpeg at the first start and kept.

Each item is one ffmpeg run that writes beside its place and is renamed when it is whole, so that a start that
was cut short leaves nothing half-made, and the next one makes only what is missing.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ffmpeg

from packager.process.arguments import QUIET
from packager.process.process import Process, last_error
from packager.process.sandbox import Sandbox
from packager.process.tools import Tools, ToolsError

FRAME_RATE = 30
GOP_FRAMES = 60
FILM_SECONDS = 72
RECIPE_SECONDS = 900.0
"""Longest time that one recipe may take; a shared machine is slow at times."""

RENDITIONS = (("720p", 1280, 720, 2000), ("480p", 854, 480, 900), ("240p", 426, 240, 300))
"""Name, width, height and kbit/s of the film's video renditions."""

TUNES = (
    ("01 Meltwater", "Headwater Ensemble", 220.0, (0, 4, 7, 11)),
    ("02 Gravel Bed", "Headwater Ensemble", 196.0, (0, 3, 7, 10)),
    ("03 Confluence", "The Tributaries", 261.63, (0, 5, 9, 12)),
)
"""File name, artist, lowest note in hertz, and the chord in semitones."""

TUNE_SECONDS = 40


@dataclass(frozen=True, slots=True)
class Recipe:
    """One ffmpeg run: the files it makes, and its arguments without the outputs' folder.

    Attributes:
        label: what a progress bar calls it.
        outputs: paths relative to the demo's folder; ``{0}``, ``{1}`` … in the arguments stand for them.
        arguments: ffmpeg's arguments behind the global options.
    """

    label: str
    outputs: tuple[str, ...]
    arguments: tuple[str, ...]


def folder(cache: Path, tools: Tools) -> Path:
    """Name the demo's folder below a cache folder: a new recipe gets a new one."""
    text = json.dumps([(recipe.outputs, recipe.arguments) for recipe in recipes(tools)])
    return cache / "headwater" / f"demo-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def cache_folder() -> Path:
    """The user's cache folder by the XDG base directory specification."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def recipes(tools: Tools) -> list[Recipe]:
    """All that the demo is made of; without drawtext the films have only their test picture's small clock."""
    return [_film(captions="drawtext" in tools.filters), _moov_last(), *(_tune(*tune) for tune in TUNES)]


async def make(
    root: Path, tools: Tools, *, progress: Callable[[str, int, int], None] = lambda *_: None
) -> None:
    """Make what isn't there yet.

    Args:
        root: the demo's folder; ``library/`` and ``music/`` are made in it.
        tools: ffmpeg.
        progress: called with the label, the number done and the number of all, before each and at the end.

    Raises:
        ToolsError: ffmpeg lacks something or failed.
        OSError: the folder can't be written.
    """
    tools.require(
        "the demo's media",
        encoders=("libx264", "aac", "libmp3lame"),
        filters=("testsrc2", "aevalsrc", "mandelbrot"),
    )
    wanted = [
        recipe for recipe in recipes(tools) if not all((root / name).is_file() for name in recipe.outputs)
    ]
    for done, recipe in enumerate(wanted):
        progress(recipe.label, done, len(wanted))
        await _cook(recipe, root, tools)
    if wanted:
        progress("demo media", len(wanted), len(wanted))


async def _cook(recipe: Recipe, root: Path, tools: Tools) -> None:
    scratch = _scratch(root)
    try:
        temporary = [scratch / name for name in recipe.outputs]
        for path in temporary:
            path.parent.mkdir(parents=True, exist_ok=True)
        names = {f"{{{index}}}": f"file:{path.absolute()}" for index, path in enumerate(temporary)}
        arguments = [names.get(word, word) for word in recipe.arguments]
        sandbox = Sandbox(write=(str(scratch.absolute()),))
        process = await Process.start([tools.ffmpeg, *QUIET, "-y", *arguments], outputs=0, sandbox=sandbox)
        try:
            async with asyncio.timeout(RECIPE_SECONDS):
                status = await process.wait()
        finally:
            await process.stop()
        if status != 0:
            raise ToolsError(f"making {recipe.label}: {last_error(process.errors) or f'status {status}'}")
        for path, name in zip(temporary, recipe.outputs, strict=True):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            path.replace(_unlinked(root / name))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _scratch(root: Path) -> Path:
    """Make a new folder of a name that nobody knows: what is in it is ours, and goes with it."""
    root.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=".making-", dir=root))


def _unlinked(path: Path) -> Path:
    """Give a path back at which nothing lies, or a file that an earlier run made.

    Raises:
        OSError: something else does.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise FileExistsError(errno.EEXIST, "what lies here isn't ours; remove it", str(path))
    return path


def _film(*, captions: bool) -> Recipe:
    """One film in three renditions with the same key frames, from one run."""
    source = ffmpeg.input(
        f"testsrc2=size=1280x720:rate={FRAME_RATE}:duration={FILM_SECONDS}", format="lavfi"
    ).filter("noise", alls=6, allf="t")
    if captions:
        box = {"fontcolor": "white", "box": 1, "boxcolor": "black@0.6"}
        source = source.drawtext(
            text="%{pts:hms}", fontsize=72, x="(w-tw)/2", y="h-140", escape_text=False, **box
        )
    tone = ffmpeg.input(
        # one note of a pentatonic scale a second, so that a seek can be heard
        f"aevalsrc='0.2*sin(2*PI*220*pow(2,mod(floor(t)*5,24)/12)*t)':s=48000:d={FILM_SECONDS}",
        format="lavfi",
    ).asplit()
    pictures = source.split()
    outputs = []
    for index, (_, width, height, rate) in enumerate(RENDITIONS):
        picture = pictures[index]
        if captions:
            picture = picture.drawtext(text=f"{height}p", fontsize=48, fontcolor="white", x=40, y=40)
        outputs.append(
            ffmpeg.output(
                picture.filter("scale", width, height).filter("format", "yuv420p"),
                tone[index],
                f"{{{index}}}",
                format="mp4",
                **_x264(rate),
                **{"c:a": "aac", "b:a": "128k", "ac": 2, "movflags": "+faststart"},
            )
        )
    names = tuple(f"library/film.{name}.mp4" for name, *_ in RENDITIONS)
    return Recipe("film in three renditions", names, _arguments(outputs))


def _moov_last() -> Recipe:
    """A second film whose moov box stands behind the media data, as most cameras write it."""
    picture = ffmpeg.input("mandelbrot=size=640x360:rate=25:end_scale=0.001:end_pts=1500", format="lavfi")
    tone = ffmpeg.input(
        "aevalsrc='0.1*sin(2*PI*(110+4*t)*t)|0.1*sin(2*PI*(165+4*t)*t)':s=44100", format="lavfi"
    )
    output = ffmpeg.output(
        picture.filter("format", "yuv420p"),
        tone,
        "{0}",
        format="mp4",
        t=40,
        **_x264(800) | {"g": 100, "keyint_min": 25},
        **{"c:a": "aac", "b:a": "96k"},
    )
    return Recipe("film with moov at the end", ("library/mandelbrot.mp4",), _arguments([output]))


def _tune(name: str, artist: str, lowest: float, chord: Sequence[int]) -> Recipe:
    """An arpeggio over a soft chord."""
    notes = "+".join(
        f"eq(mod(floor(4*t),{len(chord)}),{index})*{semitones}" for index, semitones in enumerate(chord)
    )
    pluck = (
        f"0.35*exp(-7*mod(t,0.25))*sin(2*PI*{lowest}*pow(2,({notes}+12*mod(floor(t/2),2))/12)*mod(t,0.25))"
    )
    pad = "+".join(f"0.05*sin(2*PI*{lowest / 2 * 2 ** (semitones / 12):.3f}*t)" for semitones in chord)
    output = ffmpeg.output(
        ffmpeg.input(f"aevalsrc='{pluck}+{pad}':s=44100:d={TUNE_SECONDS}", format="lavfi"),
        "{0}",
        format="mp3",
        ac=2,
        **{
            "c:a": "libmp3lame",
            "b:a": "128k",
            "metadata:g:0": f"title={name[3:]}",
            "metadata:g:1": f"artist={artist}",
            "metadata:g:2": "album=Headwater Demo",
        },
    )
    return Recipe(f"music: {name[3:]}", (f"music/{name}.mp3",), _arguments([output]))


def _x264(kilobits: int) -> dict[str, str | int]:
    return {
        "c:v": "libx264",
        "preset": "superfast",
        "profile:v": "high",
        "b:v": f"{kilobits}k",
        "maxrate": f"{kilobits * 5 // 4}k",
        "bufsize": f"{kilobits * 2}k",
        "bf": 2,
        "g": GOP_FRAMES,
        "keyint_min": GOP_FRAMES,
        "sc_threshold": 0,
    }


def _arguments(outputs: Sequence[object]) -> tuple[str, ...]:
    return tuple(ffmpeg.get_args(ffmpeg.merge_outputs(*outputs) if len(outputs) > 1 else outputs[0]))
