"""Looks at the first seconds of a published stream whose picture and sound can go out without encoding.

A channel copies by itself where its ladder is nothing but the source's own picture, or where the publisher
sends each rendition of it, and where a reader here gives the samples of the stream's container and codecs.
ffmpeg plays anything else; ffprobe inspects what can't be read here.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from media.errors import MediaError
from media.mp4.codecs.sample_entry import SampleEntry, parse_sample_entry
from media.mp4.codecs.silence import silent_frame
from media.mp4.fragments.fragments import Fragment, InitSegment
from media.muxers.fragment_muxer import FragmentMuxer
from media.packets import Packet, StreamEvent, StreamTrack, TrackKind
from media.stream_reader import CLOCK_RATE, StreamChunk
from packager.ffmpeg.ladder import SOURCE_RUNG, Rung
from packager.reader_guard import ReaderGuard
from packager.segment.keyframe_cadence import AUDIO_FRAME, KeyframePattern
from packager.sources.containers import CONTAINERS, Demuxer, demuxer_of, may_be_demuxed
from packager.sources.demuxing import ChunkDemuxer, container_for
from packager.sources.further_video_tracks import FurtherVideoTracksError, find_renditions
from packager.sources.limits import DEFAULT_LIMITS, SourceLimits
from packager.sources.publication import PACKETS_AT_ONCE
from packager.sources.published_source import PublishedSource
from packager.sources.source import MAX_COPIED_FRAME_RATE, STILL_FRAME_RATE, Source, usual_frame_rate
from packager.step_budget import StepBudget


class Copier(FragmentMuxer):
    """Writes a stream as fragmented MP4 in steps, without I/O.

    Args:
        demuxer: of a stream whose chunks are bytes, as ffmpeg gets them where the stream isn't copied.
    """

    def __init__(self, demuxer: Demuxer | None = None) -> None:
        super().__init__()
        self._reader = ChunkDemuxer(demuxer)

    @property
    def fault(self) -> str:
        """The error of the times of a stream that is demuxed here; empty while they are right."""
        return self._reader.fault

    @property
    def has_picture(self) -> bool:
        """Whether a picture has come, or its beginning."""
        return super().has_picture or self._reader.has_begun_picture

    @property
    def may_have_sound(self) -> bool:
        """Whether sound may come with a picture that has come."""
        return self._reader.may_have_sound

    @property
    def has_other_samples(self) -> bool:
        """Whether ffmpeg can't copy the stream's own bytes into MP4."""
        return self._reader.has_other_samples

    def steps(self, chunks: Sequence[StreamChunk]) -> Iterator[list[InitSegment | Fragment]]:
        """Write the next chunks; yield the init segments and fragments of each step.

        Raises:
            MediaError: the stream can't be copied.
        """
        for packets in self.packets(chunks):
            for begin in range(0, len(packets), PACKETS_AT_ONCE):
                yield self.push(packets[begin : begin + PACKETS_AT_ONCE])

    def packets(self, chunks: Sequence[StreamChunk]) -> Iterator[Sequence[Packet]]:
        """Demux the next chunks; yield the packets of each step.

        Raises:
            MediaError: the stream can't be demuxed.
        """
        return self._reader.packets(chunks)

    def take_events(self) -> Sequence[StreamEvent]:
        """Return the timed events that have come, once."""
        return self._reader.take_events()

    def last_packets(self) -> Sequence[Packet]:
        """Return the packets that wait at the end of the stream.

        Raises:
            MediaError: the stream can't be demuxed.
        """
        return self._reader.finish()


def copier_of(container: str, limits: SourceLimits) -> Copier | None:
    """Make the copier of a container, by ffmpeg's name; None if it can't be copied."""
    if container in CONTAINERS and CONTAINERS[container].has_packets:
        return Copier()
    return Copier(demuxer_of(container, limits, needs_sound=True)) if may_be_demuxed(container) else None


CODEC_NAMES = {
    b"avc1": "h264",
    b"hvc1": "hevc",
    b"av01": "av1",
    b"vp09": "vp9",
    b"mp4a": "aac",
    b"Opus": "opus",
    b"fLaC": "flac",
    b"ac-3": "ac3",
    b"ec-3": "eac3",
}
"""ffmpeg's names of codecs, by the type of their sample entries."""

SEEN_KEY_FRAMES = 3
"""Key frames from which it is known how often they come: two groups of pictures, or a view of seconds."""

FIRST_KEY_FRAMES = 2
"""Key frames that are enough where nothing speaks against all groups being like the first one."""

SHORTEST_FIRST_GROUP = Fraction(1, 2)
"""Seconds of a first group of pictures that may stand for all."""

RATE_ERROR = Fraction(1, 1000)
"""Seconds by which the first group's length is known, where a container has times in milliseconds."""

_GROUP_OF_ENCODER = re.compile(rb"\bkeyint=([0-9]{1,6})\b")
"""The setting in the first picture by x264 and x265: the most frames from key frame to key frame."""

_NOTE_BYTES = 4096
"""How much of that picture is searched for it."""


async def inspect_demuxed(
    published: PublishedSource,
    ladder: Sequence[Rung] = (SOURCE_RUNG,),
    limits: SourceLimits = DEFAULT_LIMITS,
    former: Source | None = None,
) -> Source | None:
    """Inspect the stream on air until it is known how it can be cut.

    Args:
        published: the channel's publications; one of them is on air.
        ladder: the channel's video renditions, the source's own picture first.
        limits: how much of it is looked at, and how long that is waited for.
        former: the source as it was before the publication changed its format, if it did.

    Returns:
        The source, ``copied`` if the stream has each rendition. None where ffprobe must inspect it, since it
        has no picture, or one that moves without sound, or others than can be copied here.
    """
    former = None if published.further_video_tracks else former
    is_copied = len(ladder) == 1 or bool(published.further_video_tracks)
    source = await _inspect_main(published, limits, former, awaits_bursts=is_copied)
    if source is None:
        return None
    encoded = replace(source, copied=None)
    if len(ladder) > 1 and not published.further_video_tracks:
        return encoded
    try:
        keys = () if source.seen is None else source.seen.keys
        further = await find_renditions(published.further_video_tracks, ladder[1:], keys, limits)
    except FurtherVideoTracksError as error:
        published.leave_further_video_tracks(str(error))
        return encoded
    return replace(source, further=further)


async def _inspect_main(
    published: PublishedSource, limits: SourceLimits, former: Source | None, *, awaits_bursts: bool
) -> Source | None:
    """Inspect the main video track and the sound.

    Args:
        awaits_bursts: whether it must be known how much comes at once.
    """
    copier, live = copier_of(published.received_container, limits), published.live
    branch = published.branch(limits.ahead_bytes, -math.inf)
    if copier is None or live is None or branch is None:
        return None
    budget = StepBudget()
    seen = SeenStream(copier, former, limits.slow_seconds)
    try:
        loop = asyncio.get_running_loop()
        latest = loop.time() + limits.seen_grace_seconds
        async with asyncio.timeout_at(latest + limits.seen_seconds) as patience:
            while not seen.is_enough(limits) or (awaits_bursts and published.burst_seconds is None):
                # Where the first data are a burst, the second one shows how long each is.
                if seen.lacks_sound:
                    return None
                if not (chunks := await branch.read()):
                    return None
                with ReaderGuard(published.channel):
                    for events in copier.steps(chunks):
                        for event in events:
                            seen.push(event)
                        await budget.spend()
                is_slow = seen.is_slow or seen.is_still_alone
                patience.reschedule(latest + (limits.seen_slow_seconds if is_slow else limits.seen_seconds))
    except TimeoutError:
        # Key frames may be so rare, or the stream so slow.
        pass
    except MediaError:
        # ffprobe finds out whether another kind of stream can be played.
        return None
    finally:
        branch.receive_eof()
    source = seen.source()
    if source is None:
        return None
    is_framed, tracks = False, copier.sources if published.may_demux else ()
    is_still = source.seen is not None and source.seen.picture_frame >= limits.slow_seconds
    is_muxed = not (copier.fault or copier.has_other_samples or is_still)
    if published.received_container == "mpegts" and is_muxed:
        # Its times are finer than those of any container into which its packets could go.
        is_framed, tracks = source.audio_codec == "aac", ()
    if not container_for(tracks):
        tracks = ()
    return replace(source, pump=published, copied=published, tracks=tracks, framed=is_framed)


async def find_tracks(
    published: PublishedSource, limits: SourceLimits = DEFAULT_LIMITS, *, keep: bool = False
) -> tuple[StreamTrack, ...]:
    """Return the tracks of the stream on air, if it is to be demuxed here for ffmpeg.

    Empty if ffmpeg must get the stream as it comes: it can't be demuxed, its sound is another one than can be
    copied, or one track doesn't come. Pictures of two fields that are copied are demuxed in any case, since
    ffmpeg copies each field as a picture; pictures that stand still also without sound, as ffmpeg shows one
    once the next comes.

    Args:
        keep: whether the picture is copied: it keeps the times of its own container, unless it has fields.
    """
    if not published.may_demux or (keep and published.received_container != "mpegts"):
        return ()
    branch = published.branch(limits.ahead_bytes, -math.inf)
    if branch is None:
        return ()
    demuxer = demuxer_of(published.received_container, limits, needs_sound=False)
    reader, budget = ChunkDemuxer(demuxer), StepBudget()
    tracks, pictures = dict[TrackKind, StreamTrack](), list[int]()
    try:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.timeout_at(began + limits.tracks_seconds) as patience:
            while not _is_known(tracks, reader, len(pictures), keep=keep) and (chunks := await branch.read()):
                with ReaderGuard(published.channel):
                    for packets in reader.packets(chunks):
                        sent = [one for one in packets if one.data]
                        tracks |= {one.track.kind: one.track for one in sent}
                        pictures += [one.dts for one in sent if one.track.kind is TrackKind.VIDEO]
                        await budget.spend()
                is_slow = reader.has_begun_picture and TrackKind.VIDEO not in tracks
                patience.reschedule(began + (limits.seen_slow_seconds if is_slow else limits.tracks_seconds))
    except TimeoutError:
        pass
    except MediaError:
        return ()
    finally:
        branch.receive_eof()
    found = tuple(tracks.values())
    lasts = (pictures[1] - pictures[0]) / CLOCK_RATE if len(pictures) > 1 else math.inf
    is_whole = len(found) == BOTH_TRACKS
    if reader.has_fields:
        # Other sound would be missing: what is encoded needs no samples of whole pictures.
        is_demuxed = TrackKind.VIDEO in tracks and (keep or is_whole or not reader.has_other_sound)
    else:
        is_still = TrackKind.VIDEO in tracks and lasts >= limits.slow_seconds
        is_demuxed = not keep and not reader.has_other_sound and (is_whole or is_still)
    return found if is_demuxed and container_for(found) else ()


def _is_known(
    tracks: Mapping[TrackKind, StreamTrack], reader: ChunkDemuxer, pictures: int, *, keep: bool
) -> bool:
    """Return whether all tracks have come, or so many pictures that ffmpeg is to get as they come."""
    if TrackKind.VIDEO not in tracks:
        return False
    if len(tracks) == BOTH_TRACKS or (keep and not reader.has_fields):
        return True
    return not reader.may_have_sound and (pictures > 1 or reader.has_fields)


BOTH_TRACKS = 2
"""A picture and its sound."""


class SeenStream:
    """Observations of a stream: its tracks, its frame rate and its key frames.

    Args:
        former: the source before the stream changed its format: the rate and the key frames stay.
        slow_seconds: for which a picture stands still.
    """

    def __init__(
        self,
        copier: Copier,
        former: Source | None = None,
        slow_seconds: float = DEFAULT_LIMITS.slow_seconds,
    ) -> None:
        self._copier = copier
        self._slow = slow_seconds
        self._former = former if former is not None and former.seen is not None else None
        self._group_frames = 0
        self._told_group: int | None = None
        self._entries: dict[int, SampleEntry] = {}
        self._timescales: dict[int, int] = {}
        self._keys: list[Fraction] = []
        self._counts: dict[int, int] = {}
        self._ticks: dict[int, int] = {}
        self._picture_ticks: Counter[int] = Counter()

    def push(self, event: InitSegment | Fragment) -> None:
        """Add an event of the stream."""
        if isinstance(event, InitSegment):
            (track,) = event.tracks
            self._entries[track.track_id] = parse_sample_entry(track.sample_entries[0])
            self._timescales[track.track_id] = track.timescale
            return
        track_id, time = event.track_id, event.base_media_decode_time
        timescale, has_picture = self._timescales[track_id], bool(self._entries[track_id].width)
        for index, sample in enumerate(event.samples):
            if has_picture and sample.is_sync:
                self._see_key(event, index, Fraction(time + sample.composition_offset, timescale))
            time += sample.duration
        if has_picture:
            self._picture_ticks.update(sample.duration for sample in event.samples)
        self._counts[track_id] = self._counts.get(track_id, 0) + len(event.samples)
        self._ticks[track_id] = self._ticks.get(track_id, 0) + time - event.base_media_decode_time

    def _see_key(self, event: Fragment, index: int, shown: Fraction) -> None:
        """Note a key frame: a fragment's sample with this index, shown at a time."""
        if not self._keys:
            begin = sum(sample.size for sample in event.samples[:index])
            noted = _GROUP_OF_ENCODER.search(event.data, begin, begin + _NOTE_BYTES)
            self._told_group = None if noted is None else int(noted[1])
            self._group_frames = -index - self._counts.get(event.track_id, 0)
        elif len(self._keys) == 1:
            self._group_frames += index + self._counts.get(event.track_id, 0)
        self._keys.append(shown)

    def _is_like_first(self) -> bool:
        """Return whether all groups of pictures may be taken to be like the first one, and of its frame rate.

        Encoders that write of their settings may have begun a group because the scene changed: then it is
        shorter than they write. And a second is too short to distinguish 30 frames from 29.97, unless the
        configuration has the rate.
        """
        if len(self._keys) < FIRST_KEY_FRAMES or self._told_group not in (None, self._group_frames):
            return False
        told, group = self._copier.told_frame_rate, self._keys[1] - self._keys[0]
        return (
            told is not None
            and group >= SHORTEST_FIRST_GROUP
            and usual_frame_rate(told, MAX_COPIED_FRAME_RATE) == told
            and abs(self._group_frames / told - group) <= RATE_ERROR
        )

    @property
    def is_slow(self) -> bool:
        """Whether a picture has begun to come that lasts so long that its duration isn't known yet.

        In MPEG-TS it is whole once the next one begins, and how long it lasts is known with that one's end.
        """
        return self._copier.has_picture and self._track(has_picture=True) is None

    @property
    def is_still_alone(self) -> bool:
        """Whether pictures stand still for seconds, and no sound is announced: silence stands for it."""
        picture = self._track(has_picture=True)
        if picture is None or self._sound is not None:
            return False
        return self._longest_usual() >= self._slow * self._timescales[picture]

    @property
    def lacks_sound(self) -> bool:
        """Whether pictures that move come alone: such a stream isn't copied here."""
        has_picture = self._track(has_picture=True) is not None
        return has_picture and not self._copier.may_have_sound and not self.is_still_alone

    def is_enough(self, limits: SourceLimits) -> bool:
        """Return whether all is known that is to be known of a stream, or as much was seen as may be."""
        if len(self._keys) >= limits.seen_keys:
            return True
        seconds = max((self._ticks[one] / self._timescales[one] for one in self._ticks), default=0.0)
        has_both = self._track(has_picture=True) is not None and self._sound is not None
        if not has_both and not self.is_still_alone:
            return seconds >= (limits.seen_slow_seconds if self.is_slow else limits.seen_apart_seconds)
        if self._former is not None and self._keys:
            return True
        enough = len(self._keys) >= SEEN_KEY_FRAMES or self._is_like_first()
        return enough or seconds >= limits.seen_seconds

    def _track(self, *, has_picture: bool) -> int | None:
        """Find the picture, or the sound, of which there are samples."""
        found = (one for one, entry in self._entries.items() if bool(entry.width) == has_picture)
        return next((one for one in found if self._counts.get(one)), None)

    @property
    def _sound(self) -> int | None:
        """The sound of which there are samples, or which was announced at least."""
        announced = (one for one, entry in self._entries.items() if not entry.width)
        return self._track(has_picture=False) or next(announced, None)

    def source(self) -> Source | None:
        """Return the source; None without a picture, or sound beside moving ones, or with other codecs."""
        picture, sound = self._track(has_picture=True), self._sound
        if picture is None or not self._keys or (sound is None and not self.is_still_alone):
            return None
        entry, heard = self._entries[picture], None if sound is None else self._entries[sound]
        if entry.kind not in CODEC_NAMES or (heard is not None and heard.kind not in CODEC_NAMES):
            return None
        scale = self._timescales[picture]
        # Pauses say nothing of the rate, such as behind a first picture whose followers were lost.
        longest = 2 * self._longest_usual()
        usual = {ticks: count for ticks, count in self._picture_ticks.items() if ticks <= longest}
        seen = sum(ticks * count for ticks, count in usual.items())
        rate = Fraction(sum(usual.values()) * scale, seen) if seen else STILL_FRAME_RATE
        if self._is_like_first():
            rate = self._copier.told_frame_rate or rate
        count, frame = 0, AUDIO_FRAME
        if sound is not None and (count := self._counts.get(sound, 0)):
            frame = Fraction(self._ticks[sound], count * self._timescales[sound])
        # Silence stands in for sound that is announced and doesn't come.
        if not count and heard is not None and silent_frame(heard) is None:
            return None
        pattern = KeyframePattern(
            tuple(sorted(self._keys)), frame, picture_frame=Fraction(self._longest_usual(), scale)
        )
        rate = usual_frame_rate(rate, MAX_COPIED_FRAME_RATE)
        if self._former is not None and self._former.seen is not None and not self._is_like_first():
            pattern = replace(self._former.seen, audio_frame=frame if count else AUDIO_FRAME)
            rate = self._former.frame_rate
        return Source(
            frame_rate=rate,
            video_codec=CODEC_NAMES[entry.kind],
            has_audio=heard is not None,
            audio_codec="" if heard is None else CODEC_NAMES[heard.kind],
            size=(entry.width, entry.height),
            seen=pattern,
        )

    def _longest_usual(self) -> int:
        """Return the ticks that nine of ten pictures don't exceed."""
        left = sum(self._picture_ticks.values()) // 10
        for ticks in sorted(self._picture_ticks, reverse=True):
            left -= self._picture_ticks[ticks]
            if left < 0:
                return ticks
        return 0
