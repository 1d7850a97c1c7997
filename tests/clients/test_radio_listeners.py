"""Radio with the programs that people listen with, all at once: players, browsers, curl, nginx between them.

``HEADWATER_WATCH_SECONDS=60`` lets them listen for longer.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.clients.marionette import Firefox
from tests.clients.programs import UNPRIVILEGED, environment
from tests.clients.radio_listeners import FACTS, LISTEN, chromium
from tests.clients.stations import HEARD, PATIENCE_SECONDS, frames, live_station, running, station
from tests.conftest import ARTIFACTS, ServerProcess
from tests.e2e.conftest import looks
from tests.ports import kept_port
from tests.programs import program
from tests.waiting import wait_for

SECONDS = float(os.environ.get("HEADWATER_WATCH_SECONDS", "10"))
"""How long each one listens."""

PACKAGES = {
    "curl": "curl",
    "mpv": "mpv",
    "ffplay": "ffmpeg",
    "ffmpeg": "ffmpeg",
    "cvlc": "vlc-bin vlc-plugin-base",
    "nginx": "nginx-light",
    "firefox-esr": "firefox-esr",
}
ADDRESS = "/radio/folder.mp3"
MOST_OFF = 0.05
"""By which a browser's pace may differ from real time."""

STALL_SECONDS = 3.0
"""Blocks come each second, and a player has four seconds of burst."""

CALM_SECONDS = SECONDS - 2
"""For so long in a row nothing stalls, at some time; where audio comes in heaps, each of them is a stall."""


@dataclass
class Heard:
    """What the listeners said and got.

    Attributes:
        texts: words of each program.
        saved: what curl got.
        through_nginx: what came through nginx.
        longest_wait: seconds without any of that.
        longest_calm: seconds in a row without a stall of it.
        browsers: media seconds played for each second, and how often it stalled.
    """

    texts: dict[str, str] = field(default_factory=dict)
    saved: bytes = b""
    through_nginx: bytearray = field(default_factory=bytearray)
    longest_wait: float = 0.0
    longest_calm: float = 0.0
    browsers: dict[str, tuple[float, int]] = field(default_factory=dict)

    def measure(self, before: Mapping[str, list[float]], after: Mapping[str, list[float]]) -> None:
        """Take note of the facts of each browser before and after a while; the best while counts."""
        for name, first in before.items():
            last = after[name]
            measured = ((last[0] - first[0]) / (last[3] - first[3]), round(last[2] - first[2]))
            known = self.browsers.get(name, measured)
            self.browsers[name] = min(known, measured, key=lambda one: abs(one[0] - 1))

    @property
    def at_real_time(self) -> bool:
        """Whether each browser played so in some while."""
        return all(abs(pace - 1) < MOST_OFF for pace, _ in self.browsers.values())


def commands(folder: Path, url: str) -> dict[str, tuple[str, ...]]:
    """The players' command lines, by name."""
    vlc: tuple[str, ...] = ("cvlc", "-vv", "--no-color", "--aout=adummy", "--no-dbus", url)
    if os.geteuid() == 0:
        # It refuses to run as root.
        ids = (f"--reuid={UNPRIVILEGED}", f"--regid={UNPRIVILEGED}", "--clear-groups")
        vlc = ("setpriv", *ids, *vlc)
    return {
        "curl": ("curl", "-sSN", "-A", "curl", "-o", str(folder / "saved.mp3"), url),
        "mpv": ("mpv", "--no-config", "--ao=null", "--vo=null", "--ytdl=no", "--term-status-msg=", url),
        "ffplay": ("ffplay", "-v", "verbose", "-nostats", "-nodisp", url),
        "cvlc": vlc,
        "ffmpeg": ("ffmpeg", "-nostdin", "-v", "verbose", "-nostats", "-i", url, "-f", "null", "-"),
    }


NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {origin}; }} }}
}}
"""


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def nginx(folder: Path, origin: str) -> Iterator[str]:
    """nginx with its default buffering before the server; gives its address."""
    config = folder / "nginx.conf"
    with kept_port() as port:
        config.write_text(NGINX.format(folder=folder, port=port, origin=origin))
        with running("nginx", "-c", str(config), "-p", str(folder), log=folder / "log"):
            wait_for(lambda: is_open(port), what="nginx")
            yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def reading(url: str, heard: Heard) -> Iterator[None]:
    """Read in a thread of its own until the block ends."""
    over = threading.Event()

    def read() -> None:
        with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:
            last = calm_since = time.monotonic()
            while not over.is_set():
                heard.through_nginx += answer.read1(65536)
                now = time.monotonic()
                if now - last >= STALL_SECONDS:
                    calm_since = now
                heard.longest_calm = max(heard.longest_calm, now - calm_since)
                heard.longest_wait, last = max(heard.longest_wait, now - last), now

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(PATIENCE_SECONDS)


@contextlib.contextmanager
def firefox(url: str, folder: Path) -> Iterator[Callable[[str], Any]]:
    """The same for Firefox."""
    with Firefox.running(folder, environment()) as browser:
        browser.go(url)
        yield browser.evaluate


def plays(page: Callable[[str], Any]) -> bool:
    """Whether a page's audio element is on its way."""
    return bool(page(FACTS)[0] > 0.5)


TITLES_OF = {
    "mpv": "icy-title: (.*)",
    "ffplay": "Metadata update for StreamTitle: (.*)",
    "ffmpeg": "Metadata update for StreamTitle: (.*)",
    "cvlc": "New Icy-Title=(.*)",
}
TROUBLES = "(?i:invalid data|error while|header missing)"
LATE = "buffer too late|playback too late|underflow"


def titles_in(text: str, name: str) -> set[str]:
    """The titles that a player has shown."""
    return {title.strip() for title in re.findall(TITLES_OF[name], text)}


@contextlib.contextmanager
def listening(name: str, folder: Path, url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Let a player listen until the block ends; its words go to a file of its name."""
    with tempfile.TemporaryDirectory() as home:
        os.chmod(home, 0o777)
        env = {"ffplay": {"SDL_AUDIODRIVER": "dummy"}, "cvlc": {"HOME": home}}.get(name)
        with running(*commands(folder, url)[name], log=folder / name, env=env) as process:
            yield process


def stay(radio: ServerProcess, count: int, players: Mapping[Path, subprocess.Popen[bytes]]) -> None:
    """Let everybody listen for a while, and see that they all do."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        there = live_station(radio, "folder.mp3")["listeners"]
        assert there == count, "one went away or came twice"
        for log, process in players.items():
            assert process.poll() is None, log.read_text("utf-8", "replace")
        time.sleep(0.5)


@pytest.fixture(scope="module")
def heard(radio: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Heard:
    """What everybody hears who is installed, listening at the same time."""
    heard, folder = Heard(), tmp_path_factory.mktemp("listeners")
    installed = {name for name in PACKAGES if shutil.which(name)}
    url = radio.url + ADDRESS
    wanted = [name for name in commands(folder, url) if name in installed]

    def titles(name: str) -> set[str]:
        return titles_in((folder / name).read_text("utf-8", "replace"), name)

    with contextlib.ExitStack() as stack:
        players = {name: stack.enter_context(listening(name, folder, url)) for name in wanted}
        pages = {"chromium": stack.enter_context(chromium(radio.url))}
        if "firefox-esr" in installed:
            profile = folder / "firefox"
            pages["firefox-esr"] = stack.enter_context(firefox(radio.url, profile))
        if "nginx" in installed:
            door = stack.enter_context(nginx(folder, radio.url))
            stack.enter_context(reading(door + ADDRESS, heard))
        for page in pages.values():
            page(LISTEN % ADDRESS)
        count = len(players) + len(pages) + ("nginx" in installed)
        for name, page in pages.items():
            wait_for(functools.partial(plays, page), f"{name}'s playing", PATIENCE_SECONDS)
        # While one comes late another may be there twice: each is to have begun.
        shown = [name for name in players if name in TITLES_OF]
        for name in shown:
            wait_for(functools.partial(titles, name), f"{name}'s first title", PATIENCE_SECONDS)
        wait_for(lambda: station(radio, "folder.mp3").get("listeners") == count, f"all {count} listeners")
        # On a busy machine some of them stand still now and then: until each had its time.
        for _ in looks():
            before = {name: page(FACTS) for name, page in pages.items()}
            stay(radio, count, {folder / name: process for name, process in players.items()})
            heard.measure(before, {name: page(FACTS) for name, page in pages.items()})
            calm = "nginx" not in installed or heard.longest_calm > CALM_SECONDS
            if heard.at_real_time and calm and all(titles(name) >= HEARD for name in shown):
                break
        for process in players.values():
            process.send_signal(signal.SIGTERM)
        for process in players.values():
            process.wait(120)
    wait_for(lambda: station(radio, "folder.mp3").get("listeners") == 0, "everybody's leaving")
    heard.texts = {name: (folder / name).read_text("utf-8", "replace") for name in players}
    if "curl" in players:
        heard.saved = (folder / "saved.mp3").read_bytes()
    return heard


def keep(name: str, facts: dict[str, object]) -> None:
    """Keep what was seen of a client, beside the other artifacts."""
    ARTIFACTS.mkdir(exist_ok=True)
    with (ARTIFACTS / "radio-listeners.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"client": name, "seconds": SECONDS, **facts}, ensure_ascii=False) + "\n")


def test_curl_gets_real_time_and_whole_frames(heard: Heard) -> None:
    program("curl", PACKAGES["curl"])
    data = heard.saved
    keep("curl", {"bytes": len(data), "frames": len(frames(data))})
    # A burst of at most 64 KiB, then 16,000 bytes a second; those who came later were waited for.
    assert len(data) > 16_000 * (SECONDS - 2)
    assert data[:2] == b"\xff\xfb"
    assert len(frames(data)) >= len(data) // 418 - 2


@pytest.mark.parametrize("name", TITLES_OF)
def test_a_player_plays_without_a_trouble_and_shows_the_titles(
    name: str, radio: ServerProcess, heard: Heard, tmp_path: Path
) -> None:
    program(name, PACKAGES[name])
    text = heard.texts[name]
    titles = titles_in(text, name)
    for _ in looks():
        troubles, late = re.findall(TROUBLES, text), re.findall(LATE, text)
        keep(name, {"titles": sorted(titles), "troubles": troubles, "late": late})
        assert troubles == []
        if not late:
            break
        # A starved player is late by itself, now and then. Audio that comes late makes it so each time.
        with listening(name, tmp_path, radio.url + ADDRESS):
            time.sleep(SECONDS)
        text = (tmp_path / name).read_text("utf-8", "replace")
    assert titles == HEARD
    assert late == []


@pytest.mark.parametrize("name", ["chromium", "firefox-esr"])
def test_a_browsers_audio_element_plays_at_real_time_without_a_stall(name: str, heard: Heard) -> None:
    if name != "chromium":
        program(name, PACKAGES[name])
    pace, waits = heard.browsers[name]
    keep(name, {"pace": round(pace, 3), "stalls": waits})
    # A stall is time in which nothing was played; a busy machine makes one of a blink now and then.
    assert pace == pytest.approx(1, abs=MOST_OFF)


def test_behind_nginx_as_it_comes_nothing_stalls(heard: Heard) -> None:
    program("nginx", PACKAGES["nginx"])
    data = bytes(heard.through_nginx)
    waits = {"longest_wait": round(heard.longest_wait, 3), "longest_calm": round(heard.longest_calm, 3)}
    keep("nginx", {"bytes": len(data), **waits})
    assert heard.longest_calm > CALM_SECONDS
    assert len(data) > 16_000 * (SECONDS - 2)
    assert len(frames(data)) >= len(data) // 418 - 2


def test_what_a_listener_got_is_logged_and_counted(radio: ServerProcess) -> None:
    with urllib.request.urlopen(f"{radio.url}/radio/list.mp3", timeout=PATIENCE_SECONDS) as answer:
        got = len(answer.read(40_000))

    def line() -> str:
        return next(
            (one for one in radio.text().splitlines() if "/radio/list.mp3" in one and "request" in one), ""
        )

    logged = int(re.findall(r"bytes=(\d+)", wait_for(line, what="the line"))[0])
    # In chunks, and what was on its way when it left.
    assert got < logged < got + 256 * 1024
    with urllib.request.urlopen(f"{radio.url}/metrics", timeout=PATIENCE_SECONDS) as answer:
        counted = re.findall(r'sent_bytes_total{area="radio"} (\S+)', answer.read().decode())
    assert float(counted[0]) >= logged
