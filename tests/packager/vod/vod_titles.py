"""Titles of a folder of films, their segments, and comparisons of packets."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import m3u8
import pytest

from packager.library.local_storage import Library
from packager.vod import Titles
from tests.packager.films import ZOO, Packet, packets
from tests.packager.vod.opened_media import open_segment


@contextlib.contextmanager
def indexing_others(titles: Titles) -> Iterator[None]:
    """Let all threads that make indexes be busy while the context is open."""
    is_over = threading.Event()
    executor = titles.files.indexes.threads.executor
    assert isinstance(executor, ThreadPoolExecutor)
    for _ in range(executor._max_workers):
        executor.submit(is_over.wait)
    try:
        yield
    finally:
        is_over.set()


def awaiting_indexes(titles: Titles) -> int:
    """Count the films that wait for their index."""
    return sum(len(turns._flights) for turns in list(titles.files.indexes.threads._pool._turns.values()))


def titles_of(path: Path) -> Titles:
    return Titles(Library(path.parent))


def write_out(path: Path, track: str, folder: Path) -> Path:
    """Write a track's playlist, init segment and segments as a server would give them."""
    titles = titles_of(path)
    out = folder / path.name / track
    offered = titles.segments.track(path.name, track)
    (out / offered.version.folder).mkdir(parents=True)
    text = titles.media_playlist(path.name, track)
    (out / "media.m3u8").write_text(text)
    (out / offered.version.folder / "init.mp4").write_bytes(offered.init)
    for number, segment in enumerate(m3u8.loads(text).segments):
        assert segment.uri == f"{offered.version.folder}{number}.m4s"
        opened = open_segment(titles, path.name, track, number)
        (out / segment.uri).write_bytes(opened.read(0, opened.size))
        opened.close()
    return out / "media.m3u8"


def without_fill(packaged: Sequence[Packet], source: Sequence[Packet]) -> list[Packet]:
    """Return the packets of a packaged track without what makes it as long as the film's longest track.

    That is one frame of silence in pauses and behind it, or its own pictures again behind the last one.
    """
    known = {packet.digest for packet in source}
    assert len({packet.digest for packet in packaged} - known) <= 1
    return [packet for packet in packaged if packet.digest in known][: len(source)]


def assert_same_packets(path: Path, folder: Path, track: str, stream: str) -> None:
    source = packets(path, stream)
    packaged = without_fill(packets(write_out(path, track, folder), stream[0]), source)
    assert [packet.digest for packet in packaged] == [packet.digest for packet in source]
    assert [packet.key for packet in packaged] == [packet.key for packet in source]
    for ours, theirs in zip(packaged, source, strict=True):
        assert ours.pts == pytest.approx(theirs.pts, abs=2e-6)
        assert ours.dts == pytest.approx(theirs.dts, abs=2e-6)


def zoo() -> list[dict[str, Any]]:
    listing = ZOO / "public.json"
    return json.loads(listing.read_text()) if listing.exists() else []
