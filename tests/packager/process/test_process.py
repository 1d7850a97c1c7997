"""The child is a real one: its pipes, its end, its errors, and that it never outlives us."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from packager.ffmpeg.arguments import QUIET, local_input, pipe
from packager.process.ffmpeg_discovery import Tools, ToolsError
from packager.process.process import ERROR_BYTES, Process, last_error, read_only_sandbox, run
from tests.waiting import until

ENDLESS = ("-re", "-f", "lavfi", "-i", "testsrc2=size=64x64:rate=25", "-f", "mpegts")
LONGEST_SECONDS = 120.0
"""How long a program may take: the machine may be slow."""


async def drain(process: Process, index: int) -> bytes:
    data = b""
    while more := await process.read(index):
        data += more
    return data


async def test_each_output_arrives_on_its_own_pipe(tools: Tools) -> None:
    source = ("-f", "lavfi", "-i", "sine=duration=1:sample_rate=8000")
    raw = ("-f", "s16le", pipe(0), "-f", "u8", pipe(1))
    process = await Process.start([str(tools.ffmpeg), *QUIET, *source, *raw], outputs=2)
    try:
        wide, narrow = await asyncio.gather(drain(process, 0), drain(process, 1))
        assert await process.wait() == 0
    finally:
        await process.stop()
    assert (len(wide), len(narrow)) == (16000, 8000)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_program_that_reads_no_more_is_a_broken_pipe_each_time(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def write_on() -> None:
        script = 'exec <&-; echo closed >&"${0#pipe:}"; exec /bin/sleep 600'
        process = await Process.start(["/bin/sh", "-c", script, pipe(0)], stdin=True)

        async def write_until_it_fails() -> None:
            while True:
                await process.write(bytes(1 << 16))
                await asyncio.sleep(0)

        try:
            assert await process.read() == b"closed\n"
            for _ in range(2):
                with pytest.raises(BrokenPipeError):
                    await write_until_it_fails()
        finally:
            await process.stop()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(write_on())


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_who_stops_a_program_that_left_its_input_hears_no_more_of_it(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    told = list[str]()

    async def leave() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
        process = await Process.start([sys.executable, "-c", "import os; os.close(0); print()"], stdin=True)
        with contextlib.suppress(BrokenPipeError):
            async with asyncio.timeout(LONGEST_SECONDS):
                while True:
                    await process.write(bytes(1 << 20))
        await process.stop()
        del process
        gc.collect()
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(leave())
    gc.collect()
    assert not told


async def test_standard_input_goes_in_and_its_end_ends_the_output(tools: Tools) -> None:
    argv = [str(tools.ffmpeg), *QUIET[1:], "-f", "s16le", "-ar", "8000", "-i", "pipe:0", "-f", "u8", pipe(0)]
    process = await Process.start(argv, stdin=True)
    try:
        await process.write(bytes(32000))
        process.close_stdin()
        assert len(await drain(process, 0)) == 16000
    finally:
        await process.stop()


async def test_a_child_that_takes_its_time_behind_its_output_ended_well() -> None:
    code = "import os, sys, time; os.close(int(sys.argv[1].removeprefix('pipe:'))); time.sleep(1.5)"
    process = await Process.start([sys.executable, "-c", code, pipe(0)], sandbox=None)
    try:
        assert await process.read() == b""
        assert await process.exited_cleanly()
    finally:
        await process.stop()


async def test_stop_ends_a_running_child_and_leaves_no_zombie(tools: Tools) -> None:
    process = await Process.start([str(tools.ffmpeg), *QUIET, *ENDLESS, pipe(0)])
    assert await process.read()
    status = await process.stop()
    assert status != 0
    assert not Path(f"/proc/{process.pid}").exists()


async def test_stop_ends_a_child_that_ignores_sigterm() -> None:
    argv = ["/bin/sh", "-c", "trap '' TERM; echo ready >&3; while :; do sleep 1; done"]
    process = await Process.start(argv, sandbox=None)
    assert await process.read() == b"ready\n"
    assert await process.stop() == -signal.SIGKILL


async def test_a_killed_child_ends_its_output(tools: Tools) -> None:
    process = await Process.start([str(tools.ffmpeg), *QUIET, *ENDLESS, pipe(0)])
    try:
        assert await process.read()
        os.kill(process.pid, signal.SIGKILL)
        await drain(process, 0)
        assert await process.wait() == -signal.SIGKILL
    finally:
        await process.stop()


@pytest.mark.clause("An ffmpeg that hangs is started again, and its words are bounded")
async def test_only_the_newest_errors_are_kept() -> None:
    process = await Process.start(
        ["/bin/sh", "-c", "yes 0123456789 | head -c 1000000 >&2; echo last >&2"], outputs=0, sandbox=None
    )
    try:
        await process.wait()
        assert len(process.errors) <= ERROR_BYTES
        assert process.errors.endswith("last")
    finally:
        await process.stop()


async def test_no_descriptor_of_the_server_reaches_the_child(tmp_path: Path) -> None:
    with (tmp_path / "secret").open("wb") as file:
        os.set_inheritable(file.fileno(), True)
        argv = ["/bin/sh", "-c", "ls /proc/self/fd >&3"]
        listed = (await run(argv, limit=LONGEST_SECONDS, sandbox=None)).split()
    assert set(listed) <= {b"0", b"1", b"2", b"3", b"4"}  # 4: the folder that ls reads


@pytest.mark.clause("Children die with their parent")
async def test_children_die_with_a_parent_that_is_killed(tools: Tools) -> None:
    script = (
        "import asyncio, sys\n"
        "from packager.ffmpeg.arguments import QUIET, pipe\n"
        "from packager.process.process import Process\n"
        "async def main():\n"
        f"    p = await Process.start([{str(tools.ffmpeg)!r}, *QUIET, *{ENDLESS!r}, pipe(0)])\n"
        "    await p.read()\n"
        "    print(p.pid, flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        child = int(await asyncio.to_thread(parent.stdout.readline))
    parent.kill()
    await asyncio.to_thread(parent.wait)
    await until(lambda: is_gone(child), "the child's end with its parent")


def is_gone(pid: int) -> bool:
    """Whether a process runs no more, whether or not somebody has taken note of its end."""
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]
    except OSError:
        return True


@pytest.mark.clause("CWE-73")
@pytest.mark.parametrize(
    "name", ["-version.mp4", "concat:a|b.mp4", "a%03d.mp4", "pipe:0.mp4", "http:x.mp4", "a\nb.mp4"]
)
async def test_a_file_is_a_file_whatever_its_name_looks_like(tools: Tools, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    made = [
        str(tools.ffmpeg),
        *QUIET,
        "-f",
        "lavfi",
        "-i",
        "sine=duration=0.2",
        "-f",
        "mp4",
        local_input(path),
    ]
    subprocess.run([str(word) for word in made], check=True)
    argv = [str(tools.ffmpeg), *QUIET, "-f", "mov", "-i", local_input(path), "-f", "u8", pipe(0)]
    assert len(await run(argv, limit=LONGEST_SECONDS, sandbox=read_only_sandbox(path))) > 1000


async def test_a_failure_is_one_line_with_ffmpegs_reason(tools: Tools) -> None:
    argv = [str(tools.ffmpeg), *QUIET, "-f", "mov", "-i", "file:/nowhere.mp4", "-f", "null", "-"]
    with pytest.raises(ToolsError) as caught:
        await run(argv, limit=LONGEST_SECONDS)
    assert str(caught.value) == "file:/nowhere.mp4: No such file or directory"


async def test_what_takes_too_long_or_gives_too_much_is_ended(tools: Tools) -> None:
    endless = [str(tools.ffmpeg), *QUIET, *ENDLESS, pipe(0)]
    with pytest.raises(ToolsError, match="longer than"):
        await run(endless, limit=0.3)
    with pytest.raises(ToolsError, match="more than 100 bytes"):
        await run(endless, limit=LONGEST_SECONDS, max_bytes=100)
    with pytest.raises(ToolsError, match="more than 200 bytes"):
        await run(endless, limit=LONGEST_SECONDS, max_bytes=200)


async def test_a_program_that_is_not_there_ends_with_the_launchers_error() -> None:
    with pytest.raises(ToolsError, match="No such file"):
        await run(["/nowhere/ffmpeg"], limit=LONGEST_SECONDS)


def test_the_last_error_line_tells_most() -> None:
    assert last_error("[mov @ 0x5]  first\n[mov,mp4 @ 0x6] moov atom not found\n\n") == "moov atom not found"
    assert last_error("[h264 @ 0x5] [IMGUTILS @ 0x6] Picture size 16384x16384 is invalid") == (
        "Picture size 16384x16384 is invalid"
    )
    refused = "[s302m @ 0x5] Codec (s302m) not on whitelist 'h264,hevc,aac'"
    assert last_error(refused) == "Codec (s302m) isn't one that may be decoded"
    assert last_error("") == ""
