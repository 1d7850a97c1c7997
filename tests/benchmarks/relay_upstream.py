"""A model's server, whose answers never end: ``python -m tests.benchmarks.relay_upstream PORT RATE``.

Each answer has so many tokens a second. A token is ``@`` and the wall clock's time at which it is sent.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from typing import ClassVar

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TICK_SECONDS = 0.005
MODELS = json.dumps({"object": "list", "data": [{"id": "bench", "object": "model"}]}).encode()


class Answer(asyncio.Protocol):
    """One connection, with one question.

    Attributes:
        running: all answers that go on, the one whose turn is next first.
    """

    running: ClassVar[deque[Answer]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._asked = b""
        self._is_answered = False

    def data_received(self, data: bytes) -> None:
        self._asked += data
        head, _, body = self._asked.partition(b"\r\n\r\n")
        if self._is_answered or b"\r\n\r\n" not in self._asked:
            return
        if head.startswith(b"GET"):
            self._asked = b""
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(MODELS), MODELS))
            return
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        is_whole = body.endswith(b"0\r\n\r\n") if not lengths else len(body) >= int(lengths[0].split(b":")[1])
        if is_whole:
            self._is_answered = True
            self._transport.write(HEAD)
            self.running.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self in self.running:
            self.running.remove(self)

    def send(self) -> None:
        """Send a token."""
        delta = f'{{"index": 0, "delta": {{"content": "@{time.time():.6f} word"}}, "finish_reason": null}}'
        about = '"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "bench"'
        line = f'data: {{{about}, "choices": [{delta}]}}\n\n'.encode()
        self._transport.write(b"%x\r\n%b\r\n" % (len(line), line))


async def main() -> None:
    """Serve, and send tokens in turns, so that they are spread over the time."""
    port, rate = int(sys.argv[1]), float(sys.argv[2])
    loop = asyncio.get_running_loop()
    await loop.create_server(Answer, "127.0.0.1", port, backlog=4096)
    due, last = 0.0, time.monotonic()
    while True:
        await asyncio.sleep(TICK_SECONDS)
        now = time.monotonic()
        due, last = due + (now - last) * rate * len(Answer.running), now
        count = min(int(due), len(Answer.running))
        due -= count
        for _ in range(count):
            answer = Answer.running.popleft()
            answer.send()
            Answer.running.append(answer)


if __name__ == "__main__":
    asyncio.run(main())
