"""Clients of a server with workers that follow what goes on, each in a thread, and note what fails."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Self

from tests.eventstream import read
from tests.origin.workers.asking import CLIENT_SECONDS
from tests.waiting import wait_for

AGAIN_SECONDS = 0.1
"""Pause behind an answer that says to come again."""

PART = re.compile(r'#EXT-X-PART:.*URI="((\d+)\.(\d+)\.m4s)"')


class Follower:
    """Follows something until it is told to end.

    Args:
        address: of the server.
        path: of what it follows.

    Attributes:
        count: how much it has had.
        failures: requests that failed: what was asked, and how.
        broken: connections that ended before the answer did.
        postponed: answers that said to come again.
    """

    def __init__(self, address: tuple[str, int], path: str) -> None:
        self.count = 0.0
        self.broken = self.postponed = 0
        self.failures: list[str] = []
        self._address = address
        self._path = path
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def more(self, count: int) -> None:
        """Wait until it has had so much more, or something has failed."""
        wanted = self.count + count
        wait_for(lambda: self.count >= wanted or self.failures, f"{count} more of {self._path}")

    def _run(self) -> None:
        while not self._over.is_set() and not self.failures:
            try:
                self.follow()
            except (OSError, HTTPException):
                self.broken += 1
            except Exception as error:  # noqa: BLE001 - it is told in the test's own thread
                self.failures.append(f"{self._path}: {error!r}")

    def follow(self) -> None:
        """Follow over one connection, or a few requests."""
        raise NotImplementedError

    @contextlib.contextmanager
    def asked(self, path: str, **fields: str) -> Iterator[HTTPResponse | None]:
        """Ask on a connection of its own; gives None where it is to come again, or that failed."""
        with contextlib.closing(HTTPConnection(*self._address, timeout=CLIENT_SECONDS)) as connection:
            connection.request("GET", path, headers={"Connection": "close", **fields})
            answer = connection.getresponse()
            if answer.status == 200:
                yield answer
                return
            if answer.status == 503:
                self.postponed += 1
                time.sleep(AGAIN_SECONDS)
            else:
                self.failures.append(f"{path}: {answer.status} {answer.read(200)!r}")
            yield None


class Viewer(Follower):
    """Plays a rendition of LL-HLS: asks for each playlist before it is there, and fetches all that it lists.

    Its path is that of the rendition; it counts parts.
    """

    _next = (0, 0)

    def follow(self) -> None:
        """Wait for the next part, and fetch it."""
        query = f"?_HLS_msn={self._next[0]}&_HLS_part={self._next[1]}" if self.count else ""
        text = self._fetch(f"media.m3u8{query}")
        if text is None:
            return
        for name, number, index in PART.findall(text.decode()):
            place = int(number), int(index)
            if place >= self._next and self._fetch(name):
                self._next = place[0], place[1] + 1
                self.count += 1

    def _fetch(self, name: str) -> bytes | None:
        with self.asked(f"{self._path}/{name}") as answer:
            return None if answer is None else answer.read()


class Listener(Follower):
    """Listens to a station, and comes again when its stream has ended; counts kilobytes.

    Attributes:
        streams: how many streams it has had.
    """

    streams = 0

    def follow(self) -> None:
        """Listen to one stream."""
        with self.asked(self._path) as answer:
            self.streams += answer is not None
            while answer is not None and not self._over.is_set() and (data := answer.read1()):
                self.count += len(data) / 1000


class EventReader(Follower):
    """Reads an event channel as EventSource does; counts events.

    Attributes:
        events: what was published, in the order in which it came.
        streams: how many streams it has had.
    """

    streams = 0

    def __init__(self, address: tuple[str, int], path: str) -> None:
        super().__init__(address, path)
        self.events: list[str] = []
        self._last = ""

    def follow(self) -> None:
        """Read one stream."""
        fields = {"Accept": "text/event-stream"} | ({"Last-Event-ID": self._last} if self._last else {})
        with self.asked(self._path, **fields) as answer:
            self.streams += answer is not None
            waiting = b""
            while answer is not None and not self._over.is_set() and (data := answer.read1()):
                whole, end, waiting = (waiting + data).rpartition(b"\n\n")
                for one in read(whole + end):
                    self._last = one.last_id or self._last
                    if one.name == "message":
                        self.events.append(one.data)
                        self.count += 1
