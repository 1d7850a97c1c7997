"""Who asks for the MP4s of many recordings has them laid out by turns, and in memory that has a bound."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import httpx
import pytest
from msgspec.structs import replace
from starlette.applications import Starlette

from origin.answers.asgi import handler_routes
from origin.recordings.handler import PATTERN, RecordingHandler
from packager.process.ffmpeg_discovery import Tools
from packager.recordings.disk_recordings import Recording
from packager.recordings.kept_recordings import LAYOUTS, LAYOUTS_KEPT, AllRecordings
from tests.conformance.handfed import Track
from tests.packager.recordings.recorded_channel import layouts, record

MORE = 50
"""So many recordings more than those whose layouts stay in memory."""


async def test_memory_for_mp4s_of_many_recordings_has_a_bound_and_their_bytes_stay_the_same(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = await record(tmp_path, material, tools, monkeypatch)
    names = [str(number) for number in range(LAYOUTS_KEPT.items + MORE)]
    # Each of them has the same files.
    every = {name: Recording(replace(recording.metadata, id=name), recording.path) for name in names}
    handler = RecordingHandler({"one": cast("AllRecordings", every)})
    app = Starlette(routes=handler_routes(handler, [PATTERN]))
    before = layouts()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://one") as client:

        async def ask(name: str, method: str = "HEAD") -> httpx.Response:
            answer = await client.request(method, f"/live/one/recordings/{name}/event.mp4")
            return answer.raise_for_status()

        first = await ask(names[0], "GET")
        sizes = {(await ask(name)).headers["content-length"] for name in names}
        assert len(layouts()) - len(before) <= LAYOUTS_KEPT.items
        assert sizes == {f"{len(first.content)}"}
        again = await ask(names[0], "GET")
        assert (again.content, again.headers["etag"]) == (first.content, first.headers["etag"])

        # Of many requests of one network at once, the next one waits for the one before.
        asked = asyncio.gather(*map(ask, names[1 : MORE // 2]))
        most = 0
        while not asked.done():
            most = max(most, LAYOUTS.being_made)
            await asyncio.sleep(0)
        assert {one.headers["content-length"] for one in await asked} == sizes
        assert most <= 1
