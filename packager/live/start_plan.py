"""Plans for the start of a channel: its cadence, and its windows, empty or restored from disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from packager.dvr.segment_archive import SegmentArchive
from packager.ffmpeg.ladder import AudioRung, Rung
from packager.live.captions import Captions
from packager.live.options import ChannelOptions
from packager.live.timed_metadata import TimedMetadata
from packager.process.ffmpeg_discovery import Tools
from packager.publish.live_stream import FoldedLog
from packager.recordings.metadata import EventEnd
from packager.segment.keyframe_cadence import keyframe_cadence
from packager.sources.source import Source
from packager.threads import SHARED_THREADS
from packager.window.cadence import AUDIO_FRAME_RATE, Cadence, cadence
from packager.window.log import CadenceEntry, Log, RenditionFormat
from packager.window.program_date_time import Instant
from packager.window.rendition import CAPTIONS_PREFIX, Rendition
from packager.window.rendition_log_writer import RenditionWriter
from packager.window.sequence_numbers import LEAD_SEGMENTS, SHORT_LEAD_SEGMENTS, SequenceNumbers


@dataclass(frozen=True, slots=True)
class ChannelContext:
    """Everything that the plans of a channel and its runs of ffmpeg share.

    Attributes:
        tools: the ffmpeg that it uses.
        ladder: its video renditions, or none.
        numbers: say with which number new windows begin, and when a number may be used.
        captions: its captions, which follow its first rendition.
    """

    options: ChannelOptions
    tools: Tools
    ladder: Sequence[Rung]
    audio_ladder: Sequence[AudioRung]
    numbers: SequenceNumbers
    timed_metadata: TimedMetadata
    captions: Captions


@dataclass(frozen=True, slots=True)
class Plan:
    """New windows of a channel, and the log that they are folded from.

    Attributes:
        folded: the windows and playlists that requests are answered from.
        log: the log, which nobody follows yet.
        writers: append to the log, by the renditions' names.
    """

    folded: FoldedLog
    log: Log
    writers: dict[str, RenditionWriter]

    @property
    def cadence(self) -> Cadence:
        """The times that its renditions share."""
        return self.folded.cadence

    @property
    def renditions(self) -> dict[str, Rendition]:
        """The renditions by name: video from large to small, then the sound, then captions."""
        return self.folded.renditions


class Planner:
    """Plans the starts of one channel.

    Args:
        context: the channel's options, limits and folders.
        clock: returns monotonic seconds for the windows.
    """

    def __init__(self, context: ChannelContext, clock: Callable[[], float]) -> None:
        self._options = context.options
        self._clock = clock
        self._ladder = context.ladder
        self._rungs: Sequence[Rung | AudioRung] = (*context.ladder, *context.audio_ladder)
        self._captions = context.captions
        self._numbers = context.numbers
        self._names = [rung.name for rung in self._rungs] + [
            CAPTIONS_PREFIX + language for language in self._captions.tracks
        ]

    def cadence(self, source: Source, noted: Cadence | None = None) -> Cadence:
        """Choose the times for a source.

        Args:
            noted: cadence of the segments on disk, which stays where it suits the source.
        """
        wanted = self._options.segment_duration, self._options.part_duration
        if self._options.bitrates:
            return cadence(AUDIO_FRAME_RATE, *wanted)
        if source.seen is not None:
            return keyframe_cadence(source.seen, source.frame_rate, *wanted, noted=noted)
        return cadence(source.frame_rate, *wanted)

    def plan_empty(self, times: Cadence, used: int = -1, source: Source | None = None) -> Plan:
        """Plan with empty windows.

        Args:
            used: the last media sequence number of earlier windows.
            source: which came a while ago; None: it isn't known.
        """
        began = None if source is None else source.began
        if began is None and self._options.lead_seconds:
            began = Instant.now().monotonic - self._options.lead_seconds
        lead = LEAD_SEGMENTS if source is None or source.copied is None else SHORT_LEAD_SEGMENTS
        return self._plan(times, self._numbers.go_on(used, times.segment_duration, began, lead))

    async def plan_restored(self, times: Cadence, archive: SegmentArchive, used: int = -1) -> Plan:
        """Plan with the segments on disk, and gaps behind them for the time since.

        Args:
            times: as for ``plan_empty``.
            archive: the stored segments, behind which the windows continue.
            used: as for ``plan_empty``; the archive adds its own last number.
        """
        used = max(used, await archive.load(times, self._names))
        if archive.newest is not None:
            self._numbers.check_reserved(*archive.newest)
        return await self._restored(times, self._numbers.go_on(used, times.segment_duration), archive)

    async def plan_from_disk(self, archive: SegmentArchive, used: int = -1) -> Plan | None:
        """Plan with the segments on disk before the source is known.

        Args:
            archive: as for ``plan_restored``.

        Returns:
            None where there is nothing, or nothing that could go on with these options.
        """
        noted = await archive.noted()
        if noted is None:
            return None
        keeps = any(rung.copied for rung in self._ladder)
        if not keeps and noted != self.cadence(Source(frame_rate=noted.frame_rate)):
            return None
        if keeps != (noted.longest is not None):
            return None
        return await self.plan_restored(noted, archive, used)

    async def plan_ended_event(self, ending: EventEnd, archive: SegmentArchive) -> Plan:
        """Plan with the segments on disk of an event that is over."""
        wanted = self.cadence(Source(frame_rate=Fraction(*ending.frame_rate)))
        noted = await archive.noted()
        # The times of a source that was cut at its own key frames don't follow from its frame rate.
        if noted is not None and noted.frame_rate == wanted.frame_rate:
            wanted = noted
        times = replace(
            wanted,
            segment_duration=Fraction(*ending.segment_duration),
            target_duration=ending.target_duration,
        )
        return await self._restored(times, await archive.load(times, self._names) + 1, archive)

    async def _restored(self, times: Cadence, number: int, archive: SegmentArchive) -> Plan:
        """Plan with the segments that an archive has loaded, in a thread."""
        # Windows of a day take seconds to build.
        return await SHARED_THREADS.run(self._restore, times, number, archive)

    def _restore(self, times: Cadence, number: int, archive: SegmentArchive) -> Plan:
        plan = self._plan(times, number, archive)
        archive.restore(plan.writers, number, times.segment_duration, Fraction(Instant.now().wall))
        # The first playlist makes the lines of all that is listed; nobody waits for it here.
        for writer in plan.writers.values():
            writer.window.on_listed()
        return plan

    def _plan(self, times: Cadence, number: int, archive: SegmentArchive | None = None) -> Plan:
        """Make empty windows that begin with a number, and what shows them."""
        stores = {} if archive is None else archive.segment_stores()
        folders = {} if archive is None else {name: archive.place_of(name) for name in self._names}
        made = [
            RenditionFormat(rung.name, rung in self._ladder, rung.bitrate, folder=folders.get(rung.name))
            for rung in self._rungs
        ]
        texts = {CAPTIONS_PREFIX + language: language for language in self._captions.tracks}
        made += [RenditionFormat(name, False, 0, texts[name], folders.get(name)) for name in texts]
        sequence, options = self._numbers.discontinuity_sequence, self._options
        has_past = archive is not None and options.past_seconds > 0
        entry = CadenceEntry(times, tuple(made), number, sequence, options.dvr_window, has_past)
        folded = FoldedLog(entry, self._options.limits.publish, segment_stores=stores, clock=self._clock)
        log = Log(folded.fold, entry)
        composes = {name: self._captions.tracks[language].document for name, language in texts.items()}
        writers = {
            name: RenditionWriter(log, name, rendition.window, composes.get(name))
            for name, rendition in folded.renditions.items()
        }
        return Plan(folded, log, writers)
