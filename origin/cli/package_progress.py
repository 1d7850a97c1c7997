"""The progress of packaging in a terminal: a bar for each film, with speed and time left of the encoding."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable

import click


class EncodingPace:
    """How fast films are encoded, and how long the rest takes, by film and in all.

    Args:
        clock: in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._planned: dict[str, float] = {}
        self._done: dict[str, float] = {}
        # Seconds of films that were encoded since the first call.
        self._began: float | None = None
        self._made = 0.0

    def plan(self, name: str, seconds: float) -> None:
        """Note that a film of this length is to be encoded."""
        self._planned[name] = seconds

    def add(self, name: str, seconds: float, is_new: bool) -> None:
        """Note that some seconds of a film are encoded.

        Args:
            is_new: whether they weren't found, but encoded just now.
        """
        if self._began is None:
            self._began = self._clock()
        if name not in self._done:
            # Whatever became of earlier films, nothing more of them is encoded.
            for earlier in self._done:
                self._done[earlier] = self._planned.get(earlier, 0.0)
        self._done[name] = self._done.get(name, 0.0) + seconds
        self._made += seconds if is_new else 0.0

    def line(self, name: str) -> str:
        """Return speed, time left and the share of all films in a line; empty if nothing is encoded."""
        if self._began is None or name not in self._done:
            return ""
        whole, done = sum(self._planned.values()), sum(self._done.values())
        words = [] if whole <= 0 else [f"in all {min(done / whole, 1.0):.0%}"]
        elapsed = self._clock() - self._began
        if self._made > 0 and elapsed > 0:
            speed = self._made / elapsed
            left = [
                max(self._planned.get(name, 0.0) - self._done[name], 0.0) / speed,
                max(whole - done, 0.0) / speed,
            ]
            words = [f"{speed:.2g}x", f"{_clock_time(left[0])} left", *words, f"{_clock_time(left[1])} left"]
        return ", ".join(words)


def _clock_time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


class PackageProgress:
    """The bar of the film that is being packaged, on standard error if that is a terminal."""

    def __init__(self) -> None:
        self.pace = EncodingPace()
        self._shown = contextlib.ExitStack()
        self._advance: dict[str, Callable[[int, str], None]] = {}
        self._reached: dict[str, int] = {}

    def show(self, name: str, done: int, total: int) -> None:
        """Show how many segments of a film there are."""
        line = self.pace.line(name)
        if name not in self._advance:
            # The bar isn't made earlier: an empty one would leave a line above an error.
            self.close()
            bar = click.progressbar(
                length=total,
                label=name,
                show_pos=True,
                show_eta=not line,
                item_show_func=lambda text: text,
                hidden=not sys.stderr.isatty(),
                file=sys.stderr,
            )
            self._advance[name] = self._shown.enter_context(bar).update
        self._advance[name](done - self._reached.get(name, 0), line)
        self._reached[name] = done

    def close(self) -> None:
        """End the bar, so that a line can be printed below it."""
        self._shown.close()
