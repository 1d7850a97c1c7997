"""A caller's own key for the upstream server, which the relay passes on where the configuration says so."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from tests.completion_server import KEY, Asked, streaming
from tests.event_server import LIMIT, TOKEN
from tests.keys import ADMIN_TOKEN
from tests.relay_server import STREAMED, RelayServer, relaying
from tests.streamed_answers import CHAT_CHUNKS, KEPT

OWN = "sk-of-one-caller-0123456789abcdef"


async def ask(server: RelayServer, path: str, query: str = "", **fields: str) -> httpx.Response:
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    async with httpx.AsyncClient(timeout=LIMIT) as client:
        url = f"{server.base}/{path}{query}"
        if path == "models":
            return await client.get(url, headers=headers)
        return await client.post(url, headers=headers, json=STREAMED)


async def whole(asked: Asked) -> None:
    await asked.answer("200 OK", '{"data": []}')


@pytest.mark.parametrize("key_header", ["authorization", "x-api-key"])
async def test_a_callers_own_key_goes_to_the_upstream_server_in_place_of_the_configured_one(
    key_header: str,
) -> None:
    def found(asked: Asked) -> str:
        return asked.fields[key_header].removeprefix("Bearer ")

    async with relaying(
        streaming(CHAT_CHUNKS), keeping=KEPT, passes_key=True, key_header=key_header
    ) as server:
        seen = server.upstream.asked
        with capture_logs() as lines:
            for fields in ({"authorization": f"Bearer {OWN}"}, {"x_api_key": OWN}):
                answer = await ask(server, "chat/completions", f"?key={TOKEN}", **fields)
                assert answer.status_code == 200
                assert found(seen[-1]) == OWN
            # The relay's own secrets never go there, wherever they are presented.
            for secret in (TOKEN, ADMIN_TOKEN):
                for query in ("", f"?key={TOKEN}"):
                    answer = await ask(server, "chat/completions", query, authorization=f"Bearer {secret}")
                    assert answer.status_code == 200
                    assert found(seen[-1]) == KEY
        # Keys of local servers are as short as passwords, and no attempts to guess one.
        for _ in range(20):
            answer = await ask(server, "chat/completions", f"?key={TOKEN}", authorization="Bearer ollama")
            assert (answer.status_code, found(seen[-1])) == (200, "ollama")
        assert TOKEN not in str([(asked.target, asked.fields) for asked in seen])
        assert OWN not in str(lines)
        # A key of one's own doesn't admit by itself.
        count = len(seen)
        assert (await ask(server, "chat/completions", authorization=f"Bearer {OWN}")).status_code == 401
        assert len(seen) == count


async def test_what_is_not_streamed_has_the_callers_own_key_too_and_without_the_option_nothing_has() -> None:
    for passes_key, expected in ((True, OWN), (False, KEY)):
        async with relaying(whole, passes_key=passes_key) as server:
            answer = await ask(server, "models", f"?key={TOKEN}", authorization=f"Bearer {OWN}")
            assert answer.status_code == 200
            assert server.upstream.asked[-1].fields["authorization"] == f"Bearer {expected}"


async def test_an_upstream_server_that_repeats_the_key_shows_it_to_nobody() -> None:
    async def repeat(asked: Asked) -> None:
        await asked.head()
        for data in (OWN, OWN[:9], OWN[9:], f"Bearer {OWN}"):
            await asked.event(json.dumps({"choices": [{"delta": {"content": data}}]}))
        await asked.end()

    async def refuse(asked: Asked) -> None:
        await asked.answer("401 Unauthorized", json.dumps({"error": {"message": f"wrong key: {OWN}"}}))

    for script, status in ((repeat, 200), (refuse, 401)):
        async with relaying(script, keeping=KEPT, passes_key=True) as server:
            with capture_logs() as lines:
                answer = await ask(server, "chat/completions", f"?key={TOKEN}", authorization=f"Bearer {OWN}")
            assert (answer.status_code, OWN in answer.text, OWN in str(lines)) == (status, False, False)
            assert answer.text


async def test_equal_requests_with_other_keys_are_not_one_answer() -> None:
    go_on = asyncio.Event()

    async def wait(asked: Asked) -> None:
        await asked.head()
        await go_on.wait()
        await asked.event(
            json.dumps({"choices": [{"delta": {"content": asked.fields["authorization"][-1]}}]})
        )
        await asked.end()

    async with relaying(wait, keeping=KEPT, passes_key=True, share=True) as server:
        keys = [f"sk-of-a-caller-0123456789-{number}" for number in (1, 2, 1)]
        asking: list[Any] = [
            asyncio.create_task(
                ask(server, "chat/completions", f"?key={TOKEN}", authorization=f"Bearer {key}")
            )
            for key in keys
        ]
        async with asyncio.timeout(LIMIT):
            while len(server.upstream.asked) < 2 or server.relay.counters.shared < 1:
                await asyncio.sleep(0.01)
        go_on.set()
        texts = [(await one).text for one in asking]
    assert [number for text in texts for number in "12" if f'"content": "{number}"' in text] == list("121")
    assert len(server.upstream.asked) == 2
