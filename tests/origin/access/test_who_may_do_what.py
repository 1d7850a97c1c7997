"""Who may do what: the documentation's table is the program's, and each wire carries it out."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import jwt
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from origin.access.address_tokens import SigningKeys
from origin.access.authorization import NEEDS, Action, KeyHolder, Right
from origin.access.authorization import ResourceKind as Kind
from tests.conftest import ServerProcess, start_server
from tests.grpc_events import PROTOS, SERVICES
from tests.keys import ADMIN_TOKEN
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port, listens
from tests.rtmp import publishing
from tests.srt import calling
from tests.waiting import wait_for

DOCS = Path(__file__).parents[3] / "docs/security.md"

SIGNING = "one:0123456789abcdef0123456789abcdef"
SECRET = "a-secret-that-only-the-backend-knows"
CONFIG = f"""
[server]
port = 0
rtmp_port = {{rtmp}}
srt_port = {{srt}}
[grpc]
port = {{grpc}}
[limits]
wrong_passwords = 1000000
[access]
keys = ["{SIGNING}"]
jwt_keys = ["HS256:{SECRET}"]
""" + "".join(
    f"""
[[live]]
name = "{name}"
source = "publish"
publish_key = "publish-key-of-live-{name}"
[[radio]]
name = "{name}"
source = "publish"
source_password = "source-password-of-{name}"
listener_password = "listener-password-of-{name}"
[[events]]
name = "{name}"
publish_token = "publish-token-of-{name}"
read_key = "read-key-of-{name}"
[[relay]]
name = "relay-{name}"
upstreams = ["http://127.0.0.1:9/v1"]
token = "token-of-relay-{name}"
"""
    for name in ("a", "b")
)

ACTIONS = {
    (
        Action.PUBLISH,
        Kind.LIVE,
    ): "publish to a live channel (RTMP, SRT, HTTP), its captions and metadata, end its events",
    (Action.READ, Kind.RADIO): "listen to a station with a password, read its titles",
    (Action.PUBLISH, Kind.RADIO): "send a station's audio",
    (Action.MANAGE, Kind.RADIO): "change a station's titles, move and disconnect its listeners",
    (Action.READ, Kind.EVENTS): "read an event channel with a key",
    (Action.PUBLISH, Kind.EVENTS): "publish events",
    (Action.CREATE, Kind.EVENTS): "make an event channel",
    (Action.MANAGE, Kind.EVENTS): "change and delete a channel that was made",
    (Action.ASK, Kind.RELAY): "ask a relay",
    (Action.CONFIGURE, Kind.LIVE): "make, change, describe and delete a live channel",
    (Action.CONFIGURE, Kind.RADIO): "make, change, describe and delete a station",
    (Action.CONFIGURE, Kind.RELAY): "make, change, describe and delete a relay",
    (
        Action.ADMINISTER,
        Kind.SERVER,
    ): "reload, sign, revoke, see keys and viewers, list what is protected",
}

KEYS = {
    (KeyHolder.PUBLISHER, Kind.LIVE): "`publish_key`",
    (KeyHolder.READER, Kind.RADIO): "`listener_password`",
    (KeyHolder.PUBLISHER, Kind.RADIO): "`source_password`",
    (KeyHolder.READER, Kind.EVENTS): "`read_key` or `read_token`",
    (KeyHolder.PUBLISHER, Kind.EVENTS): "`publish_token`",
    (KeyHolder.PUBLISHER, Kind.RELAY): "the relay's `token`",
}

RIGHTS = {
    Right.READ: "for `{}` of a channel that was made",
    Right.PUBLISH: "with `publish`, for `{}`",
    Right.ASK: "for `{}`",
    Right.CREATE: "of its creator, with `create`",
    Right.CONFIGURE: "with `configure`, for `{}`",
}


def written(action: Action, kind: Kind) -> str:
    """Write a line of the documentation's table."""
    needs = NEEDS[action, kind]
    keys = ["the admin token" if one is KeyHolder.ADMIN else KEYS[one, kind] for one in needs.holders]
    tokens = [RIGHTS[right].format(f"/{where.value}/NAME") for right, where in needs.rights]
    if (action, kind) == (Action.CREATE, Kind.EVENTS):
        tokens = ["with `create`"]
    return f"| {ACTIONS[action, kind]} | {', '.join(keys)} | {', '.join(tokens) or 'none'} |"


def test_the_documentation_has_who_may_do_what() -> None:
    text = DOCS.read_text().partition("## Who may do what")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| [a-z].*$", text, re.MULTILINE)
    assert rows == [written(*one) for one in NEEDS]


@dataclass(frozen=True)
class Ports:
    server: ServerProcess
    rtmp: int
    srt: int
    grpc: int
    made: Mapping[str, str]


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    folder = tmp_path_factory.mktemp("ways-in")
    with ExitStack() as stack:
        rtmp, srt, other = (stack.enter_context(kept_port()) for _ in range(3))
        (folder / "headwater.toml").write_text(CONFIG.format(rtmp=rtmp, srt=srt, grpc=other))
        server = start_server(cwd=folder)
        wait_for(lambda: listens(other), "gRPC")
        made = httpx.post(
            f"{server.url}/events",
            json={"name": "room/made"},
            headers={"authorization": f"Bearer {ADMIN_TOKEN}"},
        )
        yield Ports(server, rtmp, srt, other, made.json())
        assert server.stop() == 0


def signed(path: str, *, publish: bool, seconds: int = 3600) -> str:
    return SigningKeys([SIGNING]).sign(path, int(time.time()) + seconds, may_publish=publish)


def web(**claims: Any) -> str:
    return jwt.encode({"exp": int(time.time()) + 3600, "sub": "anna"} | claims, SECRET)


def credentials(made: Mapping[str, str]) -> dict[str, str]:
    """Every credential of the server, by the name that expectations have."""
    found = {"none": "", "wrong": "a-key-of-nobody-that-is-long-enough", "admin": ADMIN_TOKEN}
    for name in ("a", "b"):
        found[f"publish_key {name}"] = f"publish-key-of-live-{name}"
        found[f"source {name}"] = f"source-password-of-{name}"
        found[f"listener {name}"] = f"listener-password-of-{name}"
        found[f"publish_token {name}"] = f"publish-token-of-{name}"
        found[f"read_key {name}"] = f"read-key-of-{name}"
        found[f"relay {name}"] = f"token-of-relay-{name}"
        for area in ("live", "radio", "events"):
            found[f"publish /{area}/{name}"] = signed(f"/{area}/{name}", publish=True)
            found[f"read /{area}/{name}"] = signed(f"/{area}/{name}", publish=False)
        found[f"read /relay/relay-{name}"] = signed(f"/relay/relay-{name}", publish=False)
    found["read_token"], found["publish_token"] = made["read_token"], made["publish_token"]
    found["publish /events/room/made"] = signed("/events/room/made", publish=True)
    found["read /events/room/made"] = signed("/events/room/made", publish=False)
    found["expired"] = web(paths=["/"], publish=True, configure=True, create=["*"], exp=int(time.time()) - 60)
    found["read /"], found["publish /"] = web(paths=["/"]), web(paths=["/"], publish=True)
    found["create"], found["create others"] = web(create=["room/*"]), web(create=["hall/*"])
    for name in ("a", "b"):
        paths = [f"/live/{name}", f"/radio/{name}", f"/relay/relay-{name}"]
        found[f"configure {name}"] = web(paths=paths, configure=True)
    return found


PUBLISHERS = {"publish /"}

ALLOWED: dict[tuple[Action, Kind], set[str]] = {
    (Action.PUBLISH, Kind.LIVE): {"admin", "publish_key a", "publish /live/a", *PUBLISHERS},
    (Action.READ, Kind.RADIO): {"admin", "listener a"},
    (Action.PUBLISH, Kind.RADIO): {"source a", "publish /radio/a", *PUBLISHERS},
    (Action.MANAGE, Kind.RADIO): {"admin", "source a", "publish /radio/a", *PUBLISHERS},
    (Action.READ, Kind.EVENTS): {
        "admin",
        "read_key a",
        "publish_token a",
        "publish /events/a",
        *PUBLISHERS,
    },
    (Action.PUBLISH, Kind.EVENTS): {"admin", "publish_token a", "publish /events/a", *PUBLISHERS},
    (Action.CREATE, Kind.EVENTS): {"admin", "create"},
    (Action.MANAGE, Kind.EVENTS): {"admin"},
    (Action.ASK, Kind.RELAY): {"admin", "relay a", "read /relay/relay-a", "configure a", *PUBLISHERS},
    **{(Action.CONFIGURE, kind): {"admin", "configure a"} for kind in (Kind.LIVE, Kind.RADIO, Kind.RELAY)},
    (Action.ADMINISTER, Kind.SERVER): {"admin"},
}
"""The credentials that permit each action on what is called ``a``, or on ``room/made``."""

REFUSED = (401, 403)

Probe = Callable[[Ports, str], bool]
"""Asks with a credential; returns whether that was permitted."""


def http(
    method: str, path: str, user: str = "", *, accept: str = "*/*", body: Any = None, media_type: str = ""
) -> Probe:
    def ask(ports: Ports, key: str) -> bool:
        fields = {"accept": accept} | ({"content-type": media_type} if media_type else {})
        auth = (user, key) if user and key else None
        if key and not user:
            fields["authorization"] = f"Bearer {key}"
        with httpx.stream(
            method,
            f"{ports.server.url}{path}",
            headers=fields,
            auth=auth,
            content=body if isinstance(body, bytes) else None,
            json=None if isinstance(body, bytes) else body,
            timeout=CLIENT_SECONDS,
        ) as answer:
            assert answer.status_code not in (404, 405), (method, path)
            return answer.status_code not in REFUSED

    return ask


def in_query(method: str, path: str) -> Probe:
    def ask(ports: Ports, key: str) -> bool:
        return http(method, f"{path}{'&' if '?' in path else '?'}key={key}", body=b"")(ports, "")

    return ask


def rtmp(ports: Ports, key: str) -> bool:
    found = b""
    with socket.create_connection(("127.0.0.1", ports.rtmp), CLIENT_SECONDS) as client:
        client.sendall(publishing(f"a?key={key}"))
        # The answer to FCPublish has the same word, whoever asks.
        while found.count(b"NetStream.Publish.Start") < 2 and b"NetStream.Publish.BadName" not in found:
            found += client.recv(65536)
    return b"is needed" not in found


def srt(ports: Ports, key: str) -> bool:
    with calling(ports.srt, f"#!::r=a,m=publish,s={key}") as caller:
        return not caller.refusal


def opened(path: str, sent: str = "") -> Probe:
    """Open a WebSocket, and publish where a text is given."""

    def ask(ports: Ports, key: str) -> bool:
        fields = {"authorization": f"Bearer {key}"} if key else {}
        address = f"{ports.server.url.replace('http', 'ws')}{path}"
        try:
            with connect(address, additional_headers=fields, open_timeout=CLIENT_SECONDS) as client:
                if sent:
                    client.send(json.dumps({"data": sent}))
                    while '{"ids":' not in str(client.recv(CLIENT_SECONDS)):
                        pass
        except InvalidStatus as refused:
            if refused.response.status_code not in REFUSED:
                raise
            return False
        except ConnectionClosed:
            return False
        return True

    return ask


def grpc_call(*, publishes: bool) -> Probe:
    def ask(ports: Ports, key: str) -> bool:
        metadata = (("authorization", f"Bearer {key}"),) if key else ()
        with grpc.insecure_channel(f"127.0.0.1:{ports.grpc}") as channel:
            stub = SERVICES.EventsStub(channel)
            try:
                if publishes:
                    stub.Publish(PROTOS.PublishRequest(channel="a", data="x"), metadata=metadata)
                else:
                    # A position that isn't there is answered with an event at once.
                    asked = PROTOS.SubscribeRequest(channel="a", since="0-0")
                    call = stub.Subscribe(asked, metadata=metadata)
                    next(call)
                    call.cancel()
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                    raise
                return False
        return True

    return ask


PROBES: dict[str, tuple[tuple[Action, Kind], Probe]] = {
    "PUT": ((Action.PUBLISH, Kind.LIVE), http("PUT", "/live/a/ingest", body=b"x")),
    "PUT of a segment": (
        (Action.PUBLISH, Kind.LIVE),
        http("PUT", "/live/a/ingest/x/init.mp4", body=b"x"),
    ),
    "captions": ((Action.PUBLISH, Kind.LIVE), in_query("POST", "/live/a/captions/en")),
    "metadata": ((Action.PUBLISH, Kind.LIVE), http("POST", "/live/a/metadata", body={})),
    "end": ((Action.PUBLISH, Kind.LIVE), http("POST", "/live/a/end", "anybody")),
    "RTMP": ((Action.PUBLISH, Kind.LIVE), rtmp),
    "SRT": ((Action.PUBLISH, Kind.LIVE), srt),
    "audio": ((Action.READ, Kind.RADIO), http("GET", "/radio/a", "anybody")),
    "a playlist of the station": ((Action.READ, Kind.RADIO), in_query("GET", "/radio/a.m3u")),
    "titles": ((Action.READ, Kind.RADIO), http("GET", "/events/radio/a")),
    "PUT of audio": (
        (Action.PUBLISH, Kind.RADIO),
        http("PUT", "/radio/a", "source", body=b"x", media_type="audio/mpeg"),
    ),
    "SOURCE": (
        (Action.PUBLISH, Kind.RADIO),
        http("SOURCE", "/radio/a", "source", body=b"x", media_type="audio/mpeg"),
    ),
    "a title": (
        (Action.MANAGE, Kind.RADIO),
        http("GET", "/admin/metadata?mount=/radio/a&mode=updinfo&song=x", "source"),
    ),
    "listeners": (
        (Action.MANAGE, Kind.RADIO),
        http("GET", "/admin/listclients?mount=/radio/a", "source"),
    ),
    "killsource": (
        (Action.MANAGE, Kind.RADIO),
        http("GET", "/admin/killsource?mount=/radio/a", "source"),
    ),
    "a poll": (
        (Action.READ, Kind.EVENTS),
        http("GET", "/events/a?since=", accept="application/json"),
    ),
    "server-sent events": (
        (Action.READ, Kind.EVENTS),
        http("GET", "/events/a", accept="text/event-stream"),
    ),
    "several channels": (
        (Action.READ, Kind.EVENTS),
        http("GET", "/events?channel=a&since=", accept="application/json"),
    ),
    "WebSocket": ((Action.READ, Kind.EVENTS), opened("/events/a")),
    "gRPC": ((Action.READ, Kind.EVENTS), grpc_call(publishes=False)),
    "POST": (
        (Action.PUBLISH, Kind.EVENTS),
        http("POST", "/events/a", body=b"x", media_type="text/plain"),
    ),
    "a message of WebSocket": ((Action.PUBLISH, Kind.EVENTS), opened("/events/a", "x")),
    "a call of gRPC": ((Action.PUBLISH, Kind.EVENTS), grpc_call(publishes=True)),
    "a new channel": ((Action.CREATE, Kind.EVENTS), http("POST", "/events", body={"name": "room/*"})),
    "a change": ((Action.MANAGE, Kind.EVENTS), http("PATCH", "/events/room/made", body={"keep": 9})),
    "a completion": (
        (Action.ASK, Kind.RELAY),
        http("POST", "/relay/relay-a/v1/chat/completions", body={"model": "m", "messages": []}),
    ),
    "models": ((Action.ASK, Kind.RELAY), http("GET", "/relay/relay-a/v1/models")),
    "a live channel's table": (
        (Action.CONFIGURE, Kind.LIVE),
        http("PATCH", "/api/live/a", body={"dvr": "1h"}),
    ),
    "a station's table": ((Action.CONFIGURE, Kind.RADIO), http("GET", "/api/radio/a")),
    "a relay's table": ((Action.CONFIGURE, Kind.RELAY), http("PUT", "/api/relays/relay-a", body={})),
    "a table that goes": ((Action.CONFIGURE, Kind.LIVE), http("DELETE", "/api/live/a")),
    "a key": ((Action.ADMINISTER, Kind.SERVER), http("GET", "/api/live/a/publish_key")),
    "a signature": (
        (Action.ADMINISTER, Kind.SERVER),
        http("POST", "/api/sign", body={"path": "/live/a"}),
    ),
    "reload": ((Action.ADMINISTER, Kind.SERVER), in_query("POST", "/api/reload")),
    "statistics": ((Action.ADMINISTER, Kind.SERVER), http("GET", "/admin/stats", "anybody")),
}


def test_each_action_has_a_probe() -> None:
    assert {need for need, _ in PROBES.values()} == set(NEEDS) == set(ALLOWED)


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.clause("Each wire permits what the table of permissions says, and nothing else")
def test_each_wire_permits_what_the_table_says_to_each_credential(ports: Ports, probe: str) -> None:
    need, ask = PROBES[probe]
    every = credentials(ports.made)
    permitted = {name for name, key in every.items() if ask(ports, key)}
    assert permitted == ALLOWED[need]
