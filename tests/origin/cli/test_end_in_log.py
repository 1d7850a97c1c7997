"""The log of a program that runs until it is ended says which signal ended it, and that it has ended."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.conftest import start_server
from tests.waiting import wait_for


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda one: one.name)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_log_names_the_signal_that_ended_the_server(
    number: signal.Signals, workers: str, tmp_path: Path
) -> None:
    variables = {"HEADWATER_SERVER_WORKERS": workers}
    server = start_server("--library", str(tmp_path), "--port", "0", env=variables)
    assert server.stop(number) == 0
    wait_for(lambda: "the server has ended" in server.text(), "the last line of the log")
    named = [line for line in server.output if "a signal ends the program" in line]
    assert [f"signal={number.name}" in line for line in named] == [True], server.text()
    assert server.output.index(named[0]) < len(server.output) - 1
