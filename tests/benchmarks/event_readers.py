"""A crowd that reads events: ``python -m tests.benchmarks.event_readers PORT PATH COUNT JOIN_SECONDS``.

They come evenly within some seconds; then ``joined`` is written, and each line of standard input is a number
of seconds for which is noted what they get, answered by one line of JSON. Each event has one ``@`` and behind
it the wall clock's time of its publication. When it came is told by the kernel, so that it doesn't matter how
soon this process gets to read it; where several came together the last one's time counts for them all.

With ``asking`` each asks a model by POST instead, and reads its answer. With ``witnesses`` they note how
late events are. Without, they only count, and read but ten times a second what the kernel has kept for
them: so thousands take a part of one core, whatever a server sends.
"""

from __future__ import annotations

import json
import re
import resource
import select
import socket
import struct
import sys
import time

from tests.benchmarks.event_publisher import TOKEN

QUESTION = '{"model": "bench", "stream": true, "messages": [{"role": "user", "content": "Tell me."}]}'
"""What those say who ask a model."""

SO_TIMESTAMPNS = 35
"""socket(7): each message comes with the wall clock's seconds and nanoseconds of its arrival."""

TIMESPEC = struct.Struct("@ll")
ANCILLARY_BYTES = socket.CMSG_SPACE(TIMESPEC.size)
PUBLISHED = re.compile(rb"@(\d+\.\d+) ")
READ_BYTES = 256 * 1024
READ_SECONDS = 0.1


class Crowd:
    """The readers' sockets and what came on them."""

    def __init__(self, port: int, path: str, *, are_witnesses: bool, are_asking: bool = False) -> None:
        self._address = ("127.0.0.1", port)
        lines = [f"{'POST' if are_asking else 'GET'} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
        lines += ["Accept: text/event-stream", "User-Agent: crowd"]
        if are_asking:
            lines += ["Content-Type: application/json", f"Content-Length: {len(QUESTION)}"]
            lines += [f"Authorization: Bearer {TOKEN}"]
        self._request = "\r\n".join((*lines, "", QUESTION if are_asking else "")).encode()
        self._are_witnesses = are_witnesses
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self.events = self.received = self.reads = self.ended = 0
        self.delays: list[float] = []

    def join(self) -> None:
        """Connect one more and ask."""
        connection = socket.socket()
        if self._are_witnesses:
            connection.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        connection.connect(self._address)
        connection.sendall(self._request)
        connection.setblocking(False)
        self._sockets[connection.fileno()] = connection
        self._poll.register(connection.fileno(), select.EPOLLIN)

    def read(self, until: float) -> None:
        """Read whatever comes until a time."""
        while (left := until - time.monotonic()) > 0:
            if not self._are_witnesses:
                time.sleep(min(left, READ_SECONDS))
            for number, _ in self._poll.poll(min(left, READ_SECONDS), max(len(self._sockets), 1)):
                self._read(number)

    def _read(self, number: int) -> None:
        told: list[tuple[int, int, bytes]] = []
        try:
            if self._are_witnesses:
                data, told, _, _ = self._sockets[number].recvmsg(READ_BYTES, ANCILLARY_BYTES)
            else:
                data = self._sockets[number].recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._poll.unregister(number)
            self._sockets.pop(number).close()
            self.ended += 1
            return
        self.reads += 1
        self.received += len(data)
        self.events += data.count(b"@")
        if told:
            arrived = _arrival(told)
            self.delays += [arrived - float(published) for published in PUBLISHED.findall(data)]

    def leave(self) -> None:
        """Close all connections at once."""
        self._poll.close()
        for connection in self._sockets.values():
            connection.close()
        self._sockets.clear()

    def note(self, seconds: float) -> dict[str, float]:
        """Read for a time; tell what came in it."""
        self.events = self.received = self.reads = 0
        self.delays.clear()
        used = _used_seconds()
        self.read(time.monotonic() + seconds)
        return {
            "events": self.events,
            "received": self.received,
            "reads": self.reads,
            "ended": self.ended,
            "busy": (_used_seconds() - used) / seconds,
            "delay_p50": percentile(self.delays, 0.5),
            "delay_p99": percentile(self.delays, 0.99),
        }


def _arrival(told: list[tuple[int, int, bytes]]) -> float:
    """Seconds of the wall clock when the newest of what was read came."""
    seconds, nanoseconds = next(TIMESPEC.unpack(data) for _, kind, data in told if kind == SO_TIMESTAMPNS)
    return float(seconds + nanoseconds / 1e9)


def _used_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def percentile(values: list[float], share: float) -> float:
    """The value that this share doesn't exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


def main() -> None:
    """Join, say so, and note as often as asked."""
    port, path, count, seconds = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    words = sys.argv[5:]
    crowd = Crowd(port, path, are_witnesses="witnesses" in words, are_asking="asking" in words)
    began = time.monotonic()
    for number in range(1, count + 1):
        crowd.join()
        crowd.read(began + seconds * number / count)
    print("joined", flush=True)  # noqa: T201  # whoever measures begins now
    # As long as nothing is asked, what comes must be read, too.
    asked = select.poll()
    asked.register(sys.stdin, select.POLLIN)
    while True:
        crowd.read(time.monotonic() + READ_SECONDS)
        if asked.poll(0):
            line = sys.stdin.readline()
            if not line:
                return
            print(json.dumps(crowd.note(float(line))), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
