"""Runs a target with damaged inputs, each read whole and cut anywhere, and keeps what breaks it.

What an input gives must not depend on how it is cut; only the errors that a reader documents may come of it,
and its processor time has a bound. How an input is cut follows from its bytes: they repeat what was found.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from types import FrameType
from typing import Any, NamedTuple

from tests.fuzzing.mutation import Mutator, Parts
from tests.loop_watch import slowness

LONGEST_SECONDS = 0.05
"""Of processor time that an input of some kilobytes may take, on a machine that does nothing else."""

HANGS_SECONDS = 20.0
"""Of the process' computing after which a reading is broken off."""

_BYTEWISE = 2
"""Of 256 inputs, how many are cut into single bytes."""

_BYTEWISE_BYTES = 600
"""How many of their last bytes come singly then."""

_MOST_FOUND = 20
_FRAMES = 6
"""Of an unexpected error's trace, the innermost."""

_DETAIL = re.compile(r"\d+|'[^']*'")
"""What differs between errors of one kind: numbers, and what the input said."""


class Outcome(NamedTuple):
    """What came of an input.

    Attributes:
        result: what must be the same however the input is cut.
        told: the error, if there was one: inputs with another one than those before are damaged further.
    """

    result: object
    told: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What reads bytes from outside.

    Attributes:
        seeds: makes inputs that are read without an error, or nearly so, in their parts.
        read: reads an input in pieces, each time anew.
        follow: does what comes behind the reading with its result, once for each input; gives its error.
        words: parts that can stand anywhere in an input.
        mend: makes a damaged part whole again on its outside: its length, or its checksum.
        head: bytes at the beginning of each input that are seldom cut.
        hangs_seconds: of the process' computing, after which a reading is broken off.
    """

    seeds: Callable[[], Sequence[Parts]]
    read: Callable[[Sequence[bytes]], Outcome]
    follow: Callable[[Any], str] = lambda _: ""
    words: Sequence[bytes] = ()
    mend: Callable[[bytes], bytes] = bytes
    head: int = 0
    hangs_seconds: float = HANGS_SECONDS


@dataclass
class Count:
    """What a run did.

    Attributes:
        inputs: how many were read.
        executions: of the reader: an input that is read whole and cut is two, and no more.
        size: bytes of all inputs.
        failed: inputs of which an error came.
        kept: inputs that were damaged further.
        slowest: the longest processor time of one reading, in seconds.
        slowest_input: what was read then.
        found: what broke the target, and why.
    """

    inputs: int = 0
    executions: int = 0
    size: int = 0
    failed: int = 0
    kept: int = 0
    slowest: float = 0.0
    slowest_input: bytes = b""
    found: list[tuple[bytes, str]] = field(default_factory=list)


class HangsError(BaseException):
    """A reading took far too long; readers catch no such error."""


class Fuzzer:
    """Fuzzes one target.

    Args:
        target: this one.
        seed: of the random numbers: the same inputs come of it in the same order.

    Attributes:
        count: what it did so far.
    """

    def __init__(self, target: Target, seed: int) -> None:
        self._target = target
        self._mutator = Mutator(target.seeds(), target.words, target.mend, Random(seed))
        self._known = set[str]()
        self.count = Count()

    def run(self, inputs: int) -> None:
        """Make this many inputs, and read them."""
        with _broken_off():
            for _ in range(inputs):
                self._try(self._mutator.make())

    def _try(self, parts: Parts) -> None:
        data, count = b"".join(parts), self.count
        count.inputs += 1
        count.size += len(data)
        why, told, executions, seconds = _examine(self._target, data)
        count.executions += executions
        if seconds > count.slowest and not why:
            # Where a machine is busy, most of it may be others' doing.
            seconds = min(seconds, *(_seconds(self._target, [data]) for _ in range(3)))
        if seconds > count.slowest:
            count.slowest, count.slowest_input = seconds, data
        if why and len(count.found) < _MOST_FOUND:
            count.found.append((data, why))
        count.failed += bool(told)
        told = _DETAIL.sub("", told)
        if told not in self._known:
            self._known.add(told)
            self._mutator.keep(parts)
            count.kept += 1


def examine(target: Target, data: bytes) -> tuple[str, str, int, float]:
    """Read an input whole and cut.

    Returns:
        What is wrong, or nothing; what the outcome says of its error; how often the reader ran; and the
        processor time of reading it whole.
    """
    with _broken_off():
        return _examine(target, data)


def _examine(target: Target, data: bytes) -> tuple[str, str, int, float]:
    # Again and again: an error that comes in the callback of a weak reference breaks off nothing.
    signal.setitimer(signal.ITIMER_VIRTUAL, target.hangs_seconds, target.hangs_seconds)
    pieces, executions, seconds = cut(data, target.head), 1, 0.0
    try:
        begin = time.thread_time()
        whole = target.read([data])
        seconds = time.thread_time() - begin
        told = f"{whole.told} {target.follow(whole.result)}".strip()
        executions, begin = 2, time.thread_time()
        if target.read(pieces).result != whole.result:
            return f"cut at {_places(pieces)} it gives something else", "", executions, seconds
        longest = max(seconds, time.thread_time() - begin)
        if longest > LONGEST_SECONDS:
            # Once may have been chance: a collection of garbage, or a machine that did other things.
            again = [max(_seconds(target, [data]), _seconds(target, pieces)) for _ in range(3)]
            longest = min(again)
            if longest > LONGEST_SECONDS * slowness():
                return f"cut at {_places(pieces)} it takes {longest:.3f} s", "", executions, seconds
        return "", told, executions, seconds
    except (Exception, HangsError) as error:  # noqa: BLE001 - whatever it is, it is what we look for
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        trace = "".join(traceback.format_tb(error.__traceback__)[-_FRAMES:])
        return f"{type(error).__name__}: {error}, cut at {_places(pieces)}\n{trace}", "", executions, seconds


def cut(data: bytes, head: int) -> list[bytes]:
    """Cut an input at places that follow from its bytes; seldom within its head."""
    digest = hashlib.blake2b(data, digest_size=16).digest()
    head = min(head, len(data)) if digest[0] >= 16 else 0
    if digest[1] < _BYTEWISE:
        first = max(len(data) - _BYTEWISE_BYTES, head)
        return [data[:first], *(data[at : at + 1] for at in range(first, len(data)))]
    count = (1, 1, 2, 3, 6)[digest[2] % 5]
    room = len(data) - head + 1
    places = sorted(
        head + int.from_bytes(digest[at : at + 2], "big") % room for at in range(4, 4 + 2 * count, 2)
    )
    return [data[begin:end] for begin, end in zip([0, *places], [*places, len(data)], strict=True)]


def _places(pieces: Sequence[bytes]) -> str:
    if len(pieces) > 10:
        return "single bytes"
    ends = [sum(map(len, pieces[:count])) for count in range(1, len(pieces))]
    return ", ".join(map(str, ends))


def _seconds(target: Target, pieces: Sequence[bytes]) -> float:
    begin = time.thread_time()
    target.read(pieces)
    return time.thread_time() - begin


@contextlib.contextmanager
def _broken_off() -> Iterator[None]:
    """Break off what hangs, by the process' own time: others compute as well."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise HangsError("it was broken off")

    former = signal.signal(signal.SIGVTALRM, stop)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, former)
