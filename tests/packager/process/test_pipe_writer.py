"""Writing to a pipe: whole and in order, whatever room there is in it and whoever gives up."""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest

from packager.process.pipe_writer import PipeWriter
from tests.waiting import until

LARGE = os.urandom(1 << 20)


async def read_all(descriptor: int) -> bytes:
    """Read a pipe to its end in a thread."""

    def read() -> bytes:
        with os.fdopen(descriptor, "rb") as file:
            return file.read()

    return await asyncio.to_thread(read)


async def test_what_is_larger_than_the_pipe_is_written_as_it_is_read() -> None:
    end, start = os.pipe()
    pipe = PipeWriter(start)
    reading = asyncio.create_task(read_all(end))
    await pipe.write(b"first")
    await asyncio.gather(pipe.write(LARGE), pipe.write(b"last"))
    pipe.close()
    pipe.close()
    assert await reading == b"first" + LARGE + b"last"
    with pytest.raises(BrokenPipeError):
        await pipe.write(b"more")


async def test_a_write_that_is_cancelled_is_completed_before_the_next_one() -> None:
    end, start = os.pipe()
    pipe = PipeWriter(start)
    writing = asyncio.create_task(pipe.write(LARGE))
    await asyncio.sleep(0)
    writing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await writing
    reading = asyncio.create_task(read_all(end))
    await pipe.write(b"next")
    pipe.close()
    assert await reading == LARGE + b"next"


@pytest.mark.parametrize("is_closing", [False, True])
async def test_a_reader_that_goes_away_ends_a_write_that_waits(*, is_closing: bool) -> None:
    end, start = os.pipe()
    pipe = PipeWriter(start)
    writing = asyncio.create_task(pipe.write(LARGE))
    await asyncio.sleep(0)
    if is_closing:
        pipe.close()
    os.close(end)
    with pytest.raises(BrokenPipeError):
        await writing
    with pytest.raises(BrokenPipeError):
        await pipe.write(b"more")
    await until(lambda: not _is_open(start), "the end of the descriptor")


async def test_an_aborted_write_is_told_so() -> None:
    end, start = os.pipe()
    pipe = PipeWriter(start)
    writing = asyncio.create_task(pipe.write(LARGE))
    await asyncio.sleep(0)
    pipe.abort()
    pipe.abort()
    with pytest.raises(BrokenPipeError):
        await writing
    os.close(end)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
