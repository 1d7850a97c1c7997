"""I-frames and storyboards of a library's films, for players that seek or wind.

Everything here but `known_i_frames` blocks on the disk, and may be called from several threads at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from packager.library.local_storage import NotFoundError
from packager.library.storage_interface import Identity, LibraryFile
from packager.single_flight_cache import CacheLimits, SingleFlightCache
from packager.vod.file_lookup import IndexedFile, IndexedFiles, find_track
from packager.vod.film_segments import OpenMedia
from packager.vod.index.file_index import FileIndex
from packager.vod.limits import TitleLimits
from packager.vod.pictures.i_frame_file import IFrameFile, IFrames, decodable_i_frames, marked_i_frames
from packager.vod.pictures.storyboard import OpenStoryboard, Storyboard, make_storyboard, suffices


class FilmPictures:
    """The I-frames and storyboards of a library's films."""

    def __init__(self, files: IndexedFiles, limits: TitleLimits) -> None:
        self._files = files
        kept = CacheLimits(items=limits.i_frame_files)
        self._marked = SingleFlightCache[Identity, IFrames | None](kept)
        self._i_frame_files = SingleFlightCache[Identity, IFrameFile](kept)
        # Apart from those of whole films, which take long to read.
        self._clip_i_frame_files = SingleFlightCache[tuple[Identity, tuple[int, int]], IFrameFile](kept)

    def marked(self, found: IndexedFile) -> IFrames | None:
        """List the I-frames that a film's tables mark, once; None if there is no video, or no use of them."""
        video = found.index.picture
        if video is None:
            return None
        return self._marked.get(found.identity, lambda: marked_i_frames(video))

    def i_frames(
        self,
        file: LibraryFile,
        track: str,
        bounds: tuple[int, int] | None = None,
        *,
        version: str | None = None,
    ) -> OpenMedia:
        """Find the I-frames of an open film; raises as :meth:`FilmSegments.of`.

        Args:
            file: the film, which stays the caller's.
            bounds: begin and end of a clip in ticks; None: all I-frames are wanted.
            version: the wanted version of the film; None: any.
        """
        index = self._files.versioned(file, version)
        frames = self.i_frame_file(index, file, track, bounds)
        return OpenMedia(file, frames, index.reading(file.pread))

    def known_i_frames(
        self, file: LibraryFile, track: str, *, version: str | None = None
    ) -> IFrameFile | None:
        """Find the I-frames of an open film without blocking; None where `i_frames` has to."""
        index = self._files.known(file, version)
        offered = None if index is None else index.track(track)
        if index is None or offered is None or not offered.video or index.assembled is not None:
            return None
        return self._i_frame_files.find(file.identity)

    def i_frame_file(
        self, index: FileIndex, file: LibraryFile, track: str, bounds: tuple[int, int] | None
    ) -> IFrameFile:
        """Read a film's I-frames, once, and choose those within a clip."""
        offered = find_track(index, file.path, track)
        marked = self.marked(IndexedFile(file.path, "", file.identity, index)) if offered.video else None
        if marked is None:
            raise NotFoundError(f"{file.path}: {track} has no I-frames")

        def make() -> IFrameFile:
            frames = decodable_i_frames(offered, marked, index.reading(file.pread))
            return IFrameFile(offered, marked, frames, index.size)

        whole = self._i_frame_files.get(file.identity, make)
        if bounds is None:
            return whole
        listed, within = marked.within(*bounds), whole.frames.within(*bounds)
        if listed is None or within is None:
            raise NotFoundError(f"{file.path}: {track} has no stretch {bounds}")
        return self._clip_i_frame_files.get(
            (file.identity, bounds), lambda: IFrameFile(offered, listed, within, index.size)
        )

    def storyboard(self, found: Sequence[IndexedFile]) -> Storyboard:
        """Lay out a title's small pictures, from the smallest rendition that suffices, or else the largest.

        Raises:
            UnsupportedError: there is no video.
        """
        shown = [(one.index.picture.resolution, one) for one in found if one.index.picture is not None]
        shown.sort(key=lambda item: item[0])
        large = [one for resolution, one in shown if suffices(resolution)]
        chosen = next(iter(large), shown[-1][1] if shown else found[0])
        seconds = max(one.index.duration for one in found)
        marked = self.marked(chosen)
        return make_storyboard(chosen.path, chosen.identity[2:], chosen.index.picture, marked, seconds)

    def open_storyboard(self, storyboard: Storyboard) -> OpenStoryboard:
        """Open a storyboard's film.

        Raises:
            NotFoundError: there is no such file any more, or another one.
            MediaError: the film can't be packaged any more.
            OSError: the film can't be read.
        """
        file = self._files.open(storyboard.path)
        try:
            if file.identity[2:] != storyboard.validators:
                raise NotFoundError(storyboard.path)
            if int(storyboard.offsets.max()) < file.size:
                return OpenStoryboard(file, file.pread)
            return OpenStoryboard(file, self._files.index(file).reading(file.pread))
        except BaseException:
            file.close()
            raise
