"""Makes the demo's media before the tests: otherwise each of their processes would, at its first server.

python -m tests.demo_media
"""

from __future__ import annotations

import asyncio
import contextlib

from packager.library import demo_media
from packager.process.ffmpeg_discovery import ToolsError, discover


async def make() -> None:
    # Where this ffmpeg can't, those tests fail that need them.
    with contextlib.suppress(ToolsError):
        tools = await discover()
        await demo_media.make(demo_media.folder(demo_media.cache_folder(), tools), tools)


if __name__ == "__main__":
    asyncio.run(make())
