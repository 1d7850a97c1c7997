"""An answer with the events of many channels has a bounded size, and its id continues with the rest."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Self

import httpx
import pytest
from websockets.asyncio.client import connect

from origin.events.limits import ChannelLimits, EventLimits
from tests.created_channels import ADMIN, Server, Setting, serving
from tests.event_server import LIMIT
from tests.loop_watch import LoopWatch

CHANNELS = 32
LIMITS = EventLimits(created_idle_seconds=1e9)
TEXT_BYTES = 10_000


@contextlib.asynccontextmanager
async def with_rooms(count: int, texts: list[str]) -> AsyncIterator[Server]:
    """Serve rooms with these events each, whose publishers come in turn."""
    setting = Setting(multiplexing=EventLimits(channels_per_reader=CHANNELS))
    async with serving(LIMITS, setting) as server, httpx.AsyncClient(timeout=LIMIT) as client:
        lines = "".join(json.dumps({"data": text}) + "\n" for text in texts)
        fields = {**ADMIN, "content-type": "application/x-ndjson"}
        for number in range(count):
            await server.made(name=f"room/{number}", keep=len(texts))
            address = f"{server.url}/events/room/{number}"
            answer = await client.post(address, content=lines, headers=fields)
            assert answer.status_code == 200, answer.text
        yield server


class Reader:
    """A client that continues behind the last id that it has had, in whatever way."""

    def __init__(self, server: Server) -> None:
        self._address = f"{server.url}/events"
        self._client = httpx.AsyncClient(timeout=LIMIT, headers=ADMIN)
        self.since = ""
        self.texts: dict[str, list[str]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    def _query(self) -> dict[str, str]:
        return {"channel": "room/*", "since": self.since}

    def append(self, channel: str, event: str, data: str, identity: str) -> None:
        assert event == "message", (channel, event, data)
        assert identity.partition("=")[0] == channel
        self.texts.setdefault(channel, []).append(data)
        self.since = identity

    async def poll(self, accept: str = "application/json") -> bytes:
        """Append the events of one answer; return its body, which is empty behind the last event."""
        answer = await self._client.get(self._address, params=self._query(), headers={"accept": accept})
        assert answer.status_code in (200, 204), answer.text
        text = answer.text if accept == "application/json" else f"[{','.join(answer.text.splitlines())}]"
        for one in json.loads(text) if answer.content else []:
            self.append(one["channel"], one["event"], one["data"], one["id"])
        return answer.content

    async def stream(self, accept: str, count: int) -> None:
        """Append so many events of a stream, and leave."""
        query = {"channel": "room/*", "last_event_id": self.since}
        async with self._client.stream(
            "GET", self._address, params=query, headers={"accept": accept}
        ) as answer:
            fields: dict[str, str] = {}
            async for line in answer.aiter_lines():
                if accept == "application/x-ndjson" and line:
                    one = json.loads(line)
                    self.append(one["channel"], one["event"], one["data"], one["id"])
                    count -= 1
                elif line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "data" in fields:
                    identity = fields["id"]
                    self.append(identity.partition("=")[0], "message", fields["data"], identity)
                    fields, count = {}, count - 1
                if not count:
                    return

    async def converse(self, count: int) -> None:
        """Append so many messages of a WebSocket, and leave."""
        address = f"{self._address.replace('http', 'ws', 1)}?channel=room/*&last_event_id={self.since}"
        # Without a bound of its queue it reads up to the server's answer when it closes.
        async with connect(address, additional_headers=ADMIN, open_timeout=LIMIT, max_queue=None) as socket:
            for _ in range(count):
                one = json.loads(await socket.recv())
                self.append(one["channel"], one["event"], one["data"], one["id"])


@pytest.mark.clause("CWE-770")
async def test_an_answer_of_many_channels_is_bounded_and_the_next_ones_have_the_rest(
    nothing_holds_the_event_loop: LoopWatch,
) -> None:
    texts = [str(number) for number in range(1000)]
    bound = ChannelLimits().answer_bytes
    async with with_rooms(CHANNELS, texts) as server, Reader(server) as reader:
        nothing_holds_the_event_loop.reset()
        sizes = [len(await reader.poll())]
        assert nothing_holds_the_event_loop.longest.seconds < 0.05
        # No channel waits for the end of another one's events.
        assert len(reader.texts) == CHANNELS
        while body := await reader.poll():
            sizes.append(len(body))
        # An id has the position in each channel, and so is as long as some kilobytes.
        assert max(sizes) < bound + 10_000
        assert reader.texts == {f"room/{number}": texts for number in range(CHANNELS)}


async def test_a_client_continues_in_any_way_without_loss_or_repetition() -> None:
    texts = [f"{number:03}".ljust(400, ".") for number in range(200)]
    expected = {f"room/{number}": texts for number in range(8)}
    async with with_rooms(8, texts) as server, Reader(server) as reader:
        while sum(map(len, reader.texts.values())) < 1000:
            await reader.stream("text/event-stream", 71)
            await reader.converse(67)
            await reader.stream("application/x-ndjson", 59)
        assert await reader.poll()
        while await reader.poll("application/x-ndjson"):
            pass
        assert reader.texts == expected


async def test_polls_begin_with_the_channels_that_the_last_one_had_no_room_for() -> None:
    rooms = 8
    async with with_rooms(rooms, ["x" * TEXT_BYTES] * 100) as server, Reader(server) as reader:
        await reader.poll()
        assert len(reader.texts) < rooms
        while len(reader.texts) < rooms:
            assert max(map(len, reader.texts.values())) < 20
            await reader.poll()


async def test_a_poll_of_one_channel_has_a_bounded_answer_whatever_its_events_are_written_as(
    nothing_holds_the_event_loop: LoopWatch,
) -> None:
    """JSON writes a control character in six (RFC 8259 §7)."""
    texts = ["\x01" * TEXT_BYTES] * 200
    async with with_rooms(1, texts) as server, httpx.AsyncClient(timeout=LIMIT, headers=ADMIN) as client:
        found, since = list[str](), ""
        nothing_holds_the_event_loop.reset()
        while True:
            query = {"since": since}
            answer = await client.get(f"{server.url}/events/room/0", params=query)
            if answer.status_code == 204:
                break
            assert len(answer.content) < ChannelLimits().answer_bytes + 6 * TEXT_BYTES + 1000
            events = answer.json()
            found += [one["data"] for one in events]
            since = events[-1]["id"]
        assert nothing_holds_the_event_loop.longest.seconds < 0.05
        assert found == texts
