"""The file in which the channels that were made at run time survive a restart. Blocks.

A line of JSON is appended for each channel that was made, changed or deleted, behind a head that says what
the file is. Where most lines no longer count, those that do are written anew. The last line may be cut off by
a killed server; whatever doesn't begin with the head is somebody else's, and is neither read nor written.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from origin.events.created.records import HEAD, Records
from packager.safe_files import DataFolder, NotOursError, OpenFolder, write_all

NAME = "channels.jsonl"

MOST_LINE_BYTES = 4096
"""Longest line that is read as one."""

SPARE_LINES = 10_000
"""Lines that no longer count, beyond as many as do, from which on the file is written anew."""


class JournalInUseError(Exception):
    """Another server has the folder."""


class ChannelJournal:
    """Reads and writes the file of the channels that were made at run time.

    Args:
        most_bytes: longest file that is read.
    """

    def __init__(self, place: DataFolder, most_bytes: int) -> None:
        self._place = place
        self._most_bytes = most_bytes
        self._folder: OpenFolder | None = None
        self._descriptor = -1
        self._size = 0

    def read(self, records: Records) -> None:
        """Read what is there, and keep other servers out until ``close``.

        Raises:
            JournalInUseError: another server has the folder.
            OSError: the file can't be read, or isn't ours.
        """
        folder = self._place.open(make=True)
        try:
            if not folder.try_lock():
                raise JournalInUseError
            self._open(folder, records)
        except BaseException:
            folder.close()
            raise
        self._folder = folder

    def _open(self, folder: OpenFolder, records: Records) -> None:
        if folder.status(NAME) is None:
            folder.write_whole(NAME, HEAD, replaces=False)
        with os.fdopen(folder.open_file(NAME), "rb") as file:
            self._size = os.fstat(file.fileno()).st_size
            if self._size > self._most_bytes or file.read(len(HEAD)) != HEAD:
                raise NotOursError(folder.place_of(NAME), "a file that isn't ours lies here; move it away")
            # Line by line: what is read at once would hold up the other threads.
            for line in iter(lambda: file.readline(MOST_LINE_BYTES), b""):
                if line.endswith(b"\n"):
                    records.read(line)
                elif len(line) < MOST_LINE_BYTES:
                    self._size -= len(line)
        self._descriptor = folder.open_to_append(NAME)
        # A killed server may have left half a line.
        os.ftruncate(self._descriptor, self._size)

    def append(self, lines: bytes) -> None:
        """Append lines, which then survive a power cut.

        Raises:
            OSError: the lines can't be written; nothing of them is left.
        """
        try:
            write_all(self._descriptor, lines)
            os.fdatasync(self._descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(lines)

    def rewrite(self, lines: Iterable[bytes]) -> None:
        """Write the file anew with the lines that still count.

        Raises:
            OSError: it can't be written; the former file stays.
        """
        if self._folder is None:
            return
        self._folder.write_whole(NAME, (HEAD, *lines))
        descriptor, former = self._folder.open_to_append(NAME), self._descriptor
        self._descriptor, self._size = descriptor, os.fstat(descriptor).st_size
        os.close(former)

    def close(self) -> None:
        """Let another server have the folder; may be called again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        if self._folder is not None:
            self._folder.close()
            self._folder = None
