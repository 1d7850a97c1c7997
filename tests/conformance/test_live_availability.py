"""Whatever a playlist listed stays fetchable, with the same bytes, for as long as a player may ask for it.

RFC 8216bis §6.2.1, §6.2.2, §6.2.6: a machine publishes, breaks off, comes back with other codecs, is late,
comes in bursts, and has a disk that is slow or full; after each part the playlists are rendered, and what any
of them named before is fetched as the server does.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from media.mp4.codecs.sample_entry import SampleEntry
from media.subtitles import webvtt
from origin.live.requests.addresses import read_name
from packager.publish.hls import PARTS_KEPT
from packager.publish.live_stream import FoldedLog
from packager.window.aligned_windows import AlignedWindows
from packager.window.cadence import cadence
from packager.window.log import CadenceEntry, Entry, Log, RenditionFormat
from packager.window.log_encoding import LogDecoder, encode
from packager.window.model import WEBVTT_ENTRY, LivePart, LiveSegment, StoredSegment
from packager.window.rendition_log_writer import RenditionWriter
from tests.origin.live.served_log import LOG_BYTES

CADENCE = cadence(Fraction(24), 1.0, 0.25)
TARGET_DURATION = CADENCE.target_duration
PARTS = 4
PART = Fraction(1, PARTS)
FIRST = 100
ENTRY = SampleEntry(b"avc1", "avc1.42c01e", b"", (), width=640, height=360)
VIDEO, TEXTS = "240p", "captions-en"


class Listed(NamedTuple):
    """What a playlist says of a segment."""

    uri: str
    duration: float
    gap: bool

    @property
    def number(self) -> int:
        """Media sequence number."""
        return int(self.uri.partition(".")[0])


def segments(text: str) -> list[Listed]:
    """Read a playlist's finished segments."""
    found, gap = [], False
    for before, line in itertools.pairwise(text.splitlines()):
        gap = gap or before == "#EXT-X-GAP"
        if before.startswith("#EXTINF:"):
            found.append(Listed(line, float(before[len("#EXTINF:") : -1]), gap))
            gap = False
    return found


class Disk:
    """A rendition's shelf: what it is given is there when the test says so."""

    def __init__(self, room: int) -> None:
        self.writer: RenditionWriter | None = None
        self.pending: list[int] = []
        self.files: dict[int, bytes] = {}
        self._room = room

    def put(self, segment: LiveSegment) -> None:
        """Wait for the test to store it."""
        self.pending.append(segment.number)

    def hold(self, size: int) -> bool:
        """Keep within the room."""
        if size > self._room:
            return False
        self._room -= size
        return True

    def release(self, size: int) -> None:
        """Have it again."""
        self._room += size

    def remove(self, number: int, size: int, timelines: Sequence[int]) -> None:
        """Remove it."""
        self.files.pop(number, None)

    def path(self, number: int, _: StoredSegment) -> str:
        """Tell where it is."""
        return str(number)

    def store(self, index: int) -> None:
        """Store one of those that wait."""
        number = self.pending.pop(index % len(self.pending))
        window = None if self.writer is None else self.writer.window
        segment = None if window is None else window.at(number)
        if self.writer is not None and segment is not None and not segment.gap:
            whole = self.writer.window.extension == "vtt"
            sizes = (len(segment.data),) if whole else tuple(len(part.data) for part in segment.parts)
            self.files[number] = segment.data
            if not self.writer.confirm(number, StoredSegment.of(sizes, (number, 1))):
                del self.files[number]


def whole(segment: LiveSegment) -> bytes:
    """Give the text of a segment of captions."""
    return b"whole %d" % segment.number


class Availability(RuleBasedStateMachine):
    """A channel of a picture and captions: with a disk or without, with memory for it or too little."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.seen: dict[tuple[str, str], bytes] = {}
        self.until: dict[tuple[str, str], float] = {}
        self.settled: dict[tuple[str, int], Listed] = {}
        self.removed: dict[str, int] = {}
        self.inits = 0
        self.lossy = False
        self.disks: dict[str, Disk] = {}
        self.reader = LogDecoder(LOG_BYTES)

    @initialize(
        disk=st.sampled_from([True, True, False]),
        room=st.sampled_from([0, 60, 1 << 20, 1 << 20]),
        dvr=st.sampled_from([0.0, 5.0]),
    )
    def begin(self, disk: bool, room: int, dvr: float) -> None:
        """Make the windows."""
        self.lossy = disk and room < 1 << 20
        self.disks = {name: Disk(room) for name in (VIDEO, TEXTS)} if disk else {}
        entry = CadenceEntry(
            CADENCE,
            (
                RenditionFormat(VIDEO, True, 1000, folder=VIDEO if disk else None),
                RenditionFormat(TEXTS, False, 1000, "en", TEXTS if disk else None),
            ),
            FIRST,
            dvr_window=dvr,
        )
        folded = FoldedLog(entry, segment_stores=self.disks, clock=lambda: self.now)
        self.presentation = folded.presentation
        self.windows = {name: one.window for name, one in folded.renditions.items()}
        log = Log(folded.fold, entry)
        self.writers = {
            name: RenditionWriter(log, name, window, whole if name == TEXTS else None)
            for name, window in self.windows.items()
        }
        for name, segment_store in self.disks.items():
            segment_store.writer = self.writers[name]
        self.aligned = AlignedWindows(list(self.writers.values()))
        log.follow(self._follow)
        self.restart()
        self.publish(PARTS, 1.0)

    def _follow(self, entry: Entry) -> None:
        """Fold the log elsewhere, out of its bytes."""
        self.reader.receive_data(encode(entry))
        for one in self.reader.entries():
            if isinstance(one, CadenceEntry):
                self.followed = FoldedLog(one, clock=lambda: self.now)
            else:
                self.followed.fold(one)

    @rule()
    def restart(self) -> None:
        """The source is back, or another one: maybe nothing has come since the last time."""
        self.aligned.align()
        self.inits += 1
        self.writers[VIDEO].begin(b"init %d" % self.inits, ENTRY)
        self.writers[TEXTS].begin(webvtt.HEADER, WEBVTT_ENTRY)

    @rule(parts=st.integers(1, 6 * PARTS), pace=st.sampled_from([1.0, 1.0, 0.0]))
    def publish(self, parts: int, pace: float) -> None:
        """Parts come in time, or all at once after a standstill."""
        for _ in range(parts):
            self.now += float(PART) * pace
            for name, writer in self.writers.items():
                number, index = writer.window.next_part
                date = 1000 + number + index * PART
                part = LivePart(b"%s %d.%d" % (name.encode(), number, index), PART, index == 0)
                writer.append(part, date, ends_segment=index == PARTS - 1)
            if index == PARTS - 1:
                self.look()

    @rule(parts=st.integers(PARTS * 8, PARTS * 20), burst=st.booleans())
    def go_on(self, parts: int, burst: bool) -> None:
        """So much comes that all that was listed has left the list."""
        self.publish(parts, 0.0 if burst else 1.0)

    @rule(count=st.integers(1, 3))
    def be_late(self, count: int) -> None:
        """Gaps stand for what doesn't come."""
        for _ in range(count):
            self.now += 1
            self.aligned.fill(Fraction(1))

    @rule(seconds=st.floats(0.1, 30))
    def stand_still(self, seconds: float) -> None:
        """Time passes, and nothing comes."""
        self.now += seconds

    @rule(count=st.integers(1, 40), index=st.integers(0, 40))
    def store(self, count: int, index: int) -> None:
        """The disk takes some of what waits, in some order."""
        for disk in self.disks.values():
            for _ in range(min(count, len(disk.pending))):
                disk.store(index)

    @invariant()
    def look(self) -> None:
        """Read the playlists, and fetch what they and those before them name."""
        # The server gives no playlist before that.
        for name in self.windows if self.aligned.ready else ():
            text = self.presentation.media(name).decode()
            assert self.followed.presentation.media(name).decode() == text
            self._note(name, text)
            self._settle(name, text)
        for (name, uri), moment in list(self.until.items()):
            if moment < self.now:
                # It may be gone now.
                del self.until[name, uri]
                continue
            data = self._fetch(name, uri)
            assert data is not None, f"{name}/{uri}"
            assert self.seen.setdefault((name, uri), data) == data, f"{name}/{uri} is another one now"

    def _note(self, name: str, text: str) -> None:
        """Note until when what a playlist names must be there."""
        listed = segments(text)
        duration = sum(one.duration for one in listed)
        if self.removed.setdefault(name, FIRST) < (first := listed[0].number):
            # §6.2.2: no removal makes a playlist shorter than three target durations.
            assert duration >= 3 * TARGET_DURATION
            self.removed[name] = first
        # §6.2.2: a player that has this playlist now may ask for as long as it plays it.
        names = [one.uri for one in listed if not one.gap]
        names += re.findall(r'#EXT-X-(?:MAP:|PRELOAD-HINT:TYPE=MAP,)URI="([^"]+)"', text)
        self._extend(name, names, duration)
        # Part tags go before their segments do, and parts stay for the same three target durations.
        self._extend(name, re.findall(r'#EXT-X-PART:.*?URI="([^"]+)"', text), PARTS_KEPT * TARGET_DURATION)
        for lost in (one for one in listed if one.gap):
            # §6.2.1: what was there is not taken back, but for want of memory.
            assert self.until.pop((name, lost.uri), None) is None or self.lossy
            for index in range(PARTS if self.lossy else 0):
                self.until.pop((name, lost.uri.replace(".", f".{index}.")), None)

    def _extend(self, name: str, uris: list[str], seconds: float) -> None:
        for uri in uris:
            self.until[name, uri] = max(self.until.get((name, uri), 0), self.now + seconds)

    def _settle(self, name: str, text: str) -> None:
        """§6.2.5.1: the lines that a delta update skips are those that they were."""
        skipped = re.search(r"SKIPPED-SEGMENTS=(\d+)", self.presentation.media(name, skip=True).decode())
        for one in segments(text)[: int(skipped[1]) if skipped else 0]:
            assert self.settled.setdefault((name, one.number), one) == one

    def _fetch(self, name: str, uri: str) -> bytes | None:
        """Give what the server would: from memory, or from disk."""
        window, asked = self.windows[name], read_name(uri)
        data = asked.of(window).in_memory(window)
        followed = self.followed.renditions[name].window
        assert asked.of(followed).in_memory(followed) == data
        if data is not None or (stored := window.stored(asked.number)) is None:
            return None if data is None else bytes(data)
        whole = self.disks[name].files[int(stored[0])]
        part = re.fullmatch(r"\d+\.(\d+)\.m4s", uri)
        if part is None:
            return whole if uri.count(".") == 1 else None
        begin = sum(stored[1].part_sizes[: int(part[1])])
        return whole[begin : begin + stored[1].part_sizes[int(part[1])]]


@pytest.mark.clause("RFC 8216bis §6.2.2 MUST 4", "RFC 8216bis §6.2.2 MUST 6", "RFC 8216bis §6.2.2 MUST 8")
def test_whatever_a_playlist_named_stays_fetchable_with_the_same_bytes() -> None:
    run_state_machine_as_test(
        Availability,
        # A case that fails is short enough as it is.
        settings=settings(
            max_examples=40, stateful_step_count=10, deadline=None, phases=[Phase.reuse, Phase.generate]
        ),
    )
