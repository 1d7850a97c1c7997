"""The index of one film: which tracks it offers, how they are cut, and what a segment of them consists of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

import numpy as np

from media.errors import MalformedError, UnsupportedError
from media.mp4.codecs.sample_entry import SampleEntry
from media.mp4.movie.assembled_samples import AssembledSamples
from media.mp4.movie.box_arrays import Int64
from media.mp4.movie.track_box import edit_list
from media.ps.title_set import TitleSet
from packager.vod.index.chapters import NO_CHAPTERS, ChapterSource
from packager.vod.movie.edit_list import Arrangement
from packager.vod.movie.movie_reader import Read
from packager.vod.movie.versioned_addresses import UNVERSIONED, MediaVersion
from packager.vod.text.text_segment_list import TextSegments
from packager.vod.text.text_tracks import PictureSubtitles, TextTrack, segment_times

RATE_SECONDS = Fraction(1, 10)
RATE_TICKS = 1000
"""For how long frames come at a rate that counts as one."""

VARYING = Fraction(21, 20)
"""How many times the average the largest rate is where the rate changes; less is rounding."""

TRACK_BYTES = 8192
"""Memory of a track's objects beside its tables."""

SUBTITLED = "-subtitles-{}"
"""The suffix of the name of an encoded picture that has subtitles in it: their number, from 1 on."""

ENCODED_SOUND = "-aac"
"""Ending of the name of a sound's rendition that is encoded."""

ONLY_I_FRAMES = "-iframes"
"""The suffix of the name of an encoded picture of whose segments only the first frame is encoded."""

WITHOUT_EDIT_LIST = "-without-edit-list"
"""The suffix of a video track's name in the addresses of its segments that need no edit list."""

PLAYED_EVERYWHERE = (
    "mp4a.40.", "avc1.42", "avc1.4d", "avc1.58", "avc1.64", "avc3.42", "avc3.4d", "avc3.58", "avc3.64",
)  # fmt: skip
"""Beginnings of the codecs that every browser plays."""

FRAGMENT_BYTES = 128
SAMPLE_BYTES = 16
"""Bytes of a fragment's header, and of each sample in the header; only for the declared bandwidth."""


@dataclass(frozen=True, slots=True)
class OfferedTrack:
    """A track of a film as its playlists offer it.

    Attributes:
        name: its part of the address: ``video``, ``audio``, ``audio-2`` …
        track_id: the track's number in its init segment and fragments.
        video: whether it is video; else it is sound.
        timescale: its ticks per second.
        language: BCP 47 tag; None where none is known.
        title: the track's title in the file; empty without one.
        rotation: degrees clockwise, by which players turn the picture: 0, 90, 180 or 270.
        samples: on the timeline of the published media.
        cuts: number of each segment's first sample, and behind them the number of samples. Segments with the
            same first sample are parts of one stretch, in which a picture stands still.
        sizes: bytes of each segment, its header estimated.
        times: when each segment's presentation begins in ticks, and behind them the end.
        delay: ticks of nothing before it, which an edit list asks for; playlists count them to the first
            segment, for a player takes all tracks' playlists to begin together.
        begin: tick of ``times`` at which the presentation begins; not 0 in a clip.
        names: of the segments in their addresses, where they aren't their numbers from 0 on.
        query: the query of its playlist's address; "" except in a clip.
        single_file: whether all segments are in one file, behind their index; then their sizes are exact.
        has_edit_list: whether the init segment may have an edit list, which takes away the composition offset
            of the first frame; else all segments' times are those of the presentation.
        bitrate: of a track that is encoded from the film's own, in bits per second: the largest of pictures,
            the mean of sound; else 0.
        is_bounded: whether the sizes are bounds of segments that may not exist yet.
        unit: ticks of which the bounds of a clip's segments are multiples.
        most_frames: pictures that are kept of each second at most; 0: all.
        place_in_file: the place of the file's track among those of its kind, and its ID: what comes first is
            the film's default.
        roles: DASH roles of the file's track (ISO/IEC 23009-1 §5.8.5.5).
        version: its file's, which the addresses of its media have in them.
    """

    name: str
    track_id: int
    video: bool
    entry: SampleEntry
    timescale: int
    language: str | None
    title: str
    rotation: int
    samples: Arrangement
    cuts: Int64
    sizes: Int64
    times: Int64
    init: bytes
    delay: int = 0
    begin: int = 0
    names: tuple[str, ...] = ()
    query: str = ""
    single_file: bool = False
    has_edit_list: bool = True
    bitrate: int = 0
    is_bounded: bool = False
    unit: int = 1
    most_frames: int = 0
    place_in_file: tuple[int, int] = (0, 0)
    roles: tuple[str, ...] = ()
    version: MediaVersion = UNVERSIONED

    def stretch(self, number: int) -> tuple[int, int]:
        """Return the numbers of a segment's first sample and of the one behind it.

        Parts of a stretch all have its samples, of which `packager.vod.segments.held_pictures` takes some.
        """
        start = int(self.cuts[number])
        return start, int(self.cuts[int(self.cuts.searchsorted(start, "right"))])

    def is_part(self, number: int) -> bool:
        """Return whether a segment is a part of a stretch, or has a last picture that is shown for longer."""
        if not self.video or self.is_encoded:
            return False
        near = self.cuts[max(number - 1, 0) : number + 2].tolist()
        return len(set(near)) < len(near) or (self.samples.is_held and number == len(self.cuts) - 2)

    @property
    def is_encoded(self) -> bool:
        """Whether its segments are encoded from the film's own."""
        return self.bitrate > 0

    @property
    def only_i_frames(self) -> OfferedTrack:
        """An encoded picture with nothing but the first frame of each segment, which lasts as long."""
        version = MediaVersion(f"{self.version.name}i", self.version.changed)
        return replace(self, name=f"{self.name}{ONLY_I_FRAMES}", version=version)

    @property
    def plays_everywhere(self) -> bool:
        """Whether every browser has the codec: H.264 in profiles up to High, or AAC."""
        return self.entry.codec.startswith(PLAYED_EVERYWHERE)

    @property
    def is_reordered(self) -> bool:
        """Whether samples are presented in another order than they are decoded, or later."""
        table = self.samples.table
        return self.samples.start > 0 or table.offset_bounds(0, len(table)) != (0, 0)

    @property
    def without_edit_list(self) -> OfferedTrack:
        """The track for players that place segments without regard to an edit list."""
        start = self.samples.start
        written = edit_list([(0, start)])
        # §8.1.2: what is in a free space box is ignored
        init = self.init.replace(written, written.replace(b"edts", b"free")) if start else self.init
        return replace(self, name=f"{self.name}{WITHOUT_EDIT_LIST}", init=init, has_edit_list=False)

    @property
    def segment_names(self) -> Sequence[str]:
        """The names of the segments in their addresses, in order."""
        return self.names or [str(number) for number in range(len(self.sizes))]

    @property
    def duration(self) -> Fraction:
        """Seconds of all segments, with what is before the first."""
        return Fraction(int(self.times[-1] - self.times[0]) + self.delay, self.timescale)

    @property
    def durations(self) -> list[Fraction]:
        """Seconds of each segment."""
        return [Fraction(ticks, self.timescale) for ticks in self._ticks.tolist()]

    @property
    def longest(self) -> int:
        """Ticks of the longest segment."""
        return int(self._ticks.max())

    @property
    def _ticks(self) -> Int64:
        ticks = np.diff(self.times)
        ticks[0] += self.delay
        return ticks

    @property
    def resolution(self) -> tuple[int, int]:
        """Width and height in pixels as the picture is seen."""
        size = self.entry.shown_pixels
        return size if self.rotation in (0, 180) else (size[1], size[0])

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second at most: of a rate that changes the largest, of another the average."""
        shown = len(self.samples) - self.samples.hidden
        average = Fraction(shown * self.timescale, max(1, self.samples.duration))
        # Long enough that times which are rounded to coarse ticks make no difference.
        window = max(RATE_TICKS, round(RATE_SECONDS * self.timescale))
        largest = self.samples.largest_rate(window) * self.timescale
        found = largest if largest > average * VARYING else average
        return min(found, Fraction(self.most_frames)) if self.most_frames else found

    @property
    def nbytes(self) -> int:
        """Memory that it takes beside the tables of its samples, in bytes."""
        entry = sum(map(len, self.entry.boxes))
        return TRACK_BYTES + len(self.init) + entry + 3 * self.cuts.nbytes


@dataclass(frozen=True, slots=True, weakref_slot=True)
class FileIndex:
    """The index of a film's file: the tracks that it offers, and how they are cut.

    Attributes:
        tracks: the video track first, if there is one, then the sound tracks.
        size: the file's length in bytes, or that of the media which are assembled from it.
        left_out: a line for each track of video or sound that isn't offered.
        text_left_out: a line for each text track that isn't offered.
        lost_picture: why the film's video can't be packaged, so that only its sound is offered; or None.
        cut_short: describes media that the file lacks at its end; or None.
        only_encoded: tracks that can be offered only after encoding, for no player has their codec or none
            reads it in MP4; their sample entries are such that ffmpeg decodes them, and name no codec.
        obstacle: why there are no other tracks; empty if there are.
        encoded: renditions that are encoded on request, the largest picture first, then the sounds.
        nbytes: memory that the index takes, in bytes.
        text_tracks: the file's subtitles and captions.
        picture_subtitles: the file's subtitles that are pictures, and can be shown by encoded renditions.
        chapters: where the file has its chapters.
        lead_in: seconds by which the published media begin before what the file presents.
        clipped_text: the segments of text, if this is the index of a clip; else None.
        assembled: the samples that are sent in another form than the file has them; or None.
        version: the file's, which the addresses of its media have in them.
        title_set: the description beside a DVD's VOB, which languages and colours are from; or None.
    """

    tracks: tuple[OfferedTrack, ...]
    size: int
    left_out: tuple[str, ...] = ()
    lost_picture: str | None = None
    cut_short: str | None = None
    only_encoded: tuple[OfferedTrack, ...] = ()
    obstacle: str = ""
    encoded: tuple[OfferedTrack, ...] = ()
    nbytes: int = 0
    text_tracks: tuple[TextTrack, ...] = ()
    text_left_out: tuple[str, ...] = ()
    picture_subtitles: tuple[PictureSubtitles, ...] = ()
    chapters: ChapterSource = NO_CHAPTERS
    lead_in: Fraction = Fraction(0)
    clipped_text: TextSegments | None = None
    assembled: AssembledSamples | None = None
    version: MediaVersion = UNVERSIONED
    title_set: TitleSet | None = None

    def with_version(self, version: MediaVersion) -> FileIndex:
        """Return the index with the file's version in the addresses of its media."""
        return replace(
            self,
            version=version,
            tracks=tuple(replace(track, version=version) for track in self.tracks),
            only_encoded=tuple(replace(track, version=version) for track in self.only_encoded),
            text_tracks=tuple(replace(track, version=version) for track in self.text_tracks),
        )

    def with_encoded(self, encoded: tuple[OfferedTrack, ...]) -> FileIndex:
        """Return the index with renditions that are encoded on request, which are what the film lacked."""
        if not encoded:
            return self
        lost_picture = None if any(track.video for track in encoded) else self.lost_picture
        offered = tuple(f"track {track.place_in_file[1]}:" for track in encoded)
        left_out = tuple(line for line in self.left_out if not line.startswith(offered))
        shown = {f"track {one.track_id}": number for number, one in enumerate(self.picture_subtitles, 1)}
        if not encoded[0].video:
            shown = {}
        texts = [
            f"{line}: /master.m3u8?burn={shown[name]} has them in the picture" if name in shown else line
            for line in self.text_left_out
            for name in (line.partition(":")[0],)
        ]
        return replace(
            self,
            encoded=encoded,
            left_out=left_out,
            text_left_out=tuple(texts),
            obstacle="",
            lost_picture=lost_picture,
        )

    def with_title_set(self, title_set: TitleSet) -> FileIndex:
        """Return the index with the languages and the colours that a DVD's title set tells."""

        def described(tracks: tuple[OfferedTrack, ...]) -> tuple[OfferedTrack, ...]:
            told = [title_set.stream(track.place_in_file[1]) for track in tracks]
            return tuple(
                track if one is None or one.language is None else replace(track, language=one.language)
                for track, one in zip(tracks, told, strict=True)
            )

        return replace(
            self,
            title_set=title_set,
            tracks=described(self.tracks),
            only_encoded=described(self.only_encoded),
            encoded=described(self.encoded),
            picture_subtitles=tuple(one.of_title_set(title_set) for one in self.picture_subtitles),
        )

    def with_subtitles(self, number: int) -> FileIndex:
        """Return the index with nothing but encoded pictures that have subtitles in them, and all sounds.

        Args:
            number: which of the subtitles that are pictures, from 1 on.

        Raises:
            UnsupportedError: there are no such subtitles, or no encoded pictures.
        """
        names = [track.name + SUBTITLED.format(number) for track in self.encoded if track.video]
        pictures = [track for name in names if (track := self.track(name)) is not None]
        if not pictures:
            raise UnsupportedError(f"no subtitles {number} can be shown in the picture")
        sounds = [track for track in self.encoded if not track.video]
        return replace(self, tracks=self.sounds, encoded=(*pictures, *sounds), lost_picture=None)

    def reading(self, read: Read) -> Read:
        """Return a function that reads samples at the places in the tables.

        Args:
            read: reads from the file; it may block.
        """
        return read if self.assembled is None else partial(self.assembled.read, read)

    def require_offered(self) -> None:
        """Make sure that a track can be offered.

        Raises:
            UnsupportedError: none can; the text says why.
        """
        if self.obstacle:
            raise UnsupportedError(self.obstacle)

    def require_whole(self) -> None:
        """Make sure that a file which is offered as a whole lacks neither its video nor its end.

        Raises:
            UnsupportedError: it is the sound alone, or nothing; the text says why, and where the sound is.
            MalformedError: the file ends before its media do.
        """
        self.require_offered()
        if self.cut_short is not None:
            raise MalformedError(self.cut_short)
        if self.lost_picture is not None:
            sound = (*self.tracks, *self.encoded)[0].name
            raise UnsupportedError(f"{self.lost_picture}; its sound alone is at {sound}/media.m3u8")

    @property
    def video(self) -> OfferedTrack | None:
        """The video track, or None."""
        return self.tracks[0] if self.tracks and self.tracks[0].video else None

    @property
    def sounds(self) -> tuple[OfferedTrack, ...]:
        """The sound tracks, the default one first."""
        return tuple(track for track in self.tracks if not track.video)

    @property
    def pictures(self) -> tuple[OfferedTrack, ...]:
        """The film's own video track, if there is one, and the renditions that are encoded on request."""
        return tuple(track for track in (*self.tracks, *self.encoded) if track.video)

    @property
    def all_sounds(self) -> tuple[OfferedTrack, ...]:
        """The film's own sound tracks, and those that are encoded on request, the film's default first."""
        sounds = [track for track in (*self.tracks, *self.encoded) if not track.video]
        return tuple(sorted(sounds, key=lambda track: track.place_in_file) if self.encoded else sounds)

    @property
    def picture(self) -> OfferedTrack | None:
        """The video track, or that of a film which is offered encoded alone; None for sound."""
        return self.video or next((track for track in self.only_encoded if track.video), None)

    @property
    def duration(self) -> Fraction:
        """Seconds of the longest track."""
        return max(track.duration for track in self.tracks or self.only_encoded)

    @property
    def text_times(self) -> Int64:
        """When each segment of a film's text begins in milliseconds, and behind them the end."""
        return segment_times((track.times, track.timescale) for track in self.tracks or self.only_encoded)

    @property
    def text(self) -> TextSegments:
        """The segments of text."""
        return self.clipped_text or TextSegments(self.text_times)

    @property
    def encoded_i_frames(self) -> OfferedTrack | None:
        """The I-frames of the smallest encoded picture, where some browsers can't show the film's own."""
        pictures = [track for track in self.encoded if track.video]
        if not pictures or (self.video is not None and self.video.plays_everywhere):
            return None
        return pictures[-1].only_i_frames

    def track(self, name: str) -> OfferedTrack | None:
        """Find a track by the name in its address."""
        if name.endswith(ONLY_I_FRAMES):
            picture = self.track(name.removesuffix(ONLY_I_FRAMES))
            return picture.only_i_frames if picture is not None and picture.is_encoded else None
        found = next((track for track in (*self.tracks, *self.encoded) if track.name == name), None)
        return found or self._subtitled(name)

    def _subtitled(self, name: str) -> OfferedTrack | None:
        """Return an encoded picture with subtitles in it, by the name in its address."""
        for number, subtitles in enumerate(self.picture_subtitles, 1):
            suffix = SUBTITLED.format(number)
            plain = next((one for one in self.encoded if one.video and one.name + suffix == name), None)
            if plain is not None:
                shown = f"{plain.version.name}s{subtitles.track_id}{subtitles.colours}"
                return replace(plain, name=name, version=MediaVersion(shown, plain.version.changed))
        return None

    def segmented_track(self, name: str) -> OfferedTrack | None:
        """Find a track by the folder of its segments' addresses: a picture's may be without an edit list."""
        found = self.track(name.removesuffix(WITHOUT_EDIT_LIST))
        if found is None or name == found.name:
            return found
        return found.without_edit_list if found.video else None
