"""Safe access to the server's own folders and files: opened from a configured folder down without links.

The configured folder itself may be a link. Below it each part is opened relative to the one before, so that
nothing there can lead elsewhere. Files are written under a temporary name and renamed; files of others are
never removed or overwritten. Everything here blocks.

Written files are readable by the server alone, since over HTTP many of them need a key; only files that other
programs are to serve, such as exported films, are readable by all.

Numbered files are named by strings instead of ``Path``: pathlib interns names, which would never be freed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

TEMPORARY = ".tmp"
"""Extension of files that are being written."""

ASIDE = "aside"
"""Folder of foreign files that were in the way; we never remove it."""

LEAST_READ = 4096
"""So many bytes are read at once of a file that is shorter, or grows meanwhile."""

MAX_ASIDE_FOLDERS = 16
"""How often something is set aside in a folder; beyond, it stays where it is."""

_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY
# O_NONBLOCK: the opening of a FIFO must not wait for somebody at its other end.
_FILE = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


_PRIVATE_FOLDER, _PRIVATE_FILE = 0o700, 0o600
_SHARED_FOLDER, _SHARED_FILE = 0o777, 0o644
"""Modes of new folders and files, less the umask."""


class NotOursError(OSError):
    """Something foreign is in the place of our file or folder; the text is one line that says what to do."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(errno.EEXIST, reason, path)

    def __str__(self) -> str:
        """Name the place and the problem."""
        return f"{self.filename}: {self.strerror}"


@dataclass(frozen=True, slots=True)
class DataFolder:
    """The place of one of our folders.

    Attributes:
        root: the configured folder, which may be a link.
        names: of the nested folders below it.
        shared: whether other users of the machine may read what is written, as far as the umask lets them.
    """

    root: Path
    names: tuple[str, ...] = ()
    shared: bool = False

    @classmethod
    def at(cls, place: Path | DataFolder) -> DataFolder:
        """Return the data folder of a configured path; a ``DataFolder`` is returned unchanged."""
        return place if isinstance(place, DataFolder) else cls(place)

    def __truediv__(self, name: str) -> DataFolder:
        """Name a folder within.

        Raises:
            ValueError: the name is invalid.
        """
        return replace(self, names=(*self.names, checked(name)))

    @property
    def parent(self) -> DataFolder:
        """The folder in which this one is."""
        if self.names:
            return replace(self, names=self.names[:-1])
        return replace(self, root=self.root.parent)

    def __str__(self) -> str:
        """Return the path, for messages."""
        return "/".join((str(self.root), *self.names))

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.names[-1] if self.names else self.root.name

    def open(self, *, make: bool = False) -> OpenFolder:
        """Open the folder.

        Args:
            make: whether to create it if it is missing.

        Raises:
            FileNotFoundError: it is missing.
            NotOursError: it, or a folder on the way, is a link or something else.
            OSError: it can't be opened or created.
        """
        if make:
            mode = _SHARED_FOLDER if self.shared else _PRIVATE_FOLDER
            self.root.mkdir(mode, parents=True, exist_ok=True)
        folder = OpenFolder(os.open(self.root, _FOLDER), str(self.root), shared=self.shared)
        for name in self.names:
            with folder:
                inner = folder.folder(name, make=make)
            folder = inner
        return folder


class OpenFolder:
    """An open folder; names refer to its direct entries, and links are not followed.

    Args:
        descriptor: of the folder; it is closed with this one.
        shared: whether other users may read what is written in it; see ``DataFolder``.
    """

    def __init__(self, descriptor: int, path: str, *, shared: bool = False) -> None:
        self._descriptor = descriptor
        self.path = path
        self._shared = shared

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor; may be called again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def try_lock(self) -> bool:
        """Lock the folder until it is closed; return False where another process, or opening, has it locked.

        File systems that know no locks of folders, such as some of the network, are taken to grant them.
        """
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in (errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
                raise
        return True

    def make_private(self) -> None:
        """Deny other users the folder and its content, which earlier versions wrote for all to read.

        To be called once the folder's content is known to be the server's. Another user's folder is
        unchanged.
        """
        found = os.fstat(self._descriptor)
        if self._shared or found.st_uid != os.geteuid() or not found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            return
        # File systems without such modes refuse.
        with contextlib.suppress(OSError):
            os.fchmod(self._descriptor, stat.S_IMODE(found.st_mode) & ~(stat.S_IRWXG | stat.S_IRWXO))

    def changed(self) -> int:
        """Return when an entry was made, renamed or removed last, in nanoseconds since the epoch."""
        return os.fstat(self._descriptor).st_mtime_ns

    def is_at(self, parent: OpenFolder, name: str) -> bool:
        """Return whether this folder has a name, and wasn't moved or removed since it was opened."""
        there = parent.status(name)
        return there is not None and os.path.samestat(there, os.fstat(self._descriptor))

    def place_of(self, name: str) -> str:
        """Return the path of an entry, for messages."""
        return f"{self.path}/{name}"

    def folder(self, name: str, *, make: bool = False) -> OpenFolder:
        """Open a folder within; see ``DataFolder.open``."""
        if make:
            self.make_folder(name)
        try:
            descriptor = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=self._descriptor)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            advice = "a link or no folder is where a folder of ours is to be; move it away"
            raise NotOursError(self.place_of(name), advice) from None
        return OpenFolder(descriptor, self.place_of(name), shared=self._shared)

    def make_folder(self, name: str) -> bool:
        """Create a folder; return False if the name exists."""
        try:
            os.mkdir(name, _SHARED_FOLDER if self._shared else _PRIVATE_FOLDER, dir_fd=self._descriptor)
        except FileExistsError:
            return False
        return True

    def entries(self) -> Iterator[os.DirEntry[str]]:
        """List the entries."""
        with os.scandir(self._descriptor) as entries:
            yield from entries

    def status(self, name: str) -> os.stat_result | None:
        """Return the status of an entry, without following links; None if it is missing."""
        try:
            return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def stamp(self, name: str, folder: str = ".") -> tuple[int, int]:
        """Return what changes with a file, here or in a folder within, either of which may be a link.

        Returns:
            When it was changed last, in nanoseconds since the epoch, and its length; zeros without one.
        """
        try:
            status = os.stat(f"{folder}/{name}", dir_fd=self._descriptor, follow_symlinks=False)
        except OSError:
            return 0, 0
        return status.st_mtime_ns, status.st_size

    def open_file(self, name: str) -> int:
        """Open a regular file for reading.

        Returns:
            Its descriptor, which the caller closes.

        Raises:
            FileNotFoundError: it is missing.
            NotOursError: it isn't a regular file.
            OSError: it can't be opened.
        """
        return self._regular(name, os.O_RDONLY | _FILE)

    def open_to_lock(self, name: str) -> int:
        """Open a regular file that only serves as a lock; created if missing.

        Returns:
            Its descriptor, which the caller closes.

        Raises:
            NotOursError: it isn't a regular file.
            OSError: it can't be opened.
        """
        return self._regular(name, os.O_RDWR | os.O_CREAT | _FILE)

    def open_to_append(self, name: str) -> int:
        """Open a regular file without further hard links for reading and writing; created if missing.

        Returns:
            Its descriptor, which the caller closes.

        Raises:
            NotOursError: it isn't such a file.
            OSError: it can't be opened.
        """
        descriptor = self._regular(name, os.O_RDWR | os.O_APPEND | os.O_CREAT | _FILE)
        if os.fstat(descriptor).st_nlink > 1:
            os.close(descriptor)
            raise NotOursError(self.place_of(name), "the file has a second name elsewhere; move it away")
        return descriptor

    def append_lines(self, name: str, data: bytes) -> None:
        """Append lines to a file, behind the end of a line that a crash has cut off, and synchronize it.

        Raises:
            NotOursError: it isn't a regular file without further hard links.
            OSError: they can't be written; then nothing of them is left.
        """
        descriptor = self.open_to_append(name)
        with os.fdopen(descriptor, "ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            is_torn = bool(end) and os.pread(descriptor, 1, end - 1) != b"\n"
            try:
                write_all(descriptor, b"\n" + data if is_torn else data)
                # A power cut takes no line but those that are being written.
                os.fdatasync(descriptor)
            except OSError:
                # Half a line would spoil the next one.
                file.truncate(end)
                raise

    def _regular(self, name: str, flags: int) -> int:
        advice = "there is no regular file here, where one is needed; move it away"
        try:
            descriptor = os.open(name, flags, self._file_mode, dir_fd=self._descriptor)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENODEV):
                raise
            raise NotOursError(self.place_of(name), advice) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise NotOursError(self.place_of(name), advice)
        return descriptor

    @property
    def _file_mode(self) -> int:
        return _SHARED_FILE if self._shared else _PRIVATE_FILE

    def read(self, name: str, limit: int) -> bytes:
        """Read a regular file.

        Args:
            limit: its longest length in bytes.

        Raises:
            FileNotFoundError: it is missing.
            NotOursError: it isn't a regular file, or is longer.
            OSError: it can't be read.
        """
        descriptor = self.open_file(name)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            size = os.fstat(descriptor).st_size
            if size > limit:
                raise NotOursError(self.place_of(name), f"more than {limit} bytes; move it away")
            data = bytearray()
            # Memory for all that may come would take more time than the file.
            least = max(size + 1, LEAST_READ)
            while len(data) <= limit and (more := file.read(min(least, limit + 1 - len(data)))):
                data += more
                least = LEAST_READ
        return bytes(data[:limit])

    def read_head(self, name: str, length: int) -> bytes:
        """Read the beginning of a regular file.

        Raises:
            FileNotFoundError: it is missing.
            NotOursError: it isn't a regular file.
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
        """Write a file under a temporary name, synchronise and rename it.

        Args:
            data: all of it, or its pieces in order.
            replaces: whether to replace an existing regular file.
            synchronized: whether it must survive a power cut.

        Raises:
            NotOursError: something exists that must not be replaced.
            OSError: it can't be written; then nothing of it is left.
        """
        self._check_free(name, replaces=replaces)
        temporary = f"{name}.{os.urandom(4).hex()}{TEMPORARY}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, self._file_mode, dir_fd=self._descriptor)
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

    def try_write(self, nbytes: int) -> None:
        """Write and synchronise a file without a name, which is gone when it is closed.

        Raises:
            OSError: it can't be written, or the file system has no such files.
        """
        flags = os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC
        descriptor = os.open(".", flags, self._file_mode, dir_fd=self._descriptor)
        try:
            write_all(descriptor, bytes(nbytes))
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def _check_free(self, name: str, *, replaces: bool) -> None:
        there = self.status(name)
        if there is not None and not (replaces and stat.S_ISREG(there.st_mode)):
            raise NotOursError(
                self.place_of(name), "something lies here that the server didn't write; move it away"
            )

    def remove(self, name: str, size: int | None = None) -> bool:
        """Remove a regular file.

        Args:
            size: its length, if it is one of ours; None if that was checked already.

        Returns:
            Whether the name is free now.

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
        """Remove an empty folder; return whether the name is free now."""
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
        """Move any entry into a folder; links are moved themselves.

        Raises:
            NotOursError: the new name exists.
            OSError: it can't be moved.
        """
        target._check_free(new_name, replaces=False)
        os.rename(name, new_name, src_dir_fd=self._descriptor, dst_dir_fd=target._descriptor)

    def link(self, name: str, target: OpenFolder, new_name: str) -> None:
        """Make a hard link.

        Raises:
            OSError: it can't be made, for instance because the file system has none.
        """
        os.link(
            name,
            new_name,
            src_dir_fd=self._descriptor,
            dst_dir_fd=target._descriptor,
            follow_symlinks=False,
        )

    def free_name(self, name: str, most: int) -> str:
        """Return a free name: this one, or with a number behind it.

        Raises:
            NotOursError: all numbers are taken.
        """
        names = (name, *(f"{name}-{number}" for number in range(1, most)))
        for one in names:
            if self.status(one) is None:
                return one
        raise NotOursError(self.place_of(name), f"{most} of this name are here; look into them, remove them")

    def set_aside(self, names: Sequence[str]) -> str:
        """Move entries that are in the way into a new folder, which is never removed.

        Returns:
            The path of that folder.

        Raises:
            NotOursError: there are ``MAX_ASIDE_FOLDERS`` already; then all entries stay.
            OSError: an entry can't be moved.
        """
        with self.folder(ASIDE, make=True) as aside:
            for number in range(1, MAX_ASIDE_FOLDERS + 1):
                if aside.make_folder(str(number)):
                    break
            else:
                advice = f"{MAX_ASIDE_FOLDERS} folders of strange files are here; look into them, remove them"
                raise NotOursError(aside.path, advice)
            with aside.folder(str(number)) as target:
                for name in names:
                    self.move(name, target, name)
                return target.path


def folder_name(channel: str) -> str:
    """Return the name of a channel's folder, or of its part of a key in S3: no channel has a ``~``."""
    return channel.replace("/", "~")


def checked(name: str) -> str:
    """Return a valid name of an entry.

    Raises:
        ValueError: it is a path, or empty.
    """
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"{name!r} names no file in a folder")
    return name


def write_all(descriptor: int, data: bytes) -> None:
    """Write all bytes, in as many calls as it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
