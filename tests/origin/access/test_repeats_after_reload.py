"""What is closed at a reload is closed for who asks the same again, too, while others have a token for it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from origin.access.address_tokens import SigningKeys
from tests.conformance.raw import Client
from tests.conftest import ServerProcess, start_server
from tests.waiting import wait_for

KEY = "one:0123456789abcdef0123456789abcdef"
CONFIGURATION = """
[server]
port = 0
[access]
keys = ["{key}"]
[library]
path = "library"
folders = {{ "private" = "{private}", "other" = "signed" }}
"""
FILM = "/media/private/film.bin"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    film = tmp_path / "library" / "private" / "film.bin"
    film.parent.mkdir(parents=True)
    film.write_bytes(bytes(100_000))
    os.utime(film, (1_700_000_000, 1_700_000_000))
    (tmp_path / "headwater.toml").write_text(CONFIGURATION.format(key=KEY, private="open"))
    with start_server("--config", "headwater.toml", cwd=tmp_path) as running:
        yield running


@pytest.mark.parametrize("field", [(), ("Range: bytes=0-99",)])
def test_a_request_that_was_answered_openly_is_refused_once_it_needs_a_token(
    server: ServerProcess, tmp_path: Path, field: tuple[str, ...]
) -> None:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    token = SigningKeys([KEY]).sign("/media/private", int(time.time()) + 600)

    with ExitStack() as stack:
        strangers = [stack.enter_context(Client((host, int(port)))) for _ in range(3)]
        viewer = stack.enter_context(Client((host, int(port))))

        def answers() -> list[int]:
            # The viewer keeps the file open at the server.
            assert viewer.ask(f"/t/{token}{FILM}").status == 200
            return [stranger.ask(FILM, *field).status for stranger in strangers]

        for _ in range(4):
            assert set(answers()) <= {200, 206}
        (tmp_path / "headwater.toml").write_text(CONFIGURATION.format(key=KEY, private="signed"))
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "configuration read again" in server.text(), "the reload")
        for _ in range(20):
            assert answers() == [403] * 3
