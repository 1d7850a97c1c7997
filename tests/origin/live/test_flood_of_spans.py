"""Very many different spans of one past: what the server keeps of them has a bound."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.long_dvr import LongDvr, make_long_dvr
from tests.origin.live.long_server import SECONDS, WINDOW, Long
from tests.patience import CLIENT_SECONDS

pytestmark = pytest.mark.timeout(900)

NAMES = ("720p/media.m3u8", "audio/media.m3u8", "720p/iframes.m3u8", "manifest.mpd", "master.m3u8")
AT_ONCE, FIRST, FURTHER = 12, 400, 2400
"""Requests at a time, and how many come before and after the memory was looked at first."""

MOST_GROWTH_KIB = 24 << 10
"""As many answers as the further ones have several times as much."""


@pytest.fixture
def long(tmp_path: Path) -> Iterator[Long]:
    until = round(time.time() - 60, 3)
    make_long_dvr(
        LongDvr(tmp_path / "data" / "live" / "long", until, SECONDS, SECONDS, 20, ((0, until),)), workers=1
    )
    one = Long(tmp_path, until)
    one.start(WINDOW)
    yield one
    assert one.server.stop() == 0
    assert "Traceback" not in one.server.text()


def resident_kib(long: Long) -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{long.server.process.pid}/status").read_text())
    assert found is not None
    return int(found[1])


def test_memory_does_not_grow_with_the_spans_that_were_asked_for(long: Long) -> None:
    chance = random.Random(41)

    def ask(count: int) -> int:
        """Ask for so many spans that nobody asked for before; return how many bytes came."""
        starts = [chance.uniform(-3400, -1900) for _ in range(count)]
        urls = [
            f"{long.server.url}/live/long/{NAMES[number % len(NAMES)]}?{long.query(start, start + 1500)}"
            for number, start in enumerate(starts)
        ]
        with httpx.Client(timeout=CLIENT_SECONDS) as client, ThreadPoolExecutor(AT_ONCE) as threads:
            answers = [*threads.map(client.get, urls)]
        assert {one.status_code for one in answers} <= {200, 429, 503}
        assert sum(one.status_code == 200 for one in answers) > count // 2
        return sum(len(one.content) for one in answers)

    ask(FIRST)
    before = resident_kib(long)
    came = ask(FURTHER)
    assert came >> 10 > 2 * MOST_GROWTH_KIB
    assert resident_kib(long) - before < MOST_GROWTH_KIB
