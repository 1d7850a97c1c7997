"""Pushes what is published to a channel on to an RTMP or SRT address of another server, and tries again."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import ssl
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from packager.concurrency import background_task, receive_within
from packager.ffmpeg.live import repackager_arguments
from packager.forwarding import avio_writer
from packager.process.ffmpeg_discovery import Tools, ToolsError
from packager.process.process import Process, last_error
from packager.process.sandbox import Sandbox
from packager.retry_policy import FailureCount, RetryPolicy
from packager.sources.published_source import PublishedSource
from packager.sources.pullers.rtsp_srt_puller import INTERPRETER, find_libavformat
from packager.sources.pump import ChunkTaker, Pump
from packager.sources.schemes import without_url_secrets
from packager.sources.tee_branch import TeeBranch
from packager.threads import SHARED_THREADS

PORTS = {"rtmp": 1935, "rtmps": 443, "srt": 0}
"""Schemes of addresses that can be pushed to, with the TCP port of each; SRT has none."""

RESOLVING = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf")
"""Files by which a program finds the address of a host."""

AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
)
"""Where systems have the certificates of those who vouch for servers: Debian, Fedora, and SUSE."""

FORWARD_RETRY = RetryPolicy(first_seconds=1.0, longest_seconds=30.0, steady_seconds=10.0)
"""When an address is tried again that didn't take the stream."""

log = structlog.get_logger()


class ForwardState(enum.StrEnum):
    """The state of a forwarder."""

    IDLE = "idle"
    """Nobody publishes."""
    CONNECTING = "connecting"
    SENDING = "sending"
    WAITING = "waiting"
    """Forwarding has failed, and is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardLimits:
    """Limits of pushing a channel on to one address.

    Attributes:
        retry: When it is tried again.
        stalled_seconds: For how long the other server may take nothing.
        waiting_bytes: Of the stream that may wait until it does, behind its newest access point.
        write_bytes: Of the stream that are written at once: some of them must be taken in that time.
    """

    retry: RetryPolicy = FORWARD_RETRY
    connect_seconds: float = 15.0
    stalled_seconds: float = 10.0
    waiting_bytes: int = 16 << 20
    write_bytes: int = 64 << 10


DEFAULT_LIMITS = ForwardLimits()


class Forwarder:
    """Pushes to one address what is on air of a channel that is published to, and never makes that wait.

    Args:
        url: the address, with the key of its stream.

    Attributes:
        target: where it pushes to, without anything secret.
        sent: bytes since the start.
        failures: how often it ended otherwise than with the publisher.
        last_error: why it did last; empty if it never did.
    """

    def __init__(
        self, source: PublishedSource, url: str, tools: Tools, limits: ForwardLimits = DEFAULT_LIMITS
    ) -> None:
        parts = urlsplit(url)
        self._source = source
        self._url = url
        self._tools = tools
        self._limits = limits
        self._container = "mpegts" if parts.scheme == "srt" else "flv"
        self._needs_authorities = parts.scheme == "rtmps"
        self._port = PORTS[parts.scheme] and (parts.port or PORTS[parts.scheme])
        self._connected_at = 0.0
        self._count = FailureCount(limits.retry)
        self.target = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self.state = ForwardState.IDLE
        self.sent = 0
        self.failures = 0
        self.last_error = ""

    async def run(self) -> None:
        """Push whenever somebody publishes, until cancelled."""
        while True:
            await self._source.wait_until_flowing()
            if self._source.elsewhere:
                # The node that has the publisher pushes it there; this one's is a spare one.
                await self._source.wait_for_change(self._limits.retry.first_seconds)
                continue
            pump = None if self._source.live is None else self._source.live.pump
            if pump is None:
                continue
            self.state, self._connected_at = ForwardState.CONNECTING, 0.0
            try:
                await self._push(pump)
            except (ToolsError, ExceptionGroup) as error:
                pause = self._failed(error)
            except Exception:  # the channel goes on whatever the error
                log.exception("forwarding failed by an error of this server", **self._named)
                pause = self._failed(ToolsError("an error of this server, which is in its log"))
            else:
                self.state, pause = ForwardState.IDLE, self._limits.retry.first_seconds
            if (task := asyncio.current_task()) is not None and task.cancelling():
                # A task group in which something failed at that moment has forgotten it.
                raise asyncio.CancelledError
            await asyncio.sleep(pause)

    def _failed(self, error: Exception) -> float:
        """Note a failure; return the seconds until the next attempt."""
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        if not isinstance(error, ToolsError):
            log.exception("forwarding failed by an error of this server", **self._named)
        self.failures += 1
        self.last_error = without_url_secrets(str(error), self._url)
        self.state = ForwardState.WAITING
        if self._connected_at:
            self._count.succeeded(time.monotonic() - self._connected_at)
        again_in = self._count.failed()
        if self._count.failures <= self._limits.retry.quiet_after:
            log.warning("forwarding failed", **self._named, reason=self.last_error, again_in=again_in)
        return again_in

    @property
    def is_sending(self) -> bool:
        """Whether the other server takes the stream now."""
        return self.state is ForwardState.SENDING

    @property
    def _named(self) -> dict[str, str]:
        return {"channel": self._source.channel, "target": self.target}

    async def _push(self, pump: Pump) -> None:
        """Push one stream to its end.

        Raises:
            ToolsError: the other server can't be reached, or doesn't take it.
        """
        branch = pump.branch(self._limits.waiting_bytes)
        try:
            async with self._writing() as writer, self._repackaging(pump.container, writer) as first:
                taker = pump.for_ffmpeg(_Receiver(first, self._write))
                async with background_task(self._feed(branch, taker)):
                    await self._watch(writer)
                if not branch.has_ended:
                    reason = _reason(writer.errors) or _reason(first.errors)
                    raise ToolsError(reason or "the other server ended the connection")
        finally:
            branch.receive_eof()

    @contextlib.asynccontextmanager
    async def _writing(self) -> AsyncGenerator[Process]:
        """Run the program that sends, and give it the URL."""
        library = await SHARED_THREADS.run(find_libavformat)
        if library is None:
            raise ToolsError("libavformat is missing, which comes with the system's ffmpeg")
        authorities = await SHARED_THREADS.run(_find_authorities)
        if self._needs_authorities and not authorities:
            raise ToolsError("no file of trusted certificates: install ca-certificates, or set SSL_CERT_FILE")
        program = avio_writer.__file__
        readable = (sys.base_prefix, program, *RESOLVING, *([authorities] if authorities else []))
        sandbox = Sandbox(read=readable, tcp_port=self._port, udp=True)
        argv = [INTERPRETER, "-I", "-S", program, library, authorities]
        writer = await Process.start(argv, stdin=True, sandbox=sandbox)
        try:
            with contextlib.suppress(BrokenPipeError):
                await writer.write(f"{self._url}\n".encode())
            yield writer
        finally:
            await writer.stop()

    @contextlib.asynccontextmanager
    async def _repackaging(self, container: str, writer: Process) -> AsyncGenerator[Process]:
        """Yield the process to feed: an ffmpeg that changes the container, or else the writer itself."""
        if container == self._container:
            yield writer
            return
        argv = [str(self._tools.ffmpeg), *repackager_arguments(container, self._container)]
        ffmpeg = await Process.start(argv, stdin=True)
        try:
            async with background_task(self._carry(ffmpeg, writer)):
                yield ffmpeg
        finally:
            await ffmpeg.stop()

    async def _feed(self, branch: TeeBranch, taker: ChunkTaker) -> None:
        with contextlib.suppress(BrokenPipeError):
            while chunks := await branch.read():
                await taker.push(chunks)
                self.sent += sum(chunk.size for chunk in chunks)
            if branch.has_overflown:
                raise ToolsError("the other server reads the stream too slowly")
            taker.close_stdin()
            # Cancelled when the other server has taken the rest.
            await asyncio.sleep(self._limits.stalled_seconds)
            raise ToolsError("the other server didn't confirm the end of the stream")

    async def _carry(self, ffmpeg: Process, writer: Process) -> None:
        with contextlib.suppress(BrokenPipeError):
            while data := await ffmpeg.read():
                await self._write(writer, data)
            writer.close_stdin()

    async def _write(self, process: Process, data: bytes) -> None:
        size = self._limits.write_bytes
        try:
            for first in range(0, len(data), size):
                async with asyncio.timeout(self._limits.stalled_seconds):
                    await process.write(data[first : first + size])
        except TimeoutError:
            if self.is_sending:
                raise ToolsError(
                    f"the other server read nothing for {self._limits.stalled_seconds:g} s"
                ) from None
            raise ToolsError("the other server can't be connected to in time") from None

    async def _watch(self, writer: Process) -> None:
        """Wait for the connection, and then for its end."""
        try:
            is_connected = await receive_within(writer.read, self._limits.connect_seconds)
        except TimeoutError:
            raise ToolsError("the other server can't be connected to in time") from None
        if is_connected:
            self.state, self._connected_at = ForwardState.SENDING, time.monotonic()
            log.info("forwarding began", **self._named)
            await writer.read()
        await writer.wait()


class _Receiver:
    """Takes the stream for the first program on its way, in the time that the other server has for it."""

    def __init__(self, process: Process, write: Callable[[Process, bytes], Awaitable[None]]) -> None:
        self._process = process
        self._write = write

    async def write(self, data: bytes) -> None:
        """Write the next bytes; BrokenPipeError if the program reads no more."""
        await self._write(self._process, data)

    def close_stdin(self) -> None:
        """Close the program's input at the stream's end."""
        self._process.close_stdin()


def _find_authorities() -> str:
    """Find the file of trusted certificates, SSL_CERT_FILE or the system's; empty for none."""
    known = (ssl.get_default_verify_paths().cafile, *AUTHORITIES)
    return next((str(Path(one).resolve()) for one in known if one and Path(one).is_file()), "")


def _reason(errors: str) -> str:
    """Return the line that says most: the last one doesn't name faults of certificates and codecs."""
    telling = (line for line in errors.splitlines() if line.startswith("[tls @") or "not compatible" in line)
    return last_error(next(telling, errors))
