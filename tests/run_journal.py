"""Keeps a journal of a run of tests, for whoever asks what failed in it again.

``--journal FILE`` writes lines of JSON as the run goes on, so that a run that is killed has one, too: the
tests that were collected, each one's beginning and end, each failure with its log, and how the run ended.
``--only FILE`` runs just the tests whose identifiers are lines of that file. Each test has a last moment, at
which its process ends if nothing else interrupts the test.
"""

from __future__ import annotations

import faulthandler
import json
import resource
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import pytest
from xdist.scheduler import LoadFileScheduling

from tests.failure_reasons import reason
from tests.processes import ENDED

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

NOT_JUDGED = "not judged"
"""The name under which a test's report has a figure that this machine is too slow for."""

COST = "cost"
"""The name under which a test's report has the seconds that the test took, and those of processors."""

LOG_CHARACTERS = 200_000
"""How much of a failure's log is kept: its end."""


class RunJournal:
    """Writes the journal of the process that has a run's reports, whether or not others run the tests."""

    def __init__(self, config: pytest.Config, file: TextIO) -> None:
        self._config = config
        self._file = file
        self._collected = False

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Write what this process runs by itself."""
        self._write_collected([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Write what others run: all of them have collected the same."""
        self._write_collected(ids)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Write that a file can't be read, which no other try mends."""
        if report.failed:
            self._write(unreadable=report.nodeid)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Write that a test begins."""
        self._write(began=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write what failed and why."""
        if report.failed:
            sections = [f"--- {title} ---\n{text}" for title, text in report.sections]
            log = "\n".join([report.longreprtext, *sections])[-LOG_CHARACTERS:]
            self._write(failed=report.nodeid, reason=reason(report), log=log)
        if report.when == "teardown":
            for name, figure in report.user_properties:
                if name == NOT_JUDGED:
                    self._write(not_judged=report.nodeid, figure=figure)
                elif name == COST:
                    self._write(cost=report.nodeid, seconds=figure)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Write that a test's process is through with it."""
        self._write(ended=nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write how many did what, and whether somebody wanted to stop before the end."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        counts = {} if terminal is None else {kind: len(of) for kind, of in terminal.stats.items() if kind}
        self._write(counts=counts, stopped=bool(session.shouldstop or session.shouldfail))

    def _write_collected(self, ids: Sequence[str]) -> None:
        if ids and not self._collected:
            self._collected = True
            self._write(collected=list(ids))

    def _write(self, **line: object) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


class Costs:
    """Measures what each test of this process takes, with the programs that it ended."""

    def __init__(self) -> None:
        self._seconds, self._processor_seconds = time.monotonic(), processor_seconds()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        """Begin to measure a test."""
        self._seconds, self._processor_seconds = time.monotonic(), processor_seconds()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add to the last report of a test what it took."""
        report = yield
        if call.when == "teardown":
            cost = (time.monotonic() - self._seconds, processor_seconds() - self._processor_seconds)
            report.user_properties.append((COST, cost))
        return report


def processor_seconds() -> float:
    """Return the processor time of this process, of children and of forked servers that it has seen end."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages) + sum(ENDED)


FILES_OF_RULES = frozenset(f"tests/test_{name}.py" for name in ("architecture", "limits", "prose", "truth"))
"""Files with tests that read the syntax trees of all modules."""


class Figures:
    """Judges what a test measures, if the machine keeps up with the clock."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._node = request.node
        self._judged = not request.config.getoption("--unjudged")

    def judge(self, holds: bool, figure: str) -> None:
        """Fail the test if a figure isn't what it should be, or note it on a machine that is too slow.

        Args:
            holds: whether it is.
            figure: what was measured and what it should be, in a line.
        """
        if holds:
            return
        if self._judged:
            pytest.fail(figure)
        self._node.user_properties.append((NOT_JUDGED, figure))


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """What judges figures, of tests that are marked as ``realtime``."""
    assert request.node.get_closest_marker("realtime") is not None
    return Figures(request)


class FileScheduling(LoadFileScheduling):  # type: ignore[misc]
    """Hands out whole files, as ``--dist loadfile`` does, but a test that a process died of only once.

    Files with rules about all of the program's code go to one process, which parses the code once for all.
    """

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "rules" if file in FILES_OF_RULES else file

    def remove_node(self, node: WorkerController) -> str | None:
        """Return the test that a process died of, if it did; the others of its file go to another one."""
        units = self.assigned_work[node].values()
        unfinished: Iterator[tuple[dict[str, bool], str]] = (
            (unit, test) for unit in units for test, is_done in unit.items() if not is_done
        )
        for unit, test in unfinished:
            unit[test] = True
            super().remove_node(node)
            return test
        super().remove_node(node)
        return None


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    parser.addoption("--journal", type=Path, help="write a journal of the run there")
    told = "seconds that a test may go on after it was interrupted, as its fixtures end"
    parser.addoption("--grace", type=float, default=60.0, help=told)
    parser.addoption("--unjudged", action="store_true", help="figures that need a fast machine aren't judged")
    parser.addoption("--only", type=Path, help="run only the tests that this file names, a line each")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Open the journal, where this process has the reports."""
    path = config.getoption("--journal")
    if path is not None:
        config.pluginmanager.register(Costs())
    if path is not None and not config.option.collectonly and not hasattr(config, "workerinput"):
        file = path.open("a", encoding="utf-8")
        config.add_cleanup(file.close)
        config.pluginmanager.register(RunJournal(config, file))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> FileScheduling | None:
    """Return the scheduler of ``--dist loadfile``."""
    return FileScheduling(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what isn't asked for."""
    path = config.getoption("--only")
    if path is not None:
        only = set(path.read_text("utf-8").splitlines())
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in only])
        items[:] = [item for item in items if item.nodeid in only]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """End the process of a test that never gives up the interpreter's lock, so that no signal is handled."""
    marker = item.get_closest_marker("timeout")
    seconds = float(
        marker.args[0] if marker is not None and marker.args else item.config.getini("timeout") or 0
    )
    if not seconds:
        return (yield)
    faulthandler.dump_traceback_later(seconds + item.config.getoption("--grace"), exit=True)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
