"""Runs of packaging that end in the middle, and what they have written."""

from __future__ import annotations

from pathlib import Path

from packager.export.export import ExportReport


def versions(folder: Path) -> dict[str, tuple[int, int]]:
    """Tell by inode and time which files were written again."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def contents(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


class StoppedError(Exception):
    """Ends a run in the middle."""


def stop_at(count: int) -> ExportReport:
    def progress(_name: str, done: int, _total: int) -> None:
        if done == count:
            raise StoppedError

    return ExportReport(progress)
