"""What judges and players find in random spans of thirty days: by HLS, DASH and as one file.

``python -m tests.benchmarks.random_spans [DAYS [SPANS [FOLDER]]]`` prints a line for each span in which
somebody found something, and a table. What is to be there is known from what the DVR was made of. A third
of the spans lie over a change: the source was away, an encoder was, or the codec's parameters change. In a
folder of its own the DVR is kept, and serves for a day, of no more spans than it was made for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby, pairwise
from pathlib import Path

import httpx
import m3u8
import pytest
from playwright.async_api import Browser, async_playwright
from playwright.async_api import Error as PlayerError

from tests.benchmarks.long_dvr import DAY, LISTED, start
from tests.conftest import ServerProcess
from tests.e2e.conftest import launching, new_page
from tests.e2e.timed_film import address, opened
from tests.long_dvr import PICTURES, RENDITIONS, STEP, LongDvr, make_long_dvr
from tests.made_once import VARIABLE

RATE = 25
PICTURES_IN_SEGMENT = round(STEP * RATE)
LENGTHS = 10.0, 200.0
"""Seconds of the shortest and of the longest span."""

NEAR = 1 / RATE + 0.001
"""Seconds by which what is played may be off: a picture."""

UNJUDGED = "not judged"

TOLD_SPANS = 20
"""Behind how many spans there is a table."""

DECODE = ("-nostdin", "-v", "error", "-stats")
LENGTH = ("-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0")

HEADWATER = str(Path(sys.executable).with_name("headwater"))

JUDGED_SEGMENTS = 20
"""How many segments of a playlist ``headwater check`` reads."""

LAST_SECONDS = 6.0
"""How much of a span's end is played."""

PLAY = """at => {
  video.playbackRate = 4;
  let before = -1;
  const play = () => {
    if (video.ended) return;
    if (video.currentTime === before || before < 0) video.currentTime = at + 0.001 * Math.random();
    before = video.currentTime;
    video.play().catch(() => {});
    setTimeout(play, 8000);
  };
  play();
}"""
"""Plays the end, and seeks again as a viewer would.

Shaka empties its buffers now and then behind an early seek, and asks for nothing any more.
"""


@dataclass(frozen=True)
class Span:
    """A span of the DVR, and what is in it.

    Attributes:
        dvr: from which it is.
        start: seconds since the epoch.
        end: likewise.
    """

    dvr: LongDvr
    start: float
    end: float

    @property
    def query(self) -> str:
        return f"start={self.start:.3f}&end={self.end:.3f}"

    @property
    def numbers(self) -> range:
        """Media sequence numbers of the segments that have anything of it."""
        return range(int(Fraction(self.start) // STEP), int(-(-Fraction(self.end) // STEP)))

    def whole(self, rendition: str = "720p") -> list[int]:
        """Return the numbers of the segments that are there."""
        return [number for number in self.numbers if not self.dvr.is_gap(number, rendition)]

    @property
    def timelines(self) -> int:
        return len({self.dvr.timeline(number) for number in self.whole()})

    @property
    def is_changed(self) -> bool:
        return len({self.dvr.is_changed(number) for number in self.whole()}) > 1

    @property
    def kind(self) -> str:
        """Say what is in it."""
        if self.is_changed:
            return "a change of the codec"
        if self.timelines > 1:
            return "a pause"
        if len(self.whole("480p")) < len(self.numbers):
            return "a gap of a rendition"
        return "nothing of the kind"

    @property
    def pictures(self) -> int:
        """Count the pictures that begin in it."""
        first = -(-Fraction(str(self.start)) * RATE // 1)
        behind = -(-Fraction(str(self.end)) * RATE // 1)
        begins = (number * PICTURES_IN_SEGMENT for number in self.whole())
        return int(sum(min(one + PICTURES_IN_SEGMENT, behind) - max(one, first) for one in begins))


def spans(dvr: LongDvr, count: int) -> list[Span]:
    """Choose spans at random, a third of them over a change."""
    chosen, found = random.Random(1), list[Span]()
    numbers = range(dvr.numbers.start + 10, dvr.first_listed - 400)
    changes = [
        number
        for before, number in pairwise(numbers)
        if dvr.timeline(number) != dvr.timeline(before) or dvr.is_gap(number, "480p")
    ]
    codec = next((number for number in numbers[400:] if dvr.is_changed(number)), changes[0])
    while len(found) < count:
        length = chosen.uniform(*LENGTHS)
        at = float(chosen.choice(numbers) * STEP)
        if len(found) % 3 == 0:
            number = codec if len(found) % 30 == 0 else chosen.choice(changes)
            at = float(number * STEP) - chosen.uniform(0.1, 0.9) * length
        begin = round(at + chosen.random(), 3)
        one = Span(dvr, begin, round(begin + length, 3))
        if one.whole() and one.numbers.start >= numbers.start:
            found.append(one)
    return found


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a program, whatever comes of it."""
    return subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)


@dataclass(frozen=True)
class Judges:
    """Ask a server for spans, and have them judged."""

    server: ServerProcess
    browser: Browser

    def url(self, name: str, span: Span) -> str:
        return f"{self.server.url}/live/long/{name}?{span.query}"

    def by_m3u8(self, span: Span) -> str:
        """Compare the playlists with what is to be there."""
        master = m3u8.load(self.url("master.m3u8", span))
        count = sum(bool(span.whole(one)) for one in PICTURES)
        if len(master.playlists) != count or len(master.iframe_playlists) != count:
            return "the master playlist has other renditions"
        for rendition in filter(span.whole, RENDITIONS):
            found = m3u8.load(self.url(f"{rendition}/media.m3u8", span))
            whole = [int(one.uri.partition(".")[0]) for one in found.segments if not one.gap_tag]
            if whole != span.whole(rendition):
                return f"{rendition} has {len(whole)} segments of {len(span.whole(rendition))}"
            if (found.playlist_type, found.is_endlist) != ("vod", True):
                return f"{rendition} isn't VOD"
            if {one.duration for one in found.segments} - {float(STEP)}:
                return f"{rendition} has other durations"
            timelines = 1 + sum(one.discontinuity for one in found.segments[1:])
            if timelines != span.timelines:
                return f"{rendition} has {timelines} timelines of {span.timelines}"
            date = found.segments[0].program_date_time.timestamp()
            # There is none where the first segment begins behind a pause.
            begin = date + (found.start.time_offset if found.start else 0.0)
            if abs(begin - max(span.start, date)) > 0.001 or (found.start and not found.start.precise):
                return f"{rendition} begins at {begin}"
        return ""

    def by_ffmpeg_hls(self, span: Span) -> str:
        """Count the packets that ffmpeg reads of a rendition, in which nothing else is away than all."""
        told = self._packets(self.url("720p/media.m3u8", span))
        return "" if told == PICTURES_IN_SEGMENT * len(span.whole()) else f"{told} packets"

    def by_ffmpeg_dash(self, span: Span) -> str:
        """Likewise by DASH, of which this ffmpeg reads one Period."""
        if span.timelines > 1 or len(span.whole("480p")) < len(span.whole()):
            return UNJUDGED
        told = self._packets(self.url("manifest.mpd", span))
        return "" if told == PICTURES_IN_SEGMENT * len(span.whole()) else f"{told} packets"

    def _packets(self, url: str) -> int:
        words = "-v error -count_packets -select_streams v:0 -show_entries stream=nb_read_packets -of csv=p=0"
        counts = run("ffprobe", *words.split(), url).stdout.split()
        return int(counts[-1].strip(",")) if counts else 0

    def by_ffmpeg_mp4(self, span: Span) -> str:
        """Decode the file; count its pictures, and compare its length with theirs."""
        answer = httpx.get(self.url("clip.mp4", span), timeout=60)
        if span.is_changed:
            return "" if answer.status_code == httpx.codes.CONFLICT else f"status {answer.status_code}"
        with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
            file.write(answer.content)
            file.flush()
            done = run("ffmpeg", *DECODE, "-i", file.name, "-f", "null", "-")
            length = float(run("ffprobe", *LENGTH, file.name).stdout or 0)
        told = done.stderr.rpartition("frame=")
        counted = int(told[2].split()[0]) if told[1] else 0
        errors = re.sub(r"frame=.*", "", done.stderr).strip()
        if errors or counted != span.pictures:
            return f"{counted} pictures of {span.pictures}; {errors[:80]}"
        return "" if abs(length - span.pictures / RATE) < NEAR else f"lasts {length:.3f} s"

    def by_check(self, name: str) -> Callable[[Span], str]:
        """Have a playlist or manifest judged by our own judge."""

        def judge(span: Span) -> str:
            done = run(HEADWATER, "check", "--most", str(JUDGED_SEGMENTS), self.url(name, span))
            return "" if done.returncode == 0 else done.stdout.strip()[-200:]

        return judge

    async def by_player(self, kind: str, span: Span) -> str:
        """Look at where a player begins, how long the span is, and play its last seconds."""
        try:
            return await self._play(kind, span)
        except (PlayerError, pytest.fail.Exception) as error:
            return f"{error}"[:200]

    async def _play(self, kind: str, span: Span) -> str:
        page = await new_page(self.browser)
        try:
            async with opened(page, kind, self.url(address(kind), span)) as watching:
                troubles, begins, lasts = await page.evaluate(
                    "() => [troubles, video.currentTime, video.duration]"
                )
                await page.evaluate(PLAY, lasts - LAST_SECONDS)
                await watching.until("video.ended || troubles.length")
                troubles, time_at_end = await page.evaluate("() => [troubles, video.currentTime]")
        finally:
            await page.close()
        # DASH begins with a segment: MSE drops pictures that need a key frame from before a period.
        expected = max(span.start - float(span.whole()[0] * STEP), 0) if kind == "hls.js" else 0
        whole = float(len(span.whole()) * STEP)
        if troubles:
            return f"troubles: {troubles}"
        if abs(begins - expected) > NEAR:
            return f"begins at {begins:.3f} in place of {expected:.3f}"
        if abs(lasts - whole) > NEAR or abs(time_at_end - lasts) > NEAR:
            return f"lasts {lasts:.3f} of {whole:.3f}, ended at {time_at_end:.3f}"
        return ""


def _answer(ask: Callable[[Span], str], span: Span) -> str:
    """Return what a judge says, or why it can't."""
    try:
        return ask(span)
    except (OSError, ValueError, AttributeError, LookupError, subprocess.SubprocessError) as error:
        return f"{type(error).__name__}: {error}"


async def judge(server: ServerProcess, chosen: Sequence[Span]) -> AsyncIterator[str]:
    """Have all spans judged; give the lines of what was found, and a table."""
    found = dict[tuple[str, str], Counter[bool]]()
    async with async_playwright() as playwright, await playwright.chromium.launch(**launching()) as browser:
        one = Judges(server, browser)
        programs = {
            "m3u8": one.by_m3u8,
            "ffmpeg, HLS": one.by_ffmpeg_hls,
            "ffmpeg, DASH": one.by_ffmpeg_dash,
            "ffmpeg, MP4": one.by_ffmpeg_mp4,
            "check, HLS": one.by_check("master.m3u8"),
            "check, DASH": one.by_check("manifest.mpd"),
        }

        async def by_programs(span: Span) -> dict[str, str]:
            return {name: await asyncio.to_thread(_answer, ask, span) for name, ask in programs.items()}

        async def by_players(span: Span) -> dict[str, str]:
            return {kind: await one.by_player(kind, span) for kind in ("hls.js", "shaka-player")}

        for number, span in enumerate(chosen, 1):
            both = await asyncio.gather(by_programs(span), by_players(span))
            for name, what in (both[0] | both[1]).items():
                if what != UNJUDGED:
                    found.setdefault((span.kind, name), Counter())[not what] += 1
                if what not in ("", UNJUDGED):
                    yield f"{span.query} ({span.kind}), {name}: {what}"
            if number % TOLD_SPANS == 0 or number == len(chosen):
                yield f"{number} of {len(chosen)} spans:"
                for line in table(found):
                    yield line


def table(found: Mapping[tuple[str, str], Counter[bool]]) -> Iterator[str]:
    """Yield a line for each kind of spans: how many were as they should be."""
    for kind, rows in groupby(sorted(found), key=lambda key: key[0]):
        counts = ((name, found[kind, name]) for _, name in rows)
        yield f"{kind}: " + ", ".join(f"{name} {one[True]} of {one.total()}" for name, one in counts)


async def main(days: float, count: int, kept: str = "") -> None:
    """Make the DVR, unless one is there that was kept, and print what is found."""
    with contextlib.ExitStack() as stack:
        folder = kept or stack.enter_context(tempfile.TemporaryDirectory(prefix="headwater-spans-"))
        os.environ.setdefault(VARIABLE, folder)
        place, until = Path(folder), Path(folder, "until")
        now = float(until.read_text()) if until.exists() else time.time() - 30
        empty = LongDvr(place / "data" / "live" / "long", now, days * DAY, LISTED)
        chosen = spans(empty, count)
        if not until.exists():
            own = tuple((one.start, one.end) for one in chosen)
            make_long_dvr(LongDvr(empty.folder, now, days * DAY, LISTED, own_times=own))
            until.write_text(repr(now))
        # What has come since then is no longer than a day.
        server, _ = start(place, f"{int(days) + 1}d", None)
        try:
            async for line in judge(server, chosen):
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()
        finally:
            server.stop()


if __name__ == "__main__":
    _days, _count, *_kept = (*sys.argv[1:], *("30", "200")[len(sys.argv) - 1 :])
    asyncio.run(main(float(_days), int(_count), *_kept))
