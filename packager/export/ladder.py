"""The encoded renditions that a package has, as a record names them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packager.encode.renditions import EncodedRenditions, Mode
    from packager.process.ffmpeg_discovery import Tools

EncodingProgress = Callable[[str, float, bool], None]
"""Takes the name of the input, seconds of it that are encoded now, and whether this run has encoded them."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """The encoded renditions of packages, and the ffmpeg that makes them."""

    renditions: EncodedRenditions
    tools: Tools

    @property
    def name(self) -> str:
        """The renditions' mode and the version of the encoding: packages of another one are made again."""
        from packager.encode.renditions import ENCODING

        return f"{self.renditions.mode}-{ENCODING}"

    @property
    def encoder(self) -> str:
        """The program that encodes: the segments of one package are all of the same one."""
        return f"{self.renditions.encoder}{'' if self.renditions.maps_hdr else ' without HDR'}"


def ladder_of(mode: Mode, tools: Tools) -> Ladder:
    """Make a ladder; raises as `packager.encode.renditions.renditions_of`."""
    # Not before there is something to encode: it would take most of the time of a rerun.
    from packager.encode.renditions import renditions_of

    return Ladder(renditions_of(mode, tools), tools)
