"""A crowd of players on one thread, as lean as can be: what is measured is the server, not they.

When an answer was complete is what the kernel says of its last bytes: a thousand players take their turns on
one core, which others use too, and no player in earnest waits for another one's.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

RECEIVE_BYTES = 1 << 20
SO_TIMESTAMPNS = 35
"""Linux: tell when the bytes came, by the clock of the day, as seconds and nanoseconds (socket(7))."""

STAMP = struct.Struct("@ll")
PATIENCE_SECONDS = 30

Position = tuple[int, int]
"""Media sequence number and part index."""


def moment_of(told: Sequence[tuple[int, int, bytes]]) -> float:
    """Return when bytes came, by the clock of the day; without the kernel's word it is now.

    Args:
        told: ancillary data. Linux has none for the first bytes behind the first wish for them.
    """
    if not told:
        return time.time()
    seconds, nanoseconds = STAMP.unpack(told[0][2])
    return float(seconds + nanoseconds / 1e9)


@dataclass(slots=True)
class Player:
    """One connection that asks for one thing after the other.

    Attributes:
        path: what it asks for, with {number} and {index}.
        position: of the part that it waits for.
        moment: when the bytes taken last came, by the clock of the day.
    """

    path: str
    position: Position
    socket: socket.socket = field(default_factory=socket.socket)
    left: int = 0
    moment: float = 0.0

    def ask(self) -> None:
        """Ask for what comes next."""
        number, index = self.position
        target = self.path.format(number=number, index=index)
        self.socket.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    def receive(self, buffer: bytearray) -> bool:
        """Take what has come. Returns whether the answer is complete."""
        count, told, _, _ = self.socket.recvmsg_into((buffer,), socket.CMSG_SPACE(STAMP.size))
        if count == 0:
            raise ConnectionError("the server closed a connection")
        self.moment = moment_of(told)
        if self.left == 0:
            end = buffer.index(b"\r\n\r\n", 0, count) + 4
            if not buffer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(buffer[:end].decode("latin-1"))
            start = buffer.index(b"content-length: ") + 16
            self.left = int(buffer[start : buffer.index(b"\r", start)])
            count -= end
        self.left -= count
        return self.left == 0


class Crowd:
    """Players of several kinds.

    Args:
        address: of the server.
        following: gives the part behind a part.

    Attributes:
        received: the part that each answer had, and when it was complete, by the monotonic clock.
    """

    def __init__(self, address: tuple[str, int], following: Callable[[Position], Position]) -> None:
        self._address = address
        self._following = following
        self._players: dict[int, Player] = {}
        self._poll = select.epoll()
        self._buffer = bytearray(RECEIVE_BYTES)
        self._answered: list[Player] = []
        self._epoch = time.time() - time.monotonic()
        self.received: list[tuple[Position, float]] = []

    def join(self, path: str, position: Position) -> None:
        """Let one more player ask."""
        player = Player(path, position)
        player.socket.connect(self._address)
        player.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        player.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._players[player.socket.fileno()] = player
        self._poll.register(player.socket.fileno(), select.EPOLLIN)
        player.ask()

    def follow(self, until: Callable[[], bool]) -> None:
        """Take answers and ask on, until a condition holds; ask it before each wait.

        Raises:
            TimeoutError: nobody gets an answer any more.
        """
        answered = self._answered
        while not until():
            events = self._poll.poll(0 if answered else PATIENCE_SECONDS, len(self._players))
            for descriptor, _ in events:
                player = self._players[descriptor]
                if player.receive(self._buffer):
                    self.received.append((player.position, player.moment - self._epoch))
                    player.position = self._following(player.position)
                    answered.append(player)
            if not events and not answered:
                raise TimeoutError(f"no answer in {PATIENCE_SECONDS} s, behind {len(self.received)}")
            if not events:
                # In earnest each has its own machine: nobody's asking delays another one's receiving.
                for player in answered:
                    player.ask()
                answered.clear()

    def leave(self) -> None:
        """Close all connections."""
        self._poll.close()
        for player in self._players.values():
            player.socket.close()
