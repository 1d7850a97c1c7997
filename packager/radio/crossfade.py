"""Crossfades one track into the next.

Works on PCM without I/O. The last seconds of its input are held back, since they may be the end of a track.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SAMPLE_BYTES = 4
"""Size of a 32-bit float sample; full scale is 1.0, which a mix may exceed."""


class Crossfader:
    """Mixes consecutive tracks into one stream of samples.

    Args:
        samples: length of a fade per channel; 0 passes everything through at once.
        channels: of the input, interleaved 32-bit floats.
    """

    def __init__(self, samples: int, channels: int) -> None:
        self._channels = channels
        self._unit = SAMPLE_BYTES * channels
        self._length = samples * self._unit
        self._held = bytearray()
        # The previous track's end, and how many of its bytes have been mixed with this track.
        self._fading = b""
        self._mixed = 0

    def begin(self) -> bytes:
        """Begin the next track; it fades in over the samples that are held back now.

        Returns:
            Samples that are due.
        """
        self._held += self._fade(bytes(len(self._fading) - self._mixed))
        due = self._release(self._length)
        self._fading, self._mixed = bytes(self._held), 0
        self._held.clear()
        return due

    def feed(self, samples: bytes) -> bytes:
        """Mix samples of the current track; return those that are due.

        Args:
            samples: whole ones, of all channels.

        Returns:
            Samples that are due.
        """
        overlap = min(len(samples), len(self._fading) - self._mixed)
        self._held += self._fade(samples[:overlap]) + samples[overlap:]
        return self._release(self._length)

    def end(self) -> bytes:
        """Return everything that is held back: no track follows."""
        self._held += self._fade(bytes(len(self._fading) - self._mixed))
        self.clear_fade()
        return self._release(0)

    def clear(self) -> None:
        """Drop all state."""
        self._held.clear()
        self.clear_fade()

    def clear_fade(self) -> None:
        """Drop the end of the previous track."""
        self._fading, self._mixed = b"", 0

    def _release(self, kept: int) -> bytes:
        size = max(len(self._held) - kept, 0)
        due = bytes(self._held[:size])
        del self._held[:size]
        return due

    def _fade(self, samples: bytes) -> bytes:
        """Mix samples with the fading track at equal power, since two tracks are uncorrelated."""
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
