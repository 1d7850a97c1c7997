"""Reads the time of day in a test channel's picture, as a viewer with a watch would."""

from __future__ import annotations

import base64
import io
import subprocess
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from PIL import Image

from packager.process.ffmpeg_discovery import Tools
from tests.e2e.conftest import Tab

FACE = "{0}{0}:{0}{0}:{0}{0}.{0}{0}{0}"
MARKS = {2, 5, 8}
"""Places in it that aren't digits."""

UNITS = (36_000, 3_600, 600, 60, 10, 1, 0.1, 0.01, 0.001)
"""Seconds of one of each digit."""

DAY = 86_400.0
DARK, BRIGHT = 105, 255
"""The writing is white, and what is behind it darkened to two fifths."""

LEFT = 8
"""Pixels from the left at which the digits to compare with are written."""

ASKEW = range(-4, 5)
"""Pixels by which a digit may be off its place: outlines are centred, and neighbours kerned."""

LOOK = """(() => {
  const { video } = headwater;
  if (!video.videoWidth) return null;
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  const now = Date.now() / 1000;
  return [now, canvas.toDataURL("image/png").split(",")[1]];
})()"""
"""The moment, and the frame that is on the screen then, if there is one."""

Shades = npt.NDArray[np.float64]
"""From 0, where nothing is written, to 1."""


@dataclass(frozen=True)
class Clockface:
    """How each digit looks at each place.

    Attributes:
        rows: Where in the picture it is.
        faces: These rows with each digit at all places.
        places: First column of each place's digit, and the one behind its last.
    """

    rows: slice
    faces: list[Shades]
    places: list[tuple[int, int]]

    @classmethod
    def drawn(cls, tools: Tools, width: int, height: int) -> Self:
        """Let ffmpeg write each digit at each place of the clock: digits are equally wide."""
        size = height // 10
        where = f"expansion=none:fontcolor=white:fontsize={size}:x={LEFT}:y=h-{2 * size}"
        texts = (FACE.format(digit).replace(":", "\\:") for digit in range(10))
        writing = ",".join(
            f"drawtext=text='{text}':{where}:enable='eq(n,{digit})'" for digit, text in enumerate(texts)
        )
        source = f"color=black:size={width}x{height}:rate=1:duration=10,{writing},format=gray"
        command = [str(tools.ffmpeg), "-v", "error", "-f", "lavfi", "-i", source, "-f", "rawvideo", "pipe:1"]
        pixels = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=300).stdout
        faces = _shades(np.frombuffer(pixels, np.uint8).reshape(10, height, width))
        written = np.any(faces > 0, axis=(0, 1))
        edges = (np.flatnonzero(np.diff(written)) + 1).tolist()
        signs = list(zip(edges[::2], edges[1::2], strict=True))
        assert len(signs) == len(UNITS) + len(MARKS)
        lines = np.flatnonzero(np.any(faces > 0, axis=(0, 2)))
        rows = slice(int(lines[0]), int(lines[-1]) + 1)
        return cls(
            rows, list(faces[:, rows]), [sign for place, sign in enumerate(signs) if place not in MARKS]
        )

    def time_of_day(self, picture: bytes) -> float:
        """Read a picture: seconds since midnight.

        Args:
            picture: PNG, as large as the channel's.
        """
        shades = _shades(np.asarray(Image.open(io.BytesIO(picture)).convert("L")))[self.rows]
        middle = (shades.shape[1] - self.places[-1][1] - LEFT) // 2
        digits = [self._read(shades[:, middle:], *place) for place in self.places]
        return sum(digit * unit for digit, unit in zip(digits, UNITS, strict=True))

    def _read(self, shades: Shades, first: int, end: int) -> int:
        """Give the digit that the writing at a place looks most like."""
        differing = [
            min(float(np.sum(np.abs(face[:, first:end] - shades[:, first + by : end + by]))) for by in ASKEW)
            for face in self.faces
        ]
        return differing.index(min(differing))

    async def latency(self, tab: Tab) -> float:
        """Look at the picture and at this machine's clock: the seconds between them."""
        now, picture = await tab.until(LOOK)
        # Half a day off is none: it may be midnight.
        behind = float(now) - self.time_of_day(base64.b64decode(picture))
        return (behind + DAY / 2) % DAY - DAY / 2


def _shades(pixels: npt.NDArray[np.uint8]) -> Shades:
    return np.clip((pixels.astype(np.float64) - DARK) / (BRIGHT - DARK), 0, 1)
