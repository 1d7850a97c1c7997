"""Cookies of sources and relayed stations: kept and sent, but never more than fit."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from origin.radio.mounts.limits import RadioLimits
from origin.radio.relay import Relay, RelayOptions
from packager.retry_policy import RetryPolicy
from packager.sources.limits import GuardLimits
from packager.sources.pullers.bounded_cookies import BoundedCookies
from packager.sources.pullers.guarded_http import certificates, guarded_client
from tests.waiting import until

REQUESTS = 40


@contextlib.contextmanager
def setting_cookies(cookie_of: Callable[[int], str]) -> Iterator[tuple[str, list[str]]]:
    """Serve answers with cookies by their number; gives the address, and the cookies of each request."""
    received: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            received.append(self.headers["cookie"] or "")
            self.send_response(503)
            self.send_header("set-cookie", cookie_of(len(received) - 1))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def names(field: str) -> set[str]:
    """Give the names in a request's field Cookie."""
    return {one.partition("=")[0] for one in field.split("; ") if one}


@pytest.mark.parametrize(
    ("cookie_of", "kept"),
    [
        (lambda number: f"n{number}=1", [35, 36, 37, 38, 39]),
        (lambda number: f"n{number}={3000 * 'x'}", [37, 38, 39]),
        (lambda number: f"n{number}=1; Path=/{'' if number > 37 else number}", [38, 39]),
        (lambda number: f"n{number}={'x' * (20_000 if number else 1)}", [0]),
        (lambda number: f"n{number % 3}={number}", [0, 1, 2]),
        (lambda number: f"n{number}=1; Max-Age={0 if number > 3 else 1000}", [0, 1, 2, 3]),
    ],
    ids=["many", "long", "at many paths", "one too long", "the same again", "taken back"],
)
async def test_the_newest_cookies_that_fit_are_kept_and_sent(
    cookie_of: Callable[[int], str], kept: list[int]
) -> None:
    await asyncio.to_thread(certificates)
    limits = GuardLimits(cookies=5, cookie_bytes=10_000)
    with setting_cookies(cookie_of) as (url, received):
        async with guarded_client(url, limits) as client:
            for _ in range(REQUESTS + 1):
                await client.get(url)
                jar = client.cookies.jar
                assert isinstance(jar, BoundedCookies)
                assert len(jar) <= limits.cookies
                # Nothing stays of the paths of cookies that are gone.
                paths = jar._cookies.values()  # type: ignore[attr-defined]
                assert sum(len(one) for one in paths) <= limits.cookies
    assert all(len(field) <= limits.cookie_bytes for field in received)
    assert names(received[REQUESTS]) == {f"n{number}" for number in kept}


async def test_a_relay_that_asks_again_and_again_sends_no_more_than_fits() -> None:
    guard = GuardLimits(cookies=5)
    limits = RadioLimits(guard=guard, relay_retry=RetryPolicy(0.001, 0.001))
    with setting_cookies(lambda number: f"n{number}=1") as (url, received):
        relay = Relay(RelayOptions("copy", url, limits=limits))

        async def listen() -> None:
            async for _ in relay.blocks():
                pass

        listening = asyncio.create_task(listen())
        await until(lambda: len(received) > REQUESTS)
        listening.cancel()
        await asyncio.wait([listening])
    assert len(names(received[REQUESTS])) == guard.cookies
