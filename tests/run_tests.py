"""Runs the tests in several processes, those that need real time at last, and asks again alone what failed.

python -m tests.run_tests PYTEST-ARGUMENTS...

Tests that are marked ``realtime`` come when the others are done, as many at a time as the machine carries
(`tests.machine_pace`). Where it is too slow even for one, figures that need its speed aren't judged, and the
last lines say which.

What fails beside others on a busy machine and passes in one process with nothing beside it is flaky: the last
lines of the run name it with its first failure, and ``artifacts/flaky.jsonl`` has the logs. What fails alone
fails the run, and so does everything where too much fails alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.machine_pace import measure
from tests.tiers import LIST, REALTIME, ROOT, second_tier

ALONE_TRIES = 2
ALONE_SECONDS = 1500.0
"""How long all the tests that are asked again may take together; what has had no turn then has failed."""

MOST_FAILED = 25
"""When more than these fail alone, none of them is asked a second time."""

FLAKY = Path("artifacts", "flaky.jsonl")
COSTS = Path("artifacts", "costs.tsv")
ALONE = ("--numprocesses", "0", "-p", "no:cacheprovider")
PLUGIN = ("-p", "tests.run_journal")
FAILED, INTERRUPTED, NO_TESTS = 1, 2, 5
"""Exit statuses of pytest."""

WIDTH = 80


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a test failed, in a line and whole."""

    reason: str
    log: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What the tests of a file took, in seconds by the clock and in seconds of processors."""

    seconds: float = 0.0
    processor_seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, self.processor_seconds + other.processor_seconds)


NO_TURN = Failure("it had no turn", "")
GONE = Failure("it isn't there when it is asked again", "")


@dataclass(slots=True)
class Run:
    """What a run's journal says.

    Attributes:
        status: the exit status of pytest.
        collected: the tests' identifiers.
        realtime: those of them that need real time.
        failures: by identifier, the first of each; that of a test whose process died is one.
        without_turn: tests that hadn't begun when the run ended.
        unreadable: files that couldn't be collected.
        counts: how many tests passed, were skipped and so on.
        not_judged: tests with what each found of figures that this machine is too slow for.
        costs: what each file's tests took.
        stopped: whether the run ended early because somebody wanted that.
        is_finished: whether it told its own end.
    """

    status: int
    collected: tuple[str, ...] = ()
    realtime: frozenset[str] = frozenset()
    failures: dict[str, Failure] = field(default_factory=dict)
    without_turn: tuple[str, ...] = ()
    unreadable: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    not_judged: list[tuple[str, str]] = field(default_factory=list)
    costs: dict[str, Cost] = field(default_factory=dict)
    stopped: bool = False
    is_finished: bool = False

    @property
    def doubtful(self) -> dict[str, Failure]:
        """What is to be asked again: nothing where more went wrong than single tests."""
        return self.failures | dict.fromkeys(self.without_turn, NO_TURN) if self.is_whole else {}

    @property
    def is_whole(self) -> bool:
        """Whether the run came to its end, and nothing went wrong but single tests."""
        has_failed = self.status == FAILED and bool(self.failures)
        is_over = self.is_finished and not self.stopped and not self.unreadable
        return is_over and (has_failed or self.status in {0, NO_TESTS})

    def cost(self, path: str) -> Cost:
        """Return what a file's tests took."""
        return self.costs.get(path, Cost())

    def with_later(self, later: Run) -> Run:
        """Return what this run and a later one of other tests say together."""
        statuses = {self.status, later.status}
        kinds = [*self.counts, *later.counts]
        return Run(
            status=NO_TESTS if statuses == {NO_TESTS} else max(statuses - {NO_TESTS}),
            collected=self.collected + later.collected,
            realtime=self.realtime | later.realtime,
            failures=self.failures | later.failures,
            without_turn=self.without_turn + later.without_turn,
            unreadable=self.unreadable + later.unreadable,
            counts={kind: self.counts.get(kind, 0) + later.counts.get(kind, 0) for kind in kinds},
            not_judged=self.not_judged + later.not_judged,
            costs={path: self.cost(path) + later.cost(path) for path in self.costs | later.costs},
            stopped=later.stopped,
            is_finished=later.is_finished,
        )


def read_journal(lines: Iterable[str], status: int) -> Run:
    """Return what a journal says; a test that began and has no end has failed."""
    run = Run(status)
    began, ended = dict[str, None](), set[str]()
    for line in lines:
        match json.loads(line):
            case {"collected": list(tests)}:
                run.collected = tuple(tests)
            case {"began": str(test)}:
                began[test] = None
            case {"ended": str(test)}:
                ended.add(test)
            case {"failed": str(test), "reason": str(reason), "log": str(log)}:
                run.failures.setdefault(test, Failure(reason, log))
            case {"unreadable": str(path)}:
                run.unreadable.append(path)
            case {"not_judged": str(test), "figure": str(figure)}:
                run.not_judged.append((test, figure))
            case {"cost": str(test), "seconds": [float(seconds), float(used)]}:
                path = test.partition("::")[0]
                run.costs[path] = run.cost(path) + Cost(seconds, used)
            case {"counts": dict(counts), "stopped": bool(stopped)}:
                run.counts, run.stopped, run.is_finished = counts, stopped, True
    for test in began:
        if test not in ended:
            run.failures.setdefault(test, Failure("its process died", ""))
    run.without_turn = tuple(test for test in run.collected if test not in began)
    return run


def run_tests(arguments: Sequence[str], seconds: float | None = None) -> Run:
    """Run pytest with these arguments, for so many seconds at most."""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8", suffix=".jsonl") as journal:
        command = [sys.executable, "-m", "pytest", *PLUGIN, f"--journal={journal.name}", *arguments]
        try:
            status = subprocess.run(command, timeout=seconds, check=False).returncode
        except subprocess.TimeoutExpired:
            status = FAILED
        return read_journal(journal, status)


def run_first(arguments: Sequence[str]) -> Run:
    """Run all tests, those that need real time behind the others."""
    if "-m" in arguments:
        return run_tests(arguments)
    others = run_tests([*arguments, "-m", f"not {REALTIME}"])
    if not others.is_whole:
        return others
    later = run_tests([*arguments, "-m", REALTIME, *at_the_machines_pace()])
    later.realtime = frozenset(later.collected)
    return others.with_later(later)


def at_the_machines_pace() -> list[str]:
    """Try what the machine carries now; return the arguments of a run of tests that need real time."""
    pace = measure()
    write(f"\nThis machine {pace}: tests that need real time run {pace.processes} at a time.")
    arguments = ["--numprocesses", str(pace.processes)]
    return arguments if pace.keeps_up else [*arguments, "--unjudged"]


def run_alone(
    tests: Iterable[str], end: float, arguments: Sequence[str]
) -> tuple[dict[str, Failure], list[tuple[str, str]]]:
    """Run tests in one process, those behind one that it died of in another.

    Args:
        tests: their identifiers.
        end: until when, on the monotonic clock; what has had no turn then has failed.
        arguments: further ones of pytest.

    Returns:
        The failures, and what wasn't judged.
    """
    waiting, failures, not_judged = list(tests), dict[str, Failure](), list[tuple[str, str]]()
    while waiting and time.monotonic() < end:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8") as only:
            only.write("\n".join(waiting))
            only.flush()
            files = dict.fromkeys(test.partition("::")[0] for test in waiting)
            run = run_tests([*arguments, *ALONE, f"--only={only.name}", *files], end - time.monotonic())
        failures |= run.failures
        not_judged += run.not_judged
        failures |= {test: GONE for test in waiting if test not in run.collected}
        waiting = [test for test in run.without_turn if test not in failures]
    return failures | dict.fromkeys(waiting, NO_TURN), not_judged


def ask_again(first: Run) -> dict[str, Failure]:
    """Ask all that failed again, alone; return what failed each time, and add what wasn't judged."""
    failures = first.doubtful
    end = time.monotonic() + ALONE_SECONDS
    for attempt in range(1, ALONE_TRIES + 1):
        write(f"\n{len(failures)} failed; asking again, alone, {attempt} of {ALONE_TRIES}")
        arguments = at_the_machines_pace() if first.realtime.intersection(failures) else []
        failures, not_judged = run_alone(failures, end, arguments)
        first.not_judged += not_judged
        if not failures or len(failures) > MOST_FAILED:
            break
    return failures


def write(line: str) -> None:
    """Write a line of the run's own."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def write_flaky(flaky: dict[str, Failure]) -> None:
    """Keep the logs of what failed once."""
    FLAKY.parent.mkdir(exist_ok=True)
    lines = [{"test": test, "reason": why.reason, "log": why.log} for test, why in flaky.items()]
    FLAKY.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def write_costs(costs: dict[str, Cost]) -> None:
    """Keep what each file took, the dearest first: seconds of processors, seconds by the clock, its name."""
    COSTS.parent.mkdir(exist_ok=True)
    by_cost = sorted(costs.items(), key=lambda item: -item[1].processor_seconds)
    lines = [f"{cost.processor_seconds:.1f}\t{cost.seconds:.1f}\t{path}\n" for path, cost in by_cost]
    COSTS.write_text("".join(lines), "utf-8")


def tiers_left_out(arguments: Sequence[str]) -> str:
    """Return a line about the tests that a run with these arguments leaves out; empty: none by their tier."""
    pairs = [argument.partition("=") for argument in arguments]
    options = {name: value for name, _, value in pairs}
    match options.get("--tier"), options.get("--turn"), options.get("--rooms"):
        case "first", _, _:
            files = len(second_tier().seconds())
            return f"only in make test-all: tests of {files} files, by {LIST.relative_to(ROOT)}"
        case "second", str(turn), rooms:
            repeats = f"make test-all TURN={turn}" + (f" ROOMS={rooms}" if rooms else "")
            return f"a part of the second tier, which {repeats} repeats"
    return ""


def summarise(
    first: Run, failures: dict[str, Failure], seconds: float, arguments: Sequence[str] = ()
) -> None:
    """Print the last lines of the run: what was flaky, what failed, what wasn't run, and the counts."""
    flaky = {test: failure for test, failure in first.doubtful.items() if test not in failures}
    write_flaky(flaky)
    write("")
    for test, figure in first.not_judged:
        write(f"not judged: {test} - {figure}")
    if flaky:
        total = f"{len(first.collected):,}"
        write(f"flaky: {len(flaky)} of {total}: failed beside others, then passed alone; the logs: {FLAKY}")
    for test, failure in flaky.items():
        write(f"flaky: {test} - {failure.reason}")
    for test, failure in failures.items():
        write(f"FAILED {test} - alone: {failure.reason}")
    skipped = first.counts.get("skipped", 0)
    passed = len(first.collected) - len(failures) - skipped
    if left_out := tiers_left_out(arguments):
        write(left_out)
    counts = {"failed": len(failures), "passed": passed, "skipped": skipped, "flaky": len(flaky)}
    told = ", ".join(f"{number} {kind}" for kind, number in counts.items() if number)
    write(f" {told} in {seconds:.0f}s ".center(WIDTH, "="))


def main(arguments: Sequence[str]) -> int:
    """Run the tests; return the exit status."""
    began = time.monotonic()
    FLAKY.unlink(missing_ok=True)
    try:
        first = run_first(arguments)
        write_costs(first.costs)
        if not first.is_whole or first.status == NO_TESTS:
            return first.status
        failures = ask_again(first) if first.doubtful else {}
    except KeyboardInterrupt:
        return INTERRUPTED
    summarise(first, failures, time.monotonic() - began, arguments)
    return FAILED if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
