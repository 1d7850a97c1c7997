"""Which pages of other origins a browser lets read an event channel of a whole server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.conftest import ServerProcess, start_server

CONFIG = """
[server]
port = 0
allow_origin = "https://player.example"
[[events]]
name = "as-the-server"
[[events]]
name = "own"
allow_origin = "https://chat.example"
[[events]]
name = "nobody"
allow_origin = ""
[[events]]
name = "anybody"
allow_origin = "*"
"""

PLAYER, CHAT, ELSEWHERE = "https://player.example", "https://chat.example", "https://chat.example.evil"
ADMITTED = {"as-the-server": (PLAYER,), "own": (CHAT,), "nobody": (), "anybody": (PLAYER, CHAT, ELSEWHERE)}
ALLOWED = {"as-the-server": PLAYER, "own": CHAT, "nobody": None, "anybody": "*"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("origins")
    (folder / "headwater.toml").write_text(f'{CONFIG}[library]\npath = "{folder}"\n')
    with start_server("--config", str(folder / "headwater.toml")) as running:
        yield running


@pytest.mark.promise("server.allow_origin", "events.allow_origin")
@pytest.mark.parametrize("channel", ADMITTED)
def test_a_channels_own_option_counts_before_the_servers(server: ServerProcess, channel: str) -> None:
    address = f"{server.url}/events/{channel}"
    with httpx.Client(trust_env=False, timeout=120) as client:
        for origin in (PLAYER, CHAT, ELSEWHERE):
            read = client.get(f"{address}?since=", headers={"origin": origin})
            # WHATWG Fetch §4.9: the field must be the page's origin, or "*" for requests without credentials.
            assert read.headers.get("access-control-allow-origin") == ALLOWED[channel]
            assert "access-control-allow-credentials" not in read.headers
            asking = {"origin": origin, "access-control-request-method": "GET"}
            asked = client.options(
                address, headers={**asking, "access-control-request-headers": "last-event-id"}
            )
            assert asked.headers.get("access-control-allow-origin") == ALLOWED[channel]
            assert (asked.status_code == 204) == (ALLOWED[channel] is not None)
        has_one = ALLOWED[channel] not in (None, "*")
        assert ("origin" in read.headers.get("vary", "").lower().split(", ")) == has_one


@pytest.mark.parametrize("channel", ADMITTED)
async def test_websockets_to_which_cors_does_not_apply_follow_the_same_option(
    server: ServerProcess, channel: str
) -> None:
    address = server.url.replace("http:", "ws:")
    for origin in (PLAYER, CHAT, ELSEWHERE, "null", None):
        headers = {} if origin is None else {"origin": origin}
        may_read = origin is None or origin in ADMITTED[channel] or channel == "anybody"
        opening = connect(f"{address}/events/{channel}", additional_headers=headers, proxy=None)
        if may_read:
            await asyncio.wait_for(opening.__aenter__(), 120)
            await opening.__aexit__(None, None, None)
        else:
            with pytest.raises(InvalidStatus) as refused:
                await asyncio.wait_for(opening.__aenter__(), 120)
            assert refused.value.response.status_code == 403
