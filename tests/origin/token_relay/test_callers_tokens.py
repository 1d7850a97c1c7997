"""Relays are asked with JSON Web Tokens, by programs and by pages of other sites."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import openai
import pytest

from tests.completion_server import Asked, CompletionServer, completing, tokens
from tests.conftest import ServerProcess, start_server
from tests.patience import CLIENT_SECONDS

SECRET = "a-secret-that-only-the-backend-knows"
PAGE, OTHER = "https://chat.example", "https://elsewhere.example"
QUESTION = {"model": "small", "messages": [{"role": "user", "content": "Hello?"}], "stream": True}
CONFIG = """
[server]
port = 0
data = "data"

[access]
jwt_keys = ["HS256:{secret}"]

[[relay]]
name = "answers"
upstreams = ["{upstream}"]
token = "a-relay-token-of-tests"
requests_per_user = 2
relay_allow_origins = ["https://first.example", "{page}"]

[[relay]]
name = "closed"
upstreams = ["{upstream}"]
token = "a-relay-token-of-tests"
"""


class Waiting:
    """An upstream server, whose answers end when the test says so."""

    def __init__(self, server: CompletionServer, goes_on: asyncio.Event) -> None:
        self.server, self.goes_on = server, goes_on


@pytest.fixture
async def upstream() -> AsyncIterator[Waiting]:
    goes_on = asyncio.Event()

    async def script(asked: Asked) -> None:
        await asked.head()
        first, *rest = tokens("Hel", "lo")
        await asked.event(first)
        await goes_on.wait()
        for data in rest:
            await asked.event(data)
        await asked.end()

    async with completing(script) as server:
        yield Waiting(server, goes_on)


@pytest.fixture
async def server(upstream: Waiting, tmp_path: Path) -> AsyncIterator[ServerProcess]:
    config = CONFIG.format(
        secret=SECRET, upstream=upstream.server.url.removesuffix("/chat/completions"), page=PAGE
    )
    (tmp_path / "headwater.toml").write_text(config)
    process = await asyncio.to_thread(start_server, cwd=tmp_path)
    yield process
    assert await asyncio.to_thread(process.stop) == 0


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=CLIENT_SECONDS) as client:
        yield client


def bearer(**claims: Any) -> dict[str, str]:
    usual = {"exp": int(time.time()) + 3600, "sub": "anna", "paths": ["/relay/answers"]}
    return {"authorization": f"Bearer {jwt.encode(usual | claims, SECRET)}"}


async def test_an_openai_client_asks_a_relay_with_a_web_token(
    server: ServerProcess, upstream: Waiting
) -> None:
    upstream.goes_on.set()
    key = bearer()["authorization"].removeprefix("Bearer ")
    client = openai.AsyncOpenAI(base_url=f"{server.url}/relay/answers/v1", api_key=key)
    answer = await client.chat.completions.create(
        model="small", messages=[{"role": "user", "content": "Hello?"}], stream=True
    )
    text = "".join([part.choices[0].delta.content or "" async for part in answer if part.choices])
    assert text == "Hello"


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"paths": ["/relay"]}, 202),
        ({"paths": ["/"], "publish": True}, 202),
        # Viewers of everything have such tokens.
        ({"paths": ["/"]}, 401),
        ({"paths": ["/*/answers", "/relay/closed"]}, 401),
        ({"paths": ["/relay/closed"]}, 401),
        ({"exp": 1}, 401),
    ],
)
async def test_a_web_token_opens_the_relays_that_it_names(
    client: httpx.AsyncClient, claims: dict[str, Any], status: int
) -> None:
    answer = await client.post("/relay/answers", json=QUESTION, headers=bearer(**claims))
    assert answer.status_code == status


async def test_a_refusal_names_the_relays_own_token(client: httpx.AsyncClient) -> None:
    answer = await client.post("/relay/answers/v1/chat/completions", json=QUESTION)
    assert answer.json()["error"]["message"] == "the relay's token or server.admin_token is needed"


@pytest.mark.promise("relay.requests_per_user")
async def test_the_requests_of_a_users_tokens_are_counted_together(
    client: httpx.AsyncClient, upstream: Waiting
) -> None:
    for _ in range(2):
        # Tokens of one user differ.
        headers = bearer(jti=str(time.monotonic_ns()))
        assert (await client.post("/relay/answers", json=QUESTION, headers=headers)).status_code == 202
    refused = await client.post("/relay/answers", json=QUESTION, headers=bearer())
    assert refused.status_code == 429
    assert "retry-after" in refused.headers
    assert "of this token's user" in refused.text
    models = await client.get("/relay/answers/v1/models", headers=bearer())
    assert models.status_code == 429
    for headers in (bearer(sub="ben"), {"authorization": "Bearer a-relay-token-of-tests"}):
        assert (await client.post("/relay/answers", json=QUESTION, headers=headers)).status_code == 202
    upstream.goes_on.set()
    async with asyncio.timeout(CLIENT_SECONDS):
        while (await client.post("/relay/answers", json=QUESTION, headers=bearer())).status_code == 429:
            pass


async def test_the_log_names_the_user_of_an_answer(
    server: ServerProcess, client: httpx.AsyncClient, upstream: Waiting
) -> None:
    upstream.goes_on.set()
    answer = await client.post(
        "/relay/answers/v1/chat/completions", json=QUESTION, headers=bearer(sub="anna@example.org")
    )
    assert answer.status_code == 200
    await asyncio.to_thread(server.stop)
    (line,) = [one for one in server.text().splitlines() if "an answer has ended" in one]
    assert "user=anna@example.org" in line


@pytest.mark.promise("relay.relay_allow_origins")
async def test_a_page_of_an_allowed_origin_asks_a_relay(client: httpx.AsyncClient, upstream: Waiting) -> None:
    upstream.goes_on.set()
    asked = {
        "origin": PAGE,
        "sec-fetch-site": "cross-site",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-os",
    }
    preflight = await client.options("/relay/answers/v1/chat/completions", headers=asked)
    assert preflight.status_code == 204
    # Fetch, CORS-preflight fetch, steps 7.5 to 7.13.
    assert preflight.headers["access-control-allow-origin"] == PAGE
    assert "POST" in preflight.headers["access-control-allow-methods"]
    allowed = preflight.headers["access-control-allow-headers"].lower()
    assert {one.strip() for one in allowed.split(",")} >= {"authorization", "content-type", "x-stainless-os"}
    answer = await client.post(
        "/relay/answers/v1/chat/completions",
        json=QUESTION,
        headers=bearer() | {"origin": PAGE, "sec-fetch-site": "cross-site"},
    )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "origin" in answer.headers["vary"].lower()
    exposed = answer.headers["access-control-expose-headers"].lower()
    assert {one.strip() for one in exposed.split(",")} >= {"location", "x-read-token", "retry-after"}
    # Errors, too: the page shows why.
    refused = await client.post("/relay/answers", json=QUESTION, headers={"origin": PAGE})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, PAGE)


@pytest.mark.parametrize(("relay", "page"), [("answers", OTHER), ("closed", PAGE)])
async def test_pages_of_other_origins_ask_no_relay(client: httpx.AsyncClient, relay: str, page: str) -> None:
    headers = {"origin": page, "sec-fetch-site": "cross-site", "access-control-request-method": "POST"}
    preflight = await client.options(f"/relay/{relay}", headers=headers)
    assert preflight.headers.get("access-control-allow-origin") != page
    asking = {"authorization": "Bearer a-relay-token-of-tests"} | headers
    assert (await client.post(f"/relay/{relay}", json=QUESTION, headers=asking)).status_code == 403


async def test_what_a_browser_adds_by_itself_opens_no_relay_for_a_page_of_another_site(
    client: httpx.AsyncClient,
) -> None:
    headers = {"origin": PAGE, "sec-fetch-site": "cross-site"}
    key = ("anybody", "a-relay-token-of-tests")
    assert (await client.post("/relay/answers", json=QUESTION, headers=headers, auth=key)).status_code == 401
    assert (await client.post("/relay/answers", json=QUESTION, auth=key)).status_code == 202
