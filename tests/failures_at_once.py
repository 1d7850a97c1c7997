"""Writes each test that fails into the log when it does, so that a run that is cut short says what failed."""

from __future__ import annotations

import pytest
from _pytest.terminal import TerminalReporter

from tests.failure_reasons import reason


class FailuresAtOnce:
    """Adds a line to what the terminal shows of a run: the test, and the place and words of its failure."""

    def __init__(self, terminal: TerminalReporter) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write the line; the processes of a run that has several hand their reports to the one that does."""
        if not report.failed:
            return
        kind = "FAILED" if report.when == "call" else "ERROR"
        if self._terminal._width_of_current_line:
            # A run of several processes doesn't tell that letters stand there.
            self._terminal.write("\n")
        self._terminal.write_line(f"{kind} {report.nodeid} - {reason(report)}")
        self._terminal.flush()


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:
        config.pluginmanager.register(FailuresAtOnce(terminal))
