"""What this machine's ffmpeg can do, which one process of a run asks for all: it takes a second each time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

from tests.made_once import VARIABLE, made_once

if TYPE_CHECKING:
    from packager.process.ffmpeg_discovery import Tools

FINDING_TOOLS = ("FFMPEG", "FFPROBE", "PATH")
"""Variables that say which ffmpeg that is."""


def known_tools() -> Tools:
    """Return the tools.

    Raises:
        ToolsError: it has none.
    """
    from packager.process.ffmpeg_discovery import discover

    if VARIABLE not in os.environ:  # a benchmark's server: there is no run
        return asyncio.run(discover())

    def make(folder: Path) -> None:
        (folder / "tools").write_bytes(pickle.dumps(asyncio.run(discover())))

    words = ("tools", *(os.environ.get(name, "") for name in FINDING_TOOLS))
    found: Tools = pickle.loads((made_once(words, make) / "tools").read_bytes())
    return found


def tools_if_any() -> Tools | None:
    """Return them; None where there are none."""
    from packager.process.ffmpeg_discovery import ToolsError

    with contextlib.suppress(ToolsError):
        return known_tools()
    return None
