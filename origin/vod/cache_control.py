"""For how long caches may keep what VOD answers: media of a version for ever, what names it not for long."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from packager.library.storage_interface import SETTLED_AFTER


class Lifetime(NamedTuple):
    """For how many seconds caches may keep an answer, and whether its address never has another one."""

    max_age: int
    is_immutable: bool = False

    @property
    def cache_control(self) -> str:
        """The Cache-Control field that says so (RFC 9111 §5.2.2, RFC 8246)."""
        return f"public, max-age={self.max_age}{', immutable' if self.is_immutable else ''}"


@dataclass(frozen=True, slots=True)
class VodCaching:
    """Lifetimes of answers in caches, in seconds.

    Attributes:
        max_age: for media whose addresses have no version, as configured; with 0, caches keep nothing at all.
        playlist_max_age: most for playlists and manifests: those that a cache keeps of a film that was
            replaced name media that are gone.
        version_max_age: media whose address has the version of their film.
    """

    max_age: int
    playlist_max_age: int = 60
    version_max_age: int = 365 * 24 * 3600

    @property
    def playlists(self) -> Lifetime:
        """The Cache-Control of playlists and manifests."""
        return Lifetime(min(self.max_age, self.playlist_max_age))

    def media(self, settled: bool | None = None) -> Lifetime:
        """Return what is said of segments and files of media.

        Args:
            settled: whether nothing else can get the version in their address; None: it has none.
        """
        if settled is None or not self.max_age:
            return Lifetime(self.max_age)
        if settled:
            return Lifetime(self.version_max_age, is_immutable=True)
        return Lifetime(min(self.max_age, math.ceil(SETTLED_AFTER)))
