"""What all tests share: nothing blocks the event loop, and a real server is one fixture away."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

from packager.tools import Tools, discover
from tests.conformance.handfed import Track, make_material

T = TypeVar("T")

HEADWATER = Path(sys.executable).parent / "headwater"
START_SECONDS = 240.0
"""Longest wait for a server to be up; the first start makes the demo's media."""

STOP_SECONDS = 30.0
OURS = ("HEADWATER_WATCH_SECONDS",)
"""Variables for the tests alone: the server knows each that begins with its name, or refuses it."""

ARTIFACTS = Path(__file__).parent.parent / "artifacts"


@pytest.fixture(autouse=True)
def nothing_blocks_the_event_loop() -> Iterator[BlockBuster]:
    with blockbuster_ctx(["media", "packager", "origin"]) as blockbuster:
        # The one place that sends files: from the page cache, in bounded steps, to a socket that never waits.
        blockbuster.functions["os.sendfile"].can_block_in(
            "origin/http1/zerocopy.py", {"_step", "begin_range"}
        )
        # The measuring of coverage itself.
        blockbuster.functions["threading.Lock.acquire"].can_block_in("coverage/collector.py", "lock_data")
        yield blockbuster


@pytest.fixture(scope="session")
def tools() -> Tools:
    """The machine's ffmpeg; asked in a thread, so that tests with a loop of their own can use it too."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(lambda: asyncio.run(discover())).result()


@pytest.fixture(scope="session")
def material(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Track]:
    """What channels that are fed by hand publish; nothing changes it."""
    return make_material(tools, tmp_path_factory.mktemp("material"))


@dataclass
class ServerProcess:
    """A real ``headwater`` process; ``url`` ends without a slash."""

    process: subprocess.Popen[str]
    url: str = ""
    output: list[str] = field(default_factory=list)

    def text(self) -> str:
        return "".join(self.output)

    def children(self) -> list[int]:
        """Process ids of the ffmpegs that it runs now."""
        listed = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for path in listed for pid in path.read_text().split()]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; give the exit status."""
        self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)


def wait_for(condition: Callable[[], T], seconds: float = 120.0, what: str = "the condition") -> T:
    """Wait until the condition gives something true, and give that."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"{what} didn't come true in {seconds:.0f} s")
        time.sleep(0.05)
    return result


def start_server(
    *arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None
) -> ServerProcess:
    """Start ``headwater serve`` with these arguments, and wait until it announces its address."""
    process = subprocess.Popen(
        [str(HEADWATER), "serve", *arguments],
        cwd=cwd,
        env={**{name: value for name, value in os.environ.items() if name not in OURS}, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    server = ServerProcess(process)

    def read() -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                server.output.append(line)

    threading.Thread(target=read, daemon=True).start()

    def announced() -> str:
        if process.poll() is not None:
            raise AssertionError(f"ended with status {process.returncode}:\n{server.text()}")
        match = re.search(r"Headwater is at (http://\S+)/", server.text())
        return "" if match is None else match.group(1)

    try:
        server.url = wait_for(announced, START_SECONDS, "the server's start")
    except BaseException:
        process.kill()
        process.wait()
        raise
    return server


@pytest.fixture(scope="session")
def demo_server() -> Iterator[ServerProcess]:
    """One server with the demo's films, channel and station for all tests that only look at it."""
    server = start_server("--demo", "--port", "0")
    yield server
    server.stop()
    ARTIFACTS.mkdir(exist_ok=True)
    (ARTIFACTS / "demo-server.log").write_text(server.text())
