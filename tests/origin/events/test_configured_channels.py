"""Options of event channels and their limits, each with another value than its default, at a real server."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest

from tests.conftest import ServerProcess, start_server
from tests.fork_server import run_headwater
from tests.keys import BEARER
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

SECRET = "a-secret-that-only-the-backend-knows"
TOKEN = "a-publish-token-0"
FLUSH_SECONDS = 1.0
LARGE = 500_000
"""Bytes of an event of which a few fill what the system's buffers hold."""

CONFIG = f"""
[server]
port = 0

[access]
keys = ["2026-11:a-secret-of-november"]
jwt_keys = ["HS256:{SECRET}"]
jwt_audience = "streams"
jwt_issuer = "backend"

[[events]]
name = "few"
publish_token = "{TOKEN}"
keep = 3

[[events]]
name = "brief"
publish_token = "{TOKEN}"
keep_for = "1s"

[[events]]
name = "new"
publish_token = "{TOKEN}"
replay = false
presence = true

[[events]]
name = "slow"
publish_token = "{TOKEN}"
flush_interval = {FLUSH_SECONDS}

[[events]]
name = "closed"
publish_token = "{TOKEN}"
access = "signed"

[[events]]
name = "large"
publish_token = "{TOKEN}"

[[events]]
name = "busy"
publish_token = "{TOKEN}"

[[events]]
name = "room/*"
expires = "2s"

[limits]
event_rate = 20
event_queue_bytes = 50000000
event_channels_per_reader = 2
all_event_readers = 5
created_channels_per_token = 2
created_channels_per_address = 4
created_channel_bytes = 1048576
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("channels")
    (folder / "headwater.toml").write_text(CONFIG)
    with start_server(cwd=folder) as server:
        yield server


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=CLIENT_SECONDS) as client:
        yield client


def publish(client: httpx.Client, channel: str, text: str, token: str = TOKEN) -> int:
    fields = {"authorization": f"Bearer {token}", "content-type": "text/plain"}
    return client.post(f"/events/{channel}", content=text, headers=fields).status_code


def kept(client: httpx.Client, channel: str) -> list[str]:
    answer = client.get(f"/events/{channel}?since=")
    return [one["data"] for one in answer.json()] if answer.status_code == 200 else []


def read(lines: Iterator[str]) -> dict[str, Any]:
    """Return the next event of lines of JSON."""
    return next(json.loads(line) for line in lines if line.strip())


@contextlib.contextmanager
def reading(client: httpx.Client, channel: str) -> Iterator[Iterator[str]]:
    fields = {"accept": "application/x-ndjson"}
    with client.stream("GET", f"/events/{channel}", headers=fields) as answer:
        assert answer.status_code == 200
        yield answer.iter_lines()


@pytest.mark.promise("events.keep")
def test_a_channel_keeps_the_configured_number_of_events(client: httpx.Client) -> None:
    for number in range(5):
        assert publish(client, "few", str(number)) == 200
    assert kept(client, "few") == ["2", "3", "4"]


@pytest.mark.promise("events.keep_for")
def test_a_channel_keeps_events_for_the_configured_time(client: httpx.Client) -> None:
    assert publish(client, "brief", "hello") == 200
    wait_for(lambda: not kept(client, "brief"), "the end of the event's time", seconds=60)


@pytest.mark.promise("events.replay", "events.presence")
def test_new_readers_get_new_events_alone_and_their_number_is_told(client: httpx.Client) -> None:
    assert publish(client, "new", "before") == 200
    with reading(client, "new") as lines:
        first = read(lines)
        assert (first["event"], json.loads(first["data"])["readers"]) == ("presence", 1)
        assert publish(client, "new", "after") == 200
        assert read(lines)["data"] == "after"


@pytest.mark.promise("events.flush_interval")
def test_events_are_written_together_at_the_configured_interval(client: httpx.Client) -> None:
    with reading(client, "slow") as lines:
        began = time.monotonic()
        for number in range(2):
            assert publish(client, "slow", str(number)) == 200
        assert [read(lines)["data"] for _ in range(2)] == ["0", "1"]
        # The first one is written at once, and the second one not before the interval is over.
        assert time.monotonic() - began >= FLUSH_SECONDS * 0.9


@pytest.mark.promise("events.access")
def test_a_signed_channel_is_read_with_a_token_alone(server: ServerProcess, client: httpx.Client) -> None:
    assert client.get("/events/closed?since=").status_code == 403
    command = ("sign", "/events/closed", "--for", "2h")
    config = {"HEADWATER_ACCESS_KEYS": "2026-11:a-secret-of-november"}
    signed = run_headwater(*command, env=config).stdout.strip()
    path = httpx.URL(signed).raw_path.decode()
    assert client.get(f"{path}?since=").status_code == 204


@pytest.mark.promise("limits.event_rate")
def test_more_events_a_second_than_configured_are_refused(client: httpx.Client) -> None:
    # All at once, as one request: a slow machine has as many in its second.
    events = "\n".join(json.dumps({"data": str(number)}) for number in range(200))
    fields = {"authorization": f"Bearer {TOKEN}", "content-type": "application/x-ndjson"}
    answer = client.post("/events/busy", content=events, headers=fields)
    assert (answer.status_code, "retry-after" in answer.headers) == (429, True)


@pytest.mark.promise("limits.event_queue_bytes")
def test_a_reader_may_be_as_far_behind_as_configured(server: ServerProcess, client: httpx.Client) -> None:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    events = 7
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.settimeout(CLIENT_SECONDS)
        reader.connect((host, int(port)))
        reader.sendall(
            b"GET /events/large HTTP/1.1\r\nHost: a.localhost\r\nAccept: application/x-ndjson\r\n\r\n"
        )
        assert reader.recv(12) == b"HTTP/1.1 200"
        for number in range(events):
            assert publish(client, "large", f"{number}:" + "x" * LARGE) == 200
        received = b""
        while f"{events - 1}:xxx".encode() not in received:
            received += (more := reader.recv(1 << 20))
            assert more, "the reader was disconnected"
    assert b'"gap"' not in received
    assert [number for number in range(events) if f'"{number}:xxx'.encode() not in received] == []


@pytest.mark.promise("limits.event_channels_per_reader", "limits.all_event_readers")
def test_readers_have_as_many_channels_and_there_are_as_many_as_configured(client: httpx.Client) -> None:
    names = "channel=few&channel=brief"
    assert client.get(f"/events?{names}&since=").status_code in (200, 204)
    assert client.get(f"/events?{names}&channel=new&since=").status_code == 400
    with contextlib.ExitStack() as stack:

        def status() -> int:
            return stack.enter_context(client.stream("GET", "/events/few")).status_code

        assert [status() for _ in range(5)] == [200] * 5
        assert status() == 503


def created(client: httpx.Client, name: str, subject: str = "anna", **claims: Any) -> int:
    """Make a channel with a web token; return the status."""
    told = {"exp": int(time.time()) + 600, "sub": subject, "create": ["*", "room/*"]}
    token = jwt.encode({**told, "aud": "streams", "iss": "backend", **claims}, SECRET, "HS256")
    fields = {"authorization": f"Bearer {token}"}
    return client.post("/events", json={"name": name}, headers=fields).status_code


@pytest.mark.promise("access.jwt_audience", "access.jwt_issuer")
def test_web_tokens_are_for_the_configured_audience_and_of_the_configured_issuer(
    client: httpx.Client,
) -> None:
    assert created(client, "one", "audience", aud="others") == 401
    assert created(client, "one", "audience", iss="somebody") == 401
    assert created(client, "one", "audience") == 201


@pytest.mark.promise("limits.created_channels_per_token", "limits.created_channels_per_address")
def test_a_token_and_an_address_make_as_many_channels_as_configured(client: httpx.Client) -> None:
    statuses = [created(client, f"of-anna-{number}") for number in range(3)]
    assert statuses == [201, 201, 429]
    # The one address may make four in an hour, whatever their tokens are.
    others = [created(client, f"of-{name}", name) for name in ("bertha", "clara", "dora")]
    assert others[-1] == 429


@pytest.mark.promise("limits.created_channel_bytes")
def test_events_of_created_channels_take_no_more_memory_than_configured(client: httpx.Client) -> None:
    made = client.post("/events", json={"name": "full"}, headers=BEARER).json()
    statuses = [publish(client, "full", "x" * LARGE, made["publish_token"]) for _ in range(4)]
    assert statuses[0] == 200
    assert statuses[-1] == 429
    assert client.delete("/events/full", headers=BEARER).status_code == 204


@pytest.mark.promise("events.expires")
def test_a_channel_of_a_pattern_ends_after_the_configured_time(client: httpx.Client) -> None:
    made = client.post("/events", json={"name": "room/1"}, headers=BEARER).json()
    key = {"authorization": f"Bearer {made['read_token']}"}
    assert client.get("/events/room/1?since=", headers=key).status_code == 204
    wait_for(
        lambda: client.get("/events/room/1?since=", headers=key).status_code == 410, "its end", seconds=60
    )
