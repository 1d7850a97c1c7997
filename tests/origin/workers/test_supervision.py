"""Workers come back when they are killed, end with the started process, and let downloads end before."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Self

from origin.http1.protocol import HttpProtocol
from origin.server.services.limits import Limits, ServerLimits
from origin.workers import messages
from origin.workers.messages import Ready
from origin.workers.worker_process import WorkerProcess, WorkerState
from packager.replication.limits import ReplicationLimits
from packager.replication.log_server import LogServer
from tests.conftest import STOP_SECONDS, ServerProcess
from tests.fork_server import HEADWATER
from tests.origin.workers.asking import (
    CLIENT_SECONDS,
    address_of,
    exchange,
    health,
    metric,
    ready,
    spare_of,
    workers_of,
)
from tests.origin.workers.conftest import BIG_BYTES, WITH_SPARE, started
from tests.origin.workers.worker_processes import RANGE, is_there
from tests.waiting import wait_for

DOWNLOAD = b"GET /media/big.bin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
MOST_DOWNLOADS = 60
PAUSE_SECONDS = 0.005
"""Between the requests of a client: without it three of them take the processor that a worker starts on."""


def is_refused(server: ServerProcess) -> bool:
    """Tell whether nobody listens at a server's address."""
    try:
        socket.create_connection(address_of(server), CLIENT_SECONDS).close()
    except ConnectionRefusedError:
        return True
    return False


class Clients:
    """Ask for a range on a new connection each time, and keep when those began that failed."""

    def __init__(self, server: ServerProcess) -> None:
        self.answers = 0
        self.failures: list[float] = []
        self._address = address_of(server)
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(3)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            try:
                with socket.create_connection(self._address, CLIENT_SECONDS) as client:
                    client.sendall(RANGE)
                    got = bytearray()
                    while data := client.recv(4096):
                        got += data
            except OSError:
                got = bytearray()
            if got.startswith(b"HTTP/1.1 206") and got[-14:-10] == b"\r\n\r\n":
                self.answers += 1
            else:
                self.failures.append(began)
            time.sleep(PAUSE_SECONDS)

    def more(self, count: int) -> None:
        wanted = self.answers + count
        wait_for(lambda: self.answers >= wanted, f"{count} more answers")


def download(server: ServerProcess) -> socket.socket:
    """Begin a download of more than buffers hold."""
    client = socket.create_connection(address_of(server), CLIENT_SECONDS)
    client.sendall(DOWNLOAD)
    assert client.recv(100).startswith(b"HTTP/1.1 200")
    return client


def is_whole(client: socket.socket) -> bool:
    """Read a download to its end, and tell whether all of it came."""
    received = 100
    with client, contextlib.suppress(ConnectionError):
        while data := client.recv(1 << 20):
            received += len(data)
    return received > BIG_BYTES


def connections(server: ServerProcess, worker: int) -> float:
    return metric(server, f'headwater_worker_connections{{worker="{worker}"}}')


def test_a_killed_worker_is_back_and_nobody_who_comes_later_is_refused(library: Path, tmp_path: Path) -> None:
    server = started(tmp_path, library, 2, limits=WITH_SPARE)
    pids, downloads = workers_of(server), [download(server)]
    assert len(pids) == 2
    while not (connections(server, 1) and connections(server, 2)):
        assert len(downloads) < MOST_DOWNLOADS, "one worker takes all connections"
        downloads.append(download(server))
    with Clients(server) as clients:
        clients.more(50)
        os.kill(pids[0], signal.SIGKILL)
        wait_for(lambda: not is_there(pids[0]), "the worker's end")
        killed = time.monotonic()
        clients.more(50)
        ready(server, 2)
        clients.more(50)
    assert [began for began in clients.failures if began > killed] == []
    assert metric(server, "headwater_worker_restarts_total") == 1
    assert len(set(workers_of(server)) - set(pids)) == 1
    # Those of the killed worker are cut, so that they don't look complete; those of the other go on.
    assert {is_whole(client) for client in downloads} == {True, False}
    assert server.stop() == 0


def test_without_any_worker_the_started_process_serves(library: Path, tmp_path: Path) -> None:
    server = started(tmp_path, library, 2, limits=WITH_SPARE)
    with Clients(server) as clients:
        for _ in range(3):
            killed = workers_of(server)
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            clients.more(20)
        ready(server, 2)
        clients.more(20)
    assert server.stop() == 0


def test_a_connection_that_was_handed_over_outlives_the_worker(library: Path, tmp_path: Path) -> None:
    """Such as that of a reader who needs a key."""
    protected = '[[events]]\nname = "protected"\npublish_token = "token"\nread_key = "a-read-key-000000"\n'
    server = started(tmp_path, library, 2, protected)
    asked = b"GET /events/protected?key=a-read-key-000000 HTTP/1.1\r\nHost: localhost\r\n"
    with socket.create_connection(address_of(server), CLIENT_SECONDS) as reader:
        reader.sendall(asked + b"Accept: text/event-stream\r\n\r\n")
        assert reader.recv(100).startswith(b"HTTP/1.1 200")
        for pid in workers_of(server):
            os.kill(pid, signal.SIGKILL)
        request = b"POST /events/protected HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer token\r\n"
        request += b"Content-Type: text/plain\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
        wait_for(lambda: exchange(server, request).startswith(b"HTTP/1.1 200"), "the publishing")
        received = b""
        while b"hello" not in received:
            received += (data := reader.recv(4096))
            assert data
    assert server.stop() == 0


def test_a_killed_server_leaves_no_process(library: Path, tmp_path: Path) -> None:
    server = started(tmp_path, library, 2, limits=WITH_SPARE)
    pids = [*workers_of(server), spare_of(server)]
    assert len(pids) == 3
    os.kill(pids[0], signal.SIGSTOP)  # one that couldn't read that the other end is closed
    server.process.kill()
    server.process.wait()
    wait_for(lambda: not any(map(is_there, pids)), "the workers' ends")
    # A process whose first thread has ended looks gone, and has its sockets until its last one has.
    wait_for(lambda: is_refused(server), "the closed sockets")


def test_downloads_have_their_time_at_the_end_and_no_longer(library: Path, tmp_path: Path) -> None:
    server = started(tmp_path, library, 2, "[limits]\nshutdown_seconds = 30\n")
    pids, client = workers_of(server), download(server)
    server.process.send_signal(signal.SIGTERM)
    wait_for(lambda: is_refused(server), "the closed sockets")
    assert is_whole(client)
    assert server.process.wait(STOP_SECONDS) == 0
    assert not any(map(is_there, pids))


def test_a_signal_to_the_whole_group_cuts_no_download(library: Path, tmp_path: Path) -> None:
    server = started(tmp_path, library, 2, "[limits]\nshutdown_seconds = 30\n")
    pids, client = workers_of(server), download(server)
    for pid in (server.process.pid, *pids, *pids):
        os.kill(pid, signal.SIGTERM)
    assert is_whole(client)
    assert server.process.wait(STOP_SECONDS) == 0
    assert not any(map(is_there, pids))


def test_a_worker_that_is_asked_to_end_lets_its_downloads_end_and_is_replaced(
    library: Path, tmp_path: Path
) -> None:
    server = started(tmp_path, library, 2, "[limits]\nshutdown_seconds = 30\n")
    pids, client = workers_of(server), download(server)
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    assert is_whole(client)
    wait_for(lambda: not set(pids) & set(workers_of(server)), "other workers")
    ready(server, 2)
    assert server.stop() == 0


def test_a_download_that_never_ends_is_cut_and_a_worker_that_stands_still_is_killed(
    library: Path, tmp_path: Path
) -> None:
    server = started(tmp_path, library, 2, "[limits]\nshutdown_seconds = 0.5\n")
    pids, client = workers_of(server), download(server)
    os.kill(pids[0], signal.SIGSTOP)
    name = next(name for name, state in wait_for(lambda: silent(server), "the silence").items())
    assert health(server)["troubles"] == {f"worker {name}": "doesn't answer"}
    assert metric(server, "headwater_workers") == 1
    assert server.stop() == 0
    assert not any(map(is_there, pids))
    assert not is_whole(client)


def silent(server: ServerProcess) -> dict[str, str]:
    workers = health(server)["workers"]
    return {name: state for name, state in workers.items() if state != "ready"}


def no_connection() -> HttpProtocol:
    raise AssertionError("nothing was handed over")


async def test_a_worker_that_listens_at_two_sockets_is_not_given_up() -> None:
    """It is told of each of them; that it is ready it tells once."""
    lost: list[WorkerProcess] = []

    class Watched(WorkerProcess):
        def _lost(self) -> None:
            lost.append(self)

    limits = replace(Limits(), server=replace(ServerLimits(), start_seconds=0.05))
    worker = Watched((), limits, no_connection, LogServer(ReplicationLimits()), lambda: None, print)
    worker.state = WorkerState.STARTING
    worker.listen()
    worker.listen()
    worker._handle_message(messages.encode(Ready()), [])
    worker.listen()
    assert worker.state is WorkerState.READY
    await asyncio.sleep(4 * limits.server.start_seconds)
    worker._packets.close()
    worker._its_end.close()
    assert not lost


def test_a_configuration_that_is_read_again_reaches_all_workers(library: Path, tmp_path: Path) -> None:
    server = started(tmp_path, library, 2)
    config = tmp_path / "2.toml"
    config.write_text(config.read_text() + '[log]\nlevel = "debug"\n')
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: server.text().count("log options taken") == 2, "both workers' lines")
    assert all(f"worker={number}" in server.text() for number in (1, 2))
    assert server.stop() == 0


def test_an_address_that_is_taken_is_an_error(library: Path, tmp_path: Path) -> None:
    config = tmp_path / "taken.toml"
    config.write_text("[server]\nworkers = 2\n")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        command = [str(HEADWATER), "serve", "--config", str(config), "--library", str(library)]
        done = subprocess.run(
            [*command, "--port", str(port)], capture_output=True, text=True, timeout=STOP_SECONDS
        )
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
