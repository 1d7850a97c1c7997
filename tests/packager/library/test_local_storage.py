"""The library on a real disk."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from packager.library.local_storage import Library, NotFoundError
from tests.descriptors import descriptors

THEN = 1_700_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "library"
    (root / "folder" / "inner").mkdir(parents=True)
    (root / "film.mp4").write_bytes(b"0123456789")
    (root / "folder" / "inner" / "deep.mp3").write_bytes(b"deep")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "secret.mp4").write_bytes(b"hidden")
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    (tmp_path / "library-too").mkdir()
    (tmp_path / "library-too" / "secret.mp4").write_bytes(b"neighbour")
    return root


def content(library: Library, name: str) -> bytes:
    with library.open(name) as file:
        return file.pread(0, file.size)


def test_a_file_is_opened_by_its_name(root: Path) -> None:
    assert content(Library(root), "film.mp4") == b"0123456789"
    assert content(Library(root), "folder/inner/deep.mp3") == b"deep"


def test_an_open_file_knows_its_facts(root: Path) -> None:
    os.utime(root / "film.mp4", ns=(0, THEN * 10**9 + 250_000_000))
    with Library(root).open("film.mp4") as file:
        assert file.size == 10
        assert file.modified == pytest.approx(THEN + 0.25, abs=0.001)
        assert file.path == str(root / "film.mp4")
        status = os.stat(root / "film.mp4")
        assert file.identity == (status.st_dev, status.st_ino, 10, status.st_mtime_ns)
        assert file.pread(3, 4) == b"3456"
        assert file.pread(8, 100) == b"89"
        assert file.pread(10, 1) == b""


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "/film.mp4",
        "//film.mp4",
        "film.mp4/",
        "./film.mp4",
        "../secret.mp4",
        "../library-too/secret.mp4",
        "folder/../film.mp4",
        "folder/../../secret.mp4",
        "folder//inner/deep.mp3",
        "..\\secret.mp4",
        "folder\\inner\\deep.mp3",
        "film.mp4\0",
        "film.mp4\0.jpg",
        ".hidden/secret.mp4",
        "folder",
        "no-such",
        "film.mp4/x",
        "x" * 300,
        "x/" * 3000 + "x",
        "\ud800",
    ],
)
@pytest.mark.parametrize("follow_symlinks", [False, True])
def test_other_names_are_not_found(root: Path, name: str, follow_symlinks: bool) -> None:
    with pytest.raises(NotFoundError):
        Library(root, follow_symlinks).open(name)


def test_links_within_the_library_lead_where_they_say(root: Path) -> None:
    (root / "link.mp4").symlink_to(root / "film.mp4")
    (root / "relative").symlink_to("folder/inner")
    (root / "folder" / "up.mp4").symlink_to("../film.mp4")
    for follow_symlinks in (False, True):
        library = Library(root, follow_symlinks)
        assert content(library, "link.mp4") == b"0123456789"
        assert content(library, "relative/deep.mp3") == b"deep"
        assert content(library, "folder/up.mp4") == b"0123456789"


def test_links_that_lead_out_are_not_found_unless_allowed(root: Path, tmp_path: Path) -> None:
    (root / "out.mp4").symlink_to(tmp_path / "secret.mp4")
    (root / "folder-out").symlink_to(tmp_path)
    (root / "neighbour").symlink_to(tmp_path / "library-too")
    for name in ("out.mp4", "folder-out/secret.mp4", "neighbour/secret.mp4"):
        with pytest.raises(NotFoundError):
            Library(root).open(name)
        assert content(Library(root, follow_symlinks=True), name)


def test_links_do_not_publish_what_is_hidden(root: Path) -> None:
    (root / "link.mp4").symlink_to(".hidden/secret.mp4")
    with pytest.raises(NotFoundError):
        Library(root).open("link.mp4")


def test_links_in_a_circle_and_into_nothing_are_not_found(root: Path) -> None:
    (root / "circle").symlink_to("circle")
    (root / "dangling").symlink_to("nothing")
    for name in ("circle", "circle/x", "dangling"):
        for follow_symlinks in (False, True):
            with pytest.raises(NotFoundError):
                Library(root, follow_symlinks).open(name)


def test_a_library_may_itself_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    (root / "inside.mp4").symlink_to("film.mp4")
    assert content(Library(tmp_path / "link"), "film.mp4") == b"0123456789"
    assert content(Library(tmp_path / "link"), "inside.mp4") == b"0123456789"


def test_what_is_no_regular_file_is_not_found_at_once(root: Path) -> None:
    os.mkfifo(root / "fifo.mp4")
    (root / "device.mp4").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        # A socket's path has at most 108 bytes.
        folder = os.open(root, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{folder}/socket.mp4")
        os.close(folder)
        started = time.monotonic()
        for name in ("fifo.mp4", "device.mp4", "socket.mp4"):
            for follow_symlinks in (False, True):
                with pytest.raises(NotFoundError):
                    Library(root, follow_symlinks).open(name)
        # Opening a FIFO to which nobody writes takes for ever.
        assert time.monotonic() - started < 60


def test_a_missing_library_has_no_files(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        Library(tmp_path / "nothing").open("film.mp4")


def test_a_link_swapped_in_while_it_is_opened_leads_nowhere(root: Path, tmp_path: Path) -> None:
    """A folder that turns into a link and back, as fast as can be, never shows what is outside."""
    (tmp_path / "outside" / "inner").mkdir(parents=True)
    (tmp_path / "outside" / "inner" / "deep.mp3").write_bytes(b"outside")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (root / "folder").rename(root / "aside")
            (root / "folder").symlink_to(tmp_path / "outside")
            (root / "folder").unlink()
            (root / "aside").rename(root / "folder")

    thread = threading.Thread(target=swap)
    thread.start()
    seen = set()
    try:
        for _ in range(2000):
            try:
                seen.add(content(Library(root), "folder/inner/deep.mp3"))
            except NotFoundError:
                seen.add(b"")
    finally:
        stop.set()
        thread.join()
    assert seen <= {b"deep", b""}


def test_closing_twice_closes_once(root: Path) -> None:
    file = Library(root).open("film.mp4")
    number = file.fd
    file.close()
    other = os.open(root / "film.mp4", os.O_RDONLY)
    os.dup2(other, number)
    file.close()
    os.fstat(number)
    os.close(number)
    os.close(other)
    with pytest.raises(ValueError, match="closed"):
        file.pread(0, 1)


def test_nothing_stays_open_whatever_the_name(root: Path) -> None:
    before = descriptors()
    os.mkfifo(root / "fifo.mp4")
    (root / "circle").symlink_to("circle")
    for name in ("fifo.mp4", "folder", "folder/inner", "circle", "nothing", "folder/nothing", "film.mp4/x"):
        with pytest.raises(NotFoundError):
            Library(root).open(name)
    assert descriptors() == before


@pytest.mark.clause("RFC 9110 §8.8.3")
def test_the_tag_depends_on_size_and_second_alone(root: Path, tmp_path: Path) -> None:
    """The same on every node with a copy, another for every other version."""

    def tag(path: Path, data: bytes, when: float) -> str:
        path.write_bytes(data)
        os.utime(path, (when, when))
        with Library(path.parent).open(path.name) as file:
            return file.validator(THEN + 100)

    first = tag(root / "film.mp4", b"one", THEN + 0.25)
    assert first == tag(tmp_path / "copy.mp4", b"two", THEN + 0.75)
    assert first != tag(root / "film.mp4", b"one", THEN + 1)
    assert first != tag(root / "film.mp4", b"four", THEN)
    assert first.startswith('"')
    assert first.endswith('"')


@pytest.mark.clause("RFC 9110 §8.8.1")
@pytest.mark.parametrize(("age", "weak"), [(0, True), (1.5, True), (2, False), (1000, False), (-1000, True)])
def test_the_tag_of_a_file_changed_just_now_is_weak(root: Path, age: float, weak: bool) -> None:
    """A second version within the clock's resolution would have the same one."""
    os.utime(root / "film.mp4", (THEN, THEN))
    with Library(root).open("film.mp4") as file:
        assert file.validator(THEN + age).startswith('W/"') is weak


@given(
    st.lists(
        st.sampled_from(["..", ".", "", "folder", "inner", "up", "link", "secret.mp4", "a\0"]), max_size=8
    )
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_name_made_of_anything_leads_out(root: Path, parts: list[str]) -> None:
    if not (root / "up").is_symlink():
        (root / "up").symlink_to("..")
        (root / "link").symlink_to("folder")
    with pytest.raises(NotFoundError):
        Library(root).open("/".join(parts))
