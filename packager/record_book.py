"""Records that outlive a restart and are no media, by kind and name, in one SQLite file of the data folder.

A record that was written survives the end of the process and of the machine. All access is in one thread, so
that no two writes of this server meet. A damaged file is set aside, and an empty one takes its place.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from typing import TypeVar

import structlog

from packager.safe_files import DataFolder
from packager.threads import ThreadLimits, Threads

log = structlog.get_logger()

NAME = "records.sqlite"

COMPANIONS = ("", "-wal", "-shm")
"""Endings of the files that SQLite has for a database in the WAL mode (sqlite.org/wal.html)."""

BUSY_SECONDS = 5.0
"""For how long a statement waits for another process that writes, such as a server that is about to end."""

MOST_BYTES = 64 << 20

PAGE_BYTES = 4096

_TABLE = """
CREATE TABLE IF NOT EXISTS records (
    kind TEXT NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID
"""

T = TypeVar("T")


class RecordBook:
    """Reads and writes the records of a data folder.

    Args:
        most_bytes: largest size of the file.

    Attributes:
        trouble: why records were lost, in one line; empty where none were.
    """

    def __init__(self, folder: DataFolder, most_bytes: int = MOST_BYTES) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._threads = Threads(ThreadLimits(threads=1), "records")
        self._connection: sqlite3.Connection | None = None
        self.trouble = ""

    async def read(self, kind: str) -> dict[str, bytes]:
        """Return all records of a kind, by name; none where there is no file, which isn't made for this.

        Raises:
            OSError: the file can't be opened or read.
        """
        return await self._threads.run(self._read, kind)

    def _read(self, kind: str) -> dict[str, bytes]:
        try:
            with self._folder.open() as folder:
                if folder.status(NAME) is None:
                    return {}
        except FileNotFoundError:
            return {}
        rows = self._access(
            lambda book: book.execute("SELECT name, value FROM records WHERE kind = ?", (kind,)).fetchall()
        )
        return {str(name): bytes(value) for name, value in rows}

    async def write(self, kind: str, name: str, value: bytes | None) -> None:
        """Write a record in the place of an earlier one, or remove it (None); it is durable on return.

        Raises:
            OSError: the file can't be written; the former record stays.
        """

        def write(book: sqlite3.Connection) -> None:
            if value is None:
                book.execute("DELETE FROM records WHERE kind = ? AND name = ?", (kind, name))
            else:
                book.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", (kind, name, value))

        await self._threads.run(self._access, write)

    async def close(self) -> None:
        """Close the file; the next access opens it again."""
        await self._threads.run(self._close)

    def _access(self, access: Callable[[sqlite3.Connection], T]) -> T:
        try:
            book = self._open()
            with book:  # a transaction
                return access(book)
        except sqlite3.Error as error:
            self._close()
            code = errno.ENOSPC if error.sqlite_errorcode == sqlite3.SQLITE_FULL else errno.EIO
            raise OSError(code, str(error), str(self._folder)) from error

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        with self._folder.open(make=True) as folder:
            # SQLite itself would follow a link, and create the file by the umask of the process.
            os.close(folder.open_to_append(NAME))
            path = folder.place_of(NAME)
            try:
                self._connection = _opened(path, self._most_bytes)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as error:
                names = (f"{NAME}{ending}" for ending in COMPANIONS)
                aside = folder.set_aside([name for name in names if folder.status(name) is not None])
                self.trouble = f"the records were damaged ({error}); they are in {aside}"
                log.error("the records are damaged", file=path, set_aside=aside, reason=str(error))
                os.close(folder.open_to_append(NAME))
                self._connection = _opened(path, self._most_bytes)
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _opened(path: str, most_bytes: int) -> sqlite3.Connection:
    """Open the file, and check it.

    Raises:
        sqlite3.DatabaseError: it is damaged, or none of SQLite's.
    """
    book = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False)
    try:
        book.execute("PRAGMA journal_mode = WAL")
        # With NORMAL a power cut may take the newest records (sqlite.org/pragma.html#pragma_synchronous).
        book.execute("PRAGMA synchronous = FULL")
        # A file from outside may have more in it than tables (sqlite.org/security.html).
        book.execute("PRAGMA trusted_schema = OFF")
        book.execute(f"PRAGMA max_page_count = {most_bytes // PAGE_BYTES}")
        (found,) = book.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        with book:
            book.execute(_TABLE)
            book.execute("SELECT kind, name, value FROM records LIMIT 1")
    except BaseException:
        book.close()
        raise
    return book
