"""A real server's stations, and the programs that play and feed them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from media.mp3.reader import Frame, MpegAudioReader
from tests.clients.programs import environment
from tests.conftest import ServerProcess
from tests.processes import end
from tests.waiting import wait_for

PATIENCE_SECONDS = 240.0
"""How long one may take to start, or the server to answer."""

PASSWORD = "sésame&?"
TITLES = ("Maker - Öne", "Maker - Two's")
HEARD = {"Maker - Öne", "Maker - Two\u2019s"}
"""The titles as listeners get them: an apostrophe would end the field."""


def station(server: ServerProcess, name: str) -> dict[str, object]:
    """What the status says of a station; {} while it isn't live."""
    with urllib.request.urlopen(f"{server.url}/status-json.xsl", timeout=PATIENCE_SECONDS) as answer:
        sources = json.load(answer)["icestats"]["source"]
    found: list[dict[str, object]] = [one for one in sources if one["listenurl"].endswith(f"/{name}")]
    return found[0] if found else {}


def live_station(server: ServerProcess, name: str) -> dict[str, object]:
    """The same once it is live: a starved one is silent for a moment."""
    return wait_for(lambda: station(server, name), name, PATIENCE_SECONDS)


def is_fed_by(server: ServerProcess, name: str, source: str) -> bool:
    """Whether a station's source calls itself so."""
    return station(server, name).get("server_name") == source


def is_vacant(server: ServerProcess) -> bool:
    """Whether the server has taken notice that all sources are gone."""
    text = server.text()
    return text.count("source connected") == text.count("source gone")


def port_of(server: ServerProcess) -> str:
    return server.url.rpartition(":")[2]


@contextlib.contextmanager
def running(*command: str, log: Path, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends; its words go to a file."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env={**environment(), **(env or {})}
        )
    try:
        yield process
    finally:
        end(process)


def frames(data: bytes) -> list[Frame]:
    reader = MpegAudioReader()
    reader.receive_data(data)
    return [event for event in reader.events() if isinstance(event, Frame)]


def heard(server: ServerProcess, name: str, size: int = 60_000) -> list[Frame]:
    with urllib.request.urlopen(f"{server.url}/radio/{name}", timeout=PATIENCE_SECONDS) as answer:
        return frames(answer.read(size))
