"""Facts about films for the library's catalogue: whether HLS can be made, and which texts there are.

Everything here blocks on the disk, and may be called from several threads at once. The index of a film that
nobody plays stays in memory for no longer than those of others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import msgspec

from media.errors import MediaError
from media.mp4.codecs.colour import Colour
from packager.library.file_probe import NO_TEXT, BurnedSubtitles, Facts, SubtitleTrack, TextFacts
from packager.library.local_storage import NotFoundError
from packager.process.ffmpeg_discovery import BusyError
from packager.reader_guard import ReaderGuard
from packager.transient_errors import will_pass
from packager.vod.clip_sequence import TRACKS, ClipSequence
from packager.vod.file_lookup import IndexedFiles, all_text_tracks, offered_indexes
from packager.vod.index.chapters import music_chapters
from packager.vod.index.file_index import FileIndex
from packager.vod.playlists import CHAPTERS_NAME, title_files
from packager.vod.segments.independent_segments import UNKNOWN, is_drawable
from packager.vod.text.text_playlists import TEXT_FOLDER, text_title

_FACTS = msgspec.json.Decoder(Facts)


class FilmFacts:
    """Facts about the films and titles of a library; BusyError where they can't be found out now."""

    def __init__(self, files: IndexedFiles, *, thumbnails: bool) -> None:
        self._files = files
        self._thumbnails = thumbnails

    def obstacle(self, name: str) -> str | None:
        """Return one line that says why no HLS can be made of a file or title; None if it can."""
        try:
            with ReaderGuard(name):
                found = self._files.resolve(name, played=False)
                if found[0].name:
                    title_files([(one.name, one.index, UNKNOWN) for one in found])
        except (MediaError, NotFoundError, OSError) as error:
            if isinstance(error, OSError) and will_pass(error):
                raise BusyError(str(error)) from error
            return str(error)
        return None

    def is_encoded(self, name: str) -> bool:
        """Return whether browsers that lack a film's codecs play renditions that are encoded on request."""
        try:
            found = self._files.resolve(name, played=False)
        except (MediaError, NotFoundError):
            return False
        except OSError as error:
            raise BusyError(str(error)) from error
        indexes = offered_indexes(found)
        own = [track for index in indexes for track in (*index.tracks, *index.only_encoded)]
        kinds = {track.video for track in own}
        played = {track.video for track in own if track.plays_everywhere}
        encoded = {track.video for index in indexes for track in index.encoded}
        return bool(encoded) and kinds <= encoded | played

    def has_thumbnails(self, name: str) -> bool:
        """Return whether a film's beginning shows that thumbnails can be made."""
        try:
            for one in self._files.resolve(name, played=False) if self._thumbnails else ():
                with ReaderGuard(name), self._files.open(one.path) as file:
                    video, samples = one.index.picture, one.index.reading(file.pread)
                    if video is not None and is_drawable(video, samples):
                        return True
        except (MediaError, NotFoundError):
            return False
        except OSError as error:
            raise BusyError(str(error)) from error
        return False

    def _is_music_with_chapters(self, name: str) -> bool:
        if not name.lower().endswith(".mp3"):
            return False
        with self._files.open(name) as file:
            return bool(music_chapters(name, file.pread))

    def colour(self, name: str) -> Colour | None:
        """Return the colours of a film's picture, of those too that only a decoder reads; None if unknown."""
        try:
            found = self._files.resolve(name, played=False)
        except (MediaError, NotFoundError):
            return None
        except OSError as error:
            raise BusyError(str(error)) from error
        tracks = (track for one in found for track in (*one.index.tracks, *one.index.only_encoded))
        return next((track.entry.taken_colour for track in tracks if track.video), None)

    def text(self, name: str) -> TextFacts:
        """Return the subtitles and chapters of a file or title."""
        try:
            with ReaderGuard(name):
                if self._is_music_with_chapters(name):
                    return TextFacts(chapters=f"{name}/{CHAPTERS_NAME}")
                found = [
                    replace(one, sidecars=self._files.sidecars(one.path))
                    for one in self._files.resolve(name, played=False)
                ]
                best = max(found, key=lambda one: len(all_text_tracks(one.index, one.sidecars)[0]))
                tracks, left_out = all_text_tracks(best.index, best.sidecars)
        except (MediaError, NotFoundError):
            return NO_TEXT
        except OSError as error:
            raise BusyError(str(error)) from error
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
        unused = [(name, reason) for one in found for name, reason in self._files.unused(one.path)]
        names = {one.named.name for one in best.sidecars}
        unused += [
            (name, line[len(name) + 2 :])
            for line in left_out
            for name in names
            if line.startswith(f"{name}: ")
        ]
        chapters = [f"{one.path}/{CHAPTERS_NAME}" for one in found if one.index.chapters]
        # A title's files have different ones.
        burned = () if found[0].name else tuple(_burned(best.index))
        return TextFacts(
            tuple(subtitles),
            tuple(left_out),
            chapters[0] if chapters else None,
            burned,
            tuple(dict.fromkeys(unused)),
        )


def _burned(index: FileIndex) -> Iterator[BurnedSubtitles]:
    """Return the subtitles that encoded renditions of a file have in their pictures, each of another name."""
    if not any(track.video for track in index.encoded):
        return
    names = set[str]()
    for number, one in enumerate(index.picture_subtitles, 1):
        name = text_title(one)
        name = f"{name} ({number})" if name in names else name
        names.add(name)
        yield BurnedSubtitles(number, name, one.language, one.default, one.forced, one.sdh)


def sequence_facts(
    write_sequence: Callable[[str, str, Callable[[ClipSequence], bytes]], bytes], name: str
) -> Facts:
    """Return the facts about a playlist of clips; its reason where it can't be played.

    Args:
        write_sequence: see `Titles.sequence`.

    Raises:
        BusyError: they can't be found out now.
    """
    try:
        with ReaderGuard(name):
            return _FACTS.decode(write_sequence(name, "facts", _written_facts))
    except (MediaError, NotFoundError, OSError) as error:
        if isinstance(error, OSError) and will_pass(error):
            raise BusyError(str(error)) from error
        return Facts(reason=str(error), obstacle=str(error))


def _written_facts(sequence: ClipSequence) -> bytes:
    stretches, last = sequence.stretches, sequence.periods[-1]
    picture = max(stretches.get("video", ()), key=lambda one: one.resolution, default=None)
    width, height = (None, None) if picture is None else picture.resolution
    facts = Facts(
        float(last.start + (last.duration or 0)),
        width,
        height,
        None if picture is None else float(picture.frame_rate),
        codec_strings=tuple(stretches[track][0].codec for track in TRACKS if track in stretches),
    )
    return msgspec.json.encode(facts)
