"""A real origin for real clients, and how to run these."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.films import make_film
from tests.conftest import ServerProcess, start_server

DATA_SIZE = 20 * (1 << 20) + 777
FILM_SIZE = 100 << 20
TIMEOUT_SECONDS = 120.0
LONG_AGO = 1_700_000_000
SETTINGS = {"LC_ALL": "C.UTF-8", "HOME": "/nonexistent", "no_proxy": "127.0.0.1"}
"""Clients speak English and have no configuration of their own."""


@dataclass(frozen=True)
class Result:
    """How a program ended."""

    status: int
    output: bytes
    errors: str

    @property
    def text(self) -> str:
        return self.output.decode("utf-8", "replace")


def program(name: str, package: str) -> str:
    """Find a program's path, or skip the test with the package that has it."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} isn't installed (Debian: apt-get install {package})")
    return path


def environment() -> dict[str, str]:
    """Ours, without what would make a client behave differently."""
    ours = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**ours, **SETTINGS}


def run(*command: str, cwd: Path | None = None) -> Result:
    """Run a program to its end."""
    ended = subprocess.run(
        command,
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
    )
    return Result(ended.returncode, ended.stdout, ended.stderr.decode("utf-8", "replace"))


@pytest.fixture(scope="session")
def data() -> bytes:
    """The bytes of `data.mp4`, at no other place the same."""
    return random.Random(28).randbytes(DATA_SIZE)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> Path:
    """`data.mp4` for downloads, and the film `tail.mp4` with its index behind 100 MiB of media."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "data.mp4").write_bytes(data)
    make_film(folder / "tail.mp4", FILM_SIZE, moov_first=False)
    for path in folder.iterdir():
        os.utime(path, (LONG_AGO, LONG_AGO))
    return folder


@pytest.fixture(scope="session")
def origin(library: Path) -> Iterator[ServerProcess]:
    server = start_server("--library", str(library), "--port", "0")
    yield server
    server.stop()
