"""Objects of S3 as the files of a library: opened by their names, and named by folder."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

from packager.blocking_calls import ThreadFlights
from packager.bounded_dict import BoundedDict
from packager.library.file_endings import SUBTITLE_ENDINGS, UNREAD_SUBTITLE_ENDINGS
from packager.library.local_storage import NotFoundError, is_served
from packager.library.storage_interface import FileBelow, FileChangedError, Identity
from packager.library.title_files import (
    RENDITION,
    composed,
    files_below,
    film_title,
    forms,
    is_subtitle_file,
    longer_titles,
    subtitle_folder_of,
)
from packager.s3.client import ObjectVersion, S3Client, UnavailableError
from packager.s3.limits import S3Limits
from packager.s3.object_reader import ObjectReader, identity_of
from packager.s3.segment_cache import ENCODED_FOLDER
from packager.threads import ThreadLimits, Threads

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_SUBTITLE_FOLDERS_BEGIN = ("SUB", "Sub", "sub")
"""Beginnings of the names of folders of subtitles, in the ways in which they are written."""

LONGEST_KEY = 1024
"""Bytes of the longest key that S3 has."""

MAX_KNOWN = 1 << 14
"""Most objects whose size and entity-tag, or absence, is remembered."""

MAX_FOLDERS = 128
"""Most folders of which the films and the files of subtitles are remembered."""

MAX_STEMS = 1 << 12
"""Most films and titles of which the names of files beside them are remembered."""

NAMES_SECONDS = 10.0
"""Seconds for which the names of files beside a film are remembered."""

THREADS = 32
"""Threads in which files are opened and read."""

STALE_SECONDS = 3600.0
"""Seconds for which facts of objects hold while S3 is unreachable."""


def is_key_part(part: str) -> bool:
    """Return whether a part of a key may be part of an address."""
    return is_served(part) and part.isprintable()


def _is_folder(path: str) -> bool:
    """Return whether keys can be in a folder; "" is the library itself."""
    return not path or all(map(is_key_part, path.split("/")))


class S3File:
    """An object of a library, of one version; see `LibraryFile`.

    Args:
        name: of the object, relative to the library.
        address: the address of the object, for logs.
        objects: the opener, which reads it.
    """

    __slots__ = ("_objects", "_version", "identity", "modified", "name", "path", "size", "threads")

    def __init__(self, version: ObjectVersion, name: str, address: str, objects: S3Objects) -> None:
        self._version = version
        self._objects = objects
        self.name = name
        self.path = address
        self.size = version.size
        self.modified = version.modified / 1e9
        self.identity: Identity = identity_of(version)
        self.threads = objects.threads

    def descriptor(self) -> None:
        """None: the kernel can't send it."""

    def validator(self, now: float) -> str:
        """Return the object's own entity-tag, which is a strong one at any time."""
        del now
        return self._version.etag

    def pread(self, offset: int, length: int) -> bytes:
        """Read a range through the cache; see `LibraryFile`."""
        try:
            return self._objects.reader.read(self._version, offset, length)
        except (FileChangedError, NotFoundError):
            self._objects.forget(self._version.key)
            raise FileChangedError(self.path) from None

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class _Known:
    """The version of an object, or None for no object, and when the look-up that found it had ended."""

    version: ObjectVersion | None
    since: float


class S3Objects:
    """Opens the objects of a library. Methods block, and several threads may call them at once.

    Args:
        client: the client that the objects are read with.
        clock: seconds.
        is_part: returns whether a name may have such a part between its slashes.

    Attributes:
        threads: the threads for blocking calls.
    """

    def __init__(
        self,
        client: S3Client,
        reader: ObjectReader,
        limits: S3Limits,
        clock: Callable[[], float] = time.monotonic,
        is_part: Callable[[str], bool] = is_key_part,
    ) -> None:
        self._client = client
        self._is_part = is_part
        self.reader = reader
        self._limits = limits
        self._clock = clock
        self.threads = Threads(ThreadLimits(threads=THREADS), "s3")
        self._lock = threading.Lock()
        self._known = BoundedDict[str, _Known](MAX_KNOWN)
        self._lookups = ThreadFlights[str, ObjectVersion | None]()

    def open(self, name: str) -> S3File:
        """Open an object by its name; see `Storage`."""
        is_key = all(map(self._is_part, name.split("/")))
        if len(name.encode("utf-8", "surrogatepass")) > LONGEST_KEY or not is_key:
            raise NotFoundError(name)
        version = self._version(name)
        if version is None:
            raise NotFoundError(name)
        return S3File(version, name, f"s3://{self._client.bucket}/{name}", self)

    def forget(self, name: str) -> None:
        """Forget an object that turned out to be replaced."""
        with self._lock:
            self._known.pop(name, None)

    def _version(self, name: str) -> ObjectVersion | None:
        """Find an object's version, which one of those who want it asks for."""
        known = self._find(name)
        if known is not None and self._is_fresh(known):
            return known.version
        return self._lookups.do(name, lambda: self._looked_up(name))

    def _find(self, name: str) -> _Known | None:
        with self._lock:
            return self._known.use(name)

    def _is_fresh(self, known: _Known) -> bool:
        return self._clock() - known.since < self._limits.known_seconds

    def _looked_up(self, name: str) -> ObjectVersion | None:
        known, since = self._find(name), self._clock()
        if known is not None and self._is_fresh(known):
            return known.version  # another thread has asked just before
        try:
            if known is None or known.version is None:
                version: ObjectVersion | None = self.reader.read_first(name)
            else:
                version = self._client.describe(name)
        except NotFoundError:
            version = None
        except UnavailableError:
            # A version that was known a while ago is better than none: its cached bytes are still right.
            if known is None or known.version is None or since - known.since > STALE_SECONDS:
                raise
            return known.version
        with self._lock:
            # The time of the look-up doesn't count: where many wait for it, it could be longer than the rest.
            self._known[name] = _Known(version, self._clock())
        return version


class _KeptAnswers(Generic[K, V]):
    """Answers of S3 that are used for a while, and for longer while S3 is unreachable.

    Args:
        most: answers that are kept.
        clock: seconds.
    """

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._flights = ThreadFlights[K, V]()
        self._clock = clock
        self._lock = threading.Lock()
        self._kept = BoundedDict[K, tuple[V, float]](most)

    def get(self, key: K, ask: Callable[[], V]) -> V:
        """Return an answer that is kept, or ask S3 for it, once for all threads that want it."""
        kept = self._find(key)
        if kept is not None and self._is_fresh(kept):
            return kept[0]
        return self._flights.do(key, lambda: self._asked(key, ask))

    def _find(self, key: K) -> tuple[V, float] | None:
        with self._lock:
            return self._kept.use(key)

    def _is_fresh(self, kept: tuple[V, float]) -> bool:
        return self._clock() - kept[1] < NAMES_SECONDS

    def _asked(self, key: K, ask: Callable[[], V]) -> V:
        kept, since = self._find(key), self._clock()
        if kept is not None and self._is_fresh(kept):
            return kept[0]  # another thread has asked just before
        try:
            answer = ask()
        except UnavailableError:
            if kept is None or since - kept[1] > STALE_SECONDS:
                raise
            return kept[0]
        with self._lock:
            # As with versions, the time of the look-up doesn't count.
            self._kept[key] = answer, self._clock()
        return answer


@dataclass(frozen=True, slots=True)
class _FolderFiles:
    """The films of a folder and the files of subtitles in it, in order.

    Attributes:
        films: the titles of its films, composed, where the whole folder was listed.
        beside: the files of subtitles beside them.
        below: the files of subtitles in folders of their own.
    """

    films: frozenset[str] = frozenset()
    beside: tuple[str, ...] = ()
    below: tuple[str, ...] = ()

    @property
    def has_one_film(self) -> bool:
        """Whether there is one film and no other."""
        return len(self.films) == 1

    @classmethod
    def of(cls, names: Sequence[str], *, is_whole: bool) -> _FolderFiles:
        """Sort the names in a folder; ``is_whole``: there are no others."""
        subtitles = [name for name in names if is_subtitle_file(name)]
        films = {composed(film_title(name)) for name in names if "/" not in name} - {""} if is_whole else ()
        return cls(
            frozenset(films),
            tuple(sorted(name for name in subtitles if "/" not in name)),
            tuple(sorted(name for name in subtitles if subtitle_folder_of(name) == "")),
        )


class S3FolderNames:
    """Finds titles' renditions and films' subtitle files by what their keys begin with; see `FolderNames`.

    Args:
        client: the client that the objects are read with.
        most: names of one film or title.
        clock: seconds.
    """

    def __init__(
        self, client: S3Client, most: int, limits: S3Limits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._most = min(most, limits.names)
        self._stems: _KeptAnswers[tuple[str, str], list[str]] = _KeptAnswers(MAX_STEMS, clock)
        self._folders: _KeptAnswers[str, _FolderFiles] = _KeptAnswers(MAX_FOLDERS, clock)

    def renditions(self, folder: str, title: str) -> list[str]:
        """Return a title's files, in ascending order of height."""
        found = [
            match for name in self._beginning_with(folder, title) if (match := RENDITION.fullmatch(name))
        ]
        return [
            name for _, name in sorted((int(one["height"]), one[0]) for one in found if one["title"] == title)
        ]

    def subtitles(self, folder: str, stem: str) -> list[str]:
        """Return the subtitle files whose names begin with a film's, in order."""
        return [
            name for name in self._beginning_with(folder, stem) if name.lower().endswith(SUBTITLE_ENDINGS)
        ]

    def subtitles_below(self, folder: str, stem: str) -> list[FileBelow]:
        """Return the files in the folders of subtitles beside a film, in order; see `FolderNames`."""
        known = self._known(folder)
        return list(files_below(stem, known.below, is_only=known.has_one_film))

    def unused(self, folder: str, stem: str) -> list[str]:
        """Return the names of files of subtitles that seem to be a film's; see `FolderNames`."""
        known = self._known(folder)
        if known.has_one_film:
            return list(known.beside)
        others = longer_titles(known.films, stem)
        return [
            name
            for name in self._beginning_with(folder, stem)
            if name.lower().endswith((*SUBTITLE_ENDINGS, *UNREAD_SUBTITLE_ENDINGS))
            and not composed(name).startswith(others)
        ]

    def _known(self, folder: str) -> _FolderFiles:
        """Return what a folder has of films and files of subtitles, as of a while ago."""
        if not _is_folder(folder):
            return _FolderFiles()
        return self._folders.get(folder, lambda: self._look_into(folder))

    def _look_into(self, folder: str) -> _FolderFiles:
        """List a folder, or only its folders of subtitles where the whole has too many keys."""
        inside = f"{folder}/" if folder else ""
        names: list[str] = []
        for name in self._inside(inside, "", f"{ENCODED_FOLDER}/"):
            names.append(name)
            if len(names) > self._most:
                break
        else:
            return _FolderFiles.of(names, is_whole=True)
        below: list[str] = []
        for beginning in _SUBTITLE_FOLDERS_BEGIN:
            for name in itertools.islice(self._inside(inside, beginning), self._most):
                if not name.startswith(beginning):
                    break
                below.append(name)
        return _FolderFiles.of(below, is_whole=False)

    def _inside(self, inside: str, behind: str, passed_over: str = "") -> Iterator[str]:
        """Iterate over the keys in a folder, relative to it, without those with a beginning."""
        pages = self._client.objects(inside.rstrip("/"), behind=f"{inside}{behind}" if behind else None)
        for one in itertools.chain.from_iterable(pages):
            name = one.key.removeprefix(inside)
            if passed_over and name.startswith(passed_over):
                # In ASCII "0" follows the slash.
                yield from self._inside(inside, f"{passed_over[:-1]}0")
                return
            if all(map(is_key_part, name.split("/"))):
                yield name

    def _beginning_with(self, folder: str, stem: str) -> list[str]:
        if not (_is_folder(folder) and is_key_part(stem)):
            return []
        return self._stems.get((folder, stem), lambda: self._asked(folder, stem))

    def _asked(self, folder: str, stem: str) -> list[str]:
        return sorted(itertools.chain(*[self._listed(folder, form) for form in forms(stem)]), key=composed)

    def _listed(self, folder: str, stem: str) -> list[str]:
        inside = f"{folder}/" if folder else ""
        beginning = f"{inside}{stem}."
        names: list[str] = []
        looked_at = 0
        for page in self._client.objects(folder, behind=beginning):
            for one in page:
                looked_at += 1
                if not one.key.startswith(beginning) or looked_at > self._most:
                    return names
                name = one.key.removeprefix(inside)
                if "/" not in name:
                    names.append(name)
        return names
