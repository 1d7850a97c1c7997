"""Programs that fetch files: in ranges, in parts at once, and on from where they were."""

from __future__ import annotations

import email
import email.policy
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.conftest import DATA_SIZE, TIMEOUT_SECONDS, run
from tests.clients.programs import environment
from tests.conftest import ServerProcess, start_server
from tests.ports import kept_port
from tests.programs import program
from tests.waiting import wait_for

HAVE = 7_654_321
"""Bytes of an interrupted download, at no boundary of anything."""

CUT_AT = 2 << 20
MIB = 1 << 20


def counted(origin: ServerProcess, status: int) -> int:
    """How many requests for files the origin has answered with that status."""
    text = run(program("curl", "curl"), "-sf", f"{origin.url}/metrics").text
    found = re.search(
        rf'^headwater_requests_total{{area="media",status="{status}"}} (\S+)', text, re.MULTILINE
    )
    return int(float(found[1])) if found else 0


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("0-0", 0, 0),
        ("0-99", 0, 99),
        ("1000000-", 1_000_000, DATA_SIZE - 1),
        ("-1", DATA_SIZE - 1, DATA_SIZE - 1),
        ("-5000", DATA_SIZE - 5000, DATA_SIZE - 1),
        (f"{DATA_SIZE - 10}-{DATA_SIZE + 10}", DATA_SIZE - 10, DATA_SIZE - 1),
    ],
)
def test_curl_gets_the_range_that_it_asks_for(
    origin: ServerProcess, data: bytes, asked: str, first: int, last: int
) -> None:
    result = run(program("curl", "curl"), "-sf", "-r", asked, f"{origin.url}/media/data.mp4")
    assert result.status == 0
    assert result.output == data[first : last + 1]


def test_curl_gets_several_ranges_as_parts_that_a_mail_reader_understands(
    origin: ServerProcess, data: bytes
) -> None:
    result = run(program("curl", "curl"), "-sfi", "-r", "0-99,5000-5099,-50", f"{origin.url}/media/data.mp4")
    assert result.status == 0
    status, _, mail = result.output.partition(b"\r\n")
    assert status == b"HTTP/1.1 206 Partial Content"
    parts = list(email.message_from_bytes(mail, policy=email.policy.HTTP).iter_parts())
    assert [part["content-range"] for part in parts] == [
        f"bytes 0-99/{DATA_SIZE}",
        f"bytes 5000-5099/{DATA_SIZE}",
        f"bytes {DATA_SIZE - 50}-{DATA_SIZE - 1}/{DATA_SIZE}",
    ]
    assert b"\r\n\r\n" + data[:100] + b"\r\n--" in mail
    assert b"\r\n\r\n" + data[5000:5100] + b"\r\n--" in mail
    assert b"\r\n\r\n" + data[-50:] + b"\r\n--" in mail


@pytest.mark.promise("/media/PATH")
def test_curl_goes_on_where_it_was_and_fetches_only_the_rest(
    origin: ServerProcess, data: bytes, tmp_path: Path
) -> None:
    target = tmp_path / "data.mp4"
    target.write_bytes(data[:HAVE])
    options = ("-sf", "-C", "-", "-o", str(target), "-w", "%{http_code} %{size_download}")
    result = run(program("curl", "curl"), *options, f"{origin.url}/media/data.mp4")
    assert (result.status, result.text) == (0, f"206 {DATA_SIZE - HAVE}")
    assert target.read_bytes() == data


@pytest.mark.clause("RFC 9110 §15.5.17")
def test_curl_is_content_with_416_for_a_file_that_it_has(
    origin: ServerProcess, data: bytes, tmp_path: Path
) -> None:
    """It sees the file's length in Content-Range and that nothing is left to fetch."""
    target = tmp_path / "data.mp4"
    target.write_bytes(data)
    options = ("-s", "-C", "-", "-o", str(target), "-w", "%{http_code}")
    result = run(program("curl", "curl"), *options, f"{origin.url}/media/data.mp4")
    assert (result.status, result.text) == (0, "416")
    assert target.read_bytes() == data


def test_wget_goes_on_where_it_was(origin: ServerProcess, data: bytes, tmp_path: Path) -> None:
    target = tmp_path / "data.mp4"
    target.write_bytes(data[:HAVE])
    result = run(program("wget", "wget"), "-c", f"{origin.url}/media/data.mp4", cwd=tmp_path)
    assert result.status == 0, result.errors
    assert "206 Partial Content" in result.errors
    assert f"{DATA_SIZE - HAVE}" in result.errors
    assert target.read_bytes() == data


def test_wget_is_content_with_416_for_a_file_that_it_has(
    origin: ServerProcess, data: bytes, tmp_path: Path
) -> None:
    target = tmp_path / "data.mp4"
    target.write_bytes(data)
    result = run(program("wget", "wget"), "-c", f"{origin.url}/media/data.mp4", cwd=tmp_path)
    assert result.status == 0, result.errors
    assert "416" in result.errors
    assert "already fully retrieved; nothing to do" in result.errors
    assert target.read_bytes() == data


@pytest.mark.clause("RFC 9110 §13.1.3")
def test_wget_keeps_the_modification_time_and_asks_by_it(origin: ServerProcess, tmp_path: Path) -> None:
    """`-N` sends If-Modified-Since of the file that it has."""
    for expected in ("200 OK", "304 Not Modified"):
        result = run(program("wget", "wget"), "-N", f"{origin.url}/media/data.mp4", cwd=tmp_path)
        assert result.status == 0, result.errors
        assert expected in result.errors
    assert (tmp_path / "data.mp4").stat().st_mtime == 1_700_000_000


@pytest.fixture
def own_port() -> Iterator[int]:
    with kept_port() as port:
        yield port


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_wget_goes_on_by_itself_when_the_origin_comes_back(
    library: Path, data: bytes, tmp_path: Path, own_port: int, number: signal.Signals
) -> None:
    """The connection is cut in mid-body; what has arrived counts, and the next request asks for the rest."""
    limits = {"HEADWATER_LIMITS_SHUTDOWN_SECONDS": "0.1"}
    port = str(own_port)
    first = start_server("--library", str(library), "--port", port, env=limits)
    target, log = tmp_path / "data.mp4", tmp_path / "log"
    # So slowly that it isn't through before the first origin is ended, however late that comes.
    options = ("--limit-rate=2m", "--tries=0", "--waitretry=1", "--retry-connrefused", "-o", str(log))
    command = (program("wget", "wget"), *options, "-O", str(target), f"{first.url}/media/data.mp4")
    wget = subprocess.Popen(command, env=environment(), stdin=subprocess.DEVNULL)
    try:
        wait_for(lambda: target.exists() and target.stat().st_size > CUT_AT, what="the first bytes")
        first.stop(number)
        assert target.stat().st_size < DATA_SIZE
        second = start_server("--library", str(library), "--port", port)
        assert wget.wait(TIMEOUT_SECONDS) == 0
        # It is counted once it is over, which the client sees first.
        wait_for(lambda: counted(second, 206), "the count")
        assert counted(second, 206) == 1
        second.stop()
    finally:
        wget.kill()
        wget.wait()
    assert target.read_bytes() == data
    assert "206 Partial Content" in log.read_text("utf-8")


def test_aria2_fetches_sixteen_parts_at_once(origin: ServerProcess, data: bytes, tmp_path: Path) -> None:
    before = counted(origin, 206)
    options = ("--no-conf", "-x16", "-s16", "-k1M", "--file-allocation=none", "--console-log-level=error")
    result = run(program("aria2c", "aria2"), *options, f"{origin.url}/media/data.mp4", cwd=tmp_path)
    assert result.status == 0, result.text
    assert (tmp_path / "data.mp4").read_bytes() == data
    wait_for(lambda: counted(origin, 206) - before >= 15, "the count of the last one")


def test_zsync_fetches_what_it_lacks_by_many_ranges_in_one_request(
    origin: ServerProcess, data: bytes, tmp_path: Path
) -> None:
    """It hangs unless a multipart body starts with CRLF before its first boundary."""
    zsync, zsyncmake = program("zsync", "zsync"), program("zsyncmake", "zsync")
    whole, old = tmp_path / "whole.mp4", bytearray(data)
    whole.write_bytes(data)
    for place in range(MIB, DATA_SIZE, MIB):
        old[place : place + 3000] = bytes(3000)
    (tmp_path / "old.mp4").write_bytes(old)
    control = tmp_path / "data.zsync"
    made = run(
        zsyncmake, "-u", f"{origin.url}/media/data.mp4", "-o", str(control), "-f", "new.mp4", str(whole)
    )
    assert made.status == 0, made.errors
    result = run(zsync, "-i", "old.mp4", "-o", "new.mp4", str(control), cwd=tmp_path)
    assert result.status == 0, result.errors
    assert (tmp_path / "new.mp4").read_bytes() == data
    used = re.search(r"used (\d+) local, fetched (\d+)", result.text + result.errors)
    assert used is not None
    assert int(used[2]) < DATA_SIZE // 20


def test_a_download_of_which_nothing_is_read_leaves_the_others_alone(
    origin: ServerProcess, data: bytes
) -> None:
    stalled = subprocess.Popen(
        (program("curl", "curl"), "-sN", f"{origin.url}/media/tail.mp4"),
        env=environment(),
        stdout=subprocess.PIPE,
    )
    try:
        assert stalled.stdout is not None
        assert os.read(stalled.stdout.fileno(), 8)
        result = run(program("curl", "curl"), "-sf", f"{origin.url}/media/data.mp4")
        assert result.output == data
    finally:
        stalled.kill()
        stalled.communicate()
