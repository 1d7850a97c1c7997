"""Connections to a server with workers, and which of its processes has each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.conformance.raw import Client
from tests.conftest import ServerProcess
from tests.descriptors import open_files
from tests.origin.workers.asking import address_of, workers_of
from tests.waiting import wait_for


def process_of(client: Client, pids: Sequence[int]) -> int | None:
    """Give the process id of whoever has the other end of a connection; None for none of these."""
    port = f":{client.socket.getsockname()[1]:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[2].endswith(port) and fields[9] != "0":
            wanted = f"socket:[{fields[9]}]"
            return next((pid for pid in pids if wanted in set(open_files(pid))), None)
    return None


@contextlib.contextmanager
def connections(server: ServerProcess, pids: Sequence[int], target: str) -> Iterator[dict[int, Client]]:
    """Open a connection to each of some workers, by their process ids.

    Args:
        server: the server.
        pids: of the workers.
        target: what a worker answers, asked once on each.
    """
    found: dict[int, Client] = {}

    def another() -> bool:
        client = Client(address_of(server))
        assert client.ask(target).status == 200
        pid = process_of(client, pids)
        if pid is None or pid in found:
            client.socket.close()
        else:
            found[pid] = client
        return len(found) == len(pids)

    try:
        wait_for(another, "a connection to each worker")
        yield found
    finally:
        for client in found.values():
            client.socket.close()


def to_all(server: ServerProcess, target: str) -> contextlib.AbstractContextManager[dict[int, Client]]:
    """Open a connection to each worker that runs now."""
    return connections(server, workers_of(server), target)
