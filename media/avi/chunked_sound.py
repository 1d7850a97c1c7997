"""Sound whose frames don't end with the chunks of an AVI file."""

from __future__ import annotations

from media.avi.chunk_index import StreamChunks
from media.errors import UnsupportedError
from media.mp4.movie.assembled_samples import Read
from media.ts.sound_frames import SoundCoding, SoundFrames

SKIPPED_BYTES = 64 << 10
"""Most bytes of sound that are no frames, beyond the bytes of frames."""

MAX_SOUND_BYTES = 1 << 30
"""Most bytes of sound that are searched for frames: nine hours of MP3 at 256 kbit/s."""

GATHERED_BYTES = 64 << 10
"""Bytes of sound that are parsed together."""


def find_frames(coding: SoundCoding, chunks: StreamChunks, read: Read, limit: int) -> SoundFrames:
    """Find the frames of a stream, for which all of it is read.

    Args:
        limit: most frames.

    Raises:
        UnsupportedError: it has no frames of the coding, or there is too much of it.
    """
    if int(chunks.sizes.sum()) > MAX_SOUND_BYTES:
        raise UnsupportedError(f"more than {MAX_SOUND_BYTES} bytes of sound in chunks")
    frames = SoundFrames(coding, SKIPPED_BYTES)
    gathered: list[bytes] = []
    waiting = 0
    for offset, size in zip(chunks.offsets.tolist(), chunks.sizes.tolist(), strict=True):
        data = read(offset, size)
        gathered.append(data)
        waiting += len(data)
        if waiting > GATHERED_BYTES:
            frames.push(b"".join(gathered), 0)
            gathered, waiting = [], 0
        if len(data) < size:
            break
        if len(frames) > limit:
            raise UnsupportedError(f"more than {limit} frames of sound")
    frames.push(b"".join(gathered), 0)
    frames.choose_format()
    return frames
