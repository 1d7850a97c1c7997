"""Hostile input to the whole server, as a person starts it."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO

import pytest

from tests.conformance.conftest import FILM
from tests.conformance.raw import PATIENCE, Client
from tests.conftest import START_SECONDS, ServerProcess, start_server
from tests.descriptors import descriptors
from tests.processes import cpu_seconds
from tests.waiting import wait_for

DESCRIPTORS = 64


def address_of(server: ServerProcess) -> tuple[str, int]:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    return host, int(port)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    (folder / "film.mp4").write_bytes(FILM)
    os.utime(folder / "film.mp4", (1_700_000_000, 1_700_000_000))
    return folder


@pytest.fixture(scope="module")
def server(library: Path) -> Iterator[ServerProcess]:
    with start_server(
        "--library", str(library), "--port", "0", env={"HEADWATER_LOG_REQUESTS": "true"}, cwd=library
    ) as running:
        yield running


@pytest.mark.clause("WHATWG Fetch §3.3")
def test_players_of_other_origins_may_read_files_and_what_they_need_of_them(server: ServerProcess) -> None:
    """On every answer to a request for a file, the preflight of Range included."""
    with Client(address_of(server)) as client:
        for fields, status in (((), 200), (("Range: bytes=0-1",), 206), (("Range: bytes=9999999-",), 416)):
            for _ in range(2):
                answer = client.ask("/media/film.mp4", "Origin: https://player.example", *fields)
                assert (answer.status, answer["access-control-allow-origin"]) == (status, "*")
                exposed = {
                    name.strip().lower() for name in answer["access-control-expose-headers"].split(",")
                }
                assert exposed >= {
                    "accept-ranges",
                    "content-encoding",
                    "content-length",
                    "content-range",
                    "date",
                    "etag",
                    "icy-name",
                    "icy-metaint",
                }
        preflight = client.ask(
            "/media/film.mp4",
            "Origin: https://player.example",
            "Access-Control-Request-Method: GET",
            "Access-Control-Request-Headers: range",
            method="OPTIONS",
        )
        assert preflight.status == 204
        assert preflight["access-control-allow-origin"] == "*"
        assert "range" in preflight["access-control-allow-headers"].lower()
        assert "GET" in preflight["access-control-allow-methods"]


def test_the_shortcut_counts_and_logs_as_the_application_does(server: ServerProcess) -> None:
    """What `/metrics` and the request log say of files is all of them."""

    def counted(client: Client) -> float:
        text = client.ask("/metrics").body.decode()
        found = re.search(r'headwater_requests_total\{area="media",status="206"\} ([0-9.]+)', text)
        return float(found[1]) if found else 0

    with Client(address_of(server)) as client:
        before = counted(client)
        for _ in range(20):
            assert client.ask("/media/film.mp4?counted", "Range: bytes=0-9").status == 206
        assert counted(client) == before + 20

    def logged() -> int:
        return sum("206" in line and "/media/film.mp4" in line for line in server.text().splitlines())

    wait_for(lambda: logged() >= 20, what="the log's lines")


@pytest.mark.clause("CVE-2020-7694", "CVE-2011-4612", "CWE-117")
@pytest.mark.parametrize(
    "name", ["%1b[2J", "a%0ab%0d", "%00", "%C2%85%E2%80%A8", "x" * 8000, "%1b" * 2600, "%F0%9F%8E%9E" * 600]
)
def test_a_request_is_one_line_of_the_log_without_control_characters(
    server: ServerProcess, name: str
) -> None:
    """One line for any reader, of 4 KiB at most."""
    status = 400 if re.search(r"%[01][0-9a-f]", name) else 404

    def lines() -> list[str]:
        # As terminals and Unicode's own rules (UAX 14) break them.
        return [line for line in plain(server).splitlines() if f"status={status}" in line]

    before = len(lines())
    with Client(address_of(server)) as client:
        assert client.ask(f"/media/{name}").status == status
    wait_for(lambda: len(lines()) > before, what="the log line")
    assert len(lines()) == before + 1
    assert re.search(rf"path=.*status={status}", lines()[-1])
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]", plain(server))
    assert all(len(line.encode()) <= 4096 for line in server.text().splitlines())


@pytest.mark.clause("RFC 9110 §8.8.2.1")
def test_no_file_is_younger_than_the_answer_that_brings_it(server: ServerProcess, library: Path) -> None:
    """Last-Modified is never later than Date, when a second begins as little as later."""
    with Client(address_of(server)) as client:
        for number in range(24):
            began = time.monotonic()
            (library / "now.mp4").write_bytes(b"%d" % number)
            answer = client.ask("/media/now.mp4")
            # Two seconds later, as a machine that stands still may be, the tag is a strong one.
            assert answer["etag"].startswith('W/"') or time.monotonic() - began > 1.5
            modified, date = (parsedate_to_datetime(answer[name]) for name in ("last-modified", "date"))
            assert modified <= date
            # So that each tenth of a second sees one.
            time.sleep(0.05)


def plain(server: ServerProcess) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", server.text())


@pytest.mark.clause("RFC 9111 §4.2.2")
@pytest.mark.parametrize("path", ["/media", "/media/none", "/nowhere", "/vod/none/master.m3u8"])
def test_what_is_not_there_may_be_kept_for_a_short_time(server: ServerProcess, path: str) -> None:
    """Else caches choose for how long."""
    with Client(address_of(server)) as client:
        answer = client.ask(path)
        assert (answer.status, answer.body) == (404, b"Not Found\n")
        assert answer["cache-control"] == "public, max-age=5"
        assert answer["x-content-type-options"] == "nosniff"


@pytest.mark.clause("Metrics have as many series whatever is asked for")
def test_paths_that_nobody_knows_do_not_grow_the_metrics(server: ServerProcess) -> None:
    """The same series for any path."""

    def series(client: Client) -> int:
        return len(client.ask("/metrics").body.splitlines())

    with Client(address_of(server)) as client:
        client.ask("/first/404")
        client.ask("/media/first")
        series(client)
        before = series(client)
        for number in range(300):
            assert client.ask(f"/area{number}/x").status == 404
            assert client.ask(f"/media/{number}").status == 404
        assert series(client) == before


@contextlib.contextmanager
def started(
    library: Path,
    launcher: Sequence[str] = (),
    stderr: int | IO[str] = subprocess.STDOUT,
    env: Mapping[str, str] | None = None,
) -> Iterator[ServerProcess]:
    """Run a server by a launcher, its log wherever the caller wants it; it must end well."""
    program = str(Path(sys.executable).parent / "headwater")
    announcement = library.parent / "announcement"
    with announcement.open("w") as output:
        process = subprocess.Popen(
            [*launcher, program, "serve", "--library", str(library), "--port", "0"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=stderr,
            text=True,
            env={**os.environ, **(env or {})},
        )
    running = ServerProcess(process)
    try:
        announced = re.compile(r"Headwater is at (http://\S+)/")
        wait_for(lambda: announced.search(announcement.read_text()), "the start", START_SECONDS)
        running.url = announced.findall(announcement.read_text())[0]
        yield running
        assert running.stop() == 0
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def poor_server(library: Path) -> Iterator[ServerProcess]:
    """A server that may open few files."""
    launcher = library.parent / "poor"
    launcher.write_text(
        "import os, resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({DESCRIPTORS}, {DESCRIPTORS}))\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    with started(library, (sys.executable, str(launcher))) as running:
        yield running


LOGGED = {"HEADWATER_LOG_REQUESTS": "true"}
PIPE_BYTES = 1 << 16


@pytest.mark.clause("A log that nobody takes holds nobody up")
def test_a_log_that_nobody_reads_holds_nobody_up(library: Path) -> None:
    """Far more lines than the pipe holds; some are dropped, and whoever reads it later is told."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as log:
        with started(library, stderr=writing, env=LOGGED) as server, Client(address_of(server)) as client:
            os.close(writing)
            for _ in range(3000):
                assert client.ask("/media/film.mp4", "Range: bytes=0-1").body == FILM[:2]
            assert client.ask("/metrics").status == 200
            lines = b""
            while b"log lines were dropped" not in lines:
                lines += log.read1(PIPE_BYTES)
                client.ask("/media/film.mp4", "Range: bytes=0-1")
        rest = log.read()
    assert (lines + rest).count(b"/media/film.mp4") < 3000


@pytest.mark.clause("A log that nobody takes holds nobody up")
def test_a_log_that_cannot_be_written_holds_nobody_up(library: Path) -> None:
    """The disk is full."""
    with (
        Path("/dev/full").open("w") as full,
        started(library, stderr=full, env=LOGGED) as server,
        Client(address_of(server)) as client,
    ):
        for _ in range(100):
            assert client.ask("/media/film.mp4", "Range: bytes=0-1").body == FILM[:2]


def in_time_wait(port: int) -> set[str]:
    """Clients of a port whose connections the kernel keeps because this side closed first (RFC 9293 §3.6)."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    found = (line.split()[1:4] for line in lines)
    return {
        remote for local, remote, state in found if state == "06" and int(local.partition(":")[2], 16) == port
    }


@pytest.mark.clause("RFC 9293 §3.6")
def test_thousands_of_short_connections_leave_nothing_behind(server: ServerProcess) -> None:
    """Each is served, and closed by its client, so that the server keeps no port for it."""
    address = address_of(server)
    with Client(address) as client:
        client.ask("/media/film.mp4", method="HEAD")
    before = descriptors(server.process.pid)
    waiting = in_time_wait(address[1])
    for _ in range(2000):
        with Client(address) as client:
            assert client.ask("/media/film.mp4", "Range: bytes=5-6").body == FILM[5:7]
    wait_for(lambda: descriptors(server.process.pid) <= before, what="the connections to be gone")
    # Those of before go meanwhile, on a slow machine.
    assert in_time_wait(address[1]) <= waiting


@pytest.mark.clause("CWE-774")
def test_a_server_without_descriptors_does_not_spin_and_recovers(poor_server: ServerProcess) -> None:
    """64 descriptors, 120 connections."""
    address = address_of(poor_server)
    with Client(address) as first:
        assert first.ask("/media/film.mp4").body == FILM
        crowd = []
        for _ in range(120):
            sock = socket.socket()
            sock.settimeout(PATIENCE)
            sock.connect(address)
            crowd.append(sock)
        try:
            time.sleep(0.5)
            began, before = time.monotonic(), cpu_seconds(poor_server.process.pid)
            time.sleep(2)
            used = cpu_seconds(poor_server.process.pid) - before
            assert used < 0.1 * (time.monotonic() - began)
            # Who was let in is served.
            assert first.ask("/media/film.mp4").body == FILM
        finally:
            for sock in crowd:
                sock.close()

    def recovered() -> bool:
        try:
            with Client(address) as client:
                return client.ask("/media/film.mp4").body == FILM
        except (OSError, AssertionError):
            return False

    wait_for(recovered, "the recovery")
