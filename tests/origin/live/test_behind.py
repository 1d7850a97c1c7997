"""Who follows a channel and is behind waits for what its maker has by the clock: it isn't unknown."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

import httpx
import pytest
from starlette.applications import Starlette

from origin.answers.asgi import handler_routes
from origin.live.handler import LiveHandler, OtherProcesses
from origin.live.requests.addresses import PATTERNS
from packager.publish.live_stream import LiveStream
from packager.window.limits import DEFAULT_LIMITS
from packager.window.log import Entry
from tests.origin.live.served_log import NoCommands
from tests.packager.made_channel import INITS, NUMBER, Maker, begin_late
from tests.waiting import until

WHOLE = 2
"""Segments that the follower has."""

MADE = 8
"""Those that the maker has."""

AHEAD = (
    f"media.m3u8?_HLS_msn={NUMBER + MADE - 1}&_HLS_part=1",
    f"{NUMBER + MADE - 2}.1.m4s",
    f"{NUMBER + MADE - 2}.m4s",
)
"""What the maker has listed: a playlist, a part, a segment."""


@dataclass
class Follower:
    """A process that follows a channel, and has stood still for some seconds."""

    stream: LiveStream
    client: httpx.AsyncClient
    missed: list[Entry] = field(default_factory=list)

    async def get(self, name: str) -> httpx.Response:
        return await self.client.get(f"/live/test/240p/{name}")

    def catch_up(self) -> None:
        for entry in self.missed:
            self.stream.fold(entry)


@contextlib.asynccontextmanager
async def follower(
    *,
    is_followed: bool = True,
    now: int = NUMBER + MADE,
    target_durations: int = 60,
    acts: Sequence[str] = ("segment",) * (MADE - WHOLE),
) -> AsyncIterator[Follower]:
    """Make one that has two of eight segments, at some moment; waits last for so many target durations."""
    limits = replace(DEFAULT_LIMITS, blocked_target_durations=target_durations)
    maker = Maker(dvr=False)
    for _ in range(WHOLE):
        maker.act("segment")
    stream = LiveStream("test", NoCommands(), limits, is_followed=is_followed, clock=maker.clock)
    stream.wall_clock = lambda: float(now)
    begin_late(maker, stream)
    transport = httpx.ASGITransport(Starlette(routes=handler_routes(LiveHandler({"test": stream}), PATTERNS)))
    async with httpx.AsyncClient(transport=transport, base_url="http://edge", timeout=60) as client:
        one = Follower(stream, client)
        maker.log.follow(one.missed.append)
        for act in acts:
            maker.act(act)
        yield one
        stream.close()


async def test_what_the_maker_has_is_waited_for() -> None:
    async with follower() as one:
        waiting = [asyncio.create_task(one.get(name)) for name in AHEAD]
        await until(lambda: one.stream.blocked == len(AHEAD), "the waiting")
        one.catch_up()
        answers = await asyncio.gather(*waiting)
        assert [answer.status_code for answer in answers] == [200] * len(AHEAD)
        assert f"{NUMBER + MADE - 1}.1.m4s" in answers[0].text
        assert answers[1].content in answers[2].content


async def test_the_init_segment_behind_a_break_is_waited_for() -> None:
    async with follower(acts=("begin", "segment")) as one:
        name = f"init-{NUMBER + WHOLE}.mp4"
        waiting = asyncio.create_task(one.get(name))
        await until(lambda: waiting.done() or one.stream.blocked == 1, "the waiting")
        one.catch_up()
        answer = await waiting
        assert (answer.status_code, answer.content) == (200, INITS[1])
        # Where the channel is made, and for what is still to come, it is unknown.
        assert (await one.get(f"init-{NUMBER + 2 * MADE}.mp4")).status_code == 404


@pytest.mark.parametrize("name", AHEAD[:2])
async def test_what_does_not_come_in_time_may_be_asked_for_elsewhere(name: str) -> None:
    async with follower(target_durations=0) as one:
        answer = await one.get(name)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(("name", "status"), [(AHEAD[0], 400), (AHEAD[1], 404)])
@pytest.mark.parametrize("is_followed", [True, False])
async def test_what_nobody_can_have_is_refused_at_once(name: str, status: int, is_followed: bool) -> None:
    # Where the channel is made all is known; and by the clock a follower knows what is still to come.
    now = NUMBER + (WHOLE if is_followed else MADE)
    async with follower(is_followed=is_followed, now=now) as one:
        assert (await one.get(name)).status_code == status
        assert one.stream.blocked == 0


@pytest.mark.parametrize("path", ["master.m3u8", "manifest.mpd", "240p/media.m3u8", "240p/1.m4s"])
async def test_a_channel_that_may_be_one_of_the_cluster_is_not_unknown(path: str) -> None:
    others = OtherProcesses(may_have_channel=lambda name: name == "elsewhere")
    app = Starlette(routes=handler_routes(LiveHandler({}, others=others), PATTERNS))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
        assert (await client.get(f"/live/none/{path}")).status_code == 404
        answer = await client.get(f"/live/elsewhere/{path}")
        assert answer.status_code == 503
        assert answer.headers["cache-control"] == "no-store"
        assert int(answer.headers["retry-after"]) > 0
