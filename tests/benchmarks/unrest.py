"""What else happens to a server in an hour: listeners and readers come and go, and so do ffmpegs."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.conftest import ServerProcess

SHORTEST_STAY, LONGEST_STAY = 2.0, 40.0
STATION = "tone.mp3"
STATION_BYTES = 128_000 / 8
"""A second of it."""

ENCODER = b"libx264"
"""What is in the command of each live channel's ffmpeg, and of no other."""

WRONG = "[server]\nprot = 1\n"
TAKEN, REFUSED = "configuration read again", "the changed configuration can't be used"
"""What the server's log says of a configuration."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of it there is.

    Attributes:
        minutes: of the whole run.
        listeners: of the station, at once.
        readers: of its events, at once.
        reload_minutes: between two readings of the configuration, each second one wrong; 0: none.
        kill_minutes: between two kills of a channel's ffmpeg; 0: none.
    """

    minutes: float
    listeners: int
    readers: int
    reload_minutes: float
    kill_minutes: float


def planned(minutes: float) -> Plan:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="A soak: what grows?")
    parser.add_argument("minutes", nargs="?", type=float, default=minutes)
    parser.add_argument("--listeners", type=int, default=8, help="of the station, at once")
    parser.add_argument("--readers", type=int, default=8, help="of its events, at once")
    parser.add_argument("--reload-minutes", type=float, default=3.0, help="0: never")
    parser.add_argument("--kill-minutes", type=float, default=4.0, help="0: never")
    return Plan(**vars(parser.parse_args()))


@dataclass(slots=True)
class Seen:
    """What came of it."""

    listeners: int = 0
    readers: int = 0
    reloads: int = 0
    refused: int = 0
    kills: int = 0
    errors: list[str] = field(default_factory=list)

    def answers(self, log: str) -> Iterator[tuple[bool, str]]:
        """Answer whether all was well, a line for each question.

        Args:
            log: the server's.
        """
        yield not self.errors, f"{len(self.errors)} errors of the station, the first {self.errors[:5]}"
        yield True, f"{self.listeners} listeners and {self.readers} readers of events came and went"
        told = log.count(TAKEN), log.count(REFUSED)
        right = told == (self.reloads, self.refused)
        yield right, f"{self.reloads} configurations were taken, {self.refused} wrong ones refused"


async def stay(client: httpx.AsyncClient, address: str, least: float) -> str:
    """Take an endless answer for a while.

    Args:
        client: whose.
        address: of the answer.
        least: bytes a second that it must have.

    Returns:
        What was wrong, or nothing.
    """
    began, size, seconds = time.monotonic(), 0, random.uniform(SHORTEST_STAY, LONGEST_STAY)
    try:
        async with asyncio.timeout(seconds), client.stream("GET", address) as answer:
            if answer.status_code != 200:
                return f"{answer.status_code} for {address}"
            async for data in answer.aiter_raw():
                size += len(data)
    except TimeoutError:
        # What has come at once at the beginning is more than what may be on its way at the end.
        return "" if size >= least * seconds else f"{size} bytes of {address} in {seconds:.0f} s"
    except httpx.HTTPError as error:
        return f"{type(error).__name__} for {address}"
    return f"{address} ended after {time.monotonic() - began:.0f} s"


async def listen(client: httpx.AsyncClient, url: str, seen: Seen, end: float) -> None:
    """Be one listener after the other."""
    while time.monotonic() < end:
        seen.listeners += 1
        if error := await stay(client, f"{url}/radio/{STATION}", STATION_BYTES / 2):
            seen.errors.append(error)


async def read(client: httpx.AsyncClient, url: str, seen: Seen, end: float) -> None:
    """Be one reader of events after the other."""
    while time.monotonic() < end:
        seen.readers += 1
        if error := await stay(client, f"{url}/events/radio/{STATION}", 0):
            seen.errors.append(error)


async def reload(server: ServerProcess, config: Path, minutes: float, seen: Seen, end: float) -> None:
    """Have the configuration read again and again, each second time a wrong one."""
    right = await asyncio.to_thread(config.read_text)
    while minutes and time.monotonic() + 60 * minutes < end:
        await asyncio.sleep(60 * minutes)
        wrong = seen.reloads > seen.refused
        await asyncio.to_thread(config.write_text, WRONG if wrong else right)
        server.process.send_signal(signal.SIGHUP)
        seen.refused += wrong
        seen.reloads += not wrong


async def kill(server: ServerProcess, minutes: float, seen: Seen, end: float) -> None:
    """Kill the ffmpeg of a channel now and then; what it publishes next is a timeline of its own."""
    while minutes and time.monotonic() + 60 * minutes < end:
        await asyncio.sleep(60 * minutes)
        commands = {pid: Path(f"/proc/{pid}/cmdline") for pid in server.children()}
        encoders = [pid for pid, path in commands.items() if ENCODER in path.read_bytes()]
        if encoders:
            os.kill(random.choice(encoders), signal.SIGKILL)
            seen.kills += 1
