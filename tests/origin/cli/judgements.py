"""Judgements of ``headwater check``, about live streams and about files in a folder."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from origin.cli.check import check
from origin.cli.checks.report import CheckReport
from tests.conftest import ServerProcess
from tests.fork_server import run_headwater
from tests.origin.server.app_requests import fetch, samples

LATE = "0.75"
"""Seconds, a bucket of the histogram: a part that comes so late has been held up by the machine."""

JUDGEMENTS = 20

Judgement = tuple[int, str]
"""Exit status, and what was printed."""


def standstills(server: ServerProcess, channel: str, rendition: str) -> tuple[float, int]:
    """Count what was late on a channel since its start: parts, and breaks behind which it went on."""
    values, labels = samples(server), f'channel="{channel}"'
    delays = "headwater_live_part_delay_seconds"
    text = fetch(f"{server.url}/live/{channel}/{rendition}/media.m3u8")[2].decode()
    left = re.search(r"DISCONTINUITY-SEQUENCE:(\d+)", text)
    breaks = text.count("#EXT-X-DISCONTINUITY\n") + text.count("#EXT-X-GAP\n")
    # There is none before the first part.
    counted = values.get(f"{delays}_count{{{labels}}}", 0)
    late = counted - values.get(f'{delays}_bucket{{{labels},le="{LATE}"}}', 0)
    return late, breaks + int(left[1] if left else 0)


def judge_live(
    server: ServerProcess,
    channel: str,
    rendition: str,
    under_way: tuple[tuple[float, int], Callable[[], Judgement]] | None = None,
    *,
    name: str = "master.m3u8",
) -> Judgement:
    """Have a channel judged; anew where the machine held it up meanwhile, which is found wrong, and rightly.

    Args:
        server: whose it is.
        channel: its name.
        rendition: whose playlist tells of breaks.
        name: of the playlist or manifest.
        under_way: the standstills before a judgement that has begun already, and what waits for it.
    """

    def again() -> Judgement:
        result = run_headwater("check", f"{server.url}/live/{channel}/{name}")
        return result.returncode, result.stdout

    before, judged = under_way or (standstills(server, channel, rendition), again)
    for _ in range(JUDGEMENTS):
        status, said = judged()
        after = standstills(server, channel, rendition)
        if status == 0 or after == before:
            break
        before, judged = after, again
    return status, said


async def judged(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    name: str = "itself.m3u8",
) -> CheckReport:
    """Have a server judged that answers so."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        return await check(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/{name}")
    finally:
        server.close()


def findings_in(folder: Path, name: str) -> str:
    """Have a playlist or manifest judged that Python's own server sends from a folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=folder))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        return "\n".join(asyncio.run(check(f"http://127.0.0.1:{server.server_port}/{name}")).findings)
    finally:
        server.shutdown()
        server.server_close()
