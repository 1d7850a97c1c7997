"""What is wrong with a token is said wherever one is presented, and its holder is no guesser."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import pytest
from starlette.requests import Request
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from origin.access.authentication import Authenticator, Secret
from origin.access.protected_addresses import MISSING
from origin.access.token_keys import TokenKeys
from origin.access.web_tokens import key_of_secret
from origin.grpc.messages import PublishReply, PublishRequest
from tests.conftest import ServerProcess, start_server
from tests.faulty_tokens import ACCESS, FAULTS, ISSUER, SECRET, token
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port
from tests.rtmp import publishing

CONFIG = f"""
[server]
port = 0
rtmp_port = {{rtmp}}

[grpc]
port = {{grpc}}
{ACCESS}
[[live]]
name = "studio"
source = "publish"
publish_key = "a-publish-key-of-tests"
access = "signed"

[[live]]
name = "open"
source = "publish"

[[radio]]
name = "fm.mp3"
source = "publish"
source_password = "a-source-password"

[[events]]
name = "chat"
publish_token = "a-publish-token-of-tests"

[[events]]
name = "closed"
publish_token = "a-publish-token-of-tests"
access = "signed"

[[relay]]
name = "answers"
upstreams = ["http://127.0.0.1:9/v1"]
token = "a-relay-token-of-tests"

[limits]
wrong_passwords = 2
"""


@dataclass(frozen=True)
class Ports:
    server: ServerProcess
    rtmp: int
    grpc: int


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    folder = tmp_path_factory.mktemp("faults")
    with kept_port() as rtmp, kept_port() as grpc_port:
        (folder / "headwater.toml").write_text(CONFIG.format(rtmp=rtmp, grpc=grpc_port))
        server = start_server(cwd=folder)
        yield Ports(server, rtmp, grpc_port)
        assert server.stop() == 0


def http(ports: Ports, path: str, key: str) -> str:
    answer = httpx.post(
        f"{ports.server.url}{path}",
        content=b"x",
        headers={"authorization": f"Bearer {key}"},
        timeout=CLIENT_SECONDS,
    )
    assert answer.status_code == 401
    return answer.text


def rtmp(ports: Ports, key: str) -> str:
    found = b""
    with socket.create_connection(("127.0.0.1", ports.rtmp), CLIENT_SECONDS) as client:
        client.sendall(publishing(f"studio?key={key}"))
        while b"NetStream.Publish" not in found and (data := client.recv(65536)):
            found += data
    return found.decode("latin-1")


def titles(ports: Ports, key: str) -> str:
    address = f"{ports.server.url}/admin/metadata?mount=/radio/fm.mp3&mode=updinfo&song=x"
    return httpx.get(address, auth=("source", key), timeout=CLIENT_SECONDS).text


def socket_of_events(ports: Ports, key: str) -> str:
    address = f"{ports.server.url.replace('http', 'ws')}/events/chat"
    with connect(address, additional_headers={"authorization": f"Bearer {key}"}) as client:
        client.send("hello")
        with pytest.raises(ConnectionClosedError) as closed:
            client.recv(CLIENT_SECONDS)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.reason


def call(ports: Ports, key: str) -> str:
    with grpc.insecure_channel(f"127.0.0.1:{ports.grpc}") as channel:
        publish = channel.unary_unary(
            "/headwater.events.v1.Events/Publish",
            request_serializer=PublishRequest.SerializeToString,
            response_deserializer=PublishReply.FromString,
        )
        with pytest.raises(grpc.RpcError) as refused:
            publish(PublishRequest(channel="chat", data="x"), metadata=[("authorization", f"Bearer {key}")])
    return str(refused.value.details())


def source(ports: Ports, key: str) -> str:
    host, port = ports.server.url.removeprefix("http://").split(":")
    basic = base64.b64encode(f"source:{key}".encode()).decode()
    with socket.create_connection((host, int(port)), CLIENT_SECONDS) as client:
        fields = f"Content-Type: audio/mpeg\r\nAuthorization: Basic {basic}\r\n"
        client.sendall(f"SOURCE /radio/fm.mp3 HTTP/1.0\r\n{fields}\r\n".encode())
        found = b""
        while data := client.recv(65536):
            found += data
    return found.decode("latin-1")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_publisher_is_told_what_is_wrong_with_its_token(ports: Ports, fault: str) -> None:
    key = FAULTS[fault]
    for answer in (
        http(ports, "/live/studio/ingest", key),
        http(ports, f"/live/studio/end?key={key}", "a-key-that-fits-nothing-here"),
        http(ports, "/events/chat", key),
        http(ports, "/relay/answers", key),
        httpx.post(f"{ports.server.url}/t/{key}/live/open/ingest", content=b"x").text,
        rtmp(ports, key),
        source(ports, key),
        titles(ports, key),
        call(ports, key),
        socket_of_events(ports, key),
    ):
        assert fault in answer


@pytest.mark.parametrize("fault", [one for one in FAULTS if "publishing" not in one])
def test_a_viewer_is_told_what_is_wrong_with_its_token(ports: Ports, fault: str) -> None:
    address = f"{ports.server.url}/t/{FAULTS[fault]}/live/studio/master.m3u8"
    answer = httpx.get(address, timeout=CLIENT_SECONDS)
    assert (answer.status_code, answer.text) == (403, f"{fault}\n")


@pytest.mark.parametrize("fault", [one for one in FAULTS if "publishing" not in one])
def test_a_reader_of_several_channels_is_told_what_is_wrong_with_its_token(ports: Ports, fault: str) -> None:
    address, key = f"{ports.server.url}/events", FAULTS[fault]
    query = {"channel": ["chat", "closed"]}
    for fields, further in (
        ({"authorization": f"Bearer {key}"}, {}),
        ({}, {"token": key}),
        ({"accept": "application/x-ndjson"}, {"token": key}),
        ({}, {"token": key, "since": ""}),
    ):
        answer = httpx.get(address, params={**query, **further}, headers=fields, timeout=CLIENT_SECONDS)
        assert (answer.status_code, answer.text) == (403, f"closed: {fault}\n")
    socket_address = address.replace("http", "ws")
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{socket_address}?channel=closed&token={key}")
    assert refused.value.response.status_code == 403
    assert refused.value.response.body == f"closed: {fault}\n".encode()
    assert subscribed(socket_address, key) == {
        "subscribe": "closed",
        "error": f"closed: {fault}",
        "status": 403,
    }


def test_a_reader_of_several_channels_without_a_token_is_told_that_one_is_needed(ports: Ports) -> None:
    answer = httpx.get(f"{ports.server.url}/events?channel=closed", timeout=CLIENT_SECONDS)
    assert (answer.status_code, answer.text.partition(": ")[0]) == (403, "closed")
    assert answer.text == f"closed: {MISSING}\n"


def test_a_token_opens_a_channel_to_which_a_socket_subscribes_later(ports: Ports) -> None:
    answer = subscribed(f"{ports.server.url.replace('http', 'ws')}/events", token(publish=False))
    assert answer == {"subscribed": "closed", "channels": ["closed"]}


def subscribed(address: str, key: str) -> Any:
    with connect(address) as client:
        client.send(json.dumps({"subscribe": "closed", "key": key}))
        return json.loads(client.recv(CLIENT_SECONDS))


def test_a_token_whose_signature_is_right_is_no_guess(ports: Ports) -> None:
    for _ in range(20):
        assert "expired" in http(ports, "/live/studio/ingest", FAULTS["the token has expired"])
        assert "expired" in rtmp(ports, FAULTS["the token has expired"])
    # Short keys are compared: a guesser's wouldn't be, which is answered with 429.
    assert "wrong key" in http(ports, "/live/studio/ingest", "short")


@pytest.mark.parametrize(
    ("query", "is_guess"), [(b"", False), (b"key=guess", True), (b"signature=0&expires=9", True)]
)
async def test_a_token_hides_no_guess_beside_it(query: bytes, is_guess: bool) -> None:
    failures: list[bool] = []

    async def note(_: Request, failed: bool) -> None:
        failures.append(failed)

    keys = TokenKeys(web=[key_of_secret(SECRET)], audience="headwater", issuer=ISSUER)
    expired = FAULTS["the token has expired"].encode()
    scope = {"type": "http", "path": "/live/studio/ingest", "query_string": query}
    scope["headers"] = [(b"authorization", b"Bearer " + expired)]
    request = Request(scope)
    assert not await Authenticator(note, fault_of=keys.fault).admits(
        request, Secret("a-publish-key-of-tests")
    )
    assert failures == [True] * is_guess
