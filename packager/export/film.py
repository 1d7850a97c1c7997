"""What is to be written of one film: every file of its package, in the order in which it may appear."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from packager.export.record import MANIFEST_NAME, MASTER_NAME, MEDIA_NAME
from packager.export.single_file import as_single_file, head
from packager.library.storage import LocalFile, NotFoundError
from packager.vod.access_points import SegmentStarts, segment_starts
from packager.vod.chapters import NO_CHAPTERS
from packager.vod.index import FileIndex, OfferedTrack, read_index
from packager.vod.manifest import manifest
from packager.vod.playlists import (
    INIT_NAME,
    SEGMENT_SUFFIX,
    SINGLE_FILE_NAME,
    Files,
    OfferedFile,
    media_playlist,
    multivariant_playlist,
    title_files,
)
from packager.vod.segment import Segment, make_segment

READ_BYTES = 4 << 20
"""How much of a segment is read at a time; one may have a gigabyte."""


@dataclass(frozen=True, slots=True)
class Output:
    """A file to be written.

    Attributes:
        folder: in which it is, within the film's own; "" for that itself.
        name: its name.
        size: in bytes.
        pieces: gives its bytes.
        segments: how many segments are in it.
    """

    folder: str
    name: str
    size: int
    pieces: Callable[[], Iterator[bytes]]
    segments: int = 0

    @property
    def path(self) -> str:
        """Its path in the film's folder."""
        return f"{self.folder}/{self.name}".removeprefix("/")

    @classmethod
    def of(cls, folder: str, name: str, data: bytes) -> Output:
        """Make one of bytes that are there."""
        return cls(folder, name, len(data), lambda: iter((data,)))


@dataclass(frozen=True, slots=True)
class Film:
    """An input and what it offers.

    Attributes:
        name: of its file.
        file: the file itself, open while segments are written.
        index: what it offers.
        starts: how its segments begin.
    """

    name: str
    file: LocalFile
    index: FileIndex
    starts: SegmentStarts

    @property
    def segments(self) -> int:
        """How many segments all tracks have together."""
        return sum(len(track.sizes) for track in self.index.tracks)

    def outputs(self) -> Iterator[Output]:
        """Give the files to write: media before what names them."""
        for track in self.index.tracks:
            if track.single_file:
                yield self._single_file(track)
                continue
            yield Output.of(track.name, INIT_NAME, track.init)
            for number in range(len(track.sizes)):
                segment = self._segment(track, number)
                name = f"{number}{SEGMENT_SUFFIX}"
                yield Output(track.name, name, segment.size, lambda made=segment: self._read(made), 1)  # type: ignore[misc]
        for track in self.index.tracks:
            text = media_playlist(track, self.index.lost_picture).render()
            yield Output.of(track.name, MEDIA_NAME, text.encode())
        yield from texts([OfferedFile("", self.index, self.starts)])

    def _single_file(self, track: OfferedTrack) -> Output:
        sap = self.starts.video if track.video else self.starts.sound
        begin = b"".join(head(track, sap))

        def pieces() -> Iterator[bytes]:
            yield begin
            for number in range(len(track.sizes)):
                yield from self._read(self._segment(track, number))

        count = len(track.sizes)
        return Output(track.name, SINGLE_FILE_NAME, len(begin) + int(track.sizes.sum()), pieces, count)

    def _segment(self, track: OfferedTrack, number: int) -> Segment:
        return _segment(self.file, self.index, track, number)

    def _read(self, segment: Segment) -> Iterator[bytes]:
        for offset in range(0, segment.size, READ_BYTES):
            try:
                yield segment.read(self.file.pread, offset, READ_BYTES)
            except OSError as error:
                raise OSError(error.errno, error.strerror, self.file.path) from error


def _segment(file: LocalFile, index: FileIndex, track: OfferedTrack, number: int) -> Segment:
    segment = make_segment(index, track, number)
    if segment is None:
        raise NotFoundError(f"{file.path}: {track.name} has no segment {number}")
    return segment


def read_film(name: str, file: LocalFile, *, single_file: bool) -> Film:
    """Read what a file offers.

    Args:
        name: its name.
        file: the open file.
        single_file: whether all segments of a track go into one.

    Raises:
        MediaError: it can't be packaged; the text says why.
        OSError: it can't be read.
    """
    index = read_index(file.pread, file.size)
    index.require_whole()
    index = replace(index, chapters=NO_CHAPTERS)
    if single_file:

        def make(track: OfferedTrack, number: int) -> Segment:
            return _segment(file, index, track, number)

        index = replace(index, tracks=tuple(as_single_file(track, make) for track in index.tracks))
    return Film(name, file, index, segment_starts(index, file.pread))


def texts(files: Files) -> Iterator[Output]:
    """Give the manifest and the multivariant playlist of a film or of a title."""
    yield Output.of("", MANIFEST_NAME, manifest(files).render())
    yield Output.of("", MASTER_NAME, multivariant_playlist(files).render().encode())


def title_texts(renditions: list[Film]) -> Iterator[Output]:
    """Give those of a title, whose renditions are in folders beside its own.

    Raises:
        MediaError: they aren't renditions of one title; the text says why.
    """
    return texts(title_files([(one.name, one.index, one.starts) for one in renditions]))
