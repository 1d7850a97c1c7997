"""Live segments that have left memory: the same answers as before, from their files."""

from __future__ import annotations

import asyncio
import os
import stat

import structlog

from origin.responses.representation import FileRepresentation
from packager.library.storage import LocalFile
from packager.system_errors import LACKING
from packager.window.model import StoredSegment

log = structlog.get_logger()


def media_tag(name: str, size: int) -> str:
    """Give the entity-tag of a segment or a part.

    Args:
        name: the last part of its address.
        size: its length in bytes.
    """
    # One number always means the same bytes, so the name is as strong as a hash.
    return f'"{name}-{size:x}"'


async def open_segment(
    stored: tuple[str, StoredSegment], name: str, media_type: str
) -> FileRepresentation | None:
    """Open a segment's file.

    Args:
        stored: where it is, and what it is to hold.
        name: the last part of its address.
        media_type: its Content-Type.

    Returns:
        What can be sent, with the validators that it had in memory; None where the file isn't what it was.

    Raises:
        OSError: the system has no descriptor for it now; likewise below.
    """
    file = await asyncio.to_thread(_open, *stored)
    if file is None:
        return None
    representation = FileRepresentation(file, media_type)
    representation.etag, representation.last_modified = media_tag(name, file.size), None
    return representation


async def read_part(stored: tuple[str, StoredSegment], index: int) -> bytes | None:
    """Read a part out of its segment's file; None where there is no such part."""
    if index >= len(stored[1].part_sizes):
        return None
    return await asyncio.to_thread(_read, *stored, index)


async def read_whole(stored: tuple[str, StoredSegment]) -> bytes | None:
    """Read a segment's file; None where it isn't what it was."""
    return await asyncio.to_thread(_read, *stored, None)


def _open(path: str, stored: StoredSegment) -> LocalFile | None:
    try:
        # O_NONBLOCK: whatever lies there now, nobody waits for its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in LACKING:
            raise
        log.warning("DVR segment can't be opened", path=path, reason=error.strerror)
        return None
    status = os.fstat(descriptor)
    file = LocalFile(descriptor, path, status)
    if file.size != stored.size or not stat.S_ISREG(status.st_mode):
        log.warning("DVR segment isn't what it was", path=path, size=file.size, expected=stored.size)
        file.close()
        return None
    return file


def _read(path: str, stored: StoredSegment, index: int | None) -> bytes | None:
    """Read one part, or all of them."""
    if (file := _open(path, stored)) is None:
        return None
    begin = 0 if index is None else sum(stored.part_sizes[:index])
    length = stored.size if index is None else stored.part_sizes[index]
    with file:
        data = file.pread(begin, length)
    return data if len(data) == length else None
