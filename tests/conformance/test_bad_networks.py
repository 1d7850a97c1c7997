"""Clients over bad networks come to their end by ranges, and the server keeps nothing of them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from origin.http1.limits import HttpLimits
from tests.conformance.badnet import BadNetwork, Toxic
from tests.conformance.conftest import FILM, Running, served_files, serving
from tests.conformance.raw import PATIENCE, Client
from tests.waiting import wait_for

SHORT = FILM[: 64 * 1024]
LONG = FILM * 16
HASTY = HttpLimits(stalled_seconds=5.0)
"""Shorter than it is, but no network here is quiet for so long, however late a machine is."""


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    library = tmp_path_factory.mktemp("library")
    for name, data in (("short.mp4", SHORT), ("film.mp4", FILM), ("long.mp4", LONG)):
        (library / name).write_bytes(data)
        os.utime(library / name, (1_700_000_000, 1_700_000_000))
    served = served_files(library)
    with serving(
        served.app, library, "uvloop", HASTY, fast_path=served.fast_path, at_end=served.close
    ) as running:
        yield running


def fetch(network: BadNetwork, name: str, folder: Path) -> bytes:
    """What wget gets, which goes on by a Range where a connection ended early."""
    command = ["wget", "--quiet", "--continue", "--tries=20", "--waitretry=0", "--read-timeout=60"]
    host, port = network.address
    url = f"http://{host}:{port}/media/{name}"
    subprocess.run([*command, f"--directory-prefix={folder}", url], check=True, timeout=PATIENCE)
    return (folder / name).read_bytes()


@pytest.mark.clause("Bad networks are outlasted by ranges")
@pytest.mark.parametrize(
    "toxic",
    [Toxic(delay=0.05), Toxic(bytes_per_second=250_000, slice_bytes=4096), Toxic(slice_bytes=7)],
    ids=["latency of 50 ms", "2 Mbit/s", "slices of 7 bytes"],
)
def test_a_late_a_slow_and_a_crumbling_network_bring_every_byte(
    origin: Running, toxic: Toxic, tmp_path: Path
) -> None:
    with BadNetwork(origin.address, toxic) as network:
        assert fetch(network, "short.mp4", tmp_path) == SHORT
        assert network.connections == 1
    wait_for(lambda: origin.open_files() == 0, "its file to be closed")


@pytest.mark.clause("Bad networks are outlasted by ranges")
def test_a_network_that_cuts_every_connection_is_outlasted_by_ranges(origin: Running, tmp_path: Path) -> None:
    """A reset behind 500 KB: three connections for a mebibyte, of which none brings a byte twice or wrong."""
    with BadNetwork(origin.address, Toxic(reset_after=500_000)) as network:
        assert fetch(network, "film.mp4", tmp_path) == FILM
        assert network.connections == 3
    wait_for(lambda: not origin.server.server_state.connections, "the server to be rid of them")
    wait_for(lambda: origin.open_files() == 0, "its file to be closed")


@pytest.mark.clause("Bad networks are outlasted by ranges")
def test_a_client_in_a_black_hole_is_let_go(origin: Running) -> None:
    """It confirms what the kernels between hold, and then nothing: gone after the time without progress."""
    with (
        BadNetwork(origin.address, Toxic(silent_after=100_000)) as network,
        Client(network.address) as client,
        Client(origin.address) as other,
    ):
        client.send("GET /media/long.mp4 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert len(client.take(100_000)) == 100_000
        assert other.ask("/media/short.mp4").body == SHORT
        other.socket.close()
        wait_for(lambda: not origin.server.server_state.connections, "the client to be dropped")
        wait_for(lambda: origin.open_files() == 0, "its file to be closed")
