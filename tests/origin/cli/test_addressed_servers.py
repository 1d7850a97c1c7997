"""All commands have the same options that say which server is meant, and find one that runs."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from origin.cli.main import cli
from tests.conftest import start_server
from tests.fork_server import run_headwater
from tests.keys import ADMIN_TOKEN
from tests.own_demo import demo_in

DOCUMENT = Path(__file__).parents[3] / "docs" / "command.md"
JOBS = {"package", "work"}
"""Commands that read from a configuration where jobs are queued, and are about no server."""


def options_of(command: str) -> set[str]:
    return {name for one in cli.commands[command].params for name in one.opts if name.startswith("--")}


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_a_command_names_its_server_as_all_others_do(command: str) -> None:
    options = options_of(command)
    if "--config" in options and command not in JOBS:
        assert "--demo" in options
    if "--to" in options:
        assert {"--config", "--demo", "--insecure"} <= options
    if "--token" in options:
        assert "--to" in options


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_the_documentation_names_each_option(command: str) -> None:
    text = DOCUMENT.read_text("utf-8")
    assert {one for one in options_of(command) if not re.search(rf"{one}\b", text)} <= {"--verbose"}


def test_commands_find_a_demo_that_runs_and_its_secrets(tmp_path: Path) -> None:
    cache = {"XDG_CACHE_HOME": str(tmp_path), "HEADWATER_SERVER_PORT": "1"}
    with demo_in(tmp_path, admin_token=None):
        done = run_headwater("reload", "--demo", env=cache)
        assert (done.returncode, done.stdout) == (0, "read again; nothing needs a restart\n"), done.stderr
        examined = run_headwater("doctor", "--demo", env=cache)
        assert re.search(r"(?m)^ok    library: .*/library can be read$", examined.stdout), examined.stdout
    # It doesn't run any more.
    assert "can't be asked" in run_headwater("reload", "--demo", env=cache).stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda one: one.name)
def test_reload_finds_a_server_at_another_port_than_the_configured_one_while_it_runs(
    number: signal.Signals, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "headwater.toml").write_text(
        f'[server]\nport = 1\ndata = "data"\nadmin_token = "{ADMIN_TOKEN}"\n[library]\npath = "."\n'
    )
    server = start_server("--port", "0", cwd=tmp_path)
    assert run_headwater("reload", cwd=tmp_path).returncode == 0
    server.stop(number)
    refused = run_headwater("reload", cwd=tmp_path)
    assert refused.returncode == 1
    assert "http://127.0.0.1:1 can't be asked" in refused.stderr
