"""Small pictures of a film for the seek bar: which pictures it gets, and how they lie in larger ones.

The larger ones (sprites) are made by ``packager.vod.sprites.sprite_maker``. WebVTT names each picture's
place in them, as JW Player introduced it; HLS has an image playlist (Roku's EXT-X-IMAGES-ONLY), DASH tiles of
thumbnails.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from media.dash.mpd import AdaptationSet, Representation
from media.dash.segment_addressing import PictureTemplate
from media.errors import UnsupportedError
from media.hls.media_playlist import MediaPlaylist, Segment, Tiles, target_duration
from media.hls.multivariant import ImageVariant
from media.mp4.codecs.random_access import Access, as_first, has_readable_starts, sample_starts
from media.mp4.codecs.sample_entry import SampleEntry
from media.mp4.fragments.fragments import write_fragment_header
from media.mp4.fragments.moof import Sample
from media.mp4.movie.box_arrays import Int64
from media.subtitles.webvtt import timestamp
from packager.library.storage_interface import LibraryFile
from packager.vod.index.file_index import OfferedTrack
from packager.vod.movie.movie_reader import Read
from packager.vod.movie.versioned_addresses import MediaVersion, version_of
from packager.vod.pictures.i_frame_file import IFrames
from packager.vod.segments.segment import ShortReadError

PLAYLIST_NAME = "thumbnails.m3u8"
FOLDER = "thumbnails"
SUFFIX = ".jpg"

DRAWING = 3
"""Version of the drawing of sprites; another one makes all sprites anew."""

LONGER_SIDE = 192
"""Pixels of a small picture's longer side."""

INTERVAL_SECONDS = 10

LONGER_SECONDS = Fraction(1, 10)
"""By how much encoded renditions last longer than the film at most: players ask for its picture, too."""

COLUMNS = 10
ROWS = 10

MAX_PICTURES = 20_000
"""Most small pictures of one film: 55 hours of them. A longer one has them less often."""

MAX_RATIO = 4
"""How many times as wide as high, or as high as wide, a small picture is at most."""

BITS_PER_PIXEL = 2
"""Bytes of a small picture in JPEG at most, nearly always; only for the declared bandwidth."""


@dataclass(frozen=True, slots=True)
class Storyboard:
    """The small pictures of one film.

    Attributes:
        path: of the film, relative to the library.
        validators: numbers that change with the film.
        key: changes with the film, and with how sprites are made.
        track_id: the number of the video track in the init segment.
        timescale: its ticks per second.
        start: composition time at which the presentation begins, in ticks.
        interval: seconds for which each stands.
        seconds: that all stand together; the last one may stand for less.
        offsets: where in the file the key frame of each is.
        sizes: bytes of these.
        size: width and height in pixels.
        layout: how many are side by side in a sprite, and how many one above the other.
    """

    path: str
    validators: tuple[int, ...]
    key: str
    track_id: int
    entry: SampleEntry
    timescale: int
    start: int
    init: bytes
    interval: int
    seconds: Fraction
    offsets: Int64
    sizes: Int64
    size: tuple[int, int]
    layout: tuple[int, int]

    @property
    def per_sprite(self) -> int:
        """How many small pictures a sprite has."""
        return self.layout[0] * self.layout[1]

    @property
    def sprites(self) -> int:
        """How many sprites there are."""
        return -(-len(self.sizes) // self.per_sprite)

    @property
    def version(self) -> MediaVersion:
        """The version of the film's sprites, which changes with how they are made, too."""
        return version_of(self.validators, MediaVersion(f"{FOLDER} {DRAWING}", 0.0))

    @property
    def folder(self) -> str:
        """The folder of its sprites, relative to that of playlists."""
        return f"{FOLDER}/{self.version.folder}"

    def vtt(self) -> str:
        """Write the WebVTT that says where each small picture is."""
        width, height = self.size
        lines = ["WEBVTT", ""]
        last, folder = round(self.seconds * 1000), self.folder
        for number in range(len(self.sizes)):
            sprite, place = divmod(number, self.per_sprite)
            row, column = divmod(place, self.layout[0])
            begin = number * self.interval * 1000
            end = min(begin + self.interval * 1000, last)
            lines += [
                f"{timestamp(begin)} --> {timestamp(end)}",
                f"{folder}{sprite}{SUFFIX}#xywh={column * width},{row * height},{width},{height}",
                "",
            ]
        return "\n".join(lines) + "\n"

    def playlist(self) -> MediaPlaylist:
        """Write the image playlist."""
        tiles = Tiles(self.size, self.layout, Fraction(self.interval))
        whole, folder = self.interval * self.per_sprite, self.folder
        segments = [
            Segment(
                f"{folder}{number}{SUFFIX}",
                min(Fraction(whole), self.seconds - number * whole),
                tiles=tiles,
            )
            for number in range(self.sprites)
        ]
        target = target_duration(segment.duration for segment in segments)
        return MediaPlaylist(target, segments, playlist_type="VOD", ended=True, images_only=True)

    def variant(self) -> ImageVariant:
        """Name the image playlist beside the multivariant playlist."""
        return ImageVariant(PLAYLIST_NAME, self._bandwidth, self.size)

    def adaptation_set(self) -> AdaptationSet:
        """Offer the sprites as tiles of thumbnails."""
        representation = Representation(
            id=FOLDER,
            base_url=self.folder,
            bandwidth=self._bandwidth,
            codecs="",
            segments=PictureTemplate(f"$Number${SUFFIX}", self.interval * self.per_sprite * 1000),
            resolution=(self.size[0] * self.layout[0], self.size[1] * self.layout[1]),
            tiles=self.layout,
        )
        return AdaptationSet("image", [representation], start_with_sap=0)

    @property
    def _bandwidth(self) -> int:
        return self.size[0] * self.size[1] * BITS_PER_PIXEL // self.interval

    def require_decodable(self, read: Read, sprite: int) -> None:
        """Make sure that most key frames of a sprite's pictures can be decoded by themselves.

        In H.264 of open groups of pictures they can't, as only the first picture is an IDR picture.

        Args:
            read: reads from the film's file; it may block.

        Raises:
            UnsupportedError: most of them can't.
        """
        look, numbers = sample_starts(self.entry), self._numbers(sprite)
        if not has_readable_starts(self.entry):
            return
        lacking = 0
        for number in numbers:
            offset = int(self.offsets[number])

            def read_sample(at: int, length: int, offset: int = offset) -> bytes:
                return read(offset + at, length)

            lacking += look(int(self.sizes[number]), read_sample).access is Access.NONE
        if 2 * lacking > len(numbers):
            raise UnsupportedError("its key frames can't be decoded by themselves")

    def _numbers(self, sprite: int) -> range:
        return range(len(self.sizes))[sprite * self.per_sprite : (sprite + 1) * self.per_sprite]

    def movie(self, read: Read, sprite: int) -> Iterator[bytes]:
        """Return the key frames of a sprite's pictures in pieces of MP4, a second each from the first on.

        Frames that only recover from what was before, as of intra refresh, are left out.

        Args:
            read: reads from the film's file; it may block.

        Raises:
            ShortReadError: the file ends before.
        """
        yield self.init
        numbers = self._numbers(sprite)
        look, latest = sample_starts(self.entry), b""
        for second, number in enumerate(numbers, 1):
            size = int(self.sizes[number])
            data = read(int(self.offsets[number]), size)
            if len(data) < size:
                raise ShortReadError(f"the file ends within the key frame of thumbnail {number}")

            def read_data(at: int, length: int, data: bytes = data) -> bytes:
                return data[at : at + length]

            is_known = not has_readable_starts(self.entry)
            if is_known or not latest or look(size, read_data).access is not Access.NONE:
                latest = as_first(self.entry, data)
                yield self._fragment(second, latest)
        # The last picture again, as only a next picture ends the time for which one is shown.
        yield self._fragment(len(numbers) + 1, latest)

    def _fragment(self, second: int, data: bytes) -> bytes:
        header = write_fragment_header(
            sequence_number=second,
            track_id=self.track_id,
            base_media_decode_time=self.start + second * self.timescale,
            samples=(Sample(self.timescale, len(data)),),
        )
        return header + data


def make_storyboard(
    path: str,
    validators: tuple[int, ...],
    track: OfferedTrack | None,
    frames: IFrames | None,
    duration: Fraction = Fraction(0),
) -> Storyboard:
    """Choose the key frames that become small pictures: for each interval the nearest to its begin.

    Args:
        path: of the film, relative to the library.
        validators: numbers that change with the film.
        frames: the I-frames that its tables mark.
        duration: seconds of the film, whose sound may last longer than its picture.

    Raises:
        UnsupportedError: it has none.
    """
    if track is None or frames is None:
        raise UnsupportedError("it has no picture")
    seconds = max(Fraction(int(track.times[-1]), track.timescale), duration)
    interval = max(INTERVAL_SECONDS, math.ceil(seconds / MAX_PICTURES))
    count = math.ceil((seconds + LONGER_SECONDS) / interval)
    begins = np.arange(count) * (interval * track.timescale)
    times = frames.times[:-1]
    later = np.minimum(times.searchsorted(begins), len(times) - 1)
    earlier = np.maximum(later - 1, 0)
    chosen = np.where(times[later] - begins < begins - times[earlier], later, earlier)
    text = repr((DRAWING, LONGER_SIDE, COLUMNS, ROWS, interval, count, path, validators))
    columns = min(count, COLUMNS)
    return Storyboard(
        path=path,
        validators=validators,
        key=hashlib.sha256(text.encode()).hexdigest()[:32],
        # Without the tables of its samples: a request that waits for a sprite need not hold the whole index.
        track_id=track.track_id,
        entry=track.entry,
        timescale=track.timescale,
        start=track.samples.start,
        init=track.init,
        interval=interval,
        seconds=seconds if seconds > (count - 1) * interval else seconds + LONGER_SECONDS,
        offsets=frames.offsets[chosen],
        sizes=frames.frame_sizes[chosen],
        size=_fitting(_shape(track)),
        layout=(columns, min(ROWS, -(-count // columns))),
    )


def suffices(resolution: tuple[int, int]) -> bool:
    """Return whether pictures of a resolution are at least as large as thumbnails."""
    return max(resolution) >= LONGER_SIDE


def _shape(track: OfferedTrack) -> Fraction:
    """Return the ratio of width and height at which the picture is seen."""
    across, down = track.entry.pixel_aspect
    ratio = Fraction(max(track.entry.width, 1) * across, max(track.entry.height, 1) * down)
    ratio = ratio if track.rotation in (0, 180) else 1 / ratio
    return min(max(ratio, Fraction(1, MAX_RATIO)), Fraction(MAX_RATIO))


def _fitting(ratio: Fraction) -> tuple[int, int]:
    """Return even numbers of pixels: width and height."""
    if ratio >= 1:
        return LONGER_SIDE, 2 * round(LONGER_SIDE / ratio / 2)
    return 2 * round(LONGER_SIDE * ratio / 2), LONGER_SIDE


@dataclass(frozen=True, slots=True)
class OpenStoryboard:
    """The file that the pictures of a storyboard are read from, which the holder closes."""

    file: LibraryFile
    samples: Read

    def close(self) -> None:
        """Close the file."""
        self.file.close()
