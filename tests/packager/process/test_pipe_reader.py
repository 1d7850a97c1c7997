"""A pipe is emptied as bytes come, left alone where that is asked for, and its end isn't missed."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from collections.abc import Iterator

import pytest

from packager.process.pipe_reader import PipeReader
from packager.process.process import Process
from tests.waiting import until

LONG = 3600.0


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    os.set_blocking(read, False)
    yield read, write
    os.close(read)


def is_last(heard: list[bytes], word: bytes) -> bool:
    return heard[-1:] == [word]


@pytest.mark.parametrize("pause", [0.0, 0.5])
async def test_bytes_come_at_once_or_when_the_time_is_over_that_was_asked_for(
    pipe: tuple[int, int], pause: float
) -> None:
    heard: list[bytes] = []
    times: list[float] = []
    loop = asyncio.get_running_loop()

    def receive(data: bytes) -> float:
        heard.append(data)
        times.append(loop.time())
        return pause

    drain = PipeReader(pipe[0], receive)
    for word in (b"one", b"two"):
        os.write(pipe[1], word)
        await until(functools.partial(is_last, heard, word))
    os.close(pipe[1])
    await drain.ended
    assert heard == [b"one", b"two"]
    # A timer of the loop is never early by more than its clock's resolution.
    assert times[1] - times[0] >= pause - 0.01


async def test_what_comes_while_the_pipe_is_left_alone_is_read_in_one(pipe: tuple[int, int]) -> None:
    heard: list[bytes] = []

    def receive(data: bytes) -> float:
        heard.append(data)
        return LONG if data == b"rest" else 0.0

    drain = PipeReader(pipe[0], receive)
    os.write(pipe[1], b"rest")
    await until(lambda: heard)
    for word in (b"one", b"two", b"three"):
        os.write(pipe[1], word)
    os.close(pipe[1])
    for _ in range(100):
        await asyncio.sleep(0)
    assert heard == [b"rest"], "what comes isn't looked at"
    drain.wake()
    await drain.ended
    assert heard == [b"rest", b"onetwothree"]


@pytest.mark.parametrize("last", [b"", b"unwanted"])
async def test_what_comes_in_the_step_in_which_the_waiting_is_cancelled_is_left_alone(
    pipe: tuple[int, int], last: bytes
) -> None:
    heard: list[bytes] = []
    troubles: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: troubles.append(context["message"]))

    def receive(data: bytes) -> float:
        heard.append(data)
        return 0.0

    async def drain() -> None:
        reader = PipeReader(pipe[0], receive)
        try:
            await reader.ended
        finally:
            reader.stop()

    draining = asyncio.create_task(drain())
    os.write(pipe[1], b"first")
    await until(lambda: heard)
    if last:
        os.write(pipe[1], last)
    os.close(pipe[1])
    # The loop's next step looks at the pipe behind what was due before it.
    loop.call_soon(draining.cancel)
    with pytest.raises(asyncio.CancelledError):
        await draining
    assert (heard, troubles) == ([b"first"], [])


@pytest.mark.slow
async def test_the_end_of_the_program_ends_the_waiting() -> None:
    heard: list[bytes] = []

    def receive(data: bytes) -> float:
        heard.append(data)
        return LONG

    words = [sys.executable, "-c", "import os; os.write(3, b'last')"]
    process = await Process.start(words, sandbox=None)
    await process.drain(0, receive)
    await process.stop()
    assert b"".join(heard) == b"last"
