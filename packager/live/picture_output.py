"""The picture of a channel that has sound, in which the last key frame stands for pictures that don't come.

Sound is cut where the picture is cut, and players show nothing of a picture that is listed and isn't there: a
picture that stops would take the sound with it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

from media.mp4.fragments.fragments import Fragment
from media.mp4.fragments.moof import Sample, total_duration
from packager.live.captions import Follower
from packager.live.rendition_output import Feed, RunContext
from packager.segment.grid_segmenter import Segmenter
from packager.segment.part_packer import CadenceError
from packager.window.cadence import Cadence
from packager.window.program_date_time import Instant
from packager.window.rendition_log_writer import RenditionWriter


class PictureFeed(Feed):
    """Brings the picture of one run into its window, and the last key frame where the picture fails.

    Args:
        grid: seconds of media time at which the run begins, and of the channel's cadence: each repetition
            ends where a part may end in all renditions.
        on_still: called when a key frame begins to stand in for pictures that don't come, and when pictures
            come again; with whether one stands in.
    """

    def __init__(
        self,
        run: RunContext,
        writer: RenditionWriter,
        make_segmenter: Callable[[int], Segmenter],
        follow: Follower | None = None,
        *,
        grid: tuple[Fraction, Cadence],
        on_still: Callable[[bool], None],
    ) -> None:
        super().__init__(run, writer, make_segmenter, follow)
        self._origin, cadence = grid
        count = math.ceil(cadence.segment_duration / cadence.part_target)
        self._step = cadence.segment_duration / count
        limits = run.limits
        is_encoded = cadence.longest is None
        self._patience = limits.encoded_patience_seconds if is_encoded else limits.picture_patience_seconds
        self._limits = limits
        self._on_still = on_still
        # The newest key frame, the time up to which there are pictures, and those that came last.
        self._key: tuple[Sample, bytes] | None = None
        self._time = 0
        self._newest: Sequence[Sample] = ()
        self._is_still = False
        self._late_since: float | None = None
        # Since when pictures come again.
        self._returned: float | None = None

    @property
    def can_be_still(self) -> bool:
        """Whether a key frame can stand in for the picture."""
        return self._key is not None

    def add(self, fragment: Fragment, now: Instant) -> bool:
        """Publish the next pictures, behind a key frame if one has stood in for others.

        Raises:
            MediaError, CadenceError: as ``Feed.add``.
            CadenceError: pictures have come again, but none that can be shown.
        """
        has_part = False
        if self._is_still:
            found = self._from_key(fragment)
            if found is None:
                self._returned = now.monotonic if self._returned is None else self._returned
                if now.monotonic - self._returned > self._limits.picture_return_seconds:
                    raise CadenceError("its picture has come again with other times")
                return False
            has_part = self._repeat(found.base_media_decode_time, now)
            fragment = self._behind_stills(found)
            self._mark(is_still=False)
        elif fragment.base_media_decode_time < self._time:
            fragment = self._behind_stills(fragment)
        self._late_since = self._returned = None
        self._note_key(fragment)
        self._time = fragment.base_media_decode_time + total_duration(fragment.samples)
        self._newest = fragment.samples
        return super().add(fragment, now) or has_part

    def _note_key(self, fragment: Fragment) -> None:
        end = len(fragment.data)
        for sample in reversed(fragment.samples):
            end -= sample.size
            if sample.is_sync:
                self._key = sample, bytes(fragment.data[end : end + sample.size])
                return

    def _from_key(self, fragment: Fragment) -> Fragment | None:
        """Return the pictures from a key frame on that is behind the pictures that stood in; None if none."""
        time, position = fragment.base_media_decode_time, 0
        for index, sample in enumerate(fragment.samples):
            # Encoders decode the first pictures behind a pause before it, by its length.
            if sample.is_sync and time + sample.composition_offset >= self._time:
                return fragment._replace(
                    base_media_decode_time=time,
                    samples=fragment.samples[index:],
                    data=fragment.data[position:],
                )
            time, position = time + sample.duration, position + sample.size
        return None

    def _behind_stills(self, fragment: Fragment) -> Fragment:
        """Return pictures whose decoding begins where that of the key frames ends which have stood in."""
        if fragment.base_media_decode_time >= self._time:
            return fragment
        samples, time, end = list[Sample](), fragment.base_media_decode_time, self._time
        for sample in fragment.samples:
            shown, following = time + sample.composition_offset, time + sample.duration
            duration = max(following - end, 1)
            samples.append(sample._replace(duration=duration, composition_offset=max(shown - end, 0)))
            time, end = following, end + duration
        return fragment._replace(base_media_decode_time=self._time, samples=tuple(samples))

    def stand_in(self, heard: float, now: Instant) -> bool:
        """Publish the last key frame for the time in which the picture is behind the sound, and doesn't come.

        Args:
            heard: seconds of media time up to which the sound has come.

        Returns:
            Whether a part was published.

        Raises:
            CadenceError: the picture is too far behind.
        """
        end = heard - self._limits.picture_behind_seconds
        if self._key is None or end <= self._time / self._timescale:
            if not self._is_still:
                self._late_since = None
            return False
        if self._late_since is None:
            self._late_since = now.monotonic
        usual = max((one.duration for one in self._newest), default=0) / self._timescale
        patience = max(self._patience, self._limits.patience_pictures * usual)
        if now.monotonic - self._late_since < patience:
            return False
        return self._repeat(int(end * self._timescale), now, to_grid=True)

    def _repeat(self, until: int, now: Instant, *, to_grid: bool = False) -> bool:
        """Publish the last key frame again up to a time, or to the last end of a part before it."""
        if self._key is None:
            return False
        if until - self._time > self._limits.still_picture_seconds * self._timescale:
            raise CadenceError(
                f"its picture is {(until - self._time) / self._timescale:.0f} s behind its sound"
            )
        sample, data = self._key
        ends = list(itertools.takewhile(lambda end: end < until, self._ends()))
        if not to_grid and until > self._time:
            ends.append(until)
        elif not ends:
            return False
        if to_grid and not self._is_still:
            self._mark(is_still=True)
        if len(ends) * len(data) > self._limits.still_picture_bytes:
            raise CadenceError("its picture doesn't come, and its last key frame is large")
        begins = [self._time, *ends[:-1]]
        samples = tuple(
            sample._replace(duration=end - begin) for begin, end in zip(begins, ends, strict=True)
        )
        start, self._time = self._time, ends[-1]
        return super().add(Fragment(self._track_id, 0, start, samples, data * len(samples)), now)

    def _mark(self, *, is_still: bool) -> None:
        self._is_still = is_still
        if self._segmenter is not None:
            self._segmenter.is_still = is_still
        self._on_still(is_still)

    def _ends(self) -> Iterator[int]:
        """Yield the times behind the newest picture at which a part may end in each rendition."""
        index = math.floor((Fraction(self._time, self._timescale) - self._origin) / self._step)
        while True:
            index += 1
            if (end := math.ceil((self._origin + index * self._step) * self._timescale)) > self._time:
                yield end
