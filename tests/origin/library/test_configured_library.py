"""Options of the library and of its limits, each with another value than its default, at a real server."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import ServerProcess, start_server
from tests.packager import films
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port
from tests.waiting import wait_for

CONFIG = """
[server]
port = 0
data = "data"
protected = ["api"]
admin_host = "127.0.0.3"
admin_port = {port}

[library]
path = "library"
encode = "all"
encoded_size = "0M"
thumbnails_size = "0M"

[limits]
open_files = 1
open_file_seconds = 0.00001
library_files = 4
vod_moov_bytes = 65536
vod_samples = 1000
"""
SOUND = "-f lavfi -i sine=sample_rate=48000:duration={seconds}"
PICTURE = "-f lavfi -i color=gray:size=16x16:rate={rate}:duration=20"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    library = folder / "library"
    library.mkdir()
    films.run_ffmpeg(*SOUND.format(seconds=5).split(), "-c:a", "aac", library / "a.m4a")
    films.run_ffmpeg(*SOUND.format(seconds=40).split(), "-c:a", "aac", library / "long.m4a")
    many = PICTURE.format(rate=1000).split()
    films.run_ffmpeg(*many, *["-c:v", "libx264", "-preset", "ultrafast"], library / "many.mp4")
    films.run_ffmpeg(*["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=12:duration=8"], library / "film.mp4")
    (library / "other.mp4").write_bytes((library / "film.mp4").read_bytes())
    for number in range(3):
        (library / f"note{number}.mp3").write_bytes(b"a note")
    return folder


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with kept_port() as port:
        yield port


@pytest.fixture(scope="module")
def server(folder: Path, port: int) -> Iterator[ServerProcess]:
    (folder / "headwater.toml").write_text(CONFIG.format(port=port))
    with start_server(cwd=folder) as server:
        yield server


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=CLIENT_SECONDS) as client:
        yield client


@pytest.mark.promise("server.admin_host", "limits.library_files")
def test_the_administrators_address_lists_no_more_files_than_configured(
    client: httpx.Client, port: int
) -> None:
    assert client.get("/api/library").status_code == 401
    url = f"http://127.0.0.3:{port}/api/library"
    assert len(httpx.get(url, timeout=CLIENT_SECONDS).json()) == 4
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


@pytest.mark.promise("limits.vod_samples", "limits.vod_moov_bytes")
def test_a_film_of_more_samples_or_a_larger_index_than_configured_is_refused(client: httpx.Client) -> None:
    assert client.get("/vod/a.m4a/master.m3u8").status_code == 200
    for name, reason in (("long.m4a", "1000"), ("many.mp4", "65536")):
        answer = client.get(f"/vod/{name}/master.m3u8")
        assert (answer.status_code, reason in answer.text.replace(",", "")) == (422, True), answer.text


@pytest.mark.promise("limits.open_files")
def test_no_more_files_stay_open_than_configured(
    client: httpx.Client, server: ServerProcess, folder: Path
) -> None:
    for _ in range(3):
        for number in range(3):
            assert client.get(f"/media/note{number}.mp3").content == b"a note"

    def opened() -> list[str]:
        found: list[str] = []
        for path in Path(f"/proc/{server.process.pid}/fd").iterdir():
            try:
                name = os.readlink(path)
            except FileNotFoundError:
                continue
            if name.startswith(f"{folder}/library/note"):
                found.append(name)
        return found

    assert len(opened()) <= 1


@pytest.mark.promise("limits.open_file_seconds")
def test_a_replaced_file_is_looked_up_again_after_the_configured_time(
    client: httpx.Client, folder: Path
) -> None:
    for number in range(20):
        text = f"the note {number}"
        (folder / "another").write_text(text)
        # What has been changed in this very second is always looked up.
        os.utime(folder / "another", (number, number))
        (folder / "another").replace(folder / "library" / "replaced.txt")
        assert [client.get("/media/replaced.txt").text for _ in range(3)] == [text] * 3


@pytest.mark.promise("library.encoded_size", "library.thumbnails_size")
def test_what_is_made_of_films_takes_no_more_of_the_disk_than_configured(
    client: httpx.Client, folder: Path
) -> None:
    for name in ("film.mp4", "other.mp4"):
        playlist = client.get(f"/vod/{name}/video-180p/media.m3u8").text
        for uri in (line for line in playlist.splitlines() if line and not line.startswith("#")):
            assert client.get(f"/vod/{name}/video-180p/{uri}").status_code == 200
        assert client.get(f"/vod/{name}/thumbnails/0.jpg").status_code == 200

    def kept(suffix: str) -> list[Path]:
        return [path for path in (folder / "data").rglob("*") if path.name.endswith(suffix)]

    # The newest one stays in any case.
    for suffix in (".m4s", ".jpg"):
        wait_for(lambda suffix=suffix: len(kept(suffix)) <= 1, f"no more {suffix} on the disk", seconds=20)  # type: ignore[misc]
