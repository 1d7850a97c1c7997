"""What is packaged by a queue is what is packaged here, whoever does it and whoever is killed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from packager.export.export import export
from packager.export.ladder import ladder_of
from packager.process.ffmpeg_discovery import Tools
from tests.conftest import start_server
from tests.fork_server import HEADWATER, run_headwater, start_headwater
from tests.packager import films
from tests.packager.export.runs import contents
from tests.processes import end
from tests.redis_server import RedisServer
from tests.waiting import wait_for


@pytest.fixture
def config(redis_server: RedisServer, tmp_path: Path) -> Path:
    path = tmp_path / "headwater.toml"
    path.write_text(f'[cluster]\nurl = "{redis_server.url}"\n')
    return path


@pytest.fixture
def worker(config: Path) -> Iterator[subprocess.Popen[str]]:
    process = start_headwater("work", "--config", config)
    yield process
    end(process)
    assert process.stdout is not None
    process.stdout.close()


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    (folder / "inner").mkdir(parents=True)
    for name in ("inner/film.mp4", "title.720p.mp4"):
        (folder / name).write_bytes(films.film("bframes.mp4").read_bytes())
    (folder / "title.360p.mp4").write_bytes(films.film("silent.mp4").read_bytes())
    (folder / "broken.mp4").write_bytes(b"not a film")
    return folder


@pytest.mark.promise("headwater work", "cluster.url")
def test_what_is_queued_becomes_what_is_packaged_here(
    config: Path, worker: subprocess.Popen[str], library: Path, tmp_path: Path
) -> None:
    done = run_headwater("package", library, "--out", tmp_path / "queued", "--queue", "--config", config)
    here = export([library], tmp_path / "here")
    assert (done.returncode, len(here.failures)) == (1, 1)
    assert str(here.failures[0]) in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(done.stdout.split()) == sorted(
        str(path).replace(str(tmp_path / "here"), str(tmp_path / "queued")) for path in here.playlists
    )
    assert contents(tmp_path / "queued") == contents(tmp_path / "here")


def test_what_is_encoded_by_a_queue_is_what_is_encoded_here(
    config: Path, worker: subprocess.Popen[str], tools: Tools, tmp_path: Path
) -> None:
    path = films.film("ac3.mp4")
    words = ("--out", tmp_path / "queued", "--ladder", "auto", "--queue", "--config", config)
    done = run_headwater("package", path, *words)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/queued/ac3.mp4/master.m3u8\n")
    export([path], tmp_path / "here", ladder=ladder_of("auto", tools)).require()
    assert list((tmp_path / "here").rglob("audio-aac/*.m4s"))
    assert contents(tmp_path / "queued") == contents(tmp_path / "here")


def test_a_queue_that_isnt_there_is_said_in_a_line(library: Path, tmp_path: Path) -> None:
    words = ("package", library, "--out", tmp_path / "out", "--queue", "--config")
    (tmp_path / "none.toml").write_text("")
    done = run_headwater(*words, tmp_path / "none.toml")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "cluster.url: is missing" in done.stderr
    (tmp_path / "cluster.toml").write_text('[cluster]\nurl = "redis+cluster://127.0.0.1:1"\n')
    done = run_headwater(*words, tmp_path / "cluster.toml")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "cluster.url: a Redis Cluster takes no jobs" in done.stderr
    assert not (tmp_path / "out").exists()
    done = run_headwater("package", library, "--out", tmp_path / "out", "--config", tmp_path / "none.toml")
    assert done.returncode == 2
    away = tmp_path / "away.toml"
    away.write_text('[cluster]\nurl = "redis://:a-secret-of-it@127.0.0.1:1/0"\n')
    done = run_headwater(*words, away)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "a-secret-of-it" not in done.stderr
    shown = run_headwater("work", "--config", tmp_path / "none.toml")
    assert (shown.returncode, len(shown.stderr.splitlines())) == (1, 1)


def test_thumbnails_are_drawn_by_a_worker_and_here_when_it_is_killed(
    redis_server: RedisServer, tmp_path: Path, library: Path
) -> None:
    config, log = tmp_path / "headwater.toml", tmp_path / "log"
    config.write_text(f'[cluster]\nurl = "{redis_server.url}"\n[library]\npath = "{library}"\n')
    with log.open("wb") as written:
        worker = subprocess.Popen(
            [str(HEADWATER), "work", "--config", str(config)], stdout=written, stderr=subprocess.STDOUT
        )
    server = start_server("--config", str(config), "--port", "0")

    def sprite(film: str) -> bytes:
        answer = httpx.get(f"{server.url}/vod/{film}/thumbnails/0.jpg", timeout=60)
        return answer.content if answer.status_code == 200 else b""

    try:
        wait_for(lambda: "waiting for jobs" in log.read_text(), "the worker")
        wait_for(
            lambda: b"worker_info" in redis_server.command("KEYS", "saq:headwater-thumbnails:*"), "its sign"
        )
        drawn = wait_for(lambda: sprite("inner/film.mp4"), "a sprite")
        assert "kind=thumbnails" in log.read_text()
        assert "a job failed" not in log.read_text()
        worker.kill()
        assert wait_for(lambda: sprite("title.720p.mp4"), "a sprite that is drawn here") == drawn
    finally:
        server.stop()
        end(worker)
    assert "Traceback" not in server.text()


def test_a_worker_that_waits_ends_when_it_is_told_to(worker: subprocess.Popen[str]) -> None:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    assert "waiting for jobs" in line
    worker.terminate()
    wait_for(lambda: worker.poll() is not None, "the worker's end")
    assert worker.returncode == 0
