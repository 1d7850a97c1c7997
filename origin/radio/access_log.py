"""Writes an access log of stations in Icecast's format, for analysers of such logs.

The format is Apache's Combined with one more field: the seconds for which a client listened, or sent. Like
Icecast's, a line is written at the end of a request, and has no query, in which there may be secrets.
"""

from __future__ import annotations

import contextlib
import os
import queue
import stat
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from origin.config.errors import CommandError
from origin.http.path_prefixes import without_tokens
from origin.http1.body_writer import Stream, at_end
from origin.radio.mounts.limits import RadioLimits
from origin.responses.response_middleware import body_bytes

LOGGED = ("/radio/", "/status-json.xsl", "/status.xsl", "/admin/")
"""Beginnings of the paths whose requests are logged: those that Icecast serves, too."""

CLIENT_GONE = 499
"""Status of a request whose client went before there was an answer, as in nginx's logs."""

MODE = 0o640

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_QUOTED = frozenset(b'"\\')

log = structlog.get_logger()


LINES_WAITING = 20_000
"""Most lines that wait to be written; those beyond are counted and dropped."""

LINES_AT_ONCE = 500
"""Most lines of one write."""


@dataclass(frozen=True, slots=True)
class AnsweredRequest:
    """The facts about a request in a line of the log.

    Attributes:
        ended: seconds since the epoch.
        request: method, target without its query, and version.
        sent_bytes: of its body, without the header.
        referer: of the request, b"" for none.
        agent: of the request, b"" for none.
        seconds: from its beginning to its end.
    """

    address: str
    ended: float
    request: bytes
    status: int
    sent_bytes: int
    referer: bytes
    agent: bytes
    seconds: int


def write_line(answered: AnsweredRequest, text_bytes: int) -> str:
    """Write a line of the Combined format with the seconds behind it.

    Args:
        text_bytes: most bytes of each text that the client chose.
    """
    at = datetime.fromtimestamp(answered.ended, UTC)
    moment = f"{at:%d}/{_MONTHS[at.month - 1]}/{at:%Y:%H:%M:%S} +0000"
    request, referer, agent = (
        _escaped(text[:text_bytes]) or "-" for text in (answered.request, answered.referer, answered.agent)
    )
    counts = f"{answered.status} {answered.sent_bytes}"
    return (
        f'{answered.address or "-"} - - [{moment}] "{request}" {counts} "{referer}" "{agent}"'
        f" {answered.seconds}\n"
    )


def _escaped(text: bytes) -> str:
    """Escape all that could end a field or a line, as Apache does."""
    if text.isascii() and text.decode("ascii").isprintable() and not _QUOTED.intersection(text):
        return text.decode("ascii")
    return "".join(chr(one) if 32 <= one < 127 and one not in _QUOTED else f"\\x{one:02x}" for one in text)


class AccessLogFile:
    """The access log's file; a thread writes it, so that a slow disk holds up no request.

    A file that was moved away or removed is made anew with the next lines: logrotate needs no signal.

    Args:
        path: the file, to which lines are appended.
        limits: how many lines wait to be written.

    Raises:
        CommandError: the file can't be written.
    """

    def __init__(self, path: Path, limits: RadioLimits) -> None:
        self._path = path
        self.limits = limits
        try:
            self._file = _open(path)
        except OSError as error:
            raise CommandError(
                f"log.access: {path}: {error.strerror or error}; name a file that can be written"
            ) from None
        self._lines: queue.Queue[str | None] = queue.Queue(LINES_WAITING)
        self._dropped = 0
        self._is_failing = False
        # Whether the newest line lacks its end, as when the disk was full.
        self._is_cut = False
        self._thread = threading.Thread(target=self._work, name="access log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Queue a line, to be written soon; without room the line is dropped and counted."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Write what waits, if that is soon done."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=self.limits.log_last_seconds)
            self._thread.join(self.limits.log_last_seconds)

    def _work(self) -> None:
        ended = False
        while not ended:
            lines = [self._lines.get()]
            with contextlib.suppress(queue.Empty):
                while len(lines) < LINES_AT_ONCE:
                    lines.append(self._lines.get_nowait())
            ended = None in lines
            self._append(line for line in lines if line is not None)
        os.close(self._file)

    def _append(self, lines: Iterable[str]) -> None:
        data = "".join(lines).encode("ascii", "replace")
        try:
            self._follow_path()
            if self._is_cut:
                os.write(self._file, b"\n")
            while data:
                written = os.write(self._file, data)
                self._is_cut = data[written - 1 : written] != b"\n"
                data = data[written:]
        except OSError as error:
            self._dropped += data.count(b"\n")
            if not self._is_failing:
                reason = error.strerror or str(error)
                log.warning("access log can't be written", file=str(self._path), reason=reason)
            self._is_failing = True
            return
        self._is_failing = False
        if self._dropped:
            count, self._dropped = self._dropped, 0
            log.warning("lines of the access log were dropped", count=count)

    def _follow_path(self) -> None:
        """Open the file anew if it was moved away, replaced or removed."""
        ours = os.fstat(self._file)
        try:
            there = self._path.stat()
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            opened = _open(self._path)
            os.close(self._file)
            self._file, self._is_cut = opened, False


def _open(path: Path) -> int:
    # A named pipe would be waited for, or break when its reader ends.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, MODE)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("not a regular file")
    return descriptor


def _asked(scope: Scope) -> AnsweredRequest:
    """Return what the line of a request has before its answer."""
    fields = {name: value for name, value in scope["headers"] if name in (b"referer", b"user-agent")}
    method, version = scope["method"].encode("latin-1"), scope["http_version"].encode("ascii")
    return AnsweredRequest(
        scope["client"][0] if scope.get("client") else "",
        0.0,
        b"%s %s HTTP/%s" % (method, scope["raw_path"], version),
        CLIENT_GONE,
        0,
        without_tokens(fields.get(b"referer", b"")),
        fields.get(b"user-agent", b""),
        0,
    )


class StationAccessLog:
    """ASGI middleware that logs the requests to stations when they end."""

    def __init__(self, app: ASGIApp, file: AccessLogFile) -> None:
        self._app = app
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not scope["path"].startswith(LOGGED):
            await self._app(scope, receive, send)
            return
        # Of the request itself nothing is kept while the answer lasts, which may be for days.
        asked, status, sent, started = _asked(scope), CLIENT_GONE, 0, time.monotonic()
        streams: list[Stream] = []

        async def count(message: Message) -> None:
            nonlocal status, sent
            status = message.get("status", status)
            sent += body_bytes(scope, message)
            await send(message)
            if "stream" in message:
                streams.append(message["stream"])

        try:
            await self._app(scope, receive, count)
        finally:
            at_end(scope, partial(self._write, asked, status, sent, streams, started))

    def _write(
        self, asked: AnsweredRequest, status: int, sent: int, streams: Sequence[Stream], started: float
    ) -> None:
        answered = replace(
            asked,
            ended=time.time(),
            status=status,
            sent_bytes=sent + sum(stream.sent for stream in streams),
            seconds=int(time.monotonic() - started),
        )
        self._file.write(write_line(answered, self._file.limits.log_text_bytes))
