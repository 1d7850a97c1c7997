"""A writer of a DVR that is killed at any moment: what it stored is listed, and nothing half made."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from packager.dvr.disk_rendition import DvrFolder
from packager.window.model import LiveSegment
from tests.conformance.handfed import Track
from tests.packager.stored_segments import make_segments

pytestmark = pytest.mark.timeout(300)


def test_whenever_a_process_is_killed_what_it_stored_is_listed_and_nothing_half_made(
    tmp_path: Path, material: dict[str, Track]
) -> None:
    segments = make_segments(material["240p"], 600)
    path, known = tmp_path / "240p", dict[int, bytes]()
    DvrFolder(path).load()
    published = {one.number: one.data for one in segments}
    for round_ in range(12):
        left = segments[len(known) :]
        stored = kill_a_writer(path, left, 3 + 5 * round_ % 17)
        lines = DvrFolder(path).load().lines
        found = {number: (path / f"{number}.m4s").read_bytes() for number in lines}
        assert found.items() <= published.items()
        assert len(known) + stored <= len(found) <= len(known) + stored + 1
        assert list(found) == [one.number for one in segments[: len(found)]]
        assert not list(path.glob("*.tmp"))
        known = found
    # A kill between a file's last name and its line leaves that segment, whole.
    aside = {int(one.stem): one.read_bytes() for one in path.glob("aside/*/*.m4s")}
    assert aside.items() <= published.items()
    assert all(one.name == f"init-{segments[0].number}.mp4" for one in path.glob("aside/*/*.mp4"))


def kill_a_writer(path: Path, segments: list[LiveSegment], most: int) -> int:
    """Let a process store segments and kill it after some; give how many it had told of before."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            folder = DvrFolder(path)
            folder.load()
            for segment in segments:
                folder.store(segment, 0)
                os.write(writing, b".")
        finally:
            os._exit(0)
    os.close(writing)
    told = 0
    while told < most and os.read(reading, 1):
        told += 1
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as rest:
        return told + len(rest.read())
