"""Names versions of films in the addresses of their media, so that caches never mix two versions.

``video/v_0123456789ab/7.m4s`` is for ever segment 7 of that version of the file, or isn't there any more. The
same address without the folder is of the file's present version.
"""

from __future__ import annotations

import hashlib
import time
from typing import NamedTuple

from packager.library.storage_interface import SETTLED_AFTER

PACKAGING = 5
"""Version of the packaging; another one gives every segment a new address and a new entity-tag."""

VERSION_PREFIX = "v_"
"""The prefix of a version's folder, which no track's name contains."""

_DIGEST_BYTES = 6


class MediaVersion(NamedTuple):
    """The version of a film, or of subtitles beside it.

    Attributes:
        name: its part of addresses; "" where they have none.
        changed: when the latest of its files changed, in seconds since the epoch.
    """

    name: str
    changed: float

    @property
    def folder(self) -> str:
        """The folder of its media, relative to that of their playlists."""
        return f"{VERSION_PREFIX}{self.name}/" if self.name else ""

    def is_settled(self, now: float) -> bool:
        """Return whether no other version can get this name any more.

        Args:
            now: seconds since the epoch.
        """
        return self.changed <= now - SETTLED_AFTER


UNVERSIONED = MediaVersion("", 0.0)
"""Of what is packaged ahead of time, which is replaced as a whole."""


def version_of(identity: tuple[int, ...], film: MediaVersion = UNVERSIONED) -> MediaVersion:
    """Name a version of a file: as entity-tags, by its size and its time of change in whole seconds.

    So it is the same on every node with a copy of the file.

    Args:
        identity: the file's, which ends in its size and its time of change in nanoseconds.
        film: the film's version, where the file lies beside one.
    """
    size, changed = identity[-2:]
    facts = repr((PACKAGING, film.name, size, changed // 10**9))
    name = hashlib.blake2s(facts.encode(), digest_size=_DIGEST_BYTES).hexdigest()
    # A time in the future was set; a later change gets another one.
    return MediaVersion(name, max(film.changed, min(changed / 1e9, time.time())))
