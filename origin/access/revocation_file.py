"""The file in which revocations of tokens survive a restart, in the data folder."""

from __future__ import annotations

import asyncio
import contextlib
import re
from itertools import chain

import structlog

from origin.access.revocations import Revocations, messages_of, news_of
from packager.safe_files import DataFolder
from packager.threads import SHARED_THREADS

log = structlog.get_logger()

NAME = "revoked.txt"

LINE_BYTES = 64
"""More than the longest line has."""

RETRY_SECONDS = 10.0
"""Pause before a file is written again that couldn't be."""

_LINE = re.compile(rb"([0-9a-f]{32}) ([0-9]{1,12}(?:\.[0-9]{1,9})?)")


class RevocationFile:
    """Reads and writes the revocations of a data folder.

    Revocations of another server with the same folder, such as the one that this one replaces, stay in the
    file and are taken over.

    Args:
        place: the folder of the file alone; None where nothing is kept.
    """

    name = "revoked tokens"

    def __init__(self, revocations: Revocations, place: DataFolder | None) -> None:
        self._revocations = revocations
        self._place = place
        self._version = self._written = 0
        self._writing = asyncio.Lock()
        self._changed = asyncio.Event()
        revocations.on_change = self._note_change

    def restore(self) -> None:
        """Read the file. Blocks.

        Raises:
            ValueError: it can't be read; the text says why.
        """
        if self._place is None:
            return
        try:
            with contextlib.suppress(FileNotFoundError), self._place.open() as folder:
                known = _read(folder.read(NAME, self._revocations.most * LINE_BYTES))
                self._revocations.merge(chain.from_iterable(messages_of(known)))
        except OSError as error:
            raise ValueError(f"the revoked tokens can't be read: {error}") from None
        self._written = self._version

    def _note_change(self) -> None:
        self._version += 1
        self._changed.set()

    async def save(self) -> None:
        """Write what isn't written yet; several calls share one write.

        Raises:
            OSError: it can't be written.
        """
        version = self._version
        async with self._writing:
            if self._place is None or self._written >= version:
                return
            version = self._version
            found = await SHARED_THREADS.run(self._write, self._place, self._revocations.ends())
            await self._revocations.merge_in_steps(found)
            self._written = version

    def _write(self, place: DataFolder, until: dict[str, float]) -> dict[str, float]:
        """Write revocations beside those of the file; return what the file alone has. Blocks."""
        with place.open(make=True) as folder:
            known: dict[str, float] = {}
            with contextlib.suppress(FileNotFoundError):
                known = _read(folder.read(NAME, self._revocations.most * LINE_BYTES))
            news = news_of(known, until)
            lines = [b"%b %.3f\n" % (digest.encode(), end) for digest, end in (news | until | news).items()]
            folder.write_whole(NAME, b"".join(lines[-self._revocations.most :]))
        return news

    async def run(self) -> None:
        """Write what other nodes have revoked, and what couldn't be written, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.save()
            except OSError as error:
                log.warning("the revoked tokens can't be written", reason=str(error))
                self._changed.set()
                await asyncio.sleep(RETRY_SECONDS)


def _read(data: bytes) -> dict[str, float]:
    """Return when the revocations of a file's lines end, by digest; other lines are left out."""
    found = map(_LINE.fullmatch, data.splitlines())
    return {one[1].decode(): float(one[2]) for one in found if one is not None}
