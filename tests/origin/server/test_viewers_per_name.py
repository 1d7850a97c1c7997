"""As many viewers at once as a name may have: whoever is too many is cut off, whatever it fetches."""

from __future__ import annotations

import functools
import itertools
import re
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel, film
from tests.e2e.station_tones import tone
from tests.fork_server import run_headwater
from tests.http2_client import Http2Client
from tests.keys import BEARER
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

CONFIG = """
[server]
port = 0
data = "data"
workers = {workers}
trusted_proxies = ["127.0.0.1"]
[access]
viewers_per_name = 1
[library]
path = "library"
access = "signed"
encode = "off"
[[radio]]
name = "fm.mp3"
access = "signed"
folder = "music"
bitrate = 64
"""
SIZE = 64 << 20
LONG = "/media/long.mp4"
CHANNEL = "/live/demo/master.m3u8"


@dataclass(frozen=True)
class Signing:
    """A server with the folder in which it was started."""

    server: ServerProcess
    folder: Path

    @property
    def url(self) -> str:
        return self.server.url


@pytest.fixture(scope="module", params=[1, 2])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signing]:
    """A server alone, and one with workers."""
    folder = tmp_path_factory.mktemp("viewers")
    (folder / "library").mkdir()
    (folder / "music").mkdir()
    (folder / "music" / "one.mp3").write_bytes(tone(440, 30))
    copy = ["ffmpeg", "-v", "error", "-i", str(film()), "-t", "8", "-c", "copy"]
    subprocess.run([*copy, str(folder / "library" / "film.mp4")], check=True, timeout=CLIENT_SECONDS)
    with (folder / LONG.replace("/media", "library")).open("wb") as file:
        file.truncate(SIZE)
    text = CONFIG.format(workers=request.param) + copied_channel("demo", 'access = "signed"')
    (folder / "headwater.toml").write_text(text)
    with start_server(cwd=folder) as running:
        path = signed(folder, CHANNEL, "nobody")
        wait_for(lambda: httpx.get(f"{running.url}{path}").status_code == 200, "the channel")
        yield Signing(running, folder)


@functools.cache
def signed(folder: Path, path: str, name: str) -> str:
    """Give the path of an address that is signed for a name."""
    done = run_headwater("sign", path, "--name", name, "--config", str(folder / "headwater.toml"))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip().removeprefix("http://127.0.0.1:0")


def address(server: Signing, path: str, name: str) -> str:
    return signed(server.folder, path, name)


def get(server: Signing, path: str, player: str) -> httpx.Response:
    """Ask as a player, on a connection of its own, which any worker may take."""
    fields = {"user-agent": player, "x-forwarded-for": "192.0.2.7"}
    return httpx.get(f"{server.url}{path}", headers=fields, timeout=CLIENT_SECONDS)


class Download:
    """A download whose client reads only its beginning."""

    def __init__(self, server: Signing, path: str, player: str) -> None:
        host, port = server.url.removeprefix("http://").split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=CLIENT_SECONDS)
        fields = f"Host: {host}\r\nUser-Agent: {player}\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n"
        self.socket.sendall(f"GET {path} HTTP/1.1\r\n{fields}".encode())
        self.head = self.socket.recv(2000)
        self.length = len(self.head)

    @property
    def is_over(self) -> bool:
        """Whether the server has ended the connection before the end of the file.

        What lies in the kernel's buffers before that is read, and never more than a part of it at once.
        """
        self.socket.setblocking(False)
        for _ in range(16):
            try:
                data = self.socket.recv(1 << 16)
            except BlockingIOError:
                return False
            except ConnectionError:
                return True
            self.length += len(data)
            if not data:
                return self.length < SIZE
        return False


@pytest.mark.promise("library.access", "radio.access")
@pytest.mark.parametrize(
    ("path", "name"),
    [
        (LONG, "file"),
        ("/radio/fm.mp3", "station"),
        (f"{LONG}?token", "query"),
        ("/live/demo/master.m3u8", "live"),
    ],
)
def test_a_second_viewer_ends_the_first_one(server: Signing, path: str, name: str) -> None:
    target = address(server, path.partition("?")[0], name)
    if path.endswith("?token"):
        _, _, token, rest = target.split("/", 3)
        target = f"/{rest}?token={token}"
    is_long = not path.endswith(".m3u8")
    first = Download(server, target, "first")
    assert b" 200 " in first.head
    others = Download(server, address(server, path.partition("?")[0], f"other-{name}"), "first")
    if is_long:
        second = Download(server, target, "second")
        assert b" 200 " in second.head
        wait_for(lambda: first.is_over, "the end of the first one")
        assert not second.is_over
        second.socket.close()
    else:
        assert get(server, target, "second").status_code == 200
    # On connections of their own, of which each worker gets some.
    wait_for(lambda: {get(server, target, "first").status_code for _ in range(8)} == {403}, "the refusal")
    refused = get(server, target, "first")
    assert "another session with this name has begun" in refused.text
    assert refused.headers["cache-control"] == "no-store"
    if is_long:
        assert not others.is_over, "other names are others"
    for one in (first, others):
        one.socket.close()


def test_a_blocked_reload_is_refused_at_once(server: Signing) -> None:
    def refused_reload(name: str) -> bool:
        """Begin a second session while the first one waits; False where its segment came before."""
        master = address(server, CHANNEL, name)
        text = get(server, master, "first").text
        media = f"{master.rpartition('/')[0]}/{re.search('^[^#].*m3u8$', text, re.MULTILINE)[0]}"  # type: ignore[index]
        playlist = get(server, media, "first").text
        number = re.search(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", playlist)
        assert number is not None
        ahead = int(number[1]) + playlist.count("#EXTINF") + 1
        with ThreadPoolExecutor(1) as executor:
            waiting = executor.submit(get, server, f"{media}?_HLS_msn={ahead}", "first")
            assert get(server, media, "second").status_code == 200
            return waiting.result().status_code == 403

    names = itertools.count()
    wait_for(lambda: refused_reload(f"reload-{next(names)}"), "the refusal of what waits")


def test_on_http_2_the_stream_alone_is_cut(server: Signing) -> None:
    target = address(server, LONG, "stream")
    with Http2Client(server.url, 16_384, opens=False) as client:
        answer = client.answers[client.request(target, user_agent="first", x_forwarded_for="192.0.2.7")]
        client.until(lambda: answer.body)
        assert answer.status == 200
        assert get(server, target, "second").status_code == 200
        client.until(lambda: answer.reset is not None)
        assert answer.reset == 8, "RFC 9113 §7: CANCEL"
        assert client.get("/api/time").status == 200


@pytest.mark.promise("/api/viewers", "/api/viewers/NAME", "access.viewers_per_name")
def test_the_administrator_sees_sessions_and_ends_them(server: Signing) -> None:
    target = address(server, LONG, "seen")
    download = Download(server, target, "watching")

    def listed() -> list[dict[str, object]]:
        answer = httpx.get(f"{server.url}/api/viewers/seen", headers=BEARER, timeout=CLIENT_SECONDS)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        found: list[dict[str, object]] = answer.json()["sessions"]
        return found

    (session,) = wait_for(listed, "the session")
    assert (session["name"], session["address"], session["user_agent"]) == ("seen", "192.0.2.7", "watching")
    everybody = httpx.get(f"{server.url}/api/viewers", headers=BEARER, timeout=CLIENT_SECONDS).json()
    assert session["id"] in {one["id"] for one in everybody["sessions"]}
    assert httpx.get(f"{server.url}/api/viewers", timeout=CLIENT_SECONDS).status_code == 401
    assert httpx.delete(f"{server.url}/api/viewers/seen", timeout=CLIENT_SECONDS).status_code == 401
    ended = httpx.delete(f"{server.url}/api/viewers/seen", headers=BEARER, timeout=CLIENT_SECONDS)
    assert ended.json() == {"ended": 1}
    wait_for(lambda: download.is_over, "the end of the download")
    wait_for(lambda: {get(server, target, "watching").status_code for _ in range(8)} == {403}, "the refusal")
    assert "the session was ended" in get(server, target, "watching").text
    again = httpx.delete(f"{server.url}/api/viewers/seen", headers=BEARER, timeout=CLIENT_SECONDS)
    assert again.status_code == 404
    download.socket.close()
