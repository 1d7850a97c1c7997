"""What the server itself may do: as root it becomes a user, and without a sandbox it says so or refuses."""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import struct
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from packager.process import seccomp as seccomp_filter
from packager.process.ffmpeg_discovery import Tools
from packager.process.sandbox import missing
from tests.conftest import ServerProcess, start_server
from tests.fork_server import HEADWATER
from tests.origin.system.root_processes import (
    HERE,
    NOBODY,
    SITE,
    as_root,
    everybodys,
    folder,
    free_low_port,
    states,
)
from tests.waiting import wait_for

__all__ = ["folder"]

LONGEST_SECONDS = 240


def health(server: ServerProcess) -> dict[str, Any]:
    with urllib.request.urlopen(f"{server.url}/health", timeout=60) as answer:
        told: dict[str, Any] = json.load(answer)
        return told


def is_live(server: ServerProcess) -> bool:
    return bool(health(server)["services"].get("live/demo") == "live")


@pytest.mark.promise("server.user")
@as_root
@pytest.mark.timeout(900)
def test_root_becomes_the_configured_user_for_good_once_it_listens(folder: Path, tools: Tools) -> None:
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) < 1024:
        pytest.skip("everybody may listen on low ports here")
    user, port = pwd.getpwnam(NOBODY), free_low_port()
    made = ["-v", "error", "-f", "lavfi", "-i", "sine=duration=20", str(folder / "music" / "tone.mp3")]
    subprocess.run([str(tools.ffmpeg), *made], check=True)
    os.chown(folder / "data", user.pw_uid, user.pw_gid)
    config = folder / "headwater.toml"
    config.write_text(
        f"[server]\nport = {port}\nuser = '{NOBODY}'\ndata = '{folder / 'data'}'\n"
        f"[library]\npath = '{folder / 'library'}'\n"
        "[[live]]\nname = 'demo'\nsource = 'testsrc'\nladder = ['240p']\ndvr = '1m'\nsegment_duration = 1.0\n"
        f"[[radio]]\nname = 'tone.mp3'\nfolder = '{folder / 'music'}'\n"
    )
    config.chmod(0o600)  # root reads it, and the user can't
    program, env = everybodys()
    server = start_server("--config", str(config), program=program, env=env)
    try:
        assert server.url.endswith(f":{port}")
        wait_for(lambda: is_live(server), "the channel", LONGEST_SECONDS)
        with urllib.request.urlopen(f"{server.url}/radio/tone.mp3", timeout=LONGEST_SECONDS) as station:
            assert len(station.read(20_000)) == 20_000
        groups = sorted(map(str, os.getgrouplist(NOBODY, user.pw_gid)))
        for pid in (server.process.pid, *wait_for(server.children, "ffmpeg")):
            for state in states(pid):
                assert state["Uid"].split() == [str(user.pw_uid)] * 4
                assert state["Gid"].split() == [str(user.pw_gid)] * 4
                assert sorted(state["Groups"].split()) == groups
                assert {int(state[name], 16) for name in ("CapPrm", "CapEff", "CapAmb")} == {0}
                assert state["NoNewPrivs"] == "1"
        written = wait_for(lambda: list((folder / "data").rglob("*.m4s")), "the DVR", LONGEST_SECONDS)
        written += (folder / "data").rglob("*")
        assert {(path.stat().st_uid, path.stat().st_gid) for path in written if path.exists()} == {
            (user.pw_uid, user.pw_gid)
        }
        server.process.send_signal(signal.SIGHUP)
        told = wait_for(lambda: [line for line in server.output if "can't be used" in line], "the refusal")
        assert "Permission denied" in told[0]
        assert f"read as {NOBODY}" in told[0]
        config.chmod(0o644)
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "read again" in server.text(), "the configuration's being read")
    finally:
        assert server.stop() == 0
    assert "running as root" not in server.text()
    assert "Traceback" not in server.text()


@as_root
def test_a_user_takes_the_sockets_that_were_handed_over(folder: Path) -> None:
    hand_over = (
        "import os, socket, sys; one = socket.create_server(('127.0.0.1', 0));"
        "os.dup2(one.fileno(), 3); os.set_inheritable(3, True);"
        "os.environ |= {'LISTEN_FDS': '1', 'LISTEN_PID': str(os.getpid())};"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    program, env = everybodys()
    program = (sys.executable, "-c", hand_over, *program)
    # The port of the configuration is taken: it isn't wanted.
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = ("--port", str(taken.getsockname()[1]), "--library", str(folder / "library"))
        server = start_server(*words, program=program, env={**env, "HEADWATER_SERVER_USER": NOBODY})
        try:
            uids = {uid for state in states(server.process.pid) for uid in state["Uid"].split()}
            assert uids == {str(pwd.getpwnam(NOBODY).pw_uid)}
            assert health(server)["ready"]
        finally:
            assert server.stop() == 0


@as_root
def test_root_without_a_user_is_told_in_a_line(tmp_path: Path) -> None:
    server = start_server("--port", "0", "--library", str(tmp_path))
    assert server.stop() == 0
    (line,) = [line for line in server.output if "running as root" in line]
    assert "server.user" in line


def refused(*words: str, program: Sequence[str] = (str(HEADWATER),), **options: Any) -> str:
    """Run a server that doesn't start; give its one line."""
    result = subprocess.run(
        [*program, "serve", "--port", "0", *words],
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        stdin=subprocess.DEVNULL,
        check=False,
        **options,
    )
    lines: list[str] = result.stderr.splitlines()
    (line,) = lines
    assert result.returncode == 1
    assert line.startswith("headwater: ")
    return line


@as_root
@pytest.mark.parametrize(
    ("name", "words"), [("no-such-user", "there is no such user"), ("root", "that is root")]
)
def test_a_user_that_can_not_be_taken_is_one_line(tmp_path: Path, name: str, words: str) -> None:
    env = {**os.environ, "HEADWATER_SERVER_USER": name}
    assert words in refused("--library", str(tmp_path), env=env)


@as_root
def test_who_is_not_root_can_not_become_another(folder: Path) -> None:
    (program, env), user = everybodys(), pwd.getpwnam(NOBODY)
    env = {**os.environ, **env, "HEADWATER_SERVER_USER": "daemon"}
    ids: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": folder}
    told = refused("--library", "library", program=program, env=env, **ids)
    assert "only root can become another user" in told


@as_root
def test_a_program_that_the_user_may_not_read_is_one_line(folder: Path) -> None:
    (folder / "own").mkdir(0o700)
    hidden = folder / "own" / "python"
    hidden.symlink_to(Path(sys.executable).resolve())
    code = f"import sys; sys.executable = {str(hidden)!r}; from origin.cli.main import main; main()"
    env = {
        # Whom it becomes may not write what coverage would.
        **{name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
        "PYTHONPATH": os.pathsep.join([str(HERE), str(SITE)]),
        "HEADWATER_SERVER_USER": NOBODY,
    }
    told = refused("--library", str(folder), program=(sys.executable, "-c", code), env=env)
    assert f"may not use {hidden}" in told


@as_root
def test_a_user_who_is_it_already_stays_it(folder: Path) -> None:
    (python, *_), env = everybodys()
    user = pwd.getpwnam(NOBODY)
    code = f"import os; from origin.system.privileges import become; become({NOBODY!r}); print(os.getuid())"
    ids: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": folder}
    result = subprocess.run([python, "-c", code], capture_output=True, check=True, env=env, **ids)
    assert int(result.stdout) == user.pw_uid


WITHOUT = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
code = bytes.fromhex(sys.argv[1])
buffer = ctypes.create_string_buffer(code, len(code))
header = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
assert libc.prctl(22, 2, ctypes.c_char_p(header), 0, 0) == 0
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Runs a program as under a kernel, or a container, that lacks something: it is a filter that says so."""


def without(*, landlock: bool = False, seccomp: bool = False) -> tuple[str, ...]:
    """How to run the command where these are missing."""
    machine = seccomp_filter.MACHINES[os.uname().machine]
    load, equal, back = 0x20, 0x15, 0x06
    code: list[tuple[int, int, int, int]] = [(load, 0, 0, 0)]
    if landlock:
        code += [(equal, 0, 1, 444), (back, 0, 0, 0x0005_0000 | 38)]  # landlock_create_ruleset: ENOSYS
    if seccomp:
        prctl = machine.numbers(seccomp_filter.BY_ARGUMENTS)["prctl"]
        code += [(equal, 0, 3, prctl), (load, 0, 0, 16), (equal, 0, 1, 22), (back, 0, 0, 0x0005_0000 | 22)]
    code.append((back, 0, 0, 0x7FFF_0000))
    program = b"".join(struct.pack("=HBBI", *word) for word in code)
    return (sys.executable, "-c", WITHOUT, program.hex(), str(HEADWATER))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("lacking", ["landlock", "seccomp"])
def test_what_the_kernel_lacks_is_told_in_one_line_and_live_goes_on(tmp_path: Path, lacking: str) -> None:
    if missing():
        pytest.skip(f"this kernel lacks {missing()} itself")
    config = tmp_path / "headwater.toml"
    config.write_text(
        "[library]\npath = '.'\n[[live]]\nname = 'demo'\nsource = 'testsrc'\nladder = ['240p']\n"
    )
    server = start_server(
        "--port", "0", "--config", str(config), program=without(**{lacking: True}), cwd=tmp_path
    )
    try:
        told = health(server)["sandbox"]
        assert not told["complete"]
        assert [name.partition(" ")[0].lower() for name in told["missing"]] == [lacking]
        wait_for(lambda: is_live(server), "the channel", LONGEST_SECONDS)
        (line,) = [line for line in server.output if "sandbox is incomplete" in line]
        assert lacking in line.lower()
        # What is there stands all the same; the filter of this test counts as one.
        filters = {state["Seccomp_filters"] for pid in server.children() for state in states(pid)}
        assert filters == {"2" if lacking == "landlock" else "1"}
    finally:
        assert server.stop() == 0


@pytest.mark.promise("server.require_sandbox")
def test_a_sandbox_that_is_required_and_incomplete_is_a_refusal_in_one_line(tmp_path: Path) -> None:
    env = {**os.environ, "HEADWATER_SERVER_REQUIRE_SANDBOX": "true"}
    told = refused("--library", str(tmp_path), program=without(landlock=True, seccomp=True), env=env)
    for words in ("server.require_sandbox", "Landlock", "seccomp"):
        assert words in told


def test_a_sandbox_that_is_required_and_complete_is_no_matter(tmp_path: Path) -> None:
    if missing():
        pytest.skip(f"this kernel lacks {missing()}")
    options = {"HEADWATER_SERVER_REQUIRE_SANDBOX": "true"}
    server = start_server("--port", "0", "--library", str(tmp_path), env=options)
    assert health(server)["sandbox"] == {"complete": True, "missing": []}
    assert server.stop() == 0
    assert "sandbox is incomplete" not in server.text()
