"""A server whose tables come, change and go, by requests and by its configuration's file."""

from __future__ import annotations

import ast
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import ServerProcess, start_server
from tests.keys import BEARER
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

HEAD = '[server]\nport = 0\nrtmp_port = 0\n[library]\npath = "library"\n'

DATA = '[server]\nport = 0\nrtmp_port = 0\ndata = "data"\n[library]\npath = "library"\n'
"""The same with a data folder."""


@dataclass
class ChangingServer:
    """A running server.

    Attributes:
        file: its configuration.
    """

    server: ServerProcess
    file: Path

    @property
    def url(self) -> str:
        return self.server.url

    def reload(self, text: str) -> list[str]:
        """Write another configuration and have it read; return what needs a restart."""
        self.file.write_text(text)
        before = len(self.server.output)
        self.server.process.send_signal(signal.SIGHUP)

        def answer() -> re.Match[str] | None:
            lines = "".join(self.server.output[before:])
            return re.search(r"read again +needs_restart=(.*)|configuration can't be used.*", lines)

        found = wait_for(answer, what="the reload")
        assert found is not None
        assert found[1] is not None, found[0]
        pending = found[1].strip()
        # The log writes texts with spaces as Python does.
        pending = str(ast.literal_eval(pending)) if pending[:1] in ("'", '"') else pending
        return [] if pending == "nothing" else pending.split(", ")

    def ask(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        """Send a request with the admin token."""
        content = {} if body is None else {"json": body}
        return patient(
            lambda: httpx.request(
                method, f"{self.url}{path}", headers=BEARER, timeout=CLIENT_SECONDS, **content, **more
            )
        )

    def states(self) -> dict[str, str]:
        """Return the states of all services, by name."""
        found: dict[str, str] = self.ask("GET", "/health").json()["services"]
        return found

    def described(self, channel: str) -> dict[str, Any]:
        """Return what the list says of a live channel."""
        return next(one for one in self.ask("GET", "/api/live").json() if one["name"] == channel)

    def await_state(self, name: str, state: str) -> None:
        wait_for(lambda: self.states().get(name) == state, what=f"{name} {state}")


def patient(send: Callable[[], httpx.Response]) -> httpx.Response:
    """Send a request until it isn't refused for those that came in the same second."""
    answers = list[httpx.Response]()

    def has_come() -> bool:
        answers.append(send())
        return answers[-1].status_code != 429

    wait_for(has_come, what="a turn")
    return answers[-1]


@contextmanager
def changing_server(folder: Path, text: str = DATA, *arguments: str) -> Iterator[ChangingServer]:
    """Run a server with a configuration while the block runs; it ends in order, without a traceback."""
    (folder / "library").mkdir(exist_ok=True)
    file = folder / "headwater.toml"
    file.write_text(text)
    file.chmod(0o600)
    server = start_server("--config", str(file), *arguments, cwd=folder)
    try:
        yield ChangingServer(server, file)
    finally:
        ended = server.stop()
    assert ended in (0, -signal.SIGKILL)
    assert "Traceback" not in server.text(), server.text()
