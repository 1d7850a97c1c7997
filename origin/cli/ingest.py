"""``headwater ingest``: feeds a live channel of a running server with anything that ffmpeg reads.

An ffmpeg makes MPEG-TS of it, which is published over HTTP. The answer may come at any time, as when another
publisher takes over; so the body is sent and the answer read at once, which HTTP clients don't do.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from origin.config.errors import CommandError
from origin.tls.client_trust import explained, led_to_https
from packager.concurrency import background_task
from packager.ffmpeg.live import remuxer_arguments
from packager.process.ffmpeg_discovery import Tools, ToolsError, discover
from packager.process.process import Process, last_error
from packager.retry_policy import FailureCount, RetryPolicy
from packager.sources.probe import inspect_source
from packager.sources.pullers.rtsp_srt_puller import mpegts_coding
from packager.sources.source import Source

PUSH_RETRY = RetryPolicy(0.5, 5.0, steady_seconds=10.0)
"""Delays before a server or a source that is away is asked again."""

CONTINUE, OK = 100, 200
LED = frozenset((307, 308))
"""Statuses of a server that takes the same request at another address (RFC 9110 §15.4.8, §15.4.9)."""

FINAL = frozenset((400, 401, 403, 404, 405, 409, 415, 421))
"""Statuses after which the same request would fail again; 409: another publisher has taken over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushOptions:
    """Timeouts of waiting for a server.

    Attributes:
        answer_seconds: For a connection, and for an answer once all is sent.
        line_bytes: Longest reason that is read of an answer.
        retry: When it is tried again where the server is away, or the source.
    """

    answer_seconds: float = 30.0
    line_bytes: int = 4 << 10
    retry: RetryPolicy = PUSH_RETRY


DEFAULT_OPTIONS = PushOptions()


@dataclass(frozen=True, slots=True)
class IngestTarget:
    """The address at which a stream is published.

    Attributes:
        origin: ``http://HOST:PORT`` or ``https://HOST:PORT``.
        key: its ``publish_key``.
        trust: by which a server with HTTPS is verified.
    """

    origin: str
    channel: str
    key: str
    trust: ssl.SSLContext

    def head(self) -> bytes:
        """Write the head of the request."""
        lines = [
            f"PUT /live/{self.channel}/ingest HTTP/1.1",
            f"Host: {urlsplit(self.origin).netloc}",
            "User-Agent: Headwater",
            f"Authorization: Bearer {self.key}",
            "Transfer-Encoding: chunked",
            "Expect: 100-continue",
        ]
        return "\r\n".join([*lines, "", ""]).encode()


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """The server's answer to a request to publish.

    Attributes:
        status: 100 where the stream may be sent.
        line: the reason of a refusal; empty without one.
        location: the address to which it leads; empty without one.
    """

    status: int
    line: str
    location: str


class _AgainError(Exception):
    """The stream wasn't taken to its end; the text says why, and it may be tried again."""


async def push(
    url: str, target: IngestTarget, report: Callable[[str], None], options: PushOptions = DEFAULT_OPTIONS
) -> None:
    """Publish a file to its end, or a URL again and again, until it is refused.

    Args:
        url: a file's path, or a URL.
        report: called with lines about what happens.
        options: how long the server is waited for.

    Raises:
        CommandError: it is refused; the text says why.
        ToolsError: it can't be read.
    """
    tools, failures = await discover(), FailureCount(options.retry)
    while True:
        source = await inspect_source(url, tools)
        if source.made:
            raise CommandError(f"{url}: name a file or a URL")
        began = asyncio.get_running_loop().time()
        try:
            report(f"publishing to {target.channel}")
            led = await _publish(source, tools, target, options)
            if led is not None:
                target = led
                continue
            if source.path is not None:
                return
            reason = "it ended"
        except ssl.SSLCertVerificationError as error:
            raise CommandError(f"{target.origin}: {explained(error)}") from None
        except (_AgainError, OSError) as error:
            reason = str(error)
        failures.succeeded(asyncio.get_running_loop().time() - began)
        pause = failures.failed()
        report(f"{reason}; again in {pause:g} s")
        await asyncio.sleep(pause)


@contextlib.asynccontextmanager
async def _encoding(source: Source, tools: Tools) -> AsyncGenerator[Process]:
    """Run the ffmpeg that makes MPEG-TS of a source."""
    pace = {} if source.path is None else {"re": None}
    words = remuxer_arguments(source.address, {**source.options, **pace}, mpegts_coding(source))
    argv = [str(tools.ffmpeg), *words]
    process = await Process.start(argv, stdin=source.feed is not None, sandbox=source.sandbox)
    try:
        async with background_task(_feed(source, process)):
            yield process
    finally:
        await process.stop()


async def _feed(source: Source, process: Process) -> None:
    if source.feed is not None:
        await source.feed(process)


async def _publish(
    source: Source, tools: Tools, target: IngestTarget, options: PushOptions
) -> IngestTarget | None:
    """Publish a source to its end; return where the server leads instead, else None.

    Raises:
        CommandError: it is refused, and would be again.
        ToolsError: it can't be read.
    """
    parts = urlsplit(target.origin)
    tls = target.trust if parts.scheme == "https" else None
    port = parts.port or (443 if tls else 80)
    async with asyncio.timeout(options.answer_seconds):
        reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=tls)
    try:
        writer.write(target.head())
        async with asyncio.timeout(options.answer_seconds):
            answer = await _answer(reader, options)
        if answer.status == CONTINUE:
            answer = await _carry(source, tools, reader, writer, options)
    finally:
        writer.close()
    if answer.status in LED and (led := led_to_https(target.origin, answer.location)) is not None:
        return replace(target, origin=led)
    if answer.status != OK:
        line = answer.line or f"the server answers {answer.status}"
        raise CommandError(line) if answer.status in FINAL | LED else _AgainError(line)
    return None


async def _carry(
    source: Source,
    tools: Tools,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    options: PushOptions,
) -> ServerAnswer:
    """Send the stream until its end, or until the server answers."""
    async with _encoding(source, tools) as process:
        sending = asyncio.ensure_future(_send(process, writer))
        answering = asyncio.ensure_future(_answer(reader, options))
        try:
            await asyncio.wait((sending, answering), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done() and not sending.exception() and not sending.result():
                raise ToolsError(last_error(process.errors) or "the input has no audio or video to publish")
            # A server that refuses the rest closes its side; its answer can still be read.
            async with asyncio.timeout(options.answer_seconds):
                return await answering
        finally:
            sending.cancel()
            answering.cancel()
            await asyncio.gather(sending, answering, return_exceptions=True)


async def _send(process: Process, writer: asyncio.StreamWriter) -> int:
    """Send what ffmpeg makes to its end, in chunks (RFC 9112 §7.1); return how many bytes."""
    sent = 0
    while data := await process.read():
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await writer.drain()
        sent += len(data)
    if sent:
        writer.write(b"0\r\n\r\n")
        await writer.drain()
    return sent


async def _answer(reader: asyncio.StreamReader, options: PushOptions) -> ServerAnswer:
    """Read an answer.

    Raises:
        _AgainError: the connection ended.
    """
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head.split(" ", 2)[1][:3])
        lines = (line.partition(":") for line in head.split("\r\n")[1:])
        fields = {name: value.strip() for name, _, value in lines}
        length = int(fields.get("content-length", "0"))
        text = await reader.readexactly(min(length, options.line_bytes))
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, IndexError) as error:
        raise _AgainError("the server closed the connection") from error
    return ServerAnswer(status, text.decode("utf-8", "replace").strip(), fields.get("location", ""))
