"""Feeds a live channel with a publisher's stream of bytes until one of the two ends it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from enum import Enum, auto

from media.errors import MediaError
from packager.concurrency import expire
from packager.reader_guard import ReaderGuard
from packager.sources.publication import Publication, PublicationEndedError

LAST_SHARE = 0.1
"""Of the time for which a publisher may be silent, what is counted anew once the rest is over."""


class FeedEnd(Enum):
    """The reasons for the end of a publication's feeding."""

    COMPLETE = auto()
    """Nothing more comes."""
    SILENT = auto()
    """Nothing came for too long."""
    UNREADABLE = auto()
    """The received data aren't a stream that can be published."""
    DISMISSED = auto()
    """The publication was ended from this side: another publisher took over, or the channel is closed."""


class Feeding:
    """Passes on what a publisher sends, and ends the publication when it falls silent.

    Args:
        silent_seconds: for which it may send nothing, given the publication; single bytes now and then are
            nothing.
    """

    def __init__(self, silent_seconds: Callable[[Publication], float]) -> None:
        self._silent_seconds = silent_seconds
        self._limit = asyncio.timeout(None)

    def dismiss(self, _reason: str) -> None:
        """Wake up, as the publication was ended from this side."""
        expire(self._limit)

    async def run(
        self, publication: Publication, receive: Callable[[], Awaitable[bytes | None]]
    ) -> tuple[FeedEnd, str]:
        """Feed a publication to its end.

        Args:
            publication: the publication, which has ended when this returns.
            receive: waits for the stream's next bytes; None behind the last ones.

        Returns:
            How it ended, and why where it was ended from this side.
        """
        end, reason = FeedEnd.COMPLETE, ""
        try:
            async with self._limit:
                with ReaderGuard(publication.publisher.protocol):
                    await self._pass_on(publication, receive)
        except TimeoutError:
            end = FeedEnd.SILENT
            reason = f"nothing of a stream came for {self._silent_seconds(publication):g} s"
        except MediaError as error:
            end, reason = FeedEnd.UNREADABLE, f"not a stream that can be published: {error}"
        except PublicationEndedError:
            pass
        finally:
            publication.end(reason)
        if publication.end_reason != reason:
            return FeedEnd.DISMISSED, publication.end_reason
        return end, reason

    async def _pass_on(
        self, publication: Publication, receive: Callable[[], Awaitable[bytes | None]]
    ) -> None:
        """Receive while a stream comes.

        Raises:
            TimeoutError: the publisher is silent, or the publication was ended from this side.
            MediaError: it isn't a stream that can be published.
            PublicationEndedError: as TimeoutError's second case.
        """
        loop = asyncio.get_running_loop()
        received, heard, last_until = 0, loop.time(), math.inf
        while True:
            data: bytes | None = b""
            seconds = self._silent_seconds(publication)
            if last_until == math.inf:
                try:
                    async with asyncio.timeout_at(heard + seconds * (1 - LAST_SHARE)):
                        data = await receive()
                except TimeoutError:
                    # If this process stood still, the bytes of that time are still to be read.
                    last_until = loop.time() + seconds * LAST_SHARE
            if last_until < math.inf:
                async with asyncio.timeout_at(last_until):
                    data = await receive()
            if data is None:
                return
            # Time for which it is made to wait doesn't count as its silence.
            await publication.receive_data(data)
            if publication.received > received:
                received, heard, last_until = publication.received, loop.time(), math.inf
