"""What gathers a live source's bytes to blocks, whatever their container."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from packager.radio.audio_blocks import AudioBlock


class Reading(Protocol):
    """Reads a stream as it comes."""

    def receive_data(self, data: bytes) -> None:
        """Take the next bytes."""

    def receive_eof(self) -> None:
        """Take notice that no more bytes come."""


class LiveIntake(ABC):
    """Gathers what a source sends; does no I/O.

    Attributes:
        title: of what is played, for the blocks from now on.
        frames: frames or pages of audio that came so far.
    """

    _reader: Reading

    def __init__(self) -> None:
        self.title = ""
        self.frames = 0

    @property
    @abstractmethod
    def bitrate(self) -> int:
        """In kbit/s, 0 when it isn't known."""

    def receive(self, data: bytes) -> list[AudioBlock]:
        """Take bytes, cut anywhere; give the blocks that are complete.

        Raises:
            MalformedError: what comes is no audio, or not in this container.
            UnsupportedError: no mount carries its codec.
        """
        self._reader.receive_data(data)
        return self._gather()

    def finish(self) -> list[AudioBlock]:
        """Give what is left at the source's end, but for the part of a frame or page.

        Raises:
            MediaError: there was no audio at all.
        """
        self._reader.receive_eof()
        return [*self._gather(), *self._take()]

    @abstractmethod
    def retitle(self, title: str) -> list[AudioBlock]:
        """Begin a new block with this title; give what comes before it."""

    @abstractmethod
    def _gather(self) -> list[AudioBlock]:
        """Give the blocks that are complete."""

    @abstractmethod
    def _take(self) -> list[AudioBlock]:
        """Give what is there as a block."""
