"""A guard for readers of bytes from outside: whatever fails in one costs its file or stream alone."""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Iterator
from types import TracebackType
from typing import Self
from xml.parsers.expat import ExpatError

import msgspec
import structlog

from media.errors import MalformedError, MediaError

log = structlog.get_logger()

UNEXPECTED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    EOFError,
    LookupError,
    NotImplementedError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
    ExpatError,
    msgspec.MsgspecError,
)
"""Errors that no reader documents: some bytes have shown a fault in its code."""

OWN_PACKAGES = frozenset(("media", "packager", "origin"))
"""The packages of this program, whose errors have a meaning, whatever they are derived from."""

MOST_PLACES = 256
"""Most places in the code whose faults are logged."""

_logged = set[tuple[str, int]]()
_lock = threading.Lock()


class ReaderGuard:
    """A context in which bytes from outside are read; what fails unexpectedly in it is a MalformedError.

    The log names each place in the code once: who chooses the bytes doesn't choose how much is logged.

    Args:
        subject: names in the log what is read, such as a path or a channel.
    """

    __slots__ = ("_subject",)

    def __init__(self, subject: object) -> None:
        self._subject = subject

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        single = [*_single(error)]
        faults = [one for one in single if _is_fault(one)]
        others = [one for one in single if one not in faults]
        if others == [error] or not all(isinstance(one, MediaError) for one in others):
            return
        for fault in faults:
            log_fault(self._subject, fault)
        if not faults:
            raise MalformedError(str(single[0]))
        raise MalformedError(f"its content has led to a fault of the reader ({type(faults[0]).__name__})")


def _single(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors of a group, such as those of several tasks; or the error itself."""
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for one in error.exceptions:
        yield from _single(one)


def _is_fault(error: BaseException) -> bool:
    return isinstance(error, UNEXPECTED) and type(error).__module__.partition(".")[0] not in OWN_PACKAGES


def log_fault(subject: object, error: BaseException) -> None:
    """Log an unexpected error with its place in the code, the first time that one comes from there."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = ("", 0) if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
    with _lock:
        if place in _logged or len(_logged) >= MOST_PLACES:
            return
        _logged.add(place)
    log.error("a reader has a fault", subject=str(subject), error=repr(error)[:200], exc_info=error)
