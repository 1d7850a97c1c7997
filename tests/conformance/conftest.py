"""A real server on a real socket, for tests that speak HTTP to it byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp

from origin.files.handler import FileHandler, file_routes
from origin.files.open_files import OpenFileCache
from origin.http1.access_log import AccessLog, RequestCounters
from origin.http1.fast_path import FastPath
from origin.http1.limits import HttpLimits
from origin.http1.protocol import HttpProtocol, http_protocol
from origin.responses.response_middleware import CommonHeaders, common_headers
from packager.library.local_storage import Library, LocalFile
from tests.conformance.raw import Answer, Client
from tests.descriptors import open_files
from tests.waiting import wait_for

Loop = Literal["asyncio", "uvloop"]

FILM = bytes(range(256)) * 4096
"""1 MiB in which every byte tells its position modulo 256."""

ETAG, MODIFIED = '"6553f100-100000"', "Tue, 14 Nov 2023 22:13:20 GMT"
"""Its validators in the library, which come of its time and its size."""


@dataclass(frozen=True)
class Running:
    address: tuple[str, int]
    library: Path
    server: uvicorn.Server

    def connect(self, receive_buffer: int | None = None) -> Client:
        return Client(self.address, receive_buffer)

    def ask(self, *fields: str, target: str = "/media/film.mp4", method: str = "GET") -> Answer:
        """Ask for something, the film unless it is told otherwise, on a connection of its own."""
        with self.connect() as client:
            return client.ask(target, *fields, method=method)

    def open_files(self) -> int:
        """Descriptors of this process that are files of the library."""
        return sum(Path(path).is_relative_to(self.library) for path in open_files())


@contextlib.contextmanager
def serving(
    app: ASGIApp,
    library: Path,
    loop: Loop,
    limits: HttpLimits | None = None,
    keep_alive: int = 30,
    certificate: tuple[Path, Path] | None = None,
    fast_path: FastPath | None = None,
    at_end: Callable[[], None] | None = None,
    grace: int = 1,
    http2: Callable[[HttpProtocol], asyncio.Protocol] | None = None,
) -> Iterator[Running]:
    """Run a server in a thread until the block ends; with a key and certificate by TLS."""
    key, chain = certificate or (None, None)
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        http=http_protocol(limits or HttpLimits(), fast_path, http2=http2),
        ws="none",
        loop=loop,
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_keep_alive=keep_alive,
        timeout_graceful_shutdown=grace,
        ssl_keyfile=key,
        ssl_certfile=chain,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    try:
        wait_for(lambda: server.started, "the server to start")
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Running(("127.0.0.1", port), library, server)
    finally:
        server.should_exit = True
        thread.join()
        if at_end is not None:
            at_end()


@pytest.fixture(scope="session")
def media_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a film, an empty file, and things that nobody may see. All changed long ago."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.mp4").write_bytes(b"secret")
    root = tmp_path_factory.mktemp("library")
    (root / "film.mp4").write_bytes(FILM)
    (root / "small.mp3").write_bytes(b"0123456789")
    (root / "empty.wav").write_bytes(b"")
    (root / "folder").mkdir()
    (root / "folder" / "söng nr 1.ogg").write_bytes(b"song")
    for name in (".hidden.mp4", "headwater.toml", "film.mp4.part"):
        (root / name).write_bytes(b"hidden")
    (root / "leads-out.mp4").symlink_to(outside / "secret.mp4")
    (root / "out").symlink_to(outside)
    os.mkfifo(root / "fifo.mp4")
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.utime(path, (1_700_000_000, 1_700_000_000.75))
    return root


class CountedLibrary(Library):
    """A library that counts how often a file of it is opened."""

    opened = 0

    def open(self, name: str) -> LocalFile:
        self.opened += 1
        return super().open(name)


@dataclass(frozen=True)
class ServedFiles:
    """The library's files as a whole server has them: routes behind the edge, counters, the shortcut."""

    app: ASGIApp
    fast_path: FastPath
    traffic: RequestCounters
    library: CountedLibrary
    close: Callable[[], None]


def served_files(library: Path, max_age: int = 600, valid_seconds: float = 1.0) -> ServedFiles:
    """Make what serves files."""
    traffic = RequestCounters()
    open_files = OpenFileCache(valid_seconds=valid_seconds)
    counted = CountedLibrary(library)
    handler = FileHandler(counted, max_age, open_files)
    app = CommonHeaders(
        Starlette(routes=file_routes(handler)), traffic=traffic, allow_origin="*", log_requests=False
    )
    access_log = AccessLog(traffic, log_requests=False)
    fast_path = FastPath({"media": handler}, access_log, common_headers("*"))
    return ServedFiles(app, fast_path, traffic, counted, open_files.close)


class InsistentClient(Client):
    """A client that asks for each file twice, so that the second answer is one of the shortcut."""

    def ask(self, target: str, *fields: str, method: str = "GET", version: str = "1.1") -> Answer:
        super().ask(target, method="HEAD")
        return super().ask(target, *fields, method=method, version=version)


@dataclass(frozen=True)
class Insisting(Running):
    def connect(self, receive_buffer: int | None = None) -> Client:
        return InsistentClient(self.address, receive_buffer)


@pytest.fixture(
    scope="session", params=["asyncio", "uvloop", "asyncio-shortcut", "uvloop-shortcut", "nothing kept"]
)
def files_origin(request: pytest.FixtureRequest, media_library: Path) -> Iterator[Running]:
    """The library's files on a real server: with each event loop, by the application and by the shortcut."""
    loop, _, variant = request.param.partition("-")
    served = served_files(media_library)
    if request.param == "nothing kept":
        own = Starlette(routes=file_routes(FileHandler(Library(media_library), 600)))
        app = CommonHeaders(own, traffic=served.traffic, allow_origin="*", log_requests=False)
        with serving(app, media_library, "uvloop") as running:
            yield running
        return
    fast_path = served.fast_path if variant else None
    with serving(served.app, media_library, loop, fast_path=fast_path, at_end=served.close) as running:
        yield Insisting(running.address, running.library, running.server) if variant else running


@pytest.fixture(scope="module", params=["application", "shortcut"])
def origin(request: pytest.FixtureRequest, media_library: Path) -> Iterator[Running]:
    """The library's files, answering by the application or by the shortcut what is open already."""
    served = served_files(media_library)
    fast_path = served.fast_path if request.param == "shortcut" else None
    with serving(served.app, media_library, "uvloop", fast_path=fast_path, at_end=served.close) as running:
        yield running
