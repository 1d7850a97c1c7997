"""What holds an event loop by computing: each callback's processor time, and where it was spent.

Blockbuster sees calls that wait. A parser that computes for a second holds the loop as well: so each step of
asyncio's loops is measured by the processor time of its thread, which doesn't go on while others compute, and
a thread looks where a long one is. What the test itself does in a step doesn't count, nor do collections of
garbage in between: tests have a lot of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType

ROOT = Path(__file__).parent.parent
OURS = tuple(f"{ROOT / floor}/" for floor in ("media", "packager", "origin"))
ALONE = f"{ROOT}/origin/cli/check.py"
"""A command with a loop of its own, on which nobody else waits."""

SAMPLE_SECONDS = 0.01
"""Between two looks while this process computes."""

IDLE_SECONDS = 0.08
"""Between two looks while it waits: more of them would cost as much as what some tests do."""

SUSPICIOUS_SECONDS = 0.02
"""A step that has taken so long is looked at."""

LEAST_SECONDS = 0.001
"""Steps that are over sooner by any clock don't count: a twentieth of the shortest that a test asks for."""

FRESH_SECONDS = 0.0002
"""How long a reading of the processor time stands for the beginning of the next step: one costs ten of those
of the other clock. By so much a step may be taken to be longer than it was."""

COVERED = 6.0
"""By what the measuring of coverage makes everything longer."""

CROWDED = 2.0
"""By what it is at most taken to be longer that a processor's caches and arithmetic units are shared."""


class LoopThread:
    """A thread that runs a loop: its clock of processor time, and when that was read last.

    Attributes:
        ident: the thread's.
        clock: of its processor time, which other threads can read as well.
        computed: seconds on it.
        read: when it said so, in seconds of `time.perf_counter`.
    """

    def __init__(self) -> None:
        self.ident = threading.get_ident()
        self.clock = time.pthread_getcpuclockid(self.ident)
        self.computed = 0.0
        self.read = -math.inf


class Step:
    """One callback that a loop runs: a light object, as there are thousands a second.

    Attributes:
        thread: whose loop it is.
        begin: on the clock of its processor time.
        collecting: seconds of it in which garbage was collected.
        stack: where it was when it was last seen in code of ours; empty where it was never.
        looked: seconds of computing after which it was looked at last.
        ours: those of them in which it was in code of ours, as far as looks tell.
        is_ours: whether it was when it was looked at last.
    """

    collecting = 0.0
    stack = ""
    looked = 0.0
    ours = 0.0
    is_ours = True

    def __init__(self, thread: LoopThread) -> None:
        self.thread = thread
        self.begin = thread.computed

    def look(self, now: float, frame: FrameType) -> None:
        """Note where it is; it has been there since the last look."""
        self.is_ours = _is_ours(frame)
        self.count(now)
        if self.is_ours:
            self.stack = "".join(traceback.format_stack(frame))

    def count(self, now: float) -> None:
        """Count what has been computed since the last look."""
        computed = now - self.begin - self.collecting
        if self.is_ours:
            self.ours += computed - self.looked
        self.looked = computed


@dataclass(frozen=True, slots=True)
class Held:
    """A step of our code: how many seconds it computed, and where it was meanwhile."""

    seconds: float
    where: str


class LoopWatch:
    """Measures all steps of all of asyncio's loops in this process while ``running``."""

    def __init__(self) -> None:
        self._steps: dict[int, Step] = {}
        self._stopped = threading.Event()
        self._collection = 0.0
        self._run = asyncio.Handle._run
        self.longest = Held(0.0, "")

    def reset(self) -> None:
        """Forget what was longest."""
        self.longest = Held(0.0, "")

    @contextlib.contextmanager
    def running(self) -> Iterator[LoopWatch]:
        """Measure until the context ends."""
        watch, run, steps, own = self, self._run, self._steps, threading.local()
        clock = time.perf_counter

        def measured(handle: asyncio.Handle) -> None:
            try:
                thread: LoopThread = own.thread
            except AttributeError:
                thread = own.thread = LoopThread()
            begin = clock()
            if begin - thread.read > FRESH_SECONDS:
                thread.computed, thread.read = time.thread_time(), begin
            step = steps[thread.ident] = Step(thread)
            try:
                run(handle)
            finally:
                steps.pop(thread.ident, None)
                if clock() - begin > LEAST_SECONDS:
                    watch._end(step, handle)

        asyncio.Handle._run = measured  # type: ignore[assignment, method-assign]
        gc.callbacks.append(self._collecting)
        thread = threading.Thread(target=self._look, name="loop watch", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._stopped.set()
            thread.join()
            gc.callbacks.remove(self._collecting)
            asyncio.Handle._run = run  # type: ignore[method-assign]

    def _end(self, step: Step, handle: asyncio.Handle) -> None:
        step.count(time.thread_time())
        if step.ours > self.longest.seconds:
            where = step.stack or _described(handle)
            if where:
                self.longest = Held(step.ours, where)

    def _collecting(self, phase: str, _: dict[str, int]) -> None:
        step = self._steps.get(threading.get_ident())
        if phase == "start":
            self._collection = time.thread_time()
        elif step is not None:
            step.collecting += time.thread_time() - self._collection

    def _look(self) -> None:
        pause, computed = SAMPLE_SECONDS, time.process_time()
        while not self._stopped.wait(pause):
            before, computed = computed, time.process_time()
            pause = SAMPLE_SECONDS if computed - before > pause / 4 else min(2 * pause, IDLE_SECONDS)
            for step in list(self._steps.values()):
                # The thread may have ended meanwhile, and its clock with it.
                with contextlib.suppress(OSError):
                    now = time.clock_gettime(step.thread.clock)
                    if now - step.begin > SUSPICIOUS_SECONDS:
                        self._look_at(step, now)

    def _look_at(self, step: Step, now: float) -> None:
        """Look where a step is; a frame that were kept until the next look would keep all that it uses."""
        frame = sys._current_frames().get(step.thread.ident)
        if frame is not None and self._steps.get(step.thread.ident) is step:
            step.look(now, frame)


class Yardstick:
    """A piece of computing that is always the same: how long it takes now beside the shortest time so far.

    Processor time doesn't go on while others compute on the same processor; but it passes without effect
    while they use another thread of it, or fill its caches.
    """

    TIMES = 9

    def __init__(self) -> None:
        self._shortest = math.inf

    def factor(self) -> float:
        """Measure; 1 where everything is as fast as ever."""
        times = sorted(self._seconds() for _ in range(self.TIMES))
        self._shortest = min(self._shortest, times[0])
        return min(max(times[self.TIMES // 2] / self._shortest, 1.0), CROWDED)

    def _seconds(self) -> float:
        begin = time.thread_time()
        table = {number: str(number) for number in range(5000)}
        sum(map(len, table.values()))
        return time.thread_time() - begin


YARDSTICK = Yardstick()


def slowness() -> float:
    """By what everything takes longer now than it would without other work and the measuring of coverage."""
    return YARDSTICK.factor() * (COVERED if sys.gettrace() is not None else 1.0)


def _is_ours(frame: FrameType | None) -> bool:
    """Tell whether the innermost code that isn't a library's is the program's, not a test's."""
    outer = frame
    while outer is not None:
        if outer.f_code.co_filename == ALONE:
            return False
        outer = outer.f_back
    while frame is not None:
        if frame.f_code.co_filename.startswith(OURS):
            return True
        if frame.f_code.co_filename.startswith(f"{ROOT}/tests/"):
            return False
        frame = frame.f_back
    return False


def _described(handle: asyncio.Handle) -> str:
    """Name a callback of ours that nobody saw at work; empty for any other."""
    callback = getattr(handle, "_callback", None)
    task = getattr(callback, "__self__", None)
    code: CodeType | None = None
    if isinstance(task, asyncio.Task):
        code = getattr(task.get_coro(), "cr_code", None)
    else:
        code = getattr(callback, "__code__", None)
    if code is not None and code.co_filename != ALONE and code.co_filename.startswith(OURS):
        return f"{code.co_filename}:{code.co_firstlineno} in {code.co_qualname}\n"
    return ""
