"""What isn't for everybody: lists, metrics and health on loopback, behind the token, or on another port."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from origin.access.authorization import Authorization
from origin.access.policy import (
    AccessMiddleware,
    AccessOptions,
    AccessPolicy,
    guard_routes,
    is_cross_site,
    is_known_host,
    loopback_ports,
)
from origin.config.load import load
from origin.config.options import ConfigError
from tests.conftest import ServerProcess, start_server
from tests.keys import ADMIN_TOKEN, BEARER
from tests.ports import kept_port
from tests.succession import start
from tests.waiting import wait_for

PATIENCE_SECONDS = 120.0
LISTS = ["/api/library", "/api/live", "/api/radio", "/api/events", "/api/relays"]
PRIVATE = [*LISTS, "/health", "/metrics"]
PASSWORD = "of-the-listeners"
MUSIC = "A line of - the air"
TEXT = """
[server]
port = 0
allow_origin = "https://player.example"
{server}

[library]
path = "."

[[radio]]
name = "closed.mp3"
title = "Closed FM"
source = "publish"
source_password = "of-the-source"
listener_password = "{password}"

[[radio]]
name = "open.mp3"
source = "publish"
source_password = "of-the-source"
"""


def config(folder: Path, server: str = "") -> Path:
    file = folder / "headwater.toml"
    file.write_text(TEXT.format(server=server, password=PASSWORD))
    return file


@dataclass(frozen=True)
class Asked:
    """A server, and who asks it."""

    server: ServerProcess
    client: httpx.Client

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.client.get(f"{self.server.url}{path}", headers=headers)

    def ask(self, path: str, host: str | None, method: str = "GET", **headers: str) -> int:
        """Ask under a name; give the status."""
        address, _, port = self.server.url.removeprefix("http://").partition(":")
        lines = [f"{method} {path} HTTP/1.{int(host is not None)}", "Connection: close"]
        lines += [] if host is None else [f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        with socket.create_connection((address, int(port)), PATIENCE_SECONDS) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            return int(connection.makefile("rb").readline().split()[1])


@pytest.fixture(scope="module")
def on_loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder = tmp_path_factory.mktemp("loopback")
    server = start_server("--config", str(config(folder, 'names = ["Stream.Example"]')), cwd=folder)
    with httpx.Client(timeout=PATIENCE_SECONDS) as client:
        yield Asked(server, client)
    server.stop()


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Asked, str]]:
    folder = tmp_path_factory.mktemp("protected")
    with kept_port() as port:
        lines = f'protected = ["api", "health", "metrics"]\nadmin_port = {port}'
        server = start_server("--config", str(config(folder, lines)), "--host", "0.0.0.0", cwd=folder)
        with httpx.Client(timeout=PATIENCE_SECONDS) as client:
            yield Asked(server, client), f"http://127.0.0.1:{port}"
        server.stop()


@pytest.mark.promise("server.names")
@pytest.mark.clause("CWE-350")
@pytest.mark.parametrize("path", PRIVATE)
def test_on_loopback_lists_are_not_for_pages_of_names_that_lead_here(on_loopback: Asked, path: str) -> None:
    """DNS rebinding: a foreign name that resolves to 127.0.0.1 makes a foreign page one of this origin."""
    port = on_loopback.server.url.rpartition(":")[2]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "LOCALHOST", "[::1]:80", "a.localhost", None):
        assert on_loopback.ask(path, host) == 200, host
    for host in ("stream.example", "STREAM.example.:443"):
        assert on_loopback.ask(path, host) == 200, host
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil.example"):
        # RFC 9110 §15.5.20
        assert on_loopback.ask(path, host) == 421, host
    assert on_loopback.ask(path, "192.0.2.1") == 421
    assert on_loopback.ask(path, "xlocalhost") == 421


@pytest.mark.clause("CWE-350")
def test_on_loopback_nothing_is_changed_under_a_foreign_name(on_loopback: Asked) -> None:
    target = "/admin/metadata?mode=updinfo&mount=/radio/open.mp3&song=x"
    assert on_loopback.ask(target, "evil.example", **BEARER) == 421
    assert on_loopback.ask(target, "localhost", **BEARER) == 400, "no source whose title it could be"
    assert on_loopback.ask("/radio/open.mp3", "evil.example", "PUT", **BEARER) == 421


@pytest.mark.clause("CWE-352")
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "none"}, 400),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://stream.example"}, 400),
        ({"Origin": "http://localhost"}, 400),
    ],
)
def test_pages_of_other_sites_change_no_title_with_what_the_browser_knows(
    on_loopback: Asked, fields: dict[str, str], status: int
) -> None:
    target = "/admin/metadata?mode=updinfo&mount=/radio/open.mp3&song=x"
    assert on_loopback.ask(target, "localhost", **BEARER, **fields) == status


def test_files_and_streams_are_served_under_every_name(on_loopback: Asked) -> None:
    assert on_loopback.ask("/", "evil.example") == 200
    assert on_loopback.ask("/media/none.mp4", "evil.example") == 404
    assert on_loopback.ask("/api/time", "evil.example") == 200
    assert on_loopback.ask("/status-json.xsl", "evil.example") == 200


@pytest.mark.clause("WHATWG Fetch §3.3")
def test_no_page_of_another_origin_reads_lists_on_loopback(on_loopback: Asked) -> None:
    for path in PRIVATE:
        assert "access-control-allow-origin" not in on_loopback.get(path).headers, path
    for path in ("/media/none.mp4", "/api/time", "/events/radio/none", "/status-json.xsl"):
        allowed = on_loopback.get(path).headers["access-control-allow-origin"]
        assert allowed == "https://player.example", path


def test_of_a_station_with_a_password_strangers_are_told_its_name_alone(on_loopback: Asked) -> None:
    def listed(query: str = "", **headers: str) -> dict[str, Any]:
        stations: list[dict[str, Any]] = on_loopback.get(f"/api/radio{query}", **headers).json()
        assert [station["name"] for station in stations] == ["closed.mp3", "open.mp3"]
        assert stations[1]["protected"] is False
        assert stations[1]["listeners"] == 0
        return stations[0]

    closed = listed()
    told = {key: value for key, value in closed.items() if value not in (None, "", [])}
    assert told == {
        "name": "closed.mp3",
        "station": "Closed FM",
        "url": "/radio/closed.mp3",
        "events": "/events/radio/closed.mp3",
        "protected": True,
    }
    assert closed.keys() == listed(f"?key={PASSWORD}").keys()
    for opened in (listed(f"?key={PASSWORD}"), listed(**BEARER)):
        assert opened["listeners"] == 0
        assert opened["state"] is not None
    for wrong in (listed("?key=wrong"), listed(authorization="Bearer of-the-source")):
        assert wrong == closed
    # It has no HLS, whatever one presents; nor is it told that there could be any.
    for name in ("master.m3u8", "manifest.mpd", "64k/media.m3u8"):
        assert on_loopback.get(f"/live/closed.mp3/{name}?key={PASSWORD}").status_code == 404
    assert "closed" not in on_loopback.get("/api/live").text


@pytest.mark.clause("CWE-306")
def test_what_is_protected_needs_the_token(protected: tuple[Asked, str]) -> None:
    asked, _ = protected
    for path in (*LISTS, "/metrics"):
        for headers in ({}, {"authorization": "Bearer wrong"}, {"x-forwarded-for": "127.0.0.1"}):
            refused = asked.get(path, **headers)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith("Basic ")
            wrong = "wrong key: " if "authorization" in headers else ""
            assert refused.text == f"{wrong}server.admin_token is needed\n"
        assert asked.get(path, **BEARER).status_code == 200
        assert asked.get(f"{path}?key={ADMIN_TOKEN}").status_code == 200
        # RFC 6750 §3: a page's script gets what no window of the browser's own comes up for.
        script = asked.get(path, accept="application/json")
        assert (script.status_code, script.headers["www-authenticate"]) == (401, 'Bearer realm="Headwater"')
    assert asked.get("/api/time").status_code == 200


@pytest.mark.clause("CWE-306")
def test_health_tells_strangers_whether_the_server_is_ready_and_nothing_else(
    protected: tuple[Asked, str],
) -> None:
    asked, _ = protected
    answer = asked.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"live": True, "ready": True})
    assert asked.get("/health", authorization="Bearer wrong").json() == {"live": True, "ready": True}
    assert "radio/closed.mp3" in asked.get("/health", **BEARER).json()["services"]


@pytest.mark.clause("CWE-306")
def test_the_administrators_port_answers_it_without_the_token(protected: tuple[Asked, str]) -> None:
    asked, url = protected
    for path in PRIVATE:
        assert asked.client.get(f"{url}{path}").status_code == 200
    assert "services" in asked.client.get(f"{url}/health").json()
    # It is reached from this machine alone, by its own names. What changes something needs a key there, too.
    assert asked.client.get(f"{url}/metrics", headers={"host": "evil.example"}).status_code == 421
    assert asked.client.get(f"{url}/admin/metadata?mode=updinfo&mount=/radio/open.mp3").status_code == 401


def test_both_ports_may_be_handed_over_by_systemd_and_on_to_the_next_server(tmp_path: Path) -> None:
    with (
        contextlib.ExitStack() as stack,
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as other,
        httpx.Client(timeout=PATIENCE_SECONDS) as client,
    ):
        public, private = (f"http://127.0.0.1:{sock.getsockname()[1]}" for sock in (one, other))
        file = config(tmp_path, f'protected = ["metrics"]\nadmin_port = {other.getsockname()[1]}')
        for number in range(2):
            log = tmp_path / f"{number}.log"
            server = start(one, tmp_path, log, "--config", str(file), more=[other])
            stack.callback(server.wait)
            stack.callback(server.kill)
            wait_for(lambda log=log: "Headwater is at" in log.read_text(), "a server")  # type: ignore[misc]
        assert "as soon as the server that is there now ends" in log.read_text()
        assert client.get(f"{public}/metrics").status_code == 401
        assert client.get(f"{private}/metrics").status_code == 200


@pytest.mark.clause("CWE-306")
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/%61pi/live", 401),
        ("//api/live", 404),
        ("/api/./live", 401),
        ("/api//live", 401),
        ("/api/live/", 401),
        ("/x/../api/live", 404),
    ],
)
def test_no_other_spelling_leads_to_what_is_protected(
    protected: tuple[Asked, str], path: str, status: int
) -> None:
    assert protected[0].ask(path, "localhost") == status


def test_elsewhere_lists_are_for_pages_of_the_one_origin_that_is_named(protected: tuple[Asked, str]) -> None:
    asked, _ = protected
    assert asked.get("/api/live", **BEARER).headers["access-control-allow-origin"] == "https://player.example"
    assert asked.get("/api/live", host="some.example", **BEARER).status_code == 200
    assert "access-control-allow-origin" not in asked.get("/metrics", **BEARER).headers


@pytest.mark.clause("CWE-306")
def test_lists_are_for_no_origin_where_media_are_for_all(tmp_path: Path) -> None:
    file = config(tmp_path)
    file.write_text(file.read_text().replace("https://player.example", "*"))
    server = start_server("--config", str(file), "--host", "0.0.0.0", cwd=tmp_path)
    try:
        wait_for(lambda: "open to everybody" in server.text(), "what is open to be told")
        assert "areas='api, health, metrics'" in server.text()
        with httpx.Client(timeout=PATIENCE_SECONDS) as client:
            for path in PRIVATE:
                assert "access-control-allow-origin" not in client.get(f"{server.url}{path}").headers
            for path in ("/media/none.mp4", "/live/none/master.m3u8", "/api/time", "/events/radio/none"):
                assert client.get(f"{server.url}{path}").headers["access-control-allow-origin"] == "*"
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("server", "told"),
    [
        ({"admin_port": 8001}, "server.admin_port: answers what server.protected names"),
        ({"admin_port": 8000, "protected": ["api"]}, "server.admin_port: server.port is the same"),
        ({"protected": ["media"]}, "server.protected[0]: not possible; allowed: api, health, metrics"),
        ({"names": ["a b"]}, "server.names[0]: not possible; allowed: a host's name"),
    ],
)
def test_what_can_not_be_protected_so_is_told(server: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        load(None, {}, {"server": server})


def test_a_port_is_loopbacks_when_nothing_else_is_listened_on() -> None:
    assert loopback_ports([("127.0.0.1", 80), ("::1", 80), ("127.0.0.1", 81), ("192.0.2.1", 81)]) == {80}
    assert loopback_ports([("0.0.0.0", 80), ("127.0.0.1", 80)]) == frozenset()
    assert loopback_ports([]) == frozenset()


@pytest.mark.parametrize(
    "host", ["", "]", "[", "[::1", "::1", "[::1].evil.example", "[localhost]", "127.1", "0x7f.1", "."]
)
def test_odd_hosts_are_no_surprise(host: str) -> None:
    request = Request({"type": "http", "headers": [(b"host", host.encode())]})
    assert is_known_host(request, frozenset()) is False
    assert is_cross_site(request) is False


@pytest.mark.clause("CWE-289")
async def test_access_is_asked_of_the_route_that_is_found() -> None:
    """Starlette's pattern of a route matches before a line feed at the end, as Python's ``$`` does."""
    access = AccessPolicy(AccessOptions(frozenset({"metrics"})), Authorization(admin="token"))
    routes = [Route("/metrics", lambda _: Response("secret"))]
    guard_routes(routes, access)
    app = AccessMiddleware(Starlette(routes=routes), access)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://origin") as client:
        for path in ("/metrics", "/metrics%0a", "/%6detrics%0A"):
            assert (await client.get(path)).status_code == 401
            assert (await client.get(path, headers={"authorization": "Bearer token"})).text == "secret"


BROWSER = {
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0",
    "accept-language": "en-US",
    "upgrade-insecure-requests": "1",
}


@pytest.mark.clause("CWE-352")
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        # As libshout, butt, liquidsoap, SAM Broadcaster and curl send it.
        ({"user-agent": "libshout/2.4.6"}, 200),
        ({"user-agent": "butt 0.1.40"}, 200),
        ({"user-agent": "(Mozilla Compatible)"}, 200),
        ({}, 200),
        # What a browser sends to a server without encryption, whoever led it there.
        (BROWSER, 403),
        ({"user-agent": BROWSER["user-agent"]}, 403),
        ({"user-agent": "", "accept-language": "de"}, 403),
        ({"user-agent": "", "upgrade-insecure-requests": "1"}, 403),
        (BROWSER | {"referer": "http://stranger.example/admin/"}, 403),
        (BROWSER | {"referer": "http://origin.stranger.example/admin/"}, 403),
        (BROWSER | {"referer": "http://origin@stranger.example/admin/"}, 403),
        (BROWSER | {"referer": "http://origin/media/stranger.html"}, 403),
        (BROWSER | {"referer": "http://origin/admin/stats.xsl"}, 200),
        # What it sends where there is encryption.
        (BROWSER | {"sec-fetch-site": "none"}, 200),
        (BROWSER | {"sec-fetch-site": "same-origin"}, 200),
        (BROWSER | {"sec-fetch-site": "same-site"}, 403),
        (BROWSER | {"sec-fetch-site": "cross-site", "referer": "http://origin/admin/"}, 403),
        (BROWSER | {"origin": "http://stranger.example"}, 403),
    ],
)
@pytest.mark.parametrize("action", ["metadata", "killsource", "killclient", "moveclients", "killsource.xsl"])
async def test_no_page_of_a_stranger_leads_a_browser_to_what_changes_something(
    fields: dict[str, str], status: int, action: str
) -> None:
    access = AccessPolicy(AccessOptions(), Authorization(admin="token"))
    routes = [Route(f"/admin/{one}", lambda _: Response()) for one in (action, "stats")]
    guard_routes(routes, access)
    app = AccessMiddleware(Starlette(routes=routes), access)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://origin") as client:
        for one in list(client.headers):
            del client.headers[one]
        for method in ("GET", "HEAD"):
            answer = await client.request(method, f"/admin/{action}?mount=/radio/x", headers=fields)
            assert answer.status_code == status
        # Statistics change nothing.
        if "sec-fetch-site" not in fields and "origin" not in fields:
            assert (await client.get("/admin/stats", headers=fields)).status_code == 200
