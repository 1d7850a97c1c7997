"""A server that gets no processor for a while: it says so, and its channel goes on where time is."""

from __future__ import annotations

import itertools
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.waiting import wait_for

STARVED_SECONDS = 2.5


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    (tmp_path / "library").mkdir()
    channel = copied_channel("test", "part_duration = 0.25", "segment_duration = 1.0")
    (tmp_path / "headwater.toml").write_text(f"[server]\nport = 0\n{channel}")
    with start_server("--config", "headwater.toml", "--library", "library", cwd=tmp_path) as server:
        yield server


@pytest.mark.clause("A starved server says so and goes on in order")
@pytest.mark.timeout(900)
def test_a_starved_server_says_so_and_its_channel_goes_on_in_order(server: ServerProcess) -> None:
    with httpx.Client(base_url=server.url, timeout=60) as client:

        def health() -> dict[str, Any]:
            answer: dict[str, Any] = client.get("/health").json()
            return answer

        def starved() -> dict[str, Any]:
            """Its health, once the server says so; the channel may have suffered before."""
            now = health()
            return now if "server" in now.get("troubles", {}) else {}

        def listed() -> list[int]:
            text = client.get("/live/test/source/media.m3u8").text
            return [int(number) for number in re.findall(r"^(\d+)\.m4s$", text, re.MULTILINE)]

        def lag() -> float:
            found = re.search(
                r"^headwater_loop_lag_seconds (\S+)$", client.get("/metrics").text, re.MULTILINE
            )
            assert found is not None
            return float(found[1])

        # 503: a channel that has just begun, on a slow machine.
        before = wait_for(listed, what="the first segment")[-1]
        os.kill(server.process.pid, signal.SIGSTOP)
        time.sleep(STARVED_SECONDS)
        os.kill(server.process.pid, signal.SIGCONT)
        troubled = wait_for(starved, what="the trouble")
        assert troubled["status"] == "degraded"
        assert re.fullmatch(r"the event loop is up to \d+\.\d s late", troubled["troubles"]["server"])
        wait_for(lambda: lag() > STARVED_SECONDS - 0.5, what="the lag")
        wait_for(lambda: max(listed(), default=0) >= before + 4, what="the channel")
        numbers = listed()
        assert all(after == number + 1 for number, after in itertools.pairwise(numbers))
        # What was late is over: neither the channel nor the server is told of for ever.
        # A busy machine may starve it again for a while, which is told for fifteen seconds each time.
        wait_for(lambda: health()["status"] == "ok", what="the end of the trouble", seconds=600)
