"""The command as a person types it: help, exit statuses, errors of one line, and a quick end."""

from __future__ import annotations

import contextlib
import json
import math
import re
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.conftest import ServerProcess, start_server
from tests.fork_server import run_headwater
from tests.origin.cli.error_lines import assert_one_line
from tests.waiting import wait_for

SHUTDOWN_SECONDS = 3.0
GRACE_SECONDS = 60
LAST_EVENT = re.compile(rb"\n\nevent: end\nid: \S+\ndata: \{\}\n\n\Z")
"""What a reader of events is told last."""


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("serve", "--help"), ("package", "--help"), ("check", "--help"), ("doctor", "--help")],
)
def test_every_command_has_help(arguments: tuple[str, ...]) -> None:
    result = run_headwater(*arguments)
    assert result.returncode == 0
    assert "Usage: headwater" in result.stdout


def test_without_a_command_there_is_help_to_read() -> None:
    result = run_headwater()
    assert result.returncode == 2
    assert result.stderr.startswith("Usage: headwater")
    assert "\n  serve " in result.stderr


def test_the_version_is_the_distributions() -> None:
    assert re.fullmatch(r"headwater \d+\.\d+\.\d+\n", run_headwater("--version", fresh=True).stdout)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("serve", "--prot", "1"), ("No such option", "--prot", "Try 'headwater serve --help'")),
        (("serve", "--port", "70000"), ("--port", "70000")),
        (("swim",), ("No such command", "swim")),
        (("serve", "--config", "nowhere.toml"), ("nowhere.toml", "No such file")),
    ],
)
def test_wrong_use_is_one_line_and_status_2(
    arguments: tuple[str, ...], words: tuple[str, ...], tmp_path: Path
) -> None:
    assert_one_line(run_headwater(*arguments, cwd=tmp_path), 2, *words)


def test_a_wrong_key_in_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "headwater.toml").write_text("[server]\nprot = 1\n")
    assert_one_line(
        run_headwater("serve", cwd=tmp_path), 2, "headwater.toml", "server.prot", "allowed: host, port"
    )


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    result = run_headwater("serve", cwd=tmp_path, env={"HEADWATER_SERVER_PORT": "many"})
    assert_one_line(result, 2, "HEADWATER_SERVER_PORT", "a whole number, not text")


def test_print_config_shows_paths_of_the_file_beside_it_and_others_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "headwater.toml").write_text('[server]\ndata = "d"\n[library]\npath = "films"\n')
    result = run_headwater(
        "serve", "--config", "etc/headwater.toml", "--library", "own", "--print-config", cwd=tmp_path
    )
    assert 'data = "etc/d"\n' in result.stdout
    assert 'path = "own"\n' in result.stdout


def test_print_config_shows_what_the_sources_gave(tmp_path: Path) -> None:
    (tmp_path / "headwater.toml").write_text('[server]\nport = 1\n[library]\npath = "films"\n')
    result = run_headwater(
        "serve", "--port", "3", "--print-config", cwd=tmp_path, env={"HEADWATER_SERVER_HOST": "::1"}
    )
    assert result.returncode == 0
    assert "port = 3\n" in result.stdout
    assert 'host = "::1"\n' in result.stdout
    assert 'path = "films"\n' in result.stdout


@pytest.mark.promise("server.port")
@pytest.mark.clause("What prevents a start is told in a line")
def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert_one_line(
            run_headwater("serve", "--library", str(tmp_path), "--port", port), 1, port, "in use", "--port"
        )


def test_a_host_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    assert_one_line(
        run_headwater("serve", "--library", str(tmp_path), "--host", "no.such.host.invalid"),
        1,
        "no.such.host",
    )


@pytest.mark.parametrize(
    ("name", "reason"), [("folder/nowhere.mp4", "no such file"), ("notes.txt", "not an MP4")]
)
def test_what_cannot_be_packaged_is_one_line(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "notes.txt").write_text("no film\n")
    assert_one_line(run_headwater("package", name, "--out", "out", cwd=tmp_path), 1, name, reason)


@pytest.mark.clause("What prevents a start is told in a line")
def test_a_library_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    assert_one_line(
        run_headwater("serve", "--library", str(missing), "--port", "0"), 1, str(missing), "No such file"
    )
    file = tmp_path / "file"
    file.write_text("")
    assert_one_line(
        run_headwater("serve", "--library", str(file), "--port", "0"), 1, str(file), "Not a directory"
    )


@pytest.mark.clause("What is missing of ffmpeg is told in a line")
def test_a_missing_ffmpeg_is_one_line_where_something_needs_it(tmp_path: Path) -> None:
    env = {"FFMPEG": "/nowhere/ffmpeg", "FFPROBE": "/nowhere/ffprobe", "XDG_CACHE_HOME": str(tmp_path)}
    assert_one_line(
        run_headwater("serve", "--demo", "--port", "0", env=env),
        1,
        "FFMPEG=/nowhere/ffmpeg",
        "install ffmpeg",
    )


@pytest.mark.clause("What is missing of ffmpeg is told in a line")
def test_without_ffmpeg_files_are_still_served(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"0123456789")
    env = {"FFMPEG": "/nowhere/ffmpeg", "FFPROBE": "/nowhere/ffprobe"}
    server = start_server("--library", str(tmp_path), "--port", "0", env=env)
    try:
        with urllib.request.urlopen(f"{server.url}/media/film.mp4") as answer:
            assert answer.read() == b"0123456789"
    finally:
        assert server.stop() == 0
    assert "no ffmpeg" in server.text()


@dataclass
class Reading:
    """A thread that reads an address to its end."""

    url: str
    got: list[bytes] = field(default_factory=list)

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self._run)
        thread.start()
        return thread

    def _run(self) -> None:
        with contextlib.suppress(OSError, HTTPException), urllib.request.urlopen(self.url) as answer:
            while data := answer.read1(65536):
                self.got.append(data)


class Queued(threading.Thread):
    """Notes for how long a server and its children were ready to run and no processor was free (proc(5)).

    Where this thread stands still itself, so do they, or may: that counts, too.

    Attributes:
        ended: when the server did, by the monotonic clock.
    """

    LOOK_SECONDS = 0.02
    LATE_SECONDS = 0.1

    def __init__(self, server: int, children: Sequence[int]) -> None:
        super().__init__(daemon=True)
        self.ended = math.inf
        self._server, self._children = server, children
        self._begun = {pid: self._told(pid) for pid in (server, *children)}
        self._latest = {pid: dict(told) for pid, told in self._begun.items()}
        self._stood_still = 0.0

    @property
    def seconds(self) -> float:
        """Those of the server's threads, of the child's thread for which it waited longest, and ours."""
        others = (seconds for pid in self._children for seconds in self._of(pid))
        return sum(self._of(self._server)) + max(others, default=0.0) + self._stood_still

    def _of(self, pid: int) -> list[float]:
        """Give the seconds of each thread of a process since the beginning."""
        begun = self._begun[pid]
        return [seconds - begun.get(thread, 0.0) for thread, seconds in self._latest[pid].items()]

    @staticmethod
    def _told(pid: int) -> Mapping[str, float]:
        """Give the seconds of each thread of a process; nothing for one that has ended."""
        told = {}
        folder, tasks = Path(f"/proc/{pid}/task"), list[Path]()
        # The process may end between any two looks; it has no tasks then.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            tasks = list(folder.iterdir())
        for task in tasks:
            with contextlib.suppress(OSError):
                if (task / "stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                    continue
                told[task.name] = 0.0  # where the kernel doesn't count
                told[task.name] = int((task / "schedstat").read_text().split()[1]) / 1e9
        return told

    def run(self) -> None:
        """Look until all have ended."""
        alive, before = {self._server, *self._children}, time.monotonic()
        while alive:
            for pid in tuple(alive):
                told, latest = self._told(pid), self._latest[pid]
                for thread, seconds in told.items():
                    latest[thread] = max(seconds, latest.get(thread, 0.0))
                if not told:
                    alive.remove(pid)
                    self.ended = time.monotonic() if pid == self._server else self.ended
            time.sleep(self.LOOK_SECONDS)
            now = time.monotonic()
            self._stood_still += max(now - before - self.LATE_SECONDS, 0.0)
            before = now


@pytest.mark.clause("The end of a server takes seconds and leaves nothing behind")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_takes_three_seconds_and_leaves_no_ffmpeg_and_no_traceback(number: signal.Signals) -> None:
    """With a listener, a reader of events, and a download that has stopped reading."""
    server = start_server("--demo", "--port", "0")
    try:
        children = wait_for(server.children, what="ffmpeg's start")
        wait_for(lambda: live_state(server) == "live", what="the channel")
        listener, reader = (Reading(f"{server.url}/{area}/demo.mp3") for area in ("radio", "events/radio"))
        threads = [listener.start(), reader.start()]
        wait_for(lambda: listener.got and reader.got, what="audio and events")
        host, port = server.url.removeprefix("http://").split(":")
        stalled = socket.create_connection((host, int(port)))
        stalled.sendall(b"GET /media/film.720p.mp4 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert stalled.recv(10)
        queued = Queued(server.process.pid, server.children())
        queued.start()
        started = time.monotonic()
        server.process.send_signal(number)
        status = server.process.wait(120)
        # This thread may stand still, too, and hear of it late.
        took = min(time.monotonic(), queued.ended) - started
        for thread in (*threads, queued):
            thread.join(120)
        stalled.close()
    finally:
        server.process.kill()
        server.process.wait()
    assert status == 0
    # A machine that has other work isn't counted.
    assert took - queued.seconds < SHUTDOWN_SECONDS
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert not any(thread.is_alive() for thread in threads)
    assert LAST_EVENT.search(b"".join(reader.got))
    assert "Traceback" not in server.text()
    assert "rror" not in server.text()


def test_readers_of_events_are_let_go_at_once_while_a_download_has_its_grace(tmp_path: Path) -> None:
    """With so much grace that it doesn't matter how late the test is."""
    with (tmp_path / "big.mp4").open("wb") as file:
        file.truncate(64 << 20)
    (tmp_path / "headwater.toml").write_text(
        f'[server]\nport = 0\n[library]\npath = "{tmp_path}"\n[limits]\nshutdown_seconds = {GRACE_SECONDS}\n'
        '[[radio]]\nname = "talk.mp3"\nsource = "publish"\nsource_password = "sesame"\n'
    )
    server = start_server("--config", str(tmp_path / "headwater.toml"))
    try:
        reader = Reading(f"{server.url}/events/radio/talk.mp3")
        thread = reader.start()
        wait_for(lambda: reader.got, what="the channel's greeting")
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as stalled:
            stalled.sendall(b"GET /media/big.mp4 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert stalled.recv(10)
            started = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            thread.join(120)
            assert time.monotonic() - started < GRACE_SECONDS / 2
            assert server.process.poll() is None
        # With the download everything is over.
        assert server.process.wait(120) == 0
    finally:
        server.process.kill()
        server.process.wait()
    assert LAST_EVENT.search(b"".join(reader.got))


def live_state(server: ServerProcess) -> str:
    with urllib.request.urlopen(f"{server.url}/api/live") as answer:
        return str(json.load(answer)[0]["state"])


@pytest.mark.clause("Children die with their parent")
def test_a_server_that_is_killed_leaves_no_ffmpeg() -> None:
    server = start_server("--demo", "--port", "0")
    children = wait_for(server.children, what="ffmpeg's start")
    server.stop(signal.SIGKILL)
    wait_for(
        lambda: not [pid for pid in children if Path(f"/proc/{pid}").exists()], what="the children's end"
    )


@pytest.mark.promise("headwater serve")
def test_logs_are_json_where_asked_for(tmp_path: Path) -> None:
    server = start_server("--library", str(tmp_path), "--port", "0", "--log-format", "json")
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.text().splitlines() if line.startswith("{")]
    assert any(line["event"] == "the server listens" and line["level"] == "info" for line in lines)
