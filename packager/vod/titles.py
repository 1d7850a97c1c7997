"""The library as VOD: names are resolved to files and titles, whose playlists and manifests are written.

Everything here blocks on the disk and may be called from several threads at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

import structlog

from media.errors import MalformedError, MediaError, TooLargeError, UnsupportedError
from packager.library.local_storage import NotFoundError
from packager.library.storage_interface import Identity, LibraryFile, Storage
from packager.library.title_files import RENDITION
from packager.single_flight_cache import CacheLimits, SingleFlightCache
from packager.threads import ClientThreads, Threads
from packager.vod.clip_sequence import ClipSequence, film_of, make_sequence, read_sequence
from packager.vod.file_lookup import IndexedFile, IndexedFiles, all_text_tracks, find_track, offered_indexes
from packager.vod.film_facts import FilmFacts
from packager.vod.film_pictures import FilmPictures
from packager.vod.film_segments import FilmSegments
from packager.vod.film_texts import FilmTexts, find_text_track
from packager.vod.index.file_index import FileIndex
from packager.vod.index.index_cache import EncodedTracks
from packager.vod.limits import DEFAULT_LIMITS, TitleLimits
from packager.vod.manifest import manifest
from packager.vod.pictures.storyboard import Storyboard
from packager.vod.playlists import (
    Files,
    OfferedFile,
    common_target_duration,
    media_playlist,
    multivariant_playlist,
    title_files,
)
from packager.vod.segments.clip import WHOLE, Clip, ClipError, clipped, shown_bounds
from packager.vod.segments.independent_segments import UNKNOWN, SegmentStarts, segment_starts
from packager.vod.text.sidecars import Sidecar
from packager.vod.text.text_playlists import text_playlist
from packager.vod.text.text_tracks import webvtt_file

log = structlog.get_logger()

LARGE_TEXT_SHARE = 4
"""A text that takes more than one part in so many of the memory for all of them isn't kept."""

TextKey = tuple[str, tuple[object, ...]]
"""The kind of a text, and the versions of the files that the text describes."""

MAX_SEQUENCE_BYTES = 256 << 10
"""Longest file of a sequence."""


class Titles:
    """Playlists and manifests of a library's films and titles, by their names.

    Args:
        thumbnails: whether playlists and manifests name them.
        encoded: returns the renditions of a film that are encoded on request.

    Attributes:
        threads: threads for all calls, which clients share in turns.
        files: the films, with their indexes.
        segments: the films' segments and init segments.
        pictures: the films' I-frames and storyboards.
        texts: the films' subtitles and chapters.
        facts: the facts about films for the catalogue.
    """

    def __init__(
        self,
        library: Storage,
        limits: TitleLimits = DEFAULT_LIMITS,
        *,
        thumbnails: bool = False,
        encoded: EncodedTracks = lambda _: (),
    ) -> None:
        self.threads = Threads(replace(limits.threads, wait_seconds=limits.wait_seconds), "vod")
        self._clip_threads = Threads(limits.clips, "clips")
        self.files = IndexedFiles(library, limits, encoded)
        self.segments = FilmSegments(self.files)
        self.pictures = FilmPictures(self.files, limits)
        self.texts = FilmTexts(self.files)
        self.facts = FilmFacts(self.files, thumbnails=thumbnails)
        self._thumbnails = thumbnails
        self._limits = limits
        self._starts = SingleFlightCache[Identity, SegmentStarts](CacheLimits(items=limits.indexes))
        # Playlists and manifests, by their kind and the files that they describe.
        self._written = SingleFlightCache[TextKey, bytes](
            CacheLimits(
                items=limits.texts,
                nbytes=limits.text_bytes,
                item_bytes=limits.text_bytes // LARGE_TEXT_SHARE,
            ),
            size=len,
        )

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
        found = self.files.resolve(name)
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
        found = self.files.resolve(name)
        indexes = offered_indexes(found)
        segments = sum(len(picture.sizes) for index in indexes for picture in index.pictures)
        segments += max(sum(len(sound.sizes) for sound in index.all_sounds) for index in indexes)
        limit = self._limits.manifest_segments
        if segments > limit:
            raise TooLargeError(f"a manifest of {segments} segments: more than {limit}; HLS has them")

        def make() -> bytes:
            files = self._offered(found, clip)
            if segments + max(len(one.text_tracks) * len(one.index.text.whole) for one in files) > limit:
                log.warning(
                    "subtitles were left out", title=name, reason="too many segments for one manifest"
                )
                files = [replace(one, text_tracks=()) for one in files]
            return manifest(files).render()

        return self._once(f"manifest{clip.query}", found, make)

    def media_playlist(self, name: str, track: str, clip: Clip = WHOLE) -> str:
        """Write the media playlist of a file's track; raises as :meth:`multivariant_playlist`."""
        with self.files.open(name) as file:
            index, identity = self.files.described(file, name), file.identity
        find_track(index, name, track)
        found = [IndexedFile(name, "", identity, index), *self._renditions_beside(name)]

        def make() -> bytes:
            own, others = clipped(index, clip), list[FileIndex]()
            for one in found[1:]:
                with contextlib.suppress(MediaError, ClipError):  # another rendition may be shorter
                    others.append(clipped(one.index, clip))
            target = common_target_duration((own, *others))
            return media_playlist(find_track(own, name, track), target, index.lost_picture).render().encode()

        return self._once(f"track {track}{clip.query}", found, make).decode()

    async def threads_for_clips(self, name: str, client: str, key: Hashable | None = None) -> ClientThreads:
        """Return the threads for a client's texts of clips, whose bounds it can vary at will.

        Args:
            name: the film, which has an index then.
            client: such as a network; clients take turns.
            key: names the result; see `Threads.of`.

        Raises:
            NotReadyError: too many wait. Also raises as :meth:`multivariant_playlist`.
        """
        await self.threads.of(client, ("film", name)).run(self.files.resolve, name)
        return self._clip_threads.of(client, key)

    def _renditions_beside(self, name: str) -> list[IndexedFile]:
        """Return the other renditions of the title that a file is one of."""
        folder, _, file_name = name.rpartition("/")
        title = RENDITION.fullmatch(file_name)
        if title is None:
            return []
        try:
            found = self.files.resolve(f"{folder}/{title['title']}".removeprefix("/"))
        except (MediaError, NotFoundError, OSError):
            return []
        return [one for one in found if one.path != name]

    def _offered(self, found: Sequence[IndexedFile], clip: Clip) -> Files:
        """Return a file, or a title's files, with addresses and with how their segments begin."""
        offered = zip(found, offered_indexes(found), strict=True)
        renditions = [(one.name, index, self._segment_starts(one)) for one, index in offered]
        is_title = bool(found[0].name)
        files = title_files(renditions, are_held=clip == WHOLE) if is_title else [OfferedFile(*renditions[0])]
        texts = [all_text_tracks(one.index, one.sidecars) for one in found]
        files = [
            replace(file, text_tracks=tracks, left_out=left_out)
            for file, (tracks, left_out) in zip(files, texts, strict=True)
        ]
        files = [
            replace(file, i_frames=self.pictures.marked(one)) if file.starts.lone_pictures else file
            for file, one in zip(files, found, strict=True)
        ]
        # Of films that are encoded alone the small pictures are drawn from their own key frames.
        has_lone_pictures = any(file.starts.lone_pictures or file.index.only_encoded for file in files)
        if clip != WHOLE:
            files = [_clipped_file(file, clip) for file in files]
        files = [replace(file, encoded_i_frames=file.index.encoded_i_frames) for file in files]
        # The small pictures are at the times of the film, and have no subtitles.
        if self._thumbnails and has_lone_pictures and replace(clip, subtitles=0) == WHOLE:
            with contextlib.suppress(UnsupportedError):  # sound alone has none
                files = [replace(files[0], storyboard=self.pictures.storyboard(found)), *files[1:]]
        return files

    def text_playlist(self, name: str, track: str, clip: Clip = WHOLE) -> bytes:
        """Write the media playlist of a file's text track; raises as :meth:`multivariant_playlist`."""
        found = self.files.find(name)
        folder = find_text_track(found, track).version.folder
        return self._once(
            f"text {folder}{clip.query}",
            [found],
            lambda: self._text(clipped(found.index, clip), folder),
        )

    def _text(self, index: FileIndex, folder: str) -> bytes:
        return text_playlist(index.text, folder, common_target_duration([index])).render().encode()

    def whole_text(self, name: str, track: str) -> bytes:
        """Write a file's text track as one WebVTT file, by the time of the file itself.

        Raises as :meth:`multivariant_playlist`.
        """
        with self.files.open(name) as file:
            found = self.files.of(file, name)
            text, index = find_text_track(found, track), found.index
            return self._once(
                f"text file {track}",
                [found],
                lambda: webvtt_file(text, index.text_times, index.lead_in, file.pread),
            )

    def _segment_starts(self, found: IndexedFile) -> SegmentStarts:
        """Examine how a file's segments begin, once it is first offered, not for a list of the library."""
        with self.files.open(found.path) as file:
            if file.identity != found.identity:
                return UNKNOWN
            read = found.index.reading(file.pread)
            return self._starts.get(found.identity, lambda: segment_starts(found.index, read))

    def _once(self, kind: str, found: Sequence[IndexedFile], make: Callable[[], bytes]) -> bytes:
        """Return a cached text, or write it.

        Args:
            found: the files that the text describes, with their names in it.
        """
        return self._written.get((kind, tuple(one.version for one in found)), make)

    def film_of_clip(self, name: str, wanted: str) -> str:
        """Return the path of the film that has what is at an address beneath a playlist of clips.

        Raises as :meth:`multivariant_playlist`, also where no clip has the address.

        Args:
            name: of the playlist's file, relative to the library.
            wanted: the address beneath that of the playlist, which begins with the clip's number.
        """
        found = film_of(self.sequence(name, "addresses", ClipSequence.addresses), wanted)
        if found is None:
            raise NotFoundError(wanted)
        return f"{name.rpartition('/')[0]}/{found}".removeprefix("/")

    def sequence(self, name: str, kind: str, write: Callable[[ClipSequence], bytes]) -> bytes:
        """Write a text of a playlist of clips; raises as :meth:`multivariant_playlist`.

        Args:
            name: of its file, relative to the library.
        """
        limits = self._limits
        with self.files.open(name) as file:
            if file.size > MAX_SEQUENCE_BYTES:
                raise TooLargeError(f"{file.size} bytes: more than {MAX_SEQUENCE_BYTES}")
            clips = read_sequence(file.pread(0, MAX_SEQUENCE_BYTES), limits)
            versions: list[object] = [file.identity]
        folder = name.rpartition("/")[0]

        def opened(path: str) -> LibraryFile:
            try:
                return self.files.open(f"{folder}/{path}".removeprefix("/"))
            except NotFoundError:
                raise MalformedError(f"{path!r}: no such file") from None

        def offered(path: str) -> OfferedFile:
            with opened(path) as film:
                index = self.files.index(film)
                index.require_whole()
                found = IndexedFile(f"{folder}/{path}".removeprefix("/"), "", film.identity, index)
            tracks, _ = all_text_tracks(index, sidecars[path])
            starts = self._segment_starts(found)
            return OfferedFile("", index, starts, text_tracks=tracks)

        sidecars: dict[str, Sequence[Sidecar]] = {}
        for path in dict.fromkeys(one.path for one in clips):
            with opened(path) as film:
                versions.append(film.identity)
            sidecars[path] = self.files.sidecars(f"{folder}/{path}".removeprefix("/"))
            versions.append(tuple((one.named, one.identity) for one in sidecars[path]))
        key = kind, tuple(versions)
        return self._written.get(key, lambda: write(make_sequence(clips, offered, limits)))

    def storyboard(self, name: str) -> Storyboard:
        """Lay out the small pictures of a file or a title; raises as :meth:`multivariant_playlist`."""
        return self.pictures.storyboard(self.files.resolve(name))

    def i_frame_playlist(self, name: str, track: str, clip: Clip = WHOLE) -> str:
        """Write the I-frame playlist of a file's video track; raises as :meth:`multivariant_playlist`."""
        with self.files.open(name) as file:
            index, identity = self.files.described(file, name), file.identity
            offered = find_track(clipped(index, clip), name, track)
            bounds = None if clip == WHOLE else shown_bounds(offered, clip)
            frames = self.pictures.i_frame_file(index, file, track, bounds)

        def make() -> bytes:
            delay = offered.delay + int(frames.frames.times[0] - offered.times[0])
            return frames.playlist(delay).render().encode()

        return self._once(f"iframes{clip.query}", [IndexedFile(name, "", identity, index)], make).decode()


def _clipped_file(file: OfferedFile, clip: Clip) -> OfferedFile:
    """Return a file's tracks within a clip."""
    index, frames = clipped(file.index, clip), file.i_frames
    if frames is not None:
        frames = None if index.video is None else frames.within(*shown_bounds(index.video, clip))
    return replace(file, index=index, i_frames=frames)
