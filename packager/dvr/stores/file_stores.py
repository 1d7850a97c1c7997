"""One store of small files: a folder of this machine, or a folder of an S3 bucket. All of it blocks.

A file is stored whole or not at all. Files of others stay: in a folder they are moved aside where their names
are needed, and only a file of the length that was written is removed.
"""

from __future__ import annotations

import contextlib
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from packager.library.local_storage import NotFoundError
from packager.safe_files import TEMPORARY, DataFolder, NotOursError, OpenFolder

if TYPE_CHECKING:
    from packager.s3.client import S3Client


class ListedFile(NamedTuple):
    """A file of a listing, and its bytes."""

    name: str
    size: int


class FileStore(ABC):
    """Files with names; every method raises ``OSError`` where the place can't be reached now, or refuses.

    Args:
        address: names the place among all.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    @abstractmethod
    def list(self) -> Iterator[Sequence[ListedFile]]:
        """List all files page by page, in the order of their names."""

    @abstractmethod
    def get(self, name: str, most: int) -> bytes:
        """Return a file of at most so many bytes; of a longer one its first bytes, or nothing."""

    @abstractmethod
    def put(self, name: str, data: bytes) -> None:
        """Store a file, in place of one of this name."""

    @abstractmethod
    def delete(self, name: str, size: int) -> bool:
        """Remove a file if it has the length that was written; return whether it is gone."""

    @abstractmethod
    def tidy(self) -> None:
        """Remove what a crash has left half-written; to be called by the process that stores."""


class FolderStore(FileStore):
    """The files of a folder on disk.

    Args:
        begins: how all files begin that are ours.
    """

    def __init__(self, place: DataFolder, begins: bytes) -> None:
        super().__init__(str(place))
        self._place = place
        self._begins = begins

    def list(self) -> Iterator[Sequence[ListedFile]]:
        """List all files at once; see `FileStore`."""
        with contextlib.suppress(FileNotFoundError), self._place.open() as folder:
            statuses = ((one.name, folder.status(one.name)) for one in list(folder.entries()))
            yield sorted(
                ListedFile(name, status.st_size)
                for name, status in statuses
                if status is not None and stat.S_ISREG(status.st_mode)
            )

    def get(self, name: str, most: int) -> bytes:
        """Return a file; nothing where it is longer, or can't be read."""
        with contextlib.suppress(OSError), self._place.open() as folder:
            return folder.read(name, most)
        return b""

    def put(self, name: str, data: bytes) -> None:
        """Store a file; anything else of its name is moved aside."""
        with self._place.open(make=True) as folder:
            if not self._is_ours(folder, name):
                folder.set_aside([name])
            folder.write_whole(name, data)

    def delete(self, name: str, size: int) -> bool:
        """Remove a file of ours; see `FileStore`."""
        with self._place.open() as folder:
            return folder.remove(name, size)

    def tidy(self) -> None:
        """Remove temporary files."""
        with contextlib.suppress(FileNotFoundError), self._place.open() as folder:
            for one in list(folder.entries()):
                if one.name.endswith(TEMPORARY) and self._is_ours(folder, one.name):
                    folder.remove(one.name)

    def _is_ours(self, folder: OpenFolder, name: str) -> bool:
        """Return whether a name is free, or has one of our files, which may be damaged."""
        try:
            return folder.read_head(name, len(self._begins)) in (b"", self._begins)
        except FileNotFoundError:
            return True
        except NotOursError:
            return False


class BucketStore(FileStore):
    """The objects in a folder of a bucket.

    Args:
        folder: their keys before the names, without a slash at its end.
        bucket: the address of the bucket, where it matters among others.
    """

    def __init__(self, client: S3Client, folder: str, media_type: str, bucket: str = "") -> None:
        super().__init__(f"{bucket}/{folder}")
        self._client = client
        self._folder = folder
        self._media_type = media_type

    def list(self) -> Iterator[Sequence[ListedFile]]:
        """List all objects; see `FileStore`."""
        for page in self._client.objects(self._folder):
            yield [ListedFile(one.key.removeprefix(f"{self._folder}/"), one.size) for one in page]

    def get(self, name: str, most: int) -> bytes:
        """Return an object; see `FileStore`."""
        with contextlib.suppress(NotFoundError):
            return self._client.read_first(f"{self._folder}/{name}", most)[1]
        return b""

    def put(self, name: str, data: bytes) -> None:
        """Store an object; see `FileStore`."""
        self._client.put(f"{self._folder}/{name}", data, self._media_type)

    def delete(self, name: str, size: int) -> bool:
        """Remove an object of ours; see `FileStore`."""
        return self._client.delete_written(f"{self._folder}/{name}", size)

    def tidy(self) -> None:
        """Do nothing, as objects are there wholly."""
