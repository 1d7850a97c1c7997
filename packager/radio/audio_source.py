"""The interface of a station's source: a folder, a source client, a relay or another machine."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from packager.radio.audio_blocks import AudioBlock


@dataclass(frozen=True, slots=True)
class StationInfo:
    """Shown to listeners and directories unless the configuration says otherwise; "" for nothing.

    Attributes:
        description: of the station, in a line.
        public: whether directories may list it.
    """

    name: str = ""
    genre: str = ""
    url: str = ""
    description: str = ""
    public: bool = False


NO_STATION_INFO = StationInfo()


class AudioSource(Protocol):
    """The source of a station's audio."""

    @property
    def media_type(self) -> str:
        """Such as ``audio/mpeg``."""
        ...

    @property
    def bitrate(self) -> int:
        """In kbit/s."""
        ...

    @property
    def available(self) -> bool:
        """False when it is known to have no audio now."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether the source only waits for a source client to connect, which is no fault."""
        ...

    @property
    def trouble(self) -> str:
        """Why the source has no audio, in one line without a URL; empty where that isn't known."""
        ...

    @property
    def station_info(self) -> StationInfo:
        """The station's description by its source."""
        ...

    def blocks(self) -> AsyncGenerator[AudioBlock]:
        """Yield audio at real time."""
        ...
