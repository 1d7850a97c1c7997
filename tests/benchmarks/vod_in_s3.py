"""VOD of a film in S3, from the cache and without one, beside the same film in a folder."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.benchmarks import load, peers, vod
from tests.benchmarks.load import Figure, Workload
from tests.benchmarks.peers import Peer
from tests.s3_server import S3_SERVER, s3_server_running

WORKLOADS = (
    Workload("VOD in S3, segments", vod.WORKLOADS[0].request, seconds=2),
    Workload("VOD in S3, playlist", vod.WORKLOADS[3].request, seconds=2),
)


@contextlib.contextmanager
def running() -> Iterator[tuple[list[Peer], Path]]:
    """Run a server for each place of the film, the folder first; gives a folder for scripts, too."""
    peers.require("wrk", "taskset", "curl")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        library = folder / "library"
        library.mkdir()
        vod.make_film(library / vod.NAME)
        s3 = stack.enter_context(s3_server_running(folder))
        address = s3.put_folder(library, "bench")
        environment = s3.environment()
        uncached = {**environment, "HEADWATER_LIBRARY_CACHE": "0"}
        servers = [
            stack.enter_context(peers.headwater(library, "folder")),
            stack.enter_context(peers.headwater(address, "S3, cached", environment)),
            stack.enter_context(peers.headwater(address, "S3, uncached", uncached)),
        ]
        yield servers, folder


def run(words: tuple[str, ...] = ()) -> Iterator[Figure]:
    """Measure the servers under each workload whose name has one of the words, or under all."""
    chosen = [one for one in WORKLOADS if not words or any(word in one.name for word in words)]
    if not chosen:
        return
    if not S3_SERVER.exists():
        print("VOD in S3: not measured, for there is no S3 server: make test installs it")  # noqa: T201
        return
    with running() as (servers, folder):
        for workload in chosen:
            # Addresses without a version are the same wherever the film is.
            asking = replace(workload, request=workload.request.replace("VERSION/", ""))
            yield from load.measure(asking, servers, folder)
