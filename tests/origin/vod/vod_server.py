"""A server of films, and requests that its handler answers at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette

from origin.answers.asgi import handler_routes
from origin.files.open_files import OpenFileCache
from origin.http1.access_log import AccessLog, RequestCounters
from origin.http1.fast_path import FastPath
from origin.vod.answer_cache import AnswerCache
from origin.vod.handler import VodHandler
from origin.vod.segment_cache import VodCacheLimits
from packager.library.local_storage import Library
from packager.vod import Titles
from packager.vod.limits import TitleLimits
from tests.conformance.conftest import Running, serving
from tests.conformance.raw import Answer
from tests.waiting import wait_for

ETERNITY = 3600.0

MAX_AGE = 600


@dataclass(frozen=True)
class Served:
    running: Running
    handler: VodHandler
    titles: Titles
    files: OpenFileCache
    traffic: RequestCounters

    def ask(self, target: str, *fields: str, method: str = "GET") -> Answer:
        answer = self.running.ask(*fields, target=f"/vod/{target}", method=method)
        wait_for(lambda: not self.running.server.server_state.connections, "the request to be counted")
        return answer

    def fast(self, target: str, *fields: str, method: str = "GET") -> Answer:
        """Ask for something that has to be answered by the handler, and is counted by its connection."""
        before = self.answered
        answer = self.ask(target, *fields, method=method)
        wait_for(lambda: self.answered == before + 1, "the handler to answer")
        return answer

    @property
    def answered(self) -> int:
        """How many requests the handler has answered."""
        return sum(self.traffic.requests.values())


@contextlib.contextmanager
def served(
    library: Path,
    seconds: float = ETERNITY,
    kept: VodCacheLimits | None = None,
    indexes: int = 9,
    limits: TitleLimits | None = None,
) -> Iterator[Served]:
    titles = Titles(Library(library), limits or TitleLimits(indexes=indexes))
    files, traffic = OpenFileCache(valid_seconds=seconds), RequestCounters()
    answers = AnswerCache(VodCacheLimits(valid_seconds=seconds))
    handler = VodHandler(titles, MAX_AGE, files, answers, kept)
    fast_path = FastPath({"vod": handler}, AccessLog(traffic, log_requests=False))
    app = Starlette(routes=handler_routes(handler, ["/vod/{path:path}"]))
    with serving(app, library, "uvloop", fast_path=fast_path, at_end=files.close) as running:
        yield Served(running, handler, titles, files, traffic)


def numbers(server: Served, name: str, track: str) -> range:
    return range(len(server.titles.segments.track(name, track).sizes))


def told(answer: Answer) -> tuple[int, list[tuple[str, str]], bytes]:
    """What an answer says, in any order, but for when."""
    fields = sorted((name, value) for name, value in answer.fields if name != "date")
    return answer.status, fields, answer.body


REQUESTS: list[tuple[str, tuple[str, ...]]] = [
    ("GET", ()),
    ("HEAD", ()),
    ("HEAD", ("Range: bytes=0-9",)),
    ("GET", ("Range: bytes=0-0",)),
    ("GET", ("Range: bytes=5-20",)),
    ("GET", ("Range: bytes=100-4099",)),
    ("GET", ("Range: bytes=3000-",)),
    ("GET", ("Range: bytes=-1234",)),
    ("GET", ("Range: bytes=99999999-",)),
    ("GET", ("Range: bytes=9-3",)),
    ("GET", ("Range: rows=1-2",)),
    ("GET", ("If-None-Match: {etag}",)),
    ("GET", ('If-None-Match: "other"',)),
    ("GET", ("If-Match: {etag}",)),
    ("GET", ('If-Match: "other"',)),
    ("GET", ("If-Modified-Since: {modified}",)),
    ("GET", ("If-Unmodified-Since: Tue, 14 Nov 2000 22:13:20 GMT",)),
    ("GET", ("Range: bytes=100-4099", "If-Range: {etag}")),
    ("GET", ("Range: bytes=100-4099", 'If-Range: "other"')),
    ("GET", ("Range: bytes=100-4099", "If-Range: {modified}")),
    ("GET", ("Accept-Encoding: gzip",)),
]
