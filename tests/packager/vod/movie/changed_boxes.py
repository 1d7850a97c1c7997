"""Writes the boxes of an MP4 anew, with changes."""

from __future__ import annotations

from collections.abc import Callable

from media.mp4.boxes import walk

PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl"}

Change = Callable[[bytes, bytes], bytes]
"""Takes type and payload of a box whose children are changed already; gives what stands in its place."""


def changed(data: bytes, change: Change) -> bytes:
    """Write boxes anew, those inside others first."""
    written = []
    for found in walk(data):
        payload = data[found.payload : found.end]
        payload = changed(payload, change) if found.kind in PARENTS else payload
        written.append(change(found.kind, payload))
    return b"".join(written)
