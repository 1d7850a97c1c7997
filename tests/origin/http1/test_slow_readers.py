"""Clients that take a few bytes now and then: whatever their replies hold isn't held for ever."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest
from starlette.applications import Starlette

from origin.files.handler import FileHandler, file_routes
from origin.http1.limits import HttpLimits
from packager.library.local_storage import Library
from tests.conformance.conftest import Loop, serving
from tests.origin.conftest import make_big
from tests.waiting import wait_for

HURRIED = HttpLimits(stalled_seconds=60.0, header_seconds=1.0, slow_seconds=3.0)


@pytest.fixture
def app(library: Path) -> Starlette:
    make_big(library / "big.mp4")
    return Starlette(routes=file_routes(FileHandler(Library(library))))


@pytest.mark.slow
@pytest.mark.clause("A client that takes nothing is dropped, and one that takes little isn't")
def test_a_client_that_takes_hardly_anything_is_dropped(app: Starlette, library: Path, loop: Loop) -> None:
    """It takes enough for each moment, and too little for the time over which it is judged."""
    with serving(app, library, loop, HURRIED) as running, running.connect(receive_buffer=4096) as client:
        client.send("GET /media/big.mp4 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.socket.recv(100)

        def is_closed() -> bool:
            with contextlib.suppress(ConnectionError):
                client.socket.recv(2048)
            return running.open_files() == 0

        wait_for(is_closed, "the file to be closed")


@pytest.mark.slow
def test_a_client_that_takes_enough_is_not_dropped(app: Starlette, library: Path, loop: Loop) -> None:
    with serving(app, library, loop, HURRIED) as running, running.connect() as client:
        client.send("GET /media/big.mp4 HTTP/1.1\r\nHost: a\r\nRange: bytes=0-33554431\r\n\r\n")
        end = time.monotonic() + 3 * HURRIED.slow_seconds
        while time.monotonic() < end:
            assert len(client.take(200_000)) == 200_000
            time.sleep(0.1)
        assert running.open_files() == 1
