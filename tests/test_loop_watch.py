"""The watch that tells which code holds an event loop by computing."""

from __future__ import annotations

import asyncio
import gc
import time

import pytest

from media.subtitles.webvtt import CueReader
from tests.loop_watch import CROWDED, LoopWatch, Yardstick


def read_captions(seconds: float) -> None:
    """Keep a parser of ours busy for so much processor time."""
    begin = time.thread_time()
    while time.thread_time() - begin < seconds:
        reader = CueReader()
        reader.receive_data(b"WEBVTT\n\n" + b"\n" * 100_000)


async def test_a_step_that_computes_is_measured_and_told_with_its_stack(
    nothing_holds_the_event_loop: LoopWatch,
) -> None:
    asyncio.get_running_loop().call_soon(read_captions, 0.7)
    await asyncio.sleep(0)
    held = nothing_holds_the_event_loop.longest
    nothing_holds_the_event_loop.reset()
    assert held.seconds >= 0.5
    assert "media/subtitles/webvtt.py" in held.where
    assert "read_captions" in held.where


async def test_what_a_test_computes_in_the_same_step_does_not_count(
    nothing_holds_the_event_loop: LoopWatch,
) -> None:
    def step() -> None:
        begin = time.thread_time()
        while time.thread_time() - begin < 0.5:
            sum(range(1000))
        read_captions(0.3)
        begin = time.thread_time()
        while time.thread_time() - begin < 0.5:
            sum(range(1000))

    asyncio.get_running_loop().call_soon(step)
    await asyncio.sleep(0)
    held = nothing_holds_the_event_loop.longest
    nothing_holds_the_event_loop.reset()
    assert 0.1 < held.seconds < 0.8
    assert "media/subtitles/webvtt.py" in held.where


def test_a_yardstick_tells_by_what_everything_is_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    yardstick = Yardstick()
    for seconds, factor in ((2.0, 1.0), (1.0, 1.0), (1.5, 1.5), (9.0, CROWDED), (1.0, 1.0)):
        monkeypatch.setattr(yardstick, "_seconds", lambda seconds=seconds: seconds)
        assert yardstick.factor() == factor
    monkeypatch.undo()
    assert 1.0 <= Yardstick().factor() <= CROWDED


async def test_waiting_and_the_collection_of_garbage_are_no_computing(
    nothing_holds_the_event_loop: LoopWatch,
) -> None:
    kept = [[number] for number in range(300_000)]
    nothing_holds_the_event_loop.reset()

    def wait() -> None:
        CueReader().receive_data(b"WEBVTT\n")
        time.sleep(0.3)  # what is shown is that it doesn't count
        for _ in range(8):
            gc.collect()

    begin = time.thread_time()
    asyncio.get_running_loop().call_soon(wait)
    await asyncio.sleep(0)
    assert time.thread_time() - begin > 2 * nothing_holds_the_event_loop.longest.seconds
    assert kept
