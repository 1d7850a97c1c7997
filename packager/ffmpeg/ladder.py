"""The encoding ladder of a live channel: names, sizes and rates of its video and audio renditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

COPY = "source"
"""Name of the rung that is the source's own picture, as it comes."""

COPY_BITRATE = 5_000_000
"""Bits per second that playlists state for a copied rendition until its rate was measured."""


@dataclass(frozen=True, slots=True)
class Rung:
    """A video rendition: its name (in URIs too), its size in pixels, its mean rate in bits per second."""

    name: str
    width: int
    height: int
    bitrate: int

    @property
    def copied(self) -> bool:
        """Whether the rendition is a copy of the source's stream, without encoding."""
        return self.name == COPY


@dataclass(frozen=True, slots=True)
class AudioRung:
    """An audio rendition: its name (in URIs too), its mean rate in bits per second."""

    name: str
    bitrate: int


AUDIO = AudioRung("audio", 128_000)
"""The sound of a channel that has pictures."""

RUNGS = {
    rung.name: rung
    for rung in (
        Rung("1080p", 1920, 1080, 5_000_000),
        Rung("720p", 1280, 720, 2_800_000),
        Rung("480p", 854, 480, 1_400_000),
        Rung("360p", 640, 360, 800_000),
        Rung("240p", 426, 240, 400_000),
    )
}
SOURCE_RUNG = Rung(COPY, 0, 0, COPY_BITRATE)


def rungs(names: Sequence[str]) -> tuple[Rung, ...]:
    """Return the presets of some names.

    Args:
        names: such as ``720p``, or ``source``, each once.

    Returns:
        The rungs, the source's own first, then from large to small.

    Raises:
        ValueError: a name isn't a preset or comes twice, or there is none.
    """
    unknown = [name for name in names if name not in RUNGS and name != COPY]
    if unknown or not names or len(set(names)) != len(names):
        allowed = ", ".join((COPY, *RUNGS))
        raise ValueError(f"a ladder is made of {allowed}, each once; not of {', '.join(names) or 'nothing'}")
    encoded = sorted((RUNGS[name] for name in names if name != COPY), key=lambda rung: -rung.height)
    return (SOURCE_RUNG, *encoded) if COPY in names else tuple(encoded)


def audio_rungs(bitrates: Sequence[int]) -> tuple[AudioRung, ...]:
    """Name the renditions of a channel that has only sound.

    Args:
        bitrates: bits per second, whole thousands, each once.

    Returns:
        The rungs, the best first.
    """
    return tuple(AudioRung(f"{rate // 1000}k", rate) for rate in sorted(bitrates, reverse=True))
