"""The cage: a hostile program in ffmpeg's place, which must fail at each attempt and still work within."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from packager.arguments import MAX_PIXELS, QUIET, local_input, pipe
from packager.cage import Cage, missing
from packager.catalogue import probe
from packager.ffmpeg import Process, reading, run
from packager.tools import Tools, ToolsError

PYTHON = os.path.realpath(sys.executable)
RUNTIME = (sys.base_prefix, os.path.dirname(PYTHON))
LONGEST_SECONDS = 120.0
"""How long a program may take: the machine may be slow."""

HOSTILE = """
import ctypes, json, os, resource, signal, socket, sys, threading
parent, port, secret, outside = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
libc = ctypes.CDLL(None, use_errno=True)
results = {}
HERE = ("127.0.0.1", port)

def attempt(name):
    def run(action):
        try:
            action()
            results[name] = 0
        except OSError as error:
            results[name] = error.errno
        except MemoryError:
            results[name] = "no memory"
        except ValueError as error:
            results[name] = str(error)
    return run

def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")

attempt("connect")(lambda: socket.create_connection(HERE, 5))
attempt("datagram")(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", HERE))
attempt("unix socket")(lambda: socket.socket(socket.AF_UNIX))
attempt("read /etc/passwd")(lambda: open("/etc/passwd").read())
attempt("read a secret")(lambda: open(secret).read())
attempt("read the parent")(lambda: open(f"/proc/{parent}/environ").read())
attempt("list a folder")(lambda: os.listdir("/root"))
attempt("write outside")(lambda: open(outside, "w"))
attempt("remove")(lambda: os.unlink(secret))
attempt("change the mode")(lambda: os.chmod(secret, 0o777))
attempt("change the owner")(lambda: os.chown(secret, 1, 1))
attempt("change the times")(lambda: os.utime(secret, (0, 0)))
attempt("make a folder")(lambda: os.mkdir(outside + ".d"))
attempt("link")(lambda: os.link(secret, outside))
attempt("fork")(os.fork)
attempt("spawn")(lambda: os.posix_spawn("/bin/true", ["true"], {}))
attempt("execute a script of its own")(lambda: os.execv(sys.argv[4], ["x"]))
attempt("ptrace the parent")(lambda: call(101 if os.uname().machine == "x86_64" else 117, 16, parent, 0, 0))
attempt("signal the parent")(lambda: os.kill(parent, 0))
attempt("signal everybody")(lambda: os.kill(-1, 0))
attempt("a namespace")(lambda: call(272 if os.uname().machine == "x86_64" else 97, 0x10000000))
attempt("raise the limits")(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096)))
attempt("limits of the parent")(lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE))
attempt("memory")(lambda: bytearray(2 << 30))
def many():
    for _ in range(200):
        os.dup(0)
attempt("descriptors")(many)
os.write(3, json.dumps(results).encode())
"""


async def try_everything(folder: Path, cage: Cage) -> dict[str, object]:
    """Run the hostile program; give the error number of each attempt, 0 where it came through."""
    script, secret = folder / "hostile.py", folder / "secret"
    script.write_text(HOSTILE)
    secret.write_text("key")
    with socket.create_server(("127.0.0.1", 0)) as canary:
        canary.settimeout(0)
        port = str(canary.getsockname()[1])
        words = [str(os.getpid()), port, str(secret), str(folder / "outside")]
        output = await run([PYTHON, "-I", "-S", script, *words], limit=LONGEST_SECONDS, cage=cage)
        if not cage.network:
            with pytest.raises(BlockingIOError):
                canary.accept()
    assert secret.read_text() == "key"
    assert sorted(path.name for path in folder.iterdir()) == ["hostile.py", "secret"]
    answer: dict[str, object] = json.loads(output)
    return answer


@pytest.fixture(autouse=True)
def fences() -> None:
    if missing():
        pytest.skip(f"this kernel lacks {missing()}")


async def test_a_hostile_program_fails_at_each_attempt(tmp_path: Path) -> None:
    cage = Cage(read=(*RUNTIME, str(tmp_path / "hostile.py")))
    results = await try_everything(tmp_path, cage)
    assert len(results) == 25
    assert [name for name, result in results.items() if result == 0] == []
    for name in ("read /etc/passwd", "write outside", "connect", "read a secret"):
        assert results[name] == errno.EACCES, name
    for name in ("fork", "ptrace the parent", "change the mode", "signal the parent"):
        assert results[name] == errno.EPERM, name
    assert results["descriptors"] == errno.EMFILE
    assert results["memory"] == "no memory"


async def test_the_network_is_open_to_who_needs_it_and_nothing_else_is(tmp_path: Path) -> None:
    cage = Cage(read=(*RUNTIME, str(tmp_path / "hostile.py")), network=True)
    results = await try_everything(tmp_path, cage)
    assert {name for name, result in results.items() if result == 0} == {"connect", "datagram"}


async def test_a_caged_ffmpeg_writes_into_its_folder_and_no_other(tools: Tools, tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    made = ["-f", "lavfi", "-i", "sine=duration=0.1", "-f", "mp4"]
    for folder, status in ((inside, 0), (outside, 1)):
        words = [*QUIET, *made, local_input(folder / "a.mp4")]
        process = await Process.start([tools.ffmpeg, *words], outputs=0, cage=Cage(write=(str(inside),)))
        try:
            assert await process.wait() == status, process.errors
        finally:
            await process.stop()
    assert (inside / "a.mp4").stat().st_size > 0
    assert list(outside.iterdir()) == []


async def test_a_playlist_in_disguise_opens_nothing(tools: Tools, tmp_path: Path) -> None:
    secret, film = tmp_path / "secret.ts", tmp_path / "movie.mp4"
    made = [str(tools.ffmpeg), *QUIET, "-f", "lavfi", "-i", "sine=duration=1", "-f", "mpegts", str(secret)]
    subprocess.run(made, check=True)
    film.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n")
    argv = [str(tools.ffmpeg), *QUIET, "-protocol_whitelist", "file,pipe", "-allowed_extensions", "ALL"]
    argv += ["-i", local_input(film), "-f", "u8", pipe(0)]
    assert len(await run(argv, limit=LONGEST_SECONDS, cage=None)) > 1000  # ffmpeg by itself follows it
    with pytest.raises(ToolsError):
        await run(argv, limit=LONGEST_SECONDS, cage=reading(film))
    facts = await probe(film, tools)
    assert facts.reason is not None
    assert facts.codecs == ()


async def test_a_decoder_that_nobody_needs_does_not_run(tools: Tools, tmp_path: Path) -> None:
    film = tmp_path / "film.avi"
    made = ["-f", "lavfi", "-i", "testsrc2=size=64x64:duration=0.2", "-c:v", "magicyuv", local_input(film)]
    subprocess.run([str(tools.ffmpeg), *QUIET, *made], check=True)
    facts = await probe(film, tools)
    assert facts.reason is not None
    assert "magicyuv" in facts.reason or "can't be read" in facts.reason


async def test_a_picture_of_67_million_pixels_is_refused(tools: Tools, tmp_path: Path) -> None:
    assert 8192 * 8192 > MAX_PIXELS > 7680 * 4320
    film = tmp_path / "film.mp4"
    made = ["-f", "lavfi", "-i", "color=size=8192x8192:rate=1:duration=1", "-c:v", "libx264"]
    made += ["-preset", "ultrafast", "-frames:v", "1", local_input(film)]
    await asyncio.to_thread(subprocess.run, [str(tools.ffmpeg), *QUIET, *made], check=True)
    facts = await probe(film, tools)
    begin = time.monotonic()
    argv = [str(tools.ffmpeg), *QUIET, "-max_pixels", str(MAX_PIXELS), "-f", "mov", "-i", local_input(film)]
    with pytest.raises(ToolsError):
        await run([*argv, "-f", "rawvideo", pipe(0)], limit=LONGEST_SECONDS, cage=reading(film))
    assert time.monotonic() - begin < LONGEST_SECONDS / 2
    assert facts.codecs == ("h264",) or facts.reason


async def test_secrets_of_the_environment_do_not_reach_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_LIVE_KEY", "canary")
    output = await run(["/bin/sh", "-c", "set >&3"], limit=LONGEST_SECONDS)
    assert b"canary" not in output
