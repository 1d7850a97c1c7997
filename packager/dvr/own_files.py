"""Recognises and removes the files that we wrote into a DVR or a recording. Blocks.

A file in an index is recognised by its name and length, any other by its name and whole content.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable

from media.errors import MediaError
from media.mp4.fragments.fragments import FragmentReader, InitSegment
from media.mp4.fragments.live_segment_check import check_live_segment
from media.subtitles import webvtt
from packager.dvr import index
from packager.dvr.index import IndexLine
from packager.past.coded_outlines import OUTLINES_BEGIN, is_outline_group
from packager.reader_guard import ReaderGuard
from packager.safe_files import ASIDE, TEMPORARY, NotOursError, OpenFolder
from packager.window.rendition import segment_uri

MAX_INIT_BYTES = 1 << 20
"""Longest init segment that is read."""

MAX_TEXT_BYTES = 64 << 20
"""Longest WebVTT segment that is read."""

MAX_DEPTH = 4
"""Depth of subfolders from which files are removed."""

NUMBER = r"(0|[1-9][0-9]{0,14})"
MEDIA_NAME = re.compile(rf"{NUMBER}\.m4s")
TEXT_NAME = re.compile(rf"{NUMBER}\.vtt")
INIT_NAME = re.compile(rf"init-{NUMBER}\.mp4")
FOLDER_NAME = re.compile(r"\.?[A-Za-z0-9][A-Za-z0-9-]{0,79}")
"""Names of renditions and recordings, and of temporary ones."""

OUTLINES_NAME = re.compile(r"([0-9]{15})-([1-9][0-9]?)")
"""Names of files with what playlists need of blocks of the past: a first number, and how many blocks."""

MAX_OUTLINES_BYTES = 2 << 20
"""Longest file with outlines; those of four renditions have some 100 KB."""

MOVING, MOVING_CONTENT = "moving", b"moving\n"
"""File beside the blocks of the past while segments that a start has found are put into them."""

SET_BACK, SET_BACK_CONTENT = "set-back", b"the clock was set back\n"
"""File beside the blocks of the past where some of their dates don't rise."""

NEVER_SET_BACK_CONTENT = b"the clock was never set back\n"
"""Content of that file once an earlier version's blocks were looked through, and all dates rise."""

_UNFINISHED = re.compile(rf"(.+?)(\.[0-9a-f]{{8}})?{re.escape(TEMPORARY)}")
_TEXT_HEAD = webvtt.segment((), 0).partition(b"MPEGTS:")[0] + b"MPEGTS:"
_HEAD_BYTES = 1024

_Begins = Callable[[bytes], bool]


def _box(*kinds: bytes) -> _Begins:
    return lambda head: head[4:8] in kinds


def _text(*beginnings: bytes) -> _Begins:
    return lambda head: head.startswith(beginnings)


_BEGINNINGS: tuple[tuple[re.Pattern[str], _Begins], ...] = (
    (MEDIA_NAME, _box(b"moof", b"emsg")),
    (TEXT_NAME, _text(webvtt.HEADER)),
    (INIT_NAME, lambda head: head[4:8] == b"ftyp" or head == webvtt.HEADER),
    (re.compile(r"index"), _text(b'{"number":')),
    (OUTLINES_NAME, _text(OUTLINES_BEGIN)),
    # Of an earlier version, in each block of the past.
    (re.compile(r"outline"), _text(b"outline ")),
    (re.compile(r"before"), lambda head: re.fullmatch(rb"[0-9]{1,20}\n", head) is not None),
    (re.compile(MOVING), _text(MOVING_CONTENT)),
    (re.compile(SET_BACK), _text(SET_BACK_CONTENT, NEVER_SET_BACK_CONTENT)),
    (re.compile(r"cadence"), _text(b'{"frame_rate":')),
    (re.compile(r"ended"), _text(b'{"frame_rate":')),
    (re.compile(r"recording"), _text(b'{"id":')),
    (re.compile(r"(?:master|media|iframes)\.m3u8"), _text(b"#EXTM3U\n")),
    (re.compile(r"manifest\.mpd"), lambda head: head.startswith(b"<") and b"urn:mpeg:dash:schema" in head),
    (re.compile(r"event(-[1-9][0-9]{0,2})?\.head"), _box(b"ftyp")),
)
"""How our files begin, by name."""


def is_ours(folder: OpenFolder, name: str) -> bool:
    """Return whether a file that isn't in an index was written by us, completely."""
    try:
        descriptor = folder.open_file(name)
    except (NotOursError, FileNotFoundError):
        return False
    with os.fdopen(descriptor, "rb", buffering=0):
        size = os.fstat(descriptor).st_size
        return is_our_content(name, size, lambda offset, length: os.pread(descriptor, length, offset))


def is_our_content(name: str, size: int, read: Callable[[int, int], bytes]) -> bool:
    """Return whether what a file or object of a name has was written by us, completely.

    Args:
        size: how many bytes it has.
        read: reads bytes of it, by their offset and number; fewer behind its end.
    """
    begins = next((begins for pattern, begins in _BEGINNINGS if pattern.fullmatch(name)), None)
    if begins is None or not begins(read(0, min(size, _HEAD_BYTES))):
        return False
    if MEDIA_NAME.fullmatch(name):
        return _is_media(read, size)
    if TEXT_NAME.fullmatch(name):
        return size <= MAX_TEXT_BYTES and is_text(read(0, size))
    if INIT_NAME.fullmatch(name):
        return size <= MAX_INIT_BYTES and is_init(read(0, size))
    if outlines := OUTLINES_NAME.fullmatch(name):
        return size <= MAX_OUTLINES_BYTES and is_outline_group(read(0, size), int(outlines[1]))
    return True


def is_unfinished(folder: OpenFolder, name: str) -> bool:
    """Return whether a file is what is left of one of ours that was being written."""
    found = _UNFINISHED.fullmatch(name) if name.endswith(TEMPORARY) else None
    begins = (
        None
        if found is None
        else next((begins for pattern, begins in _BEGINNINGS if pattern.fullmatch(found[1])), None)
    )
    if begins is None:
        return False
    try:
        head = folder.read_head(name, _HEAD_BYTES)
    except (NotOursError, FileNotFoundError):
        return False
    return not head or begins(head)


def _is_media(read: Callable[[int, int], bytes], size: int) -> bool:
    try:
        with ReaderGuard("a segment on disk"):
            check_live_segment(read, size)
    except MediaError:
        return False
    return True


def is_text(data: bytes) -> bool:
    """Return whether bytes are a WebVTT segment of ours."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return data.startswith(_TEXT_HEAD) and data.endswith(b"\n\n")


def is_init(data: bytes) -> bool:
    """Return whether bytes are an init segment of one track, or what stands for that of a text."""
    if data == webvtt.HEADER:
        return True
    reader = FragmentReader()
    try:
        with ReaderGuard("an init segment on disk"):
            reader.receive_data(data)
            reader.receive_eof()
            events = list(reader.events())
    except MediaError:
        return False
    return len(events) == 1 and isinstance(events[0], InitSegment) and len(events[0].tracks) == 1


def erase(folder: OpenFolder, depth: int = MAX_DEPTH) -> bool:
    """Remove what is ours in a folder and in those that are in it; the rest stays.

    Args:
        depth: how many more folders may lie in each other.

    Returns:
        Whether it is empty now.

    Raises:
        OSError: a file of the DVR can't be removed.
    """
    sizes = _listed_sizes(folder)
    empty = True
    for entry in list(folder.entries()):
        name = entry.name
        if entry.is_file(follow_symlinks=False):
            gone = name in sizes and folder.remove(name, sizes[name])
            gone = gone or ((is_unfinished(folder, name) or is_ours(folder, name)) and folder.remove(name))
        else:
            gone = (
                entry.is_dir(follow_symlinks=False)
                and name != ASIDE
                and FOLDER_NAME.fullmatch(name) is not None
                and depth > 1
                and _erase_folder(folder, name, depth - 1)
            )
        empty = empty and gone
    return empty


def _erase_folder(folder: OpenFolder, name: str, depth: int) -> bool:
    with folder.folder(name) as inner:
        empty = erase(inner, depth)
    return empty and folder.remove_folder(name)


def erase_in(folder: OpenFolder, name: str) -> bool:
    """Remove the DVR's files from a folder within another; return whether the folder is gone.

    Raises:
        NotOursError: no folder has that name.
        OSError: a file of the DVR can't be removed.
    """
    try:
        return _erase_folder(folder, name, MAX_DEPTH)
    except FileNotFoundError:
        return True


def _listed_sizes(folder: OpenFolder) -> dict[str, int]:
    """Return the lengths of the segments in an index; none if there is no readable index."""
    try:
        return sizes_of(index.read(folder).lines.values())
    except OSError:
        return {}


def sizes_of(lines: Iterable[IndexLine]) -> dict[str, int]:
    """Return the lengths in bytes of the files of the segments that lines of an index name."""
    listed = (line for line in lines if line.parts)
    return {segment_uri(line.number, one): line.size for line in listed for one in ("m4s", "vtt")}
