"""Readers of a relay who leave, stop reading or come too many; and requests that aren't relayed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from origin.events.limits import ChannelLimits
from origin.token_relay.limits import LEFT_SECONDS
from tests.completion_server import Asked, chunk, streaming, tokens
from tests.event_server import LIMIT, NDJSON, TOKEN, WAYS, Way
from tests.packager.sources.guarded_hosts import answering
from tests.relay_server import PATIENT, STREAMED, error_of, has_answered, reading_answer, relaying
from tests.waiting import until

DROP_IN = "/relay/test/v1/chat/completions"


async def talk(asked: Asked) -> None:
    """Send tokens until the client closes the connection."""
    await asked.head()
    while not asked.closed.is_set():
        await asked.event(chunk({"content": "token "}))
        await asyncio.sleep(0.005)


async def think(asked: Asked) -> None:
    """Send nothing until the client closes the connection."""


@pytest.mark.parametrize("script", [talk, think])
@pytest.mark.parametrize("way", WAYS[:4], ids=lambda way: way.name)
async def test_the_last_readers_leaving_closes_the_upstream_connection(
    way: Way, script: Callable[[Asked], Any]
) -> None:
    async with relaying(script) as server:
        await server.ask()
        await until(lambda: server.upstream.asked)
        async with reading_answer(way, server), reading_answer(way, server):
            await until(lambda: server.channel.entered >= 2)
        await until(lambda: server.upstream.asked[0].closed.is_set())
        await until(lambda: not server.relay.running)
        counters = server.relay.counters
        assert (counters.cancelled, counters.failed, counters.cleanup.count) == (1, 0, 1)
        # Within a second, as the relay measures it; the bound is its own limits' sum.
        assert LEFT_SECONDS + PATIENT.look_seconds < 0.5
        # Of who polls, nobody knows that it has left until it could have come again.
        assert PATIENT.again_seconds + LEFT_SECONDS + PATIENT.look_seconds < 1.0
        last = server.channel.log.between(server.channel.log.end - 2, server.channel.log.end)
        assert [event.name for event in last] == ["error", "end"]
        assert "last reader left" in error_of(last[0].data)["message"]


async def test_who_polls_is_a_reader_though_there_is_always_something_for_it_at_once() -> None:
    async with relaying(talk, replace(PATIENT, again_seconds=LIMIT)) as server:

        async def polled(since: str) -> str:
            answer = await server.request("GET", params={"since": since, "wait": str(LIMIT)})
            return str(answer.json()[-1]["id"])

        first = asyncio.create_task(polled(server.channel.last_id))
        await until(lambda: server.channel.readers == 1)
        await server.ask()
        since = await first
        for _ in range(5):
            since = await polled(since)
            seen = server.channel.published
            await until(lambda seen=seen: server.channel.published > seen + 40)  # type: ignore[misc]
        assert server.relay.counters.cancelled == 0
        assert not server.upstream.asked[0].closed.is_set()


@pytest.mark.parametrize("is_stream", [True, False])
async def test_a_callers_disconnect_reaches_the_upstream_server_before_the_first_token(
    is_stream: bool,
) -> None:
    async with relaying(think) as server:
        await server.bare_stream({**STREAMED, "stream": is_stream})
        await until(lambda: server.upstream.asked)
        server.writers[-1].transport.abort()
        await until(lambda: server.upstream.asked[0].closed.is_set())
        await until(lambda: server.relay.counters.cancelled == 1)


async def test_an_answer_goes_on_as_long_as_anybody_reads_it() -> None:
    async with relaying(talk) as server, reading_answer(NDJSON, server) as (got, _):
        await until(lambda: server.channel.readers)
        reader = await server.bare_stream()
        await asyncio.wait_for(reader.readuntil(b"token"), LIMIT)
        server.writers[-1].transport.abort()
        await until(lambda: server.channel.readers == 1)
        seen = len(got)
        await until(lambda: len(got) > seen + 200)
        assert not server.upstream.asked[0].closed.is_set()


async def test_an_answer_that_is_kept_goes_on_without_readers() -> None:
    texts = tokens(*map(str, range(200)))

    async def script(asked: Asked) -> None:
        await asked.head()
        for data in texts:
            await asked.event(data)
            await asyncio.sleep(0.01)
        await asked.end()

    async with relaying(script, replace(PATIENT, first_reader_seconds=0.05), keep=True) as server:
        await server.ask()
        await until(lambda: has_answered(server))
        assert server.relay.counters.cancelled == 0
        async with reading_answer(NDJSON, server) as (got, task):
            await asyncio.wait_for(task, LIMIT)
        assert [event.data for event in got] == [*texts, "{}"]


async def test_an_answer_whose_first_reader_never_comes_is_given_up() -> None:
    async with relaying(think, replace(PATIENT, first_reader_seconds=0.1)) as server:
        await server.ask()
        await until(lambda: server.relay.counters.cancelled == 1)
        # On a busy machine that may be before it was asked.
        await until(lambda: all(one.closed.is_set() for one in server.upstream.asked))
        await until(lambda: not server.relay.running)


async def test_a_frozen_reader_holds_up_nobody() -> None:
    texts = tokens(*("x" * 2000 for _ in range(1000)))
    async with relaying(streaming(texts)) as server:
        # They never read: one of the channel, one of the relay's own address.
        await server.open(path="/events/test")
        async with reading_answer(NDJSON, server) as (got, task):
            await until(lambda: server.channel.readers == 2)
            frozen = await server.bare_stream()
            await until(lambda: server.relay.running == 1 or has_answered(server))
            await asyncio.wait_for(task, LIMIT)
            assert [event.data for event in got] == [*texts, "{}"]
        # Who was only slow gets it all, as one answer is kept as a whole.
        read = b""
        while b"[DONE]" not in read[-200:]:
            part = await asyncio.wait_for(frozen.read(1 << 16), LIMIT)
            assert part
            read += part
        assert read.count(b"data: ") == len(texts)


async def test_there_is_room_for_so_many_requests_and_the_next_is_told_when_to_come_again() -> None:
    async with relaying(think, replace(PATIENT, requests=2)) as server:
        for _ in range(2):
            assert (await server.ask()).status_code == 202
        for path in ("/relay/test", DROP_IN):
            refused = await server.ask(path, stream=True)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
            assert refused.json()["error"]["type"] == "rate_limit_error"
        await until(lambda: len(server.upstream.asked) == 2)
        assert server.relay.counters.refused == 2


async def test_no_more_callers_share_an_answer_than_its_channel_may_have_readers() -> None:
    async with relaying(talk, share=True, channel_limits=ChannelLimits(readers=2)) as server:
        readers = [await server.bare_stream() for _ in range(2)]
        for reader in readers:
            await asyncio.wait_for(reader.readuntil(b"token"), LIMIT)
        assert server.relay.readers == 2
        refused = await server.ask(DROP_IN, stream=True)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
        assert refused.json()["error"]["type"] == "server_error"
        server.writers[-1].transport.abort()
        await until(lambda: server.relay.readers == 1)
        third = await server.bare_stream()
        await asyncio.wait_for(third.readuntil(b"token"), LIMIT)
        assert len(server.upstream.asked) == 1


async def test_callers_count_among_the_readers_of_all_event_channels() -> None:
    async with relaying(talk, most_readers=2) as server, reading_answer(NDJSON, server):
        await until(lambda: server.channel.readers == 1)
        first = await server.bare_stream()
        await asyncio.wait_for(first.readuntil(b"token"), LIMIT)
        refused = await server.ask(DROP_IN, stream=True)
        assert (refused.status_code, refused.json()["error"]["type"]) == (503, "server_error")
        assert (await server.request("GET")).status_code == 503
        assert len(server.upstream.asked) == 1


@pytest.mark.parametrize("path", ["/relay/test", DROP_IN])
async def test_only_a_publisher_may_ask(path: str) -> None:
    async with relaying(think) as server:
        for headers in ({}, {"authorization": "Bearer wrong"}):
            answer = await server.request("POST", path, json=STREAMED, headers=headers)
            assert answer.status_code == 401
        assert (await server.request("GET", path)).status_code == 405
        assert (await server.ask(path.replace("test", "other"))).status_code == 404
        assert server.upstream.asked == []


@pytest.mark.parametrize("path", ["/relay/test", DROP_IN])
async def test_what_is_refused_does_not_reach_the_upstream_server(path: str) -> None:
    async with answering() as (canary, asked), relaying(think) as server:
        place = f"http://127.0.0.1:{canary}/"
        nested = {"model_list": [{"litellm_params": {"api_base": place}}]}
        for options in (
            {"api_base": place},
            {"base_url": place},
            {"user_config": nested},
            {"n": 10**9},
            {"max_tokens": 10**12},
            {"messages": [{"role": "user", "content": "x"}] * 10**5},
        ):
            answer = await server.ask(path, **options)
            assert answer.status_code == 400
            assert answer.json()["error"]["type"] == "invalid_request_error"
        headers = {"authorization": f"Bearer {TOKEN}"}
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            told = {**headers, "content-type": kind}
            answer = await server.request("POST", path, content=json.dumps(STREAMED), headers=told)
            assert answer.status_code == 415
        assert server.upstream.asked == []
        assert asked == []


@pytest.mark.parametrize("is_told", [True, False])
async def test_a_prompt_of_a_hundred_megabytes_is_refused_as_it_comes(is_told: bool) -> None:
    async with relaying(think) as server:
        sent = 0
        lines = [f"POST {DROP_IN} HTTP/1.1", "host: x", f"authorization: Bearer {TOKEN}"]
        lines += ["content-type: application/json"]
        lines += [f"content-length: {100 << 20}" if is_told else "transfer-encoding: chunked", "", ""]
        reader, writer = await server.connect()
        writer.write("\r\n".join(lines).encode())
        status = asyncio.create_task(reader.readline())
        while not status.done():
            writer.write(b"100000\r\n%b\r\n" % bytes(1 << 20))
            sent += 1 << 20
            try:
                await asyncio.wait_for(writer.drain(), LIMIT)
            except OSError:
                break
            await asyncio.sleep(0)
            assert sent < 100 << 20
        assert b" 413 " in await asyncio.wait_for(status, LIMIT)
        assert server.upstream.asked == []


async def test_the_servers_end_is_told_to_callers_who_could_not_come_again() -> None:
    async with relaying(talk) as server, server.streaming() as lines:
        await anext(lines)
        server.relay.close()
        data = [line async for line in lines]
        assert error_of(data[-1])["message"] == "the server ends"
        await until(lambda: not server.relay.running)


async def test_everything_is_back_at_zero_when_many_have_left_at_once() -> None:
    async with relaying(talk, share=True) as server:
        for _ in range(100):
            await server.bare_stream()
        await until(lambda: server.relay.counters.shared == 99)
        completion = next(iter(server.relay._running))
        await until(lambda: completion.answer.readers == 100)
        for writer in server.writers:
            writer.transport.abort()
        await until(lambda: not server.relay.running)
        assert (completion.answer.readers, completion.readers) == (0, 0)
        assert server.upstream.asked[0].closed.is_set()


async def test_one_task_looks_for_readers_however_often_answers_come_and_end() -> None:
    async with relaying(streaming(tokens("a")), PATIENT) as server:
        for _ in range(20):
            await server.stream()

        def looking() -> int:
            coroutines = [one.get_coro() for one in asyncio.all_tasks()]
            return [getattr(one, "__qualname__", "") for one in coroutines].count("TokenRelay._look")

        assert looking() <= 1
        await until(lambda: not looking())
