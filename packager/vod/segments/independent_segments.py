"""Whether the segments of a file can be decoded each for itself, found once by a look at where they begin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.ma  # numpy.unique imports it at its first call, for which a film would wait

from media.mp4.codecs.random_access import Access, has_readable_starts, sample_starts
from media.mp4.movie.box_arrays import Int64, stretches
from packager.vod.index.file_index import FileIndex, OfferedTrack
from packager.vod.movie.movie_reader import Read

READS_PER_SEGMENT = 4
"""How often a file is read for each of its segments, on average; a film needs one."""

SEGMENTS_LOOKED_AT = 8
"""How many segments are examined of each film in a list of many."""

FEW_SEGMENTS = 16
"""Segments of a film of which captions are looked for in the last samples, too: they may begin within one."""

CAPTION_SAMPLES = 1500
"""In how many samples of a film with captions each of them is looked for; one begins each few seconds."""

LEADING_SAMPLES = 16
"""In how many samples behind a picture those are looked for that are shown before it."""

SAP_CLOSED = 1
SAP_LEADING = 2
INDEPENDENT = (SAP_CLOSED, SAP_LEADING)
"""Types of stream access points (ISO/IEC 14496-12 Annex I) before which nothing is needed: without leading
pictures, and with some that are decodable."""


@dataclass(frozen=True, slots=True)
class SegmentStarts:
    """With which type of stream access point all segments begin; 0 where one of them doesn't, or who knows.

    Attributes:
        video: of the video track; of a file without one as of sound.
        captions: whether captions were seen in the picture's own data, or might be there.
        lone_pictures: whether the picture that each segment begins with can be decoded by itself.
        services: the captions that were seen, ``CC1`` to ``CC4`` and ``SERVICE1`` to ``SERVICE63``.
    """

    video: int = 0
    sound: int = 0
    captions: bool = True
    lone_pictures: bool = False
    services: frozenset[str] = frozenset()

    @property
    def independent(self) -> bool:
        """Whether each segment can be decoded without any other."""
        return self.video in INDEPENDENT and self.sound in INDEPENDENT


UNKNOWN = SegmentStarts()


def segment_starts(index: FileIndex, read: Read) -> SegmentStarts:
    """Examine the beginning of each segment of a file.

    Args:
        read: reads from it; it may block.
    """
    sound = SAP_CLOSED if all(map(_begin_in_sync, index.sounds)) else 0
    if index.video is None:
        return SegmentStarts(sound, sound, captions=False)
    worst, captions = _video_starts(index.video, read)
    services = _caption_services(index.video, read) if captions else frozenset[str]()
    return SegmentStarts(_sap(index.video, worst), sound, captions, worst is not Access.NONE, services)


def is_drawable(track: OfferedTrack, read: Read) -> bool:
    """Return whether the first pictures of the first few segments can be decoded by themselves.

    Args:
        read: reads from its file; it may block.
    """
    look = sample_starts(track.entry)
    if not has_readable_starts(track.entry):
        return True
    for number in track.cuts[:-1][:SEGMENTS_LOOKED_AT].tolist():
        sample = track.samples.samples(number, number + 1)
        offset = int(sample.offset[0])

        def read_sample(position: int, length: int, offset: int = offset) -> bytes:
            return read(offset + position, length)

        if look(int(sample.size[0]), read_sample).access is Access.NONE:
            return False
    return True


def _begin_in_sync(track: OfferedTrack) -> bool:
    """Return whether all segments begin with sync samples: sound mostly has no others, xHE-AAC has."""
    for wanted in _by_stretches(track, np.unique(track.cuts[:-1])):
        sync = track.samples.sync_samples(int(wanted[0]), int(wanted[-1]) + 1)
        found = sync.searchsorted(wanted)
        if len(sync) <= found[-1] or np.any(sync[found] != wanted):
            return False
    return True


def _sap(track: OfferedTrack, worst: Access) -> int:
    """Return the type of stream access point of all segments, which is that of the worst one."""
    if worst is Access.NONE:
        return 0
    if not _has_leading(track):
        return SAP_CLOSED
    return SAP_LEADING if worst is Access.CLOSED else 0


def _video_starts(track: OfferedTrack, read: Read) -> tuple[Access, bool]:
    """Return how decoding can begin with the worst of all segments, and whether there are captions."""
    left = READS_PER_SEGMENT * len(track.cuts)
    look = sample_starts(track.entry)
    worst, captions = Access.CLOSED, False
    begin = 0

    def read_sample(position: int, length: int) -> bytes:
        nonlocal left
        left -= 1
        return read(begin + position, length) if left >= 0 else b""

    for offset, size in _places(track, np.unique(track.cuts[:-1])):
        begin = offset
        found = look(size, read_sample)
        if found.access is not worst:
            worst = min(worst, found.access)
        captions = captions or found.captions
    if not captions and len(track.cuts) <= FEW_SEGMENTS:
        for offset, size in _places(track, np.unique(track.cuts[1:]) - 1):
            begin = offset
            captions = captions or look(size, read_sample).captions
    return worst, captions


def _caption_services(track: OfferedTrack, read: Read) -> frozenset[str]:
    """Return the captions that are in samples all over a track."""
    look, services = sample_starts(track.entry), frozenset[str]()
    numbers = np.linspace(0, len(track.samples) - 1, min(len(track.samples), CAPTION_SAMPLES))
    for offset, size in _places(track, np.unique(numbers.astype(np.int64))):

        def read_sample(position: int, length: int, offset: int = offset) -> bytes:
            return read(offset + position, length)

        services |= look(size, read_sample).services
    return services


def _places(track: OfferedTrack, numbers: Int64) -> list[tuple[int, int]]:
    """Return offset and size of samples."""
    places: list[tuple[int, int]] = []
    for wanted in _by_stretches(track, numbers):
        first = int(wanted[0])
        offsets, sizes = track.samples.places(first, int(wanted[-1]) + 1)
        places += zip(offsets[wanted - first].tolist(), sizes[wanted - first].tolist(), strict=True)
    return places


def _by_stretches(track: OfferedTrack, numbers: Int64) -> Iterator[Int64]:
    """Return the sorted numbers of samples, those of one stretch together."""
    for start, stop in stretches(0, len(track.samples)):
        low, high = numbers.searchsorted((start, stop))
        if low < high:
            yield numbers[low:high]


def _has_leading(track: OfferedTrack) -> bool:
    """Return whether in any segment a picture is shown before the first one that is decoded."""
    bounds = np.unique(track.cuts)
    cuts = bounds[:-1, np.newaxis]
    numbers = np.minimum(cuts + np.arange(LEADING_SAMPLES + 1), bounds[1:, np.newaxis] - 1)
    times = track.samples.times_at(numbers.ravel()).reshape(numbers.shape)
    return bool(np.any(times < times[:, :1]))
