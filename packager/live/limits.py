"""Limits of a live channel, with those of its source, its windows and its DVR."""

from __future__ import annotations

from dataclasses import dataclass, field

from packager.dvr.limits import DvrLimits
from packager.forwarding.forwarder import ForwardLimits
from packager.process.limits import ProcessLimits
from packager.publish.limits import PublishLimits
from packager.recordings.limits import RecordingsLimits
from packager.retry_policy import RetryPolicy
from packager.segment.limits import SegmentLimits
from packager.sources.limits import SourceLimits

ENCODER_RETRY = RetryPolicy(first_seconds=0.2, longest_seconds=5.0, steady_seconds=10.0)
"""When another ffmpeg is started behind the end of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionLimits:
    """Limits of the captions of a channel.

    Attributes:
        text_bytes: Most bytes of one language's cues that aren't over; a film's subtitles have a tenth of it.
        cues: Most cues of one language that aren't over, however short: each part looks at all of them.
        cues_at_once: Most cues of one part or segment; of more, those that begin last: the others were told
            before.
        feeds: Most who bring a channel captions at once.
        late_target_durations: A cue that was over so long ago is no use to anybody: players are no further
            behind.
        ahead_seconds: How far ahead of what is on air a cue may begin; it is kept until then.
        cue_seconds: How long a cue may be shown; it is in each segment of that time.
    """

    text_bytes: int = 1 << 20
    cues: int = 8192
    cues_at_once: int = 200
    feeds: int = 16
    late_target_durations: int = 3
    ahead_seconds: int = 86_400
    cue_seconds: int = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataLimits:
    """How many events may wait for their time, and how late one may be.

    Attributes:
        events: Most events that wait for their time at once.
        tag_bytes: Most bytes of their tags: all of them may become due in one part.
        late_seconds: An event that is no more than so late happens late; one that is later only for what is
            left of it.
    """

    events: int = 500
    tag_bytes: int = 256 << 10
    late_seconds: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveEventLimits:
    """How long the end of a channel's event is waited for, and what is kept of events.

    Attributes:
        end_seconds: How long who ends an event waits for its recording.
        ending_bytes: Longest note of an event's end that is read.
        gone_folders: Most folders of one name that are set aside: of earlier events what isn't ours stays.
        recordings: What looking after recordings may cost.
    """

    end_seconds: float = 10.0
    ending_bytes: int = 4 << 20
    gone_folders: int = 16
    recordings: RecordingsLimits = field(default_factory=RecordingsLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveLimits:
    """Limits of a live channel.

    Attributes:
        encoder_retry: Says when another ffmpeg is started behind the end of one.
        start_seconds: How long a started ffmpeg may take to its first output.
        stall_seconds: How long any output of a running ffmpeg may pause before it counts as stalled.
        made_seconds: How long an ffmpeg that makes a missing picture or sound goes on behind its input's end.
        number_look_seconds: Between two looks at whether the next number may be used, at most.
        gap_target_durations: A segment is published within so many target durations of the one before, or a
            gap stands for it: RFC 8216bis §6.2.2 says one and a half.
        gap_margin_target_durations: How much before that moment the gap comes.
        silent_target_durations: How long no part may come before a gap does: a source that is only slow isn't
            cut into pieces.
        skipped_numbers: Most numbers for which gaps stand at once, where breaks left them behind the clock.
        shortest_look_seconds: Between two looks at a channel's punctuality, at least.
        longest_look_seconds: The same, at most.
        clock_bucket_seconds: The soonest arrival is taken of the last one to two spans of so long: long
            enough for load to pass, short enough to follow a drift.
        part_look_shift_seconds: By how much looks at a pipe are moved at most, to either side of the soonest
            moment at which a part could come.
        part_look_step_seconds: By how much a look moves the next ones; a loop's timers are no finer.
        segment: Of cutting each of its renditions.
        forward: Of pushing it on to each other server.
        event: Of its events' ends and recordings.
        publish: Of its playlists, and of those who ask for them.
    """

    encoder_retry: RetryPolicy = ENCODER_RETRY
    start_seconds: float = 20.0
    stall_seconds: float = 4.0
    made_seconds: float = 0.5
    number_look_seconds: float = 0.25
    gap_target_durations: float = 1.5
    gap_margin_target_durations: float = 0.1
    silent_target_durations: float = 0.4
    skipped_numbers: int = 100
    shortest_look_seconds: float = 0.01
    longest_look_seconds: float = 0.25
    clock_bucket_seconds: float = 15.0
    part_look_shift_seconds: float = 0.02
    part_look_step_seconds: float = 0.001
    process: ProcessLimits = field(default_factory=ProcessLimits)
    segment: SegmentLimits = field(default_factory=SegmentLimits)
    source: SourceLimits = field(default_factory=SourceLimits)
    forward: ForwardLimits = field(default_factory=ForwardLimits)
    captions: CaptionLimits = field(default_factory=CaptionLimits)
    metadata: MetadataLimits = field(default_factory=MetadataLimits)
    event: LiveEventLimits = field(default_factory=LiveEventLimits)
    publish: PublishLimits = field(default_factory=PublishLimits)
    dvr: DvrLimits = field(default_factory=DvrLimits)


DEFAULT_LIMITS = LiveLimits()
