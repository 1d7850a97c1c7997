"""The interface of a DVR, as a live channel needs it: on disk or in S3."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from fractions import Fraction
from typing import Protocol

from packager.dvr.date_ranges.date_range_log import DateRangeLog
from packager.dvr.segment_sources import SegmentSource
from packager.window.cadence import Cadence
from packager.window.model import SegmentStore
from packager.window.rendition_log_writer import RenditionWriter


class SegmentArchive(Protocol):
    """Stores the segments that a channel's windows finish, and restores them in the next process."""

    @property
    def trouble(self) -> str:
        """Why segments aren't stored properly; empty if they are."""

    @property
    def newest(self) -> tuple[int, float] | None:
        """Last number that ``load`` found, and the end of that segment in epoch seconds; None without any."""

    @property
    def waiting(self) -> int:
        """Bytes of segments that wait in memory to be stored although they have left the live window."""

    async def noted(self) -> Cadence | None:
        """Read the cadence of the stored segments; None if unknown."""

    async def load(self, cadence: Cadence, names: Iterable[str]) -> int:
        """Read the index of stored segments; return the last number of any rendition, -1 without any."""

    def segment_stores(self) -> Mapping[str, SegmentStore]:
        """Return the stores of segments by rendition; none if the archive reads the windows instead."""

    def segment_source(self) -> SegmentSource:
        """Return what puts its segments elsewhere."""

    def date_range_log(self) -> DateRangeLog | None:
        """Return what writes date ranges beside its segments; None where none are kept there."""

    def place_of(self, rendition: str) -> str:
        """Return the place of a rendition's segments."""

    def restore(
        self, writers: dict[str, RenditionWriter], next_number: int, segment_duration: Fraction, now: Fraction
    ) -> None:
        """Restore the segments that ``load`` found into new windows, and store what these finish."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Store and remove while the context is open."""

    async def settle(self) -> None:
        """Wait until all finished segments are stored, within a limit."""

    def next_event(self, next_number: int) -> SegmentArchive:
        """Return the archive of the next event, whose DVR has nothing of the event that is over.

        Args:
            next_number: of its first segment.
        """
