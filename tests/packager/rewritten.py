"""Real MP4 files with boxes of their ``moov`` changed: for what this ffmpeg can't write itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from media.mp4.boxes import box, header, walk

CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts")
FIXED = {b"soun": 28, b"vide": 78}
"""Bytes between a sample entry's header and its boxes."""

Change = Callable[[bytes, bytes, bytes], bytes]
"""Takes the handler of the track, a box's type and its payload; gives the new payload."""


def rewrite(source: Path, target: Path, change: Change) -> Path:
    """Write a file whose index is behind its media, with other boxes in the index."""
    data = source.read_bytes()
    kinds = [one.kind for one in walk(data, 0)]
    assert kinds.index(b"mdat") < kinds.index(b"moov"), "offsets would change"
    target.write_bytes(b"".join(_changed(data[one.start : one.end], b"", change) for one in walk(data, 0)))
    return target


def changed_box(whole: bytes, change: Change, containers: tuple[bytes, ...] = CONTAINERS) -> bytes:
    """Return a box with others in it."""
    return _changed(whole, b"", change, containers)


def _changed(
    whole: bytes, handler: bytes, change: Change, containers: tuple[bytes, ...] = CONTAINERS
) -> bytes:
    outer = header(whole, 0, len(whole))
    payload = whole[outer.payload :]
    if outer.kind in containers:
        if outer.kind == b"mdia":
            at = payload.index(b"hdlr")
            handler = payload[at + 12 : at + 16]
        inner = [
            _changed(payload[one.start : one.end], handler, change, containers) for one in walk(payload, 0)
        ]
        payload = b"".join(inner)
    return box(outer.kind, change(handler, outer.kind, payload))


def sample_entry(
    stsd: bytes,
    handler: bytes,
    *,
    kind: bytes | None = None,
    replaced: dict[bytes, bytes] | None = None,
    more: bytes = b"",
) -> bytes:
    """Give the payload of a ``stsd`` of one entry with another type and with other boxes."""
    whole = stsd[8:]
    entry, start = header(whole, 0, len(whole)), 8 + FIXED[handler]
    boxes = []
    for one in walk(whole, start, entry.end):
        payload = (replaced or {}).get(one.kind, whole[one.payload : one.end])
        boxes.append(box(one.kind, payload))
    return stsd[:8] + box(kind or entry.kind, whole[8:start], *boxes, more)


def boxes_of(path_or_data: Path | bytes, kind: bytes) -> bytes:
    """Find the first box of a type anywhere, whole."""
    data = path_or_data if isinstance(path_or_data, bytes) else path_or_data.read_bytes()
    at = data.index(kind) - 4
    return data[at : at + int.from_bytes(data[at : at + 4], "big")]
