"""Clients that were at fault are remembered by their network, for a while, and not for ever so many."""

from __future__ import annotations

import uvicorn
from uvicorn.server import ServerState

from origin.http.trusted_proxies import TrustedProxies
from origin.http1.limits import HttpLimits
from origin.http1.protocol import http_protocol
from origin.http1.shared_turns import SUSPECT_SECONDS, SUSPECTS_KEPT, SharedTurns
from origin.http3.transport import QuicTransport
from tests.fuzzing.http3 import app


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_client_is_suspect_for_a_while_with_its_network() -> None:
    clock = Clock()
    turns = SharedTurns(clock=clock)
    turns.suspect("2001:db8:1:2::3")
    turns.suspect("192.0.2.1")
    assert turns.is_suspect("2001:db8:1:2:ffff::1")
    assert not turns.is_suspect("2001:db8:1:3::3")
    assert turns.is_suspect("192.0.2.1")
    assert not turns.is_suspect("192.0.2.2")
    clock.now += SUSPECT_SECONDS / 2
    turns.suspect("192.0.2.1")
    clock.now += SUSPECT_SECONDS / 2
    assert not turns.is_suspect("2001:db8:1:2::3")
    assert turns.is_suspect("192.0.2.1")


async def test_a_proxy_is_never_suspect_nor_is_an_unknown_client() -> None:
    made = http_protocol(HttpLimits(), proxies=TrustedProxies(["192.0.2.1"]))
    config = uvicorn.Config(app, http=made, log_config=None)
    config.load()
    for host, is_suspect in (("192.0.2.1", False), ("", False), ("192.0.2.2", True)):
        connection = made(config, ServerState(), {})
        connection.connection_made(QuicTransport({"peername": (host, 1)}, lambda: None))
        connection.suspect()
        assert connection.turns.is_suspect(host) is is_suspect
        connection.connection_lost(None)


def test_the_oldest_of_many_clients_is_forgotten() -> None:
    turns = SharedTurns()
    hosts = [f"10.0.{number >> 8}.{number & 0xFF}" for number in range(SUSPECTS_KEPT + 1)]
    for host in hosts:
        turns.suspect(host)
    assert not turns.is_suspect(hosts[0])
    assert turns.is_suspect(hosts[1])
    assert turns.is_suspect(hosts[-1])
