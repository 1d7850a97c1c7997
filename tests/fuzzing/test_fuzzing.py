"""The fuzzing itself: every target stands some hundred inputs, and what breaks a reader is found and kept."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import pytest

from media.errors import MalformedError, MediaError
from tests.fuzzing import __main__ as command
from tests.fuzzing.fuzzer import LONGEST_SECONDS, Fuzzer, Outcome, Target, cut, examine
from tests.fuzzing.mutation import Mutator
from tests.loop_watch import slowness

INPUTS = 100


@pytest.mark.parametrize("name", command.TARGETS)
def test_a_target_stands_some_inputs_and_they_do_more_than_to_fail(name: str) -> None:
    target = command.TARGETS[name]
    seeds = target.seeds()
    assert "" in {target.read([b"".join(seed)]).told for seed in seeds}
    assert [target.mend(part) for part in seeds[0]] == list(seeds[0])
    fuzzing = Fuzzer(target, 1)
    fuzzing.run(INPUTS)
    count = fuzzing.count
    assert count.found == []
    assert (count.inputs, count.executions) == (INPUTS, 2 * INPUTS)


def read_numbers(pieces: Sequence[bytes]) -> Outcome:
    """Read bytes one by one, as long as no one is 255."""
    found = b"".join(pieces)
    try:
        if 255 in found:
            raise MalformedError("255")
    except MediaError as error:
        return Outcome("255", str(error))
    return Outcome(found)


def planted(fault: Callable[[Sequence[bytes]], None], hangs: float = 20) -> Target:
    """Make a target with a fault."""

    def read(pieces: Sequence[bytes]) -> Outcome:
        fault(pieces)
        return read_numbers(pieces)

    return Target(seeds=lambda: [[b"head", bytes(range(40)), b"tail"]], read=read, hangs_seconds=hangs)


def crash(pieces: Sequence[bytes]) -> None:
    if b"".join(pieces)[4:5] != b"\0":
        raise IndexError("planted")


def hang(pieces: Sequence[bytes]) -> None:
    if b"".join(pieces)[4:5] == b"\xff":
        for _ in itertools.count():
            pass


def allocate(pieces: Sequence[bytes]) -> None:
    if b"".join(pieces)[4:5] != b"\0":
        bytearray(2 * command.MEMORY_BYTES)


def forget(pieces: Sequence[bytes]) -> None:
    if len(pieces) > 1 and len(pieces[0]) == 7:
        raise MalformedError("planted")


def depend(pieces: Sequence[bytes]) -> Outcome:
    return Outcome([piece[:1] for piece in pieces])


# What is broken off may be a callback of a weak reference, which has nobody to raise an error to.
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("target", "words"),
    [
        (planted(crash), "IndexError: planted"),
        (planted(hang, 0.3), "HangsError"),
        (planted(allocate), "MemoryError"),
        (planted(forget), "cut at 7"),
        (Target(seeds=lambda: [[b"a", b"b"]], read=depend), "it gives something else"),
        (
            Target(
                seeds=lambda: [[b"ab"]], read=read_numbers, follow=lambda found: str(1 / (len(found) - 3))
            ),
            "ZeroDivisionError",
        ),
    ],
    ids=["crash", "endless", "much memory", "refused when cut", "cut differently", "behind it"],
)
def test_a_planted_fault_is_found_and_found_again(
    target: Target, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(command.TARGETS, "planted", target)
    assert command.main(["planted", "--seconds", "0", "--folder", str(tmp_path)]) == 1
    folder = tmp_path / "planted-1"
    assert words in (folder / "found-0.txt").read_text()
    assert command.main(["planted", "--again", str(folder / "found-0.bin")]) == 1


def test_what_takes_long_when_it_is_cut_is_told() -> None:
    def compute(pieces: Sequence[bytes]) -> None:
        end = time.thread_time() + (3 * LONGEST_SECONDS * slowness() if len(pieces) > 1 else 0)
        while time.thread_time() < end:
            pass

    assert "it takes" in examine(planted(compute), b"input")[0]
    assert examine(planted(lambda _: None), b"input")[0] == ""


def test_a_target_without_a_fault_has_none_found() -> None:
    fuzzing = Fuzzer(planted(lambda _: None), 1)
    fuzzing.run(500)
    assert fuzzing.count.found == []
    assert 0 < fuzzing.count.failed < 500


def test_a_seed_repeats_a_run() -> None:
    def made(seed: int) -> list[list[bytes]]:
        mutator = Mutator([[b"head", b"one", b"two"], [b"head", b"three"]], [b"word"], bytes, Random(seed))
        return [mutator.make() for _ in range(200)]

    assert made(1) == made(1) != made(2)
    assert all(made(1))


@pytest.mark.parametrize("head", [0, 30, 500])
def test_the_pieces_of_an_input_are_the_input(head: int) -> None:
    chance = Random(1)
    for size in range(300):
        data = chance.randbytes(size)
        pieces = cut(data, head)
        assert b"".join(pieces) == data
        assert len(pieces) > 1 or size <= head
        assert cut(data, head) == pieces
