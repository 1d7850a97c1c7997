"""What one client may have at once: counted purely, and by a real server."""

from __future__ import annotations

import contextlib
import http.client
import re
import select
import socket
import subprocess
from collections.abc import Iterator

import pytest

from origin.config.limit_options import LimitOptions
from origin.config.options import Config
from origin.http.client_limits import ClientLimit, network_of
from origin.http.trusted_proxies import TrustedProxies
from origin.server.http_config import client_limits_of
from packager.process.ffmpeg_discovery import Tools
from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.waiting import wait_for


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("203.0.113.5", "203.0.113.5"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("nobody", "nobody"),
    ],
)
def test_a_client_is_an_address_or_a_household(host: str, network: str) -> None:
    assert network_of(host) == network


def test_what_is_given_back_may_be_taken_again_and_nothing_is_kept() -> None:
    limit = ClientLimit(2, lambda host: host == "10.0.0.1")
    assert [limit.acquire("2001:db8::1"), limit.acquire("2001:db8::2"), limit.acquire("2001:db8::3")] == [
        True,
        True,
        False,
    ]
    assert limit.acquire("2001:db8:0:1::1")
    assert all(limit.acquire("10.0.0.1") for _ in range(100))
    limit.give_back("2001:db8::9")
    assert limit.acquire("2001:db8::3")
    for host in ("2001:db8::1", "2001:db8::1", "2001:db8:0:1::1", *["10.0.0.1"] * 100):
        limit.give_back(host)
    assert not limit._held


def taken(limit: ClientLimit, host: str) -> int:
    count = 0
    while count < 3000 and limit.acquire(host):
        count += 1
    return count


def test_while_nothing_is_configured_strangers_have_an_eighth_and_this_machine_all() -> None:
    proxies = TrustedProxies(["192.0.2.1"])
    limits = client_limits_of(Config(), proxies)
    assert taken(limits.connections, "203.0.113.5") == 1024
    assert taken(limits.listeners, "203.0.113.5") == 1000
    assert taken(limits.blocked_requests, "203.0.113.5") == 1250
    assert taken(limits.event_readers, "203.0.113.5") == 625
    for host in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "192.0.2.1", "::ffff:192.0.2.1"):
        assert taken(limits.connections, host) == 3000
    configured = client_limits_of(Config(limits=LimitOptions(connections_per_address=3)), proxies)
    assert taken(configured.connections, "127.0.0.1") == taken(configured.connections, "203.0.113.5") == 3
    assert taken(configured.connections, "192.0.2.1") == 3000


def test_clients_that_a_trusted_proxy_does_not_name_count_as_one() -> None:
    proxies = TrustedProxies(["192.0.2.1", "127.0.0.1"])
    limits = client_limits_of(Config(), proxies)
    assert taken(limits.listeners, "192.0.2.1") == taken(limits.listeners, "127.0.0.1") == 1000
    assert taken(limits.event_readers, "") == 625
    assert taken(limits.listeners, "127.0.0.2") == 3000
    options = LimitOptions(listeners_per_address=3, event_readers_per_address=3)
    configured = client_limits_of(Config(limits=options), proxies)
    for host in ("192.0.2.1", "127.0.0.1", "127.0.0.2", ""):
        assert taken(configured.listeners, host) == taken(configured.event_readers, host) == 3


CONFIG = """
[server]
port = 0
trusted_proxies = ["127.0.0.9"]

[[radio]]
name = "one.mp3"
folder = "music"
hls = false

[[events]]
name = "test"

[limits]
connections_per_address = 6
listeners_per_address = 2
blocked_requests_per_address = 2
event_readers_per_address = 2
"""
PROXY = "127.0.0.9"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tools: Tools) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("limited")
    for name in ("library", "music"):
        (folder / name).mkdir()
    words = ["-loglevel", "error", "-f", "lavfi", "-i", "sine", "-t", "10", "-b:a", "128k"]
    subprocess.run([tools.ffmpeg, *words, folder / "music" / "sine.mp3"], check=True)
    (folder / "headwater.toml").write_text(
        CONFIG + copied_channel("test", "part_duration = 0.5", "segment_duration = 1.0")
    )
    with start_server("--config", "headwater.toml", "--library", "library", cwd=folder) as server:
        wait_for(lambda: status(server, "/live/test/source/media.m3u8") == 200, "the first segment")
        wait_for(lambda: status(server, "/radio/one.mp3", method="HEAD") == 200, "the station")
        yield server


@contextlib.contextmanager
def asking(
    server: ServerProcess, target: str, *, peer: str = "127.0.0.3", method: str = "GET", **fields: str
) -> Iterator[http.client.HTTPConnection]:
    """A request that is on its way."""
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    client = http.client.HTTPConnection(host, int(port), timeout=60, source_address=(peer, 0))
    try:
        client.request(
            method, target, headers={name.replace("_", "-"): text for name, text in fields.items()}
        )
        yield client
    finally:
        client.close()


def status(
    server: ServerProcess, target: str, *, peer: str = "127.0.0.4", method: str = "GET", **fields: str
) -> int:
    with asking(server, target, peer=peer, method=method, **fields) as client:
        return client.getresponse().status


def metric(server: ServerProcess, name: str) -> float:
    with asking(server, "/metrics", peer="127.0.0.4") as client:
        found = re.search(rf"^{name} (\S+)", client.getresponse().read().decode(), re.MULTILINE)
    assert found is not None
    return float(found[1])


@pytest.mark.promise("limits.connections_per_address")
@pytest.mark.clause("Connections have a limit, in all and for each client")
def test_one_client_has_no_more_connections_than_it_may(server: ServerProcess) -> None:
    with contextlib.ExitStack() as stack:
        mine = [stack.enter_context(asking(server, "/health", peer="127.0.0.5")) for _ in range(6)]
        assert [each.getresponse().status for each in mine] == [200] * 6
        with asking(server, "/health", peer="127.0.0.5") as client:
            answer = client.getresponse()
            assert (answer.status, answer.headers["retry-after"]) == (429, "10")
        # Others are served, and so is whoever is a trusted proxy.
        assert status(server, "/health", peer="127.0.0.6") == 200
        proxied = [stack.enter_context(asking(server, "/health", peer=PROXY)) for _ in range(12)]
        assert [each.getresponse().status for each in proxied] == [200] * 12
    wait_for(lambda: status(server, "/health", peer="127.0.0.5") == 200, "its place")


def test_far_more_connections_than_one_client_may_have_are_cut(server: ServerProcess) -> None:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    with contextlib.ExitStack() as stack:

        def connect() -> socket.socket:
            return stack.enter_context(socket.create_connection((host, int(port)), 60, ("127.0.0.7", 0)))

        kept = [connect() for _ in range(6 + 16)]
        for _ in range(20):
            with contextlib.suppress(ConnectionError):
                assert connect().recv(1) == b""
        assert status(server, "/health") == 200
        kept[0].sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert kept[0].recv(12) == b"HTTP/1.1 200"


LISTENERS, READERS = (
    'headwater_radio_listeners\\{mount="one.mp3"\\}',
    'headwater_events_readers\\{channel=".*"\\}',
)


@pytest.mark.promise("limits.listeners_per_address", "limits.event_readers_per_address")
@pytest.mark.parametrize(
    ("target", "counted"), [("/radio/one.mp3", LISTENERS), ("/events/radio/one.mp3", READERS)]
)
def test_one_client_is_no_more_listeners_and_readers_than_it_may(
    server: ServerProcess, target: str, counted: str
) -> None:
    wait_for(lambda: metric(server, counted) == 0, "those of before to go")
    with contextlib.ExitStack() as stack:
        # What has them has the connections.
        heard: list[http.client.HTTPResponse] = []
        for fields in ({}, {"peer": PROXY, "X_Forwarded_For": "203.0.113.5"}):
            for _ in range(2):
                heard.append(stack.enter_context(asking(server, target, **fields)).getresponse())
                stack.callback(heard[-1].close)
                assert heard[-1].status == 200
            # Whether it comes by itself or by a proxy.
            assert status(server, target, **{"peer": "127.0.0.3", **fields}) == 429
        assert status(server, target, peer=PROXY, X_Forwarded_For="203.0.113.6") == 200
        # HEAD takes no place.
        assert status(server, target, peer="127.0.0.3", method="HEAD") == 200
    wait_for(lambda: status(server, target, peer="127.0.0.3") == 200, "its place")


@pytest.mark.promise("limits.blocked_requests_per_address")
@pytest.mark.parametrize("conditions", [{}, {"If_Match": "*"}], ids=["connection", "application"])
def test_one_client_has_no_more_requests_wait_than_it_may(
    server: ServerProcess, conditions: dict[str, str]
) -> None:
    def one_of_three_is_refused() -> bool:
        with asking(server, "/live/test/source/media.m3u8") as client:
            text = client.getresponse().read().decode()
        # A segment that is still a second away or two.
        number = int(re.findall(r"^(\d+)\.m4s$", text, re.MULTILINE)[-1]) + 2
        target = f"/live/test/source/media.m3u8?_HLS_msn={number}"
        with contextlib.ExitStack() as stack:
            mine = [stack.enter_context(asking(server, target, **stranger)) for _ in range(3)]
            answered, _, _ = select.select([each.sock for each in mine], [], [], 60)
            statuses = [each.getresponse().status for each in mine if each.sock in answered]
            if statuses != [429]:
                # The numbers went on meanwhile: the first of them had nothing to wait for any more.
                return False
            waiting = [each for each in mine if each.sock not in answered]
            assert [each.getresponse().status for each in waiting] == [200, 200]
            return True

    stranger = {"peer": PROXY, "X_Forwarded_For": "203.0.113.5", **conditions}
    wait_for(one_of_three_is_refused, "a third request that is refused while two wait")
    target = "/live/test/source/media.m3u8?_HLS_msn=0"
    assert status(server, target, **stranger) == 200, "it has its place again"


@pytest.mark.clause("CWE-348")
@pytest.mark.parametrize("path", ["/events/test", "/radio/one.mp3"])
def test_no_forwarded_field_of_a_clients_own_frees_it_from_limits(server: ServerProcess, path: str) -> None:
    """The proxy writes X-Forwarded-For alone, as nginx does, and passes Forwarded on."""
    with contextlib.ExitStack() as stack:
        found = list[http.client.HTTPResponse]()
        for number in range(5):
            forged = {"Forwarded": f"for=198.51.100.{number}"}
            asked = asking(server, path, peer=PROXY, X_Forwarded_For="203.0.113.77", **forged)
            # The answer keeps the connection open.
            found.append(stack.enter_context(asked).getresponse())
        assert [one.status for one in found] == [200, 200, 429, 429, 429]
        found.clear()
    # Nor is a client exempt that the proxy doesn't name.
    with contextlib.ExitStack() as stack:
        unnamed = [stack.enter_context(asking(server, path, peer=PROXY)).getresponse() for _ in range(3)]
        assert [one.status for one in unnamed] == [200, 200, 429]
