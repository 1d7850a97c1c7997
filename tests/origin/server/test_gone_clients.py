"""Nothing is left of clients that have gone, whichever wire they used: descriptors, tasks, objects."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.gone_clients import WIRES, CountedServer, come_and_go, counted_server
from tests.waiting import wait_for

FIRST, COUNT = 30, 300
MOST = COUNT // 3
"""Objects that may be more than before: a thing that stays of each connection would be as many as these."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CountedServer]:
    with counted_server(tmp_path_factory.mktemp("counted")) as server:
        yield server


@pytest.mark.timeout(600)
@pytest.mark.parametrize("wire", WIRES)
def test_nothing_is_left_of_clients_that_have_gone(server: CountedServer, wire: str) -> None:
    # What the first ones leave is made once: the code that they use, and what is kept of each file.
    come_and_go(server, wire, FIRST)
    wait_for(lambda: server.counts().readers == 0, "the end of the first")
    before = server.counts()
    come_and_go(server, wire, COUNT)
    wait_for(lambda: server.is_alone(before), "the end of all descriptors, tasks and readers")

    def left() -> int:
        return (server.counts().objects - before.objects).total()

    wait_for(lambda: left() < MOST, "the end of all objects")
