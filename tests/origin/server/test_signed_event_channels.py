"""Event channels for those with a token: read on each of their ways, published to, and listed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from origin.access.address_tokens import SigningKeys
from tests.conftest import ServerProcess, start_server
from tests.keys import BEARER
from tests.patience import CLIENT_SECONDS

KEY = "2026-11:a-secret-of-the-tests"
CONFIG = f"""
[server]
port = 0
[access]
keys = ["{KEY}"]
[[events]]
name = "chat"
access = "signed"
[[events]]
name = "news"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("signed")
    (folder / "headwater.toml").write_text(CONFIG)
    with start_server(cwd=folder) as running:
        yield running


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=CLIENT_SECONDS) as client:
        yield client


def token(path: str, *, may_publish: bool = False) -> str:
    return SigningKeys([KEY]).sign(path, int(time.time()) + 3600, may_publish=may_publish)


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
@pytest.mark.parametrize("way", ["path", "query", "cookie", "bearer"])
def test_an_event_channel_is_read_with_a_token_wherever_it_stands(
    server: ServerProcess, way: str, accept: str
) -> None:
    own = token("/events/chat")
    path = f"/t/{own}/events/chat" if way == "path" else "/events/chat"
    query = f"?token={own}" if way == "query" else ""
    headers = {"accept": accept} | ({"authorization": f"Bearer {own}"} if way == "bearer" else {})
    cookies = {"headwater_token": own} if way == "cookie" else {}
    published = httpx.post(f"{server.url}/events/chat", content=b"hello", headers=BEARER)
    assert published.status_code in (200, 201, 202)
    with (
        httpx.Client(base_url=server.url, timeout=CLIENT_SECONDS, cookies=cookies, headers=headers) as client,
        client.stream("GET", path + query) as answer,
    ):
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, accept)
        assert any("hello" in line for line in answer.iter_lines())


def test_an_event_channel_opens_a_websocket_with_a_token_alone(server: ServerProcess) -> None:
    own = token("/events/chat")
    address = server.url.replace("http", "ws")
    httpx.post(f"{server.url}/events/chat", content=b"hello", headers=BEARER)
    with connect(f"{address}/t/{own}/events/chat", open_timeout=CLIENT_SECONDS) as socket:
        assert "hello" in str(socket.recv(timeout=CLIENT_SECONDS))
    for path in ("/events/chat", f"/t/{token('/events/news')}/events/chat"):
        with pytest.raises(InvalidStatus) as refused:
            connect(f"{address}{path}", open_timeout=CLIENT_SECONDS)
        assert refused.value.response.status_code == 403


def test_a_list_names_an_event_channel_to_the_holder_of_its_token(client: httpx.Client) -> None:
    own = token("/events/chat")
    for path, headers in ((f"/t/{own}", {}), ("", {"authorization": f"Bearer {own}"})):
        listed = client.get(f"{path}/api/events", headers=headers).json()
        assert [one["name"] for one in listed] == ["chat", "news"]


def test_publishing_to_an_event_channel_takes_a_token_for_it_alone(client: httpx.Client) -> None:
    for_publishing = token("/events/chat", may_publish=True)
    for_reading = token("/events/chat")
    tries = {
        f"/t/{for_publishing}/events/chat": True,
        f"/events/chat?token={for_publishing}": True,
        f"/events/chat?key={for_publishing}": True,
        f"/t/{for_reading}/events/chat": False,
        f"/t/{for_publishing}/events/news": False,
        "/events/chat": False,
    }
    for address, is_taken in tries.items():
        answer = client.post(address, content=b"hello")
        assert (answer.status_code < 300, answer.status_code == 401) == (is_taken, not is_taken), address
    cookies = {"headwater_token": for_publishing}
    assert httpx.post(client.base_url.join("/events/chat"), content=b"x", cookies=cookies).status_code == 401
