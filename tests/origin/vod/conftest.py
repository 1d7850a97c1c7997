"""Libraries of films for tests of VOD over HTTP."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from starlette.applications import Starlette

from origin.answers.asgi import handler_routes
from origin.vod.handler import VodHandler
from packager.vod import Titles
from tests.packager import films

LONG_AGO = 1_700_000_000
FILMS = ("bframes.mp4", "silent.mp4", "sound.m4a")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    root = tmp_path / "library"
    root.mkdir()
    for name in FILMS:
        put(root / name, films.film(name).read_bytes())
    return root


def put(path: Path, data: bytes, changed: int = LONG_AGO) -> None:
    """Put a file in its place at once."""
    new = path.with_suffix(".part")
    new.write_bytes(data)
    os.utime(new, (changed, changed))
    new.replace(path)


def vod_application(titles: Titles, max_age: int = 3600) -> Starlette:
    """Make an application that answers by a handler of its own, which keeps nothing between requests."""
    return Starlette(routes=handler_routes(VodHandler(titles, max_age), ["/vod/{path:path}"]))
