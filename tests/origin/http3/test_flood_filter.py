"""Datagrams that the kernel drops: those to connection IDs of floods, for as long as is said."""

from __future__ import annotations

import asyncio
import math
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from origin.http3.flood_filter import MOST_IDS, REFRESH_SECONDS, FloodFilter
from tests.http3_client import Http3Connection
from tests.origin.http3.server import head, https_of, send_frames, started
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other kernels have no such filter")

LOST, OTHER = b"flooders", b"neighbor"
HEADERS = {"short": b"\x40", "long": b"\xe0\x00\x00\x00\x01\x08"}
BEHIND = bytes(20)


class Pair:
    """A client's socket and a server's; the server's loses no datagram for want of room."""

    def __init__(self) -> None:
        self.server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.server.bind(("127.0.0.1", 0))
        self.server.setblocking(False)
        self.client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.client.connect(self.server.getsockname())

    def passed(self, *datagrams: bytes) -> list[bytes]:
        """Send datagrams, and return those that the server gets; they are there once they are sent."""
        found: list[bytes] = []
        for data in datagrams:
            self.client.send(data)
            try:
                found.append(self.server.recv(1 << 16))
            except BlockingIOError:
                continue
        return found

    def close(self) -> None:
        """Close both."""
        self.client.close()
        self.server.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


async def is_refreshed(refreshed: FloodFilter) -> None:
    """Wait until the kernel has the filter of now."""
    while refreshed._timer.due <= asyncio.get_running_loop().time() + 1:
        await asyncio.sleep(REFRESH_SECONDS)


async def test_the_kernel_drops_what_goes_to_a_flood_in_either_form(pair: Pair) -> None:
    loop = asyncio.get_running_loop()
    dropping = FloodFilter(pair.server, loop)
    lost = [header + LOST + BEHIND for header in HEADERS.values()]
    others = [
        header + one + BEHIND for header in HEADERS.values() for one in (OTHER, LOST[:7] + b"z", b"x" + LOST)
    ]
    assert pair.passed(*lost, *others) == lost + others
    dropping.drop([LOST], loop.time() + 3600)
    await is_refreshed(dropping)
    assert pair.passed(*lost, *others) == others
    # Too short to tell: no packets of QUIC.
    assert pair.passed(b"", b"\x40", *(header + LOST[:7] for header in HEADERS.values())) == []
    dropping.close()
    assert pair.passed(*lost, *others) == lost + others


async def test_a_flood_is_read_again_when_its_time_is_over(pair: Pair) -> None:
    loop = asyncio.get_running_loop()
    dropping = FloodFilter(pair.server, loop)
    datagrams = [HEADERS["short"] + LOST + BEHIND, HEADERS["short"] + OTHER + BEHIND]
    dropping.drop([LOST], loop.time() + 7200)
    dropping.drop([OTHER], loop.time() + 3600)
    await is_refreshed(dropping)
    assert pair.passed(*datagrams) == []
    dropping.drop([OTHER], loop.time())
    await is_refreshed(dropping)
    assert pair.passed(*datagrams) == datagrams[1:]
    dropping.drop([LOST], loop.time())
    await is_refreshed(dropping)
    assert math.isinf(dropping._timer.due)
    assert pair.passed(*datagrams, b"\x40") == [*datagrams, b"\x40"]


async def test_as_many_floods_as_there_is_room_for_are_dropped(pair: Pair) -> None:
    loop = asyncio.get_running_loop()
    dropping = FloodFilter(pair.server, loop)
    ids = [number.to_bytes(8) for number in range(MOST_IDS + 5)]
    dropping.drop(ids, loop.time() + 3600)
    await is_refreshed(dropping)
    datagrams = [HEADERS["short"] + one + BEHIND for one in ids]
    assert pair.passed(*datagrams) == datagrams[MOST_IDS:]
    dropping.close()


async def test_connection_ids_of_another_length_are_left_alone(pair: Pair) -> None:
    loop = asyncio.get_running_loop()
    dropping = FloodFilter(pair.server, loop)
    dropping.drop([b"", LOST[:4], os.urandom(20)], loop.time() + 3600)
    assert math.isinf(dropping._timer.due)


async def test_a_kernel_that_does_not_filter_is_asked_once(pair: Pair) -> None:
    loop = asyncio.get_running_loop()
    dropping = FloodFilter(pair.server, loop)
    # socket(7): from now on the filter can't be changed.
    pair.server.setsockopt(socket.SOL_SOCKET, 44, 1)
    dropping.drop([LOST], loop.time() + 3600)
    await is_refreshed(dropping)
    dropping.drop([LOST], loop.time() + 3600)
    assert math.isinf(dropping._timer.due)
    data = HEADERS["short"] + LOST + BEHIND
    assert pair.passed(data) == [data]


def dropped(port: int) -> int:
    """Return how many datagrams to a port the kernel has dropped (proc_net_udp(5))."""
    lines = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return sum(int(fields[-1]) for fields in lines if fields[1].endswith(f":{port:04X}"))


def test_the_kernel_drops_a_flood_of_a_client_that_is_read_again_afterwards(tmp_path: Path) -> None:
    server = started(tmp_path)
    address = https_of(server)
    flooder, player = Http3Connection(address), Http3Connection(address)

    def is_filtered() -> bool:
        # Few at a time, so that none is dropped for want of room.
        for _ in range(20):
            send_frames(flooder, [b"\x01"] * 20, 1)
        return dropped(int(address.rpartition(":")[2])) > 0

    wait_for(is_filtered, "a filter of the kernel's")
    for one in (player, flooder):
        number = one.call(one.protocol.request, head("/media/short.txt"))
        assert isinstance(one.protocol.answers[number].get(timeout=CLIENT_SECONDS), list)
        one.close()
    server.stop()
