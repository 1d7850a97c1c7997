"""A server replaced on its own listening socket: nobody is refused, and every request is answered."""

from __future__ import annotations

import contextlib
import functools
import re
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path

import pytest

from origin.server.server import LAST_REQUEST_SECONDS
from origin.server.services.limits import Limits, ServerLimits
from tests.conftest import START_SECONDS
from tests.copied_channel import copied_channel
from tests.patience import patient_server, program
from tests.succession import Succession, end, start
from tests.waiting import wait_for

REQUESTS = 50
HURRY_SECONDS, LEISURE_SECONDS = 0.01, 0.05
"""Pauses between the requests of one who asks: those at leisure leave the processor to a server's start."""


class Asker:
    """Asks for a file again and again, by a connection of its own each time or by one that is kept."""

    def __init__(self, address: tuple[str, int], *, keeps: bool) -> None:
        self.answers = 0
        self.errors: list[Exception] = []
        self._address = address
        self._fields = {} if keeps else {"connection": "close"}
        self._over = threading.Event()
        self._hurried = threading.Event()
        self._hurried.set()
        self._asked = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._ask)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    @contextlib.contextmanager
    def at_leisure(self) -> Iterator[None]:
        """Ask less often meanwhile."""
        self._hurried.clear()
        try:
            yield
        finally:
            self._hurried.set()

    def _ask(self) -> None:
        # It connects again where it was told that the connection closes. While nobody serves, the kernel
        # keeps who connects.
        with contextlib.closing(HTTPConnection(*self._address, timeout=START_SECONDS)) as connection:
            while not self._over.is_set():
                try:
                    answer = self._answer(connection)
                    self.answers += answer is not None and answer.read() == b"film"
                except (OSError, HTTPException) as error:
                    self.errors.append(error)
                    connection.close()
                time.sleep(HURRY_SECONDS)
                self._hurried.wait(LEISURE_SECONDS)

    def _answer(self, connection: HTTPConnection) -> HTTPResponse | None:
        """Ask; None where that was so late that the server was right to close before it.

        RFC 9112 §9.5, §9.3.1: it may close what is idle, and who loses a connection so asks again. It can't
        have been idle before the request that was sent on it last, nor before it was there.
        """
        is_new, now = connection.sock is None, time.monotonic()
        idle_since, self._asked = now if is_new else self._asked, now
        sent = None
        try:
            connection.request("GET", "/media/film.mp4", headers=self._fields)
            sent = time.monotonic()
            return connection.getresponse()
        except (ConnectionResetError, BrokenPipeError):
            limits = ServerLimits()
            patience = limits.first_request_seconds if is_new else LAST_REQUEST_SECONDS
            if (sent or time.monotonic()) - idle_since < patience:
                raise
            connection.close()
            return None

    def has(self, count: int) -> bool:
        return bool(self.errors) or self.answers >= count


@pytest.mark.clause("Servers follow each other on one socket without a lost request")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("workers", [1, 2])
def test_every_request_is_answered_while_servers_follow_each_other_on_one_socket(
    tmp_path: Path, workers: int
) -> None:
    (tmp_path / "film.mp4").write_bytes(b"film")
    config = tmp_path / "workers.toml"
    config.write_text(f"[server]\nworkers = {workers}\n")
    with contextlib.ExitStack() as stack:
        # Each server would start a spare worker, too, which nobody waits for.
        without_spare = program(Limits(server=ServerLimits(spares=0)))
        servers = Succession(tmp_path, stack, "--config", str(config), program=without_spare)
        player_requests = [Asker(servers.address, keeps=keeps) for keeps in (True, True, False)]

        def more() -> None:
            for player_request in player_requests:
                wait_for(
                    functools.partial(player_request.has, player_request.answers + REQUESTS), what="answers"
                )

        first = servers.start(fresh=True)
        with contextlib.ExitStack() as asking:
            for player_request in player_requests:
                asking.enter_context(player_request.running())
            more()
            end(first)
            second = servers.start()
            more()
            # Nobody ends while it starts.
            with contextlib.ExitStack() as waiting:
                for player_request in player_requests:
                    waiting.enter_context(player_request.at_leisure())
                third = servers.start()
            end(second)
            more()
        end(third)
    assert [player_request.errors for player_request in player_requests] == [[], [], []]


@pytest.mark.timeout(1200)
def test_a_channel_goes_on_behind_the_server_before_whose_folder_the_next_one_waits_for(
    tmp_path: Path,
) -> None:
    channel = copied_channel("test", "segment_duration = 1.0", 'dvr = "1h"')
    (tmp_path / "test.toml").write_text(f'[server]\ndata = "{tmp_path}/data"\n{channel}')
    with contextlib.ExitStack() as stack:
        servers = Succession(
            tmp_path, stack, "--config", str(tmp_path / "test.toml"), program=patient_server()
        )
        url = "http://{}:{}/live/test/source/".format(*servers.address)

        def playlist() -> str:
            with urllib.request.urlopen(f"{url}media.m3u8", timeout=START_SECONDS) as answer:
                return str(answer.read().decode())

        before = servers.start()
        listed = playlist()
        name = re.findall(r"^(\d+)\.m4s$", listed, re.MULTILINE)[-1]
        with urllib.request.urlopen(f"{url}{name}.m4s", timeout=START_SECONDS) as answer:
            data = answer.read()
        index = tmp_path / "data" / "live" / "test" / "dvr" / "source" / "index"
        wait_for(lambda: index.exists() and f'"number":{name},' in index.read_text(), what="it on disk")
        after = servers.start()
        assert "live channels wait" in servers.logs[1].read_text()
        end(before)
        # RFC 8216bis §6.2.2: the same number is the same segment for ever.
        with urllib.request.urlopen(f"{url}{name}.m4s", timeout=START_SECONDS) as answer:
            assert answer.read() == data
        wait_for(lambda: "\n#EXT-X-DISCONTINUITY\n" in playlist(), what="media of the next server")
        numbers = [int(number) for number in re.findall(r"^(\d+)\.m4s$", playlist(), re.MULTILINE)]
        assert int(name) in numbers
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        end(after)


def test_a_socket_that_is_not_tcp_is_refused_in_one_line(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
        server = start(sock, tmp_path, tmp_path / "log", fresh=True)
        assert server.wait(START_SECONDS) == 1
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert "LISTEN_FDS" in line
