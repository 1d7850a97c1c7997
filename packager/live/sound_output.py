"""The sound of a channel that has pictures, in which silence stands for frames that are missing or late.

Players wait for the sound as long as it is listed: a sound that is announced and never comes, stops, or comes
in spurts would take the picture with it.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from media.mp4.codecs.audio_specific_config import audio_specific_config
from media.mp4.codecs.sample_entry import SampleEntry, audio_decoder_configuration, parse_sample_entry
from media.mp4.codecs.silence import (
    USUAL_CHANNELS,
    USUAL_CONFIGURATION,
    USUAL_RATE,
    SilentFrame,
    silent_frame,
)
from media.mp4.fragments.fragments import Fragment, InitSegment
from media.mp4.fragments.moof import Sample
from media.muxers.fragment_tracks import sound_track
from packager.live.captions import Follower
from packager.live.limits import LiveLimits
from packager.live.rendition_output import Feed, RunContext
from packager.segment.grid_segmenter import Segmenter
from packager.segment.part_packer import CadenceError
from packager.window.program_date_time import Instant
from packager.window.rendition_log_writer import RenditionWriter


class SoundFeed(Feed):
    """Brings the sound of one run into its window, and silence where the sound fails.

    Args:
        limits: from when on silence stands in.
        on_silence: called when silence begins to stand in for sound that doesn't come, and when sound comes
            again; with whether it is silent.
    """

    def __init__(
        self,
        run: RunContext,
        writer: RenditionWriter,
        make_segmenter: Callable[[int], Segmenter],
        follow: Follower | None = None,
        *,
        limits: LiveLimits,
        on_silence: Callable[[bool], None],
    ) -> None:
        super().__init__(run, writer, make_segmenter, follow)
        self._limits = limits
        self._on_silence = on_silence
        self._silence: SilentFrame | None = None
        # Ticks of a frame of silence and of the sound's longest, and the time up to which there is sound.
        self._frame = self._longest = 0
        self._time: int | None = None
        self._is_made = False
        self._is_silent = False
        self._late_since: float | None = None

    @property
    def can_be_silent(self) -> bool:
        """Whether silence can stand in for the sound."""
        return self._silence is not None or self._entry is None

    def begin(self, init: InitSegment) -> None:
        """Begin with the init segment; see ``Feed.begin``.

        Raises:
            UnsupportedError: as ``Feed.begin``.
            CadenceError: silence that differs from the sound has stood in for it until now.
        """
        if self._is_made and self._entry is not None:
            self._is_made = False
            if not _is_alike(self._entry, parse_sample_entry(init.tracks[0].sample_entries[0])):
                raise CadenceError("its sound has come")
            return
        super().begin(init)
        self._silence = None if self._entry is None else silent_frame(self._entry)
        if self._silence is not None:
            scale, rate = self._timescale, self._silence.rate
            self._frame = self._silence.samples * scale // rate
            self._longest = self._silence.longest * scale // rate

    def add(self, fragment: Fragment, now: Instant) -> bool:
        """Publish the next frames, and silence where some are missing before or between them.

        Raises:
            MediaError, CadenceError: as ``Feed.add``.
        """
        self._late_since = None
        if self._is_silent:
            self._is_silent = False
            self._on_silence(False)
        begin, samples = fragment.base_media_decode_time, fragment.samples
        if not self._frame or not samples:
            return super().add(fragment, now)
        longest = 2 * self._longest
        if (self._time is None or begin == self._time) and all(
            0 < one.duration <= longest for one in samples
        ):
            self._time = begin + sum([one.duration for one in samples])
            return super().add(fragment, now)
        whole = self._continued(fragment)
        return whole is not None and super().add(whole, now)

    def _continued(self, fragment: Fragment) -> Fragment | None:
        """Return the frames without a gap before or between them; None where none is left."""
        data, position, time = bytes(fragment.data), 0, fragment.base_media_decode_time
        start = self._time if self._time is not None else time
        samples, pieces, end = list[Sample](), list[bytes](), start
        for sample in fragment.samples:
            piece = data[position : position + sample.size]
            position += sample.size
            following = time + sample.duration
            lasts = self._longest if sample.duration > 2 * self._longest else sample.duration
            if time > end + self._frame // 2:
                end = self._hush(samples, pieces, end, time)
            # Frames that overlap, or lie apart by less than half a frame, are joined.
            if time >= end - self._frame // 2 and (duration := time + lasts - end) > 0:
                samples.append(sample._replace(duration=duration))
                pieces.append(piece)
                end += duration
            time = following
        if time > end + self._frame // 2:
            end = self._hush(samples, pieces, end, time)
        self._time = end
        return (
            fragment._replace(base_media_decode_time=start, samples=tuple(samples), data=b"".join(pieces))
            if samples
            else None
        )

    def _hush(self, samples: list[Sample], pieces: list[bytes], begin: int, end: int) -> int:
        """Append frames of silence for a time; return where they end, less than a frame before its end."""
        most = self._limits.silence_seconds * self._timescale
        # Of a hostile fragment each frame has a gap behind it.
        if end - begin > most or end - begin + len(samples) * self._frame > 2 * most:
            raise CadenceError(f"its sound jumps by {(end - begin) / self._timescale:.0f} s")
        silence = self._silence
        count = (end - begin) // self._frame
        if silence is None or count <= 0:
            return begin
        samples += [Sample(self._frame, len(silence.data), True, 0)] * count
        pieces += [silence.data] * count
        return begin + count * self._frame

    def stand_in(self, picture: tuple[Fraction, float], now: Instant) -> bool:
        """Publish silence for the time in which the sound is behind the picture, and doesn't come.

        Args:
            picture: seconds of media time at which the run's picture has begun, and up to which it has come.

        Returns:
            Whether a part was published.

        Raises:
            CadenceError: the sound is too far behind.
        """
        begin, end = picture
        reached = float(begin) if self._time is None else self._time / self._timescale
        if end - reached <= self._limits.sound_behind_seconds or not self.can_be_silent:
            if not self._is_silent:
                self._late_since = None
            return False
        if self._late_since is None:
            self._late_since = now.monotonic
        if now.monotonic - self._late_since < self._limits.sound_patience_seconds:
            return False
        if not self._is_silent:
            self._is_silent = True
            self._on_silence(True)
        if self._entry is None:
            self.begin(sound_track("A_AAC", USUAL_CONFIGURATION, b"", USUAL_RATE, USUAL_CHANNELS).init)
            self._is_made = True
        if self._time is None:
            self._time = round(begin * self._timescale)
        samples, pieces = list[Sample](), list[bytes]()
        start = self._time
        self._time = self._hush(
            samples, pieces, start, int((end - self._limits.sound_behind_seconds) * self._timescale)
        )
        if not samples:
            return False
        return super().add(Fragment(self._track_id, 0, start, tuple(samples), b"".join(pieces)), now)


def _is_alike(one: SampleEntry, other: SampleEntry) -> bool:
    """Return whether a decoder of one kind of AAC goes on with the other."""
    if one.kind != other.kind or one.kind != b"mp4a":
        return False
    first, second = (audio_specific_config(audio_decoder_configuration(entry)) for entry in (one, other))
    return first == second
