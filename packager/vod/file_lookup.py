"""The files of a library that have an index: found by their names, alone or as renditions of one title.

Everything here blocks on the disk and may be called from several threads at once.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import structlog

from media.errors import MediaError, TooLargeError
from packager.library.local_storage import NotFoundError, is_served
from packager.library.storage_interface import Identity, LibraryFile, Storage
from packager.transient_errors import will_pass
from packager.vod.index.file_index import WITHOUT_EDIT_LIST, FileIndex, OfferedTrack
from packager.vod.index.index_cache import EncodedTracks, IndexCache
from packager.vod.index.lengthened_tracks import HELD_DIFFERENCE, LENGTHENED, end_of, lengthened_by_name
from packager.vod.limits import TitleLimits
from packager.vod.movie.versioned_addresses import UNVERSIONED, version_of
from packager.vod.text.cues import TEXT_LIMITS, TIMESCALE, ShiftedCues, TextLimits
from packager.vod.text.sidecars import Sidecar, Sidecars
from packager.vod.text.text_tracks import TextTrack, with_name
from packager.vod.title_sets import TitleSets

log = structlog.get_logger()

MAX_FOLDER_FILES = 200_000
"""Most names of one folder among which titles' renditions are looked for, and most that are kept of all
folders.
"""


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """A film's file with its index, and the subtitle files beside it.

    Attributes:
        path: relative to the library.
        name: of a title's rendition; "" of the one file.
        sidecars: the subtitle files beside it.
    """

    path: str
    name: str
    identity: Identity
    index: FileIndex
    sidecars: Sequence[Sidecar] = ()

    @property
    def version(self) -> tuple[str, Identity, tuple[object, ...]]:
        """A key that changes with anything that a playlist says of the file."""
        sidecars = tuple((one.named, one.identity) for one in self.sidecars)
        return self.name, self.identity, (self.index.title_set, *sidecars)


class IndexedFiles:
    """Finds a library's files by their names, with their indexes and what lies beside them.

    Args:
        limits: how many indexes are kept, and how many files a title may have.
        encoded: returns the renditions of a film that are encoded on request.

    Attributes:
        indexes: the cache of the indexes.
    """

    def __init__(self, library: Storage, limits: TitleLimits, encoded: EncodedTracks = lambda _: ()) -> None:
        self._library = library
        self._limits = limits
        self._folders = library.folder_names(MAX_FOLDER_FILES)
        self._sidecars = Sidecars(library, self._folders, limits.sidecars)
        self._title_sets = TitleSets(library)
        self.indexes = IndexCache(limits, library.open, encoded)

    def __len__(self) -> int:
        """Count the indexes that are in memory."""
        return len(self.indexes)

    def open(self, name: str) -> LibraryFile:
        """Open a file; NotFoundError if there is none, OSError if it can't be opened now."""
        return self._library.open(name)

    def index(self, file: LibraryFile) -> FileIndex:
        """Return an open file's index, and make it where there is none.

        Raises:
            MediaError: it can't be packaged; the text says in one line why.
            OSError: it can't be read.
        """
        return self._copied(file)

    def described(self, file: LibraryFile, name: str, *, played: bool = True) -> FileIndex:
        """Return an open file's index with the description of its DVD's title set; raises as :meth:`index`.

        Args:
            name: of the file, relative to the library.
            played: as for :meth:`resolve`.
        """
        index, title_set = self._copied(file, played=played), self._title_sets.beside(name)
        return index if title_set is None else index.with_title_set(title_set)

    def _copied(self, file: LibraryFile, *, played: bool = True) -> FileIndex:
        index = self.indexes.index(file, played=played)
        index.require_offered()
        return index

    def sidecars(self, name: str) -> Sequence[Sidecar]:
        """Return the subtitle files beside a file."""
        return self._sidecars.beside(name)

    def unused(self, name: str) -> Sequence[tuple[str, str]]:
        """Return the files of subtitles that seem to be a film's and aren't used, each with the reason."""
        return self._sidecars.unused(name)

    def find(self, name: str) -> IndexedFile:
        """Find a file by its name.

        Raises:
            NotFoundError: there is none.
            MediaError: it can't be packaged; the text says in one line why.
            OSError: it can't be read.
        """
        with self._library.open(name) as file:
            return self.of(file, name)

    def of(self, file: LibraryFile, name: str) -> IndexedFile:
        """Describe an open file by its index and its sidecars; raises as :meth:`find`."""
        return IndexedFile(name, "", file.identity, self.described(file, name), self._sidecars.beside(name))

    def versioned(self, file: LibraryFile, version: str | None) -> FileIndex:
        """Return a file's index if the file has the wanted version; None wants any version."""
        if version not in (None, version_of(file.identity).name):
            raise NotFoundError(f"{file.path} is another version")
        return self._copied(file)

    def known(self, file: LibraryFile, version: str | None) -> FileIndex | None:
        """Return an open file's index from memory if it is of the wanted version, or None; never blocks."""
        index = self.indexes.known(file.identity)
        is_wanted = index is not None and index.tracks and version in (None, index.version.name)
        return index if is_wanted else None

    def open_indexed(self, name: str) -> LibraryFile:
        """Open a file that has an index or gets one; raises as :meth:`find`."""
        file = self._library.open(name)
        try:
            self._copied(file)
        except BaseException:
            file.close()
            raise
        return file

    def resolve(self, name: str, *, played: bool = True) -> list[IndexedFile]:
        """Find the file of a name, or else the renditions of the title that has it; raises as :meth:`find`.

        Args:
            name: relative to the library; the file's, or the renditions' common part.
            played: whether it is played; indexes of what isn't leave memory first.
        """
        try:
            with self._library.open(name) as file:
                index = self.described(file, name, played=played)
                index.require_whole()
                sidecars = self._sidecars.beside(name) if played else ()
                return [IndexedFile(name, "", file.identity, index, sidecars)]
        except NotFoundError:
            return self._renditions(name, played=played)

    def _renditions(self, name: str, *, played: bool) -> list[IndexedFile]:
        """Index a title's files, the smallest picture first, without those that can't be packaged."""
        found: list[IndexedFile] = []
        failed: dict[str, MediaError] = {}
        folder, _, title = name.rpartition("/")
        for file_name in self._rendition_names(folder, title):
            path = f"{folder}/{file_name}".removeprefix("/")
            try:
                with self._library.open(path) as file:
                    index = self._copied(file, played=played)
                    index.require_whole()
                    sidecars = self._sidecars.beside(path) if played else ()
                    found.append(IndexedFile(path, file_name, file.identity, index, sidecars))
            except NotFoundError:
                continue
            except MediaError as error:
                failed[file_name] = error
        for file_name, refusal in failed.items():
            if not found:
                raise refusal
            if played:
                log.warning("a rendition was left out", title=name, file=file_name, reason=str(refusal))
        if not found:
            raise NotFoundError(name)
        return found

    def version_name(self, name: str) -> str:
        """Return the name of a file's version, or of those of a title's files together.

        Raises:
            NotFoundError: there is neither.
            OSError: a file can't be read.
        """
        try:
            with self._library.open(name) as file:
                return version_of(file.identity).name
        except NotFoundError:
            folder, _, title = name.rpartition("/")
            versions = list[str]()
            for file_name in self._rendition_names(folder, title):
                with (
                    contextlib.suppress(NotFoundError),
                    self._library.open(f"{folder}/{file_name}".removeprefix("/")) as file,
                ):
                    versions.append(version_of(file.identity).name)
            if not versions:
                raise
            return "-".join(versions)

    def _rendition_names(self, folder: str, title: str) -> list[str]:
        parts = [*filter(None, folder.split("/")), title]
        if not all(map(is_served, parts)):
            raise NotFoundError(title)
        try:
            names = self._folders.renditions(folder, title)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and will_pass(error):
                raise
            raise NotFoundError(title) from None
        if len(names) > self._limits.renditions:
            limit = self._limits.renditions
            raise TooLargeError(f"{len(names)} renditions of one title: more than {limit}")
        return names


def offered_indexes(found: Sequence[IndexedFile]) -> list[FileIndex]:
    """Return the indexes of a file, or of a title's files, with the encoded renditions that are offered.

    A title's files are its pictures, unless browsers lack their codecs: then those of the largest one are
    encoded, of the files that last as long as the title.
    """
    indexes = [one.index for one in found]
    if len(found) == 1:
        return indexes
    pictures = [index.video for index in indexes if index.video is not None]
    largest = None
    if not any(picture.plays_everywhere for picture in pictures):
        # RFC 8216bis §6.2.4: renditions cover the same span; a copied picture is held, an encoded one isn't.
        ends = {one.path: max(map(end_of, one.index.pictures), default=Fraction(0)) for one in found}
        end = max(ends.values())
        whole = [one.index for one in found if end - ends[one.path] <= HELD_DIFFERENCE]
        largest = max(
            whole, key=lambda index: math.prod(index.pictures[0].resolution) if index.pictures else 0
        )
    return [
        replace(index, encoded=tuple(one for one in index.encoded if index is largest or not one.video))
        for index in indexes
    ]


def find_track(index: FileIndex, name: str, track: str) -> OfferedTrack:
    """Find a track of a file by its name; NotFoundError where there is none."""
    offered = index.track(track) or _lengthened(index, track)
    if offered is None:
        raise NotFoundError(f"{name} has no track {track}")
    return offered


def segmented_track(index: FileIndex, track: str) -> OfferedTrack | None:
    """Find a track of a file by the folder of its segments' addresses."""
    offered = index.segmented_track(track)
    if offered is not None or LENGTHENED not in track:
        return offered
    longer = _lengthened(index, track.removesuffix(WITHOUT_EDIT_LIST))
    return longer.without_edit_list if longer is not None and longer.name != track else longer


def _lengthened(index: FileIndex, track: str) -> OfferedTrack | None:
    """Return a picture whose last one stays, by the name in its address."""
    name, _, told = track.partition(LENGTHENED)
    plain = index.track(name) if told else None
    return None if plain is None else lengthened_by_name(plain, told)


def find_segmented_track(index: FileIndex, name: str, track: str) -> OfferedTrack:
    """Find a track of a file that is offered in segments by its name; NotFoundError where there is none."""
    offered = segmented_track(index, track)
    if offered is None:
        raise NotFoundError(f"{name} has no track {track}")
    return offered


def all_text_tracks(
    index: FileIndex, sidecars: Sequence[Sidecar], limits: TextLimits = TEXT_LIMITS
) -> tuple[Sequence[TextTrack], Sequence[str]]:
    """Join a film's own text tracks and those of the files beside it.

    Returns:
        The tracks, each of another name; and a line for each track and each file that isn't offered.
    """
    tracks = list(index.text_tracks)
    lines = list(index.text_left_out)
    early = round(index.lead_in * TIMESCALE)
    times = index.text_times - early
    for one in sidecars:
        named = one.named
        try:
            facts = one.owner.facts(one, times, limits)
        except (NotFoundError, OSError) as error:  # the file has gone since the folder was read
            if isinstance(error, OSError) and will_pass(error):
                raise
            continue
        if facts.refusal:
            lines.append(f"{named.name}: {facts.refusal}")
            continue
        cues = ShiftedCues(one.cues, early, facts.bandwidth)
        version = version_of(one.identity, index.version) if index.version.name else UNVERSIONED
        flags = named.default, named.forced, named.sdh
        track = TextTrack("", named.language, "", cues, *flags, named.name, version)
        tracks.append(with_name(track, [other.name for other in tracks]))
    return tracks, lines
