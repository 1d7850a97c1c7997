"""What a source says of the station that it plays for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Announcement:
    """What listeners and directories are told where the configuration says nothing else; "" for nothing.

    Attributes:
        name: of the station.
        genre: of the station.
        url: of the station's page.
        description: of the station, in a line.
        public: whether directories may list it.
    """

    name: str = ""
    genre: str = ""
    url: str = ""
    description: str = ""
    public: bool = False


NOTHING = Announcement()
