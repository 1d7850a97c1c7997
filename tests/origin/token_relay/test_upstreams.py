"""A relay with several upstream servers asks the next one where one fails, before the first event alone."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from origin.config.load import load, validate
from origin.config.options import ConfigError
from origin.config.warnings import unserved
from origin.token_relay.completion_request import UpstreamRequest
from origin.token_relay.errors import CompletionError
from origin.token_relay.limits import TokenRelayLimits
from origin.token_relay.relay import address_of_chat
from origin.token_relay.upstream import Upstream, UpstreamOptions
from origin.token_relay.upstreams import Upstreams, weighted_order
from tests.completion_server import KEY, Asked, completing, streaming
from tests.event_server import LIMIT
from tests.relay_server import PATIENT, STREAMED, relaying
from tests.streamed_answers import CHAT_BYTES, CHAT_CHUNKS, KEPT, MINE, asking, got, without_comments
from tests.waiting import until

GOOD = streaming(CHAT_CHUNKS)
NEVER = replace(PATIENT, breaker_failures=1000)


def refusing(status: str, *fields: str) -> Any:
    async def script(asked: Asked) -> None:
        await asked.answer(status, '{"error": {"message": "not now"}}', "application/json", *fields)

    return script


async def closing(asked: Asked) -> None:
    asked.writer.close()


async def silent(_: Asked) -> None:
    await asyncio.Event().wait()


async def breaking_before_its_first_event(asked: Asked) -> None:
    await asked.head()
    await asked.raw(b": thinking\n\n")
    asked.writer.close()


@pytest.mark.parametrize(
    "script",
    [
        refusing("429 Too Many Requests"),
        refusing("500 Internal Server Error"),
        refusing("503 Service Unavailable"),
        closing,
        silent,
        breaking_before_its_first_event,
    ],
)
async def test_the_next_server_is_asked_where_one_fails_before_its_first_event(script: Any) -> None:
    limits = replace(NEVER, silent_seconds=2.0 if script is silent else LIMIT)
    async with (
        completing(GOOD) as good,
        relaying(script, limits, keeping=KEPT, others=[good]) as server,
        asking(server) as answer,
    ):
        assert answer.status_code == 200
        assert without_comments(await answer.aread()) == CHAT_BYTES
        assert (len(server.upstream.asked), len(good.asked)) == (1, 1)
        # Each server has its own key.
        assert server.upstream.asked[0].fields["authorization"] == f"Bearer {KEY}"
        assert good.asked[0].fields["authorization"] == f"Bearer {KEY}-0"
        assert server.relay.counters.failed == 0


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "422 Unprocessable Content"])
async def test_what_is_wrong_with_the_request_is_asked_of_no_other_server(status: str) -> None:
    async with (
        completing(GOOD) as good,
        relaying(refusing(status), NEVER, keeping=KEPT, others=[good]) as server,
        asking(server) as answer,
    ):
        assert (answer.status_code, good.asked) == (int(status[:3]), [])


async def test_behind_the_first_event_no_other_server_is_asked() -> None:
    async def script(asked: Asked) -> None:
        await asked.head()
        await asked.event(CHAT_CHUNKS[0])
        asked.writer.close()

    async with (
        completing(GOOD) as good,
        relaying(script, NEVER, keeping=KEPT, others=[good]) as server,
        asking(server) as answer,
    ):
        stream = without_comments(await answer.aread()).decode()
        assert stream.startswith(f"data: {CHAT_CHUNKS[0]}\n\n")
        assert "broke off" in json.loads(stream.strip().rpartition("data: ")[2])["error"]["message"]
        assert good.asked == []


async def test_a_server_that_fails_again_and_again_is_left_alone_and_then_tried_once() -> None:
    limits = replace(PATIENT, breaker_failures=2, breaker_pause_seconds=1.0)
    is_well = False

    async def script(asked: Asked) -> None:
        await (GOOD if is_well else refusing("500 Internal Server Error"))(asked)

    async with completing(GOOD) as good, relaying(script, limits, keeping=KEPT, others=[good]) as server:

        async def ask() -> None:
            async with asking(server) as answer:
                assert without_comments(await answer.aread()) == CHAT_BYTES

        for _ in range(5):
            await ask()
        assert (len(good.asked), "upstream server 1 of 2 isn't asked" in server.relay.trouble) == (5, True)
        # On a slow machine a trial may be among them.
        assert 2 <= len(server.upstream.asked) < 5
        is_well = True
        await until(lambda: not server.relay.trouble)
        await ask()
        assert len(good.asked) == 5
        await ask()
        assert (len(good.asked), server.relay.trouble) == (5, "")


async def test_a_trial_whose_answer_has_begun_ends_the_pause_though_its_caller_leaves() -> None:
    now, well = 0.0, False

    async def script(asked: Asked) -> None:
        if well:
            await asked.head()
            await asked.event(CHAT_CHUNKS[0])
            await asyncio.Event().wait()
        await refusing("500 Internal Server Error")(asked)

    async with completing(script) as server:
        options = UpstreamOptions(url=server.url, key=KEY)
        upstreams = Upstreams(
            [Upstream(options, PATIENT)],
            TokenRelayLimits(breaker_failures=2, breaker_pause_seconds=10.0),
            clock=lambda: now,
        )

        async def ask(on_event: Any = lambda _: True) -> None:
            await upstreams.stream(UpstreamRequest(json.dumps(STREAMED).encode()), lambda: None, on_event)

        for _ in range(2):
            with pytest.raises(CompletionError, match="answers 500"):
                await ask()
        assert "upstream server 1 of 1 isn't asked" in upstreams.trouble
        well, now = True, 11.0
        first = asyncio.Event()

        def note(_: object) -> bool:
            first.set()
            return True

        trial = asyncio.create_task(ask(note))
        try:
            await asyncio.wait_for(first.wait(), LIMIT)
            # The trial's own caller leaves: what began was an answer all the same.
            assert upstreams.trouble == ""
        finally:
            trial.cancel()
            await asyncio.wait([trial])
        assert upstreams.trouble == ""
        # One failure behind it is enough for another pause.
        well = False
        with pytest.raises(CompletionError):
            await ask()
        assert "upstream server 1 of 1 isn't asked" in upstreams.trouble


async def test_retry_after_is_honoured_and_reaches_the_caller_where_no_server_is_left() -> None:
    busy = refusing("429 Too Many Requests", "retry-after: 50")
    async with completing(busy) as other, relaying(busy, NEVER, keeping=KEPT, others=[other]) as server:
        async with asking(server) as answer:
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "50")
        async with asking(server) as answer:
            assert answer.status_code == 429
            assert (await answer.aread()).count(b"not now") == 1
            assert 0 < int(answer.headers["retry-after"]) <= 50
        assert (len(server.upstream.asked), len(other.asked)) == (1, 1)
        # The limit of one model isn't that of others.
        async with asking(server, "chat/completions", {**STREAMED, "model": "other"}) as answer:
            assert answer.status_code == 429
        assert (len(server.upstream.asked), len(other.asked)) == (2, 2)


async def test_a_server_alone_is_always_asked_and_its_limit_is_passed_on_with_all_that_clients_read() -> None:
    fields = ("retry-after-ms: 1500", "x-should-retry: true", "x-request-id: req_9", "x-secret: no")
    busy = refusing("429 Too Many Requests", *fields)
    async with relaying(busy, replace(PATIENT, breaker_failures=1), keeping=KEPT) as server:
        for count in range(1, 4):
            async with asking(server) as answer:
                assert answer.status_code == 429
                passed = {name: answer.headers.get(name) for name in ("retry-after-ms", "x-should-retry")}
                assert passed == {"retry-after-ms": "1500", "x-should-retry": "true"}
                assert answer.headers["x-request-id"] == "req_9"
                assert "x-secret" not in answer.headers
            assert len(server.upstream.asked) == count


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ('{"detail": "model is loading"}', "model is loading"),
        ('{"message": "no such model", "request_id": "1"}', "no such model"),
        (
            '{"detail": [{"loc": ["body", "n"], "msg": "too many"}]}',
            '[{"loc":["body","n"],"msg":"too many"}]',
        ),
    ],
)
async def test_words_of_an_error_in_any_form_reach_the_caller(body: str, line: str) -> None:
    async def script(asked: Asked) -> None:
        await asked.answer("400 Bad Request", body, "application/json")

    async with relaying(script, keeping=KEPT) as server, asking(server) as answer:
        assert answer.status_code == 400
        assert json.loads(await answer.aread())["error"]["message"] == line


FAULTS = [
    '{"error": {"message": "Provider disconnected", "code": 502}}',
    '{"error": "out of memory"}',
    '{"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "error"}]}',
]


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_error_as_the_first_event_has_the_next_server_asked(fault: str) -> None:
    faulty = streaming([fault])
    async with completing(GOOD) as other, relaying(faulty, NEVER, keeping=KEPT, others=[other]) as server:
        async with asking(server) as answer:
            assert without_comments(await answer.aread()) == CHAT_BYTES
        assert (len(server.upstream.asked), len(other.asked)) == (1, 1)
    async with (
        completing(faulty) as other,
        relaying(faulty, NEVER, keeping=KEPT, others=[other]) as server,
        asking(server) as answer,
    ):
        # No server is left: its own words go on as they came.
        assert fault.encode() in await answer.aread()


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_error_within_an_answer_is_its_end_which_says_so(fault: str) -> None:
    async with relaying(streaming([CHAT_CHUNKS[0], fault]), keeping=KEPT) as server:
        async with asking(server) as answer:
            assert fault.encode() in await answer.aread()
            place = answer.headers["location"]
        events = (await got(server, f"{place}?since=")).json()
        assert [one["event"] for one in events] == ["message", "message", "end"]
        assert json.loads(events[-1]["data"])["reason"] == "failed"


async def test_models_have_other_names_at_the_upstream_server() -> None:
    async with relaying(GOOD, keeping=KEPT, models={"tiny": "meta/tiny-3"}) as server:
        for question in (STREAMED, {**STREAMED, "model": "other"}):
            async with asking(server, "chat/completions", question) as answer:
                await answer.aread()
        assert [one.options["model"] for one in server.upstream.asked] == ["meta/tiny-3", "other"]


async def test_a_relay_without_a_channel_answers_each_request_with_the_address_of_its_own() -> None:
    async with relaying(GOOD, keeping=KEPT, publishes=False) as server:
        answer = await server.request("POST", "/relay/test", headers=MINE, json=STREAMED)
        assert answer.status_code == 202
        place, since = answer.json()["events"], answer.json()["since"]
        assert answer.headers["location"] == place
        events: list[Any] = []
        while not events or events[-1]["event"] != "end":
            last = events[-1]["id"] if events else since
            more = await got(server, f"{place}?since={last}&wait={LIMIT}")
            events += more.json() if more.content else []
        assert [one["data"] for one in events[:-1]] == CHAT_CHUNKS
        assert server.channel.published == 0


async def test_a_server_of_little_weight_is_asked_where_the_others_fail() -> None:
    # One request in a thousand at most goes to the other first.
    async with (
        completing(GOOD) as light,
        relaying(GOOD, NEVER, keeping=KEPT, others=[light], weights=[1000, 1]) as server,
    ):
        for _ in range(5):
            async with asking(server) as answer:
                assert without_comments(await answer.aread()) == CHAT_BYTES
        assert len(server.upstream.asked) >= len(light.asked) + 1
    async with (
        completing(GOOD) as light,
        relaying(closing, NEVER, keeping=KEPT, others=[light], weights=[1000, 1]) as server,
        asking(server) as answer,
    ):
        assert without_comments(await answer.aread()) == CHAT_BYTES
        assert len(light.asked) == 1


def test_servers_are_asked_first_and_second_as_often_as_their_weights_say() -> None:
    chance, orders = random.Random(40).random, Counter[tuple[int, ...]]()
    for _ in range(20_000):
        orders[tuple(weighted_order([5, 3, 2], chance))] += 1
    # Without replacement: the second is chosen among those left, by their weights.
    for order, share in {(0, 1, 2): 0.5 * 3 / 5, (1, 0, 2): 0.3 * 5 / 7, (2, 1, 0): 0.2 * 3 / 8}.items():
        assert orders[order] / 20_000 == pytest.approx(share, abs=0.015)


@pytest.mark.parametrize(
    ("base", "address"),
    [
        ("http://a.example/v1", "http://a.example/v1/chat/completions"),
        ("http://a.example/v1/", "http://a.example/v1/chat/completions"),
        ("http://a.example/v1/chat/completions", "http://a.example/v1/chat/completions"),
        ("https://a.example/x?api-version=1", "https://a.example/x/chat/completions?api-version=1"),
    ],
)
def test_the_address_of_chat_completions_is_below_the_base(base: str, address: str) -> None:
    assert address_of_chat(base) == address


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("upstreams = []", "upstreams"),
        ("upstreams = ['ftp://a.example']", "upstreams of 'a'"),
        ("upstreams = ['http://a.example', 'http://b.example']\nrelay_keys = ['1', '2', '3']", "relay_keys"),
        ("upstreams = ['http://a.example', 'http://b.example']\nweights = [1]", "weights of 'a'"),
        ("upstreams = ['http://a.example']\nweights = [0]", "weights"),
        ("upstreams = ['http://a.example']\n[[events]]\nname = 'a'", "is an event channel's"),
        ("upstreams = ['http://a.example']\n[[relay]]\nname = 'a'\nupstreams = ['http://b']", "used twice"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(tmp_path: Any, lines: str, told: str) -> None:
    path = tmp_path / "headwater.toml"
    path.write_text(f"[[relay]]\nname = 'a'\n{lines}\n")
    with pytest.raises(ConfigError, match=told):
        load(path, {}, {})


def test_a_table_whose_answers_are_not_kept_as_it_says_is_named_at_the_start() -> None:
    relay = {"name": "a", "upstreams": ["http://a.example/v1"], "history": True}

    def told(**sections: Any) -> list[str]:
        return list(unserved(validate({"relay": [relay], **sections}, "a test")))

    assert told(server={"data": "/srv/data"}) == []
    (line,) = told()
    assert line == "relay 'a': history: without server.data answers end with the server"
    (line,) = told(cluster={"url": "redis://redis.example"})
    assert line == "relay 'a': history: what the nodes of a cluster share is kept in Redis"
    (line,) = told(cluster={"url": "redis://redis.example"}, limits={"created_channels": 0})
    assert "created_channels = 0" in line
    (line,) = told(limits={"created_channels": 0}, server={"data": "/srv/data"})
    assert "created_channels = 0" in line
