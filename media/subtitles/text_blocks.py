"""Cues of a text track whose times and positions in the file are known, and whose text isn't read yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class TextBlocks:
    """The cues of a text track that each have a duration of their own, so that several are shown at once.

    Attributes:
        starts: milliseconds since the file's presentation begins, never falling; may be negative.
        ends: milliseconds, each above its start.
        offsets: position of each cue's block of bytes in the file.
        sizes: bytes of each block.
        expansion: most bytes of text for a byte of a block.
        behind: bytes that are read behind a block, for what belongs to the cue.
        decode: converts the bytes that were read, of which the given number are the block's, to a cue's text
            and settings; raises MalformedError, or returns an empty text if nothing is shown.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    decode: Callable[[bytes, int], tuple[str, str]]
    expansion: int = 1
    behind: int = 0
