"""The text on the demo's event channel: it is typed while somebody reads, word by word."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from origin.events.channel import EventChannel
from origin.events.limits import ChannelLimits
from origin.server.services.demo_event_channel import TEXTS, DemoText
from origin.server.services.limits import ServerLimits
from packager.concurrency import background_task
from tests.event_server import NDJSON, a_channel, reading, serving
from tests.waiting import until

QUICK = ServerLimits(word_seconds=0, text_pause_seconds=0, text_look_seconds=0.001)


class Unread(EventChannel):
    """A channel that nobody reads, and that knows how often it was asked for its readers."""

    looks = 0

    @property
    def readers(self) -> int:
        self.looks += 1
        return 0


def typing(channel: EventChannel) -> AbstractAsyncContextManager[None]:
    return background_task(DemoText(channel, QUICK).run())


async def test_each_text_comes_word_by_word_while_somebody_reads() -> None:
    channel = a_channel(history=10_000)
    async with serving(channel) as server, typing(channel), reading(NDJSON, server) as (got, _):
        await until(lambda: sum(one.name == "token-end" for one in got) >= len(TEXTS))
    texts = "".join(one.data if one.name == "token" else "\0" for one in got).split("\0")
    assert tuple(texts[: len(TEXTS)]) == TEXTS
    assert all(len(one.data.split()) == 1 for one in got if one.name == "token")


async def test_without_readers_nothing_is_typed() -> None:
    channel = Unread("test", "e", ChannelLimits())
    async with typing(channel):
        await until(lambda: channel.looks > 10)
        assert channel.published == 0
