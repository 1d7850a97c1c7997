"""Clients that were at fault are remembered by their network, for a while, and not for ever so many."""

from __future__ import annotations

from origin.http.trusted_proxies import TrustedProxies
from origin.http1.suspects import CLIENTS_KEPT, SUSPECT_SECONDS, Suspects


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_client_is_suspect_for_a_while_with_its_network() -> None:
    clock = Clock()
    suspects = Suspects(TrustedProxies(), clock)
    suspects.add("2001:db8:1:2::3")
    suspects.add("192.0.2.1")
    assert "2001:db8:1:2:ffff::1" in suspects
    assert "2001:db8:1:3::3" not in suspects
    assert "192.0.2.1" in suspects
    assert "192.0.2.2" not in suspects
    clock.now += SUSPECT_SECONDS / 2
    suspects.add("192.0.2.1")
    clock.now += SUSPECT_SECONDS / 2
    assert "2001:db8:1:2::3" not in suspects
    assert "192.0.2.1" in suspects


def test_a_proxy_is_never_suspect_nor_is_an_unknown_client() -> None:
    suspects = Suspects(TrustedProxies(["192.0.2.1"]))
    for host in ("192.0.2.1", ""):
        suspects.add(host)
        assert host not in suspects


def test_the_oldest_of_many_clients_is_forgotten() -> None:
    suspects = Suspects(TrustedProxies())
    hosts = [f"10.0.{number >> 8}.{number & 0xFF}" for number in range(CLIENTS_KEPT + 1)]
    for host in hosts:
        suspects.add(host)
    assert hosts[0] not in suspects
    assert hosts[1] in suspects
    assert hosts[-1] in suspects
