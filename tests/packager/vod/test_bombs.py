"""Files of some kilobytes that say that they hold billions of something: what they cost, and ordinary films.

Memory is measured in a process of its own, whose address space ends a little above what it has at its start:
who takes more fails there, and not the machine.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from media.errors import MediaError
from media.mp4.boxes import box, full_box
from packager.library.local_storage import Library
from packager.vod import Titles
from packager.vod.index.index_builder import read_index
from packager.vod.index.limits import IndexCacheLimits
from packager.vod.segments.segment import make_segment
from tests.packager import crafted, films
from tests.packager.crafted import (
    SOUND_ENTRY,
    Track,
    constant,
    film,
    indexed,
    moov,
    rows,
    sizes,
    sound,
    write,
)
from tests.packager.vod.opened_media import open_segment

MEBIBYTE = 1 << 20
LIMIT = 160 * MEBIBYTE
"""What the worst of files may take."""

FORKING = """
import json, os, resource, sys, threading, time, tracemalloc
from pathlib import Path
import numpy
from media.errors import MediaError
from packager.library.local_storage import Library, NotFoundError
from packager.vod import Titles
from tests.packager.vod.opened_media import open_segment
for line in sys.stdin:
    if not os.fork():
        break
    print(json.dumps({"status": os.waitstatus_to_exitcode(os.wait()[1])}), flush=True)
else:
    sys.exit()
name, room, traced = json.loads(line)
path = Path(name)
pages = int(Path("/proc/self/statm").read_text().split()[0])
address_space = pages * resource.getpagesize() + room
resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
if traced:
    tracemalloc.start()
titles = Titles(Library(path.parent))
started, outcome = time.thread_time(), "indexed"
try:
    titles.multivariant_playlist(path.name)
    indexed = time.thread_time()
    for track in ("video", "audio"):
        try:
            titles.media_playlist(path.name, track)
            for number in (0, 1, 100):
                open_segment(titles, path.name, track, number).close()
        except NotFoundError:
            pass
        except MediaError as error:
            outcome = f"{type(error).__name__}: {error}"
except MemoryError:
    outcome, indexed = "MemoryError", time.thread_time()
except Exception as error:
    outcome, indexed = f"{type(error).__name__}: {error}", time.thread_time()
peak = tracemalloc.get_traced_memory()[1] if traced else 0
print(json.dumps({"outcome": outcome, "seconds": indexed - started, "peak": peak}), flush=True)
"""
"""For each line, a file is indexed in a fork of a process that has imported what that takes."""

Cost = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def cost() -> Iterator[Cost]:
    """Index a file in a process that may take so much memory more than it has; give what it cost."""
    argv = [sys.executable, "-c", FORKING]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        answers = process.stdout

        def ask(path: Path, *, room: int = LIMIT, traced: bool = False) -> dict[str, Any]:
            print(json.dumps([str(path), room, traced]), file=process.stdin, flush=True)
            said: list[dict[str, Any]] = []
            while not said or "status" not in said[-1]:
                line = answers.readline()
                assert line, "the process has ended"
                said += [json.loads(line)] if line.startswith("{") else []  # not of the log
            assert said[-1] == {"status": 0}
            answer: dict[str, Any] = said[0]
            return answer

        yield ask


MANY = 1 << 23
ENTRIES = 1 << 20


def of_runs() -> bytes:
    """Every sample in a run of its own and a chunk of its own, presented at times in no order."""
    random = np.random.default_rng(3)
    ones = np.ones(ENTRIES, np.int64)
    offsets = rows(np.stack((ones, random.integers(0, 1 << 30, ENTRIES)), axis=1))
    stsc = np.stack((np.arange(ENTRIES) + 1, ones, ones), axis=1)
    tables = {
        "stts": rows(np.stack((ones, random.integers(1, 3, ENTRIES)), axis=1)),
        "ctts": offsets,
        "stsc": rows(stsc),
        "stsz": sizes(random.integers(1, 9, ENTRIES)),
        "stco": rows(random.integers(4096, 1 << 20, ENTRIES)),
    }
    return moov(Track(tables, video=True, timescale=1, edits=[(0, (1 << 31) - 1)]))


def of_everything() -> bytes:
    """A moov as large as may be, of samples that all have sizes and composition offsets of their own.

    Of these one is so large, and the edit list begins so late, that no limit tells where to look.
    """
    random = np.random.default_rng(4)
    count = 8_200_000
    offsets = np.stack((np.ones(count, np.int64), random.integers(1 << 29, 1 << 30, count)), axis=1)
    offsets[0, 1], offsets[1, 1] = 0, (1 << 31) - 1
    tables = {
        "stts": rows([[count, 1]]),
        "ctts": rows(offsets),
        "stsc": rows([[1, count, 1]]),
        "stsz": sizes(random.integers(0, 9, count)),
        "stco": rows([4096]),
    }
    return moov(Track(tables, video=True, timescale=90_000, edits=[(0, (1 << 29) - 1)]))


def of_nothing(entries: int) -> bytes:
    """So many entries without a sample, in two tables, before the ones that have them."""
    flood = np.zeros((entries, 2), np.int64)
    tables = {kind: rows(np.vstack((flood, [[1000, 1024]]))) for kind in ("stts", "ctts")}
    return moov(sound(1000, **tables))


def of_key_frames() -> bytes:
    """Nothing but key frames, each longer than a segment: a segment each."""
    video = sound(19_999, stts=rows([[19_999, 7]]))
    others = [sound(19_999, stts=rows([[19_999, 7 * 48000]])) for _ in range(8)]
    return moov(Track(video.tables, video=True, timescale=1), *others)


CRAFTED: dict[str, tuple[Callable[[], bytes], str]] = {
    "32 tracks of 16 million samples in 17 kB": (crafted.bomb, "TooLargeError: 16777216 samples"),
    "a track of 4 billion samples": (
        lambda: crafted.bomb(1, 0xFFFFFFFF),
        "TooLargeError: 4294967295 samples",
    ),
    "32 tracks that share what is allowed": (lambda: crafted.bomb(32, MANY // 32), "indexed"),
    "all samples that are allowed, in two chunks": (lambda: crafted.bomb(2, MANY // 2), "indexed"),
    "all samples that are allowed, without time": (
        lambda: moov(sound(MANY, stts=rows([[1, 1 << 30], [MANY - 1, 0]]))),
        "TooLargeError",
    ),
    "a run for each of a million samples": (of_runs, "indexed"),
    "a moov as large as may be": (of_everything, ""),
    "three million runs without samples": (lambda: of_nothing((3 << 20) - 1), "indexed"),
    "four million runs without samples": (
        lambda: of_nothing(1 << 22),
        "TooLargeError: 8388610 entries of stts and ctts",
    ),
    "as many segments as are allowed, nine times": (of_key_frames, "indexed"),
    "a moov of nothing": (lambda: moov(sound(9), more=box(b"free", bytes(127 * MEBIBYTE))), "indexed"),
    "a moov of boxes": (lambda: moov(*[sound(9)] * 32, more=box(b"free") * 4000), "indexed"),
    "tracks of boxes": (
        lambda: moov(*[Track(sound(9).tables, more=box(b"free") * 4000)] * 32),
        "TooLargeError: a moov of more than 8192 boxes",
    ),
    "a huge sample entry": (
        lambda: moov(Track(sound(9).tables, entries=[SOUND_ENTRY, box(b"free", bytes(40 * MEBIBYTE))])),
        "TooLargeError: sample entries of",
    ),
    "32 sample entries that are just not too large": (
        lambda: moov(*[Track(sound(9).tables, entries=[SOUND_ENTRY, box(b"skip", bytes(250_000))])] * 32),
        "indexed",
    ),
    "a sample of 4 GB": (lambda: moov(sound(9, stsz=constant(0xFFFFFFFF, 9))), "TooLargeError: segment 0"),
    "a segment of millions of samples": (
        lambda: moov(sound(MANY, stts=rows([[MANY, 1]]))),
        "TooLargeError: segment 0",
    ),
    "edits by the million": (
        lambda: moov(Track(sound(9).tables, edits=[(1, 0)] * 1_000_000)),
        "TooLargeError: edit list of 1000000",
    ),
    "fragments by the thousand": (
        lambda: box(b"moof", full_box(b"mfhd", 0, 0, bytes(4))) * 100_000,
        "MalformedError: there is no moov",
    ),
    "a moov behind a hundred thousand boxes": (
        lambda: box(b"sidx") * 100_000 + moov(sound(9)),
        "MalformedError: there is no moov",
    ),
    "a moov behind ten thousand empty boxes": (
        lambda: box(b"free") * 10_000 + moov(sound(9)),
        "MalformedError: there is no moov",
    ),
    "a clock of one tick": (
        lambda: moov(Track(sound(MANY).tables, timescale=1)),
        "TooLargeError: more than 20000",
    ),
    "a clock of 4 billion ticks": (
        lambda: moov(Track(sound(MANY).tables, timescale=0xFFFFFFFF)),
        "TooLargeError: segment 0",
    ),
}  # fmt: skip


@pytest.mark.clause(
    "CWE-789", "ISO/IEC 14496-12 §8.6.1.2", "CWE-369", "Boxes that are missing or doubled are malformed"
)
@pytest.mark.parametrize("name", CRAFTED)
def test_what_a_file_says_that_it_holds_takes_no_memory(name: str, tmp_path: Path, cost: Cost) -> None:
    make, outcome = CRAFTED[name]
    # A hole as long as any of them says: one that is cut short is refused before its segments are looked at.
    found = cost(write(tmp_path / "bomb.mp4", make(), 40_000_000_000))
    assert found["outcome"].startswith(outcome), found
    assert found["outcome"] != "MemoryError"
    # 0.1 s on a machine with nothing else to do
    assert found["seconds"] < 3


def test_ffprobe_reads_what_is_refused_here_as_what_it_says(tmp_path: Path) -> None:
    path = write(tmp_path / "bomb.mp4", crafted.bomb(1, 1_000_000))
    (stream,) = films.probe(path, "-show_streams")["streams"]
    assert (stream["codec_name"], stream["nb_frames"]) == ("aac", "1000000")
    assert path.stat().st_size - MEBIBYTE < 17_000


def test_two_hours_of_film_take_less_than_20_mb(tmp_path: Path, cost: Cost) -> None:
    index, media = film(2, total=770_000_000)
    path = write(tmp_path / "film.mp4", index, media)
    found = cost(path, traced=True, room=512 * MEBIBYTE)
    assert found["outcome"] == "indexed"
    assert len(index) > 7_500_000
    assert found["peak"] < 20_000_000
    streams = films.probe(path, "-show_entries", "stream=nb_frames")["streams"]
    assert sum(int(one["nb_frames"]) for one in streams) == 553_500


@pytest.mark.clause("A film's index is found wherever it lies")
@pytest.mark.parametrize("total", [5_000_000_000, 40_000_000_000])
def test_ten_hours_and_40_gb_are_played_within_the_same_memory(
    total: int, tmp_path: Path, cost: Cost
) -> None:
    index, media = film(10, rate=25, total=total)
    path = write(tmp_path / "film.mp4", index, media)
    assert path.stat().st_size > total
    assert cost(path)["outcome"] == "indexed"
    titles = Titles(Library(tmp_path))
    last = len(titles.segments.track(path.name, "video").sizes) - 1
    assert last == 36_000 // 6 - 1
    with pytest.raises(Exception, match="has no segment"):
        open_segment(titles, path.name, "video", last + 1)
    open_segment(titles, path.name, "video", last).close()


@pytest.mark.clause("Damaged films are read or refused, within the limits")
@pytest.mark.parametrize("seed", [5, 6, 7])
def test_thousands_of_damaged_tables_are_indexed_or_refused_within_the_limits(seed: int) -> None:
    """Numbers of a file's tables are replaced by others that are large, small, or one off."""
    source = bytearray(
        moov(*(Track(sound(120).tables, video=video, timescale=90) for video in (True, False)))
    )
    random = np.random.default_rng(seed)
    limits = IndexCacheLimits(samples=100_000)
    begins = [at for kind in (b"stts", b"stsc", b"stsz", b"stco") for at in _all(bytes(source), kind)]
    outcomes: dict[str, int] = {}
    tracemalloc.start()
    for _ in range(100):
        damaged = bytearray(source)
        for begin in random.choice(begins, 2):
            at = begin + 4 + 4 * int(random.integers(0, 5))
            value = int(random.choice([0, 1, 2, 119, 121, 99_999, 1 << 24, 1 << 31, 0xFFFFFFFF]))
            damaged[at : at + 4] = value.to_bytes(4, "big")
        try:
            index = indexed(bytes(damaged), limits)
            outcome = "indexed"
        except MediaError as error:
            outcome = type(error).__name__
        else:
            assert sum(len(track.samples) for track in index.tracks) <= limits.samples
            for track in index.tracks:
                try:
                    make_segment(index, track, len(track.sizes) - 1)
                except MediaError:
                    outcome = "no segment"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * MEBIBYTE
    assert set(outcomes) >= {"indexed", "MalformedError", "TooLargeError", "no segment"}


@pytest.mark.clause("ffprobe finds the same samples as we do")
@pytest.mark.parametrize("seed", range(6))
def test_ffprobe_finds_the_same_samples_in_tables_of_any_shape(seed: int, tmp_path: Path) -> None:
    """Runs, chunks, sizes and offsets of random lengths, in each of the boxes that may say them."""
    random = np.random.default_rng(seed)
    count = int(random.integers(2_000, 5_000))

    def runs(low: int, high: int) -> bytes:
        lengths = random.integers(1, 40, count)
        last = int(np.searchsorted(np.cumsum(lengths), count))
        lengths[last] -= int(lengths[: last + 1].sum()) - count
        return rows(np.stack((lengths, random.integers(low, high, count)), axis=1)[: last + 1])

    size = random.integers(1, 255, count)
    per_chunk = random.integers(1, 9, count)
    per_chunk[random.integers(0, count, 20)] = 300
    used = int(np.searchsorted(np.cumsum(per_chunk), count)) + 1
    changes = np.flatnonzero(np.diff(per_chunk[:used], prepend=0))
    places = random.integers(100_000, 1 << 20, used)
    wide = bool(seed % 2)
    tables = {
        "stts": runs(1, 2000),
        "ctts": runs(0, 9000),
        "stsc": rows(np.stack((changes + 1, per_chunk[changes], np.ones(len(changes), int)), axis=1)),
        "co64" if wide else "stco": crafted.places(places, "co64" if wide else "stco"),
        "stss": rows(np.unique(np.append(random.integers(1, count, 90), 1))),
    }
    compact = (4, 8, 16)[seed % 3]
    if seed >= 3:
        size = np.minimum(size, (1 << compact) - 1)
        nibbles = np.append(size, 0)[: count + count % 2].reshape(-1, 2)
        fields = nibbles[:, 0] << 4 | nibbles[:, 1] if compact == 4 else size
        packed = fields.astype(f">u{max(compact // 8, 1)}").tobytes()
        tables["stz2"] = struct.pack(">7xBI", compact, count) + packed
    else:
        tables["stsz"] = sizes(size)
    path = write(tmp_path / "any.mp4", moov(Track(tables, video=True, timescale=90_000)), 2 * MEBIBYTE)
    with Library(tmp_path).open(path.name) as file:
        (track,) = read_index(file.pread, file.size).tracks
    ours = track.samples.samples(0, count)
    wanted = "packet=pts,dts,size,pos,flags"
    # Else a parser of H.264 looks for key frames by itself.
    unparsed = ("-fflags", "+noparse")
    packets = films.probe(path, *unparsed, "-select_streams", "v:0", "-show_entries", wanted)["packets"]
    assert [int(one["size"]) for one in packets] == ours.size.tolist()
    assert [int(one["pos"]) for one in packets] == ours.offset.tolist()
    assert [int(one["dts"]) for one in packets] == ours.decode_time[:-1].tolist()
    assert [int(one["pts"]) for one in packets] == ours.composition_time.tolist()
    assert ["K" in one["flags"] for one in packets] == ours.is_sync.tolist()


def _all(data: bytes, kind: bytes) -> list[int]:
    found, at = [], data.find(kind)
    while at >= 0:
        found.append(at)
        at = data.find(kind, at + 1)
    return found


@pytest.mark.clause("A film's index is found wherever it lies")
def test_of_a_file_whose_fragments_never_came_what_its_moov_has_is_offered() -> None:
    fragmented = moov(sound(9), more=box(b"mvex", full_box(b"trex", 0, 0, bytes(20))))
    (track,) = indexed(fragmented + box(b"mdat", bytes(8192)), IndexCacheLimits()).tracks
    assert len(track.samples) == 9
