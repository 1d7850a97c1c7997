"""The log of the stations' requests: as Icecast writes its own, and as an analyser of such logs reads it."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import structlog

from origin.config.errors import CommandError
from origin.radio.access_log import AccessLogFile, AnsweredRequest, write_line
from origin.radio.mounts.limits import RadioLimits
from tests.conftest import ServerProcess, start_server
from tests.patience import CLIENT_SECONDS
from tests.programs import program
from tests.waiting import wait_for

# httpd.apache.org/docs/2.4/logs.html#combined, and Icecast's seconds behind it.
LINE = re.compile(
    r"(?P<host>\S+) \S+ \S+ \[(?P<time>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\]"
    r' "(?P<request>[^"]*)"'
    r' (?P<status>\d{3}) (?P<bytes>\d+) "(?P<referer>[^"]*)" "(?P<agent>[^"]*)" (?P<seconds>\d+)\n'
)
ICECAST = (
    '127.0.0.1 - - [21/Nov/2026:21:44:26 +0000] "GET /a.mp3 HTTP/1.1" 200 28260 "http://ref.example/"'
    ' "Lis<tener" 1\n'
)
"""Written by Icecast 2.4.4."""

ASKED = AnsweredRequest(
    "127.0.0.1",
    1795297466.0,
    b"GET /a.mp3 HTTP/1.1",
    200,
    28260,
    b"http://ref.example/",
    b"Lis<tener",
    1,
)


def test_a_line_is_icecasts() -> None:
    assert write_line(ASKED, 1000) == ICECAST
    assert LINE.fullmatch(ICECAST)


@pytest.mark.parametrize(
    "agent", [b'a" 200 1 "-" "-" 9\n1.2.3.4 - -', b"\x1b[2J\r\n", b"\xc3\xa4\x00\\", b"x" * 100_000, b""]
)
@pytest.mark.clause("CWE-117")
def test_no_client_writes_a_line_or_a_field_of_its_own(agent: bytes) -> None:
    asked = AnsweredRequest("192.0.2.1", 0.0, agent, 200, 1, agent, agent, 0)
    line = write_line(asked, 1000)
    found = LINE.fullmatch(line)
    assert found is not None
    assert line[:-1].isprintable()
    assert line.isascii()
    assert len(line) < 3 * 4 * 1000 + 200


@pytest.fixture
def file(tmp_path: Path) -> Iterator[AccessLogFile]:
    opened = AccessLogFile(tmp_path / "access.log", RadioLimits(log_last_seconds=CLIENT_SECONDS))
    yield opened
    opened.close()


def test_a_file_that_was_moved_away_is_made_anew(tmp_path: Path, file: AccessLogFile) -> None:
    path, moved = tmp_path / "access.log", tmp_path / "access.log.1"
    file.write("one\n")
    wait_for(lambda: path.read_text() == "one\n", "the first line", CLIENT_SECONDS)
    path.rename(moved)
    file.write("two\n")
    wait_for(lambda: path.exists() and path.read_text() == "two\n", "the second", CLIENT_SECONDS)
    assert moved.read_text() == "one\n"
    assert path.stat().st_mode & 0o007 == 0, "others on this machine don't read who listens"
    path.unlink()
    tmp_path.chmod(0o700)
    file.write("three\n")
    wait_for(lambda: path.exists() and path.read_text() == "three\n", "the third", CLIENT_SECONDS)


def test_a_line_that_a_full_disk_cut_off_spoils_no_other(tmp_path: Path, file: AccessLogFile) -> None:
    path = tmp_path / "access.log"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # setrlimit(2): beyond it a file takes what fits, and then nothing, like a disk that is full.
    resource.setrlimit(resource.RLIMIT_FSIZE, (6, before[1]))
    try:
        with structlog.testing.capture_logs() as lines:
            file.write("one\n")
            file.write("two\n")
            wait_for(lambda: lines, "its failure", CLIENT_SECONDS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    file.write("three\n")
    wait_for(lambda: path.read_text() == "one\ntw\nthree\n", "the next line", CLIENT_SECONDS)


@pytest.mark.parametrize("name", ["none/access.log", ".", "pipe"])
def test_a_file_that_cant_be_written_is_an_error_at_the_start(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CommandError, match=r"^log\.access: .*; name a file that can be written$"):
        AccessLogFile(tmp_path / name, RadioLimits())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    music = tmp_path / "music"
    music.mkdir()
    tone = ["-f", "lavfi", "-i", "sine=duration=5", "-ac", "2", "-ar", "44100", "-b:a", "128k"]
    subprocess.run(["ffmpeg", "-v", "error", *tone, str(music / "a.mp3")], check=True)
    (tmp_path / "headwater.toml").write_text(
        '[log]\naccess = "access.log"\n'
        '[[radio]]\nname = "one.mp3"\nfolder = "music"\naliases = ["/morning.mp3"]\nhls = false\n'
    )
    with start_server("--port", "0", cwd=tmp_path) as server:
        yield server


@pytest.mark.promise("/status-json.xsl", "log.access")
def test_an_analyser_reads_how_long_somebody_listened(server: ServerProcess, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    with httpx.Client(base_url=server.url, timeout=CLIENT_SECONDS) as client:
        wait_for(lambda: client.get("/status-json.xsl").json()["icestats"]["source"], "audio", CLIENT_SECONDS)
        fields = {"User-Agent": 'Mozilla/5.0 "x"', "Referer": "http://page.example/"}
        with client.stream("GET", "/morning.mp3?key=hush-hush", headers=fields) as answer:
            # The server has counted since before it sent the head.
            began = time.monotonic()
            taken = 0
            for piece in answer.iter_raw():
                taken += len(piece)
                if time.monotonic() - began > 2:
                    break
        client.get("/admin/stats")
        client.get("/media/none.mp4")
        wait_for(lambda: "/admin/stats" in path.read_text(), "its line", CLIENT_SECONDS)
        wait_for(lambda: "/morning.mp3" in path.read_text(), "the listener's line", CLIENT_SECONDS)
    text = path.read_text()
    lines = [LINE.fullmatch(line) for line in text.splitlines(keepends=True)]
    assert all(lines)
    (heard,) = [line for line in lines if line is not None and "/morning.mp3" in line["request"]]
    assert heard["request"] == "GET /morning.mp3 HTTP/1.1"
    assert (heard["host"], heard["status"], heard["referer"]) == ("127.0.0.1", "200", "http://page.example/")
    assert int(heard["seconds"]) >= 2
    assert int(heard["bytes"]) >= taken
    assert "hush-hush" not in text
    assert '"GET /admin/stats HTTP/1.1" 401 ' in text
    assert "/media/" not in text
    command = [
        program("goaccess", "goaccess"),
        str(path),
        "--no-global-config",
        "-o",
        str(tmp_path / "r.json"),
    ]
    form = ["--log-format", '%h %^[%d:%t %^] "%r" %s %b "%R" "%u" %T', "--date-format", "%d/%b/%Y"]
    subprocess.run([*command, *form, "--time-format", "%H:%M:%S"], check=True, stdin=subprocess.DEVNULL)
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["general"]["failed_requests"] == 0
    assert report["general"]["total_requests"] == len(lines)
    every = [*report["requests"]["data"], *report.get("static_requests", {}).get("data", [])]
    (found,) = [one for one in every if one["data"] == "/morning.mp3"]
    # In microseconds.
    assert found["maxts"] >= 2_000_000
