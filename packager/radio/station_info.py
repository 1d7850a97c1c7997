"""A source's description of its station, in Icecast's header fields."""

from __future__ import annotations

from dataclasses import dataclass


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
