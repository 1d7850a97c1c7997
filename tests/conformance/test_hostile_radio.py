"""Radio's faults at a real server: nothing stays behind, and nobody else is harmed.

What was counted before, during and after each is kept in ``artifacts/radio-faults.jsonl``.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from tests.conformance.hearing import CROWD, KEY, PASSWORD, Hearing, crowd, gone, port_of, source
from tests.conformance.raw import Client
from tests.conftest import ARTIFACTS, ServerProcess, start_server
from tests.descriptors import descriptors, open_files
from tests.waiting import wait_for

MEMORY_BYTES = 12 << 20
"""What the allocator may keep of memory that was used for a moment."""

DECODER_DESCRIPTORS = 5
"""The ffmpeg itself, its three pipes, and the track."""

SOURCE_SECONDS, IMPATIENT_SECONDS = 120, 2
"""How long a source may send nothing: where it is to be heard, which a busy machine may keep it from; and
where that is what it is sent away for."""

CONFIG = """
[library]
path = "{folder}"
[[radio]]
name = "loud"
folder = "{folder}/loud"
bitrate = 320
[[radio]]
name = "open"
source = "publish"
source_password = "{password}"
[[radio]]
name = "vanishing"
folder = "{folder}/vanishing"
bitrate = 64
[limits]
queue_bytes = 196608
burst_bytes = 32768
source_seconds = {source_seconds}
hold_seconds = 120
shutdown_seconds = 60
wrong_passwords = 1000
"""


@dataclass(frozen=True)
class State:
    """What a server holds."""

    listeners: int
    descriptors: int
    children: int
    resident_bytes: int


def tone(path: Path, seconds: int, *arguments: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    source = ["-f", "lavfi", "-i", f"sine=frequency=440:duration={seconds}"]
    subprocess.run(["ffmpeg", "-v", "error", *source, *arguments, str(path)], check=True)
    return path


def start(folder: Path, source_seconds: int = SOURCE_SECONDS) -> ServerProcess:
    config = folder / f"{source_seconds}.toml"
    config.write_text(CONFIG.format(folder=folder, password=PASSWORD, source_seconds=source_seconds))
    return start_server("--config", str(config), "--port", "0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("radio")
    tone(folder / "loud" / "1.mp3", 60, "-ac", "2", "-b:a", "320k")
    tone(folder / "spare.mp3", 2, "-ac", "2", "-b:a", "64k")
    (folder / "vanishing").mkdir()
    shutil.copy(folder / "spare.mp3", folder / "vanishing" / "1.mp3")
    return folder


@contextlib.contextmanager
def started(folder: Path, source_seconds: int = SOURCE_SECONDS) -> Iterator[ServerProcess]:
    running = start(folder, source_seconds)
    try:
        wait_for(lambda: metric(running, "listeners", "loud") == 0, what="the station")
        # Everything that is made at the first use is there.
        with crowd(running, "loud", 20):
            wait_for(lambda: came(running, 0) >= 20, what="the first listeners")
        wait_for(lambda: metric(running, "listeners", "loud") == 0, what="their leaving")
        yield running
        assert running.stop() == 0
    finally:
        running.process.kill()
        running.process.wait()


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    with started(folder) as running:
        yield running


@pytest.fixture(scope="module")
def impatient_server(folder: Path) -> Iterator[ServerProcess]:
    with started(folder, IMPATIENT_SECONDS) as running:
        yield running


def metric(server: ServerProcess, name: str, mount: str) -> int:
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=120) as answer:
        text = answer.read().decode()
    found = re.search(rf'^headwater_radio_{name}\{{mount="{mount}"\}} (\S+)$', text, re.MULTILINE)
    return -1 if found is None else round(float(found[1]))


def state(server: ServerProcess) -> State:
    pid = server.process.pid
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    listeners = sum(metric(server, "listeners", mount) for mount in ("loud", "open", "vanishing"))
    return State(listeners, descriptors(pid), len(server.children()), resident)


@contextlib.contextmanager
def leaving_nothing(server: ServerProcess, fault: str) -> Iterator[Callable[[], None]]:
    """Check that all is as it was when the block has ended; gives what notes the state in between."""
    before = state(server)
    during: list[State] = []
    yield lambda: during.append(state(server))

    def restored() -> bool:
        now = state(server)
        # A track may be decoded now, while none was before.
        return (
            now.listeners == before.listeners and now.descriptors <= before.descriptors + DECODER_DESCRIPTORS
        )

    try:
        wait_for(restored, what="the state before")
    finally:
        after = state(server)
        ARTIFACTS.mkdir(exist_ok=True)
        states = {"before": asdict(before), "during": [*map(asdict, during)], "after": asdict(after)}
        with (ARTIFACTS / "radio-faults.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"fault": fault, **states}) + "\n")
    assert after.resident_bytes < before.resident_bytes + MEMORY_BYTES


@pytest.mark.clause("A source may come back with another format")
def test_sources_that_are_killed_and_come_back_otherwise_cost_no_listener(server: ServerProcess) -> None:
    with leaving_nothing(server, "source killed, another sample rate after it") as note:
        count = server.text().count("source gone")
        with source(server):
            wait_for(lambda: metric(server, "listeners", "open") == 0 and is_live(server), what="its audio")
            listener_time = Hearing(f"{server.url}/radio/open")
            wait_for(lambda: listener_time.frames(), what="audio")
            note()
        gone(server, count + 1)
        with source(server, rate=22050, channels=1):
            wait_for(lambda: listener_time.frames()[-1].header.sample_rate == 22050, what="the other's audio")
            note()
            # Frame by frame, over the change too.
            found = listener_time.frames()
            assert bytes(listener_time.data).startswith(b"".join(frame.data for frame in found))
            rates = [frame.header.sample_rate for frame in found]
            assert rates == sorted(rates, reverse=True)
            assert metric(server, "listeners", "open") == 1
            listener_time.end()
        gone(server, count + 2)


def is_live(server: ServerProcess) -> bool:
    with urllib.request.urlopen(f"{server.url}/status-json.xsl", timeout=120) as answer:
        sources = json.load(answer)["icestats"]["source"]
    return any(one["listenurl"].endswith("/open") for one in sources)


@pytest.mark.clause("A body that doesn't come is given up")
def test_a_source_that_stalls_with_an_open_socket_loses_its_place(impatient_server: ServerProcess) -> None:
    server = impatient_server
    with leaving_nothing(server, "source stalled") as note:
        count = server.text().count("source gone")
        with source(server) as stalled:
            # A busy machine may have made it stall before that.
            wait_for(lambda: is_live(server) or server.text().count("source gone") > count, what="its audio")
            stalled.send_signal(signal.SIGSTOP)
            gone(server, count + 1)
            note()
        assert f"no audio was sent for {IMPATIENT_SECONDS} s" in server.text()


def begin(server: ServerProcess) -> Client:
    client = Client(("127.0.0.1", port_of(server)))
    client.send(
        f"SOURCE /radio/open HTTP/1.0\r\nAuthorization: Basic {KEY}\r\nContent-Type: audio/mpeg\r\n\r\n"
    )
    return client


@pytest.mark.clause("A body that doesn't come is given up")
def test_a_source_that_sends_a_byte_now_and_then_loses_its_place(impatient_server: ServerProcess) -> None:
    """Bytes that never become audio keep nobody's place."""
    server = impatient_server
    count = server.text().count("source gone")
    with leaving_nothing(server, "source of a byte now and then"), begin(server) as client:
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while server.text().count("source gone") == count:
                assert time.monotonic() < began + 120
                client.send(b"\xff")
                time.sleep(0.2)
        gone(server, count + 1)


@pytest.mark.clause("A source may come back with another format")
def test_a_source_of_garbage_is_sent_away(server: ServerProcess) -> None:
    count = server.text().count("source gone")
    with leaving_nothing(server, "source of garbage"), begin(server) as client:
        with contextlib.suppress(OSError):
            for seed in range(200):
                client.send(bytes((seed * step) % 251 for step in range(4096)))
        gone(server, count + 1)


@pytest.mark.clause(
    "RFC 9110 §10.1.1", "RFC 9110 §15.5.2", "A source of the old protocol is answered as Icecast does"
)
def test_wrong_passwords_by_the_hundred_change_nothing(server: ServerProcess) -> None:
    with leaving_nothing(server, "wrong passwords"):
        for number in range(300):
            wrong = base64.b64encode(f"source:{number}".encode()).decode()
            with Client(("127.0.0.1", port_of(server))) as client:
                fields = (f"Authorization: Basic {wrong}", "Content-Type: audio/mpeg", "Expect: 100-continue")
                # RFC 9110 §10.1.1: no 100 before it.
                assert client.ask("/radio/open", *fields, method="PUT").status == 401
        with source(server):
            wait_for(lambda: is_live(server), what="the right one's audio")


def came(server: ServerProcess, dropped: int) -> int:
    """Count those that listen to ``loud``, and those that were dropped, as a busy machine may do."""
    return metric(server, "listeners", "loud") + metric(server, "dropped_total", "loud") - dropped


@pytest.mark.promise("limits.queue_bytes")
@pytest.mark.clause("A listener that falls behind by more than the queue is dropped")
def test_a_crowd_whose_process_is_stopped_is_dropped(server: ServerProcess) -> None:
    with leaving_nothing(server, f"{CROWD} listeners stopped") as note:
        dropped = metric(server, "dropped_total", "loud")
        with crowd(server, "loud") as stopped:
            wait_for(lambda: came(server, dropped) >= CROWD, what="the crowd")
            stopped.send_signal(signal.SIGSTOP)
            listener_time = Hearing(f"{server.url}/radio/loud")
            wait_for(
                lambda: metric(server, "dropped_total", "loud") >= dropped + CROWD, what="their being dropped"
            )
            note()
        wait_for(lambda: len(listener_time.frames()) > 5 * 38, what="audio of some seconds")
        found = listener_time.frames()
        assert bytes(listener_time.data).startswith(b"".join(frame.data for frame in found))
        listener_time.end()


def test_a_crowd_that_is_killed_is_gone(server: ServerProcess) -> None:
    with leaving_nothing(server, f"{2 * CROWD} listeners killed") as note:
        dropped = metric(server, "dropped_total", "loud")
        with crowd(server, "loud", 2 * CROWD):
            wait_for(lambda: came(server, dropped) >= 2 * CROWD, what="the crowd")
            note()
        wait_for(lambda: metric(server, "listeners", "loud") == 0, what="their leaving")


def test_a_folder_that_is_emptied_and_spoilt_plays_again_when_there_is_music(
    server: ServerProcess, folder: Path
) -> None:
    music = folder / "vanishing"
    with leaving_nothing(server, "folder emptied, then a corrupt MP3") as note:
        listener_time = Hearing(f"{server.url}/radio/vanishing")
        wait_for(lambda: listener_time.data, what="music")
        (music / "1.mp3").unlink()
        wait_for(lambda: "no tracks" in server.text(), what="the folder's being found empty")
        note()
        (music / "0.mp3").write_bytes(b"\xff\xfb\x90\x00" * 5000)
        wait_for(lambda: "track skipped" in server.text(), what="the corrupt one's being skipped")
        note()
        size = len(listener_time.data)
        # Renamed, so that no half of it is found.
        shutil.copy(folder / "spare.mp3", folder / "1.mp3")
        (folder / "1.mp3").rename(music / "1.mp3")
        wait_for(lambda: len(listener_time.data) > size + 16_000, what="music again")
        assert metric(server, "listeners", "vanishing") == 1
        listener_time.end()


@pytest.mark.clause("CVE-2014-9018")
def test_children_have_no_connection_of_the_server(server: ServerProcess, folder: Path) -> None:
    other = tone(folder / "vanishing" / "other.mp3", 30, "-ac", "1", "-ar", "22050")
    try:
        seen: set[str] = set()

        def look() -> bool:
            for child in server.children():
                with contextlib.suppress(OSError):
                    # Until it is what it is started as, it has what the server has.
                    if "ffmpeg" not in os.readlink(f"/proc/{child}/exe"):
                        continue
                    seen.update(open_files(child))
            return bool(seen)

        wait_for(look, what="an ffmpeg")
        # Its standard input is one of a pair, whose other end the server has.
        own = set(open_files(server.process.pid))
        assert not {target for target in seen & own if target.startswith("socket:")}
    finally:
        other.unlink()


@pytest.mark.clause("The end of a server takes seconds and leaves nothing behind")
def test_the_end_doesnt_wait_for_sources_or_for_those_that_dont_read(folder: Path, tmp_path: Path) -> None:
    """A source, stopped or not, is sent away at once; the grace would be 60 s."""
    shutil.copytree(folder / "loud", tmp_path / "loud")
    (tmp_path / "vanishing").mkdir()
    server = start(tmp_path)
    try:
        with source(server) as stalled, crowd(server, "loud", 20) as stopped:
            wait_for(lambda: is_live(server), what="the source's audio")
            stalled.send_signal(signal.SIGSTOP)
            stopped.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(120) == 0
            assert time.monotonic() - began < 50
    finally:
        server.process.kill()
        server.process.wait()
