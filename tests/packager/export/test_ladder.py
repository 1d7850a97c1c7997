"""Packages with encoded renditions: what a server encodes on request, made ahead of time."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import httpx
import m3u8
import pytest

from origin.cli.package_progress import EncodingPace
from packager.export.export import ExportReport, export
from packager.export.ladder import Ladder, ladder_of
from packager.process.ffmpeg_discovery import Tools
from tests.conftest import start_server
from tests.fork_server import HEADWATER, run_headwater
from tests.packager import films
from tests.packager.export.runs import StoppedError, contents, stop_at, versions
from tests.packager.films import FFMPEG, FFPROBE, run_ffmpeg
from tests.waiting import wait_for

SECONDS = 8
SEGMENTS = 4
"""Of the encoded picture and sound of so long a film together."""


def make_phone(folder: Path) -> Path:
    """Make a film of HEVC and AC-3, in a folder of its own."""
    path = folder / "films" / "phone.mkv"
    path.parent.mkdir()
    run_ffmpeg(
        *("-f", "lavfi", "-i", f"testsrc2=size=160x90:rate=10:duration={SECONDS}"),
        *("-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=48000:duration={SECONDS}"),
        *("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none", "-g", "20"),
        *("-c:a", "ac3", path),
    )
    return path


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The film for tests that leave its folder as it is."""
    return make_phone(tmp_path_factory.mktemp("phone"))


@pytest.fixture(scope="module")
def ladder(tools: Tools) -> Ladder:
    return ladder_of("auto", tools)


@pytest.fixture(scope="module")
def unbroken(phone: Path, ladder: Ladder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The package that a run without an interruption makes."""
    folder = tmp_path_factory.mktemp("unbroken")
    export([phone], folder, ladder=ladder).require()
    return contents(folder)


def declared(text: str) -> list[tuple[str, str]]:
    """Return the address and the codecs of each variant."""
    return [(str(one.uri), str(one.stream_info.codecs)) for one in m3u8.loads(text).playlists]


def test_the_package_is_what_the_server_makes_on_request(phone: Path, tmp_path: Path) -> None:
    done = run_headwater("package", phone, "--out", tmp_path / "out", "--ladder", "auto")
    package = tmp_path / "out" / "phone.mkv"
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{package}/master.m3u8\n", "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["phone.mkv"]
    server = start_server("--library", str(phone.parent), "--port", "0")
    try:
        films_url = f"{server.url}/vod/phone.mkv"
        master = (package / "master.m3u8").read_text()
        assert declared(master) == declared(httpx.get(f"{films_url}/master.m3u8").text)
        names = [
            str(path.relative_to(package))
            for folder in ("video-90p", "audio-aac")
            for path in (package / folder).iterdir()
            if path.suffix in (".m4s", ".mp4")
        ]
        assert len(names) == SEGMENTS + 2  # and how both tracks begin
        for name in names:
            made = httpx.get(f"{films_url}/{name}", timeout=120)
            assert (name, made.status_code, made.content) == (name, 200, (package / name).read_bytes())
    finally:
        server.stop()


@pytest.mark.parametrize("layout", [(), ("--single-file",)], ids=["segments", "single file"])
def test_others_find_no_fault_with_it(layout: tuple[str, ...], phone: Path, tmp_path: Path) -> None:
    done = run_headwater("package", phone, "--out", tmp_path / "out", "--ladder", "auto", *layout)
    assert (done.returncode, done.stderr) == (0, "")
    package = tmp_path / "out" / "phone.mkv"
    judged = run_headwater("check", package)
    assert (judged.returncode, judged.stdout.rpartition(", ")[2]) == (0, "0 didn't\n"), judged.stdout
    for name in ("master.m3u8", "manifest.mpd"):
        words = ("-v", "warning", "-show_entries", "stream=codec_name", "-of", "json")
        seen = subprocess.run([FFPROBE, *words, str(package / name)], capture_output=True, check=True)
        codecs = {one["codec_name"] for one in json.loads(seen.stdout)["streams"]}
        assert (seen.stderr, codecs) == (b"", {"hevc", "h264", "ac3", "aac"})
    for track in ("video-90p", "audio-aac"):
        source = str(package / track / "media.m3u8")
        command = [FFMPEG, "-nostdin", "-v", "warning", "-i", source, "-f", "null", "-"]
        assert subprocess.run(command, capture_output=True, check=True).stderr == b""


def test_bandwidths_are_those_of_the_segments_themselves(unbroken: dict[str, bytes]) -> None:
    master = m3u8.loads(unbroken["phone.mkv/master.m3u8"].decode())
    encoded = [one for one in master.playlists if one.stream_info.codecs == "avc1.64001e,mp4a.40.2"]
    rates = []
    for track in ("video-90p", "audio-aac"):
        listed = m3u8.loads(unbroken[f"phone.mkv/{track}/media.m3u8"].decode()).segments
        sizes = [len(unbroken[f"phone.mkv/{track}/{one.uri}"]) for one in listed]
        lasts = [float(one.duration) for one in listed]
        peak = max(8 * size / seconds for size, seconds in zip(sizes, lasts, strict=True))
        rates.append((8 * sum(sizes) / sum(lasts), peak))
    (variant,) = encoded
    assert variant.stream_info.average_bandwidth == pytest.approx(rates[0][0] + rates[1][0], abs=8)
    # The peak is that of some segments in a row (RFC 8216bis §4.1), which one segment's is about.
    assert variant.stream_info.bandwidth == pytest.approx(rates[0][1] + rates[1][1], rel=0.1)


def test_a_killed_run_goes_on_and_the_result_is_that_of_an_unbroken_one(
    phone: Path, unbroken: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = [str(HEADWATER), "package", str(phone), "--out", str(out), "--ladder", "auto"]
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    encoded = ("phone.mkv.part/video-90p", "phone.mkv.part/audio-aac")

    def segments() -> list[Path]:
        return [path for folder in encoded for path in (out / folder).glob("*.m4s")]

    wait_for(lambda: segments() or running.poll() is not None, "a segment")
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert [path.name for path in out.iterdir()] == ["phone.mkv.part"]
    assert not list(out.rglob("*.m3u8")) + list(out.rglob("*.mpd"))
    half = {name: one for name, one in versions(out / "phone.mkv.part").items() if name.endswith(".m4s")}
    assert 0 < len(half) < SEGMENTS
    (out / encoded[0] / "1.m4s.0123abcd.tmp").write_bytes(b"half")
    again = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)
    assert (again.returncode, again.stderr) == (0, "")
    whole = versions(out / "phone.mkv")
    assert {name: whole[name] for name in half} == half
    assert contents(out) == unbroken


@pytest.mark.parametrize("single_file", [False, True], ids=["segments", "single file"])
def test_no_segment_is_encoded_twice_wherever_runs_end(
    single_file: bool, phone: Path, ladder: Ladder, unbroken: dict[str, bytes], tmp_path: Path
) -> None:
    """Each run ends behind its first new segment, or where it puts the film together."""
    found: list[list[bool]] = []

    def package(stop_at_new: bool, stop_at_done: int) -> bool:
        found.append([])

        def encoded(_name: str, seconds: float, is_new: bool) -> None:
            if seconds:
                found[-1].append(is_new)
            if seconds and is_new and stop_at_new:
                raise StoppedError

        def progress(_name: str, done: int, total: int) -> None:
            if done == total - stop_at_done:
                raise StoppedError

        report = ExportReport(progress, encoded=encoded)
        try:
            export([phone], tmp_path / "out", report, single_file=single_file, ladder=ladder).require()
        except StoppedError:
            return False
        return True

    while not (found and len(found[-1]) == SEGMENTS and found[-1].count(True) == 1):
        assert not package(stop_at_new=True, stop_at_done=-1)
    for left in (SEGMENTS, SEGMENTS // 2, 0):
        assert not package(stop_at_new=False, stop_at_done=left)
    assert package(stop_at_new=False, stop_at_done=-1)
    # A run that ended just before the finished film was put in its place.
    (tmp_path / "out" / "phone.mkv").rename(tmp_path / "out" / "phone.mkv.part")
    assert package(stop_at_new=False, stop_at_done=-1)
    assert sum(one.count(True) for one in found) == SEGMENTS
    if single_file:
        export([phone], tmp_path / "fresh", single_file=True, ladder=ladder).require()
    fresh = contents(tmp_path / "fresh") if single_file else unbroken
    assert contents(tmp_path / "out") == fresh


def test_segments_of_another_encoder_are_not_mixed_and_a_finished_film_stays(
    phone: Path, ladder: Ladder, unbroken: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    other = replace(ladder, renditions=replace(ladder.renditions, encoder="another"))
    with pytest.raises(StoppedError):
        export([phone], out, stop_at(3), ladder=other)
    with pytest.raises(StoppedError):
        export([phone], out, stop_at(1), ladder=ladder)
    assert len(list(out.rglob("*.m4s"))) == 1
    export([phone], out, ladder=ladder).require()
    assert contents(out) == unbroken
    before = versions(out)
    export([phone], out, ladder=other).require()
    assert versions(out) == before
    # Without encoded renditions it is another package.
    export([phone], out).require()
    export([phone], tmp_path / "copied").require()
    assert contents(out) == contents(tmp_path / "copied")
    assert not list(out.rglob("*-aac"))


def test_what_breaks_the_encoder_is_named_and_the_others_are_packaged(tmp_path: Path) -> None:
    phone = make_phone(tmp_path)
    broken = phone.with_name("broken.mp4")
    shutil.copyfile(films.film("hevc.mp4"), broken)
    positions = films.probe(broken, "-select_streams", "v", "-show_entries", "packet=pos,size")["packets"]
    with broken.open("r+b") as file:
        for packet in positions:
            file.seek(int(packet["pos"]) + 4)
            file.write(b"\xff" * (int(packet["size"]) - 4))
    done = run_headwater("package", phone.parent, "--out", tmp_path / "out", "--ladder", "auto")
    assert (done.returncode, done.stdout) == (1, f"{tmp_path}/out/phone.mkv/master.m3u8\n")
    (line,) = done.stderr.splitlines()
    assert re.fullmatch(rf"headwater: {broken}: video-180p: its beginning can't be encoded: .+", line)
    assert not (tmp_path / "out" / "broken.mp4").exists()


def test_an_ffmpeg_without_the_encoder_is_said_in_a_line(phone: Path, tmp_path: Path) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text(f'#!/bin/sh\n{shutil.which(FFMPEG)} "$@" | sed s/libx264/libnone/\n')
    program.chmod(0o755)
    env = {"FFMPEG": str(program), "FFPROBE": str(shutil.which(FFPROBE)), "PATH": os.environ["PATH"]}
    done = run_headwater("package", phone, "--out", tmp_path / "out", "--ladder", "auto", env=env, fresh=True)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert "the encoding of films needs encoder libx264" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_title_of_several_files_has_these_alone(ladder: Ladder, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    for name in ("title.720p.mp4", "title.360p.mp4"):
        shutil.copyfile(films.film("hevc.mp4"), folder / name)
    export([folder], tmp_path / "out", ladder=ladder).require()
    export([folder], tmp_path / "copied").require()
    assert contents(tmp_path / "out") == contents(tmp_path / "copied")


def test_speed_and_time_left_are_of_the_film_and_of_all_without_what_was_there() -> None:
    now = [100.0]
    pace = EncodingPace(lambda: now[0])
    pace.plan("a.mkv", 60.0)
    pace.plan("b.mkv", 120.0)
    assert pace.line("a.mkv") == ""
    pace.add("a.mkv", 30.0, False)
    assert pace.line("a.mkv") == "in all 17%"
    now[0] += 5.0
    pace.add("a.mkv", 10.0, True)
    assert pace.line("a.mkv") == "2x, 0:00:10 left, in all 22%, 0:01:10 left"
    # What is lacking of a film that failed isn't waited for.
    now[0] += 5.0
    pace.add("b.mkv", 10.0, True)
    assert pace.line("b.mkv") == "2x, 0:00:55 left, in all 39%, 0:00:55 left"


def test_two_runs_at_the_same_time_encode_once(phone: Path, ladder: Ladder, tmp_path: Path) -> None:
    made: list[str] = []

    def encoded(_name: str, seconds: float, is_new: bool) -> None:
        if seconds and is_new:
            made.append(_name)

    def run() -> None:
        export([phone], tmp_path / "out", ExportReport(encoded=encoded), ladder=ladder).require()

    async def both() -> None:
        await asyncio.gather(asyncio.to_thread(run), asyncio.to_thread(run))

    asyncio.run(both())
    assert len(made) == SEGMENTS
