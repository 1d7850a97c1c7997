"""SIGHUP: a wrong configuration is one line in the log and changes nothing; a good one sets the log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import httpx
import msgspec
import pytest

from origin.config.options import Config, LiveOptions, ServerOptions
from origin.server.tables.config_reload import changes
from tests.completion_server import Asked, completing
from tests.conftest import ServerProcess, start_server
from tests.event_server import TOKEN
from tests.keys import ADMIN_TOKEN
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

ROOT = Path(__file__).parents[3]
LIBRARY = '[library]\npath = "library"\n'


def hang_up(server: ServerProcess, path: Path, text: str, told: str) -> list[str]:
    """Write another configuration and tell the server; give the lines that it logs of it, up to this one."""
    path.write_text(text)
    before = len(server.output)
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: told in "".join(server.output[before:]), what=told)
    with urllib.request.urlopen(f"{server.url}/health", timeout=60) as answer:
        assert answer.status == 200
    lines = server.output[before:]
    # The last ones of the start may come late.
    return lines[next(place for place, line in enumerate(lines) if "configuration" in line) :]


@pytest.mark.promise("log.format")
@pytest.mark.clause("A reload with a wrong configuration changes nothing")
def test_sighup_reads_the_configuration_again_and_a_wrong_one_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    path = tmp_path / "headwater.toml"
    path.write_text(f"[server]\nport = 0\n{LIBRARY}")
    server = start_server(cwd=tmp_path)
    try:
        wrong = hang_up(server, path, f'[server]\nport = "high"\n{LIBRARY}', "can't be used")
        assert [line for line in wrong if "headwater.toml" in line and "server.port" in line] == wrong
        assert len(wrong) == 1
        torn = hang_up(server, path, "[server\n", "can't be used")
        assert len(torn) == 1
        live = '[[live]]\nname = "new"\nsource = "testsrc"\n'
        good = f'[server]\nport = 0\n{LIBRARY}max_age = 5\n[log]\nformat = "json"\n{live}'
        line, *_ = hang_up(server, path, good, "read again")
        assert json.loads(line)["needs_restart"] == "library.max_age"
    finally:
        assert server.stop() == 0
    assert "Traceback" not in server.text()


@pytest.mark.promise("log.level")
@pytest.mark.parametrize("level", ["warning", "error"])
def test_the_answer_of_a_reload_names_what_needs_a_restart_whatever_the_level_of_the_log(
    tmp_path: Path, level: str
) -> None:
    (tmp_path / "library").mkdir()
    path = tmp_path / "headwater.toml"
    log = f'[log]\nlevel = "{level}"\nformat = "json"\n'
    path.write_text(f"[server]\nport = 0\n{LIBRARY}{log}")
    server = start_server(cwd=tmp_path)
    try:
        for more, needed in (("max_age = 5\n", "library.max_age"), ("", "nothing")):
            (line,) = hang_up(server, path, f"[server]\nport = 0\n{LIBRARY}{more}{log}", "read again")
            assert json.loads(line)["needs_restart"] == needed
        (line,) = hang_up(server, path, f'[server]\nport = "high"\n{log}', "can't be used")
        assert "server.port" in line
    finally:
        assert server.stop() == 0


def test_what_needs_a_restart_is_named_by_its_key_in_a_table_of_a_channel_too() -> None:
    def config(*channels: LiveOptions, port: int = 8000) -> Config:
        return Config(server=ServerOptions(port=port), live=channels)

    demo = LiveOptions(name="demo", source="publish", dvr="1h")
    changed = msgspec.structs.replace(demo, dvr="2h", ladder=("source",))
    assert changes(config(demo), config(changed, port=8001)) == ["server.port", "live 'demo' (ladder, dvr)"]
    assert changes(config(demo), config(msgspec.structs.replace(demo, name="other"))) == [
        "live 'demo'",
        "live 'other'",
    ]


def test_a_server_ends_with_the_terminal_that_it_was_started_in(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    terminal, stdin = pty.openpty()
    server = start_server("--port", "0", "--library", str(tmp_path / "library"), stdin=stdin)
    os.close(stdin)
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "read again" in server.text(), what="the configuration's being read")
    os.close(terminal)
    assert server.stop(signal.SIGHUP) == 0


EARLY = """
import os, signal, sys
sys.argv = ["headwater", "serve", *sys.argv[1:]]
import origin.cli
os.kill(os.getpid(), signal.SIGHUP)
from origin.cli.main import main
main()
"""
"""A server that gets a hang-up before it has imported its modules."""


def test_hang_ups_are_noted_before_any_module_is_imported_that_takes_time() -> None:
    listed = "import sys; sys.argv = ['headwater', 'serve']; before = set(sys.modules); import origin.cli; "
    words = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {listed}"]
    words[-1] += "print(*sorted(set(sys.modules) - before))"
    added = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    assert [one for one in added if one.partition(".")[0] not in ("origin", "__future__")] == []


def test_sighup_while_the_server_starts_ends_nothing_and_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    path = tmp_path / "headwater.toml"
    path.write_text(f"[server]\nport = 0\n{LIBRARY}")
    words = [sys.executable, "-c", EARLY, "--config", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as one:
        lines: list[str] = []
        assert one.stdout is not None
        for line in one.stdout:
            lines.append(line)
            if "configuration read again" in line:
                break
        one.terminate()
        one.communicate(timeout=60)
    assert "configuration read again" in lines[-1], lines


KEYS = """
[[events]]
name = "chat"
publish_token = "{0}-publish-token-0"
read_key = "{0}-read-key-0000000"
[[radio]]
name = "one.mp3"
source = "publish"
source_password = "{0}-source-password"
listener_password = "{0}-listener-password"
title = "The {0} station"
"""


@pytest.mark.promise("headwater reload", "radio.title", "radio.listener_password", "events.read_key")
def test_the_command_changes_keys_and_titles_and_lists_what_needs_a_restart(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    path = tmp_path / "headwater.toml"
    start = f'[server]\nport = {{}}\nadmin_token = "{ADMIN_TOKEN}"\n{LIBRARY}'

    def write(text: str) -> None:
        path.write_text(text)
        path.chmod(0o600)

    def reload(*options: str) -> tuple[int, str]:
        program = "from origin.cli.main import main; main()"
        command = [sys.executable, "-c", program, "reload", "--config", str(path), *options]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def status(method: str, address: str, key: str) -> int:
        with httpx.stream(
            method, server.url + address, headers={"authorization": f"Bearer {key}"}, timeout=60
        ) as answer:
            return answer.status_code

    write(start.format(0) + KEYS.format("first"))
    server = start_server("--config", str(path), cwd=tmp_path)
    try:
        to = ("--to", server.url)
        write(start.format(0) + KEYS.format("second"))
        assert reload(*to) == (0, "read again; nothing needs a restart\n")
        for key, expected in (("first", 401), ("second", 200)):
            assert status("GET", "/events/chat", f"{key}-read-key-0000000") == expected
            assert status("POST", "/events/chat", f"{key}-publish-token-0") == expected
            assert status("GET", "/radio/one.mp3.pls", f"{key}-listener-password") == expected
        listed = httpx.get(f"{server.url}/api/radio?key=second-listener-password", timeout=60).text
        assert "The second station" in listed
        # What is protected is served in another way, so that a key which goes needs a restart.
        write(start.format(0) + "max_age = 5\n" + KEYS.format("second").replace("read_key", "# read_key"))
        code, told = reload(*to)
        assert (code, set(told.splitlines())) == (
            3,
            {"needs a restart: library.max_age", "needs a restart: events 'chat' (read_key)"},
        )
        assert status("GET", "/events/chat", "none") == 401
        code, told = reload(*to, "--token", "a-wrong-token-000000")
        assert (code, "wrong key: server.admin_token is needed" in told) == (1, True)
        assert reload()[0] == 1
        with httpx.Client(base_url=server.url, timeout=60) as client:
            path.write_text('[server]\nport = "high"\n')
            answer = client.post("/api/reload", headers={"authorization": f"Bearer {ADMIN_TOKEN}"})
            assert (answer.status_code, "server.port" in answer.text) == (422, True)
            assert client.post("/api/reload").status_code == 401
    finally:
        server.stop()
    assert "second-read-key" not in server.text()


@pytest.mark.promise("relay.name", "relay.upstreams", "relay.token", "relay.relay_keys")
async def test_keys_of_upstream_servers_are_taken_without_a_restart(tmp_path: Path) -> None:
    async def script(asked: Asked) -> None:
        await asked.answer("200 OK", '{"object": "list", "data": []}')

    def write(upstream: str, key: str) -> None:
        path.write_text(
            f'[server]\nport = 0\nadmin_token = "{ADMIN_TOKEN}"\n'
            f'[[events]]\nname = "answers"\npublish_token = "{TOKEN}"\n'
            f'relay = "{upstream}/chat/completions"\nrelay_key = "{key}-of-channel"\n'
            f'[[relay]]\nname = "assistant"\nupstreams = ["{upstream}"]\ntoken = "{TOKEN}"\n'
            f'relay_keys = ["{key}-of-relay"]\n'
        )
        path.chmod(0o600)

    path = tmp_path / "headwater.toml"
    async with completing(script) as asked, httpx.AsyncClient(timeout=120) as client:
        base = asked.url.removesuffix("/chat/completions")
        write(base, "first")
        server = await asyncio.to_thread(start_server, "--config", str(path), cwd=tmp_path)
        try:

            async def status_of(name: str) -> int:
                answer = await client.get(
                    f"{server.url}/relay/{name}/v1/models", headers={"authorization": f"Bearer {TOKEN}"}
                )
                return answer.status_code

            async def keys() -> list[str]:
                for name in ("answers", "assistant"):
                    assert await status_of(name) == 200
                return [one.fields["authorization"] for one in asked.asked[-2:]]

            async def reload() -> list[str]:
                headers = {"authorization": f"Bearer {ADMIN_TOKEN}"}
                answer = await client.post(f"{server.url}/api/reload", headers=headers)
                needed: list[str] = answer.json()["needs_restart"]
                return needed

            assert await keys() == ["Bearer first-of-channel", "Bearer first-of-relay"]
            write(base, "second")
            assert await reload() == []
            assert await keys() == ["Bearer second-of-channel", "Bearer second-of-relay"]
            # A key for another server isn't sent to the one that is asked until the restart.
            write("http://127.0.0.1:9/v1", "third")
            assert await reload() == ["events 'answers' (relay)"]
            before = len(asked.asked)
            statuses = [await status_of(name) for name in ("answers", "assistant")]
            assert statuses == [200, 502]
            assert [one.fields["authorization"] for one in asked.asked[before:]] == [
                "Bearer second-of-channel"
            ]
        finally:
            await asyncio.to_thread(server.stop)


TAKEN_NOW = """
[server]
port = 0
protected = ["api"]
admin_token = "{token}"
[library]
path = "library"
[limits]
listeners = {listeners}
event_readers_per_address = {readers}
[[radio]]
name = "station.mp3"
source = "publish"
[[events]]
name = "news"
"""


@pytest.mark.promise("server.admin_token")
def test_the_admin_token_and_limits_of_requests_are_taken_without_a_restart(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    path = tmp_path / "headwater.toml"
    path.write_text(TAKEN_NOW.format(token="former", listeners=5, readers=2))
    server = start_server(cwd=tmp_path, admin_token=None)

    def status(token: str) -> int:
        return httpx.get(f"{server.url}/api/live", headers={"Authorization": f"Bearer {token}"}).status_code

    try:
        with (
            httpx.Client(base_url=server.url, timeout=CLIENT_SECONDS) as client,
            contextlib.ExitStack() as held,
        ):
            assert (status("former"), status("newer")) == (200, 401)
            for expected in (200, 200, 429):
                assert held.enter_context(client.stream("GET", "/events/news")).status_code == expected
            changed = TAKEN_NOW.format(token="newer", listeners=5, readers=3)
            (line,) = hang_up(server, path, changed, "read again")
            assert "needs_restart=nothing" in line
            assert (status("former"), status("newer")) == (401, 200)
            for expected in (200, 429):
                assert held.enter_context(client.stream("GET", "/events/news")).status_code == expected
        # Who had a token and has none any more, or the other way round, is told that this needs a restart.
        without = changed.replace('admin_token = "newer"\n', "").replace(
            "event_readers_per_address = 3\n", ""
        )
        (line,) = hang_up(server, path, without, "read again")
        assert "limits.event_readers_per_address" in line
        assert "server.admin_token" in line
        assert status("newer") == 200
    finally:
        assert server.stop() == 0


ACCESS = """
[server]
port = 0
workers = {workers}
[access]
keys = ["2026-11:a-secret-of-the-tests"]
[library]
path = "library"
folders = {{ "private" = "{private}" }}
"""
CHANNEL = '[[live]]\nname = "studio"\nsource = "publish"\naccess = "signed"\n'


@pytest.mark.parametrize("workers", [1, 2])
def test_access_is_taken_without_a_restart_where_something_needs_a_token(
    tmp_path: Path, workers: int
) -> None:
    (tmp_path / "library" / "private").mkdir(parents=True)
    (tmp_path / "library" / "private" / "film.mp4").write_bytes(bytes(1000))
    path = tmp_path / "headwater.toml"
    path.write_text(ACCESS.format(private="open", workers=workers) + CHANNEL)
    server = start_server(cwd=tmp_path)
    try:
        with httpx.Client(base_url=server.url, timeout=CLIENT_SECONDS) as client:

            def status(address: str) -> int:
                return client.get(address).status_code

            film, playlist = "/media/private/film.mp4", "/live/studio/master.m3u8"
            for _ in range(5):
                assert (status(film), status(playlist)) == (200, 403)
            changed = ACCESS.format(private="signed", workers=workers)
            (line,) = hang_up(server, path, changed + CHANNEL, "read again")
            assert "needs_restart=nothing" in line
            # A worker takes it a moment later; a fast path that knew the address as public is asked again.
            wait_for(lambda: [status(film) for _ in range(10)] == [403] * 10, "the film's being closed")
            # A channel that is gone from the configuration is served no more, and its address stays closed.
            (line,) = hang_up(server, path, changed, "read again")
            assert "needs_restart=nothing" in line
            assert status(playlist) == 403
            back = ACCESS.format(private="open", workers=workers)
            hang_up(server, path, back + CHANNEL.replace("signed", "open"), "read again")
            wait_for(lambda: [status(film) for _ in range(10)] == [200] * 10, "the film's being open")
            assert status(playlist) != 403
    finally:
        assert server.stop() == 0


def test_a_reload_with_thousands_of_channels_does_not_hold_the_event_loop(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    path = tmp_path / "headwater.toml"
    channels = "".join(
        f'[[events]]\nname = "c{number}"\npublish_token = "{number}-of-this-channel-alone"\n'
        for number in range(3000)
    )
    path.write_text(f"[server]\nport = 0\n{LIBRARY}[limits]\nevent_channels = 3000\n{channels}")
    server = start_server(cwd=tmp_path)
    try:
        text = path.read_text().replace("0-of-this-channel", "1-of-this-channel")
        hang_up(server, path, text, "read again")
        assert "event loop was held" not in server.text()
    finally:
        assert server.stop() == 0
