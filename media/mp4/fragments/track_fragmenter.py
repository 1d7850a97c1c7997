"""Converts the samples of one live track to fragments, by their decode times."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from fractions import Fraction

from media.errors import MalformedError
from media.mp4.fragments.fragments import Fragment, FragmentReader, InitSegment
from media.mp4.fragments.init_segment import write_init_segment
from media.mp4.fragments.moof import samples_of
from media.mp4.movie.track_box import IDENTITY, TrackFacts

LONGEST_REORDERING = 10
"""Seconds by which a picture may be shown before or after its decoding; no encoder needs so many."""

FARTHEST_BACK = Fraction(1, 2)
"""Seconds by which a track's times may lag behind its frames; more is another stream."""

LATEST_SOUND = Fraction(1, 8)
"""Seconds by which sound may come late: viewers don't mind 185 ms (ITU-R BT.1359-1 §3)."""

LONGEST_STEP = (1 << 32) - 1
"""Most ticks from one sample to the next: a sample's duration has 32 bits (ISO/IEC 14496-12 §8.8.8)."""


class FragmentTrack:
    """Collects samples of one track; the newest waits for the next one, from which its duration follows.

    Args:
        timescale: ticks per second.
    """

    def __init__(self, track_id: int, init: InitSegment, timescale: int) -> None:
        self.track_id = track_id
        self.init = init
        self.timescale = timescale
        self._farthest_back = round(FARTHEST_BACK * timescale)
        self._latest_sound = round(LATEST_SOUND * timescale)
        self._longest_reordering = LONGEST_REORDERING * timescale
        self._count = 0
        # Decode time of the newest sample, duration of an audio frame, and that of the picture before.
        self._newest: int | None = None
        self._lasts = 0
        # Waiting samples: decode time, composition offset, and whether each is a sync sample.
        self._waiting: list[tuple[int, int, bool, bytes]] = []

    def add_picture(self, time: int, shown: int, data: bytes, *, is_sync: bool) -> None:
        """Add the next picture.

        Args:
            time: decode time in ticks.
            shown: presentation time in ticks.
            is_sync: whether decoding can begin with it.

        Raises:
            MalformedError: the times go back or jump, or presentation is far from decoding.
        """
        newest = self._newest
        # ISO/IEC 14496-12 §8.6.1.1: decode times rise. Presentation times stay unchanged.
        decoded = time if newest is None or time > newest else newest + 1
        if decoded - time > self._farthest_back:
            raise MalformedError("video times go back")
        if newest is not None and decoded - newest > LONGEST_STEP:
            raise MalformedError("video times jump")
        offset = shown - decoded
        if not -self._longest_reordering <= offset <= self._longest_reordering:
            seconds = offset // self.timescale
            raise MalformedError(f"a picture that is shown {seconds} s behind its decoding")
        self._lasts = 0 if newest is None else decoded - newest
        self._newest = decoded
        self._waiting.append((decoded, offset, is_sync, data))

    def add_sound(self, time: int, lasts: int, data: bytes) -> None:
        """Add the next audio frame; drop it if the frames before it last much longer than their times say.

        Args:
            time: start in ticks, as exact as the stream has it.
            lasts: duration in ticks.

        Raises:
            MalformedError: the times go back or jump.
        """
        newest = self._newest
        if newest is not None:
            # Streams' clocks are coarser: frames follow each other without a gap, unless one is missing.
            following = newest + self._lasts
            if following - time > self._farthest_back:
                raise MalformedError("audio times go back")
            # A file in a loop whose sound is longer than its picture adds up to any delay otherwise.
            if following - time >= max(lasts, self._latest_sound):
                return
            time = following if time - following <= lasts else time
            if time - newest > LONGEST_STEP:
                raise MalformedError("audio times jump")
        self._newest, self._lasts = time, lasts
        self._waiting.append((time, 0, True, data))

    def pull(self) -> Fragment | None:
        """Return the samples since the last call; None if there are none."""
        return self._fragment(self._waiting[:-1])

    def finish(self) -> Fragment | None:
        """Return the samples at the end of the stream: the last picture lasts as long as the one before."""
        return self._fragment(self._waiting) if self._lasts > 0 else None

    def _fragment(self, written: Sequence[tuple[int, int, bool, bytes]]) -> Fragment | None:
        if self._newest is None or not written:
            return None
        self._count += 1
        self._waiting = self._waiting[len(written) :]
        times, offsets, syncs, pieces = zip(*written, strict=True)
        end = self._waiting[0][0] if self._waiting else self._newest + self._lasts
        durations = map(operator.sub, (*times[1:], end), times)
        samples = tuple(samples_of(durations, map(len, pieces), syncs, offsets))
        return Fragment(self.track_id, self._count, times[0], samples, b"".join(pieces))


def begin_track(
    track_id: int,
    handler: bytes,
    timescale: int,
    entry: bytes,
    display_size: tuple[Fraction, Fraction] = (Fraction(0), Fraction(0)),
    matrix: bytes = b"",
) -> FragmentTrack:
    """Create a track and its init segment.

    Args:
        handler: ``vide`` or ``soun``.
        timescale: ticks per second.
        display_size: width and height as shown, before the picture is turned.
        matrix: 36 bytes of the track header's matrix, which turns the picture; empty if it isn't turned.
    """
    facts = TrackFacts(
        track_id, handler, timescale, entry, display_size=display_size, matrix=matrix or IDENTITY
    )
    written = write_init_segment(facts, brands=(b"cmfc",))
    reader = FragmentReader()
    reader.receive_data(written)
    found: Sequence[object] = list(reader.events())
    (init,) = (one for one in found if isinstance(one, InitSegment))
    return FragmentTrack(track_id, init, timescale)
