"""The interface of what finds the segments of a rendition that have left its playlist, but not its DVR."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import ParamSpec, Protocol, TypeVar

from packager.past.outlines import Outline
from packager.window.model import LiveSegment

P = ParamSpec("P")
T = TypeVar("T")


class ClientCalls(Protocol):
    """Threads for a client's calls that may block."""

    async def run(self, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        """Call a function in one of them."""


class BlockingCalls(ClientCalls, Protocol):
    """Threads for calls that may block."""

    def of(self, client: str) -> ClientCalls:
        """Return the same threads for the calls of a client, such as a network."""


class PastSegments(Protocol):
    """Finds the segments of one rendition's past; all of this blocks, and raises OSError where it can't."""

    @property
    def threads(self) -> BlockingCalls:
        """The threads in which its methods are to be called."""

    def place_of(self, segment: LiveSegment) -> str:
        """Return the path of a segment's file, or its address in S3."""

    def oldest(self) -> Fraction | None:
        """Return the date of the oldest segment in seconds since the epoch; None without any."""

    def find(self, number: int) -> LiveSegment | None:
        """Return a segment or gap by its media sequence number; None where there is none."""

    def init(self, number: int) -> bytes | None:
        """Return an init segment, by the number of its timeline."""

    def outlines(self, start: Fraction, end: Fraction | None, before: int) -> Iterable[Outline]:
        """Begin to read the outlines of all blocks that have segments of a span, in order; see ``read``."""

    def discontinuities_before(self, number: int) -> int:
        """Return how many discontinuities the rendition had before a segment; 0 where that isn't known."""

    def read(
        self, start: Fraction, end: Fraction | None, before: int, like: Sequence[LiveSegment] = ()
    ) -> Sequence[LiveSegment]:
        """Read the segments of a span, from the last one that doesn't begin behind its start.

        Args:
            start: in seconds since the epoch.
            end: likewise; None: all up to ``before``.
            before: the number that no segment has, nor a later one.
            like: segments of another rendition in this span, which may be returned in place of those that
                differ from them neither by gaps nor by discontinuities.
        """


def oldest_of(past: Iterable[PastSegments]) -> Fraction | None:
    """Return the date of the oldest segment of some renditions, which may have been added one by one. Blocks.

    Returns:
        Seconds since the epoch; None without any.

    Raises:
        OSError: S3 can't be reached now.
    """
    return min((date for one in past if (date := one.oldest()) is not None), default=None)
