"""The interface of what gives a station its audio: a folder, a source client, a relay or another machine."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from packager.radio.audio_blocks import AudioBlock
from packager.radio.station_info import StationInfo


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
        """Whether it only waits for a source client to connect, which is no fault."""
        ...

    @property
    def trouble(self) -> str:
        """Why it gives no audio, in one line without a URL; empty where that isn't known."""
        ...

    @property
    def station_info(self) -> StationInfo:
        """The station's description by its source."""
        ...

    def blocks(self) -> AsyncGenerator[AudioBlock]:
        """Yield audio at real time."""
        ...
