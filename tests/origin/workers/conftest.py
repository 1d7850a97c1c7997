"""Servers with one process and with several, which serve the same."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from origin.server.services.limits import Limits, ServerLimits
from tests.conftest import ServerProcess, start_server
from tests.origin.workers.asking import SIGNING_KEY, ready
from tests.packager import films
from tests.patience import program

PATIENT = ServerLimits(report_seconds=10.0, spares=0)
"""A worker isn't taken for silent since the machine is busy; and none is made that isn't needed."""

WITH_SPARE = replace(PATIENT, spares=1)

LONG_AGO = 1_700_000_000
BIG_BYTES = 24 << 20

CONFIG = """
[server]
workers = {workers}
data = "{data}"

[library]
folders = {{ private = "signed" }}

[access]
keys = ["{key}"]

[[events]]
name = "news"
publish_token = "token"
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("library")
    (root / "film.mp4").write_bytes(films.film("bframes.mp4").read_bytes())
    (root / "private").mkdir()
    shutil.copy(root / "film.mp4", root / "private" / "film.mp4")
    with (root / "big.bin").open("wb") as file:
        file.truncate(BIG_BYTES)
    for path in root.rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    return root


def started(
    folder: Path, library: Path, workers: int, *more: str, limits: ServerLimits = PATIENT
) -> ServerProcess:
    config = folder / f"{workers}.toml"
    config.write_text(
        CONFIG.format(workers=workers, data=folder / f"data{workers}", key=SIGNING_KEY) + "".join(more)
    )
    options = ("--config", str(config), "--library", str(library), "--port", "0")
    server = start_server(*options, program=program(Limits(server=limits)))
    if workers > 1:
        ready(server, workers)
    return server


@pytest.fixture(scope="session")
def alone(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = started(tmp_path_factory.mktemp("alone"), library, 1)
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="session")
def three(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = started(tmp_path_factory.mktemp("three"), library, 3)
    yield server
    assert server.stop() == 0
