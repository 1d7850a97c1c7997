"""A real server whose passwords somebody tries out."""

from __future__ import annotations

import base64
import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.raw import Client
from tests.conftest import ServerProcess, start_server
from tests.waiting import wait_for

CONFIG = """
[server]
port = 0

[[radio]]
name = "one.mp3"
source = "publish"
source_password = "of-the-source-client"

[[radio]]
name = "short.mp3"
source = "publish"
source_password = "secret"

[limits]
wrong_passwords = 2
wrong_password_seconds = 60
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    (tmp_path / "library").mkdir()
    (tmp_path / "headwater.toml").write_text(CONFIG)
    with start_server("--config", "headwater.toml", "--library", "library", cwd=tmp_path) as server:
        yield server


def title(password: str, station: str = "one.mp3") -> str:
    text = base64.b64encode(f"source:{password}".encode()).decode()
    target = f"/admin/metadata?mode=updinfo&mount=/radio/{station}&song=x"
    return f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {text}\r\n\r\n"


def address_of(server: ServerProcess) -> tuple[str, int]:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    return host, int(port)


def tasks(server: ServerProcess) -> int:
    with Client(address_of(server)) as client:
        text = client.ask("/metrics").body.decode()
    found = re.search(r"^headwater_tasks (\d+)", text, re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_who_guesses_waits_and_nobody_else_does(server: ServerProcess) -> None:
    """While ten wrong ones are held back for most of a minute, the right one isn't."""
    before = tasks(server)
    with contextlib.ExitStack() as stack:
        began = time.monotonic()
        for number in range(20):
            guesser = stack.enter_context(Client(address_of(server)))
            guesser.send(title(f"a-long-wrong-password-{number}"))
            # Its end is that of the connection: who only sends no more may still read.
            stack.callback(guesser.reset)
        wait_for(lambda: tasks(server) >= before + 9, "guesses to be held back")
        with Client(address_of(server)) as owner:
            owner.send(title("of-the-source-client"))
            # There is no source whose title it would be: but this is who may set it.
            assert owner.answer().status == 400
        # Those behind the eleventh wait for 51 s at least.
        assert tasks(server) >= before + 9 or time.monotonic() > began + 50
    # Who has gone is waited for no longer.
    wait_for(lambda: tasks(server) <= before, "the end of their tasks", 40)


@pytest.mark.promise("limits.wrong_passwords", "limits.wrong_password_seconds")
def test_guesses_one_after_the_other_take_longer_and_longer(server: ServerProcess) -> None:
    began = time.monotonic()
    for number in range(8):
        with Client(address_of(server)) as guesser:
            guesser.send(title(f"a-long-wrong-password-{number}"))
            assert guesser.answer().status == 401
    # 0, 0, 0.1, 0.2, … 3.2 s.
    assert time.monotonic() - began >= 6.2


@pytest.mark.clause("CWE-307", "RFC 6585 §4")
def test_who_hangs_up_and_tries_the_next_key_finds_no_short_one(server: ServerProcess) -> None:
    """Who isn't answered at once was wrong; but meanwhile no other short key is compared."""
    statuses = []
    with contextlib.ExitStack() as stack:
        for number in range(9):
            # Each waits for the one before; the last waits for half a minute, whatever happens.
            guesser = stack.enter_context(Client(address_of(server)))
            guesser.send(title(f"a-long-wrong-password-{number}"))
            stack.callback(guesser.reset)
        wait_for(lambda: is_held(server), "an answer to be held back")
        for number in range(20):
            with Client(address_of(server)) as guesser:
                guesser.send(title("secret" if number == 19 else f"{number}", "short.mp3"))
                answer = guesser.answer()
                statuses.append(answer.status)
                assert int(dict(answer.fields)["retry-after"]) > 0
        with Client(address_of(server)) as owner:
            owner.send(title("of-the-source-client"))
            assert owner.answer().status == 400
    assert statuses == [429] * 20


def is_held(server: ServerProcess) -> bool:
    with Client(address_of(server)) as client:
        client.send(title("short"))
        return client.answer().status == 429
