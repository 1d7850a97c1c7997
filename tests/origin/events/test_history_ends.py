"""The end of a history: events that are too old go though nobody publishes, a deleted channel's at once."""

from __future__ import annotations

import os
from pathlib import Path

from origin.events.event_log import Event
from origin.events.history_files import HistoryFiles
from origin.events.limits import EventLimits
from packager.safe_files import DataFolder


def files(folder: Path, epoch: str, now: float) -> HistoryFiles:
    place = DataFolder(folder) / "talk"
    return HistoryFiles("talk", epoch, place, EventLimits(history_seconds=60.0), lambda: now)


def write(folder: Path, epoch: str, *texts: str) -> None:
    """Write events at the beginning of time, as a server that then ended did."""
    written = files(folder, epoch, 1000.0)
    written.read()
    written.append([Event(epoch, number, "message", text, 1000.0) for number, text in enumerate(texts, 1)])
    written.close()
    for path in (folder / "talk").iterdir():
        os.utime(path, (1000.0, 1000.0))


def stored(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in (folder / "talk").iterdir())


def test_events_of_an_earlier_epoch_are_removed_when_they_are_too_old(tmp_path: Path) -> None:
    write(tmp_path, "a", "a secret text")
    young = files(tmp_path, "b", 1059.0)
    assert [event.data for event in young.read().events] == ["a secret text"]
    young.remove_old()
    young.close()
    assert b"a secret text" in stored(tmp_path)
    old = files(tmp_path, "c", 1061.0)
    old.read()
    old.remove_old()
    assert b"a secret text" not in stored(tmp_path)
    # Once is enough: an idle channel doesn't write a file each time that somebody looks.
    names = sorted(path.name for path in (tmp_path / "talk").iterdir())
    old.remove_old()
    old.close()
    assert sorted(path.name for path in (tmp_path / "talk").iterdir()) == names


def test_all_files_of_a_deleted_channel_go_and_nobody_elses(tmp_path: Path) -> None:
    write(tmp_path, "a", "one")
    write(tmp_path, "b", "two")
    foreign = tmp_path / "talk" / "9.events"
    foreign.write_text("mine")
    deleted = files(tmp_path, "c", 1000.0)
    deleted.read()
    deleted.remove_all()
    assert [path.name for path in (tmp_path / "talk").iterdir()] == ["9.events"]
    assert foreign.read_text() == "mine"
    foreign.unlink()
    deleted.remove_all()
    assert not (tmp_path / "talk").exists()
    deleted.remove_all()
