"""VOD ahead of time: the same playlists and segments as on request, written to a folder for any web server.

Every file is written beside its place and renamed, the playlists after what they name; so a run that was cut
short can be run again, and a player never meets half a segment. Links in the folder aren't followed, and only
what is as such a run writes it is written over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import structlog

from media.errors import MediaError, UnsupportedError
from packager.data_folder import DataFolder, NotOursError, OpenFolder
from packager.library.file_listing import RENDITION
from packager.library.storage import Library, LocalFile, NotFoundError
from packager.vod.access_points import SegmentStarts, segment_starts
from packager.vod.index import FileIndex, OfferedTrack, read_index
from packager.vod.playlists import (
    INIT_NAME,
    SEGMENT_SUFFIX,
    OfferedFile,
    media_playlist,
    multivariant_playlist,
    title_files,
)
from packager.vod.segment import make_segment

log = structlog.get_logger()

MASTER_NAME = "master.m3u8"
MEDIA_NAME = "media.m3u8"

PLAYLIST_BEGIN = b"#EXTM3U"

READ_BYTES = 4 << 20
"""How much of a segment is read at a time; one may have a gigabyte."""

Progress = Callable[[str, int, int], None]
"""Takes the name of the input, the segments that are written, and the number of all of its."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What came of one input: its name in the output folder, its index, and how its segments begin."""

    name: str
    index: FileIndex
    starts: SegmentStarts


def export(inputs: Sequence[Path], out: Path, progress: Progress = lambda *_: None) -> list[Path]:
    """Package files.

    Args:
        inputs: MP4 or MOV files, each of another name.
        out: the folder for the result; made when missing.
        progress: told of every segment.

    Returns:
        The multivariant playlists, those of titles (``TITLE.720p.mp4``, …) last.

    Raises:
        NotFoundError: an input isn't there, or isn't a file.
        MediaError: an input can't be packaged; the text says why.
        OSError: reading or writing failed.
    """
    names = [path.name for path in inputs]
    for name in names:
        if names.count(name) > 1:
            raise UnsupportedError(f"two inputs are called {name}; package them into different folders")
    done = [_export_file(path, out, progress) for path in inputs]
    return [out / item.name / MASTER_NAME for item in done] + list(_export_titles(done, out))


def _opened(path: Path) -> LocalFile:
    absolute = path.absolute()
    try:
        return Library(absolute.parent, follow_symlinks=True).open(absolute.name)
    except NotFoundError:
        # Not by its name alone: whoever asked knows it by its folder, too.
        raise NotFoundError(str(path)) from None


def _export_file(path: Path, out: Path, progress: Progress) -> Exported:
    with _opened(path) as file:
        try:
            index = read_index(file.pread, file.size)
            index.require_whole()
        except MediaError as error:
            raise type(error)(f"{path}: {error}") from error
        for line in index.left_out:
            log.warning("track_left_out", file=str(path), reason=line)
        starts = segment_starts(index, file.pread)
        total = sum(len(track.durations) for track in index.tracks)
        done = 0
        progress(path.name, done, total)
        for track in index.tracks:
            folder = (path.name, track.name)
            _write(out, (*folder, INIT_NAME), track.init)
            for number in range(len(track.durations)):
                pieces = _segment_bytes(file, index, track, number)
                _write(out, (*folder, f"{number}{SEGMENT_SUFFIX}"), next(pieces), pieces)
                done += 1
                progress(path.name, done, total)
            _write(out, (*folder, MEDIA_NAME), media_playlist(track, index.lost_picture).render().encode())
    master = multivariant_playlist([OfferedFile("", index, starts)])
    _write(out, (path.name, MASTER_NAME), master.render().encode())
    return Exported(path.name, index, starts)


def _segment_bytes(file: LocalFile, index: FileIndex, track: OfferedTrack, number: int) -> Iterator[bytes]:
    segment = make_segment(index, track, number)
    if segment is None:
        raise NotFoundError(f"{file.path}: {track.name} has no segment {number}")
    for offset in range(0, segment.size, READ_BYTES):
        yield segment.read(file.pread, offset, READ_BYTES)


def _export_titles(done: Sequence[Exported], out: Path) -> Iterator[Path]:
    groups: dict[str, list[tuple[int, Exported]]] = {}
    for item in done:
        match = RENDITION.fullmatch(item.name)
        if match is not None:
            groups.setdefault(match["title"], []).append((int(match["height"]), item))
    for title, group in groups.items():
        if len(group) > 1:
            ordered = [item for _, item in sorted(group, key=lambda pair: pair[0])]
            files = title_files([(item.name, item.index, item.starts) for item in ordered])
            _write(out, (title, MASTER_NAME), multivariant_playlist(files).render().encode())
            yield out / title / MASTER_NAME


def _write(out: Path, names: Sequence[str], data: bytes, more: Iterable[bytes] = ()) -> None:
    """Write a file beneath the output folder: how it begins, and what follows.

    Raises:
        NotOursError: something else lies there, or on the way.
        OSError: it can't be written.
    """
    with DataFolder(out, tuple(names[:-1])).open(make=True) as folder:
        _check_like(folder, names[-1], data)
        folder.write_whole(names[-1], chain((data,), more), synchronized=False)


def _check_like(folder: OpenFolder, name: str, data: bytes) -> None:
    """Make sure that what is written over begins as what is written: a playlist, or the same kind of box."""
    if folder.status(name) is None:
        return
    begin, end = (0, len(PLAYLIST_BEGIN)) if data.startswith(PLAYLIST_BEGIN) else (4, 8)
    if folder.read_head(name, end)[begin:] != data[begin:end]:
        advice = "isn't written over, for it isn't of an earlier run; remove it, or choose another folder"
        raise NotOursError(folder.place_of(name), advice)
