"""A channel that is made at run time is closed to who has no credential, whatever the configuration has."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.conftest import ServerProcess, start_server
from tests.grpc_events import PROTOS, SERVICES
from tests.keys import ADMIN_TOKEN
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port, listens
from tests.waiting import wait_for

TEXT = "only-for-two"
NAME = "room/of-two"
PATH = f"/events/{NAME}"
WRONG = "a-key-of-nobody-that-is-long-enough"

EVENTS = '[[events]]\nname = "news"\npublish_token = "a-publish-token-0"\n'
KEYED = EVENTS + 'read_key = "a-read-key-of-news"\n'
OTHER = '[[events]]\nname = "hall/*"\ncreate = "publish"\npublish_token = "a-publish-token-0"\n'
SAME = OTHER.replace("hall", "room")
RELAY = '[[relay]]\nname = "answers"\nupstreams = ["http://127.0.0.1:9/v1"]\ntoken = "a-token-of-relays"\n'
RELAYING = '[[events]]\nname = "bot"\npublish_token = "a-publish-token-0"\nrelay = "http://127.0.0.1:9/"\n'
LIVE = '[[live]]\nname = "studio"\nsource = "publish"\npublish_key = "a-key-of-studio"\n'
RADIO = '[[radio]]\nname = "tones.mp3"\nsource = "publish"\nsource_password = "a-password-of-tones"\n'
ACCESS = '[access]\njwt_keys = ["HS256:a-secret-that-only-the-backend-knows"]\n'
SIGNED = EVENTS + 'access = "signed"\n'
CONFIGURATIONS = {
    "nothing": "",
    "access": ACCESS,
    "live": LIVE,
    "radio": RADIO,
    "events": EVENTS,
    "events with a read_key": KEYED,
    "events with a token": SIGNED,
    "a pattern": OTHER,
    "a pattern with its name": SAME,
    "a relay": RELAY,
    "events of a relay": RELAYING,
    "all": ACCESS + LIVE + RADIO + SIGNED + SAME + RELAY + RELAYING.replace("bot", "robot"),
}


CLIENT = httpx.Client(timeout=CLIENT_SECONDS, verify=False, limits=httpx.Limits(max_keepalive_connections=0))
"""Has a connection for each request, which any worker may accept."""


@dataclass(frozen=True)
class Client:
    """A client with credentials, right or wrong, or without any.

    Attributes:
        query: with which each address ends.
    """

    server: ServerProcess
    headers: dict[str, str] = field(default_factory=dict)
    query: str = ""

    @property
    def is_anonymous(self) -> bool:
        return not self.headers and not self.query

    def _address(self, target: str) -> str:
        sign = "&" if "?" in target else "?"
        return f"{self.server.url}{target}{sign}{self.query}"

    def ask(self, method: str, target: str, accept: str = "*/*", **options: Any) -> httpx.Response:
        fields = {"accept": accept, **self.headers, **options.pop("headers", {})}
        return CLIENT.request(method, self._address(target), headers=fields, **options)

    def publish(self, kind: str = "text/plain", content: str = TEXT) -> httpx.Response:
        return self.ask("POST", PATH, content=content, headers={"content-type": kind})

    def open_socket(self, target: str) -> Any:
        address = self._address(target).replace("http", "ws", 1)
        return connect(address, additional_headers=self.headers, open_timeout=CLIENT_SECONDS)

    def read_until(self, target: str, accept: str, begun: threading.Event, last: str) -> str:
        """Read a stream until it has a text, or ends; return what it has had."""
        text = ""
        fields = {"accept": accept, **self.headers}
        with (
            contextlib.suppress(httpx.HTTPError),
            CLIENT.stream("GET", self._address(target), headers=fields) as answer,
        ):
            assert answer.status_code == 200
            begun.set()
            for part in answer.iter_text():
                text += part
                if last in text:
                    break
        return text


def with_token(server: ServerProcess, token: str) -> Client:
    return Client(server, {"authorization": f"Bearer {token}"})


def strangers(server: ServerProcess) -> list[Client]:
    basic = base64.b64encode(f"source:{WRONG}".encode()).decode()
    return [
        Client(server),
        with_token(server, WRONG),
        Client(server, {"authorization": f"Basic {basic}"}),
        Client(server, query=f"key={WRONG}"),
        Client(server, query=f"token={WRONG}"),
        Client(server, query=f"expires=99999999999&signature={'0' * 64}"),
    ]


def answers(stranger: Client) -> Iterator[httpx.Response]:
    """Yield what each address of the channel answers, whatever is asked."""
    forms = "*/*", "application/json", "application/x-ndjson", "text/event-stream"
    queries = "?", "?since=", "?since=&wait=0.1", "?last_event_id=e-0"
    for accept, query in (
        itertools.product(forms, queries) if stranger.is_anonymous else zip(forms, queries, strict=True)
    ):
        yield stranger.ask("GET", PATH + query, accept)
        yield stranger.ask("GET", f"/events{query}&channel={NAME}", accept)
    yield stranger.ask("HEAD", PATH)
    yield stranger.publish()
    yield stranger.publish("application/json", '{"data":"x"}')
    yield stranger.publish("application/x-ndjson", '{"data":"x"}\n')
    yield stranger.ask("PATCH", PATH, json={"keep": 1, "new_tokens": ["read"]})
    yield stranger.ask("DELETE", PATH)
    yield stranger.ask("POST", "/events", json={"name": NAME})


def check_refused(stranger: Client) -> None:
    for answer in answers(stranger):
        assert answer.status_code in (401, 403), (answer.request, answer.text)
        assert TEXT not in answer.text
    # Where no address needs a token, there is no such address.
    assert stranger.ask("GET", f"/t/{WRONG}{PATH}").status_code in (401, 403, 404)
    for target in (PATH, f"/events?channel={NAME}"):
        with pytest.raises(InvalidStatus) as refused, stranger.open_socket(target):
            pass
        assert refused.value.response.status_code in (401, 403), target
    with stranger.open_socket("/events") as socket:
        socket.send(json.dumps({"subscribe": NAME, "key": WRONG}))
        assert json.loads(socket.recv(CLIENT_SECONDS))["status"] == 401


def check_absent(stranger: Client) -> None:
    """Check that nothing that everybody may ask for has the channel among others.

    A wrong key ends a request for several channels, whichever there are.
    """
    statuses = (204,) if stranger.is_anonymous else (204, 401)
    for accept, query in itertools.product(
        ("application/json", "application/x-ndjson"), ("since=", "since=&wait=0.1")
    ):
        answer = stranger.ask("GET", f"/events?channel=room/*&{query}", accept)
        assert answer.status_code in statuses, answer.text
        assert NAME not in answer.text
    for path in ("/api/events", "/api/relays"):
        answer = stranger.ask("GET", path)
        assert (answer.status_code, NAME in answer.text) == (200, False)
    if stranger.is_anonymous:
        with stranger.open_socket("/events?channel=room/*") as socket:
            socket.send(json.dumps({"subscribe": "room/*"}))
            assert json.loads(socket.recv(CLIENT_SECONDS)) == {"subscribed": "room/*", "channels": []}


def check_grpc(port: int, key: str) -> None:
    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = SERVICES.EventsStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            next(stub.Subscribe(PROTOS.SubscribeRequest(channel=NAME), metadata=metadata))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.RpcError) as refused:
            stub.Publish(PROTOS.PublishRequest(channel=NAME, data="x"), metadata=metadata)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


@contextlib.contextmanager
def started(folder: Path, configuration: str, workers: int) -> Iterator[tuple[ServerProcess, int]]:
    with kept_port() as port:
        (folder / "library").mkdir()
        (folder / "headwater.toml").write_text(
            f'[server]\nport = 0\nworkers = {workers}\ndata = "data"\n[grpc]\nport = {port}\n'
            f"[limits]\nwrong_passwords = 10000\n{configuration}"
        )
        server = start_server(cwd=folder)
        try:
            wait_for(lambda: listens(port), "gRPC")
            yield server, port
        finally:
            if server.process.poll() is None:
                server.stop(signal.SIGKILL)


@pytest.mark.parametrize(
    ("configuration", "workers"),
    [*((one, 1) for one in CONFIGURATIONS.values()), ("", 2), (EVENTS, 2)],
    ids=[*CONFIGURATIONS, "nothing, two workers", "events, two workers"],
)
@pytest.mark.clause("A channel that is made at run time needs its token, whatever else is configured")
def test_without_a_key_nobody_reads_publishes_to_or_deletes_a_channel_that_was_made(
    tmp_path: Path, configuration: str, workers: int
) -> None:
    with ThreadPoolExecutor() as pool, started(tmp_path, configuration, workers) as (server, port):
        made = with_token(server, ADMIN_TOKEN).ask("POST", "/events", json={"name": NAME}).json()
        reader, publisher = (with_token(server, made[one]) for one in ("read_token", "publish_token"))
        assert publisher.publish().status_code == 200

        def reading(client: Client, accept: str) -> Future[str]:
            begun = threading.Event()
            target = "/events?channel=room/*"
            future = pool.submit(client.read_until, target, accept, begun, "behind-all-others")
            assert begun.wait(CLIENT_SECONDS)
            return future

        forms = ("text/event-stream", "application/x-ndjson")
        unseen = [reading(Client(server), form) for form in forms]
        for stranger in strangers(server):
            check_refused(stranger)
            check_absent(stranger)
        for key in ("", WRONG):
            check_grpc(port, key)
        seen = [reading(reader, form) for form in forms]
        assert publisher.publish(content="behind-all-others").status_code == 200
        events = reader.ask("GET", f"{PATH}?since=").json()
        assert [one["data"] for one in events] == [TEXT, "behind-all-others"]
        assert all(TEXT in one.result(CLIENT_SECONDS) for one in seen)
        assert server.stop() == 0
        # The ends of these streams come behind whatever they have had.
        assert not any(NAME in one.result(CLIENT_SECONDS) for one in unseen)
        assert not any(TEXT in one.result() for one in unseen)


@pytest.mark.clause("A channel that is made at run time needs its token, whatever else is configured")
def test_a_channel_stays_closed_whose_pattern_the_configuration_has_no_more(tmp_path: Path) -> None:
    keyed = SAME + 'read_key = "a-read-key-of-rooms"\nhistory = "1h"\n'
    with started(tmp_path, keyed, 1) as (server, _):
        assert with_token(server, "a-publish-token-0").publish().status_code == 200
        assert Client(server).ask("GET", f"{PATH}?since=").status_code == 401
        assert server.stop() == 0
    (tmp_path / "library").rmdir()
    with started(tmp_path, "", 1) as (server, port):
        for stranger in strangers(server):
            check_refused(stranger)
            check_absent(stranger)
        check_grpc(port, "")
        events = with_token(server, ADMIN_TOKEN).ask("GET", f"{PATH}?since=").json()
        assert [one["data"] for one in events] == [TEXT]
        assert server.stop() == 0
