"""The package of one film: every file that is to be written, in the order in which they may appear."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from media.mp4.text import wvtt
from media.mp4.text.chapters import Chapter
from media.ps.title_set import TitleSet
from packager.encode.renditions import EncodedRendition, EncodedRenditions, find_rendition
from packager.export.package_record import MANIFEST_NAME, MASTER_NAME, MEDIA_NAME
from packager.export.single_file import as_single_file, head
from packager.library.local_storage import LocalFile, NotFoundError
from packager.safe_files import OpenFolder
from packager.vod.file_lookup import all_text_tracks
from packager.vod.index.chapters import NO_CHAPTERS, chapters_json, read_chapters
from packager.vod.index.file_index import FileIndex, OfferedTrack
from packager.vod.index.index_builder import read_index
from packager.vod.manifest import manifest
from packager.vod.movie.versioned_addresses import UNVERSIONED
from packager.vod.pictures.i_frame_file import (
    I_FRAMES_NAME,
    PLAYLIST_NAME,
    IFrameFile,
    IFrames,
    decodable_i_frames,
    marked_i_frames,
)
from packager.vod.playlists import (
    CHAPTERS_NAME,
    INIT_NAME,
    SEGMENT_SUFFIX,
    SINGLE_FILE_NAME,
    Files,
    OfferedFile,
    common_target_duration,
    media_playlist,
    multivariant_playlist,
    title_files,
)
from packager.vod.segments.independent_segments import SAP_CLOSED, SegmentStarts, segment_starts
from packager.vod.segments.segment import FilmSegment, make_segment
from packager.vod.text.sidecars import Sidecar
from packager.vod.text.text_playlists import TEXT_FOLDER, TEXT_SUFFIX, text_playlist
from packager.vod.text.text_tracks import TextTrack, mp4_segment, webvtt_segment

READ_BYTES = 4 << 20
"""How much of a segment is read at a time; one may have a gigabyte."""


@dataclass(frozen=True, slots=True)
class Output:
    """A file of a film's package that is to be written.

    Attributes:
        folder: in which it is, within the film's own; "" for that itself.
        size: in bytes.
        pieces: yields its bytes, in pieces.
        segments: how many segments the file has, apart from encoded ones.
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
        """Make one whose bytes are known already."""
        return cls(folder, name, len(data), lambda: iter((data,)))


@dataclass(frozen=True, slots=True)
class Film:
    """An open film, and the tracks and texts of its package.

    Attributes:
        file: the file itself, open while segments are written.
        offered: the tracks and texts, with addresses relative to the film's own folder.
        i_frames: the I-frames that have a playlist of their own; None for none.
        single_file: whether all segments of a track go into one.
        renditions: the encoded renditions, which playlists name behind the film's own tracks.
        encoded: the folder with the encoded segments, once these exist.
    """

    name: str
    file: LocalFile
    offered: OfferedFile
    i_frames: IFrameFile | None
    chapters: Sequence[Chapter]
    single_file: bool = False
    renditions: Sequence[EncodedRendition] = ()
    encoded: OpenFolder | None = None

    @property
    def index(self) -> FileIndex:
        """The index of its file."""
        return self.offered.index

    @property
    def left_out(self) -> tuple[str, ...]:
        """A line for each track and each file beside it that isn't offered."""
        return (*self.index.left_out, *self.offered.left_out)

    @property
    def segments(self) -> int:
        """How many segments all tracks have together."""
        return sum(len(track.sizes) for track in self.index.tracks) + self.encoded_segments

    @property
    def encoded_segments(self) -> int:
        """How many segments are encoded."""
        return sum(len(track.sizes) for track in self.index.encoded)

    def outputs(self) -> Iterator[Output]:
        """Return the files to write: media before what names them."""
        tracks = (*self.index.tracks, *self.index.encoded)
        for track in tracks:
            if track.single_file:
                yield self._single_file(track)
                continue
            yield Output.of(track.name, INIT_NAME, track.init)
            for number in range(len(track.sizes)):
                name = f"{number}{SEGMENT_SUFFIX}"
                if track.is_encoded:
                    size = int(track.sizes[number])
                    yield Output(track.name, name, size, partial(self._encoded_segment, track, number))
                    continue
                segment = self._segment(track, number)
                yield Output(track.name, name, segment.size, partial(self._read, segment), 1)
        target = common_target_duration([self.index])
        for track in tracks:
            text = media_playlist(track, target, self.index.lost_picture).render()
            yield Output.of(track.name, MEDIA_NAME, text.encode())
        yield from self._i_frames()
        for one in self.offered.text_tracks:
            yield from self._subtitles(one)
        if self.chapters:
            yield Output.of("", CHAPTERS_NAME, chapters_json(self.chapters))
        yield from texts([self.offered])

    def _i_frames(self) -> Iterator[Output]:
        frames, video = self.i_frames, self.index.video
        if frames is not None and video is not None:
            yield Output(video.name, I_FRAMES_NAME, frames.size, partial(self._read, frames))
            yield Output.of(video.name, PLAYLIST_NAME, frames.playlist(video.delay).render().encode())

    def _subtitles(self, track: TextTrack) -> Iterator[Output]:
        """Return the files of a text track: WebVTT for HLS, and the same in MP4 for DASH."""
        folder, segments = f"{TEXT_FOLDER}/{track.name}", self.index.text
        target = common_target_duration([self.index])
        yield Output.of(folder, INIT_NAME, wvtt.INIT)
        for number in range(len(segments.whole) - 1):
            text = webvtt_segment(track, segments.whole, number, self.file.pread)
            fragment = mp4_segment(track, segments.whole, number, self.file.pread)
            if text is not None and fragment is not None:
                yield Output.of(folder, f"{number}{TEXT_SUFFIX}", text)
                yield Output.of(folder, f"{number}{SEGMENT_SUFFIX}", fragment)
        yield Output.of(
            folder,
            MEDIA_NAME,
            text_playlist(segments, least_target=target).render().encode(),
        )

    def _single_file(self, track: OfferedTrack) -> Output:
        sap = self.offered.starts.video if track.video else self.offered.starts.sound
        begin = b"".join(head(track, SAP_CLOSED if track.is_encoded else sap))

        def pieces() -> Iterator[bytes]:
            yield begin
            for number in range(len(track.sizes)):
                if track.is_encoded:
                    yield from self._encoded_segment(track, number)
                else:
                    yield from self._read(self._segment(track, number))

        count = 0 if track.is_encoded else len(track.sizes)
        return Output(track.name, SINGLE_FILE_NAME, len(begin) + int(track.sizes.sum()), pieces, count)

    def _encoded_segment(self, track: OfferedTrack, number: int) -> Iterator[bytes]:
        if self.encoded is None:
            raise ValueError(f"{track.name}: nothing was encoded")
        with self.encoded.folder(track.name) as folder:
            yield folder.read(f"{number}{SEGMENT_SUFFIX}", int(track.sizes[number]))

    def _segment(self, track: OfferedTrack, number: int) -> FilmSegment:
        return _segment(self.file, self.index, track, number)

    def _read(self, segment: FilmSegment | IFrameFile) -> Iterator[bytes]:
        read = self.index.reading(self.file.pread)
        for offset in range(0, segment.size, READ_BYTES):
            try:
                yield segment.read(read, offset, READ_BYTES)
            except OSError as error:
                raise OSError(error.errno, error.strerror, self.file.path) from error


def _segment(file: LocalFile, index: FileIndex, track: OfferedTrack, number: int) -> FilmSegment:
    segment = make_segment(index, track, number)
    if segment is None:
        raise NotFoundError(f"{file.path}: {track.name} has no segment {number}")
    return segment


def read_film(
    name: str,
    file: LocalFile,
    sidecars: Sequence[Sidecar],
    renditions: EncodedRenditions,
    title_set: TitleSet | None,
    *,
    single_file: bool,
) -> Film:
    """Read what the package of a film offers.

    Args:
        sidecars: the subtitle files beside it.
        renditions: the encoded renditions that a film may have; `NO_RENDITIONS` for none.
        title_set: the description beside a DVD's VOB; or None.
        single_file: whether all segments of a track go into one.

    Raises:
        MediaError: it can't be packaged; the text says why.
        OSError: it can't be read.
    """
    index = read_index(file.pread, file.size)
    index = index if title_set is None else index.with_title_set(title_set)
    # A package has no pictures with subtitles in them.
    index = replace(index, picture_subtitles=()).with_encoded(renditions.tracks(index))
    encoded = [one for track in index.encoded if (one := find_rendition(index, track.name)) is not None]
    index = index.with_encoded(tuple(replace(track, version=UNVERSIONED) for track in index.encoded))
    index.require_whole()
    if single_file:
        tracks = [
            as_single_file(
                track,
                np.array([_segment(file, index, track, at).size for at in range(len(track.sizes))], np.int64),
            )
            for track in index.tracks
        ]
        index = replace(index, tracks=tuple(tracks))
    chapters = read_chapters(index.chapters, file.pread, index.duration, index.lead_in)
    if not chapters:
        index = replace(index, chapters=NO_CHAPTERS)
    starts = segment_starts(index, index.reading(file.pread))
    text_tracks, left_out = all_text_tracks(index, sidecars)
    i_frames, marked = _lone_pictures(index, starts, file)
    offered = OfferedFile("", index, starts, marked, text_tracks, left_out)
    return Film(name, file, offered, i_frames, chapters, single_file, encoded)


def _lone_pictures(
    index: FileIndex, starts: SegmentStarts, file: LocalFile
) -> tuple[IFrameFile, IFrames] | tuple[None, None]:
    """Find the I-frames, where they are offered by themselves, and those that the file marks as such."""
    marked = marked_i_frames(index.video) if index.video is not None and starts.lone_pictures else None
    if index.video is None or marked is None:
        return None, None
    frames = decodable_i_frames(index.video, marked, index.reading(file.pread))
    return IFrameFile(index.video, marked, frames, index.size), marked


def texts(files: Files) -> Iterator[Output]:
    """Return the manifest and the multivariant playlist of a film or of a title."""
    yield Output.of("", MANIFEST_NAME, manifest(files).render())
    yield Output.of("", MASTER_NAME, multivariant_playlist(files).render().encode())


def title_texts(renditions: list[Film]) -> Iterator[Output]:
    """Return the manifest and the multivariant playlist of a title, whose renditions lie beside it.

    Raises:
        MediaError: they aren't renditions of one title; the text says why.
    """
    found = [(one.name, one.index, one.offered.starts) for one in renditions]
    files = title_files(found, are_held=False)
    return texts(
        [replace(one.offered, prefix=file.prefix) for file, one in zip(files, renditions, strict=True)]
    )
