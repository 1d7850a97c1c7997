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
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from packager.concurrency import running_tasks
from packager.process import launcher
from packager.process.ffmpeg_discovery import BusyError, ToolsError
from packager.process.limits import DEFAULT_LIMITS, ProcessLimits
from packager.process.pipe_reader import READ_BYTES, PipeReader, capacity
from packager.process.sandbox import Sandbox
from packager.redaction import redact
from packager.transient_errors import LACKING

LINE_CHARACTERS = 4096
"""Most characters of an error line in messages."""

STRICT = Sandbox()
"""The default sandbox: only the system's libraries are readable, and only pipes writable."""

ENVIRONMENT = {"MALLOC_ARENA_MAX": "2"}
"""Variables set for children. An arena per thread would use up the sandbox's address space."""

INHERITED = (
    "PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "FONTCONFIG_FILE", "FONTCONFIG_PATH", "SSL_CERT_FILE",
    "SSL_CERT_DIR", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip
"""Variables that children inherit; others may hold secrets."""


def read_only_sandbox(path: Path) -> Sandbox:
    """Make the sandbox of a program that reads one file."""
    return Sandbox(read=(str(path.absolute()),))


class Process:
    """A running ffmpeg or ffprobe; made by ``start``, and released by ``stop``.

    Attributes:
        input_ended: whether ``close_stdin`` was called.
    """

    def __init__(
        self, child: asyncio.subprocess.Process, outputs: list[int], errors: int, limits: ProcessLimits
    ) -> None:
        self.input_ended = False
        self._child = child
        self._limits = limits
        self._outputs = outputs
        self._error_pipe: int | None = errors
        self._error_tail = bytearray()
        asyncio.get_running_loop().add_reader(errors, self._receive_errors)

    @classmethod
    async def start(
        cls,
        argv: Sequence[str | Path],
        *,
        outputs: int = 1,
        stdin: bool = False,
        sandbox: Sandbox | None = STRICT,
        limits: ProcessLimits = DEFAULT_LIMITS,
    ) -> Process:
        """Start a program with output pipes, which its arguments name by ``pipe(0)`` to ``pipe(n)``.

        Args:
            argv: the program's absolute path, then its arguments.
            outputs: number of output pipes, at least 1.
            stdin: whether ``write`` is used; otherwise standard input is empty.
            sandbox: the sandbox; None for none.

        Raises:
            ToolsError: the program can't be started; `BusyError` if only for lack of resources.
        """
        program, *arguments = [str(word) for word in argv]
        try:
            pipes = _pipes(1 + outputs + limits.spare_pipes)
        except OSError as error:
            raise _start_error(program, error) from error
        # uvloop leaks descriptors when a start fails for lack of them, so make sure that some are free.
        _close(*itertools.chain(*pipes[1 + outputs :]))
        (error_read, error_write), *pairs = pipes[: 1 + outputs]
        write_ends = [pair[1] for pair in pairs]
        read_ends = [pair[0] for pair in pairs]
        for end in (*read_ends, error_read):
            os.set_blocking(end, False)
        for end in read_ends:
            # Fails beyond the user's share of pipe memory; a smaller pipe is only slower.
            with contextlib.suppress(OSError):
                fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, limits.pipe_bytes)
        try:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-S", launcher.__file__, str(os.getpid()), ",".join(map(str, write_ends)) or "-"),
                "-" if sandbox is None else sandbox.argument(program),
                program,
                *arguments,
                stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=error_write,
                pass_fds=write_ends,
                env={name: os.environ[name] for name in INHERITED if name in os.environ} | ENVIRONMENT,
                start_new_session=True,  # Ctrl-C is for the server, which then ends its children
            )
        except BaseException as error:
            _close(*read_ends, error_read)
            if isinstance(error, OSError):
                raise _start_error(program, error) from error
            raise
        finally:
            _close(*write_ends, error_write)
        return cls(child, read_ends, error_read, limits)

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
        async with running_tasks(self._child.wait()) as (exited,):
            exited.add_done_callback(lambda _: drain.wake())
            try:
                await drain.ended
            finally:
                drain.stop()

    def capacity(self, index: int) -> int:
        """Return how many bytes an output's pipe holds before the program blocks."""
        return capacity(self._outputs[index])

    async def write(self, data: bytes) -> None:
        """Write to standard input, waiting while the pipe is full.

        Raises:
            BrokenPipeError: the process no longer reads.
        """
        pipe = self._child.stdin
        if pipe is None:
            raise BrokenPipeError("started without standard input")
        # A pipe of uvloop's that the program has closed raises a RuntimeError.
        if pipe.is_closing():
            raise BrokenPipeError("it no longer reads")
        pipe.write(data)
        try:
            await pipe.drain()
        except ConnectionResetError as error:
            raise BrokenPipeError("it no longer reads") from error

    def close_stdin(self) -> None:
        """Close standard input, which ends it."""
        self.input_ended = True
        if self._child.stdin is not None:
            self._child.stdin.close()

    async def wait(self) -> int:
        """Wait for the exit; return its status."""
        status = await self._child.wait()
        self._receive_errors()
        return status

    async def exited_cleanly(self) -> bool:
        """Return whether the process exits by itself within ``exit_seconds``, with status 0."""
        try:
            async with asyncio.timeout(self._limits.exit_seconds):
                return await self.wait() == 0
        except TimeoutError:
            return False

    async def stop(self) -> int:
        """Stop the process (SIGTERM, then SIGKILL), close the pipes, and return the exit status."""
        try:
            if self._child.returncode is None:
                self._signal(signal.SIGTERM)
                # Not asyncio.timeout: where a task group has just failed in the same task, Python before
                # 3.11.3 takes the timeout's own cancellation for somebody else's.
                async with running_tasks(self._child.wait()) as exiting:
                    await asyncio.wait(exiting, timeout=self._limits.stop_seconds)
                if self._child.returncode is None:
                    self._signal(signal.SIGKILL)
            status = await self.wait()
            await self._abandon_stdin()
            # One iteration in which asyncio closes the child's transport, as the loop may be closed next.
            await asyncio.sleep(0)
            return status
        finally:
            if self._child.returncode is None:
                self._signal(signal.SIGKILL)
            self._release()

    async def _abandon_stdin(self) -> None:
        """Close standard input, and take notice of its error: Python before 3.11.4 would log it as unseen."""
        pipe = self._child.stdin
        if pipe is None:
            return
        self.close_stdin()
        # Not cancelled: it waits for a future of asyncio's own, which asyncio sets when the pipe has gone.
        closing = asyncio.ensure_future(pipe.wait_closed())
        closing.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait((closing,), timeout=self._limits.stop_seconds)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child.pid, number)  # Popen.send_signal would reap the child before its watcher

    def _release(self) -> None:
        _close(*self._outputs)
        self._outputs = []
        self._close_error_pipe()
        self.close_stdin()

    def _receive_errors(self) -> None:
        while self._error_pipe is not None:
            try:
                data = os.read(self._error_pipe, self._limits.error_bytes)
            except BlockingIOError:
                return
            if not data:
                self._close_error_pipe()
                return
            self._error_tail += data
            del self._error_tail[: -self._limits.error_bytes]

    def _close_error_pipe(self) -> None:
        if self._error_pipe is not None:
            asyncio.get_running_loop().remove_reader(self._error_pipe)
            _close(self._error_pipe)
            self._error_pipe = None


async def run(
    argv: Sequence[str | Path],
    *,
    limit: float,
    max_bytes: int | None = None,
    sandbox: Sandbox | None = STRICT,
    feed: Callable[[Process], Awaitable[None]] | None = None,
    limits: ProcessLimits = DEFAULT_LIMITS,
) -> bytes:
    """Run a program and return what it writes to output pipe 0.

    Args:
        argv: the program's absolute path, then its arguments, the output among them as ``pipe(0)``.
        limit: timeout in seconds.
        max_bytes: most bytes of output; None: as many as the limits say.
        sandbox: the sandbox; None for none.
        feed: writes to standard input; None to leave it empty.

    Raises:
        ToolsError: the program failed, took too long or wrote too much; the text has its last error line.
    """
    process = await Process.start(argv, sandbox=sandbox, stdin=feed is not None, limits=limits)
    feeding = None if feed is None else asyncio.ensure_future(feed(process))
    output, most = bytearray(), limits.output_bytes if max_bytes is None else max_bytes
    try:
        async with asyncio.timeout(limit):
            while data := await process.read():
                output += data
                if len(output) > most:
                    raise ToolsError(f"{argv[0]} gave more than {most} bytes")
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


def last_error(errors: str) -> str:
    """Return the last line of ffmpeg's standard error, without ``[mov @ 0x…]``, long lists and secrets."""
    lines = [line for line in errors.splitlines() if line.strip()]
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
