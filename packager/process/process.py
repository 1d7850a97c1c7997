"""Child processes of ffmpeg: start, pipes, standard error and exit.

Their arguments are written in ``packager.ffmpeg``.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from packager.process import launcher
from packager.process.ffmpeg_discovery import BusyError, ToolsError
from packager.process.pipe_reader import READ_BYTES, PipeReader, capacity
from packager.process.pipe_writer import GONE, PipeWriter
from packager.process.sandbox import Sandbox
from packager.redaction import redact
from packager.threads import SHARED_THREADS
from packager.transient_errors import LACKING

PIPE_BYTES = 1 << 20
"""Requested size of each output pipe; one full pipe blocks all outputs of an ffmpeg."""

SPARE_PIPES = 8
"""Pipes that must be free beyond those needed, since starting a process uses descriptors."""

ERROR_BYTES = 64 << 10
"""How much of standard error is kept, the newest."""

OUTPUT_BYTES = 64 << 20
"""Most bytes of the output of a program whose answer is read whole."""

EXIT_SECONDS = 10.0
"""Time for a process to exit by itself after the end of its output."""

STOP_SECONDS = 0.7
"""Time between SIGTERM and SIGKILL."""

LINE_CHARACTERS = 4096
"""Most characters of an error line in messages."""

STRICT = Sandbox()
"""The default sandbox: only the system's libraries are readable, and only pipes writable."""

ERRORS_AFTERWARDS = re.compile(
    r"(\[[^\]]*\] )*(Device creation failed|Failed to set value|can't configure encoder"
    "|Error (parsing global options|initializing output stream))"
)
"""Matches lines that follow the line with the cause."""

ENVIRONMENT = {"MALLOC_ARENA_MAX": "2", "MALLOC_PERTURB_": "255"}
"""Variables set for children (mallopt(3)).

An arena per thread would use up the sandbox's address space. New memory is zero: x264 reads some before it
is written, and would encode the same pictures to other bytes each time.
"""

INHERITED = (
    "PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "FONTCONFIG_FILE", "FONTCONFIG_PATH", "SSL_CERT_FILE",
    "SSL_CERT_DIR", "http_proxy", "https_proxy", "no_proxy", "LIBVA_DRIVER_NAME", "LIBVA_DRIVERS_PATH",
)  # fmt: skip
"""Variables that children inherit; others may hold secrets."""


class OutputTooLargeError(ToolsError):
    """A program wrote more than it may."""


def read_only_sandbox(path: Path) -> Sandbox:
    """Make the sandbox of a program that reads one file."""
    return Sandbox(read=(str(path.absolute()),))


class Process:
    """A running ffmpeg or ffprobe; made by ``start``, and released by ``stop``."""

    def __init__(
        self, child: subprocess.Popen[bytes], pidfd: int, outputs: list[int], errors: int, stdin: int | None
    ) -> None:
        self.input_ended = False
        loop = asyncio.get_running_loop()
        self._child = child
        self._pidfd = pidfd
        self._exited: asyncio.Future[int] = loop.create_future()
        self._input = None if stdin is None else PipeWriter(stdin)
        self._outputs = outputs
        self._error_pipe: int | None = errors
        self._error_tail = bytearray()
        loop.add_reader(errors, self._receive_errors)
        # pidfd_open(2): it is readable once the process has ended.
        loop.add_reader(pidfd, self._reap)

    @classmethod
    async def start(
        cls,
        argv: Sequence[str | Path],
        *,
        outputs: int = 1,
        stdin: bool = False,
        further: bytes = b"",
        sandbox: Sandbox | None = STRICT,
    ) -> Process:
        """Start a program with output pipes, which its arguments name by ``pipe(0)`` to ``pipe(n)``.

        Args:
            argv: the program's absolute path, then its arguments.
            outputs: number of output pipes, at least 1.
            stdin: whether ``write`` is used; otherwise standard input is empty.
            further: an input beside it, which is read from the pipe behind the outputs; empty for none.

        Raises:
            ToolsError: the program can't be started; `BusyError` if only for lack of resources.
        """
        program, *arguments = [str(word) for word in argv]
        try:
            pipes = _pipes(2 + outputs + SPARE_PIPES)
        except OSError as error:
            raise _start_error(program, error) from error
        _close(*itertools.chain(*pipes[2 + outputs :]))
        (input_read, input_write), (error_read, error_write), *pairs = pipes[: 2 + outputs]
        write_ends = [pair[1] for pair in pairs]
        read_ends = [pair[0] for pair in pairs]
        for end in (*read_ends, error_read):
            os.set_blocking(end, False)
        for end in read_ends:
            # Fails beyond the user's share of pipe memory; a smaller pipe is only slower.
            with contextlib.suppress(OSError):
                fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        if not stdin:
            # Its other end is closed, so that it is empty.
            _close(input_write)
        child = None
        try:
            if further:
                write_ends.append(_memory_file(further))
            # Not asyncio's: uvloop copies the tables of all memory for each start, which holds the event loop
            # for milliseconds. This uses vfork(2).
            child = subprocess.Popen(  # noqa: ASYNC220, S603  # no shell is involved
                [
                    sys.executable,
                    *("-I", "-S", launcher.__file__, str(os.getpid()), ",".join(map(str, write_ends)) or "-"),
                    "-" if sandbox is None else sandbox.argument(program),
                    program,
                    *arguments,
                ],
                stdin=input_read,
                stdout=subprocess.DEVNULL,
                stderr=error_write,
                pass_fds=write_ends,
                env={name: os.environ[name] for name in INHERITED if name in os.environ} | ENVIRONMENT,
                start_new_session=True,  # Ctrl-C is for the server, which then ends its children
            )
            pidfd = os.pidfd_open(child.pid)
        except BaseException as error:
            _close(*read_ends, error_read, *([input_write] if stdin else []))
            if child is not None:
                child.kill()
                await SHARED_THREADS.run(child.wait)
            if isinstance(error, OSError):
                raise _start_error(program, error) from error
            raise
        finally:
            _close(*write_ends, error_write, input_read)
        return cls(child, pidfd, read_ends, error_read, input_write if stdin else None)

    @property
    def pid(self) -> int:
        """Process ID of ffmpeg, which the launcher's process becomes."""
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal, None while the process runs."""
        return self._child.returncode

    @property
    def errors(self) -> str:
        """The newest part of standard error."""
        return self._error_tail.decode("utf-8", "replace").strip()

    async def read(self, index: int = 0) -> bytes:
        """Wait for the next bytes of an output; b"" at its end."""
        descriptor = self._outputs[index]
        while True:
            try:
                return os.read(descriptor, READ_BYTES)
            except BlockingIOError:
                await readable(descriptor)

    async def drain(self, index: int, receive: Callable[[bytes], float]) -> None:
        """Pass an output's bytes to a function as they arrive, until the end of file.

        With data a hundred times a second it is cheaper than `read`, as no task is woken each time.

        Args:
            receive: takes the bytes and returns the seconds during which no reading is needed; its
                exceptions are raised here.
        """
        drain = PipeReader(self._outputs[index], receive)

        def wake(_: asyncio.Future[int]) -> None:
            drain.wake()

        self._exited.add_done_callback(wake)
        try:
            await drain.ended
        finally:
            self._exited.remove_done_callback(wake)
            drain.stop()

    def capacity(self, index: int) -> int:
        """Return how many bytes an output's pipe holds before the program blocks."""
        return capacity(self._outputs[index])

    async def write(self, data: bytes) -> None:
        """Write to standard input, waiting while the pipe is full.

        Raises:
            BrokenPipeError: the process no longer reads.
        """
        if self._input is None:
            raise BrokenPipeError(GONE)
        await self._input.write(data)

    def close_stdin(self) -> None:
        """Close standard input, which ends it."""
        self.input_ended = True
        if self._input is not None:
            self._input.close()

    async def wait(self) -> int:
        """Wait for the exit; return its status."""
        status = await asyncio.shield(self._exited)
        self._receive_errors()
        return status

    def _reap(self) -> None:
        """Read the status of a process that has ended."""
        status = self._child.poll()
        if status is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            _close(self._pidfd)
            self._exited.set_result(status)

    async def exited_cleanly(self) -> bool:
        """Return whether the process exits by itself within `EXIT_SECONDS`, with status 0."""
        try:
            async with asyncio.timeout(EXIT_SECONDS):
                return await self.wait() == 0
        except TimeoutError:
            return False

    def end(self) -> None:
        """Have the process write the rest of its outputs and exit (SIGTERM)."""
        if self._child.returncode is None:
            self._signal(signal.SIGTERM)

    async def stop(self) -> int:
        """Stop the process (SIGTERM, then SIGKILL), close the pipes, and return the exit status."""
        try:
            if self._child.returncode is None:
                self.end()
                await asyncio.wait([self._exited], timeout=STOP_SECONDS)
                if self._child.returncode is None:
                    self._signal(signal.SIGKILL)
            return await self.wait()
        finally:
            if self._child.returncode is None:
                self._signal(signal.SIGKILL)
            self._release()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child.pid, number)  # Popen.send_signal would reap the child before its watcher

    def _release(self) -> None:
        _close(*self._outputs)
        self._outputs = []
        self._close_error_pipe()
        self.input_ended = True
        if self._input is not None:
            self._input.abort()

    def _receive_errors(self) -> None:
        while self._error_pipe is not None:
            try:
                data = os.read(self._error_pipe, ERROR_BYTES)
            except BlockingIOError:
                return
            if not data:
                self._close_error_pipe()
                return
            self._error_tail += data
            del self._error_tail[:-ERROR_BYTES]

    def _close_error_pipe(self) -> None:
        if self._error_pipe is not None:
            asyncio.get_running_loop().remove_reader(self._error_pipe)
            _close(self._error_pipe)
            self._error_pipe = None


async def run(
    argv: Sequence[str | Path],
    *,
    limit: float,
    max_bytes: int = OUTPUT_BYTES,
    sandbox: Sandbox | None = STRICT,
    feed: Callable[[Process], Awaitable[None]] | None = None,
    further: bytes = b"",
) -> bytes:
    """Run a program and return what it writes to output pipe 0.

    Args:
        argv: the program's absolute path, then its arguments, the output among them as ``pipe(0)``.
        limit: timeout in seconds.
        max_bytes: most bytes of output.
        feed: writes to standard input; None to leave it empty.
        further: a second input, which is read from ``pipe(1)``; empty for none.

    Raises:
        ToolsError: the program failed, took too long or wrote too much; the text has its last error line.
    """
    process = await Process.start(argv, sandbox=sandbox, stdin=feed is not None, further=further)
    feeding = None if feed is None else asyncio.ensure_future(feed(process))
    output = bytearray()
    try:
        async with asyncio.timeout(limit):
            while data := await process.read():
                output += data
                if len(output) > max_bytes:
                    raise OutputTooLargeError(f"{argv[0]} wrote more than {max_bytes} bytes")
            status = await process.wait()
    except TimeoutError as error:
        raise ToolsError(f"{argv[0]} took longer than {limit:.0f} s") from error
    finally:
        if feeding is not None:
            feeding.cancel()
            await asyncio.wait([feeding])
        await process.stop()
    if status != 0:
        raise ToolsError(last_error(process.errors) or f"{argv[0]} ended with status {status}")
    return bytes(output)


def _memory_file(data: bytes) -> int:
    """Return the descriptor of a file in memory, of which the first byte is read next."""
    descriptor = os.memfd_create("input")
    try:
        os.set_blocking(descriptor, False)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def last_error(errors: str) -> str:
    """Return the last line of ffmpeg's standard error, without ``[mov @ 0x…]``, long lists and secrets."""
    lines = [line for line in errors.splitlines() if line.strip()]
    lines = [line for line in lines if not ERRORS_AFTERWARDS.match(line)] or lines[:1]
    line = re.sub(r"^(?:\[[^\]]*\] )+", "", lines[-1][-LINE_CHARACTERS:]).strip() if lines else ""
    return redact(re.sub(r"not on whitelist '.*", "isn't one that may be decoded", line))


async def readable(descriptor: int) -> None:
    """Wait until a descriptor is readable."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(descriptor, wake)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _pipes(count: int) -> list[tuple[int, int]]:
    """Make a number of pipes; on an error, none stay open."""
    made: list[tuple[int, int]] = []
    try:
        for _ in range(count):
            made.append(os.pipe())  # noqa: PERF401  # those before an error are closed
    except OSError:
        _close(*itertools.chain(*made))
        raise
    return made


def _start_error(program: str, error: OSError) -> ToolsError:
    kind = BusyError if error.errno in LACKING else ToolsError
    return kind(f"{program} can't be started: {error.strerror}")


def _close(*descriptors: int) -> None:
    for number in descriptors:
        with contextlib.suppress(OSError):
            os.close(number)
