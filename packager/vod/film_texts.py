"""Subtitles, captions and chapters of a library's films, from the films and from the files beside them.

Everything here blocks on the disk, and may be called from several threads at once.
"""

from __future__ import annotations

from media.mp4.text.chapters import Chapter
from packager.library.local_storage import NotFoundError
from packager.vod.file_lookup import IndexedFile, IndexedFiles, all_text_tracks
from packager.vod.index.chapters import chapters_within, music_chapters, read_chapters
from packager.vod.segments.clip import WHOLE, Clip, clipped
from packager.vod.text.text_tracks import TextTrack, mp4_segment, webvtt_segment


class FilmTexts:
    """The text tracks and chapters of a library's films; raises as :meth:`Titles.multivariant_playlist`."""

    def __init__(self, files: IndexedFiles) -> None:
        self._files = files

    def track(self, name: str, track: str, version: str | None = None) -> TextTrack:
        """Find a film's text track.

        Args:
            version: the wanted version of the track; None: any.
        """
        return find_text_track(self._files.find(name), track, version)

    def webvtt_segment(
        self,
        name: str,
        track: str,
        number: int,
        begin: int | None = None,
        until: int | None = None,
        *,
        version: str | None = None,
    ) -> bytes:
        """Write a segment of a film's text track as WebVTT.

        Args:
            begin: milliseconds before which no cue of a clip may begin; None: there is no clip.
            until: milliseconds at which all cues end, because another clip follows; None: no clip does.
            version: the wanted version of the track; None: any.
        """
        with self._files.open(name) as file:
            found = self._files.of(file, name)
            text, times = find_text_track(found, track, version), found.index.text_times
            written = webvtt_segment(text, times, number, file.pread, begin, until)
        return _existing(written, name, track, number)

    def mp4_segment(
        self,
        name: str,
        track: str,
        number: int,
        clip: tuple[int, int] | None = None,
        *,
        version: str | None = None,
    ) -> bytes:
        """Write a segment of a film's text track in MP4.

        Args:
            clip: begin and end of a clip in milliseconds, whose share is written; None: the whole segment is.
            version: the wanted version of the track; None: any.
        """
        with self._files.open(name) as file:
            found = self._files.of(file, name)
            text, times = find_text_track(found, track, version), found.index.text_times
            written = mp4_segment(text, times, number, file.pread, clip)
        return _existing(written, name, track, number)

    def chapters(self, name: str, clip: Clip = WHOLE) -> list[Chapter]:
        """Return a film's chapters; NotFoundError if there are none."""
        with self._files.open(name) as file:
            found = music_chapters(name, file.pread) if clip == WHOLE else []
            if not found:
                index = self._files.index(file)
                found = read_chapters(index.chapters, file.pread, index.duration, index.lead_in)
                if clip != WHOLE:
                    times = clipped(index, clip).text.times
                    found = chapters_within(found, int(times[0]), int(times[-1]))
        if not found:
            raise NotFoundError(f"{name} has no chapters")
        return found


def find_text_track(found: IndexedFile, track: str, version: str | None = None) -> TextTrack:
    """Find a text track by its name; NotFoundError if there is none, or none of the wanted version."""
    tracks, _ = all_text_tracks(found.index, found.sidecars)
    for one in tracks:
        if one.name == track and version in (None, one.version.name):
            return one
    raise NotFoundError(f"{found.path} has no text track {track}")


def _existing(written: bytes | None, name: str, track: str, number: int) -> bytes:
    if written is None:
        raise NotFoundError(f"{name}: {track} has no segment {number}")
    return written
