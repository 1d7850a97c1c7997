"""Structured logs: one event a line, readable on a terminal or as JSON."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import logging
import logging.handlers
import queue
import sys
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

from origin.http.token_bucket import TokenBucket
from packager.redaction import NO_SECRETS, Redactor

MAX_VALUE = 2048
"""Most bytes of text that one field of a log line carries, as JSON writes it; clients choose some of them."""

MAX_TEXT = 64 << 10
"""Most characters of a traceback; of other fields less is written anyway."""

TRACEBACKS_AT_ONCE, TRACEBACK_SECONDS = 20, 10.0
"""Most tracebacks that are written at once, and seconds until a further one: clients cause some of them."""

LONGEST_SECRET = 1024
"""Characters of the longest secret that is known for certain where a text was cut."""

CHARACTER_BYTES = 12
"""Bytes that one character takes at most, as JSON writes it."""

LINES_WAITING = 1000
"""Most lines that wait for a slow reader of the log; further ones are counted and dropped."""

NO_FIELDS: Mapping[str, int] = MappingProxyType({})

LAST_SECONDS = 1.0
"""Longest wait of the program's end for lines of the log."""


class LineQueue(logging.handlers.QueueHandler):
    """Passes lines to a thread that writes them, so that a blocked terminal or pipe holds nothing up.

    Lines for which there is no room are dropped, and their number is written behind the next line.

    Args:
        style: style of the line with the number of dropped ones.
    """

    def __init__(self, stream: TextIO, style: Literal["text", "json"]) -> None:
        lines: queue.Queue[logging.LogRecord | None] = queue.Queue(LINES_WAITING)
        super().__init__(lines)
        self._writer = _LineWriter(lines, stream, style)
        self._writer.start()

    def enqueue(self, record: logging.LogRecord) -> None:
        """Queue a line, to be written soon."""
        try:
            super().enqueue(record)
        except queue.Full:
            self._writer.dropped += 1

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802  # the standard library's name
        """Drop a line that can't be made text: it would be shown with the secrets that are in it."""
        self._writer.dropped += 1

    def close(self) -> None:
        """Write what waits, if that is soon done."""
        self._writer.stop()
        super().close()


class _LineWriter(logging.handlers.QueueListener):
    """The thread that writes; ``dropped`` counts the lines without room since its last report."""

    def __init__(
        self, lines: queue.Queue[logging.LogRecord | None], stream: TextIO, style: Literal["text", "json"]
    ) -> None:
        super().__init__(lines)
        self._stream = stream
        self._style = style
        self.dropped = 0

    def handle(self, record: logging.LogRecord) -> None:
        """Write a line; by no handler, whose lock the end of the program would wait for."""
        dropped, self.dropped = self.dropped, 0
        # A full disk or a closed pipe, which can be reported nowhere.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(f"{record.getMessage()}\n{self._told(dropped)}")
            self._stream.flush()

    def _told(self, dropped: int) -> str:
        if not dropped:
            return ""
        if self._style == "json":
            return (
                json.dumps({"event": "log lines were dropped", "count": dropped, "level": "warning"}) + "\n"
            )
        return f"[warning] log lines were dropped: count={dropped}\n"

    def stop(self) -> None:
        """Wait until all lines are written, but not for long: the log's reader may be blocked."""
        with contextlib.suppress(queue.Full):
            self.enqueue_sentinel()
            if self._thread is not None:
                self._thread.join(LAST_SECONDS)


def configure(
    level: str,
    style: Literal["text", "json"],
    redactor: Redactor = NO_SECRETS,
    fields: Mapping[str, int] = NO_FIELDS,
) -> None:
    """Send this project's and uvicorn's log lines to standard error.

    Args:
        level: the least important level that is written: debug, info, warning or error.
        style: ``text`` for people, ``json`` for machines (one object a line).
        redactor: removes secrets from every line, of this project or a library.
        fields: fields of every line, such as the process's number.
    """
    shared: list[structlog.typing.Processor] = [
        functools.partial(add_fields, fields),
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso" if style == "json" else "%H:%M:%S", utc=style == "json"),
        TracebackLimit(),
        functools.partial(conceal, redactor),
        sanitise,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        cache_logger_on_first_use=False,
    )
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=24)
    )
    handler = LineQueue(sys.stderr, style)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for chatty in ("uvicorn", "asyncio", "httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.DEBUG if level == "debug" else logging.WARNING)


class TracebackLimit:
    """Writes the tracebacks of errors, at a bounded rate; a line without one has the error's name and text.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._bucket = TokenBucket(TRACEBACKS_AT_ONCE, 1 / TRACEBACK_SECONDS, clock)

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Replace the error of a line by its text."""
        error = event.get("exc_info")
        if not error or not self._bucket.acquire():
            return structlog.processors.format_exc_info(logger, method, event)
        del event["exc_info"]
        if not isinstance(error, BaseException):
            error = error[1] if isinstance(error, tuple) else sys.exc_info()[1]
        event["error"] = f"{type(error).__name__}: {error}"
        return event


def add_fields(
    fields: Mapping[str, int], _logger: WrappedLogger, _method: str, event: EventDict
) -> EventDict:
    """Add fields to a line that hasn't said something else."""
    for name, value in fields.items():
        event.setdefault(name, value)
    return event


def conceal(redactor: Redactor, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Redact the secrets in a line of the log, tracebacks included.

    Sentences of this program have none: a password that is a word doesn't hide that word in them.
    """
    for key, value in event.items():
        # Fields that begin with "_" are structlog's own, and never written.
        if not key.startswith("_") and not isinstance(value, bool | int | float | None):
            is_prose = key in ("level", "timestamp") or (key == "event" and "_record" not in event)
            event[key] = redactor(beginning(str(value), MAX_TEXT), is_prose=is_prose)
    return event


def beginning(text: str, most: int) -> str:
    """Cut what is longer, and what stands at the cut: half a secret isn't known as one."""
    return text if len(text) <= most else f"{text[: most - LONGEST_SECRET]}…"


def sanitise(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Make every text safe for a terminal and short: control characters escaped, long ones cut."""
    for key, value in event.items():
        if isinstance(value, str) and key != "exception":
            event[key] = clean(value)
    return event


def clean(text: str) -> str:
    """Escape what isn't printable and cut what is too long."""
    is_cut, text = len(text) > MAX_VALUE, text[:MAX_VALUE]
    if not text.isprintable():
        text = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
    if len(text) > MAX_VALUE // CHARACTER_BYTES and len(json.dumps(text)) - 2 > MAX_VALUE:
        sizes = itertools.accumulate(len(json.dumps(character)) - 2 for character in text)
        is_cut, text = True, text[: sum(size <= MAX_VALUE for size in sizes)]
    return f"{text}…" if is_cut else text
