"""A server whose clock is set while it runs, and between two runs: each moment is found at its date."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import m3u8
import pytest

from tests.conftest import ServerProcess
from tests.copied_channel import copied_channel
from tests.e2e.audience import start_with_clock
from tests.patience import CLIENT_SECONDS
from tests.s3_server import BUCKET
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)

STEP = 600
"""Seconds; S3 refuses requests that are signed more than a quarter of an hour away from its own clock."""

SEGMENTS = 8
UNLISTED = SEGMENTS + 12
"""Seconds for which segments stay in the windows once they have left the list, and those of the step."""

OPTIONS = ("segment_duration = 1.0", "part_duration = 0.25")


@dataclass
class Stepped:
    """A server with a clock of its own.

    Attributes:
        ahead: by how many seconds its clock is ahead of that of others.
        away: seconds that the last restart took.
    """

    folder: Path
    server: ServerProcess
    environment: dict[str, str]
    is_listed: bool
    ahead: int = 0
    away: float = 0.0

    @property
    def clock(self) -> Path:
        return self.folder / "clock"

    def get(self, name: str) -> httpx.Response:
        return httpx.get(f"{self.server.url}/live/a/{name}", timeout=CLIENT_SECONDS, follow_redirects=True)

    def playlist(self, query: str = "") -> m3u8.M3U8:
        answer = self.get(f"source/media.m3u8{query}")
        return m3u8.loads(answer.text if answer.status_code == 200 else "#EXTM3U\n")

    def date(self, behind: int = 1) -> float:
        """Return the date of one of the newest segments, the last one."""
        listed = [one for one in self.playlist().segments if one.uri and not one.gap_tag]
        return float(listed[-behind].program_date_time.timestamp()) if len(listed) >= behind else 0.0

    def set_clock(self, ahead: int) -> float:
        """Set the clock, and return the date from which it goes on."""
        before = self.date()
        self.ahead, change = ahead, ahead - self.ahead
        self.clock.write_text(f"{ahead:+}\n")
        wait_for(lambda: abs(self.date() - before) > abs(change) / 2, "the step")
        begin = self.date()
        wait_for(lambda: self.date() > begin + SEGMENTS, "what comes behind it")
        return begin

    def stop(self) -> None:
        """Stop the server, and what it forked that hangs in libfaketime: see `start_with_clock`."""
        forked = self.server.children()
        assert self.server.stop() == 0
        for pid in forked:
            with contextlib.suppress(OSError):
                if b"serve" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    os.kill(pid, signal.SIGKILL)

    def restart(self) -> None:
        began = time.monotonic()
        self.stop()
        self.server = start_with_clock(self.folder, self.clock, self.environment)
        number = self.playlist().media_sequence or 0
        wait_for(lambda: self.date() and (self.playlist().media_sequence or 0) >= number, "the channel")
        self.away = time.monotonic() - began


def dates(found: m3u8.M3U8) -> list[float]:
    return [float(one.program_date_time.timestamp()) for one in found.segments if one.uri]


def pictures(data: bytes) -> int:
    words = ["ffmpeg", "-nostdin", "-v", "error", "-i", "pipe:0", "-map", "0:v", "-f", "framemd5", "-"]
    done = subprocess.run(words, input=data, capture_output=True, check=True, timeout=CLIENT_SECONDS)
    return sum(not line.startswith(b"#") for line in done.stdout.splitlines())


@pytest.fixture(params=["listed", "on disk", "in S3"])
def stepped(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stepped]:
    """Serve a channel all of which is listed, or whose past is on a disk or in S3."""
    where, environment = request.param, dict[str, str]()
    options = [*OPTIONS, 'dvr = "1h"', *(['playlist_window = "1s"'] if where != "listed" else [])]
    section = '[server]\nport = 0\ndata = "data"\n'
    if where == "in S3":
        section += f'dvr_path = "s3://{BUCKET}/{tmp_path.name}"\n'
        environment = request.getfixturevalue("s3_server").environment()
    (tmp_path / "headwater.toml").write_text(section + copied_channel("a", *options))
    (tmp_path / "clock").write_text("+0\n")
    server = start_with_clock(tmp_path, tmp_path / "clock", environment)
    running = Stepped(tmp_path, server, environment, where == "listed")
    try:
        wait_for(lambda: len(dates(running.playlist())) > SEGMENTS, "the channel")
        yield running
    finally:
        running.stop()
    assert "Traceback" not in running.server.text()


def check(stepped: Stepped, start: float, end: float) -> str:
    """Check that a span is found at its dates, as a playlist, a manifest, a file, and pictures.

    Returns:
        The playlist.
    """
    query = f"?start={start:.3f}&end={end:.3f}"
    found = stepped.playlist(query)
    assert found.is_endlist
    at = dates(found)
    assert at == sorted(at)
    assert start - 1.1 < at[0] <= start
    assert end - 1.1 <= at[-1] < end
    assert all(later - one < 1.6 for one, later in itertools.pairwise(at)), at
    assert stepped.get(f"master.m3u8{query}").status_code == 200
    assert stepped.get(f"manifest.mpd{query}").status_code == 200
    assert stepped.get(f"thumbnails.vtt{query}").status_code == 200
    assert stepped.get(f"snapshot.jpg?at={start:.3f}").status_code == 200
    clip = stepped.get(f"clip.mp4{query}")
    assert clip.status_code == 200, clip.text
    assert pictures(clip.content) == pytest.approx(12 * (end - start), abs=1)
    return stepped.get(f"source/media.m3u8{query}").text


def test_spans_have_their_dates_wherever_the_clock_was_set(stepped: Stepped) -> None:
    begin = stepped.date(SEGMENTS)
    last = stepped.date()
    # The clock is wrong for a while, and then right again.
    wrong = stepped.set_clock(STEP)
    right = stepped.set_clock(0)
    assert begin < last < right < wrong
    if not stepped.is_listed:
        wait_for(lambda: dates(stepped.playlist())[0] > right + UNLISTED, "all of it to leave the windows")
    bounds = [(one + 0.5, one + 4.5) for one in (begin, wrong + 1, right + 1)]
    texts = [check(stepped, start, end) for start, end in bounds]
    for _ in range(2):
        assert [check(stepped, start, end) for start, end in bounds] == texts
        # What goes on begins at its date, and not in the hour ahead.
        growing = dates(stepped.playlist(f"?start={right + 1.5:.3f}"))
        assert right < growing[0]
        # Behind an absence that was longer than the list, it begins there.
        assert growing[0] <= right + 1.5 or stepped.away > SEGMENTS
        assert growing == sorted(growing)
        # Over what was made by the wrong clock.
        over = dates(stepped.playlist(f"?start={begin + 0.5:.3f}&end={right + 5.5:.3f}"))
        assert over == sorted(over)
        assert over[-1] < right + 5.5
        stepped.restart()


@pytest.mark.parametrize("stepped", ["listed"], indirect=True)
def test_spans_have_their_dates_where_the_clock_was_set_back_between_two_runs(stepped: Stepped) -> None:
    before = stepped.date()
    stepped.stop()
    stepped.clock.write_text(f"-{STEP}\n")
    stepped.server = start_with_clock(stepped.folder, stepped.clock, stepped.environment)
    wait_for(lambda: 0 < stepped.date(SEGMENTS) < before - STEP / 2, "the channel")
    begin = stepped.date(SEGMENTS)
    check(stepped, begin + 0.5, begin + 4.5)
    growing = dates(stepped.playlist(f"?start={begin + 0.5:.3f}"))
    assert begin - 1 < growing[0] <= begin + 0.5
    # What was made before has dates that are still to come.
    check(stepped, before - 3.5, before + 0.5)
