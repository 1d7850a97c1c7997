"""Servers for tests of the wire: on each event loop, patient and hasty, and a file no buffers can hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette

from origin.files.handler import FileHandler, file_routes
from origin.http1.limits import HttpLimits
from packager.library.local_storage import Library
from tests.conformance.conftest import FILM, Loop, Running, serving

HASTY = HttpLimits(header_seconds=0.5, stalled_seconds=1.0)
BIG = 64 * 1024 * 1024


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Loop:
    found: Loop = request.param
    return found


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("library")
    (root / "film.mp4").write_bytes(FILM)
    (root / "long.mp4").write_bytes(FILM * 16)
    make_big(root / "big.mp4")
    (root / "small.mp3").write_bytes(b"0123456789")
    return root


def make_big(path: Path) -> None:
    """A file that no socket's buffers can hold, which takes no room on the disk."""
    with path.open("wb") as file:
        file.truncate(BIG)


@pytest.fixture(scope="module")
def origin(library: Path, loop: Loop) -> Iterator[Running]:
    app = Starlette(routes=file_routes(FileHandler(Library(library))))
    with serving(app, library, loop) as running:
        yield running


@pytest.fixture(scope="module")
def hasty(library: Path, loop: Loop) -> Iterator[Running]:
    """One with short times, for those who don't keep them: who is only late would be dropped, too."""
    app = Starlette(routes=file_routes(FileHandler(Library(library))))
    with serving(app, library, loop, HASTY) as running:
        yield running
