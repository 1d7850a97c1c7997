"""Makes the demo's media with ffmpeg at the first start: three films and an album of short tunes.

Each item is written under a temporary name and renamed when it is complete, so an interrupted start leaves
nothing incomplete, and the next one makes only what is missing.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from packager.ffmpeg.arguments import compile_arguments
from packager.ffmpeg.demo_media import Recipe, recipes
from packager.process.ffmpeg_discovery import Tools, ToolsError
from packager.process.process import Process, last_error
from packager.process.sandbox import Sandbox

RECIPE_SECONDS = 900.0
"""Time limit of one item; a shared machine may be slow."""


def folder(cache: Path, tools: Tools) -> Path:
    """Return the demo's folder in a cache folder; another version of the recipes gets another folder."""
    text = json.dumps([(recipe.outputs, recipe.arguments) for recipe in recipes(tools)])
    return cache / "headwater" / f"demo-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def cache_folder() -> Path:
    """Return the user's cache folder by the XDG base directory specification."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


async def make(
    root: Path, tools: Tools, *, progress: Callable[[str, int, int], None] = lambda *_: None
) -> None:
    """Make what is missing.

    Args:
        root: the demo's folder, with ``library/``.
        progress: called before each item and at the end, with its label, the number done and the total.

    Raises:
        ToolsError: ffmpeg lacks something or failed.
        OSError: the folder can't be written.
    """
    tools.require(
        "the demo's media",
        encoders=("libx264", "aac", "libmp3lame", "mjpeg"),
        filters=("testsrc2", "aevalsrc", "mandelbrot", "gradients"),
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
        arguments = compile_arguments(["-y", *(names.get(word, word) for word in recipe.arguments)])
        sandbox = Sandbox(write=(str(scratch.absolute()),))
        process = await Process.start([tools.ffmpeg, *arguments], outputs=0, sandbox=sandbox)
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
    """Make a temporary folder with a random name, and remove it at the end."""
    root.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=".making-", dir=root))


def _unlinked(path: Path) -> Path:
    """Return the given path if nothing lies there, or a file of an earlier run.

    Raises:
        OSError: something else does.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise FileExistsError(errno.EEXIST, "the server didn't write what lies here; remove it", str(path))
    return path
