"""SRT handshakes beyond a limit are dropped by the kernel, before libsrt makes a socket for them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from origin.ingest.handshake_limit import (
    A_SECOND,
    AT_ONCE,
    NETWORK_A_SECOND,
    NETWORK_AT_ONCE,
    PAUSE_SECONDS,
    HandshakeLimit,
)
from origin.ingest.libsrt import HandshakeAnswer, Libsrt
from origin.ingest.limits import IngestLimits
from origin.ingest.srt_receiver import SrtConnection, SrtReceiver
from tests.srt import HandshakeSender, calling, udp_port
from tests.waiting import until

HANDSHAKE, DATA = b"\x80\x00" + bytes(62), bytes(64)
FAMILIES = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]


class Limit(HandshakeLimit):
    """A limit with a time of its own."""

    def __init__(self) -> None:
        self.now = 100.0
        super().__init__(lambda: self.now)

    def fill(self, address: str) -> None:
        """Send handshakes until there are too many."""
        assert any(not self.acquire(address) for _ in range(NETWORK_AT_ONCE + 1))


@contextlib.contextmanager
def guarded(limit: HandshakeLimit, family: int, host: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give a guarded socket and one that sends to it."""
    with socket.socket(family, socket.SOCK_DGRAM) as ours, socket.socket(family, socket.SOCK_DGRAM) as theirs:
        ours.bind((host, 0))
        theirs.connect(ours.getsockname())
        limit.guard([ours])
        yield ours, theirs


def arrived(ours: socket.socket, theirs: socket.socket, data: bytes) -> bool:
    """Tell whether a packet passes; one of data follows, which always does."""
    theirs.send(data)
    theirs.send(DATA)
    ours.settimeout(10)
    found = [ours.recv(100)]
    while found[-1] != DATA:
        found.append(ours.recv(100))
    if data == DATA:
        found.append(ours.recv(100))
    return data in found[:-1]


def test_a_network_has_some_handshakes_at_once_and_some_more_in_each_second() -> None:
    limit = Limit()
    assert [limit.acquire("192.0.2.1") for _ in range(NETWORK_AT_ONCE + 1)] == [True] * NETWORK_AT_ONCE + [
        False
    ]
    assert limit.acquire("192.0.2.2")
    limit.now += 1.0
    assert [limit.acquire("192.0.2.1") for _ in range(int(NETWORK_A_SECOND) + 1)][-2:] == [True, False]


def test_a_64_of_ipv6_is_one_network() -> None:
    limit = Limit()
    found = [limit.acquire(f"2001:db8::{number:x}") for number in range(NETWORK_AT_ONCE + 1)]
    assert found[-2:] == [True, False]
    assert limit.acquire("2001:db8:0:1::1")


def test_all_networks_together_have_a_limit() -> None:
    limit = Limit()
    found = [limit.acquire(f"192.0.{number >> 8}.{number & 255}") for number in range(AT_ONCE + 1)]
    assert found == [True] * AT_ONCE + [False]
    limit.now += 1.0
    found = [limit.acquire(f"198.51.{number >> 8}.{number & 255}") for number in range(int(A_SECOND) + 1)]
    assert found[-2:] == [True, False]


@pytest.mark.parametrize(("family", "host"), FAMILIES, ids=["IPv4", "IPv6"])
def test_handshakes_of_a_network_beyond_its_limit_are_dropped_and_packets_of_streams_pass(
    family: int, host: str
) -> None:
    limit = Limit()
    with guarded(limit, family, host) as (ours, theirs):
        assert arrived(ours, theirs, HANDSHAKE)
        limit.fill(host)
        assert not arrived(ours, theirs, HANDSHAKE)
        assert arrived(ours, theirs, DATA)
        limit.now += PAUSE_SECONDS
        limit.lift()
        assert arrived(ours, theirs, HANDSHAKE)


@pytest.mark.parametrize(("family", "host"), FAMILIES, ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    "others",
    [["192.0.2.1"], ["2001:db8::1"], ["192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8:1::"], [""]],
)
def test_other_networks_are_heard_meanwhile(family: int, host: str, others: list[str]) -> None:
    limit = Limit()
    with guarded(limit, family, host) as (ours, theirs):
        for other in others:
            limit.fill(other)
        assert arrived(ours, theirs, HANDSHAKE)
        limit.fill(host)
        assert not arrived(ours, theirs, HANDSHAKE)


@pytest.mark.parametrize(("family", "host"), FAMILIES, ids=["IPv4", "IPv6"])
def test_nobody_is_heard_for_a_moment_beyond_the_limit_of_all(family: int, host: str) -> None:
    limit = Limit()
    with guarded(limit, family, host) as (ours, theirs):
        for number in range(AT_ONCE + 1):
            limit.acquire(f"192.0.{number >> 8}.{number & 255}")
        assert not arrived(ours, theirs, HANDSHAKE)
        assert arrived(ours, theirs, DATA)
        limit.now += PAUSE_SECONDS
        limit.lift()
        assert arrived(ours, theirs, HANDSHAKE)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_flood_of_handshakes_reaches_libsrt_within_the_limit_and_others_publish() -> None:
    port, found, judged = udp_port(), list[SrtConnection](), list[str]()

    def judge(address: str, stream_id: bytes) -> HandshakeAnswer:
        judged.append(address)
        return HandshakeAnswer(1401 if stream_id == b"guess" else 0)

    receiver = SrtReceiver(Libsrt(), judge, found.append, IngestLimits())
    thread = threading.Thread(target=receiver.run, args=([(socket.AF_INET, ("127.0.0.1", port))], 60.0))
    thread.start()
    ended = threading.Event()

    def flood() -> int:
        sender, sent = HandshakeSender(port, "127.0.0.2", b"guess"), 0
        try:
            while not ended.wait(0.001):
                sender.send(10)
                sent += 10
        finally:
            sender.close()
        return sent

    try:
        # Calls wait in libsrt, whose threads admit them.
        with calling(port, "first") as first:
            await until(lambda: found, "the first connection")
            flooding = asyncio.create_task(asyncio.to_thread(flood))
            await until(lambda: judged.count("127.0.0.2") >= NETWORK_AT_ONCE, "the flood")
            begun = asyncio.get_running_loop().time()
            with calling(port, "second") as second:
                await until(lambda: len(found) == 2, "a connection during the flood")
                for caller, connection in zip((first, second), found, strict=True):
                    assert caller.send(b"data" * 329)
                    async with asyncio.timeout(60):
                        assert await connection.read() == b"data" * 329
            ended.set()
            sent = await flooding
            seconds = asyncio.get_running_loop().time() - begun
            heard = judged.count("127.0.0.2")
            assert heard <= NETWORK_AT_ONCE + 1 + (NETWORK_A_SECOND + 1) * (seconds + 1)
            assert heard < sent
    finally:
        ended.set()
        receiver.stop()
        await asyncio.to_thread(thread.join)
