"""A source's troubles as viewers see them: hls.js and ffmpeg play on when there is media again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from packager.process.ffmpeg_discovery import Tools
from tests.copied_channel import film
from tests.e2e.audience import Audience, watched
from tests.upstream import Upstream, upstream

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

GONE_SECONDS = float(os.environ.get("HEADWATER_GONE_SECONDS", "30"))
"""For how long a source is away; ten minutes by hand."""

SPOILT_SECONDS = 4.0

CONFIG = """
[server]
port = 0
data = "data"

[[live]]
name = "test"
source = "http://127.0.0.1:{port}/programme.ts"
ladder = ["240p"]
part_duration = 0.5
segment_duration = 1.0
"""
PROGRAMME = "-re -i {film} -c copy -f mpegts pipe:1"
"""ffmpeg's arguments: what comes to each connection begins anew."""


@dataclass(frozen=True)
class Show:
    """A source, and who watches the channel that pulls it."""

    source: Upstream
    audience: Audience


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def show(
    browser: Browser, tools: Tools, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Show]:
    async with upstream(tools, PROGRAMME.format(film=film())) as source:
        folder = tmp_path_factory.mktemp("source-troubles", numbered=False)
        config = CONFIG.format(port=source.port)
        async with watched(browser, tools, folder, config, own_clock=True) as audience:
            yield Show(source, audience)


@pytest.mark.parametrize("seconds", [1.0, GONE_SECONDS])
async def test_viewers_play_on_after_their_source_was_away(show: Show, seconds: float) -> None:
    await show.source.stop()
    await asyncio.sleep(seconds)
    await show.source.start()
    await show.audience.plays_on()


async def test_viewers_play_on_after_their_source_was_full_of_errors(show: Show) -> None:
    show.source.spoils = True
    await asyncio.sleep(SPOILT_SECONDS)
    show.source.spoils = False
    await show.audience.plays_on()


async def test_viewers_of_a_pulled_channel_play_on_after_the_clock_was_set_forward(show: Show) -> None:
    await show.audience.plays_on_an_hour_later()
