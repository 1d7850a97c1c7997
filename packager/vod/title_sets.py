"""Descriptions of DVDs' title sets beside their VOBs: the colours of subtitles, and languages."""

from __future__ import annotations

import structlog

from media.errors import MediaError
from media.ps.title_set import TitleSet, read_title_set
from packager.library.local_storage import NotFoundError
from packager.library.storage_interface import Identity, LibraryFile, Storage
from packager.library.title_files import title_set_of
from packager.reader_guard import ReaderGuard
from packager.single_flight_cache import CacheLimits, SingleFlightCache
from packager.transient_errors import will_pass

log = structlog.get_logger()

MAX_KEPT = 1024
"""Most descriptions that are remembered; a disc has up to 99."""


class TitleSets:
    """Finds and reads the descriptions in a library. Methods block; several threads may call them."""

    def __init__(self, library: Storage) -> None:
        self._library = library
        self._kept = SingleFlightCache[Identity, TitleSet | None](CacheLimits(items=MAX_KEPT))

    def beside(self, path: str) -> TitleSet | None:
        """Return the description of a VOB's title set; None without one, or of a damaged one.

        Args:
            path: of the VOB, relative to the library.

        Raises:
            OSError: the description can't be read now.
        """
        folder, slash, name = path.rpartition("/")
        described = title_set_of(name)
        if described is None:
            return None
        try:
            with self._library.open(f"{folder}{slash}{described}") as file:
                return self._kept.get(file.identity, lambda: _read(file))
        except NotFoundError:
            return None
        except OSError as error:
            if will_pass(error):
                raise
            return None


def _read(file: LibraryFile) -> TitleSet | None:
    try:
        with ReaderGuard(file.path):
            return read_title_set(file.pread, file.size)
    except MediaError as error:  # a film is worth seeing without it
        log.warning("a title set's description was left out", file=str(file.path), reason=str(error))
        return None
