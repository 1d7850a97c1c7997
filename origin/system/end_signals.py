"""SIGTERM and SIGINT end a program in order, and the log says which of them came."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

import structlog

log = structlog.get_logger()

END_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def ended_by_signals(end: Callable[[], object] | None = None) -> Iterator[None]:
    """Call a function at each SIGINT and SIGTERM, in the event loop, while the context is open.

    Args:
        end: None cancels the task that opens the context.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def receive(number: signal.Signals) -> None:
        log.info("a signal ends the program", signal=number.name)
        if end is not None:
            end()
        elif task is not None:
            task.cancel()

    for number in END_SIGNALS:
        loop.add_signal_handler(number, receive, number)
    try:
        yield
    finally:
        for number in END_SIGNALS:
            loop.remove_signal_handler(number)
