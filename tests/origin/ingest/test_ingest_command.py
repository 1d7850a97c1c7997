"""``headwater ingest`` feeds a channel of a running server, and ends with the status that says why."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fork_server import start_headwater
from tests.origin.ingest.studio import KEY, Studio, encoder_arguments, encoding, studio
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with studio(tmp_path_factory.mktemp("ingest")) as one:
        yield one


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    arguments = encoder_arguments("mp4", more="-t 4").replace("-re ", "")
    subprocess.run(["ffmpeg", *arguments.split(), str(path)], check=True)
    return path


def ingest(url: str, server: str, *more: str, key: str = KEY) -> subprocess.Popen[str]:
    words = (url, "--channel", "studio", "--to", server, *more)
    return start_headwater("ingest", *words, env={"HEADWATER_PUBLISH_KEY": key})


@pytest.mark.promise("headwater ingest")
@pytest.mark.clause("headwater ingest publishes a file to its end, and the exit status is 0")
def test_a_file_is_published_to_its_end(hall: Studio, film: Path) -> None:
    hall.wait_for_state("idle")
    process = ingest(str(film), hall.server.url)
    wait_for(lambda: hall.channel()["publisher"]["on_air"], "the publisher")
    told, _ = process.communicate(timeout=CLIENT_SECONDS)
    assert (process.returncode, told) == (0, "headwater: publishing to studio\n")
    hall.wait_for_state("idle")


@pytest.mark.parametrize(
    ("url", "key", "status", "told"),
    [
        ("FILM", "wrong", 1, "publish_key or server.admin_token is needed"),
        ("nowhere.mp4", KEY, 1, "nowhere.mp4"),
        ("testsrc", KEY, 1, "name a file or a URL"),
        ("FILM", "", 2, "HEADWATER_PUBLISH_KEY"),
    ],
)
def test_what_can_not_be_published_is_told_in_one_line(
    hall: Studio, film: Path, url: str, key: str, status: int, told: str
) -> None:
    process = ingest(url.replace("FILM", str(film)), hall.server.url, key=key)
    lines = process.communicate(timeout=CLIENT_SECONDS)[0].splitlines()
    assert process.returncode == status
    assert told in lines[-1]
    assert len(lines) <= 2


def test_another_publisher_that_takes_over_ends_it_with_the_reason(hall: Studio, film: Path) -> None:
    hall.wait_for_state("idle")
    long = film.with_name("long.mp4")
    subprocess.run(
        ["ffmpeg", "-v", "error", "-stream_loop", "60", "-i", str(film), "-c", "copy", str(long)], check=True
    )
    process = ingest(str(long), hall.server.url)
    wait_for(lambda: hall.channel()["publisher"]["on_air"], "the publisher")
    with encoding(*encoder_arguments().split(), "-method", "PUT", f"{hall.address}?key={KEY}"):
        told, _ = process.communicate(timeout=CLIENT_SECONDS)
    assert process.returncode == 1
    assert told.splitlines()[-1] == "headwater: another publisher took over"
    hall.wait_for_state("idle")


def test_it_waits_for_a_server_that_is_not_there_yet(tmp_path: Path, film: Path) -> None:
    with kept_port() as port:
        process = ingest(str(film), f"http://127.0.0.1:{port}")
        assert process.stdout is not None
        assert "publishing" in process.stdout.readline()
        assert "again in" in process.stdout.readline()
        with studio(tmp_path, port=port) as one:
            wait_for(lambda: one.channel()["publisher"]["on_air"], "the publisher")
            process.communicate(timeout=CLIENT_SECONDS)
            assert process.returncode == 0
