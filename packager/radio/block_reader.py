"""The interface of readers that split a live audio stream into blocks, whatever its container."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from packager.radio.audio_blocks import AudioBlock


class AudioReader(Protocol):
    """A reader without I/O that takes bytes as they come."""

    def receive_data(self, data: bytes) -> None:
        """Parse the next bytes."""

    def receive_eof(self) -> None:
        """Note the end of the stream."""


class AudioBlockReader(ABC):
    """Splits a live source's bytes into blocks; does no I/O.

    Attributes:
        title: of the audio from now on.
        frames: audio frames, or Ogg pages, received so far.
    """

    _reader: AudioReader

    def __init__(self) -> None:
        self.title = ""
        self.frames = 0

    @property
    def average_bitrate(self) -> int:
        """In kbit/s, of all blocks so far; 0 where `bitrate` says it."""
        return 0

    @property
    @abstractmethod
    def bitrate(self) -> int:
        """In kbit/s, 0 if unknown."""

    def receive_data(self, data: bytes) -> list[AudioBlock]:
        """Parse bytes, cut anywhere; return the complete blocks.

        Raises:
            MalformedError: it isn't audio, or not in this container.
            UnsupportedError: no mount carries its codec.
        """
        self._reader.receive_data(data)
        return self._gather()

    def finish(self) -> list[AudioBlock]:
        """Return the rest at the end of the stream, without any partial frame or page.

        Raises:
            MediaError: there was no audio at all.
        """
        self._reader.receive_eof()
        return [*self._gather(), *self._read_blocks()]

    @abstractmethod
    def retitle(self, title: str) -> list[AudioBlock]:
        """Begin a new block with this title; return the blocks before it."""

    @abstractmethod
    def _gather(self) -> list[AudioBlock]:
        """Return the complete blocks."""

    @abstractmethod
    def _read_blocks(self) -> list[AudioBlock]:
        """Return the collected frames as a block, if any."""
