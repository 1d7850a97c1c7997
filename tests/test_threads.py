"""Who starts threads: the door alone (`packager/threads.py`), which shares them among clients.

Elsewhere no thread is started, no pool of them is used, and no thread waits for another one.
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent

POOLS = {"to_thread", "run_in_executor", "ThreadPoolExecutor", "ProcessPoolExecutor", "Thread", "Timer"}
"""Names by which threads are started or used."""

WAITS = {"Future", "Semaphore", "BoundedSemaphore", "Condition", "Barrier"}
"""Names of `concurrent.futures` and `threading` for which a thread waits that another one ends or leaves."""

JUSTIFIED = {
    "packager/threads.py": "the door itself",
    "packager/blocking_calls.py": "the event loop waits for its futures, and a thread for calls that run",
    "origin/ingest/srt.py": "one thread is libsrt's receiver for as long as the server runs",
    "origin/radio/access_log.py": "one thread writes the log's lines for as long as the server runs",
    "origin/system/loop_lag.py": "one thread watches the event loop, which can't watch itself",
}
"""Modules with threads of their own, and why."""


def uses(path: Path) -> Counter[str]:
    """Count the uses of pools and imports of what threads wait for."""
    found: Counter[str] = Counter()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module in ("concurrent.futures", "threading"):
            renamed = {alias.name for alias in node.names if alias.asname} & POOLS
            found.update({alias.name for alias in node.names} & WAITS | renamed)
        elif isinstance(node, ast.Attribute):
            is_of_threads = isinstance(node.value, ast.Name) and node.value.id in ("threading", "futures")
            found.update({node.attr} if node.attr in POOLS or (is_of_threads and node.attr in WAITS) else ())
        elif isinstance(node, ast.Name) and node.id in POOLS:
            found[node.id] += 1
    return found


def modules() -> dict[str, Counter[str]]:
    paths = (path for floor in ("packager", "origin") for path in sorted((ROOT / floor).rglob("*.py")))
    return {str(path.relative_to(ROOT)): found for path in paths if (found := uses(path))}


def test_threads_are_started_by_the_door_alone() -> None:
    found = modules()
    assert found.keys() >= JUSTIFIED.keys(), "a module has no threads any more: take it out of the list"
    others = {path: dict(names) for path, names in found.items() if path not in JUSTIFIED}
    assert others == {}, "use packager.threads, and packager.blocking_calls in its calls"


def test_each_way_to_a_thread_is_noticed(tmp_path: Path) -> None:
    lines = {
        "await asyncio.to_thread(work)": "to_thread",
        "loop.run_in_executor(None, work)": "run_in_executor",
        "from concurrent.futures import ThreadPoolExecutor as Pool": "ThreadPoolExecutor",
        "ThreadPoolExecutor(3)": "ThreadPoolExecutor",
        "threading.Thread(target=work)": "Thread",
        "threading.BoundedSemaphore(2)": "BoundedSemaphore",
        "from threading import Condition": "Condition",
        "from concurrent.futures import Future": "Future",
        "asyncio.Semaphore(2)": "",
        "asyncio.Future()": "",
    }
    module = tmp_path / "module.py"
    for line, name in lines.items():
        module.write_text(line)
        assert uses(module) == Counter({name: 1} if name else {}), line
