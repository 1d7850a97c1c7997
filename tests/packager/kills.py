"""A channel whose ffmpeg is killed again and again; and what is left of it."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass

from packager.live.channel import Channel
from tests.descriptors import descriptors
from tests.live_server import running
from tests.processes import children_of
from tests.waiting import until

SIGNALS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT)


@dataclass(frozen=True)
class Report:
    """What there is more of after the kills: descriptors, children, discontinuities, segments."""

    descriptors: int
    children: int
    discontinuities: int
    numbers: int


def children() -> set[str]:
    """Process ids of this process's children, zombies included."""
    return {str(pid) for pid in children_of()}


async def kill_again_and_again(channel: Channel, *, times: int, every: float) -> Report:
    """Run a channel and kill its ffmpeg.

    Args:
        channel: it.
        times: how often.
        every: seconds that an ffmpeg gets to run.
    """
    async with running(channel):
        await until(lambda: channel.ready and channel.pid)
        before, others = descriptors(), children() - {str(channel.pid)}
        window = next(iter(channel.renditions.values())).window
        number, discontinuities, seen = window.next_number, 0, window.next_number
        for kill in range(1, times + 1):
            await asyncio.sleep(every)
            await until(lambda: channel.pid and window.open)  # in the middle of a segment
            assert channel.pid is not None
            restarts = channel.restarts
            os.kill(channel.pid, SIGNALS[kill % len(SIGNALS)])
            while channel.restarts == restarts:
                await asyncio.sleep(0.02)
            for segment in [one for one in window.listed if one.number >= seen]:
                discontinuities += segment.discontinuity
            seen = window.next_number
        await until(lambda: channel.state == "live")
        return Report(
            descriptors() - before,
            len(children() - others),
            discontinuities,
            window.next_number - number,
        )
