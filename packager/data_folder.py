"""Folders and files that the server keeps: opened from a configured folder down without following links.

The configured folder itself may be a link. What is beneath it is opened part by part, each from the folder
before it: so nothing that lies there leads anywhere else, whoever put it there and whenever. A file is
written under another name and renamed; what isn't ours is never removed, emptied or written over. Everything
here blocks.

A file with a number in its name is called by a string, never by a ``Path``: pathlib interns what it is made
of, and CPython's table of interned strings grows with names that are long gone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

TEMPORARY = ".tmp"
"""What the name of a file ends in while it is written."""

ASIDE = "aside"
"""Folder of what lay where our files are to be, and isn't ours; never removed by us."""

MAX_ASIDE_FOLDERS = 16
"""How often something is set aside in one folder; beyond that it stays where it is, for somebody to look."""

_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY
# O_NONBLOCK: the opening of a FIFO must not wait for somebody at its other end.
_FILE = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


class NotOursError(OSError):
    """Something lies where a file or folder of ours is to be; the text is one line that says what to do."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(errno.EEXIST, reason, path)

    def __str__(self) -> str:
        """Name the place, and what is wrong with it."""
        return f"{self.filename}: {self.strerror}"


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Where a folder of ours is.

    Attributes:
        root: the configured folder, to which links may lead.
        names: of the folders beneath it, one in the other.
    """

    root: Path
    names: tuple[str, ...] = ()

    @classmethod
    def at(cls, place: Path | DataFolder) -> DataFolder:
        """Take a path for a configured folder; what is beneath one already stays as it is."""
        return place if isinstance(place, DataFolder) else cls(place)

    def __truediv__(self, name: str) -> DataFolder:
        """Name a folder in this one.

        Raises:
            ValueError: it is the name of no folder in it.
        """
        return DataFolder(self.root, (*self.names, checked(name)))

    def __str__(self) -> str:
        """Give its path, for people."""
        return "/".join((str(self.root), *self.names))

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.names[-1] if self.names else self.root.name

    def open(self, *, make: bool = False) -> OpenFolder:
        """Open it.

        Args:
            make: whether it is made where it isn't there.

        Raises:
            FileNotFoundError: it isn't there.
            NotOursError: a link or something else that is no folder is in its place, or on the way to it.
            OSError: it can't be opened or made.
        """
        if make:
            self.root.mkdir(parents=True, exist_ok=True)
        folder = OpenFolder(os.open(self.root, _FOLDER), str(self.root))
        for name in self.names:
            with folder:
                inner = folder.folder(name, make=make)
            folder = inner
        return folder


class OpenFolder:
    """An open folder, in which every name means what lies in it, and no link is followed.

    Args:
        descriptor: of the folder; it is closed with this one.
        path: what people call it.
    """

    def __init__(self, descriptor: int, path: str) -> None:
        self._descriptor = descriptor
        self.path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptor back. May be called again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def place_of(self, name: str) -> str:
        """Tell where something in it is, for people."""
        return f"{self.path}/{name}"

    def folder(self, name: str, *, make: bool = False) -> OpenFolder:
        """Open a folder in it; see ``DataFolder.open``."""
        if make:
            self.make_folder(name)
        try:
            descriptor = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=self._descriptor)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            advice = "a link or no folder is where a folder of ours is to be; move it away"
            raise NotOursError(self.place_of(name), advice) from None
        return OpenFolder(descriptor, self.place_of(name))

    def make_folder(self, name: str) -> bool:
        """Make a folder in it; tell whether it wasn't there, nor anything else of its name."""
        try:
            os.mkdir(name, dir_fd=self._descriptor)
        except FileExistsError:
            return False
        return True

    def entries(self) -> Iterator[os.DirEntry[str]]:
        """Give what is in it; what an entry is, it tells without following links."""
        with os.scandir(self._descriptor) as entries:
            yield from entries

    def status(self, name: str) -> os.stat_result | None:
        """Look at something in it, and at a link itself; None where nothing is."""
        try:
            return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open_file(self, name: str) -> int:
        """Open a regular file for reading.

        Returns:
            Its descriptor, which the caller closes.

        Raises:
            FileNotFoundError: nothing is there.
            NotOursError: no regular file is.
            OSError: it can't be opened.
        """
        return self._regular(name, os.O_RDONLY | _FILE)

    def open_to_lock(self, name: str) -> int:
        """Open a regular file in which nothing is ever written; it is made if it isn't there.

        Returns:
            Its descriptor, which the caller closes.

        Raises:
            NotOursError: something else lies there.
            OSError: it can't be opened.
        """
        return self._regular(name, os.O_RDWR | os.O_CREAT | _FILE)

    def open_to_append(self, name: str) -> int:
        """Open a regular file that has no other name for reading and writing; it is made if it isn't there.

        Returns:
            Its descriptor, which the caller closes.

        Raises:
            NotOursError: something else lies there.
            OSError: it can't be opened.
        """
        descriptor = self._regular(name, os.O_RDWR | os.O_APPEND | os.O_CREAT | _FILE)
        if os.fstat(descriptor).st_nlink > 1:
            os.close(descriptor)
            raise NotOursError(self.place_of(name), "the file has a second name elsewhere; move it away")
        return descriptor

    def _regular(self, name: str, flags: int) -> int:
        advice = "no file is where one of ours is to be; move it away"
        try:
            descriptor = os.open(name, flags, 0o644, dir_fd=self._descriptor)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENODEV):
                raise
            raise NotOursError(self.place_of(name), advice) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise NotOursError(self.place_of(name), advice)
        return descriptor

    def read(self, name: str, limit: int) -> bytes:
        """Read a regular file.

        Args:
            name: its name.
            limit: most bytes that it may have.

        Raises:
            FileNotFoundError: nothing is there.
            NotOursError: no regular file is, or a longer one.
            OSError: it can't be read.
        """
        descriptor = self.open_file(name)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            if os.fstat(descriptor).st_size > limit:
                raise NotOursError(self.place_of(name), f"more than {limit} bytes; move it away")
            data = bytearray()
            while len(data) <= limit and (more := file.read(limit + 1 - len(data))):
                data += more
        return bytes(data[:limit])

    def read_head(self, name: str, length: int) -> bytes:
        """Read how a regular file begins.

        Raises:
            FileNotFoundError: nothing is there.
            NotOursError: no regular file is.
            OSError: it can't be read.
        """
        descriptor = self.open_file(name)
        try:
            return os.pread(descriptor, length, 0)
        finally:
            os.close(descriptor)

    def write_whole(
        self, name: str, data: bytes | Iterable[bytes], *, replaces: bool = True, synchronized: bool = True
    ) -> None:
        """Write a file under another name, synchronise it and rename it.

        Args:
            name: its name.
            data: all of it, or its pieces in order.
            replaces: whether a regular file that lies there is one of ours, and is replaced.
            synchronized: whether it has to outlive a power cut.

        Raises:
            NotOursError: something lies there that isn't to be replaced.
            OSError: it can't be written; then nothing of it is left.
        """
        self._check_free(name, replaces=replaces)
        temporary = f"{name}.{os.urandom(4).hex()}{TEMPORARY}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o644, dir_fd=self._descriptor)
        try:
            with os.fdopen(descriptor, "wb", buffering=0):
                for piece in (data,) if isinstance(data, bytes) else data:
                    write_all(descriptor, piece)
                if synchronized:
                    os.fdatasync(descriptor)
            os.replace(temporary, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        except BaseException:  # of the pieces' making, too
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=self._descriptor)
            raise

    def _check_free(self, name: str, *, replaces: bool) -> None:
        there = self.status(name)
        if there is not None and not (replaces and stat.S_ISREG(there.st_mode)):
            raise NotOursError(self.place_of(name), "something that isn't ours lies here; move it away")

    def remove(self, name: str, size: int | None = None) -> bool:
        """Remove a regular file.

        Args:
            name: its name.
            size: the bytes that it has to have, for it to be ours; None: it was recognised already.

        Returns:
            Whether nothing is there any more.

        Raises:
            OSError: it can't be removed.
        """
        there = self.status(name)
        if there is None:
            return True
        if not stat.S_ISREG(there.st_mode) or (size is not None and there.st_size != size):
            return False
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)
        return True

    def remove_folder(self, name: str) -> bool:
        """Remove a folder that is empty; tell whether nothing is there any more."""
        try:
            os.rmdir(name, dir_fd=self._descriptor)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            return False
        return True

    def move(self, name: str, target: OpenFolder, new_name: str) -> None:
        """Move something into a folder, whatever it is; a link itself.

        Raises:
            NotOursError: something has that name there already.
            OSError: it can't be moved.
        """
        target._check_free(new_name, replaces=False)
        os.rename(name, new_name, src_dir_fd=self._descriptor, dst_dir_fd=target._descriptor)

    def link(self, name: str, target: OpenFolder, new_name: str) -> None:
        """Give a file a second name.

        Raises:
            OSError: it can't be done, for one thing where the file system has no links.
        """
        os.link(
            name,
            new_name,
            src_dir_fd=self._descriptor,
            dst_dir_fd=target._descriptor,
            follow_symlinks=False,
        )

    def free_name(self, name: str, most: int) -> str:
        """Give a name that nothing has: this one, or with a number behind it.

        Raises:
            NotOursError: so many of them are taken.
        """
        names = (name, *(f"{name}-{number}" for number in range(1, most)))
        for one in names:
            if self.status(one) is None:
                return one
        raise NotOursError(self.place_of(name), f"{most} of this name are here; look into them, remove them")

    def set_aside(self, names: Sequence[str]) -> str:
        """Move things that are in the way into a folder of their own, in which nothing is ever removed.

        Returns:
            The path of that folder.

        Raises:
            NotOursError: there are ``MAX_ASIDE_FOLDERS`` already; then all of it stays where it is.
            OSError: something can't be moved.
        """
        with self.folder(ASIDE, make=True) as aside:
            for number in range(1, MAX_ASIDE_FOLDERS + 1):
                if aside.make_folder(str(number)):
                    break
            else:
                advice = f"{MAX_ASIDE_FOLDERS} folders of files that aren't ours; look into them, remove them"
                raise NotOursError(aside.path, advice)
            with aside.folder(str(number)) as target:
                for name in names:
                    self.move(name, target, name)
                return target.path


def checked(name: str) -> str:
    """Give the name of a file or folder back.

    Raises:
        ValueError: it names something elsewhere, or nothing.
    """
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"{name!r} names no file in a folder")
    return name


def write_all(descriptor: int, data: bytes) -> None:
    """Write all bytes, however few a call takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
