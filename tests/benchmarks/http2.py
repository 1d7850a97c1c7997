"""HTTP/2 by TLS: files, ranges, playlists and parts, beside nginx, hypercorn and granian.

hypercorn and granian serve a Starlette application, with files as Starlette sends them, and playlists and
parts out of memory.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from tests.benchmarks import live, load, peers
from tests.benchmarks.live_origin import PARTS_OF_SEGMENT
from tests.benchmarks.load import Figure, Workload
from tests.benchmarks.peers import Peer
from tests.benchmarks.ranges import make_library
from tests.certificates import Certificate, self_signed

CONNECTIONS, STREAMS = 8, 16
FEW = 256
"""Requests by which a server's speed is found."""

MOST_SECONDS = 120.0
"""After which a server is taken to stand still."""

FILES = (
    Workload("HTTP/2, 1 MiB ranges", "/media/large.mp4 bytes=7340033-8388608", seconds=3),
    Workload("HTTP/2, 64 KiB ranges", "/media/large.mp4 bytes=7340033-7405568", seconds=3),
    Workload("HTTP/2, 2 KB file", "/media/small.mp4", seconds=3),
)
RECENT = [
    (number, index) for number in range(live.HOT[0] - 2, live.HOT[0] + 1) for index in range(PARTS_OF_SEGMENT)
]
LIVE = (
    Workload("HTTP/2, live playlist", live.PLAYLIST, seconds=3),
    Workload("HTTP/2, live part", live.PART.format(number=live.HOT[0], index=live.HOT[1]), seconds=3),
    Workload(
        "HTTP/2, live playlists by number, one after the other",
        "\n".join(live.BLOCKING.format(number=number, index=index) for number, index in RECENT),
        seconds=3,
    ),
    Workload(
        "HTTP/2, live parts, one after the other",
        "\n".join(live.PART.format(number=number, index=index) for number, index in RECENT),
        seconds=3,
    ),
)
"""The last two have more addresses than a connection keeps requests of."""

LIBRARY = "BENCHMARK_LIBRARY"
"""Variable with the folder that the application serves."""


def run(words: tuple[str, ...] = ()) -> Iterator[Figure]:
    """Measure the servers under each workload whose name has one of the words, or under all."""
    files, parts = (
        [one for one in kind if not words or any(word in one.name for word in words)]
        for kind in (FILES, LIVE)
    )
    if not files and not parts:
        return
    peers.require("h2load", "nginx", "taskset")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        library, certificate, port = make_library(folder), self_signed(folder), peers.free_port()
        options = {
            "HEADWATER_TLS_CERTIFICATE": str(certificate.chain),
            "HEADWATER_TLS_KEY": str(certificate.key),
            "HEADWATER_TLS_PORT": str(port),
        }
        own = stack.enter_context(peers.headwater(library, environment=options))
        channel, _ = stack.enter_context(live.serving(0, live.PART_BYTES, certificate))
        for target in {one.partition("?")[0] for workload in parts for one in workload.request.split("\n")}:
            keep(channel.url, target, library)
        nginx = stack.enter_context(peers.nginx(library, folder, certificate=certificate, is_http2=True))
        others = [
            stack.enter_context(hypercorn(library, folder, certificate)),
            stack.enter_context(granian(library, certificate)),
        ]
        for kind, ours in ((files, replace(own, url=f"https://127.0.0.1:{port}")), (parts, channel)):
            for workload in kind:
                yield from load.measure(workload, [nginx, ours, *others], folder, client=ask)


def keep(url: str, target: str, library: Path) -> None:
    """Write what a server answers into the folder of the others."""
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    path = library / target.strip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    with urllib.request.urlopen(f"{url}{target}", timeout=30, context=anyone) as answer:
        path.write_bytes(answer.read())


@contextlib.contextmanager
def hypercorn(
    library: Path, folder: Path, certificate: Certificate, *, is_http3: bool = False
) -> Iterator[Peer]:
    """Run hypercorn, with an application that has this library.

    Args:
        folder: where its configuration may lie.
    """
    port, config = peers.free_port(), folder / "hypercorn.toml"
    # Otherwise it ends connections after a thousand requests, of which the last ones fail.
    config.write_text("keep_alive_max_requests = 100000000\n")
    command = ["env", f"{LIBRARY}={library}", sys.executable, "-m", "hypercorn", "--workers", "0"]
    command += ["--config", str(config), "--worker-class", "uvloop"]
    command += ["--bind", f"127.0.0.1:{port}", *(["--quic-bind", f"127.0.0.1:{port}"] if is_http3 else [])]
    command += ["--certfile", str(certificate.chain), "--keyfile", str(certificate.key)]
    with peers.running("hypercorn", [*command, f"{__name__}:make_app()"], port) as peer:
        yield replace(peer, url=f"https://127.0.0.1:{port}")


@contextlib.contextmanager
def granian(library: Path, certificate: Certificate) -> Iterator[Peer]:
    """Run granian, with an application that has this library."""
    port = peers.free_port()
    command = ["env", f"{LIBRARY}={library}", sys.executable, "-m", "granian", "--interface", "asgi"]
    command += ["--loop", "uvloop", "--no-ws", "--port", str(port), "--factory", f"{__name__}:make_app"]
    # Its worker waits for ever for threads that have sent files.
    command += ["--workers-kill-timeout", "5"]
    command += ["--ssl-certificate", str(certificate.chain), "--ssl-keyfile", str(certificate.key)]
    with peers.running_workers("granian", command, port) as peer:
        yield replace(peer, url=f"https://127.0.0.1:{port}")


def make_app() -> Starlette:
    """Make the application that other servers have."""
    library = Path(os.environ[LIBRARY])
    content_of = functools.cache(lambda path: (library / path).read_bytes())

    async def answer(request: Request) -> Response:
        return Response(content_of(request.url.path.strip("/")))

    return Starlette(
        routes=[Mount("/media", StaticFiles(directory=library)), Route("/live/{path:path}", answer)]
    )


def ask(server: Peer, workload: Workload) -> tuple[int, int]:
    """Load a server for about as long as the workload says. Returns the numbers of requests and of bytes.

    No request is cancelled, as h2load would do at the end of a time: granian may stand still after that.
    """
    first, seconds, first_bytes = load_with(server, workload.request, FEW)
    count = max(FEW, round(workload.seconds / seconds * FEW))
    more, _, more_bytes = load_with(server, workload.request, count)
    return first + more, first_bytes + more_bytes


def load_with(server: Peer, request: str, count: int) -> tuple[int, float, int]:
    """Send so many requests. Returns their number, the seconds they took, and the bytes that came.

    Raises:
        RuntimeError: requests failed: the figure would mean nothing.
    """
    targets, _, field = request.partition(" ")
    command = ["taskset", "-c", peers.CLIENT_CORE, "h2load", f"-c{CONNECTIONS}", f"-m{STREAMS}", f"-n{count}"]
    with tempfile.NamedTemporaryFile("w") as addresses:
        addresses.write("".join(f"{server.url}{target}\n" for target in targets.split("\n")))
        addresses.flush()
        command += [*(["-H", f"range: {field}"] if field else []), "-i", addresses.name]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=MOST_SECONDS)
    output = done.stdout
    took = re.search(r"finished in ([\d.]+)(us|ms|s),", output)
    sent = re.search(r"\((\d+)\) data", output)
    if took is None or sent is None or f" {count} succeeded, 0 failed" not in output or "h2" not in output:
        raise RuntimeError(f"{server.name}: the client failed:\n{output}")
    return count, float(took[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[took[2]], int(sent[1])
