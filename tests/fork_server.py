"""Starts the program in tests as forks of a process that has imported it, and knows its ffmpeg.

Importing it and asking ffmpeg what it can take nearly two seconds of processor time, in hundreds of tests.
What runs is the program's own ``main``, with the arguments, environment, folder and standard streams of the
test. A test that is about the start itself, about memory or about what a process was started with, asks for a
process of its own.

python -m tests.fork_server DESCRIPTOR
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import importlib
import json
import math
import os
import pickle
import select
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tests.made_once import VARIABLE, made_once

if TYPE_CHECKING:
    from packager.process.ffmpeg_discovery import Tools

ROOT = Path(__file__).parent.parent
HEADWATER = Path(sys.executable).parent / "headwater"
WITH_LIMITS = ROOT / "tests" / "serve_with_limits.py"
MODULES = ("origin.cli.main", "origin.server.serve")
COMMANDS = {
    "check": ("origin.cli.check", "httpx"),
    "doctor": ("origin.cli.doctor",),
    "ingest": ("origin.cli.ingest",),
    "package": ("packager.export.export",),
    "work": ("origin.cli.jobs",),
}
"""What commands import besides, and no server: it is imported before the first of them."""

REQUEST_BYTES = 1 << 18
STREAMS = 4
"""Descriptors of a request: the three standard streams, and the pipe for the exit status."""

COMMAND_SECONDS = 240.0

FRESH = ("GLIBC_", "LANG", "LC_", "LD_", "MALLOC_", "PYTHON", "TZ")
"""Beginnings of the names of variables that only a process of its own heeds."""

FINDING_TOOLS = ("FFMPEG", "FFPROBE", "PATH")
STATUS = struct.Struct("=i")


class ForkedProcess(subprocess.Popen[str]):
    """A fork that this process is not the parent of: its exit status comes through a pipe."""

    def __init__(self, argv: Sequence[str], pid: int, output: int, errors: int | None, status: int) -> None:
        self.args = list(argv)
        self.pid = pid
        self.returncode: int | None = None
        self.stdin = None
        # The readers close them.
        self.stdout = os.fdopen(output, encoding="utf-8", errors="replace")
        self.stderr = None if errors is None else os.fdopen(errors, encoding="utf-8", errors="replace")
        self._status = status

    def poll(self) -> int | None:
        """Give the exit status of a process that has ended."""
        return self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended.

        Raises:
            TimeoutExpired: it hasn't.
        """
        status = self._look(math.inf if timeout is None else timeout)
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return status

    def communicate(  # type: ignore[override]
        self,
        input: None = None,  # noqa: A002
        timeout: float | None = None,
    ) -> tuple[str, str]:
        """Read its output to its end, and wait until it has ended."""
        assert self.stdout is not None
        with self.stdout as output:
            told = output.read()
        self.wait(timeout)
        return told, ""

    def _look(self, seconds: float) -> int | None:
        if self.returncode is None:
            poll = select.poll()
            poll.register(self._status, select.POLLIN)
            if poll.poll(None if math.isinf(seconds) else 1000 * seconds):
                (self.returncode,) = STATUS.unpack(os.read(self._status, STATUS.size))
                os.close(self._status)
        return self.returncode


def is_fork_server(pid: int) -> bool:
    """Tell whether a child of the tests' process is the one that forks servers."""
    with contextlib.suppress(OSError):
        return __name__.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return False


class ForkServer:
    """The process that forks servers: it is started once for each process of the tests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fork_server", str(theirs.fileno())],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def start(
        self,
        argv: Sequence[str],
        *,
        limits: str | None,
        cwd: Path | None,
        environment: Mapping[str, str],
        stdin: int,
        apart: bool,
    ) -> ForkedProcess:
        """Start the program.

        Args:
            argv: its arguments, from the program's name on.
            limits: those of ``serve_with_limits``.
            cwd: its folder; None: that of this process.
            environment: all of its variables.
            stdin: a descriptor, or ``subprocess.DEVNULL``.
            apart: whether its standard error has a pipe of its own.
        """
        output, its_output = os.pipe()
        errors, its_errors = os.pipe() if apart else (None, os.dup(its_output))
        status, its_status = os.pipe()
        request = [list(argv), limits, os.fspath(cwd or Path.cwd()), dict(environment)]
        with contextlib.ExitStack() as closed:
            closed.callback(os.close, its_output)
            closed.callback(os.close, its_errors)
            closed.callback(os.close, its_status)
            if stdin == subprocess.DEVNULL:
                stdin = os.open(os.devnull, os.O_RDONLY)
                closed.callback(os.close, stdin)
            with self._lock:
                streams = [stdin, its_output, its_errors, its_status]
                socket.send_fds(self._control, [json.dumps(request).encode()], streams)
                (pid,) = STATUS.unpack(self._control.recv(STATUS.size))
        return ForkedProcess(argv, pid, output, errors, status)

    def close(self) -> None:
        """End the process; servers that run go on."""
        self._control.close()
        self._process.wait()


@functools.cache
def fork_server() -> ForkServer:
    """Give this process's own."""
    return ForkServer()


STARTING = threading.Lock()
"""Two threads that ask for the first server at once would make two, of which one is dropped and ends."""


def fork(
    program: Sequence[str],
    arguments: Sequence[str],
    *,
    cwd: Path | None,
    env: Mapping[str, str],
    stdin: int = subprocess.DEVNULL,
    apart: bool = False,
) -> ForkedProcess | None:
    """Start the program as a fork; None: it needs a process of its own.

    Args:
        program: ``headwater``, or ``serve_with_limits``; any other can't be forked.
        arguments: the command, and its own.
        cwd: its folder; None: that of this process.
        env: all of its variables.
        stdin: a descriptor, or ``subprocess.DEVNULL``.
        apart: whether its standard error has a pipe of its own.
    """
    names = [name for name in {*env, *os.environ} if name.startswith(FRESH)]
    if any(env.get(name) != os.environ.get(name) for name in names) or "COVERAGE_PROCESS_CONFIG" in env:
        return None
    if len(program) > 1 and program[2] != str(WITH_LIMITS):
        return None
    argv = [program[0] if len(program) == 1 else program[2], *arguments]
    limits = None if len(program) == 1 else program[3]
    with STARTING:
        server = fork_server()
    return server.start(argv, limits=limits, cwd=cwd, environment=env, stdin=stdin, apart=apart)


def run_headwater(
    *words: object, cwd: Path | None = None, env: Mapping[str, str] | None = None, fresh: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end.

    Args:
        words: the command, and its arguments.
        cwd: its folder; None: that of this process.
        env: more variables.
        fresh: whether it must be the installed program, in a process of its own.
    """
    given, arguments = {**os.environ, **(env or {})}, [str(word) for word in words]
    process = None if fresh else fork((str(HEADWATER),), arguments, cwd=cwd, env=given, apart=True)
    if process is None:
        return subprocess.run(
            [str(HEADWATER), *arguments],
            cwd=cwd,
            env=given,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout as output, process.stderr as errors, ThreadPoolExecutor(2) as readers:
        told = [readers.submit(stream.read) for stream in (output, errors)]
        try:
            status = process.wait(COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return subprocess.CompletedProcess(process.args, status, *(one.result() for one in told))


def start_headwater(*words: object, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a command, with its standard output and error in one pipe.

    Args:
        words: the command, and its arguments.
        env: more variables.
    """
    given, arguments = {**os.environ, **(env or {})}, [str(word) for word in words]
    forked = fork((str(HEADWATER),), arguments, cwd=None, env=given)
    return forked or subprocess.Popen(
        [str(HEADWATER), *arguments],
        env=given,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def close_fork_server() -> None:
    """End this process's own, where there is one."""
    if fork_server.cache_info().currsize:
        fork_server().close()


def serve(control: socket.socket) -> None:
    """Fork a server for each request, and tell how each ends, until the tests are over."""
    for module in MODULES:
        importlib.import_module(module)
    tools = tools_if_any()
    gc.collect()
    gc.freeze()
    children: dict[int, tuple[int, int]] = {}  # by pidfd: the process, and the pipe for its status
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor != control.fileno():
                pid, pipe = children.pop(descriptor)
                poll.unregister(descriptor)
                os.close(descriptor)
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(BrokenPipeError):
                    os.write(pipe, STATUS.pack(status))
                os.close(pipe)
                continue
            request, streams, _, _ = socket.recv_fds(control, REQUEST_BYTES, STREAMS)
            if not request:
                return
            prepare(json.loads(request)[0])
            pid = os.fork()
            if not pid:
                control.close()
                for watched, (_, pipe) in children.items():
                    os.close(watched)
                    os.close(pipe)
                os.close(streams.pop())
                become(request, streams, tools)
                return
            for stream in streams[:-1]:
                os.close(stream)
            watched = os.pidfd_open(pid)
            children[watched] = pid, streams[-1]
            poll.register(watched, select.POLLIN)
            control.send(STATUS.pack(pid))


def known_tools() -> Tools:
    """Give what this machine's ffmpeg can do, which one process of a run asks for all.

    Raises:
        ToolsError: it has none.
    """
    from packager.process.ffmpeg_discovery import discover

    if VARIABLE not in os.environ:  # a benchmark's server: there is no run
        return asyncio.run(discover())

    def make(folder: Path) -> None:
        (folder / "tools").write_bytes(pickle.dumps(asyncio.run(discover())))

    words = ("tools", *(os.environ.get(name, "") for name in FINDING_TOOLS))
    found: Tools = pickle.loads((made_once(words, make) / "tools").read_bytes())
    return found


def tools_if_any() -> Tools | None:
    """Give them; None where there are none."""
    from packager.process.ffmpeg_discovery import ToolsError

    with contextlib.suppress(ToolsError):
        return known_tools()
    return None


def prepare(argv: Sequence[str]) -> None:
    """Import what a command needs besides what a server does, before the first of them."""
    for module in COMMANDS.get(argv[1] if len(argv) > 1 else "", ()):
        if module not in sys.modules:
            importlib.import_module(module)
            gc.freeze()


def become(request: bytes, streams: Sequence[int], tools: Tools | None) -> None:
    """Be the process that is asked for, until it ends.

    Args:
        request: what it is started with.
        streams: its standard streams.
        tools: the ffmpeg that it finds where the environment names no other.

    Raises:
        SystemExit: its end, where it isn't status 0.
    """
    argv, limits, cwd, environment = json.loads(request)
    for descriptor, stream in enumerate(streams):
        os.dup2(stream, descriptor)
    for stream in streams:
        os.close(stream)
    os.chdir(cwd)
    same_tools = all(environment.get(name) == os.environ.get(name) for name in FINDING_TOOLS)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = argv
    # Imported already: here and not above, as the tests' own processes need neither.
    import msgspec

    from origin.cli.main import main
    from origin.server.services.limits import Limits
    from packager.process.ffmpeg_discovery import discover

    if tools is not None and same_tools:

        async def known(**_: object) -> Tools:
            return tools

        for module in [one for name, one in sys.modules.items() if name.startswith("origin.cli.")]:
            if getattr(module, "discover", None) is discover:
                vars(module)["discover"] = known
    main(None if limits is None else msgspec.json.decode(limits, type=Limits))


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
