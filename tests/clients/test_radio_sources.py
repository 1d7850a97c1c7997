"""Radio with the programs that people send with: ffmpeg, ezstream, liquidsoap, MPD, darkice."""

from __future__ import annotations

import contextlib
import functools
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.clients.sound import RECORDED, sound
from tests.clients.stations import (
    PASSWORD,
    PATIENCE_SECONDS,
    TITLES,
    frames,
    heard,
    is_fed_by,
    is_vacant,
    live_station,
    port_of,
    running,
    station,
)
from tests.conftest import ServerProcess
from tests.e2e.conftest import looks
from tests.programs import program
from tests.waiting import wait_for


@pytest.fixture(autouse=True)
def _nobody_sends(radio: ServerProcess) -> None:
    """A source's place is free once the server has seen its end; it may see the next one before that."""
    wait_for(functools.partial(is_vacant, radio), "the last source's end")


def has_said(server: ServerProcess, words: str, count: int) -> bool:
    """Whether the log has these words so many times by now."""
    return server.text().count(words) >= count


def test_ffmpeg_publishes_and_gets_its_place_back(radio: ServerProcess, tmp_path: Path) -> None:
    secret = "s%C3%A9same%26%3F"
    url = f"icecast://source:{secret}@127.0.0.1:{port_of(radio)}/radio/open.mp3"
    source = ("-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-ac", "1", "-b:a", "64k")
    about = ("-ice_name", "Küche", "-ice_genre", "Tone", "-content_type", "audio/mpeg", "-f", "mp3", url)
    connected, gone = (radio.text().count(f"source {words}") for words in ("connected", "gone"))
    for stay in (1, 2):
        with running("ffmpeg", "-nostdin", "-v", "info", *source, *about, log=tmp_path / "log") as process:
            wait_for(functools.partial(has_said, radio, "source connected", connected + stay), "the source")
            shown = live_station(radio, "open.mp3")
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
        wait_for(functools.partial(has_said, radio, "source gone", gone + stay), "the source's end")


def test_ezstream_publishes_with_titles(radio: ServerProcess, music: Path, tmp_path: Path) -> None:
    """At an address that Icecast had, from which listeners hear it, too."""
    config = tmp_path / "ezstream.xml"
    password = PASSWORD.replace("&", "&amp;")
    config.write_text(
        f"""<?xml version="1.0" encoding="UTF-8"?>
        <ezstream>
          <servers><server><protocol>HTTP</protocol><hostname>127.0.0.1</hostname><tls>may</tls>
            <port>{port_of(radio)}</port><user>source</user><password>{password}</password></server></servers>
          <streams><stream><mountpoint>/morning.mp3</mountpoint><format>MP3</format>
            <stream_name>EZ</stream_name></stream></streams>
          <intakes><intake><type>playlist</type><filename>{music / "list.m3u"}</filename></intake></intakes>
        </ezstream>""",
        "utf-8",
    )
    config.chmod(0o600)
    command = (program("ezstream", "ezstream"), "-v", "-c", str(config))
    seen = set[object]()
    with running(*command, log=tmp_path / "log", env={"HOME": str(tmp_path)}):
        wait_for(lambda: station(radio, "open.mp3"), "the source", PATIENCE_SECONDS)
        assert len(heard(radio, "open.mp3", 30_000)) > 60
        with urllib.request.urlopen(f"{radio.url}/morning.mp3", timeout=PATIENCE_SECONDS) as answer:
            assert answer.headers["icy-name"] == "EZ"
            assert answer.headers["access-control-allow-origin"] == "*"
            assert len(frames(answer.read(30_000))) > 60

        def all_titles() -> bool:
            seen.add(station(radio, "open.mp3").get("title"))
            return len([title for title in seen if title]) >= 2

        wait_for(all_titles, what="both titles")
        # It has asked what the server takes (OPTIONS), and so sends them by POST.
        sent = '"POST /admin/metadata HTTP/1.1" 200 '
        wait_for(lambda: sent in (music / "access.log").read_text(), what="titles by libshout")
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
        wait_for(functools.partial(is_fed_by, radio, "open.mp3", "Liquid"), "the source", PATIENCE_SECONDS)
        wait_for(lambda: station(radio, "open.mp3").get("title") in TITLES, what="a title")
        assert len(heard(radio, "open.mp3", 30_000)) > 60


def test_a_playlist_is_a_station_too(radio: ServerProcess) -> None:
    assert len(heard(radio, "list.mp3", 30_000)) > 60


def test_mpd_publishes_with_titles(radio: ServerProcess, music: Path, tmp_path: Path) -> None:
    program("mpd", "mpd")
    control, config = tmp_path / "socket", tmp_path / "mpd.conf"
    (tmp_path / "lists").mkdir()
    config.write_text(
        f"""
        music_directory "{music}"
        playlist_directory "{tmp_path / "lists"}"
        db_file "{tmp_path / "db"}"
        state_file "{tmp_path / "state"}"
        log_file "/dev/stderr"
        bind_to_address "{control}"
        audio_output {{
            type "shout"
            encoder "lame"
            name "MPD"
            host "127.0.0.1"
            port "{port_of(radio)}"
            mount "/radio/open.mp3"
            user "source"
            password "{PASSWORD}"
            bitrate "128"
            format "44100:16:2"
        }}
        """,
        "utf-8",
    )

    def ask(*words: str) -> bool:
        with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
            connection.settimeout(120)
            connection.connect(str(control))
            connection.sendall("\n".join(["command_list_begin", *words, "command_list_end", ""]).encode())
            file = connection.makefile("rb")
            file.readline()
            return file.readline() == b"OK\n"
        return False

    with running("mpd", "--no-daemon", str(config), log=tmp_path / "log"):
        wait_for(lambda: ask("add 1.mp3", "add 2.mp3", "repeat 1", "play"), what="MPD's playing")
        wait_for(functools.partial(is_fed_by, radio, "open.mp3", "MPD"), "the source", PATIENCE_SECONDS)
        wait_for(lambda: station(radio, "open.mp3").get("title") in TITLES, what="a title")
        assert len(heard(radio, "open.mp3", 30_000)) > 60


def test_darkice_publishes_what_it_records(radio: ServerProcess, tmp_path: Path) -> None:
    """Icecast's older protocol as its oldest clients have it: lines that end with LF, and no Host."""
    command = (program("darkice", "darkice"), "-c", str(tmp_path / "darkice.cfg"))
    program("pulseaudio", "pulseaudio")
    (tmp_path / "darkice.cfg").write_text(
        f"""
        [general]
        duration = 0
        bufferSecs = 1
        reconnect = no
        realtime = no
        [input]
        device = pulseaudio
        paSourceName = {RECORDED}
        sampleRate = 44100
        bitsPerSample = 16
        channel = 2
        [icecast2-0]
        format = mp3
        bitrateMode = cbr
        bitrate = 96
        server = 127.0.0.1
        port = {port_of(radio)}
        mountPoint = radio/open.mp3
        password = {PASSWORD}
        name = Dark
        description = Of the dark
        public = yes
        """,
        "utf-8",
    )

    def bitrates() -> set[int]:
        # No station is there without a source.
        with contextlib.suppress(urllib.error.HTTPError):
            return {one.header.bitrate for one in heard(radio, "open.mp3", 20_000)}
        return set()

    def is_heard() -> bool:
        wait_for(functools.partial(is_vacant, radio), "the last source's end")
        is_fed = functools.partial(is_fed_by, radio, "open.mp3", "Dark")
        with sound() as variables, running(*command, log=tmp_path / "log", env=variables) as process:
            wait_for(lambda: process.poll() is not None or is_fed(), "the source", PATIENCE_SECONDS)
            # Listeners begin with what was heard before.
            wait_for(lambda: process.poll() is not None or bitrates() == {96_000}, "its audio alone")
            return process.poll() is None

    # It ends by itself where it or its sound stood still.
    assert any(is_heard() for _ in looks()), (tmp_path / "log").read_text()
