"""Starts the program in tests as forks of a process that has imported it, and knows its ffmpeg.

Importing it and asking ffmpeg what it can take nearly two seconds of processor time, in hundreds of tests.
What runs is the program's own ``main``, with the arguments, environment, folder and standard streams of the
test. A test that is about the start itself, about memory or about what a process was started with, asks for a
process of its own.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests import forking_process
from tests.forking_process import END, STATUS
from tests.processes import ENDED

ROOT = Path(__file__).parent.parent
HEADWATER = Path(sys.executable).parent / "headwater"
WITH_LIMITS = ROOT / "tests" / "serve_with_limits.py"
COMMAND_SECONDS = 240.0

SHARED = "TESTS_FORK_SERVER"
"""The environment variable with the address of the fork server that a run's processes share."""

FRESH = ("GLIBC_", "LANG", "LC_", "LD_", "MALLOC_", "PYTHON", "TZ")
"""Beginnings of the names of variables that only a process of its own heeds."""


class ForkedProcess(subprocess.Popen[str]):
    """A fork that this process is not the parent of: its exit status comes through a pipe."""

    def __init__(
        self, argv: Sequence[str], pid: int, output: int | None, errors: int | None, status: int
    ) -> None:
        self.args = list(argv)
        self.pid = pid
        self.returncode: int | None = None
        self.stdin = None
        # The readers close them.
        self.stdout = None if output is None else os.fdopen(output, encoding="utf-8", errors="replace")
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
                self.returncode, processor_seconds = END.unpack(os.read(self._status, END.size))
                os.close(self._status)
                ENDED.append(processor_seconds)
        return self.returncode


def is_fork_server(pid: int) -> bool:
    """Tell whether a child of the tests' process is the one that forks servers."""
    with contextlib.suppress(OSError):
        return forking_process.__name__.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return False


def start_fork_server(sock: socket.socket, stdin: int) -> subprocess.Popen[bytes]:
    """Start a process that forks servers.

    Args:
        sock: a connection, or a socket that listens; the process has a copy.
        stdin: a descriptor or ``subprocess.PIPE``. With a socket that listens, the process ends as this does.
    """
    return subprocess.Popen(
        [sys.executable, "-m", forking_process.__name__, str(sock.fileno())],
        cwd=ROOT,
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        pass_fds=[sock.fileno()],
    )


class ForkServer:
    """A connection to the process that forks servers: the one that a run's processes share, or an own one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        if SHARED in os.environ:
            self._control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._control.connect(os.environ[SHARED])
            return
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = start_fork_server(theirs, subprocess.DEVNULL)

    def start(
        self,
        argv: Sequence[str],
        *,
        limits: str | None,
        cwd: Path | None,
        environment: Mapping[str, str],
        stdin: int,
        apart: bool,
        output: int | None = None,
        sockets: Sequence[socket.socket] = (),
    ) -> ForkedProcess:
        """Start the program.

        Args:
            argv: its arguments, from the program's name on.
            limits: those of ``serve_with_limits``.
            cwd: its folder; None: that of this process.
            environment: all of its variables.
            stdin: a descriptor, or ``subprocess.DEVNULL``.
            apart: whether its standard error has a pipe of its own.
            output: where its standard output goes; None: into a pipe.
            sockets: the listening sockets that it is handed as systemd hands them.
        """
        told, its_output = os.pipe() if output is None else (None, os.dup(output))
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
                streams = [stdin, its_output, its_errors, its_status, *(one.fileno() for one in sockets)]
                socket.send_fds(self._control, [json.dumps(request).encode()], streams)
                (pid,) = STATUS.unpack(self._control.recv(STATUS.size))
        return ForkedProcess(argv, pid, told, errors, status)

    def close(self) -> None:
        """End the connection, and a process of our own; servers that run go on."""
        self._control.close()
        if self._process is not None:
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
    output: int | None = None,
    sockets: Sequence[socket.socket] = (),
) -> ForkedProcess | None:
    """Start the program as a fork; None: it needs a process of its own.

    Args:
        program: ``headwater``, or ``serve_with_limits``; any other can't be forked.
        arguments: the command, and its own.
        cwd: its folder; None: that of this process.
        env: all of its variables.
        stdin: a descriptor, or ``subprocess.DEVNULL``.
        apart: whether its standard error has a pipe of its own.
        output: where its standard output goes; None: into a pipe.
        sockets: the listening sockets that it is handed as systemd hands them.
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
    return server.start(
        argv,
        limits=limits,
        cwd=cwd,
        environment=env,
        stdin=stdin,
        apart=apart,
        output=output,
        sockets=sockets,
    )


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
