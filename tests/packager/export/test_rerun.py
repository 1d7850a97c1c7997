"""Packaging again: what is complete and unchanged stays, and what was cut short goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from packager.export.export import ExportReport, export
from packager.export.package_record import RECORD_BEGIN
from packager.safe_files import NotOursError
from tests.fork_server import HEADWATER, run_headwater
from tests.packager import films
from tests.packager.export.runs import StoppedError, contents, stop_at, versions
from tests.small_disk import small_disk
from tests.waiting import wait_for


@pytest.mark.parametrize("single_file", [False, True])
def test_what_is_complete_is_not_written_again(film: Path, tmp_path: Path, single_file: bool) -> None:
    out = tmp_path / "out"
    export([film], out, single_file=single_file).require()
    before = versions(out)
    told: list[tuple[str, int, int]] = []
    export([film], out, ExportReport(lambda *news: told.append(news)), single_file=single_file).require()
    assert versions(out) == before
    assert told[-1][1] == told[-1][2] > 1


def test_a_package_is_for_any_web_server_to_read(film: Path, tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        export([film], tmp_path / "out").require()
    finally:
        os.umask(umask)
    modes = {path.is_dir(): path.stat().st_mode & 0o777 for path in (tmp_path / "out").rglob("*")}
    assert modes == {True: 0o755, False: 0o644}
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755


def test_a_rerun_needs_neither_the_films_index_nor_what_reads_it(film: Path, tmp_path: Path) -> None:
    """That is most of what a rerun over a long film would take."""
    words = [str(HEADWATER), "package", str(film), "--out", str(tmp_path / "out")]
    subprocess.run(words, check=True, timeout=120, capture_output=True)
    program = "import sys; from origin.cli.main import main\ntry:\n main()\nexcept SystemExit: pass\n"
    program += "print('numpy' in sys.modules, 'packager.vod.index.file_index' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program, *words[1:]], check=True, timeout=120, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == [f"{tmp_path}/out/film.mp4/master.m3u8", "False False"]


def test_two_runs_at_the_same_time_give_what_one_gives(film: Path, tmp_path: Path) -> None:
    out, waits = tmp_path / "out", threading.Event()

    def first(name: str, done: int, total: int) -> None:
        if done == 1:
            assert waits.wait(60)  # in the middle, until the other has found the film under way

    def second(name: str, done: int, total: int) -> None:
        waits.set()

    with ThreadPoolExecutor(2) as threads:
        one = threads.submit(export, [film], out, ExportReport(first))
        wait_for((out / "film.mp4.part").exists, "the first run")
        other = threads.submit(export, [film], out, ExportReport(second))
        assert one.result(60).require() == other.result(60).require()
    export([film], tmp_path / "fresh").require()
    assert contents(out) == contents(tmp_path / "fresh")


def test_a_film_that_was_changed_is_packaged_again_and_leaves_nothing_of_the_earlier_one(
    film: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export([film], out).require()
    assert (out / "film.mp4" / "audio").is_dir()
    film.write_bytes(films.film("silent.mp4").read_bytes())
    export([film], out).require()
    export([film], tmp_path / "fresh").require()
    assert contents(out) == contents(tmp_path / "fresh")
    assert not (out / "film.mp4" / "audio").exists()


def test_another_layout_takes_the_place_of_the_earlier_one(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export([film], out).require()
    export([film], out, single_file=True).require()
    assert not list(out.rglob("*.m4s"))
    export([film], out).require()
    assert not list(out.rglob("media.mp4"))


def test_a_run_that_was_cut_short_leaves_no_film_and_the_next_one_goes_on(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(StoppedError):
        export([film], out, stop_at(2))
    assert [path.name for path in out.iterdir()] == ["film.mp4.part"]
    assert not list(out.rglob("*.m3u8")) + list(out.rglob("*.mpd"))
    half = versions(out / "film.mp4.part")
    (out / "film.mp4.part" / "video" / "7.m4s.0123abcd.tmp").write_bytes(b"half")
    # What a file system lost when the machine went down is written again.
    damaged = "video/1.m4s"
    (out / "film.mp4.part" / damaged).write_bytes(b"")
    export([film], out).require()
    whole = versions(out / "film.mp4")
    kept = set(half) - {"packaged.json", damaged}
    assert {"video/init.mp4", "video/0.m4s"} <= kept
    assert {name: whole[name] for name in kept} == {name: half[name] for name in kept}
    export([film], tmp_path / "fresh").require()
    assert contents(out) == contents(tmp_path / "fresh")


def test_an_earlier_package_stays_until_the_new_one_is_there(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export([film], out).require()
    before = versions(out / "film.mp4")
    film.write_bytes(films.film("moovlast.mp4").read_bytes())
    with pytest.raises(StoppedError):
        export([film], out, stop_at(2))
    assert versions(out / "film.mp4") == before


def test_what_was_begun_of_another_version_is_begun_again(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(StoppedError):
        export([film], out, stop_at(2))
    film.write_bytes(films.film("moovlast.mp4").read_bytes())
    export([film], out).require()
    export([film], tmp_path / "fresh").require()
    assert contents(out) == contents(tmp_path / "fresh")


def test_a_killed_run_can_be_run_again(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [str(HEADWATER), "package", str(film), "--out", str(out)]
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: bool(list(out.rglob("*.m4s"))) or running.poll() is not None, what="a segment")
    running.send_signal(signal.SIGKILL)
    running.wait()
    export([film], out).require()
    export([film], tmp_path / "fresh").require()
    assert contents(out) == contents(tmp_path / "fresh")


def test_a_missing_or_shortened_segment_is_seen(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export([film], out).require()
    good = contents(out)
    (out / "film.mp4" / "video" / "1.m4s").unlink()
    export([film], out).require()
    assert contents(out) == good
    (out / "film.mp4" / "audio" / "0.m4s").write_bytes(b"")
    export([film], out).require()
    assert contents(out) == good


def records(good: bytes) -> Iterator[bytes]:
    told = json.loads(good)
    changes: tuple[dict[str, object], ...] = (
        {"files": []}, {"files": {"video/0.m4s": "9"}}, {"files": {"../../victim": 6}}, {"files": {}},
        {"sources": 5}, {"sources": [[]]}, {"sources": [["film.mp4", 1, 2]]}, {"sources": [[1, 2, 3, 4]]},
        {"complete": 1}, {"left_out": [1]}, {"left_out": "x"}, {"version": 2}, {"version": "1"},
        {"segments": -1.5}, {"segments": True}, {"layout": None}, {"files": {"video/0.m4s": 1 << 80}},
    )  # fmt: skip
    for changed in changes:
        yield json.dumps({**told, **changed}).encode()
    yield RECORD_BEGIN
    yield RECORD_BEGIN + b'"x": ' + b"[" * 100_000
    yield RECORD_BEGIN + b"\xff}"
    yield RECORD_BEGIN + b" " * (5 << 20)
    yield RECORD_BEGIN + b'"version": ' + b"1" * 10_000 + b"}"


def test_a_record_of_another_shape_is_not_believed_and_nothing_outside_is_touched(
    film: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (tmp_path / "victim").write_text("victim")
    export([film], out).require()
    good = contents(out)
    place = out / "film.mp4" / "packaged.json"
    for record in records(place.read_bytes()):
        (out / "film.mp4" / "video" / "0.m4s").unlink()
        place.write_bytes(record)
        export([film], out).require()
        assert contents(out) == good
    assert (tmp_path / "victim").read_text() == "victim"


@pytest.mark.parametrize(
    "foreign", ["poster.jpg", "video/notes.txt", "video/extra/0.m4s", "packaged.json", "video/0.m4s"]
)
def test_what_is_not_of_an_earlier_run_is_left_and_named(film: Path, tmp_path: Path, foreign: str) -> None:
    out = tmp_path / "out"
    export([film], out).require()
    place = out / "film.mp4" / foreign
    place.unlink(missing_ok=True)
    place.parent.mkdir(exist_ok=True)
    if foreign == "video/0.m4s":
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place.write_text("mine")
    os.utime(film)
    there = contents(out)
    failed: list[Exception] = []
    outcome = export([film], out, ExportReport(failed=failed.append))
    assert isinstance(outcome.failures[0], NotOursError)
    assert failed == outcome.failures
    assert str(out / "film.mp4") in str(failed[0])
    left = contents(out)
    assert {name: left[name] for name in there} == there


def test_a_link_in_the_place_of_a_film_is_not_followed(film: Path, tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    for name in ("film.mp4", "film.mp4.part"):
        (out / name).symlink_to(elsewhere)
        outcome = export([film], out)
        assert isinstance(outcome.failures[0], NotOursError)
        (out / name).unlink()
    assert not list(elsewhere.iterdir())


def test_a_title_is_written_again_only_when_a_rendition_changes(tmp_path: Path) -> None:
    for height, name in ((180, "silent.mp4"), (360, "bframes.mp4")):
        (tmp_path / f"film.{height}p.mp4").write_bytes(films.film(name).read_bytes())
    inputs, out = sorted(tmp_path.glob("*.mp4")), tmp_path / "out"
    playlists = export(inputs, out).require()
    assert playlists[-1] == out / "film" / "master.m3u8"
    before = versions(out)
    assert export(inputs, out).require() == playlists
    assert versions(out) == before
    os.utime(inputs[0])
    export(inputs, out).require()
    assert versions(out / "film")["master.m3u8"] != before["film/master.m3u8"]
    (out / "film" / "master.m3u8").write_text("mine")
    os.utime(inputs[0], (5, 5))
    assert isinstance(export(inputs, out).failures[0], NotOursError)
    assert (out / "film" / "master.m3u8").read_text() == "mine"


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for a part of a film."""
    with small_disk(tmp_path / "disk", films.film("sound.m4a").stat().st_size + 100_000) as folder:
        yield folder


def test_a_full_disk_is_named_and_what_was_there_stays(film: Path, tiny_disk: Path) -> None:
    small = film.parent / "small.m4a"
    small.write_bytes(films.film("sound.m4a").read_bytes())
    export([small], tiny_disk).require()
    before = contents(tiny_disk)
    done = run_headwater("package", film, "--out", tiny_disk)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"{tiny_disk}/film.mp4.part/" in line
    assert "No space left on device" in line
    assert {name: data for name, data in contents(tiny_disk).items() if name in before} == before
    assert not (tiny_disk / "film.mp4").exists()
