"""The library as VOD: names are resolved to files and titles, and their playlists and segments are given out.

Everything here blocks on the disk and may be called from several threads at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from urllib.parse import quote
from weakref import WeakValueDictionary

import structlog

from media.errors import MalformedError, MediaError, TooLargeError, UnsupportedError
from media.mp4.chapters import Chapter
from packager.concurrency import Threads
from packager.library.file_probe import NO_TEXT, SubtitleTrack, TextFacts
from packager.library.local_storage import NotFoundError
from packager.library.storage_interface import Identity, LibraryFile, Storage
from packager.process.ffmpeg_discovery import BusyError
from packager.single_flight_cache import CacheLimits, SingleFlightCache
from packager.transient_errors import will_pass
from packager.vod.clip_sequence import ClipSequence, make_sequence, read_sequence
from packager.vod.file_lookup import (
    IndexedFile,
    IndexedFiles,
    all_text_tracks,
    find_segmented_track,
    find_track,
)
from packager.vod.index.chapters import chapters_within, read_chapters
from packager.vod.index.file_index import FileIndex, OfferedTrack
from packager.vod.limits import DEFAULT_LIMITS, TitleLimits
from packager.vod.manifest import manifest
from packager.vod.pictures.i_frame_file import (
    IFrameFile,
    IFrames,
    OpenIFrames,
    decodable_i_frames,
    marked_i_frames,
)
from packager.vod.pictures.storyboard import OpenStoryboard, Storyboard, make_storyboard, suffices
from packager.vod.playlists import (
    CHAPTERS_NAME,
    Files,
    OfferedFile,
    media_playlist,
    multivariant_playlist,
    title_files,
)
from packager.vod.segments.clip import WHOLE, Clip, clipped, shown_bounds
from packager.vod.segments.independent_segments import UNKNOWN, SegmentStarts, is_drawable, segment_starts
from packager.vod.segments.segment import FilmSegment, OpenSegment, make_segment
from packager.vod.text.sidecars import Sidecar
from packager.vod.text.text_playlists import TEXT_FOLDER, text_playlist, text_title
from packager.vod.text.text_tracks import TextTrack, mp4_segment, webvtt_file, webvtt_segment

log = structlog.get_logger()

LARGE_TEXT_SHARE = 4
"""A text that takes more than one part in so many of the memory for all of them isn't kept."""

TextKey = tuple[str, tuple[object, ...]]
"""The kind of a text, and the versions of the files that the text describes."""


class Titles:
    """Playlists and segments of a library's films and titles, by their names.

    Args:
        thumbnails: whether playlists and manifests name them.

    Attributes:
        threads: where to call what is here, so that only VOD waits for the making of indexes.
    """

    def __init__(
        self, library: Storage, limits: TitleLimits = DEFAULT_LIMITS, *, thumbnails: bool = False
    ) -> None:
        self._library = library
        self.threads = Threads(limits.threads, "vod")
        self._thumbnails = thumbnails
        self._limits = limits
        self._files = IndexedFiles(library, limits)
        # Whoever reads the same segment at the same time reads by one header: that may have megabytes.
        self._open: WeakValueDictionary[tuple[Identity, str, int, tuple[int, int] | None], FilmSegment] = (
            WeakValueDictionary()
        )
        self._starts = SingleFlightCache[Identity, SegmentStarts](
            CacheLimits(items=limits.indexes, wait_seconds=limits.wait_seconds)
        )
        # Playlists and manifests, by what they are and the files that they are of.
        self._texts = SingleFlightCache[TextKey, bytes](
            CacheLimits(
                items=limits.texts,
                nbytes=limits.text_bytes,
                item_bytes=limits.text_bytes // LARGE_TEXT_SHARE,
                wait_seconds=limits.wait_seconds,
            ),
            size=len,
        )
        of_i_frames = CacheLimits(items=limits.i_frame_files, wait_seconds=limits.wait_seconds)
        self._marked = SingleFlightCache[Identity, IFrames | None](of_i_frames)
        self._i_frame_files = SingleFlightCache[Identity, IFrameFile](of_i_frames)
        # Apart from those of whole films, at which it takes long to look.
        self._clip_i_frame_files = SingleFlightCache[tuple[Identity, tuple[int, int]], IFrameFile](
            of_i_frames
        )

    @property
    def index_count(self) -> int:
        """How many indexes are in memory."""
        return len(self._files)

    @property
    def open_segments(self) -> int:
        """How many different segments are being read."""
        return len(self._open)

    def multivariant_playlist(self, name: str, clip: Clip = WHOLE) -> str:
        """Write the multivariant playlist of a file, or of the title that has this name.

        Args:
            name: relative to the library; the file's, or the renditions' common part.

        Raises:
            NotFoundError: there is neither.
            ClipError: it has no such part.
            MediaError: it can't be packaged; the text says in one line why.
            OSError: it can't be read.
        """
        found = self._files.resolve(name)
        return self._once(
            f"master{clip.query}",
            found,
            lambda: multivariant_playlist(self._offered(found, clip)).render().encode(),
        ).decode()

    def manifest(self, name: str, clip: Clip = WHOLE) -> bytes:
        """Write the DASH manifest of a file, or of the title that has this name.

        Args:
            name: relative to the library; the file's, or the renditions' common part.

        Raises:
            NotFoundError: there is neither.
            ClipError: it has no such part.
            MediaError: it can't be packaged, or has too many segments for a manifest.
            OSError: it can't be read.
        """
        found = self._files.resolve(name)
        indexes = [one.index for one in found]
        segments = sum(len(index.video.sizes) for index in indexes if index.video is not None)
        segments += max(sum(len(sound.sizes) for sound in index.sounds) for index in indexes)
        limit = self._limits.manifest_segments
        if segments > limit:
            raise TooLargeError(f"a manifest of {segments} segments: more than {limit}; HLS has them")

        def make() -> bytes:
            files = self._offered(found, clip)
            if segments + max(len(one.text_tracks) * len(one.index.text.whole) for one in files) > limit:
                log.warning("subtitles_left_out", title=name, reason="too many segments for one manifest")
                files = [replace(one, text_tracks=()) for one in files]
            return manifest(files).render()

        return self._once(f"manifest{clip.query}", found, make)

    def media_playlist(self, name: str, track: str, clip: Clip = WHOLE) -> str:
        """Write the media playlist of a file's track; raises as :meth:`multivariant_playlist`."""
        with self._library.open(name) as file:
            index, identity = self._files.index(file), file.identity
        find_track(index, name, track)
        found = [IndexedFile(name, "", identity, index)]

        def make() -> bytes:
            offered = find_track(clipped(index, clip), name, track)
            return media_playlist(offered, index.lost_picture).render().encode()

        return self._once(f"track {track}{clip.query}", found, make).decode()

    def _offered(self, found: Sequence[IndexedFile], clip: Clip) -> Files:
        """Say of one file, or of a title's, where they are and how their segments begin."""
        if len(found) == 1 and not found[0].name:
            files: Files = [OfferedFile("", found[0].index, self._segment_starts(found[0]))]
        else:
            files = title_files([(one.name, one.index, self._segment_starts(one)) for one in found])
        texts = [all_text_tracks(one.index, one.sidecars) for one in found]
        files = [
            replace(file, text_tracks=tracks, left_out=left_out)
            for file, (tracks, left_out) in zip(files, texts, strict=True)
        ]
        files = [
            replace(file, i_frames=self._marked_i_frames(one)) if file.starts.lone_pictures else file
            for file, one in zip(files, found, strict=True)
        ]
        if clip != WHOLE:
            return [_clipped_file(file, clip) for file in files]
        if self._thumbnails and any(file.starts.lone_pictures for file in files):
            with contextlib.suppress(UnsupportedError):  # sound alone has none
                files = [replace(files[0], storyboard=self._storyboard(found)), *files[1:]]
        return files

    def text_playlist(self, name: str, track: str, clip: Clip = WHOLE) -> bytes:
        """Write the media playlist of a file's text track; raises as :meth:`multivariant_playlist`."""
        found = self._files.find(name)
        folder = self._text_track(found, track).version.folder
        return self._once(
            f"text {folder}{clip.query}",
            [found],
            lambda: text_playlist(clipped(found.index, clip).text, folder).render().encode(),
        )

    def text_track(self, name: str, track: str, version: str | None = None) -> TextTrack:
        """Find a file's text track; raises as :meth:`multivariant_playlist`.

        Args:
            version: which one of the track is wanted; None: whichever there is.
        """
        return self._text_track(self._files.find(name), track, version)

    def text_segment(
        self,
        name: str,
        track: str,
        number: int,
        begin: int | None = None,
        until: int | None = None,
        *,
        version: str | None = None,
    ) -> bytes:
        """Write a segment of a file's text track as WebVTT; raises as :meth:`multivariant_playlist`.

        Args:
            begin: milliseconds before which no cue may begin, where it is a clip's; else None.
            until: milliseconds at which all cues end, where another clip follows; else None.
            version: which one of the track is wanted; None: whichever there is.
        """
        with self._library.open(name) as file:
            found = self._files.of(file, name)
            text, times = self._text_track(found, track, version), found.index.text_times
            written = webvtt_segment(text, times, number, file.pread, begin, until)
        if written is None:
            raise NotFoundError(f"{name}: {track} has no segment {number}")
        return written

    def mp4_text_segment(
        self,
        name: str,
        track: str,
        number: int,
        clip: tuple[int, int] | None = None,
        *,
        version: str | None = None,
    ) -> bytes:
        """Write a segment of a file's text track in MP4; raises as :meth:`multivariant_playlist`.

        Args:
            clip: when a clip begins and ends in milliseconds, which has only that of it; else None.
            version: which one of the track is wanted; None: whichever there is.
        """
        with self._library.open(name) as file:
            found = self._files.of(file, name)
            text, times = self._text_track(found, track, version), found.index.text_times
            written = mp4_segment(text, times, number, file.pread, clip)
        if written is None:
            raise NotFoundError(f"{name}: {track} has no segment {number}")
        return written

    def whole_text(self, name: str, track: str) -> bytes:
        """Write a file's text track as one WebVTT file, by the time of the file itself.

        Raises as :meth:`multivariant_playlist`.
        """
        with self._library.open(name) as file:
            found = self._files.of(file, name)
            text, index = self._text_track(found, track), found.index
            return self._once(
                f"text file {track}",
                [found],
                lambda: webvtt_file(text, index.text_times, index.lead_in, file.pread),
            )

    def chapters(self, name: str, clip: Clip = WHOLE) -> list[Chapter]:
        """Return a file's chapters; NotFoundError if there are none, else as `multivariant_playlist`."""
        with self._library.open(name) as file:
            index = self._files.index(file)
            found = read_chapters(index.chapters, file.pread, index.duration, index.lead_in)
        if clip != WHOLE:
            times = clipped(index, clip).text.times
            found = chapters_within(found, int(times[0]), int(times[-1]))
        if not found:
            raise NotFoundError(f"{name} has no chapters")
        return found

    @staticmethod
    def _text_track(found: IndexedFile, track: str, version: str | None = None) -> TextTrack:
        tracks, _ = all_text_tracks(found.index, found.sidecars)
        for one in tracks:
            if one.name == track and version in (None, one.version.name):
                return one
        raise NotFoundError(f"{found.path} has no text track {track}")

    def _segment_starts(self, found: IndexedFile) -> SegmentStarts:
        """Look at how a file's segments begin, when it is first offered: a library's list needs no such."""
        with self._library.open(found.path) as file:
            if file.identity != found.identity:
                return UNKNOWN
            read = found.index.reading(file.pread)
            return self._starts.get(found.identity, lambda: segment_starts(found.index, read))

    def _once(self, kind: str, found: Sequence[IndexedFile], make: Callable[[], bytes]) -> bytes:
        """Write a text, or give it as it was written before.

        Args:
            found: the files that it is of, and their names in it.
        """
        return self._texts.get((kind, tuple(one.version for one in found)), make)

    def sequence(self, name: str, kind: str, write: Callable[[ClipSequence], bytes]) -> bytes:
        """Write a text of a playlist of clips; raises as :meth:`multivariant_playlist`.

        Args:
            name: of its file, relative to the library.
        """
        limits = self._limits.sequences
        with self._library.open(name) as file:
            if file.size > limits.file_bytes:
                raise TooLargeError(f"{file.size} bytes: more than {limits.file_bytes}")
            clips = read_sequence(file.pread(0, limits.file_bytes), limits)
            versions: list[object] = [file.identity]
        folder = name.rpartition("/")[0]

        def opened(path: str) -> LibraryFile:
            try:
                return self._library.open(f"{folder}/{path}".removeprefix("/"))
            except NotFoundError:
                raise MalformedError(f"{path!r}: no such file") from None

        def offered(path: str) -> OfferedFile:
            with opened(path) as film:
                index = self._files.index(film)
                index.require_whole()
                found = IndexedFile(f"{folder}/{path}".removeprefix("/"), "", film.identity, index)
            tracks, _ = all_text_tracks(index, sidecars[path])
            starts = self._segment_starts(found)
            return OfferedFile(f"../{quote(path)}/", index, starts, text_tracks=tracks)

        sidecars: dict[str, Sequence[Sidecar]] = {}
        for path in dict.fromkeys(one.path for one in clips):
            with opened(path) as film:
                versions.append(film.identity)
            sidecars[path] = self._files.sidecars(f"{folder}/{path}".removeprefix("/"))
            versions.append(tuple((one.named, one.identity) for one in sidecars[path]))
        return self._texts.get((kind, tuple(versions)), lambda: write(make_sequence(clips, offered, limits)))

    def track(self, name: str, track: str, version: str | None = None) -> OfferedTrack:
        """Find a file's track; raises as :meth:`multivariant_playlist`."""
        with self._library.open(name) as file:
            return find_segmented_track(self._files.versioned(file, version), name, track)

    def open_segment(
        self,
        name: str,
        track: str,
        number: int,
        bounds: tuple[int, int] | None = None,
        *,
        version: str | None = None,
    ) -> OpenSegment:
        """Open the file for a segment, or for what a clip has of it; raises as :meth:`multivariant_playlist`.

        Args:
            bounds: from when to when of it, in ticks; None: all.
            version: which one of the file is wanted; None: whichever there is.
        """
        file = self._library.open(name)
        try:
            index = self._files.versioned(file, version)
            offered = find_segmented_track(index, name, track)
            key = file.identity, track, number, bounds
            segment = self._open.get(key) or make_segment(index, offered, number, bounds)
            if segment is None:
                raise NotFoundError(f"{name}: {track} has no segment {number}")
            return OpenSegment(file, offered, self._open.setdefault(key, segment), index.reading(file.pread))
        except BaseException:
            file.close()
            raise

    def open_indexed(self, name: str) -> LibraryFile:
        """Open a file that has an index or gets one; raises as :meth:`multivariant_playlist`."""
        return self._files.open_indexed(name)

    def known_segment(
        self,
        file: LibraryFile,
        track: str,
        number: int,
        bounds: tuple[int, int] | None = None,
        *,
        version: str | None = None,
    ) -> OpenSegment | None:
        """Find a segment of an open file without blocking, and without work that others would wait for.

        Args:
            file: the file, which stays the caller's.
            bounds: from when to when of it, in ticks; None: all.
            version: which one of the file is wanted; None: whichever there is.

        Returns:
            None where :meth:`open_segment` has to find or refuse it: the file isn't indexed, or of another
            version, the segment is very long or has to be put together, or there is none.
        """
        index = self._files.known(file, version)
        offered = None if index is None else index.segmented_track(track)
        if index is None or offered is None or not 0 <= number < len(offered.cuts) - 1:
            return None
        if int(offered.cuts[number + 1] - offered.cuts[number]) > self._limits.quick_samples:
            return None
        key = file.identity, track, number, bounds
        try:
            segment = self._open.get(key) or make_segment(index, offered, number, bounds)
        except MediaError:
            return None
        if segment is None or int(segment.offsets[0]) >= file.size:
            return None
        return OpenSegment(file, offered, self._open.setdefault(key, segment), file.pread)

    def storyboard(self, name: str) -> Storyboard:
        """Lay out the small pictures of a file or a title; raises as :meth:`multivariant_playlist`."""
        return self._storyboard(self._files.resolve(name))

    def _storyboard(self, found: Sequence[IndexedFile]) -> Storyboard:
        """Choose the smallest rendition that suffices, or else the largest."""
        shown = [(one.index.video.resolution, one) for one in found if one.index.video is not None]
        shown.sort(key=lambda item: item[0])
        large = [one for resolution, one in shown if suffices(resolution)]
        chosen = next(iter(large), shown[-1][1] if shown else found[0])
        return make_storyboard(
            chosen.path, chosen.identity[2:], chosen.index.video, self._marked_i_frames(chosen)
        )

    def open_storyboard(self, storyboard: Storyboard) -> OpenStoryboard:
        """Open a storyboard's file.

        Raises:
            NotFoundError: there is no such file any more, or another one.
            MediaError: it can't be packaged any more.
            OSError: it can't be read.
        """
        file = self._library.open(storyboard.path)
        try:
            if file.identity[2:] != storyboard.validators:
                raise NotFoundError(storyboard.path)
            if int(storyboard.offsets.max()) < file.size:
                return OpenStoryboard(file, file.pread)
            return OpenStoryboard(file, self._files.index(file).reading(file.pread))
        except BaseException:
            file.close()
            raise

    def _marked_i_frames(self, found: IndexedFile) -> IFrames | None:
        """List the I-frames that a film's tables mark, once."""
        video = found.index.video
        if video is None:
            return None
        return self._marked.get(found.identity, lambda: marked_i_frames(video))

    def i_frame_playlist(self, name: str, track: str, clip: Clip = WHOLE) -> str:
        """Write the I-frame playlist of a file's video track; raises as :meth:`multivariant_playlist`."""
        with self._library.open(name) as file:
            index, identity = self._files.index(file), file.identity
            offered = find_track(clipped(index, clip), name, track)
            bounds = None if clip == WHOLE else shown_bounds(offered, clip)
            frames = self._i_frame_file(name, track, index, file, bounds)

        def make() -> bytes:
            delay = offered.delay + int(frames.frames.times[0] - offered.times[0])
            return frames.playlist(delay).render().encode()

        return self._once(f"iframes{clip.query}", [IndexedFile(name, "", identity, index)], make).decode()

    def open_i_frames(
        self, name: str, track: str, bounds: tuple[int, int] | None = None, *, version: str | None = None
    ) -> OpenIFrames:
        """Open the file for its I-frames; raises as :meth:`multivariant_playlist`.

        Args:
            bounds: of a clip, when it begins and ends in ticks; None: all are wanted.
            version: which one of the file is wanted; None: whichever there is.
        """
        file = self._library.open(name)
        try:
            index = self._files.versioned(file, version)
            frames = self._i_frame_file(name, track, index, file, bounds)
            return OpenIFrames(file, frames, index.reading(file.pread))
        except BaseException:
            file.close()
            raise

    def known_i_frames(
        self, file: LibraryFile, track: str, *, version: str | None = None
    ) -> OpenIFrames | None:
        """Find the I-frames of an open file without blocking; None where :meth:`open_i_frames` has to."""
        index = self._files.known(file, version)
        offered = None if index is None else index.track(track)
        if index is None or offered is None or not offered.video or index.assembled is not None:
            return None
        frames = self._i_frame_files.find(file.identity)
        return None if frames is None else OpenIFrames(file, frames, file.pread)

    def _i_frame_file(
        self,
        name: str,
        track: str,
        index: FileIndex,
        file: LibraryFile,
        bounds: tuple[int, int] | None,
    ) -> IFrameFile:
        """Look at a film's I-frames, once, and choose those within a clip."""
        offered = find_track(index, name, track)
        found = IndexedFile(name, "", file.identity, index)
        marked = self._marked_i_frames(found) if offered.video else None
        if marked is None:
            raise NotFoundError(f"{name}: {track} has no I-frames")

        def make() -> IFrameFile:
            frames = decodable_i_frames(offered, marked, index.reading(file.pread))
            return IFrameFile(offered, marked, frames, index.size)

        whole = self._i_frame_files.get(file.identity, make)
        if bounds is None:
            return whole
        listed, within = marked.within(*bounds), whole.frames.within(*bounds)
        if listed is None or within is None:
            raise NotFoundError(f"{name}: {track} has no stretch {bounds}")
        return self._clip_i_frame_files.get(
            (file.identity, bounds), lambda: IFrameFile(offered, listed, within, index.size)
        )

    def obstacle(self, name: str) -> str | None:
        """Say in one line why no HLS can be made of a file or title; None where it can.

        Whoever looks at a whole library keeps no index of a file that nobody plays for longer than of others.

        Raises:
            BusyError: that can't be told now.
        """
        try:
            found = self._files.resolve(name, played=False)
            if found[0].name:
                title_files([(one.name, one.index, UNKNOWN) for one in found])
        except (MediaError, NotFoundError, OSError) as error:
            if isinstance(error, OSError) and will_pass(error):
                raise BusyError(str(error)) from error
            return str(error)
        return None

    def has_thumbnails(self, name: str) -> bool:
        """Say by a film's beginning whether small pictures can be made of it.

        Raises:
            BusyError: that can't be told now.
        """
        try:
            for one in self._files.resolve(name, played=False) if self._thumbnails else ():
                with self._library.open(one.path) as file:
                    video, samples = one.index.video, one.index.reading(file.pread)
                    if video is not None and is_drawable(video, samples):
                        return True
        except (MediaError, NotFoundError):
            return False
        except OSError as error:
            raise BusyError(str(error)) from error
        return False

    def text(self, name: str) -> TextFacts:
        """Say what subtitles and chapters a file or title has.

        Raises:
            BusyError: that can't be told now.
        """
        try:
            found = [
                replace(one, sidecars=self._files.sidecars(one.path))
                for one in self._files.resolve(name, played=False)
            ]
        except (MediaError, NotFoundError):
            return NO_TEXT
        except OSError as error:
            raise BusyError(str(error)) from error
        best = max(found, key=lambda one: len(all_text_tracks(one.index, one.sidecars)[0]))
        tracks, left_out = all_text_tracks(best.index, best.sidecars)
        subtitles = [
            SubtitleTrack(
                text_title(track),
                track.language,
                track.default,
                track.forced,
                track.sdh,
                track.file or None,
                f"{best.path}/{TEXT_FOLDER}/{track.name}.vtt",
            )
            for track in tracks
        ]
        chapters = [f"{one.path}/{CHAPTERS_NAME}" for one in found if one.index.chapters]
        return TextFacts(tuple(subtitles), tuple(left_out), chapters[0] if chapters else None)


def _clipped_file(file: OfferedFile, clip: Clip) -> OfferedFile:
    """Return a file's tracks within a clip."""
    index, frames = clipped(file.index, clip), file.i_frames
    if frames is not None:
        frames = None if index.video is None else frames.within(*shown_bounds(index.video, clip))
    return replace(file, index=index, i_frames=frames)
