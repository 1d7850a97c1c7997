"""``make fuzz``: fuzzes what reads bytes from outside, and writes down what breaks it.

``make fuzz ARGS="rtmp flv --seconds 600 --seed 2"`` fuzzes these two for ten minutes each, and
``make fuzz ARGS="rtmp --again artifacts/fuzzing/rtmp-2/found-0.bin"`` reads again what was found.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tests.fuzzing import (
    containers,
    event_channels,
    formats,
    http2,
    http3,
    oggs,
    publishing,
    text_of_films,
    tokens,
)
from tests.fuzzing.fuzzer import Fuzzer, Target, examine

ROOMS = (publishing, containers, formats, oggs, text_of_films, tokens, event_channels, http2, http3)
TARGETS = {name: target for room in ROOMS for name, target in room.TARGETS.items()}
FOLDER = Path("artifacts/fuzzing")

MEMORY_BYTES = 64 << 20
"""By which the process may grow: an input has some kilobytes, and nothing of it is kept."""

AT_ONCE = 500
"""Inputs between two looks at the time."""

TOLD_SECONDS = 10
"""After which the counts are written anew."""


def main(words: list[str] | None = None) -> int:
    """Fuzz what the arguments name; 1 if something was found."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument(
        "targets", nargs="*", choices=[*TARGETS, []], metavar="TARGET", help=", ".join(TARGETS)
    )
    parser.add_argument("--seconds", type=float, default=60, help="for each target (60)")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers (1)")
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help=f"for counts and what was found ({FOLDER})"
    )
    parser.add_argument("--again", type=Path, nargs="+", metavar="FILE", help="read these inputs instead")
    given = parser.parse_args(words)
    names = given.targets or list(TARGETS)
    if given.again:
        return max(again(TARGETS[name], path) for name in names for path in given.again)
    return max(fuzz(name, given.seconds, given.seed, given.folder) for name in names)


def fuzz(name: str, seconds: float, seed: int, folder: Path) -> int:
    """Fuzz a target, and write what is found into a folder; 1 if something was."""
    end = time.monotonic() + seconds
    folder = folder / f"{name}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    fuzzer = Fuzzer(TARGETS[name], seed)
    told = time.monotonic()
    with _limited_memory():
        fuzzer.run(AT_ONCE)
        while (now := time.monotonic()) < end:
            fuzzer.run(AT_ONCE)
            if now >= told + TOLD_SECONDS:
                _write(fuzzer, folder)
                told = now
    _write(fuzzer, folder)
    count = fuzzer.count
    line = f"{name:10} {count.inputs:10,} inputs, {count.executions:11,} executions, {len(count.found)} found"
    sys.stdout.write(f"{line}, slowest {1000 * count.slowest:.1f} ms: {folder}\n")
    return 1 if count.found else 0


def again(target: Target, path: Path) -> int:
    """Read an input again, as it was read when it was found; 1 if it still breaks the target."""
    data = path.read_bytes()
    with _limited_memory():
        why, told, _, seconds = examine(target, data)
    sys.stdout.write(f"{path}: {len(data)} bytes, {1000 * seconds:.1f} ms: {why or told or 'no error'}\n")
    return 1 if why else 0


@contextlib.contextmanager
def _limited_memory() -> Iterator[None]:
    """Let the process grow by no more than the bound; what needs more gets a MemoryError."""
    former = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_BYTES, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, former)


def _write(fuzzer: Fuzzer, folder: Path) -> None:
    count = fuzzer.count
    told = {name: value for name, value in asdict(count).items() if name not in ("found", "slowest_input")}
    (folder / "count.json").write_text(json.dumps({**told, "found": len(count.found)}) + "\n")
    (folder / "slowest.bin").write_bytes(count.slowest_input)
    for number, (data, why) in enumerate(count.found):
        (folder / f"found-{number}.bin").write_bytes(data)
        (folder / f"found-{number}.txt").write_text(why + "\n")


if __name__ == "__main__":
    sys.exit(main())
