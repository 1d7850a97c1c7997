"""Limits of a live channel, with those of its source, its windows and its DVR."""

from __future__ import annotations

from dataclasses import dataclass, field

from packager.dvr.limits import DvrLimits
from packager.forwarding.forwarder import ForwardLimits
from packager.recordings.limits import RecordingsLimits
from packager.retry_policy import RetryPolicy
from packager.segment.limits import SegmentLimits
from packager.sources.limits import SourceLimits
from packager.window.limits import PublishLimits

ENCODER_RETRY = RetryPolicy(first_seconds=0.2, longest_seconds=5.0, steady_seconds=10.0)
"""When another ffmpeg is started behind the end of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveLimits:
    """Limits of a live channel.

    Attributes:
        encoder_retry: The pauses before ffmpeg is started again.
        start_seconds: How long a started ffmpeg may take to its first output.
        stall_seconds: How long any output of a running ffmpeg may pause before it counts as stalled.
        last_seconds: How long the end of an event waits for that of its stream, which may be held back.
        gap_target_durations: A segment is published within so many target durations of the one before, or a
            gap stands for it: RFC 8216bis §6.2.2 says one and a half.
        clock_bucket_seconds: The soonest arrival is taken of the last one to two spans of so long: long
            enough for load to pass, short enough to follow a drift.
        segment: Limits of cutting each rendition into segments.
        sound_behind_seconds: How far the sound may be behind the picture, and silence is kept behind it.
        sound_patience_seconds: For which no sound may come while it is further behind.
        silence_seconds: Most silence at once; a longer gap is a jump of the stream's clock.
        picture_behind_seconds: How far the picture may be behind the sound, and is kept behind it.
        picture_patience_seconds: For which no picture may come while it is further behind, where segments
            begin with the source's key frames: sound waits for them, and a gap would be due.
        encoded_patience_seconds: For which none may come of a picture that is encoded here alone.
        patience_pictures: For how many times the length of a picture none may come at least.
        still_picture_seconds: Most seconds at once; more is a jump of the stream's clock.
        still_picture_bytes: Most bytes of repeated key frames at once.
        picture_return_seconds: For which pictures may come again without a key frame that is to be shown yet;
            then another run begins with them.
        forward: Limits of pushing the stream on to each other server.
        event_end_seconds: How long who ends an event waits for its recording.
        recordings: How recordings are kept, and how often they are checked.
        publish: Limits of its playlists and of their requests.
        caption_bytes: Most bytes of one language's cues that aren't over; a film's subtitles have a tenth of
            that.
        cues_at_once: Most cues of one part or segment; of more, those that begin last, as earlier parts had
            the others.
        caption_feeds: Most sources of captions of a channel at once.
        waiting_metadata: Most events that wait for their time at once.
        metadata_late_seconds: An event that is no more than so late is published late; a later one only with
            the rest of its duration.
    """

    encoder_retry: RetryPolicy = ENCODER_RETRY
    start_seconds: float = 20.0
    stall_seconds: float = 4.0
    last_seconds: float = 15.0
    gap_target_durations: float = 1.5
    clock_bucket_seconds: float = 15.0
    segment: SegmentLimits = field(default_factory=SegmentLimits)
    sound_behind_seconds: float = 0.5
    sound_patience_seconds: float = 1.0
    silence_seconds: float = 30.0
    picture_behind_seconds: float = 0.25
    picture_patience_seconds: float = 0.5
    encoded_patience_seconds: float = 1.0
    patience_pictures: float = 2.2
    still_picture_seconds: float = 30.0
    still_picture_bytes: int = 64 << 20
    picture_return_seconds: float = 10.0
    source: SourceLimits = field(default_factory=SourceLimits)
    forward: ForwardLimits = field(default_factory=ForwardLimits)
    caption_bytes: int = 1 << 20
    cues_at_once: int = 200
    caption_feeds: int = 16
    waiting_metadata: int = 500
    metadata_late_seconds: int = 10
    event_end_seconds: float = 10.0
    recordings: RecordingsLimits = field(default_factory=RecordingsLimits)
    publish: PublishLimits = field(default_factory=PublishLimits)
    dvr: DvrLimits = field(default_factory=DvrLimits)


DEFAULT_LIMITS = LiveLimits()
