"""What goes wrong upstream reaches every reader as an error, never as silence, and without the key."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from origin.events.limits import ChannelLimits
from origin.token_relay.completion_request import UpstreamRequest
from origin.token_relay.errors import CompletionError
from origin.token_relay.limits import TokenRelayLimits
from origin.token_relay.upstream import Upstream, UpstreamOptions
from tests.completion_server import KEY, Asked, Script, chunk, tokens
from tests.event_server import LIMIT, NDJSON
from tests.packager.sources.guarded_hosts import answering
from tests.ports import kept_port
from tests.relay_server import PATIENT, error_of, reading_answer, relaying
from tests.waiting import until

FIRST = tokens("a")[:2]


async def begin(asked: Asked) -> None:
    await asked.head()
    for data in FIRST:
        await asked.event(data)


async def drop(asked: Asked) -> None:
    await begin(asked)
    asked.writer.transport.abort()


async def drop_in_a_line(asked: Asked) -> None:
    await begin(asked)
    await asked.raw(b'data: {"choices": [{"delta"')
    asked.writer.close()


async def drop_in_a_letter(asked: Asked) -> None:
    await begin(asked)
    await asked.raw("data: 😀".encode()[:-2])
    asked.writer.close()


async def end_in_an_event(asked: Asked) -> None:
    await begin(asked)
    await asked.raw(b'data: {"choices": [')
    await asked.end()


async def stop(asked: Asked) -> None:
    await begin(asked)


async def trickle(asked: Asked) -> None:
    """A byte now and then, and never a line."""
    await begin(asked)
    while not asked.closed.is_set():
        await asked.raw(b"x")
        await asyncio.sleep(0.02)


async def never_end(asked: Asked) -> None:
    await begin(asked)
    while not asked.closed.is_set():
        await asked.raw(b": alive\n\n")
        await asyncio.sleep(0.02)


async def long_line(asked: Asked) -> None:
    """A gigabyte without the end of a line, until nobody takes it any more."""
    await begin(asked)
    await asked.raw(b"data: ")
    for _ in range(1024):
        await asked.raw(bytes(1 << 20))


async def flood(asked: Asked) -> None:
    await begin(asked)
    while not asked.closed.is_set():
        await asked.event(chunk({"content": "x" * 50_000}))


async def comments(asked: Asked) -> None:
    """No event, and no end: signs of life that cost whoever reads them."""
    await begin(asked)
    while not asked.closed.is_set():
        await asked.raw(b":\n\n\n\n" * 10_000)


async def no_chunks(asked: Asked) -> None:
    await begin(asked)
    asked.writer.write(b"zz\r\n")
    asked.writer.close()


@pytest.mark.parametrize(
    ("script", "limits", "told"),
    [
        (drop, {}, "broke off: the server closed the connection"),
        (drop_in_a_line, {}, "broke off"),
        (drop_in_a_letter, {}, "broke off"),
        (end_in_an_event, {}, "ended within an event"),
        (stop, {"silent_seconds": 2.0}, "sent nothing for 2 s"),
        (trickle, {"silent_seconds": 2.0}, "sent nothing for 2 s"),
        (never_end, {"answer_seconds": 3.0}, "took more than 3 s"),
        (long_line, {"answer_bytes": 1 << 20}, "has more than 1048576 bytes"),
        (flood, {"answer_bytes": 1 << 20}, "has more than 1048576 bytes"),
        (comments, {"answer_bytes": 1 << 20}, "has more than 1048576 bytes"),
        (no_chunks, {}, "broke off"),
    ],
)
async def test_what_breaks_off_is_told_to_all_behind_what_came(
    script: Script, limits: dict[str, Any], told: str
) -> None:
    go_on = asyncio.Event()

    async def later(asked: Asked) -> None:
        await go_on.wait()
        await script(asked)

    async with relaying(later, **limits) as server:
        async with (
            reading_answer(NDJSON, server) as (got, task),
            asyncio.TaskGroup() as callers,
        ):
            await until(lambda: server.channel.readers)
            caller = callers.create_task(server.stream())
            await until(lambda: server.upstream.asked)
            go_on.set()
            await asyncio.wait_for(task, 120)
        said = [event for event in got if event.name == "message"]
        assert [event.data for event in said[:2]] == FIRST
        assert [event.name for event in got[-2:]] == ["error", "end"]
        assert told in error_of(got[-2].data)["message"]
        data = caller.result()
        assert data[:2] == FIRST
        assert data[-1] == got[-2].data
        await until(lambda: server.upstream.asked[0].closed.is_set())
        assert (server.relay.running, server.relay.counters.failed) == (0, 1)


VLLM = {"object": "error", "message": "too long", "type": "BadRequestError", "param": None, "code": 400}
OPENAI = {"error": {"message": "Slow down", "type": "rate_limit", "param": None, "code": "rate_limit"}}


@pytest.mark.parametrize(
    ("answer", "status", "told"),
    [
        (("400 Bad Request", json.dumps(VLLM)), 400, VLLM),
        (("429 Too Many Requests", json.dumps(OPENAI)), 429, OPENAI["error"]),
        (("500 Internal Server Error", "<h1>no</h1>", "text/html"), 500, "the upstream server answers 500"),
        (("503 Service Unavailable", ""), 503, "the upstream server answers 503"),
        # The caller's key is right; it is ours that is wrong.
        (("401 Unauthorized", ""), 502, "the upstream server answers 401"),
        (("200 OK", "{}"), 502, "the upstream server sends application/json, not text/event-stream"),
        (("404 Not Found", "[" * 60_000), 404, "the upstream server answers 404"),
        (("500 No", "x" * 1_000_000), 500, "the upstream server answers 500"),
    ],
)
async def test_an_error_instead_of_an_answer_has_its_status_and_reaches_readers(
    answer: tuple[str, ...], status: int, told: object
) -> None:
    async def script(asked: Asked) -> None:
        await asked.answer(*answer)

    async with relaying(script) as server, reading_answer(NDJSON, server) as (got, task):
        await until(lambda: server.channel.readers)
        found = await server.ask("/relay/test/v1/chat/completions", stream=True)
        assert found.status_code == status
        error = found.json()["error"]
        assert told in (error, error["message"])
        await asyncio.wait_for(task, 120)
        assert [event.name for event in got] == ["error", "end"]
        assert error_of(got[0].data) == error
        whole = await server.ask("/relay/test/v1/chat/completions")
        assert whole.status_code == (200 if answer[0] == "200 OK" else status)


async def test_when_to_come_again_is_passed_on() -> None:
    async def script(asked: Asked) -> None:
        await asked.answer("429 Too Many Requests", "{}", "application/json", "retry-after: 17")

    async with relaying(script) as server:
        answer = await server.ask("/relay/test/v1/chat/completions", stream=True)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "17")


async def test_a_server_that_is_not_there_is_told() -> None:
    with kept_port() as port:
        async with relaying(drop, url=f"http://user:{KEY}@127.0.0.1:{port}/v1") as server:
            answer = await server.ask("/relay/test/v1/chat/completions", stream=True)
        assert answer.status_code == 502
        assert answer.json()["error"]["message"] == "the upstream server can't be reached"


async def test_an_error_behind_the_first_token_is_carried_as_it_is() -> None:
    error = '{"error": {"message": "CUDA out of memory", "type": "InternalServerError", "code": 500}}'

    async def script(asked: Asked) -> None:
        await begin(asked)
        await asked.event(error)
        await asked.event("[DONE]")
        await asked.end()

    async with relaying(script) as server:
        assert await server.stream() == [*FIRST, error, "[DONE]"]


async def test_the_upstream_servers_key_is_in_no_error_no_event_and_no_line_of_the_log() -> None:
    async def script(asked: Asked) -> None:
        answers = asked.options["seed"]
        if answers == 1:
            error = {"error": {"message": f"Incorrect API key: {KEY}", "type": "auth", "code": 401}}
            await asked.answer("401 Unauthorized", json.dumps(error))
        elif answers == 2:
            await begin(asked)
            await asked.event(json.dumps({"error": {"message": f"wrong: {KEY}"}}))
            await asked.raw(f"event: of-{KEY}\ndata: ***\n\n".encode())
            await asked.end()
        else:
            await asked.answer(f"500 {KEY}", f"key={KEY}", f"text/{KEY}")

    with capture_logs() as logs:
        async with relaying(script) as server:
            for seed in (1, 2, 3):
                answer = await server.ask("/relay/test/v1/chat/completions", stream=True, seed=seed)
                assert "***" in answer.text or seed == 3
                assert KEY not in answer.text + str(answer.headers)
            await until(lambda: not server.relay.running)
            events = server.channel.log.between(server.channel.log.first, server.channel.log.end)
            assert all(KEY not in event.data + event.name for event in events)
            assert any(event.name == "of-***" for event in events)
    assert logs
    assert KEY not in str(logs)


async def test_a_redirect_is_not_followed() -> None:
    async with answering() as (port, asked_elsewhere):

        async def script(asked: Asked) -> None:
            place = f"location: http://127.0.0.1:{port}/v1"
            await asked.answer("307 Temporary Redirect", "", "text/plain", place)

        async with relaying(script) as server:
            answer = await server.ask("/relay/test/v1/chat/completions", stream=True)
            assert answer.status_code == 502
            assert answer.json()["error"]["message"] == "the upstream server answers 307"
        assert asked_elsewhere == []


async def test_a_name_that_later_means_a_nearer_address_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer of DNS is in a network, the second is this machine."""
    answers = iter(("192.0.2.1", "127.0.0.1"))  # RFC 5737: the first is nobody's

    async def resolve(loop: object, host: str, port: int, **options: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    monkeypatch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", resolve)
    async with answering() as (port, asked):
        options = UpstreamOptions(url=f"http://rebinding.example:{port}/v1")
        upstream = Upstream(options, TokenRelayLimits(connect_seconds=0.05))
        for told in ("can't be reached", "may not be asked"):
            with pytest.raises(CompletionError, match=told):
                await upstream.whole(UpstreamRequest(b"{}"))
        assert asked == []


async def test_the_first_token_may_take_long_and_comments_bridge_the_silence() -> None:
    go_on = asyncio.Event()

    async def script(asked: Asked) -> None:
        await go_on.wait()
        await begin(asked)
        await asked.event("[DONE]")
        await asked.end()

    beating = ChannelLimits(heartbeat_seconds=0.05)
    async with relaying(script, replace(PATIENT, head_seconds=0.1), channel_limits=beating) as server:
        reader = await server.bare_stream()
        comments = 0
        while comments < 5:
            comments += (await asyncio.wait_for(reader.readline(), LIMIT)).startswith(b":")
        go_on.set()
        while b"[DONE]" not in await asyncio.wait_for(reader.readline(), LIMIT):
            pass
