"""Films whose tracks differ in length: players play them to the end of the longer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from packager.process.ffmpeg_discovery import Tools
from tests.conftest import ServerProcess, start_server
from tests.e2e.film_playing import encode, played_to_the_end
from tests.e2e.timed_film import PLAYERS

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.realtime]

LENGTHS = {
    "longer sound.mp4": (8, 30, 30),
    "longer picture.mp4": (30, 8, 30),
    "one picture.mp4": (0.04, 30, 30),
    "short.mp4": (0.2, 0.15, 0.5),
    "shortest.mp4": (0.08, 0.05, 0.5),
}
"""Seconds of picture and of sound, and of the film."""


@pytest.fixture(scope="module")
def films(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder: Path = tmp_path_factory.mktemp("films")
    for name, (pictures, sound, _) in LENGTHS.items():
        encode(tools, folder / name, f"testsrc2=s=160x90:r=25:d={pictures}", sound, "-g 50")
    with start_server("--library", str(folder), "--port", "0") as server:
        yield server


@pytest.mark.parametrize("kind", PLAYERS)
@pytest.mark.parametrize("name", LENGTHS)
async def test_a_film_is_played_to_the_end_of_its_longer_track(
    browser: Browser, films: ServerProcess, name: str, kind: str
) -> None:
    await played_to_the_end(browser, f"{films.url}/vod/{name}", kind, LENGTHS[name][2])
