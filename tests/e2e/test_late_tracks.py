"""Films with a track that begins late, and titles whose files differ in length: players play them whole."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from packager.process.ffmpeg_discovery import Tools
from tests.conftest import ServerProcess, start_server
from tests.e2e.film_playing import encode, played_to_the_end
from tests.e2e.timed_film import PLAYERS

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.realtime]

SECONDS = {"64x48": 20, "128x96": 27}
"""Of a title's files, by size."""

LATE = {"late sound.mp4": (0, 9), "late picture.mp4": (9, 0)}
"""Seconds at which picture and sound of films of twenty seconds begin."""


@pytest.fixture(scope="module")
def films(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder: Path = tmp_path_factory.mktemp("films")
    for size, seconds in SECONDS.items():
        name = f"title.{size.partition('x')[2]}p.mp4"
        pictures = f"testsrc2=s={size}:r=25:d={seconds}"
        encode(tools, folder / name, pictures, seconds, "-g 50 -sc_threshold 0")
    whole = folder / "title.48p.mp4"
    for name, (picture, sound) in LATE.items():
        offsets = f"-itsoffset {picture} -i {whole} -itsoffset {sound} -i {whole} -map 0:v -map 1:a -c copy"
        command = [str(tools.ffmpeg), "-nostdin", "-v", "error", *offsets.split()]
        subprocess.run([*command, f"file:{folder / name}"], check=True)
    with start_server("--library", str(folder), "--port", "0") as server:
        yield server


@pytest.mark.parametrize("kind", PLAYERS)
async def test_a_title_is_played_to_the_end_of_its_longest_rendition(
    browser: Browser, films: ServerProcess, kind: str
) -> None:
    await played_to_the_end(browser, f"{films.url}/vod/title", kind, max(SECONDS.values()))


@pytest.mark.parametrize("kind", PLAYERS)
@pytest.mark.parametrize("name", LATE)
async def test_a_film_whose_track_begins_late_is_played_from_its_begin(
    browser: Browser, films: ServerProcess, name: str, kind: str
) -> None:
    await played_to_the_end(browser, f"{films.url}/vod/{name}", kind, 20 + max(LATE[name]))
