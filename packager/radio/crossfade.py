"""From one track into the next: the end of the one and the beginning of the other, heard together.

Works on PCM without I/O. The last seconds of what it is given are held back, since they may be a track's end.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SAMPLE_BYTES = 4
"""Of a float; 1.0 is full scale, and a sum may be beyond it."""


class Crossfader:
    """Takes the samples of track after track, gives those of one stream.

    Args:
        samples: length of the fades, per channel; 0 for none, then everything passes at once.
        channels: of the interleaved samples, floats of 32 bits.
    """

    def __init__(self, samples: int, channels: int) -> None:
        self._channels = channels
        self._unit = SAMPLE_BYTES * channels
        self._length = samples * self._unit
        self._held = bytearray()
        # The end of the track before, and how much of it has been mixed with this one's beginning.
        self._fading = b""
        self._mixed = 0

    def begin(self) -> bytes:
        """Begin the next track, which is first heard at the first sample that is held back now.

        Returns:
            Samples that are due.
        """
        self._held += self._fade(bytes(len(self._fading) - self._mixed))
        due = self._release(self._length)
        self._fading, self._mixed = bytes(self._held), 0
        self._held.clear()
        return due

    def feed(self, samples: bytes) -> bytes:
        """Take samples of the track.

        Args:
            samples: whole ones, of all channels.

        Returns:
            Samples that are due.
        """
        overlap = min(len(samples), len(self._fading) - self._mixed)
        self._held += self._fade(samples[:overlap]) + samples[overlap:]
        return self._release(self._length)

    def end(self) -> bytes:
        """Give what is held back: nothing follows."""
        self._held += self._fade(bytes(len(self._fading) - self._mixed))
        self.clear_fade()
        return self._release(0)

    def clear(self) -> None:
        """Forget everything."""
        self._held.clear()
        self.clear_fade()

    def clear_fade(self) -> None:
        """Forget the end of the track before."""
        self._fading, self._mixed = b"", 0

    def _release(self, kept: int) -> bytes:
        size = max(len(self._held) - kept, 0)
        due = bytes(self._held[:size])
        del self._held[:size]
        return due

    def _fade(self, samples: bytes) -> bytes:
        """Mix samples with what fades: at equal power, since two tracks have nothing in common."""
        if not samples:
            return b""
        first, count = self._mixed // self._unit, len(samples) // self._unit
        total = len(self._fading) // self._unit
        angles = (np.arange(first, first + count) + 0.5) / total * (np.pi / 2)
        old = self._frames(self._fading[self._mixed : self._mixed + len(samples)])
        mixed = old * np.cos(angles)[:, None] + self._frames(samples) * np.sin(angles)[:, None]
        self._mixed += len(samples)
        return mixed.astype("<f4").tobytes()

    def _frames(self, samples: bytes) -> npt.NDArray[np.float32]:
        return np.frombuffer(samples, "<f4").reshape(-1, self._channels)
