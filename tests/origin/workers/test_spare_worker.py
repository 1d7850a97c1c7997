"""A spare worker, which has imported everything, takes the place of one that dies."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

from tests.conftest import ServerProcess, start_server
from tests.origin.workers.asking import exchange, metric, ready, spare_of, workers_of
from tests.origin.workers.conftest import WITH_SPARE, started
from tests.origin.workers.connections import connections
from tests.origin.workers.worker_processes import RANGE, is_there
from tests.waiting import wait_for

MEDIA = "/media/film.mp4"
IMPORT, FIRST_IMPORT = "import ", "import _frozen_importlib #"
"""What Python writes for each module that it imports with this variable, and before the first one."""


CONFIG = """
[server]
workers = 2

[[live]]
name = "live"
source = "publish"

[[radio]]
name = "station"
source = "publish"

[[events]]
name = "events"
"""


def kill_one_and_see(server: ServerProcess) -> None:
    """Kill a worker, and see who comes in its place, and what is imported until then."""
    (killed, other), spare = workers_of(server), spare_of(server)
    began, seen = len(server.output), server.text().count(FIRST_IMPORT)
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: workers_of(server) == sorted([other, spare]), "the spare one's number")
    with connections(server, [spare], MEDIA):
        pass
    # The next spare one is begun when this one serves.
    wait_for(lambda: server.text().count(FIRST_IMPORT) > seen, "the next one's first import")
    lines = "".join(server.output[began:]).partition(FIRST_IMPORT)[0].splitlines()[:-1]
    # Lines of before may be read only now: the spare one wrote them before it had its name.
    begun = next(number for number, line in enumerate(lines) if "a worker is started again" in line)
    assert [line for line in lines[begun:] if line.startswith(IMPORT)] == []


def test_it_takes_the_place_of_a_killed_one_and_imports_nothing_more(library: Path, tmp_path: Path) -> None:
    config = tmp_path / "two.toml"
    config.write_text(CONFIG)
    options = ("--config", str(config), "--library", str(library), "--port", "0")
    server = start_server(*options, env={"PYTHONVERBOSE": "1"})
    ready(server, 2)
    for _ in range(2):
        kill_one_and_see(server)
    assert metric(server, "headwater_worker_restarts_total") == 2
    assert server.stop() == 0


def test_a_spare_one_that_dies_is_replaced_and_no_worker_was_restarted(library: Path, tmp_path: Path) -> None:
    server = started(tmp_path, library, 2, limits=WITH_SPARE)
    workers, spare = workers_of(server), spare_of(server)
    os.kill(spare, signal.SIGTERM)
    wait_for(lambda: spare_of(server) != spare, "another one")
    assert workers_of(server) == workers
    assert metric(server, "headwater_worker_restarts_total") == 0
    # Its death is told, and not taken for a worker's.
    assert server.text().count("a spare worker is started again") == 1
    assert server.stop() == 0


def test_one_that_stands_still_is_not_waited_for_for_long(library: Path, tmp_path: Path) -> None:
    server = started(tmp_path, library, 2, limits=replace(WITH_SPARE, start_seconds=10.0))
    killed, spare = workers_of(server)[0], spare_of(server)
    os.kill(spare, signal.SIGSTOP)
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: not is_there(spare), "its end")
    ready(server, 2)
    assert exchange(server, RANGE).startswith(b"HTTP/1.1 206 ")
    # Nor at the end.
    spare = spare_of(server)
    os.kill(spare, signal.SIGSTOP)
    assert server.stop() == 0
    assert not is_there(spare)


def test_a_configuration_that_was_read_again_reaches_it_too(library: Path, tmp_path: Path) -> None:
    server = started(tmp_path, library, 2, limits=WITH_SPARE)
    config = tmp_path / "2.toml"
    config.write_text(config.read_text() + '[log]\nlevel = "debug"\n')
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: server.text().count("log options taken") == 2, "both workers' lines")
    spare_of(server)
    os.kill(workers_of(server)[0], signal.SIGKILL)
    wait_for(lambda: server.text().count("log options taken") == 3, "the new one's line")
    assert server.stop() == 0
