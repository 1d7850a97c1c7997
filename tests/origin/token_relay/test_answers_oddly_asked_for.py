"""Requests for answers where none are kept, that wait, that change nothing, and by ids of several."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse

from origin.events.limits import EventLimits
from origin.token_relay.limits import LEFT_SECONDS
from origin.token_relay.openai_errors import OpenAIErrors
from tests.completion_server import chunk, streaming
from tests.relay_server import PATIENT, relaying
from tests.streamed_answers import (
    CHAT_BYTES,
    CHAT_CHUNKS,
    CHAT_EVENTS,
    KEPT,
    MINE,
    asking,
    gated,
    got,
    raw,
    without_comments,
)
from tests.waiting import until


async def test_where_nothing_is_kept_the_addresses_say_so() -> None:
    async with relaying(streaming(CHAT_CHUNKS), PATIENT) as server:
        async with asking(server) as answer:
            assert "location" not in answer.headers
            assert without_comments(await answer.aread()) == CHAT_BYTES
        path = "/relay/test/v1/responses"
        assert (await got(server, f"{path}/x?stream=true")).status_code == 501
        question = {"model": "m", "input": "x", "background": True}
        refused = await server.request("POST", path, headers=MINE, json=question)
        assert (refused.status_code, bool(refused.json()["error"]["message"])) == (501, True)


async def test_asking_for_the_head_of_an_answer_changes_nothing() -> None:
    async with relaying(raw(CHAT_BYTES), keeping=KEPT) as server:
        async with asking(server) as answer:
            await answer.aread()
        own = answer.headers["x-request-id"]
        for path in (f"/events/{own}", f"/relay/test/v1/chat/completions/{own}?stream=true"):
            head = await server.request("HEAD", path, headers={**MINE, "accept": "text/event-stream"})
            assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream")
        assert (await got(server, f"/relay/test/v1/chat/completions/{own}?stream=true")).status_code == 200


async def test_an_answer_that_nobody_has_read_for_long_is_read_by_the_same_numbers() -> None:
    keeping = replace(KEPT, creation=EventLimits(created_beat_seconds=0.02, created_idle_seconds=0.0))
    async with relaying(raw(CHAT_BYTES), keeping=keeping) as server:
        async with asking(server) as answer:
            await answer.aread()
        path = f"/relay/test/v1/chat/completions/{answer.headers['x-request-id']}?stream=true"
        for number in range(len(CHAT_EVENTS)):
            await until(lambda: not server.created.open)
            again = await got(server, f"{path}&starting_after={number}")
            assert without_comments(again.content) == b"".join(CHAT_EVENTS[number + 1 :])


async def test_a_reader_that_waits_for_a_later_chunk_keeps_the_answer_going() -> None:
    script, go_on = gated(CHAT_EVENTS, 2)
    async with relaying(script, keeping=replace(KEPT, left=0.0)) as server:
        async with asking(server) as answer:
            path = f"/relay/test/v1/chat/completions/{answer.headers['x-request-id']}"
            waiting = asyncio.create_task(got(server, f"{path}?starting_after=4"))
            await until(lambda: server.created.open.readers)
        await until(lambda: not server.relay.readers)
        # Longer than an answer goes on that all have left.
        await asyncio.sleep(2 * LEFT_SECONDS)
        go_on.set()
        assert without_comments((await waiting).content) == b"".join(CHAT_EVENTS[5:])
        assert server.relay.counters.cancelled == 0


async def test_equal_requests_that_share_an_answer_share_its_channel() -> None:
    script, go_on = gated(CHAT_EVENTS, 2)
    async with relaying(script, keeping=KEPT, share=True) as server:
        async with asking(server) as one, asking(server) as other:
            assert one.headers["location"] == other.headers["location"]
            go_on.set()
            assert without_comments(await one.aread()) == without_comments(await other.aread()) == CHAT_BYTES
        assert (len(server.upstream.asked), len(server.created)) == (1, 1)


async def test_a_readers_own_token_is_never_a_wrong_one() -> None:
    async with relaying(raw(CHAT_BYTES), keeping=KEPT, read_key="short-key") as server:
        async with asking(server) as answer:
            await answer.aread()
        path = f"/relay/test/v1/chat/completions/{answer.headers['x-request-id']}?stream=true"
        for _ in range(50):
            assert (await got(server, path, {"authorization": "Bearer short-key"})).status_code == 200


async def test_answers_without_history_leave_nothing_on_disk(tmp_path: Path) -> None:
    keeping = replace(KEPT, folder=tmp_path, history=False)
    async with relaying(raw(CHAT_BYTES), keeping=keeping) as server:
        async with asking(server) as answer:
            await answer.aread()
        deleted = await server.request("DELETE", answer.headers["location"], headers=MINE)
        assert deleted.status_code == 204
    written = b"".join(one.read_bytes() for one in tmp_path.rglob("*") if one.is_file())
    assert answer.headers["x-request-id"].encode() not in written


async def test_an_answer_whose_time_is_over_is_deleted_from_the_disk(tmp_path: Path) -> None:
    keeping = replace(KEPT, folder=tmp_path, keep_for=2.0, creation=EventLimits(created_beat_seconds=0.05))
    word = chunk({"content": "a-word-of-this-answer"})

    def is_written() -> bool:
        written = [one.read_bytes() for one in tmp_path.rglob("*") if one.is_file()]
        return any(b"a-word-of-this-answer" in one for one in written)

    script, go_on = gated([f"data: {one}\n\n".encode() for one in (word, "[DONE]")], 1)
    async with relaying(script, keeping=keeping) as server:
        async with asking(server) as answer:
            await until(is_written)
            go_on.set()
            await answer.aread()
        await until(lambda: not is_written())
        assert not len(server.created)


async def test_a_server_that_makes_no_channels_relays_and_keeps_nothing() -> None:
    creation = EventLimits(created_channels=0)
    async with relaying(raw(CHAT_BYTES), keeping=replace(KEPT, creation=creation)) as server:
        async with asking(server) as answer:
            assert (answer.status_code, "location" in answer.headers) == (200, False)
            assert without_comments(await answer.aread()) == CHAT_BYTES
        path = "/relay/test/v1/responses"
        question = {"model": "m", "input": "x", "background": True}
        refused = [
            await got(server, f"{path}/x?stream=true"),
            await server.request("POST", f"{path}/x/cancel", headers=MINE),
            await server.request("POST", path, headers=MINE, json=question),
        ]
        assert [one.status_code for one in refused] == [501, 501, 501]
        assert all(one.json()["error"]["message"] for one in refused)
        assert (server.relay.running, len(server.created)) == (0, 0)


@pytest.mark.parametrize(
    ("path", "names"),
    [("messages", {"type", "error"}), ("messages/x", {"type", "error"}), ("chat/completions", {"error"})],
)
async def test_refusals_before_any_route_have_the_form_of_the_address(path: str, names: set[str]) -> None:
    app = OpenAIErrors(PlainTextResponse("pages of other sites may not change anything here", 403))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        answer = await client.post(f"/relay/a/v1/{path}")
    assert (answer.status_code, set(answer.json())) == (403, names)
    assert "pages of other sites" in answer.json()["error"]["message"]


async def test_an_upstream_server_that_gives_all_answers_one_id_costs_no_more() -> None:
    async with relaying(raw(CHAT_BYTES), keeping=KEPT) as server:
        for _ in range(5):
            async with asking(server) as answer:
                await answer.aread()
        found = server.created.aliased("relay:test", "chat/completions/chatcmpl-7f3a", 2)
        assert len(found) == 2
        for name in (answer.headers["x-request-id"], *(one.name for one in found)):
            await server.request("DELETE", f"/events/{name}", headers=MINE)
        assert len(server.created.aliased("relay:test", "chat/completions/chatcmpl-7f3a", 9)) == 2
