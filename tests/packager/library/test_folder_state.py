"""A library's folder that has gone is told from one that never was, also where its mount point stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import structlog

from packager.library.folder_state import FolderGoneError, FolderState
from packager.library.local_storage import Library, NotFoundError
from tests.small_disk import small_disk


def test_a_folder_that_never_was_is_no_trouble_and_may_come_later(tmp_path: Path) -> None:
    state = FolderState(tmp_path / "films")
    state.look()
    assert state.trouble == ""
    (tmp_path / "films").mkdir()
    state.look()
    (tmp_path / "films").rmdir()
    with pytest.raises(FolderGoneError):
        state.look()
    assert state.trouble == f"{tmp_path}/films can't be read: No such file or directory"


def test_a_file_of_a_folder_that_has_gone_is_not_taken_for_a_missing_one(tmp_path: Path) -> None:
    root = tmp_path / "films"
    root.mkdir()
    (root / "film.mp4").write_bytes(b"film")
    library = Library(root, may_go=True)
    with pytest.raises(NotFoundError):
        library.open("other.mp4")
    root.rename(tmp_path / "away")
    with structlog.testing.capture_logs() as lines:
        for name in ("film.mp4", "other.mp4"):
            with pytest.raises(FolderGoneError):
                library.open(name)
        (tmp_path / "away").rename(root)
        with pytest.raises(NotFoundError):
            library.open("other.mp4")
        library.open("film.mp4").close()
    assert [(one["log_level"], one["event"]) for one in lines] == [
        ("warning", "the library can't be read"),
        ("info", "the library can be read again"),
    ]
    assert library.trouble == ""


def test_an_empty_mount_point_is_a_folder_that_has_gone_and_an_emptied_folder_is_not(tmp_path: Path) -> None:
    root = tmp_path / "films"
    root.mkdir()
    with small_disk(root, 1 << 20):
        (root / "film.mp4").write_bytes(b"film")
        assert os.stat(root).st_dev != os.stat(tmp_path).st_dev
        state = FolderState(root)
        state.look()
        (root / "film.mp4").unlink()
        state.look()
        assert state.trouble == ""
    with pytest.raises(FolderGoneError):
        state.look()
    assert "mounted" in state.trouble
    (root / "film.mp4").write_bytes(b"film")
    state.look()
    assert state.trouble == ""
