"""Each streamed answer is an event channel of its own, read from any place, by several, and afterwards."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from origin.events.limits import EventLimits
from tests.completion_server import Asked, chunk, completing, streaming
from tests.event_server import TOKEN
from tests.keys import ADMIN_TOKEN
from tests.relay_server import STREAMED, relaying
from tests.streamed_answers import (
    CHAT_BYTES,
    CHAT_CHUNKS,
    CHAT_EVENTS,
    FINISH_REASONS,
    KEPT,
    MESSAGE_EVENTS,
    MINE,
    STREAMS,
    a_response,
    asking,
    gated,
    got,
    named,
    raw,
    read_upto,
    response_events,
    without_comments,
)
from tests.waiting import until


@pytest.mark.parametrize("path", STREAMS)
async def test_the_caller_gets_the_stream_as_it_is_and_its_channel_has_the_same(path: str) -> None:
    identity, question, data = STREAMS[path]
    async with relaying(raw(data), keeping=KEPT) as server:
        async with asking(server, path, question) as answer:
            assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
            place, stream = answer.headers["location"], await answer.aread()
        assert without_comments(stream) == data
        assert server.upstream.asked[0].target == f"/v1/{path}"
        events = (await got(server, f"{place}?since=")).json()
        parts = data.decode().split("\n\n")[:-1]
        assert [one["data"] for one in events[:-1]] == [one.partition("data: ")[2] for one in parts]
        assert events[-1]["event"] == "end"
        told = {"finish_reason": FINISH_REASONS[path]} if path in FINISH_REASONS else {}
        assert json.loads(events[-1]["data"]) == {"reason": "done", "chunks": len(parts), **told}
        # By the upstream server's id, and by that of the channel.
        for name in (identity, answer.headers["x-request-id"]):
            again = await got(server, f"/relay/test/v1/{path}/{name}?stream=true")
            assert without_comments(again.content) == data
        # Only chat completions are for the relay's channel, too.
        assert (server.channel.published > 0) == (path == "chat/completions")


async def test_two_readers_of_one_answer_get_the_same_while_it_runs_and_from_any_place() -> None:
    script, go_on = gated(CHAT_EVENTS, 3)
    async with relaying(script, keeping=KEPT) as server, asking(server) as answer:
        place = answer.headers["location"]
        begin = await read_upto(answer, CHAT_EVENTS[2])
        assert begin.endswith(CHAT_EVENTS[2])
        first = (await got(server, f"{place}?since=")).json()
        reading = [
            asyncio.create_task(got(server, place, {**MINE, "last-event-id": first[0]["id"], "accept": kind}))
            for kind in ("application/x-ndjson", "text/event-stream")
        ]
        later = asyncio.create_task(
            got(server, "/relay/test/v1/chat/completions/chatcmpl-7f3a?starting_after=1")
        )
        await until(lambda: server.created.open.readers >= 2)
        go_on.set()
        whole = [(await one).text for one in reading]
        assert (await later).content.replace(b": \n\n", b"") == b"".join(CHAT_EVENTS[2:])
        lines = [json.loads(one) for one in whole[0].splitlines() if one]
        assert [one["data"] for one in lines[:-1]] == CHAT_CHUNKS[1:]
        assert [one[6:] for one in whole[1].split("\n") if one.startswith("data: ")][:-1] == CHAT_CHUNKS[1:]


async def test_a_caller_that_breaks_off_and_comes_again_finds_all() -> None:
    script, go_on = gated(CHAT_EVENTS, 2)
    async with relaying(script, keeping=KEPT) as server:
        async with asking(server) as answer:
            place = answer.headers["location"]
            await read_upto(answer, CHAT_EVENTS[1])
        await until(lambda: not server.relay.readers)
        go_on.set()
        await until(lambda: not server.relay.running)
        for way in ({"last-event-id": "0"}, {}):
            query = "" if way else "?stream=true&starting_after=0"
            again = await got(server, f"/relay/test/v1/chat/completions/chatcmpl-7f3a{query}", MINE | way)
            assert without_comments(again.content) == b"".join(CHAT_EVENTS[1:])
        assert len(server.upstream.asked) == 1
        assert server.relay.counters.cancelled == 0
        assert (await got(server, f"{place}?since=")).json()[-1]["event"] == "end"


async def test_who_may_read_an_answer_is_who_has_its_id_and_a_token() -> None:
    async with relaying(raw(CHAT_BYTES), keeping=KEPT, read_key="a-read-key-of-the-relay") as server:
        async with asking(server) as answer:
            await answer.aread()
        place, own = answer.headers["location"], answer.headers["x-read-token"]
        # 128 bits, six a character (RFC 4648 §5).
        assert len(place.rpartition("/")[2]) * 6 >= 128
        assert len(own) * 6 >= 128
        direct = "/relay/test/v1/chat/completions/chatcmpl-7f3a?stream=true"
        for path in (f"{place}?since=", direct):
            for key in (TOKEN, own, "a-read-key-of-the-relay", ADMIN_TOKEN):
                found = await got(server, path, {"authorization": f"Bearer {key}"})
                assert found.status_code == 200, key
            for stranger in ({}, {"authorization": "Bearer another-token-00000"}):
                assert (await got(server, path, stranger)).status_code == 401
        other = await got(server, "/relay/test/v1/chat/completions/x?stream=true", {})
        assert other.status_code == 401
        # Its readers change nothing.
        for method, path in (("POST", place), ("PATCH", place), ("DELETE", place)):
            for key in (own, TOKEN) if method != "DELETE" else (own,):
                fields = {"authorization": f"Bearer {key}", "content-type": "text/plain"}
                refused = await server.request(method, path, headers=fields, content=b"x")
                assert refused.status_code in (401, 405)
        for path in (f"{direct.partition('?')[0]}/cancel",):
            refused = await server.request("POST", path, headers={"authorization": f"Bearer {own}"})
            assert refused.status_code == 401
        assert len((await got(server, f"{place}?since=")).json()) == len(CHAT_CHUNKS) + 1


async def test_answers_are_not_found_by_patterns() -> None:
    async with relaying(raw(CHAT_BYTES), keeping=KEPT) as server:
        async with asking(server) as answer:
            await answer.aread()
        assert len(server.created) == 1
        assert server.created.matching("*", 10) == []


async def test_an_answer_is_kept_for_a_time_and_then_is_unknown_in_the_apis_own_words() -> None:
    keeping = replace(KEPT, keep_for=1.0, creation=EventLimits(created_beat_seconds=0.05))
    for path, (identity, question, data) in STREAMS.items():
        async with relaying(raw(data), keeping=keeping) as server:
            async with asking(server, path, question) as answer:
                await answer.aread()
            await until(lambda server=server: not len(server.created))  # type: ignore[misc]
            # For as long again it is known that there was an answer.
            assert (await got(server, answer.headers["location"])).status_code == 410
            gone = await got(server, f"/relay/test/v1/{path}/{identity}?stream=true")
            assert gone.status_code == 404
            error = gone.json()["error"]
            if path == "messages":
                # Anthropic's reference of errors.
                assert (gone.json()["type"], error["type"]) == ("error", "not_found_error")
            else:
                assert (error["code"], error["type"]) == (404, "not_found_error")
            await until(lambda server=server: not server.created.open.event_bytes)  # type: ignore[misc]


async def test_there_is_room_for_so_many_answers() -> None:
    keeping = replace(KEPT, creation=EventLimits(created_channels=1))
    async with relaying(raw(CHAT_BYTES), keeping=keeping) as server:
        async with asking(server) as answer:
            await answer.aread()
        async with asking(server) as refused:
            error = json.loads(await refused.aread())["error"]
        assert (refused.status_code, error["type"]) == (429, "rate_limit_error")
        assert refused.headers["retry-after"]
        assert len(server.upstream.asked) == 1
    keeping = replace(KEPT, creation=EventLimits(created_bytes=1))
    async with relaying(raw(CHAT_BYTES), keeping=keeping) as server:
        async with asking(server) as answer:
            await answer.aread()
        async with asking(server) as refused:
            assert refused.status_code == 429


async def test_an_id_that_several_answers_have_is_no_id_of_any() -> None:
    async with relaying(raw(CHAT_BYTES), keeping=KEPT) as server:
        for _ in range(2):
            async with asking(server) as answer:
                await answer.aread()
        path = "/relay/test/v1/chat/completions"
        assert (await got(server, f"{path}/chatcmpl-7f3a?stream=true")).status_code == 409
        assert (await got(server, f"{path}/chatcmpl-7f3a?stream=true", {})).status_code == 401
        own = answer.headers["x-request-id"]
        assert (await got(server, f"{path}/{own}?stream=true")).status_code == 200
        for unknown in ("zz-1", "zz-999"):
            assert (await got(server, f"{path}/{own}", {**MINE, "last-event-id": unknown})).status_code == 400
        # Another API's answer isn't found.
        assert (await got(server, f"/relay/test/v1/responses/{own}?stream=true")).status_code == 404


async def test_a_refusal_of_the_upstream_server_leaves_no_channel() -> None:
    async def refuse(asked: Asked) -> None:
        await asked.answer("429 Too Many Requests", '{"error": {"message": "slow down"}}')

    async with relaying(refuse, keeping=KEPT) as server:
        async with asking(server) as answer:
            assert (answer.status_code, "location" in answer.headers) == (429, False)
        await until(lambda: not len(server.created))


async def test_only_listed_fields_of_a_request_go_on() -> None:
    async with relaying(raw(named(*MESSAGE_EVENTS)), keeping=KEPT) as server:
        fields = {
            "x-api-key": TOKEN,
            "anthropic-version": "2023-06-01",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "openai-organization": "org-1",
            "cookie": "session=1",
            "x-custom": "1",
        }
        question = {**STREAMED, "max_tokens": 5}
        answer = await server.request("POST", "/relay/test/v1/messages", headers=fields, json=question)
        assert answer.status_code == 200
        (asked,) = server.upstream.asked
        assert asked.fields["anthropic-version"] == "2023-06-01"
        assert asked.fields["traceparent"] == fields["traceparent"]
        assert asked.fields["openai-organization"] == "org-1"
        assert not {"cookie", "x-custom", "x-api-key"} & set(asked.fields)
        assert TOKEN not in str(asked.fields)


@pytest.mark.parametrize("path", STREAMS)
async def test_a_break_of_the_upstream_server_is_an_error_in_the_apis_own_form(path: str) -> None:
    _, question, data = STREAMS[path]
    head = data[: data.index(b"\n\n") + 2]

    async def script(asked: Asked) -> None:
        await asked.head()
        await asked.raw(head)
        asked.writer.close()

    async with relaying(script, keeping=KEPT) as server:
        async with asking(server, path, question) as answer:
            stream = without_comments(await answer.aread())
        assert stream.startswith(head)
        event, _, line = stream[len(head) :].decode().strip().rpartition("data: ")
        error = json.loads(line)
        if path == "responses":
            # OpenAI's reference of streaming events: error.
            assert event == "event: error\n"
            assert {"type", "code", "message", "param", "sequence_number"} == set(error)
            assert (error["type"], error["sequence_number"]) == ("error", 1)
        elif path == "messages":
            assert (event, error["type"], error["error"]["type"]) == ("event: error\n", "error", "api_error")
        else:
            assert (event, "broke off" in error["error"]["message"]) == ("", True)
        assert b"[DONE]" not in stream
        # Who comes again from behind all that it had gets the error, too.
        own = answer.headers["x-request-id"]
        again = await got(server, f"/relay/test/v1/{path}/{own}?stream=true&starting_after=999")
        assert without_comments(again.content) == stream[len(head) :]
        end = (await got(server, f"{answer.headers['location']}?since=")).json()[-1]
        assert json.loads(end["data"])["reason"] == "failed"


async def test_an_answer_is_read_on_behind_a_restart_where_history_is_kept(tmp_path: Path) -> None:
    keeping = replace(KEPT, folder=tmp_path)
    events = [named(one) for one in response_events("Hel", "lo", "!")]
    script, _ = gated(events, 4)
    async with completing(script) as upstream:
        async with (
            relaying(script, keeping=keeping, upstream=upstream) as server,
            asking(server, "responses", STREAMS["responses"][1]) as answer,
        ):
            await read_upto(answer, events[3])
        async with relaying(script, keeping=keeping, upstream=upstream) as server:
            again = await got(server, "/relay/test/v1/responses/resp_7f3a?stream=true&starting_after=1")
            parts = without_comments(again.content).split(b"\n\n")
            assert parts[:2] == [one.strip() for one in events[2:4]]
            error = json.loads(parts[2].partition(b"data: ")[2])
            assert (error["type"], error["sequence_number"], len(parts)) == ("error", 4, 4)
            told = (await got(server, "/relay/test/v1/responses/resp_7f3a")).json()
            assert "id" in told, told
            assert (told["id"], told["status"]) == ("resp_7f3a", "failed")
            end = (await got(server, f"{answer.headers['location']}?since=")).json()[-1]
            assert json.loads(end["data"])["reason"] == "restart"
        assert all((one.stat().st_mode & 0o777) == 0o600 for one in tmp_path.rglob("*") if one.is_file())


CUT = a_response("incomplete", incomplete_details={"reason": "max_output_tokens"})
FULL = [{"index": 0, "delta": {}, "finish_reason": "content_filter"}]


@pytest.mark.parametrize(
    ("path", "events", "told"),
    [
        ("chat/completions", [chunk({"content": "a"}), chunk({}, "length"), "[DONE]"], "length"),
        (
            "chat/completions",
            [chunk({}, "tool_calls"), chunk({}, choices=[], usage={"completion_tokens": 1}), "[DONE]"],
            "tool_calls",
        ),
        ("chat/completions", [json.dumps({"choices": FULL})], "content_filter"),
        ("chat/completions", [chunk({"content": "a"}), "[DONE]"], None),
        ("chat/completions", [chunk({}, "ä word\n"), "[DONE]"], None),
        ("completions", ['{"choices": [{"text": "", "finish_reason": "length"}]}', "[DONE]"], "length"),
        ("responses", [json.dumps({"type": "response.incomplete", "response": CUT})], "max_output_tokens"),
        (
            "messages",
            ['{"type": "message_delta", "delta": {"stop_reason": "max_tokens"}}', '{"type": "message_stop"}'],
            "max_tokens",
        ),
    ],
)
async def test_the_end_of_an_answer_says_why_the_model_wrote_no_more(
    path: str, events: list[str], told: str | None
) -> None:
    async with relaying(streaming(events), keeping=KEPT) as server:
        with capture_logs() as lines:
            async with asking(server, path, STREAMS[path][1]) as answer:
                await answer.aread()
        kept = (await got(server, f"{answer.headers['location']}?since=")).json()
    assert [one["data"] for one in kept[:-1]] == events
    assert json.loads(kept[-1]["data"]).get("finish_reason") == told
    (line,) = (one for one in lines if one["event"] == "an answer has ended")
    assert (line["reason"], line["finish_reason"]) == ("done", told)
