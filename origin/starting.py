"""The beginning of ``headwater serve``: what takes its time is begun at once, side by side."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from pathlib import Path

from origin import allocator
from origin.config import Config
from origin.reloading import reloading
from packager.tools import discover


async def serve(
    config: Config, read: Callable[[], Config], *, demo: bool, own_library: bool, file: Path | None
) -> None:
    """Serve until SIGTERM or Ctrl-C; ffmpeg is asked what it can while the rest of the program is read.

    Args:
        config: all options.
        read: reads them again from where they came from; it blocks.
        demo: whether the demo's channel, station and (without an own library) films are added.
        own_library: whether the configuration names a library.
        file: where it was read from, if from a file.

    Raises:
        CommandError, ToolsError, DataInUseError, OSError: as ``serving.serve``.
    """
    allocator.settle()
    asking = asyncio.ensure_future(discover())
    try:
        await asyncio.to_thread(importlib.import_module, "origin.serving")
        from origin import serving

        async with reloading(config, read):
            await serving.serve(config, asking, demo=demo, own_library=own_library, file=file)
    finally:
        asking.cancel()
        # Whoever needs the answer has had it, or the error; it is told once.
        await asyncio.gather(asking, return_exceptions=True)
