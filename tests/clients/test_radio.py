"""Radio with the programs that people have: clients that send, players that listen, nginx between them."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from media.mpegaudio import Frame, MpegAudioReader
from tests.clients.conftest import environment, program
from tests.conftest import STOP_SECONDS, ServerProcess, start_server, wait_for

PASSWORD = "sésame&?"
SECONDS = 8.0
"""How long each player listens."""

TITLES = ("Maker - Öne", "Maker - Two's")
HEARD = {"Maker - Öne", "Maker - Two\u2019s"}
"""The titles as listeners get them: an apostrophe would end the field."""

UNPRIVILEGED = 65534


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tones of some seconds with tags, and a playlist of them."""
    folder = tmp_path_factory.mktemp("music")
    for number, title in enumerate(TITLES, 1):
        artist, name = title.split(" - ")
        source = ["-f", "lavfi", "-i", f"sine=frequency={300 * number}:duration=4"]
        words = [*source, "-ac", "2", "-ar", "44100", "-b:a", "128k"]
        tags = ["-metadata", f"title={name}", "-metadata", f"artist={artist}"]
        path = str(folder / f"{number}.mp3")
        subprocess.run(["ffmpeg", "-v", "error", *words, *tags, path], check=True, env=environment())
    (folder / "list.m3u").write_text("".join(f"{folder / f'{number}.mp3'}\n" for number in (1, 2)))
    return folder


@pytest.fixture(scope="module")
def radio(music: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("radio")
    config = folder / "headwater.toml"
    config.write_text(
        f"""
        [library]
        path = "{folder}"
        [[radio]]
        name = "folder.mp3"
        folder = "{music}"
        title = "Folder FM"
        genre = "Tones"
        [[radio]]
        name = "open.mp3"
        source = "publish"
        source_password = "{PASSWORD}"
        [[radio]]
        name = "list.mp3"
        folder = "{music / "list.m3u"}"
        [log]
        requests = true
        """,
        "utf-8",
    )
    server = start_server("--config", str(config), "--port", "0")
    try:
        wait_for(lambda: station(server, "folder.mp3").get("listeners") == 0, what="the station")
        yield server
    finally:
        server.stop()


def station(server: ServerProcess, name: str) -> dict[str, object]:
    """What the status says of a station; {} while it isn't live."""
    with urllib.request.urlopen(f"{server.url}/status-json.xsl", timeout=30) as answer:
        sources = json.load(answer)["icestats"]["source"]
    found: list[dict[str, object]] = [one for one in sources if one["listenurl"].endswith(f"/{name}")]
    return found[0] if found else {}


def port_of(server: ServerProcess) -> str:
    return server.url.rpartition(":")[2]


@contextlib.contextmanager
def running(*command: str, log: Path, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends; its words go to a file."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env={**environment(), **(env or {})}
        )
    try:
        yield process
    finally:
        # Asked first: a killed nginx would leave its worker behind.
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def frames(data: bytes) -> list[Frame]:
    reader = MpegAudioReader()
    reader.receive_data(data)
    return [event for event in reader.events() if isinstance(event, Frame)]


def heard(server: ServerProcess, name: str, size: int = 60_000) -> list[Frame]:
    with urllib.request.urlopen(f"{server.url}/radio/{name}", timeout=60) as answer:
        return frames(answer.read(size))


# Sources


def has_said(server: ServerProcess, words: str, count: int) -> bool:
    """Whether the log has these words so many times by now."""
    return server.text().count(words) >= count


def test_ffmpeg_publishes_and_gets_its_place_back(radio: ServerProcess, tmp_path: Path) -> None:
    secret = "s%C3%A9same%26%3F"
    url = f"icecast://source:{secret}@127.0.0.1:{port_of(radio)}/radio/open.mp3"
    source = ("-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-ac", "1", "-b:a", "64k")
    about = ("-ice_name", "Küche", "-ice_genre", "Tone", "-content_type", "audio/mpeg", "-f", "mp3", url)
    for stay in (1, 2):
        with running("ffmpeg", "-nostdin", "-v", "info", *source, *about, log=tmp_path / "log") as process:
            wait_for(functools.partial(has_said, radio, "source connected", stay), what="the source")
            wait_for(lambda: station(radio, "open.mp3"), what="its audio")
            shown = station(radio, "open.mp3")
            assert (shown["server_name"], shown["genre"], shown["server_type"]) == (
                "Küche",
                "Tone",
                "audio/mpeg",
            )
            found = {
                (one.header.sample_rate, one.header.channels) for one in heard(radio, "open.mp3", 16_000)
            }
            assert found == {(48000, 1)}
            assert process.poll() is None, (tmp_path / "log").read_text()
        wait_for(functools.partial(has_said, radio, "source gone", stay), what="the source's end")


def test_ezstream_publishes_with_titles(radio: ServerProcess, music: Path, tmp_path: Path) -> None:
    config = tmp_path / "ezstream.xml"
    password = PASSWORD.replace("&", "&amp;")
    config.write_text(
        f"""<?xml version="1.0" encoding="UTF-8"?>
        <ezstream>
          <servers><server><protocol>HTTP</protocol><hostname>127.0.0.1</hostname><tls>none</tls>
            <port>{port_of(radio)}</port><user>source</user><password>{password}</password></server></servers>
          <streams><stream><mountpoint>/radio/open.mp3</mountpoint><format>MP3</format>
            <stream_name>EZ</stream_name></stream></streams>
          <intakes><intake><type>playlist</type><filename>{music / "list.m3u"}</filename></intake></intakes>
        </ezstream>""",
        "utf-8",
    )
    config.chmod(0o600)
    command = (program("ezstream", "ezstream"), "-v", "-c", str(config))
    seen = set[object]()
    with running(*command, log=tmp_path / "log", env={"HOME": str(tmp_path)}):
        wait_for(lambda: station(radio, "open.mp3"), what="the source")
        assert len(heard(radio, "open.mp3", 30_000)) > 60

        def all_titles() -> bool:
            seen.add(station(radio, "open.mp3").get("title"))
            return len([title for title in seen if title]) >= 2

        wait_for(all_titles, what="both titles")
    assert {title for title in seen if title} == set(TITLES)


def test_liquidsoap_publishes_with_titles(radio: ServerProcess, music: Path, tmp_path: Path) -> None:
    script = tmp_path / "radio.liq"
    place = f'host="127.0.0.1", port={port_of(radio)}, user="source", password="{PASSWORD}"'
    script.write_text(
        f"""
        set("init.allow_root", true)
        s = mksafe(playlist(mode="normal", reload_mode="never", "{music / "list.m3u"}"))
        output.icecast(%mp3(bitrate=128), {place}, mount="/radio/open.mp3", name="Liquid", s)
        """,
        "utf-8",
    )
    with running(program("liquidsoap", "liquidsoap"), str(script), log=tmp_path / "log"):
        wait_for(lambda: station(radio, "open.mp3").get("server_name") == "Liquid", what="the source")
        wait_for(lambda: station(radio, "open.mp3").get("title") in TITLES, what="a title")
        assert len(heard(radio, "open.mp3", 30_000)) > 60


# Listeners


def listen(server: ServerProcess, *command: str, log: Path, env: dict[str, str] | None = None) -> str:
    """Let a player play for some seconds; give what it said."""
    before = int(str(station(server, "folder.mp3")["listeners"]))
    with running(*command, log=log, env=env) as process:
        started = time.monotonic()
        wait_for(lambda: station(server, "folder.mp3")["listeners"] == before + 1, what="the listener")
        while time.monotonic() < started + SECONDS:
            assert process.poll() is None, log.read_text("utf-8", "replace")
            assert station(server, "folder.mp3")["listeners"] == before + 1, "it went away or came twice"
            time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    wait_for(lambda: station(server, "folder.mp3")["listeners"] == before, what="the listener's leaving")
    return log.read_text("utf-8", "replace")


def test_curl_gets_real_time_and_whole_frames(radio: ServerProcess, tmp_path: Path) -> None:
    saved = tmp_path / "saved.mp3"
    address = f"{radio.url}/radio/folder.mp3"
    listen(radio, program("curl", "curl"), "-sSN", "-o", str(saved), address, log=tmp_path / "log")
    data = saved.read_bytes()
    # A burst of at most 64 KiB, then 16,000 bytes a second; a block is sent up to a second before it is due.
    assert 16_000 * (SECONDS - 2) < len(data) < 64 * 1024 + 16_000 * (SECONDS + 6)
    assert data[:2] == b"\xff\xfb"
    assert len(frames(data)) >= len(data) // 418 - 2
    (line,) = [
        line for line in radio.text().splitlines() if "/radio/folder.mp3" in line and "request" in line
    ]
    logged = int(re.findall(r"bytes=(\d+)", line)[0])
    # In chunks, and what was on its way when curl left.
    assert len(data) < logged < len(data) + 256 * 1024
    with urllib.request.urlopen(f"{radio.url}/metrics", timeout=30) as answer:
        counted = re.findall(r'sent_bytes_total{area="radio"} (\S+)', answer.read().decode())
    assert float(counted[0]) >= logged


def test_mpv_plays_and_shows_the_titles(radio: ServerProcess, tmp_path: Path) -> None:
    options = ("--no-config", "--ao=null", "--vo=null", "--ytdl=no", "--term-status-msg=")
    text = listen(
        radio, program("mpv", "mpv"), *options, f"{radio.url}/radio/folder.mp3", log=tmp_path / "log"
    )
    assert re.findall("icy-title: (.*)", text)
    assert {title.strip() for title in re.findall("icy-title: (.*)", text)} <= HEARD


def test_ffplay_plays_and_shows_the_titles(radio: ServerProcess, tmp_path: Path) -> None:
    options = ("-v", "verbose", "-nostats", "-nodisp")
    url = f"{radio.url}/radio/folder.mp3"
    sound = {"SDL_AUDIODRIVER": "dummy"}
    text = listen(radio, program("ffplay", "ffmpeg"), *options, url, log=tmp_path / "log", env=sound)
    found = re.findall("Metadata update for StreamTitle: (.*)", text)
    assert len(set(found)) >= 2
    assert set(found) <= HEARD
    assert not re.findall("(?i)invalid|error while|header missing", text)


def test_vlc_plays_and_shows_the_titles(radio: ServerProcess) -> None:
    vlc = program("cvlc", "vlc-bin vlc-plugin-base")
    # It refuses to run as root.
    user: tuple[str, ...] = ()
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() == 0:
            os.chown(folder, UNPRIVILEGED, UNPRIVILEGED)
            ids = (f"--reuid={UNPRIVILEGED}", f"--regid={UNPRIVILEGED}", "--clear-groups")
            user = (program("setpriv", "util-linux"), *ids)
        options = ("-vv", "--no-color", "--aout=adummy", "--no-dbus")
        url = f"{radio.url}/radio/folder.mp3"
        text = listen(radio, *user, vlc, *options, url, log=Path(folder, "log"), env={"HOME": folder})
    assert "Icy-Name: Folder FM" in text
    found = re.findall("New Icy-Title=(.*)", text)
    assert len(set(found)) >= 2
    assert set(found) <= HEARD
    assert not re.findall("buffer too late|playback too late|underflow", text)


def test_a_playlist_is_a_station_too(radio: ServerProcess) -> None:
    assert len(heard(radio, "list.mp3", 30_000)) > 60


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


def test_behind_nginx_as_it_comes_nothing_stalls(radio: ServerProcess, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "nginx.conf"
    config.write_text(NGINX.format(folder=tmp_path, port=port, origin=radio.url))
    command = (program("nginx", "nginx-light"), "-c", str(config), "-p", str(tmp_path))
    with running(*command, log=tmp_path / "log"):
        wait_for(lambda: is_open(port), what="nginx")
        started = last = time.monotonic()
        data, longest = b"", 0.0
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/radio/folder.mp3", timeout=60) as answer:
            while time.monotonic() < started + SECONDS:
                data += answer.read1(65536)
                now = time.monotonic()
                longest, last = max(longest, now - last), now
    assert longest < 3
    assert len(data) > 16_000 * (SECONDS - 2)
    assert len(frames(data)) >= len(data) // 418 - 2
