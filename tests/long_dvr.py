"""A DVR of many days on disk or in S3, made without waiting: as a channel of four renditions leaves it.

What a server has written of its last hours to a disk is in the renditions' folders, and all before that in
the blocks of the past, which the server's own code writes. Media are a few segments under many names, so that
a month needs no more room than its index; those of the spans that are to be played have their own times.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from media.mp4.fragments.fragments import Fragment, FragmentReader, InitSegment, write_fragment
from packager.dvr import index, stored_cadence
from packager.dvr.block_writer import BlockWriter
from packager.dvr.bucket.index_pieces import PieceName
from packager.dvr.index import IndexLine
from packager.dvr.limits import DEFAULT_LIMITS
from packager.dvr.past_blocks import PastBlocks
from packager.dvr.stored_outlines import OutlineStore, OutlineWriter
from packager.past.outlines import BLOCK_SEGMENTS
from packager.safe_files import DataFolder
from packager.window.cadence import cadence
from tests.made_once import made_once

if TYPE_CHECKING:
    from obstore.store import S3Store

PICTURES = ("720p", "480p", "360p")
RENDITIONS = (*PICTURES, "audio")
STEP = Fraction(48, 25)
"""Seconds of a segment: whole pictures, and whole frames of sound."""

SIZES = "128x72", "160x90"
"""Of the pictures, before and behind the change of the codec's parameters."""

PARTS = 6
PICTURES_IN_PART, FRAMES_IN_PART = 8, 15
TIMES = cadence(Fraction(25), float(STEP), float(STEP / PARTS))
LINKS = 30_000
"""How many names one file has, of the 65,000 that it may."""

STORER = 7
"""The number of who stored what is in S3."""

PUTS_AT_ONCE = 16

CONFIGURATION = """
[[live]]
name = "long"
source = "publish"
publish_key = "key"
ladder = ["720p", "480p", "360p"]
segment_duration = 1.92
part_duration = 0.32
"""


@dataclass(frozen=True)
class Segment:
    """The bytes of a segment, and where the decode times of its parts are."""

    data: bytes
    sizes: tuple[int, ...]
    times: tuple[int, ...]
    ticks: int
    key_frame_end: int

    def at(self, seconds: Fraction, timescale: int) -> bytes:
        """Give it with the decode times of another moment."""
        data = bytearray(self.data)
        for part, offset in enumerate(self.times):
            struct.pack_into(">Q", data, offset, round(seconds * timescale) + part * self.ticks)
        return bytes(data)


@dataclass(frozen=True)
class Media:
    """What a rendition has between two changes of its codec."""

    init: bytes
    timescale: int
    segment: Segment


def make_media(size: str) -> dict[str, Media]:
    """Let ffmpeg encode one segment of each rendition.

    Args:
        size: of the pictures, such as 128x72.
    """
    inputs = f"-f lavfi -i testsrc2=size={size}:rate=25:duration=2"
    inputs += " -f lavfi -i sine=sample_rate=48000:duration=4"
    muxer = "-f mp4 -movflags +frag_every_frame+empty_moov+default_base_moof -use_editlist 0"
    video = "-c:v libx264 -preset ultrafast -tune zerolatency -g 48 -pix_fmt yuv420p"
    outputs = f"-map 0:v {video} {muxer} v.mp4 -map 1:a -c:a aac {muxer} a.mp4"
    command = f"ffmpeg -nostdin -v error -y {inputs} {outputs}"

    def make(folder: Path) -> None:
        subprocess.run(command.split(), check=True, timeout=240, cwd=folder)

    folder = made_once([command], make)
    picture = _media(folder / "v.mp4", PICTURES_IN_PART, 0)
    return {**dict.fromkeys(PICTURES, picture), "audio": _media(folder / "a.mp4", FRAMES_IN_PART, 10)}


def _media(path: Path, samples: int, skipped: int) -> Media:
    reader = FragmentReader()
    reader.receive_data(path.read_bytes())
    events = list(reader.events())
    init = next(one for one in events if isinstance(one, InitSegment))
    frames = [one for one in events if isinstance(one, Fragment)][skipped : skipped + samples * PARTS]
    (track,) = init.tracks
    ticks = round(STEP / PARTS * track.timescale)
    pieces, times, start = [], [], 0
    for part in range(PARTS):
        held = frames[part * samples : (part + 1) * samples]
        each = ticks // samples
        piece = write_fragment(
            sequence_number=part + 1,
            track_id=track.track_id,
            base_media_decode_time=1 << 40,
            samples=[one.samples[0]._replace(duration=each) for one in held],
            data=b"".join(one.data for one in held),
        )
        times.append(start + piece.index(struct.pack(">Q", 1 << 40)))
        pieces.append(piece)
        start += len(piece)
    data = b"".join(pieces)
    frames = frames[:samples] if samples == PICTURES_IN_PART else []
    key_frame_end = len(pieces[0]) - sum(len(one.data) for one in frames[1:]) if frames else 0
    segment = Segment(data, tuple(map(len, pieces)), tuple(times), ticks, key_frame_end)
    return Media(init.data, track.timescale, segment)


@dataclass(frozen=True)
class LongDvr:
    """The DVR of a channel.

    Attributes:
        folder: of the channel's data.
        until: seconds since the epoch at which the channel was killed.
        seconds: how long it had run.
        listed_seconds: how much of the end is in the renditions' folders, and not in the past.
        scale: how many times more often there are gaps than in a month.
        own_times: the spans whose segments have their own times.
    """

    folder: Path
    until: float
    seconds: float
    listed_seconds: float
    scale: int = 1
    own_times: Sequence[tuple[float, float]] = ()

    @property
    def numbers(self) -> range:
        """All media sequence numbers."""
        behind = math.floor(Fraction(self.until) / STEP)
        return range(behind - math.ceil(self.seconds / STEP), behind)

    @property
    def first_listed(self) -> int:
        """The first number that isn't in the past."""
        return self.numbers.stop - math.ceil(self.listed_seconds / STEP)

    @property
    def _lacks(self) -> tuple[tuple[int, int], ...]:
        """How often the source was away, and the server, and how many numbers that lasted."""
        return (11_000 // self.scale, 5), (45_000 // self.scale, 30)

    def is_gap(self, number: int, rendition: str) -> bool:
        """Return whether nothing is there: the source was away, the server was, or one encoder."""
        at, own = number - self.numbers.start, 7_000 // self.scale
        is_away = any(0 < at % step <= lack for step, lack in self._lacks)
        return is_away or (rendition == "480p" and at % own == own // 2)

    def timeline(self, number: int) -> int:
        """Return the number of the timeline that a segment is in, which begins behind a gap of all."""
        at = number - self.numbers.start
        begins = [at - (at - lack - 1) % step for step, lack in self._lacks if at > lack]
        return self.numbers.start + max(begins, default=0)

    def is_changed(self, number: int) -> bool:
        """Return whether a segment has the second codec, which begins with a timeline."""
        step, lack = self._lacks[0]
        return number - self.numbers.start > step * (len(self.numbers) // 2 // step) + lack

    def has_own_times(self, number: int) -> bool:
        """Return whether a segment is to be played."""
        date = float(number * STEP)
        return any(start - 2 <= date <= end for start, end in self.own_times)

    def line(self, number: int, rendition: str, media: Media, left: int) -> IndexLine:
        """Return the line of a segment, or of a gap."""
        date, timeline = number * STEP, self.timeline(number)
        if self.is_gap(number, rendition):
            return IndexLine(number, date.as_integer_ratio(), STEP.as_integer_ratio(), left, timeline)
        return IndexLine(
            number,
            date.as_integer_ratio(),
            STEP.as_integer_ratio(),
            left,
            timeline,
            discontinuity=timeline == number and number > self.numbers.start,
            parts=media.segment.sizes,
            presentation_time=self.media_time(number).as_integer_ratio(),
            key_frame_end=media.segment.key_frame_end,
        )

    def media_time(self, number: int) -> Fraction:
        """Return the seconds of media time at which a segment begins."""
        return (number - self.timeline(number)) * STEP + 10


def make_long_dvr(dvr: LongDvr, workers: int = 2) -> None:
    """Write it."""
    place = dvr.folder / "dvr"
    place.mkdir(parents=True, mode=0o700)
    for size in SIZES:
        make_media(size)
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(_write, [dvr] * len(RENDITIONS), RENDITIONS))
    past = {name: PastBlocks(DataFolder(place / name)) for name in RENDITIONS}
    writer = OutlineWriter(OutlineStore.on_disk(DataFolder(place)), past)
    while writer.write_next(0):
        pass
    (place / "cadence").write_bytes(stored_cadence.encode(TIMES))
    (dvr.folder / "number").write_text(f"{dvr.numbers.stop} 1000\n")


def _write(dvr: LongDvr, rendition: str) -> None:
    medias = [make_media(size)[rendition] for size in SIZES]
    folder, stage = dvr.folder / "dvr" / rendition, dvr.folder / f"stage-{rendition}"
    folder.mkdir(mode=0o700)
    writer = BlockWriter(PastBlocks(DataFolder(folder)).blocks)
    left = 0
    for numbers in _groups(dvr):
        is_listed = numbers.start >= dvr.first_listed
        target = folder if is_listed else stage
        target.mkdir(exist_ok=True)
        lines = []
        for number in numbers:
            media = medias[dvr.is_changed(number)]
            line = dvr.line(number, rendition, media, left)
            left += line.discontinuity
            lines.append(line)
            if line.parts:
                _put(dvr, target, number, media)
        if is_listed:
            with (folder / index.INDEX).open("ab") as file:
                file.write(b"".join(map(index.encode, lines)))
        else:
            with DataFolder(stage).open() as opened:
                writer.put(opened, lines)
            for number in numbers:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(stage / f"{number}.m4s")
    shutil.rmtree(stage, ignore_errors=True)
    for one in folder.parent.parent.glob(f"same-{rendition}-*"):
        one.unlink()


def _groups(dvr: LongDvr) -> Iterator[range]:
    """Yield all numbers, those of a block at once."""
    start = dvr.numbers.start
    while start < dvr.numbers.stop:
        behind = min((start // BLOCK_SEGMENTS + 1) * BLOCK_SEGMENTS, dvr.numbers.stop)
        if start < dvr.first_listed:
            behind = min(behind, dvr.first_listed)
        yield range(start, behind)
        start = behind


def _put(dvr: LongDvr, target: Path, number: int, media: Media) -> None:
    timeline = dvr.timeline(number)
    init = target / f"init-{timeline}.mp4"
    if not init.exists():
        init.write_bytes(media.init)
    path = target / f"{number}.m4s"
    if dvr.has_own_times(number):
        path.write_bytes(media.segment.at(dvr.media_time(number), media.timescale))
        return
    name = f"{target.name.removeprefix('stage-')}-{dvr.is_changed(number):d}-{number // LINKS}"
    same = dvr.folder / f"same-{name}"
    if not same.exists():
        same.write_bytes(media.segment.at(Fraction(10), media.timescale))
    os.link(same, path)


def make_long_bucket(dvr: LongDvr, store: S3Store, *, has_media: bool = True) -> None:
    """Write it to S3.

    Args:
        store: the place of all channels' DVRs.
        has_media: whether there are segments, and not only what is said of them.
    """
    import obstore

    dvr.folder.mkdir(parents=True, mode=0o700)
    (dvr.folder / "number").write_text(f"{dvr.numbers.stop} 1000\n")
    place = "live/long/dvr"
    obstore.put(store, f"{place}/cadence", stored_cadence.encode(TIMES))
    for size in SIZES:
        make_media(size)

    def put(one: tuple[str, bytes]) -> None:
        obstore.put(store, f"{place}/{one[0]}", one[1])

    with ThreadPoolExecutor(PUTS_AT_ONCE) as threads:
        for rendition in RENDITIONS:
            objects = _objects(dvr, rendition, has_media=has_media)
            while some := list(islice(objects, 256)):
                list(threads.map(put, some))


def with_sizes(line: IndexLine, chosen: random.Random) -> IndexLine:
    """Return a line with sizes as an encoder makes them, of which no two are alike."""
    least = 20_000 if line.key_frame_end else 5_000
    parts = tuple(chosen.randrange(least, 3 * least) for _ in line.parts)
    return replace(line, parts=parts, key_frame_end=parts[0] // 2 if line.key_frame_end else 0)


def _objects(dvr: LongDvr, rendition: str, *, has_media: bool) -> Iterator[tuple[str, bytes]]:
    """Yield the names and the bytes of a rendition's objects."""
    medias = [make_media(size)[rendition] for size in SIZES]
    left = before = 0
    timelines, chosen = set[int](), random.Random(rendition)
    numbers, count = dvr.numbers, DEFAULT_LIMITS.piece_lines
    for start in range(numbers.start - numbers.start % count, numbers.stop, count):
        lines = []
        for number in range(max(start, numbers.start), min(start + count, numbers.stop)):
            media = medias[dvr.is_changed(number)]
            line = dvr.line(number, rendition, media, left)
            left += line.discontinuity
            if line.parts:
                line = replace(line, stored_by=STORER)
                if not has_media:
                    line = with_sizes(line, chosen)
                if line.init is not None and line.init not in timelines:
                    timelines.add(line.init)
                    yield f"{rendition}/init-{line.init}-{STORER}.mp4", media.init
                if has_media:
                    time = dvr.media_time(number) if dvr.has_own_times(number) else Fraction(10)
                    yield f"{rendition}/{number}-{STORER}.m4s", media.segment.at(time, media.timescale)
            lines.append(line)
        name = PieceName.of(lines[0], STORER, before)
        before += sum(line.size for line in lines)
        data = b"".join(map(index.encode, lines))
        yield f"{rendition}/index/{name}", stored_cadence.encode(TIMES) + b"\n" + data
