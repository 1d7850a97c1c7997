"""SIGHUP: a wrong configuration is one line in the log and changes nothing; a good one sets the log."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import ServerProcess, start_server
from tests.waiting import wait_for

ROOT = Path(__file__).parents[3]
LIBRARY = '[library]\npath = "library"\n'


def hang_up(server: ServerProcess, path: Path, text: str, told: str) -> list[str]:
    """Write another configuration and tell the server; give the lines that it logs of it, up to this one."""
    path.write_text(text)
    before = len(server.output)
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: told in "".join(server.output[before:]), what=told)
    with urllib.request.urlopen(f"{server.url}/health", timeout=60) as answer:
        assert answer.status == 200
    lines = server.output[before:]
    # The last ones of the start may come late.
    return lines[next(place for place, line in enumerate(lines) if "configuration" in line) :]


@pytest.mark.clause("A reload with a wrong configuration changes nothing")
def test_sighup_reads_the_configuration_again_and_a_wrong_one_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    path = tmp_path / "headwater.toml"
    path.write_text(f"[server]\nport = 0\n{LIBRARY}")
    server = start_server(cwd=tmp_path)
    try:
        wrong = hang_up(server, path, f'[server]\nport = "high"\n{LIBRARY}', "can't be used")
        assert [line for line in wrong if "headwater.toml" in line and "server.port" in line] == wrong
        assert len(wrong) == 1
        torn = hang_up(server, path, "[server\n", "can't be used")
        assert len(torn) == 1
        live = '[[live]]\nname = "new"\nsource = "testsrc"\n'
        good = f'[server]\nport = 0\n{LIBRARY}max_age = 5\n[log]\nformat = "json"\n{live}'
        (line,) = hang_up(server, path, good, "read again")
        assert json.loads(line)["needs_restart"] == "library.max_age, live 'new'"
    finally:
        assert server.stop() == 0
    assert "Traceback" not in server.text()


@pytest.mark.parametrize("level", ["warning", "error"])
def test_the_answer_of_a_reload_names_what_needs_a_restart_whatever_the_level_of_the_log(
    tmp_path: Path, level: str
) -> None:
    (tmp_path / "library").mkdir()
    path = tmp_path / "headwater.toml"
    log = f'[log]\nlevel = "{level}"\nformat = "json"\n'
    path.write_text(f"[server]\nport = 0\n{LIBRARY}{log}")
    server = start_server(cwd=tmp_path)
    try:
        for more, needed in (("max_age = 5\n", "library.max_age"), ("", "nothing")):
            (line,) = hang_up(server, path, f"[server]\nport = 0\n{LIBRARY}{more}{log}", "read again")
            assert json.loads(line)["needs_restart"] == needed
        (line,) = hang_up(server, path, f'[server]\nport = "high"\n{log}', "can't be used")
        assert "server.port" in line
    finally:
        assert server.stop() == 0


def test_a_server_ends_with_the_terminal_that_it_was_started_in(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    terminal, stdin = pty.openpty()
    server = start_server("--port", "0", "--library", str(tmp_path / "library"), stdin=stdin)
    os.close(stdin)
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "read again" in server.text(), what="the configuration's being read")
    os.close(terminal)
    assert server.stop(signal.SIGHUP) == 0


EARLY = """
import os, signal, sys
sys.argv = ["headwater", "serve", *sys.argv[1:]]
import origin.cli
os.kill(os.getpid(), signal.SIGHUP)
from origin.cli.main import main
main()
"""
"""A server that gets a hang-up before it has imported its modules."""


def test_sighup_while_the_server_starts_ends_nothing_and_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    path = tmp_path / "headwater.toml"
    path.write_text(f"[server]\nport = 0\n{LIBRARY}")
    words = [sys.executable, "-c", EARLY, "--config", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as one:
        lines: list[str] = []
        assert one.stdout is not None
        for line in one.stdout:
            lines.append(line)
            if "configuration read again" in line:
                break
        one.terminate()
        one.communicate(timeout=60)
    assert "configuration read again" in lines[-1], lines
