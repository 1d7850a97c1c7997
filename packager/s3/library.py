"""A library whose files are the objects below a prefix of an S3 bucket."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path, PurePosixPath

import structlog

from media.errors import MediaError
from media.mp4.boxes import LARGEST_HEADER
from media.mp4.files.moov_finder import MoovFinder
from packager.library.file_endings import ending_of
from packager.library.file_listing import (
    MAX_DEPTH,
    CatalogueLimits,
    File,
    Listing,
    Walked,
    in_order,
)
from packager.library.local_storage import NOTHING_WITHHELD
from packager.library.title_files import composed, has_one_film, is_sidecar, sidecars_of, subtitle_folder_of
from packager.s3.block_cache import BlockCache
from packager.s3.client import ListedObject, S3Client
from packager.s3.counters import S3Counters
from packager.s3.limits import S3Limits
from packager.s3.object_files import S3File, S3FolderNames, S3Objects, is_key_part
from packager.s3.object_reader import ObjectReader
from packager.s3.segment_cache import ENCODED_FOLDER

log = structlog.get_logger()

_COPY_STEP = 1 << 20

WALK_SECONDS = 300.0
"""Longest listing of all objects; later ones aren't listed."""

PROBE_HEAD_BYTES = 2 << 20
"""Bytes of a file's beginning that are copied for ffprobe."""

PROBE_TAIL_BYTES = 1 << 20
"""Bytes of a file's end that are copied for ffprobe."""

PROBE_MOOV_BYTES = 128 << 20
"""Largest ``moov`` that is copied for ffprobe."""


class S3Library:
    """The files of a library in S3; see `Storage` and `ListedFiles`.

    Args:
        address: ``s3://bucket/prefix``.
        folder: the folder of the cache, and of the copies for ffprobe.

    Attributes:
        withheld: nothing, since no file of this machine is in S3.
    """

    withheld = NOTHING_WITHHELD

    def __init__(self, address: str, folder: Path, limits: S3Limits) -> None:
        self.address = address
        self._folder = folder
        self._limits = limits
        self._client = S3Client(address, limits)
        self.cache = BlockCache(folder, limits)
        self._objects = S3Objects(self._client, ObjectReader(self._client, self.cache, limits), limits)
        self.threads = self._objects.threads

    def __str__(self) -> str:
        """Return its address."""
        return self.address

    @property
    def trouble(self) -> str:
        """Why S3 can't be reached, or refuses; empty where all is well."""
        return self._client.reachability.trouble

    @property
    def counters(self) -> S3Counters:
        """Counts of requests to S3, and of those that the cache spared."""
        return self._client.counters

    def open(self, name: str) -> S3File:
        """Open an object; see `Storage`."""
        return self._objects.open(name)

    def folder_names(self, most: int) -> S3FolderNames:
        """Make what knows names by folder; see `Storage`."""
        return S3FolderNames(self._client, most, self._limits)

    def check(self) -> None:
        """Ask for the first page of the listing.

        Raises:
            RefusedError: S3 refuses, or there is no such bucket.
            UnavailableError: it can't be reached.
        """
        next(self._client.objects(), None)

    def walk(self, endings: frozenset[str], limits: CatalogueLimits, is_ending: Callable[[], bool]) -> Walked:
        """List all objects; see `ListedFiles`."""
        found = Walked()
        films: list[ListedObject] = []
        beside: dict[str, list[ListedObject]] = {}
        below: dict[str, list[ListedObject]] = {}
        until = time.monotonic() + WALK_SECONDS
        for one in self._all(limits, found):
            if is_ending() or time.monotonic() > until or len(films) >= limits.most_files:
                break
            folder, _, name = one.key.rpartition("/")
            if ending_of(name) in endings:
                films.append(one)
            elif is_sidecar(name):
                beside.setdefault(folder, []).append(one)
                above = subtitle_folder_of(one.key)
                if above is not None:
                    below.setdefault(above, []).append(one)
        of_folders = self._sidecars(films, beside, below)
        for one in in_order(films, key=lambda one: one.key):
            folder, _, name = one.key.rpartition("/")
            sidecars = of_folders[folder].of(name) if folder in of_folders else ()
            found.files.append(File(one.key, one.size, one.modified, sidecars))
        return found

    def _sidecars(
        self,
        films: Iterable[ListedObject],
        beside: Mapping[str, Sequence[ListedObject]],
        below: Mapping[str, Sequence[ListedObject]],
    ) -> dict[str, _FolderSidecars]:
        """Arrange the sidecars by the folders of the films to which they may belong."""
        names: dict[str, list[str]] = {folder: [] for folder in (*beside, *below)}
        for one in films:
            folder, _, name = one.key.rpartition("/")
            if folder in names:
                names[folder].append(name)
        return {
            folder: _FolderSidecars(
                folder, beside.get(folder, ()), below.get(folder, ()), is_only=has_one_film(found)
            )
            for folder, found in names.items()
        }

    def _all(self, limits: CatalogueLimits, found: Walked) -> Iterator[ListedObject]:
        for one in self._objects_of_library():
            found.names += 1
            if found.names > limits.most_names:
                return
            parts = one.key.split("/")
            if len(parts) <= MAX_DEPTH + 1 and all(map(is_key_part, parts)):
                yield one

    def _objects_of_library(self) -> Iterator[ListedObject]:
        """List all objects but the encoded segments, which may be more than the films."""
        for one in chain.from_iterable(self._client.objects()):
            if one.key.startswith(f"{ENCODED_FOLDER}/"):
                behind = f"{ENCODED_FOLDER}0"  # in ASCII "0" follows the slash
                yield from chain.from_iterable(self._client.objects(behind=behind))
                return
            yield one

    def is_unchanged(self, listing: Listing) -> bool:
        """Return nothing: only another walk shows what changed in S3."""
        del listing
        return True

    def readable_path(self, path: str) -> SparseCopy:
        """Copy a file's beginning, its ``moov`` and its end to where ffprobe can look at them."""
        copy = SparseCopy(self._folder, PurePosixPath(path).suffix)
        try:
            with self.open(path) as file:
                copy.resize(file.size)
                copy.copy(file, 0, PROBE_HEAD_BYTES)
                copy.copy(file, max(0, file.size - PROBE_TAIL_BYTES), PROBE_TAIL_BYTES)
                with contextlib.suppress(MediaError):  # the file has no moov, and needs none
                    begin, end = _moov(file, PROBE_MOOV_BYTES)
                    copy.copy(file, begin, end - begin + PROBE_TAIL_BYTES)
        except BaseException:
            copy.close()
            raise
        return copy

    def close(self) -> None:
        """Free the disk space."""
        self.cache.close()


class SparseCopy:
    """A file with some ranges of another one, and zeros between them; it is removed when it is closed."""

    def __init__(self, folder: Path, suffix: str) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = tempfile.NamedTemporaryFile(dir=folder, prefix="probe-", suffix=suffix)  # noqa: SIM115  # closed in ``close``

    @property
    def path(self) -> Path:
        """The path of the copy."""
        return Path(self._file.name)

    def resize(self, size: int) -> None:
        """Make the copy as long as the object; parts that aren't copied take no room."""
        self._file.truncate(size)

    def copy(self, file: S3File, offset: int, length: int) -> None:
        """Copy a range, as far as the file goes."""
        stop = min(offset + length, file.size)
        self._file.seek(offset)
        while offset < stop:
            data = file.pread(offset, min(_COPY_STEP, stop - offset))
            self._file.write(data)
            offset += len(data)
        self._file.flush()

    def close(self) -> None:
        """Remove the copy. May be called again."""
        self._file.close()


def _moov(file: S3File, most: int) -> tuple[int, int]:
    """Find an MP4's ``moov``.

    Raises:
        MediaError: there is none.
    """
    finder = MoovFinder(file.size, most)
    found = None
    while found is None:
        found = finder.push(file.pread(finder.position, LARGEST_HEADER))
    return found.start, found.end


class _FolderSidecars:
    """The subtitle files and covers of one folder.

    Args:
        below: the files in its folders of subtitles.
        is_only: whether the folder has one film.
    """

    def __init__(
        self,
        folder: str,
        beside: Sequence[ListedObject],
        below: Sequence[ListedObject],
        *,
        is_only: bool,
    ) -> None:
        inside = f"{folder}/" if folder else ""
        self._by_name = {one.key.removeprefix(inside): one for one in (*beside, *below)}
        self._beside = sorted((name for name in self._by_name if "/" not in name), key=composed)
        self._below = sorted(name for name in self._by_name if "/" in name)
        self._is_only = is_only

    def of(self, file: str) -> tuple[tuple[str, int, int], ...]:
        """Find those that belong to a file."""
        found = {
            name: (name, self._by_name[name].size, self._by_name[name].modified)
            for name in sidecars_of(file, self._beside, self._below, is_only=self._is_only)
        }
        return tuple(found.values())
