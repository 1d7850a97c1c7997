"""A crowd of radio listeners: ``python -m tests.benchmarks.listeners PORT PATH COUNT SECONDS [titles]``.

They come within some seconds, listen, and leave. What they saw is written as one line of JSON: how long the
first byte of audio took, and how far apart listeners got the same frame (frames carry numbers). When a frame
came is told by the kernel, since reading thousands of sockets takes as long as writing to them. With
``titles`` they ask for metadata.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from collections import defaultdict

JOIN_PER_SECOND = 400
FRAME_HEAD = b"\xff\xfb\x90\x00"
FRAME_BYTES = 417
NUMBER = slice(36, 44)

SO_TIMESTAMPNS = 35
"""socket(7): each message comes with the wall clock's seconds and nanoseconds of its arrival."""

TIMESPEC = struct.Struct("@ll")


class Crowd:
    """The listeners' sockets and what came on them."""

    def __init__(self, port: int, path: str, *, titles: bool = False) -> None:
        self._address = ("127.0.0.1", port)
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "User-Agent: crowd"]
        lines += ["Icy-MetaData: 1"] if titles else []
        self._request = "\r\n".join([*lines, "", ""]).encode()
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._connected: dict[int, float] = {}
        self.first_byte: list[float] = []
        self.ended = 0
        self.received = 0
        self.arrivals: dict[int, list[float]] = defaultdict(list)

    def join(self) -> None:
        """Connect one more and ask."""
        connection = socket.socket()
        started = time.monotonic()
        connection.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        connection.connect(self._address)
        connection.sendall(self._request)
        connection.setblocking(False)
        number = connection.fileno()
        self._sockets[number] = connection
        self._connected[number] = started
        self._poll.register(number, select.EPOLLIN)

    def listen(self, until: float, *, noting: bool = False) -> None:
        """Read whatever comes until a time."""
        while (left := until - time.monotonic()) > 0:
            for number, _ in self._poll.poll(min(left, 0.1), 256):
                self._read(number, noting=noting)

    def _read(self, number: int, *, noting: bool) -> None:
        try:
            data, told, _, _ = self._sockets[number].recvmsg(256 * 1024, socket.CMSG_SPACE(TIMESPEC.size))
        except BlockingIOError:
            return
        except OSError:
            data, told = b"", []
        now = time.monotonic()
        if not data:
            self._poll.unregister(number)
            self._sockets.pop(number).close()
            self.ended += 1
            return
        self.received += len(data)
        if number in self._connected and FRAME_HEAD in data:
            self.first_byte.append(now - self._connected.pop(number))
        if noting:
            # The newest whole frame tells which audio this is.
            start = data.rfind(FRAME_HEAD, 0, len(data) - NUMBER.stop)
            if start >= 0:
                frame = data[start : start + FRAME_BYTES]
                self.arrivals[int.from_bytes(frame[NUMBER], "big")].append(_arrival(told))

    def leave(self) -> None:
        """Close all connections at once."""
        for connection in self._sockets.values():
            connection.close()
        self._sockets.clear()

    def spreads(self, count: int) -> list[float]:
        """Seconds in which 99 of a hundred listeners get a frame, for those that most noted."""
        noted = [times for times in self.arrivals.values() if len(times) > count * 0.5]
        return [percentile(times, 0.99) - min(times) for times in noted]


def _arrival(told: list[tuple[int, int, bytes]]) -> float:
    """Seconds of the wall clock when the newest of what was read came."""
    seconds, nanoseconds = next(TIMESPEC.unpack(data) for _, kind, data in told if kind == SO_TIMESTAMPNS)
    return float(seconds + nanoseconds / 1e9)


def percentile(values: list[float], share: float) -> float:
    """The value that this share doesn't exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


def main() -> None:
    """Join, say so, listen, report."""
    port, path, count, seconds = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    crowd = Crowd(port, path, titles="titles" in sys.argv[5:])
    for _ in range(count):
        crowd.join()
        crowd.listen(time.monotonic() + 1 / JOIN_PER_SECOND)
    crowd.listen(time.monotonic() + 3)
    print("joined", flush=True)  # noqa: T201  # whoever measures begins now
    before = crowd.received
    started = time.monotonic()
    crowd.listen(started + seconds, noting=True)
    spreads = crowd.spreads(count)
    report = {
        "first_byte_p50": percentile(crowd.first_byte, 0.5),
        "first_byte_p99": percentile(crowd.first_byte, 0.99),
        "heard": len(crowd.first_byte),
        "ended": crowd.ended,
        "kbit_per_listener": (crowd.received - before) / seconds / count * 8 / 1000,
        "spread_p50": percentile(spreads, 0.5),
        "spread_worst": percentile(spreads, 1.0),
    }
    print(json.dumps(report), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
