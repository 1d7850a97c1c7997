"""Opens the library's files safely: never anything outside the library's folder.

Names are parts joined by slashes, relative to the library. Each folder on the way is opened relative to the
one before without following links, so that nothing can be swapped in between. Blocks: call it in a thread.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from packager.library.folder_state import FolderState
from packager.library.storage_interface import is_settled
from packager.library.title_files import FolderTitles
from packager.threads import SHARED_THREADS

# Errors of an opening that come from the name or from what lies there. Anything else (no descriptors left, a
# failing disk) isn't the client's doing, and is raised unchanged.
_ABSENT = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ELOOP,
        errno.EACCES,
        errno.EPERM,
        errno.ENAMETOOLONG,
        errno.ENXIO,
        errno.ENODEV,
        errno.EINVAL,
        errno.EILSEQ,
    }
)

# O_NONBLOCK: the opening of a FIFO or a device must not wait for somebody at its other end.
_OPEN_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_OPEN_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY

CONFIGURATION = "headwater.toml"
"""Default name of the configuration file."""

UNFINISHED = ".part"
"""Extension of files that are still being written."""

# A TOML file, also with something behind its name: headwater.toml.bak, headwater.toml~, headwater.toml.2.gz.
_TOML = re.compile(r"\.toml(?![a-z])")

# Backups that editors and package managers leave beside a changed file, perhaps with old passwords.
_BACKUP = re.compile(
    r"#.*#|.*(~|\.(bak|old|orig|save(\.[0-9]+)?|sw[a-z]|tmp|rpm(save|new|orig)|(dpkg|ucf)-[a-z]+))", re.DOTALL
)

# Not in an address: what ends a name or a line, what other servers take for a slash, and bytes that aren't
# UTF-8.
_UNSAYABLE = re.compile("[\0\n\\\\\ud800-\udfff]")


class NotFoundError(Exception):
    """There is no such file; the reason is not revealed to clients."""


class LocalFile:
    """An open regular file, with what its answer needs to know about it.

    Attributes:
        path: Where it was found, for logs.
        name: Its name, relative to the library; empty for a file of no library.
        size: Its length in bytes when it was opened.
        modified: The time of its last change, in seconds since the epoch.
        identity: (device, inode, size, time of change in ns): equal only for the same unchanged file.
    """

    __slots__ = ("_fd", "changed", "identity", "modified", "name", "path", "size")

    threads = SHARED_THREADS

    def __init__(self, fd: int, path: str, status: os.stat_result) -> None:
        self._fd = fd
        self.path = path
        self.name = ""
        self.size = status.st_size
        self.modified = status.st_mtime_ns / 1e9
        self.changed = status.st_ctime_ns / 1e9
        self.identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    @property
    def fd(self) -> int:
        """The descriptor. ValueError once closed: its number may be another file's by then."""
        if self._fd < 0:
            raise ValueError(f"{self.path} is closed")
        return self._fd

    def descriptor(self) -> int:
        """Return the descriptor; see `LibraryFile`."""
        return self.fd

    def validator(self, now: float) -> str:
        """An entity-tag (RFC 9110 §8.8.3) that is the same on every node with a copy of the file.

        Args:
            now: Seconds since the epoch, at the time of the answer.

        Returns:
            The tag as a header field says it; weak while a second version could still get the same one.
        """
        # RFC 9110 §8.8.1: two versions within the clock's resolution must not share a strong validator.
        weak = "" if is_settled(self.modified, self.changed, now) else "W/"
        return f'{weak}"{int(self.modified):x}-{self.size:x}"'

    def pread(self, offset: int, length: int) -> bytes:
        """Read bytes by position: fewer than asked only where the file ends.

        Args:
            offset: Position of the first byte.
            length: Number of bytes.

        Raises:
            OSError: The disk failed.
        """
        data = os.pread(self.fd, length, offset)
        if len(data) in (0, length):
            return data
        parts = [data]
        have = len(data)
        while have < length and (data := os.pread(self.fd, length - have, offset + have)):
            parts.append(data)
            have += len(data)
        return b"".join(parts)

    def close(self) -> None:
        """Close the descriptor. May be called again."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Withheld:
    """Files and folders of the server that must never be served from the library.

    They are compared by device and inode, so links and mounts don't help. They are looked up each time, since
    editors replace files.

    Attributes:
        files: such as the configuration.
        folders: such as the data folder, with everything in them.
    """

    files: tuple[Path, ...] = ()
    folders: tuple[Path, ...] = ()

    def identities(self) -> frozenset[tuple[int, int]]:
        """Device and inode of each that exists now."""
        return frozenset(map(identity_of, _statuses((*self.files, *self.folders))))

    def has_name(self, part: str) -> bool:
        """Return whether a name is that of one of the files, or of a backup of it (``hw.conf.1``)."""
        lowered = part.lower().lstrip("#")
        for name in (path.name.lower() for path in self.files):
            # A name without an ending, such as "config", may well be how a film's begins.
            if "." in name and lowered.startswith(name) and not lowered[len(name) : len(name) + 1].isalnum():
                return True
        return False


NOTHING_WITHHELD = Withheld()


class Library:
    """A folder of media.

    Args:
        root: The folder; it need not exist yet.
        follow_symlinks: Whether links may lead out of the folder. Inside it they always may.
        withheld: Paths that are never served, wherever they lie.
        may_go: Whether a folder that was there and isn't any more is a trouble, as of a network share, and
            not a folder without files.

    Attributes:
        folder: Whether the folder is there as it was when it was first looked at.
    """

    threads = SHARED_THREADS

    def __init__(
        self,
        root: Path,
        follow_symlinks: bool = False,
        withheld: Withheld = NOTHING_WITHHELD,
        *,
        may_go: bool = False,
    ) -> None:
        self.may_go = may_go
        self.root = root.absolute()
        self.follow_symlinks = follow_symlinks
        self.withheld = withheld
        self.folder = FolderState(self.root)

    @property
    def trouble(self) -> str:
        """Why nothing can be opened now, in one line; empty where all is well."""
        return self.folder.trouble

    def __str__(self) -> str:
        """Return the folder's path."""
        return str(self.root)

    def open(self, name: str) -> LocalFile:
        """Open a regular file for reading.

        Args:
            name: Its parts joined by slashes, relative to the library.

        Returns:
            The open file, which the caller closes.

        Raises:
            NotFoundError: There is no such file that may be served.
            OSError: There may be one, but the system can't open it now (too many open files, a failing disk).
        """
        parts = _parts(name)
        if any(map(self.withheld.has_name, parts)):
            raise NotFoundError(name)
        path = self.root.joinpath(*parts)
        try:
            if self.may_go and not self.folder.is_known:
                self.folder.look()
            file = self._open(parts, path)
            file.name = name
            return file
        except OSError as error:
            if error.errno in _ABSENT:
                # Of a folder that has gone nobody knows whether there is such a file.
                if self.may_go:
                    self.folder.look()
                raise NotFoundError(name) from None
            raise
        except ValueError:
            # A name that the file system's encoding can't say.
            raise NotFoundError(name) from None

    def folder_names(self, most: int) -> FolderTitles:
        """Make what knows the names in the folders; see `Storage`."""
        return FolderTitles(self.root, most)

    def _open(self, parts: list[str], path: Path) -> LocalFile:
        if self.follow_symlinks:
            return self._followed(os.open(path, _OPEN_FILE), path)
        try:
            return self._beneath(self.root, parts, path)
        except OSError as error:
            # ELOOP: the last part is a link. ENOTDIR: a folder on the way is one, or is no folder.
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
        # Not Path.resolve, which makes of a circle of links an error of its own.
        target = Path(os.path.realpath(path, strict=True))
        root = Path(os.path.realpath(self.root, strict=True))
        if not target.is_relative_to(root):
            raise NotFoundError(path.name)
        inside = target.relative_to(root).parts
        if any(is_hidden(part) or self.withheld.has_name(part) for part in inside):
            raise NotFoundError(path.name)
        # A link doesn't publish what is hidden; and opened again from the root without links, nothing that
        # is put in its way in the meantime leads elsewhere.
        return self._beneath(root, inside, target)

    def _beneath(self, root: Path, parts: Sequence[str], path: Path) -> LocalFile:
        withheld = self.withheld.identities()
        folder = os.open(root, _OPEN_FOLDER)
        try:
            for part in parts[:-1]:
                inner = os.open(part, _OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                os.close(folder)
                folder = inner
                if withheld and identity_of(os.fstat(folder)) in withheld:
                    raise NotFoundError(path.name)
            return self._file(os.open(parts[-1], _OPEN_FILE | os.O_NOFOLLOW, dir_fd=folder), path, withheld)
        finally:
            os.close(folder)

    def _followed(self, fd: int, path: Path) -> LocalFile:
        """Accept a file that was reached by links, unless it is withheld."""
        withheld = self.withheld.identities()
        file = self._file(fd, path, withheld)
        try:
            # proc(5): where the open file really lies, not where its name leads by now.
            target = Path(os.readlink(f"/proc/self/fd/{fd}"))  # noqa: PTH115  # a link to a path, kept as text
            if _is_configuration(target.name) or self.withheld.has_name(target.name):
                raise NotFoundError(path.name)
            if withheld and self._is_within(target, withheld):
                raise NotFoundError(path.name)
        except BaseException:
            file.close()
            raise
        return file

    def _is_within(self, target: Path, withheld: frozenset[tuple[int, int]]) -> bool:
        root = identity_of(self.root.stat())
        for folder in map(identity_of, _statuses(target.parents)):
            if folder == root:
                return False  # the library itself may lie in such a folder
            if folder in withheld:
                return True
        return False

    def _file(self, fd: int, path: Path, withheld: frozenset[tuple[int, int]]) -> LocalFile:
        try:
            # Asked of the open file, not of the name: the name may lead elsewhere by now.
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or identity_of(status) in withheld:
                raise NotFoundError(path.name)
            return LocalFile(fd, str(path), status)
        except BaseException:
            os.close(fd)
            raise


def identity_of(status: os.stat_result) -> tuple[int, int]:
    """Return device and inode, which are the same for all names of a file or folder."""
    return status.st_dev, status.st_ino


def _statuses(paths: Iterable[Path]) -> Iterable[os.stat_result]:
    for path in paths:
        try:
            yield path.stat()
        except OSError:  # the file is missing, or may not be examined
            continue


def is_hidden(part: str) -> bool:
    """Return whether a file or folder, with everything in it, is hidden by its name.

    Hidden are names with a leading dot, configurations (TOML) and their backups, which have passwords, and
    files that are still being downloaded or copied.
    """
    lowered = part.lower()
    return lowered.startswith(".") or lowered.endswith(UNFINISHED) or _is_configuration(lowered)


def _is_configuration(part: str) -> bool:
    lowered = part.lower()
    return _TOML.search(lowered) is not None or _BACKUP.fullmatch(lowered) is not None


def is_served(part: str) -> bool:
    """Return whether a name may be part of an address."""
    # Empty parts are absolute paths and doubled slashes.
    return bool(part) and not is_hidden(part) and _UNSAYABLE.search(part) is None


def has_unservable_name(part: str) -> bool:
    """Return whether a file or folder is left out since no address can have its name."""
    return _UNSAYABLE.search(part) is not None and not is_hidden(part)


def _parts(name: str) -> list[str]:
    parts = name.split("/")
    if not all(map(is_served, parts)):
        raise NotFoundError(name)
    return parts
