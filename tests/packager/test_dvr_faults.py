"""The DVR's folder on a disk that fails (L3) and behind a power cut (M5): what is listed is always whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from packager.dvr.folder import INDEX, Folder
from packager.live.channel import Channel
from packager.live.window import LiveSegment
from packager.tools import Tools
from tests.conformance.handfed import NUMBER, OPTIONS, Source, make_material
from tests.packager.station import PARTS

COUNT = 5


@pytest.fixture(scope="module")
def segments(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> list[LiveSegment]:
    """Real ones, in memory."""
    material = make_material(tools, tmp_path_factory.mktemp("material"))
    channel = Channel(OPTIONS, tools)
    window = channel.renditions["240p"].window
    window.next_number = NUMBER
    source = Source(channel, "240p", material["240p"], NUMBER, 0)
    for _ in range(COUNT * PARTS["240p"]):
        source.publish()
    return list(window.listed)


def whole(path: Path, segments: list[LiveSegment]) -> set[int]:
    """The numbers that a start finds; each is there with all its bytes."""
    found = Folder(path).load()
    for number, line in found.lines.items():
        assert (path / f"{number}.m4s").read_bytes() == segments[number - NUMBER].data
        assert line.size == len(segments[number - NUMBER].data)
        assert line.init in found.timelines
    assert not list(path.glob("*.tmp"))
    return set(found.lines)


def failing(
    real: Callable[..., object], count: Iterator[int], at: int, *, half: bool
) -> Callable[..., object]:
    """Let a call fail as a disk does, the at-th of all; a write may have done half of it."""

    def call(*arguments: object) -> object:
        if next(count) != at:
            return real(*arguments)
        data = arguments[1] if half else b""
        if isinstance(data, memoryview) and len(data) > 1:
            real(arguments[0], data[: len(data) // 2])
        raise OSError(errno.EIO, "Input/output error")

    return call


def test_an_error_at_any_step_costs_one_segment_at_most_and_never_shows_half_of_it(
    tmp_path: Path, segments: list[LiveSegment], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    for at in range(100):
        folder = Folder(tmp_path / str(at))
        folder.load()
        count = iter(range(10_000))
        stored, failed = set(), 0
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", failing(os.write, count, at, half=True))
            patch.setattr(os, "fdatasync", failing(os.fdatasync, count, at, half=False))
            patch.setattr(Path, "replace", failing(Path.replace, count, at, half=False))
            for segment in segments:
                try:
                    folder.store(segment, 0)
                    stored.add(segment.number)
                except OSError:
                    failed += 1
        if not failed:
            break
        steps += 1
        assert failed == 1
        assert whole(folder.path, segments) == stored
    assert steps > 4 * COUNT, "write, synchronise and rename of each segment, and its line"


def test_short_writes_are_gone_on_with(
    tmp_path: Path, segments: list[LiveSegment], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real = Folder(tmp_path), os.write
    folder.load()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[: max(len(data) // 3, 1)]))
        for segment in segments:
            folder.store(segment, 0)
    assert len(whole(tmp_path, segments)) == COUNT


@pytest.mark.parametrize("lost", ["renaming", "file", "tail", "index", "index's bytes"])
def test_what_a_power_cut_may_lose_is_not_listed(
    tmp_path: Path, segments: list[LiveSegment], lost: str
) -> None:
    """Whatever wasn't synchronised may be missing: a renaming, the end of the index; blocks may be zeros."""
    for count in range(1, COUNT):
        path = tmp_path / str(count)
        folder = Folder(path)
        folder.load()
        for segment in segments:
            folder.store(segment, 0)
        gone = [path / f"{segment.number}.m4s" for segment in segments[-count:]]
        text = (path / INDEX).read_bytes()
        lines = text.splitlines(keepends=True)
        for file in gone:
            if lost == "renaming":
                file.rename(file.with_name(f"{file.name}.tmp"))
            elif lost == "file":
                file.unlink()
            elif lost == "tail":
                os.truncate(file, file.stat().st_size // 2)
        kept = b"".join(lines[:-count])
        if lost == "index":
            (path / INDEX).write_bytes(kept + lines[-count][:17])
        elif lost == "index's bytes":
            (path / INDEX).write_bytes(kept + bytes(len(text) - len(kept)))
        left = {segment.number for segment in segments[:-count]}
        assert whole(path, segments) == left
        # What is written next is found behind it, and a second start has nothing more to mend.
        again = Folder(path)
        again.load()
        assert again.troubles == 0
        again.store(segments[-1], 0)
        assert whole(path, segments) == left | {segments[-1].number}


def test_a_line_without_its_init_segment_is_not_listed(tmp_path: Path, segments: list[LiveSegment]) -> None:
    folder = Folder(tmp_path)
    folder.load()
    for segment in segments:
        folder.store(segment, 0)
    (tmp_path / f"init-{NUMBER}.mp4").write_bytes(b"\0" * 700)
    assert not Folder(tmp_path).load().lines
