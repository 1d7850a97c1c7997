"""The serving side of a live channel: the windows its log is folded into, its playlists and viewers."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

from packager.bounded_dict import BoundedDict
from packager.publish.channel_commands import Commands
from packager.publish.hls import Presentation
from packager.window.cadence import Cadence
from packager.window.limits import DEFAULT_LIMITS, PublishLimits
from packager.window.log import CadenceEntry, DateRangeEntry, Entry, RenditionFormat
from packager.window.model import (
    MEDIA_EXTENSION,
    TEXT_EXTENSION,
    LiveSegment,
    SegmentStore,
    StoredSegment,
    WindowOptions,
)
from packager.window.rendition import Rendition, stored_name
from packager.window.snapshot import (
    DateRangesEntry,
    HeldSegmentsEntry,
    PeriodsEntry,
    SegmentMediaEntry,
    SnapshotBeginEntry,
    SnapshotEndEntry,
    SnapshotEntry,
    WindowStateEntry,
)
from packager.window.window import Window

MAX_VIEWERS = 100_000
"""Most clients that are counted; beyond, the longest silent ones aren't."""


class ViewerCounter:
    """Counts the distinct clients of a channel.

    Args:
        seconds: how long a client counts after a request.
        max_viewers: most clients that are counted.
    """

    def __init__(
        self,
        seconds: float,
        on_seen: Callable[[], None] = lambda: None,
        max_viewers: int = MAX_VIEWERS,
    ) -> None:
        self.seconds = seconds
        self._on_seen = on_seen
        self._seen = BoundedDict[Hashable, float](max_viewers)

    def note(self, client: Hashable, now: float) -> None:
        """Note a client's request.

        Args:
            client: the key by which the client is counted once.
            now: seconds of a clock that never goes back.
        """
        self._forget(now)
        self._seen[client] = now
        self._on_seen()

    def count(self, now: float) -> int:
        """Count the clients that asked in the last ``seconds``."""
        self._forget(now)
        return len(self._seen)

    def seen_since(self, moment: float) -> list[Hashable]:
        """Return the counted clients with a request since a moment, newest first."""
        newest = itertools.takewhile(lambda one: one[1] >= moment, reversed(self._seen.items()))
        return [client for client, _ in newest]

    def _forget(self, now: float) -> None:
        self._seen.evict_while(lambda seen: seen < now - self.seconds)


class ReadOnlySegmentStore:
    """Finds a rendition's segments where another process, or another part of this one, stores them.

    The log lists the stored segments.

    Args:
        folder: a folder on disk that both processes see, or one of a bucket that begins with ``s3://``.
        extension: how the segments' names end.
    """

    def __init__(self, folder: str, extension: str) -> None:
        self._folder = folder
        self._extension = extension

    def put(self, segment: LiveSegment) -> None:
        """Do nothing, as the other process stores segments."""

    def hold(self, size: int) -> bool:
        """Keep a segment's bytes in memory until the log says that they are stored or lost."""
        del size
        return True

    def release(self, size: int) -> None:
        """Do nothing, as the other process counts waiting bytes."""

    def remove(self, number: int, size: int, timelines: Sequence[int]) -> None:
        """Do nothing, as the other process removes segments."""

    def path(self, number: int, stored: StoredSegment) -> str:
        """Return the place of a stored segment."""
        return f"{self._folder}/{stored_name(number, stored.stored_by, self._extension)}"


class FoldedLog:
    """The result of folding a channel's log from one cadence to the next.

    Args:
        limits: how many requests may wait, and what is kept of playlists.
        segment_stores: the stores of this process, by rendition; the entry names those of other processes.
        clock: returns monotonic seconds.

    Attributes:
        cadence: the durations that the renditions share.
        renditions: by name, video from large to small, then the sound, then captions.
    """

    def __init__(
        self,
        entry: CadenceEntry,
        limits: PublishLimits = DEFAULT_LIMITS,
        *,
        segment_stores: Mapping[str, SegmentStore] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._limits = limits
        self._segment_stores = {} if segment_stores is None else segment_stores
        self.entry = entry
        self.cadence = entry.cadence
        self.renditions = {
            one.name: Rendition(one.name, self._window(entry, one), one.video, one.bitrate, one.language)
            for one in entry.renditions
        }
        finished = [one.window.finished for one in self.renditions.values()]
        for one in finished:
            one.beside = [other for other in finished if other is not one]
        self.presentation = Presentation(self.renditions, entry.cadence, limits, clock)

    def _window(self, entry: CadenceEntry, rendition: RenditionFormat) -> Window:
        text = rendition.language is not None
        segment_store = self._segment_stores.get(rendition.name)
        if segment_store is None and rendition.folder is not None:
            extension = TEXT_EXTENSION if text else MEDIA_EXTENSION
            segment_store = ReadOnlySegmentStore(rendition.folder, extension)
        options = WindowOptions(
            entry.cadence.target_duration,
            entry.first_number,
            entry.dvr_window,
            text=text,
            discontinuity_sequence=entry.discontinuity_sequence,
            has_past=entry.has_past,
        )
        return Window(options, segment_store, self._limits, self._clock)

    def fold(self, entry: Entry) -> None:
        """Apply an entry that follows the cadence.

        Raises:
            ImplausibleDateError: a date range can't be written, or never is over.
            DateRangeError: its ID was used for another one, or there are too many.
        """
        if isinstance(entry, DateRangeEntry):
            self.presentation.add_date_range(entry.tag)
        elif isinstance(entry, SegmentMediaEntry):
            self.renditions[entry.rendition].window.fill(entry.number, entry.data)
        elif not isinstance(entry, CadenceEntry | SnapshotEntry):
            self.renditions[entry.rendition].window.fold(entry)

    def restore(self, entry: SnapshotEntry) -> None:
        """Apply an entry of a snapshot, whose cadence this has."""
        match entry:
            case WindowStateEntry():
                self.renditions[entry.rendition].window.begin_from(entry)
            case HeldSegmentsEntry():
                self.renditions[entry.rendition].window.hold(entry)
                self.presentation.make_lines(entry.rendition)
            case DateRangesEntry() | PeriodsEntry():
                self.presentation.begin_from(entry)

    @property
    def awaits_media(self) -> bool:
        """Whether the snapshot had segments whose bytes haven't come yet."""
        return any(one.window.awaits_media for one in self.renditions.values())

    def media(self) -> list[SegmentMediaEntry]:
        """Return the media that a snapshot without media lacks now, those of the newest segments first."""
        found = [one.window.media(name) for name, one in self.renditions.items()]
        return sorted(itertools.chain(*found), key=lambda entry: -entry.number)

    def snapshot(self, *, has_media: bool = True) -> Iterator[Entry]:
        """Return the entries from which another process rebuilds the windows and playlists.

        Entries that are folded during the iteration aren't in the snapshot, and follow it.

        Args:
            has_media: whether to include segments' bytes; else the entries of ``media`` are to follow.
        """
        states = [one.window.state(name, has_media=has_media) for name, one in self.renditions.items()]
        return itertools.chain(
            (SnapshotBeginEntry(), self.entry),
            [state for state, _ in states],
            *(segments for _, segments in states),
            self.presentation.state(),
            (SnapshotEndEntry(),),
        )

    def take_over(self, newer: FoldedLog) -> None:
        """Take the contents of another folded log, which is given up; waiting requests then wait for these.

        Args:
            newer: a log of the same cadence with later contents.
        """
        self.presentation.take_over(newer.presentation)
        for name, rendition in self.renditions.items():
            rendition.window.take_over(newer.renditions[name].window)

    def close(self) -> None:
        """Release all waiters; none can be added any more."""
        for rendition in self.renditions.values():
            rendition.window.close()


class LiveStream:
    """The serving side of a live channel.

    Args:
        commands: carries out commands of requests at the channel.
        limits: how many requests may wait, and what is kept of playlists.
        restores: whether the channel begins with stored segments, whose loading takes a while.
        is_followed: whether another process makes the channel, so that this stream may be behind.
        clock: returns monotonic seconds.

    Attributes:
        wall_clock: returns seconds since the epoch.
        cadence: the durations that the renditions share.
        renditions: by name, video from large to small, then the sound, then captions.
        viewer_counter: counts the clients with a recent request for a playlist.
        waiting_elsewhere: how many requests wait in each other process that serves the channel.
    """

    def __init__(
        self,
        name: str,
        commands: Commands,
        limits: PublishLimits = DEFAULT_LIMITS,
        *,
        restores: bool = False,
        is_followed: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.commands = commands
        self.is_followed = is_followed
        self.wall_clock: Callable[[], float] = time.time
        self.waiting_elsewhere: dict[Hashable, int] = {}
        self.restores = restores
        self._limits = limits
        self._clock = clock
        self._folded: FoldedLog | None = None
        # The windows of an incomplete snapshot, which aren't served yet.
        self._restored: FoldedLog | None = None
        self._is_restoring = False
        self.cadence: Cadence
        self.renditions: Mapping[str, Rendition]
        self.presentation: Presentation
        self.viewer_counter: ViewerCounter
        self._ready = False

    def fold(self, entry: Entry) -> None:
        """Take an entry of the channel's log, which begins with a cadence or a snapshot."""
        if isinstance(entry, SnapshotBeginEntry):
            self._is_restoring, self._restored = True, None
        elif isinstance(entry, SnapshotEndEntry):
            self._finish_restoring()
        elif isinstance(entry, SnapshotEntry):
            if self._restored is not None:
                self._restored.restore(entry)
        elif not isinstance(entry, CadenceEntry):
            if self._folded is not None:
                self._folded.fold(entry)
        elif self._is_restoring:
            self._restored = FoldedLog(entry, self._limits, clock=self._clock)
        else:
            self.adopt(FoldedLog(entry, self._limits, clock=self._clock))

    def forget_snapshot(self) -> None:
        """Drop an incomplete snapshot, whose end doesn't come."""
        self._restored, self._is_restoring = None, False

    def _finish_restoring(self) -> None:
        """Serve what a snapshot has given."""
        restored, self._restored, self._is_restoring = self._restored, None, False
        if restored is None:
            return
        if self._folded is not None and self._folded.entry == restored.entry:
            # The same windows: waiting requests are answered from the snapshot, or wait on.
            self._folded.take_over(restored)
            self._ready = False
        else:
            self.adopt(restored)

    def snapshot(self, *, has_media: bool = True) -> Iterator[Entry]:
        """Return the entries from which another process rebuilds the stream; none before a cadence.

        Args:
            has_media: as for ``FoldedLog.snapshot``.
        """
        return iter(()) if self._folded is None else self._folded.snapshot(has_media=has_media)

    def media(self) -> list[SegmentMediaEntry]:
        """Return the media that a snapshot without media lacks now, those of the newest segments first."""
        return [] if self._folded is None else self._folded.media()

    @property
    def awaits_media(self) -> bool:
        """Whether the snapshot had segments whose bytes haven't come yet."""
        return self._folded is not None and self._folded.awaits_media

    def adopt(self, folded: FoldedLog) -> None:
        """Replace the windows; requests that wait at the former ones are released."""
        former, self._folded = self._folded, folded
        self.cadence, self.presentation = folded.cadence, folded.presentation
        self.renditions = folded.renditions
        limits = folded.presentation.limits
        seconds = limits.viewer_target_durations * folded.cadence.target_duration
        self.viewer_counter = ViewerCounter(seconds, self.commands.note_viewer, MAX_VIEWERS)
        self._ready = False
        if former is not None:
            former.close()

    def close(self) -> None:
        """Release all waiters; none can be added any more."""
        if self._folded is not None:
            self._folded.close()

    @property
    def begun_with(self) -> CadenceEntry | None:
        """The entry that its windows were made from; None before there are any."""
        return None if self._folded is None else self._folded.entry

    @property
    def ready(self) -> bool:
        """Whether every rendition has a finished segment, so that playlists can be played."""
        # Once they have one they always do: looking again at each request would be in vain.
        self._ready = self._ready or all(one.window.has_segments() for one in self.renditions.values())
        return self._ready

    @property
    def has_media(self) -> bool:
        """Whether the channel is ready, or has media of an earlier process that had fewer renditions."""
        if self.ready:
            return True
        windows = [one.window for one in self.renditions.values()]
        return all(one.listed for one in windows) and any(one.has_segments() for one in windows)

    @property
    def is_withdrawn(self) -> bool:
        """Whether nothing comes any more, and what came isn't served here any more."""
        return not self.ready and all(one.window.ended for one in self.renditions.values())

    @property
    def target_duration(self) -> int:
        """EXT-X-TARGETDURATION in seconds."""
        return self.cadence.target_duration

    @property
    def languages(self) -> list[str]:
        """The captions' languages, as BCP 47 tags."""
        return [one.language for one in self.renditions.values() if one.language is not None]

    def note_viewer(self, client: Hashable) -> None:
        """Note a client's request for a playlist."""
        self.viewer_counter.note(client, self._clock())

    @property
    def viewers(self) -> int:
        """How many clients fetched a playlist lately."""
        return self.viewer_counter.count(self._clock())

    @property
    def blocked(self) -> int:
        """How many requests wait for a part or a segment."""
        count = sum(self.waiting_elsewhere.values())
        for one in self.renditions.values():
            count += one.window.waiters.count
        return count
