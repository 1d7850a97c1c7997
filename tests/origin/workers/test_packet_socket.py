"""Messages between processes arrive whole, in order and with their descriptors, and what waits is limited."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from origin.server.services.limits import ServerLimits
from origin.workers.packet_socket import PacketSocket
from tests.waiting import until

LIMITS = ServerLimits(packet_bytes=1000, packets_waiting=10, waiting_bytes=100_000, message_bytes=50_000)


@dataclass
class End:
    """One end, what came there, and how often it was lost."""

    packets: PacketSocket | None = None
    messages: list[bytes] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    lost: int = 0

    def receive(self, message: bytes, descriptors: list[int]) -> None:
        self.messages.append(message)
        self.descriptors += descriptors

    def lose(self) -> None:
        self.lost += 1


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        yield one, other


def opened(end: End, sock: socket.socket, limits: ServerLimits = LIMITS) -> PacketSocket:
    end.packets = PacketSocket(sock, end.receive, end.lose, limits)
    return end.packets


async def test_messages_of_any_length_come_in_order(sockets: tuple[socket.socket, socket.socket]) -> None:
    here, there = End(), End()
    sender, receiver = opened(here, sockets[0]), opened(there, sockets[1])
    sent = [bytes([number]) * length for number, length in enumerate((0, 1, 998, 999, 1000, 1001, 50_000))]
    for message in sent:
        sender.send(message)
    await until(lambda: len(there.messages) == len(sent))
    assert there.messages == sent
    sender.close()
    await until(lambda: there.lost)
    receiver.close()
    assert (here.lost, there.lost) == (0, 1)


@pytest.mark.parametrize("length", [1, 5000])
async def test_a_descriptor_comes_along_and_is_closed_here(
    sockets: tuple[socket.socket, socket.socket], length: int
) -> None:
    there = End()
    sender, receiver = opened(End(), sockets[0]), opened(there, sockets[1])
    reading, writing = os.pipe2(os.O_NONBLOCK)
    sender.send(b"x" * length, (writing,))
    await until(lambda: there.descriptors)
    (received,) = there.descriptors
    assert not os.get_inheritable(received)
    os.write(received, b"told")
    os.close(received)
    assert os.read(reading, 10) == b"told"
    assert os.read(reading, 10) == b""  # nobody else has it
    os.close(reading)
    sender.close()
    receiver.close()


async def test_what_waits_for_the_other_end_is_limited_and_goes_on(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    there = End()
    sender = opened(End(), sockets[0])
    count = 0
    while sender.has_room:
        sender.send(b"%d" % count)
        count += 1
        assert count < 100_000
    receiver = opened(there, sockets[1])
    await asyncio.wait_for(sender.wait_until_sent(), 60)
    await until(lambda: len(there.messages) == count)
    assert there.messages == [b"%d" % number for number in range(count)]
    sender.close()
    receiver.close()


async def test_closing_drops_what_waits_with_its_descriptors(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    sender = opened(End(), sockets[0])
    while sender.has_room:
        sender.send(b"")
    reading, writing = os.pipe2(os.O_NONBLOCK)
    sender.send(b"", (writing,))
    sender.close()
    assert os.read(reading, 10) == b""
    os.close(reading)


@pytest.mark.parametrize("packet", [b"\1", b"\0" * 2000, b"\1file"])
async def test_what_is_no_packet_of_ours_ends_the_connection(
    sockets: tuple[socket.socket, socket.socket], packet: bytes
) -> None:
    there = End()
    receiver = opened(there, sockets[1])
    sockets[0].send(packet)
    await until(lambda: there.lost)
    assert there.messages == []
    receiver.close()


async def test_a_message_that_is_too_long_ends_the_connection(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    there = End()
    sender, receiver = opened(End(), sockets[0]), opened(there, sockets[1])
    sender.send(bytes(LIMITS.message_bytes + 1))
    await until(lambda: there.lost)
    assert there.messages == []
    sender.close()
    receiver.close()


async def test_descriptors_wait_in_the_other_process_while_there_is_no_room_for_them(
    sockets: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    there, looks = End(), list[int]()

    def look(_descriptor: int, kept: int) -> bool:
        looks.append(kept)
        return len(looks) > 3

    monkeypatch.setattr("origin.workers.packet_socket.highest_descriptor", lambda _: 0)
    monkeypatch.setattr("origin.workers.packet_socket.has_room", look)
    sender = opened(End(), sockets[0])
    receiver = PacketSocket(sockets[1], there.receive, there.lose, LIMITS, kept_descriptors=5)
    for number in range(2):
        reading, writing = os.pipe2(os.O_NONBLOCK)
        os.close(writing)
        sender.send(b"%d" % number, (reading,))
    await until(lambda: len(there.messages) == 2)
    assert looks[:4] == [5] * 4  # before the second one was read
    assert there.messages == [b"0", b"1"]
    for descriptor in there.descriptors:
        os.close(descriptor)
    sender.close()
    receiver.close()
