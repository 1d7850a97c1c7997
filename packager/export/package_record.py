"""The record of a packaged folder: the written files and their sources, so that none is written again.

The record is written last. A folder may hold anybody's files, so a record is believed only if it has exactly
the shape that this module writes, and only about files that exist with the recorded sizes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from packager.library.local_storage import LocalFile
from packager.safe_files import TEMPORARY, NotOursError, OpenFolder

MASTER_NAME = "master.m3u8"
MANIFEST_NAME = "manifest.mpd"
MEDIA_NAME = "media.m3u8"
RECORD_NAME = "packaged.json"

RECORD_BEGIN = b'{"made_by": "headwater package", '
"""How every record begins: what doesn't isn't ours, and isn't written over."""

VERSION = 1
"""Of how packages are made; a new one lets all be made again."""

MAX_RECORD_BYTES = 4 << 20
"""Longest record; 40,000 segments take one megabyte."""

MAX_DEPTH = 2
"""How deep folders lie within a film's folder: those of subtitle tracks are within a folder of their own."""

MAX_ENTRIES = 200_000
"""Most entries of a folder that are read."""

_OURS = re.compile(
    r"(?:(?:video(?:-[0-9]+p)?|audio(?:-[0-9]+)?(?:-aac)?|subtitles/[^/]+)/)?"
    r"(?:(?:init|media|iframes)\.mp4|(?:media|master|iframes)\.m3u8|manifest\.mpd|(?:packaged|chapters)\.json"
    r"|[0-9]+\.(?:m4s|vtt))"
    rf"(?:\.[0-9a-f]{{8}}{re.escape(TEMPORARY)})?"
)


@dataclass(frozen=True, slots=True)
class Identity:
    """A version of a file: with the same of all these it is taken to be unchanged.

    Attributes:
        size: in bytes.
        modified: in nanoseconds since the epoch.
        inode: its number in the file system; another file that was put in its place has another one.
    """

    name: str
    size: int
    modified: int
    inode: int

    @classmethod
    def of(cls, file: LocalFile) -> Identity:
        """Return the identity of an open file."""
        _, inode, size, modified = file.identity
        return cls(file.path.rpartition("/")[2], size, modified, inode)


@dataclass(frozen=True, slots=True)
class Record:
    """The record of what was written to a folder.

    Attributes:
        layout: how segments are laid out in files.
        sources: versions of the files that it was made of.
        ladder: which renditions were encoded, and by which version of the encoding; empty for none.
        encoder: the program that encoded them, and its version.
        complete: whether all was written; else it is under way, or was when it was ended.
        segments: how many segments there are.
        left_out: a line for each track that isn't in it.
        files: sizes in bytes of what was written, by their paths in the folder.
    """

    layout: str
    sources: tuple[Identity, ...]
    complete: bool = False
    segments: int = 0
    left_out: tuple[str, ...] = ()
    files: Mapping[str, int] | None = None
    ladder: str = ""
    encoder: str = ""

    def render(self) -> bytes:
        """Write the record as JSON."""
        told = {
            "version": VERSION,
            "layout": self.layout,
            "complete": self.complete,
            "sources": [[one.name, one.size, one.modified, one.inode] for one in self.sources],
            "segments": self.segments,
            "left_out": list(self.left_out),
            "files": {} if self.files is None else dict(self.files),
        }
        if self.ladder:
            told |= {"ladder": self.ladder, "encoder": self.encoder}
        return RECORD_BEGIN + json.dumps(told).removeprefix("{").encode() + b"\n"

    def of_same(self, other: Record) -> bool:
        """Return whether two records are of the same files in the same layout, with the same renditions."""
        return (self.layout, self.sources, self.ladder) == (other.layout, other.sources, other.ladder)


def read_record(folder: OpenFolder) -> Record | None:
    """Read a folder's record; None where there is none that can be believed."""
    try:
        data = folder.read(RECORD_NAME, MAX_RECORD_BYTES)
    except (FileNotFoundError, NotOursError):
        return None
    if not data.startswith(RECORD_BEGIN):
        return None
    try:
        return _parsed(json.loads(data))
    except (ValueError, RecursionError, TypeError, KeyError):
        return None


def _parsed(told: Any) -> Record | None:
    if told.pop("made_by") != "headwater package" or told.pop("version") != VERSION:
        return None
    left_out, files, complete = told["left_out"], told["files"], told["complete"]
    sources = tuple(_identity(one) for one in told["sources"])
    lists = isinstance(left_out, list) and all(isinstance(line, str) for line in left_out)
    if not lists or not isinstance(files, dict) or not isinstance(complete, bool):
        return None
    sizes = {str(name): _count(size) for name, size in files.items()}
    return Record(
        str(told["layout"]),
        sources,
        complete,
        _count(told["segments"]),
        tuple(left_out),
        sizes,
        str(told.get("ladder", "")),
        str(told.get("encoder", "")),
    )


def _identity(told: Any) -> Identity:
    name, *numbers = told
    if not isinstance(name, str):
        raise TypeError
    size, modified, inode = map(_count, numbers)
    return Identity(name, size, modified, inode)


def _count(told: Any) -> int:
    if type(told) is not int:
        raise TypeError
    return told


def write(
    folder: OpenFolder, name: str, data: bytes | Iterable[bytes], *, synchronized: bool = False
) -> None:
    """Write a file; OSError names it where the system doesn't.

    Args:
        synchronized: whether a file with this name must be whole even after a power cut.
    """
    try:
        folder.write_whole(name, data, synchronized=synchronized)
    except NotOursError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, error.filename or folder.place_of(name)) from error


def written(folder: OpenFolder, depth: int = MAX_DEPTH) -> dict[str, int]:
    """Return the sizes of the files in a folder and in its folders, by their paths.

    Of what packaging doesn't write, such as links and folders that lie deeper, it is -1.
    """
    found: dict[str, int] = {}
    for name, size in _sizes(folder):
        if size is not None:
            found[name] = size
        elif not depth:
            found[name] = -1
        else:
            with folder.folder(name) as inner:
                found |= {f"{name}/{path}": size for path, size in written(inner, depth - 1).items()}
    return found


def _sizes(folder: OpenFolder) -> list[tuple[str, int | None]]:
    """Return names and sizes of the entries; None of folders, -1 of anything that is neither."""
    found: list[tuple[str, int | None]] = []
    for entry in folder.entries():
        if len(found) >= MAX_ENTRIES:
            raise NotOursError(folder.path, f"more than {MAX_ENTRIES} files; choose another folder")
        if entry.is_dir(follow_symlinks=False):
            found.append((entry.name, None))
        else:
            regular = entry.is_file(follow_symlinks=False)
            found.append((entry.name, entry.stat(follow_symlinks=False).st_size if regular else -1))
    return found


def is_whole(folder: OpenFolder, record: Record) -> bool:
    """Return whether all files of a record exist with their sizes; other files don't matter."""
    there = written(folder)
    files = record.files or {}
    return record.complete and bool(files) and all(there.get(name) == size for name, size in files.items())


def remove_others(folder: OpenFolder, record: Record) -> None:
    """Remove what isn't in a record from its folder, which has only files that packaging has written."""
    files = record.files or {}
    emptied = {path.rpartition("/")[0] for path in files} | {""}
    for path in set(written(folder)) - set(files) - {RECORD_NAME}:
        nested, _, name = path.rpartition("/")
        if nested in emptied:
            with ExitStack() as stack:
                inner = folder
                for part in nested.split("/") if nested else ():
                    inner = stack.enter_context(inner.folder(part))
                inner.remove(name)


def require_ours(folder: OpenFolder) -> None:
    """Make sure that a folder which is to be removed has only files that packaging has written.

    Raises:
        NotOursError: the folder has other files; it is unchanged.
    """
    there = written(folder)
    if not there:
        return
    if RECORD_NAME not in there or folder.read_head(RECORD_NAME, len(RECORD_BEGIN)) != RECORD_BEGIN:
        advice = "isn't written over, for it isn't of an earlier run; remove it, or choose another folder"
        raise NotOursError(folder.path, advice)
    for name, size in there.items():
        if size < 0 or not _OURS.fullmatch(name):
            advice = "isn't of an earlier run; move it away, or choose another folder"
            raise NotOursError(folder.place_of(name), advice)


def remove_ours(parent: OpenFolder, name: str) -> None:
    """Remove a folder of an earlier or interrupted run; other files stay, and then the folder, too.

    Raises:
        OSError: it can't be removed.
    """
    with parent.folder(name) as folder:
        empty_ours(folder)
    parent.remove_folder(name)


def empty_ours(folder: OpenFolder) -> None:
    """Remove all that an earlier run has written to a folder; raises as `remove_ours`."""
    require_ours(folder)
    _empty(folder)


def _empty(folder: OpenFolder) -> None:
    """Remove all files and folders in a folder, the record last."""
    for name, size in sorted(_sizes(folder), key=lambda found: found[0] == RECORD_NAME):
        if size is None:
            with folder.folder(name) as inner:
                _empty(inner)
            folder.remove_folder(name)
        else:
            folder.remove(name)
