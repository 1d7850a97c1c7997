"""Addresses that can be given away: with a token a player fetches all that it needs, without one nothing."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import httpx
import m3u8
import pytest

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel, film
from tests.e2e.station_tones import tone
from tests.fork_server import run_headwater
from tests.keys import BEARER
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

FILM = "/vod/private/film.mp4/master.m3u8"
CONFIG = """
[server]
port = 0
data = "data"
trusted_proxies = ["127.0.0.1"]
[log]
requests = true
[library]
path = "library"
folders = { private = "signed" }
[[radio]]
name = "fm.mp3"
access = "signed"
folder = "music"
bitrate = 64
[[events]]
name = "chat"
access = "signed"
[[events]]
name = "news"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signed")
    (folder / "library" / "private").mkdir(parents=True)
    (folder / "music").mkdir()
    (folder / "music" / "one.mp3").write_bytes(tone(440, 30))
    for name in ("open.mp4", "private/film.mp4"):
        copy = ["ffmpeg", "-v", "error", "-i", str(film()), "-t", "8", "-c", "copy"]
        subprocess.run([*copy, str(folder / "library" / name)], check=True, timeout=CLIENT_SECONDS)
        # What was written within the last moments may change once more, and caches are told so.
        os.utime(folder / "library" / name, (1_700_000_000, 1_700_000_000))
    channels = copied_channel("demo", 'access = "signed"') + copied_channel("free")
    (folder / "headwater.toml").write_text(CONFIG + channels)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    with start_server(cwd=folder) as running:
        with httpx.Client(base_url=running.url, timeout=CLIENT_SECONDS) as client:
            paths = signed(folder, "/live/demo/master.m3u8"), "/live/free/master.m3u8"
            wait_for(lambda: {client.get(path).status_code for path in paths} == {200}, "the live channels")
        yield running


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=CLIENT_SECONDS) as client:
        yield client


@functools.cache
def signed(folder: Path, path: str, *options: str) -> str:
    """Give the path of the address that the command prints."""
    done = run_headwater("sign", path, *options, "--config", str(folder / "headwater.toml"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("http://127.0.0.1:0/t/v1.made.")
    return done.stdout.strip().removeprefix("http://127.0.0.1:0")


def token_in(address: str) -> str:
    return address.split("/")[2]


def played(address: str) -> None:
    """Have ffmpeg, which knows nothing of tokens, play some seconds."""
    command = ["ffmpeg", "-v", "error", "-i", address, "-t", "4", "-c", "copy", "-f", "null", "-"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=CLIENT_SECONDS)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "path",
    [
        "/media/private/film.mp4",
        FILM,
        "/vod/private/film.mp4/manifest.mpd",
        "/vod/private/film.mp4/thumbnails.vtt",
        "/vod/private/film.mp4/video/0.m4s",
        "/vod/%70rivate/film.mp4/master.m3u8",
        "/media/private%2Ffilm.mp4",
        "/live/demo/master.m3u8",
        "/live/demo/recordings/1/master.m3u8",
        "/live/%64emo/master.m3u8",
        "/live/fm.mp3/master.m3u8",
        "/radio/fm.mp3",
        "/radio/fm.mp3.m3u",
        "/events/radio/fm.mp3",
        "/events/chat",
        "/events/%63hat",
    ],
)
def test_without_a_token_the_answer_says_why(client: httpx.Client, folder: Path, path: str) -> None:
    for address, reason in (
        (path, "a token is needed"),
        (f"/t/nonsense{path}", "isn't valid"),
        (f"{path}?token=nonsense", "isn't valid"),
        (signed(folder, "/live/free") + "/.." * 2 + path, "isn't valid"),
        (f"/t/{token_in(signed(folder, '/live/dem'))}{path}", "isn't valid"),
    )[: None if path == FILM else 3]:
        # As bytes: the client itself would take ".." out of the address.
        answer = client.get(httpx.URL(client.base_url).copy_with(raw_path=address.encode()))
        assert (answer.status_code, answer.headers["cache-control"]) == (403, "no-store"), address
        assert reason in answer.text
        assert answer.headers["access-control-allow-origin"] == "*"


def test_without_a_token_nothing_protected_is_listed(client: httpx.Client) -> None:
    for query in ("", "?path=private/film.mp4", "?folder=private", "?folder=", "?search=film", "?limit=1"):
        answer = client.get(f"/api/library{query}")
        assert "private" not in answer.text
        assert "private" not in answer.headers.get("link", "")
    assert [one["path"] for one in client.get("/api/library").json()] == ["open.mp4"]
    assert client.get("/api/library?search=film").headers["x-total-count"] == "0"
    assert [one["name"] for one in client.get("/api/live").json()] == ["free"]
    assert client.get("/api/radio").json() == []
    assert [one["name"] for one in client.get("/api/events").json()] == ["news"]
    assert "fm.mp3" not in client.get("/status-json.xsl").text
    assert "fm.mp3" not in client.get("/status.xsl").text


def test_open_addresses_are_as_before(client: httpx.Client) -> None:
    for path in ("/media/open.mp4", "/vod/open.mp4/master.m3u8", "/live/free/master.m3u8"):
        answer = client.get(path)
        assert (answer.status_code, "public" in answer.headers["cache-control"]) == (200, True)


@pytest.mark.parametrize("path", [FILM, "/vod/private/film.mp4/manifest.mpd", "/live/demo/master.m3u8"])
def test_a_player_that_knows_nothing_of_tokens_plays(server: ServerProcess, folder: Path, path: str) -> None:
    played(server.url + signed(folder, path))


def test_a_playlist_leads_to_media_behind_the_same_token(client: httpx.Client, folder: Path) -> None:
    for path in (FILM, "/live/demo/master.m3u8"):
        pending, seen = [signed(folder, path)], set[str]()
        prefix = f"/t/{token_in(pending[0])}/"
        while pending and len(seen) < 40:
            address = pending.pop()
            seen.add(address)
            assert address.startswith(prefix)
            # Twice: the second answer may be a kept one.
            first, answer = client.get(address), client.get(address)
            assert first.status_code == answer.status_code == 200, address
            assert "private" in answer.headers["cache-control"]
            assert "public" not in answer.headers["cache-control"]
            if address.endswith(".m3u8"):
                named = re.findall(r'^[^#\n].*|(?<=URI=")[^"]+', answer.text, re.MULTILINE)
                pending += {urljoin(address, one) for one in named} - seen
        assert any(one.endswith(".m4s") for one in seen)


def test_a_token_in_the_query_leads_playlists_to_its_path_and_is_enough_for_files(
    server: ServerProcess, client: httpx.Client, folder: Path
) -> None:
    token = token_in(signed(folder, FILM))
    answer = client.get(f"{FILM}?token={token}")
    assert (answer.status_code, answer.headers["location"]) == (307, f"/t/{token}{FILM}")
    assert answer.headers["cache-control"] == "no-store"
    direct = client.get(f"/vod/private/film.mp4/video/0.m4s?token={token}", headers={"range": "bytes=0-9"})
    assert (direct.status_code, direct.headers["cache-control"].split(",")[0]) == (206, "private")
    played(f"{server.url}{FILM}?token={token}")


def test_lists_show_what_a_token_covers_at_addresses_that_have_it(client: httpx.Client, folder: Path) -> None:
    prefix = f"/t/{token_in(signed(folder, FILM))}"
    for query in ("", "?search=film", "?folder=private"):
        address = f"{prefix}/api/library{query}"

        def listed(address: str = address) -> list[str | None]:
            return [one["hls"] for one in client.get(address).json() if one["path"] == "private/film.mp4"]

        # A list has the facts about a film that are known within a second.
        wait_for(lambda: listed() != [None], "the facts about the film")
        assert listed() == [prefix + FILM]
        assert client.get(prefix + FILM).status_code == 200
    assert "private" not in client.get("/t/v1.made.99999999999..3.nonsense/api/library").text
    prefix = f"/t/{token_in(signed(folder, '/live/demo'))}"
    channels = {one["name"]: one["hls"] for one in client.get(f"{prefix}/api/live").json()}
    # What is open needs no token in its address.
    assert channels == {"demo": f"{prefix}/live/demo/master.m3u8", "free": "/live/free/master.m3u8"}
    assert [one["path"] for one in client.get(f"{prefix}/api/library").json()] == ["open.mp4"]


@pytest.mark.parametrize("is_2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_a_cookie_is_enough_for_all_that_a_player_fetches(
    server: ServerProcess, folder: Path, *, is_2: bool
) -> None:
    cookies = {"headwater_token": token_in(signed(folder, FILM)), "other": "1"}
    with httpx.Client(
        base_url=server.url, timeout=CLIENT_SECONDS, cookies=cookies, http1=not is_2, http2=is_2
    ) as client:
        master = client.get(FILM)
        assert (master.status_code, master.headers["cache-control"].split(",")[0]) == (200, "private")
        named = next(line for line in master.text.splitlines() if line.endswith(".m3u8"))
        assert client.get(urljoin(FILM, named)).status_code == 200
        part = client.get("/vod/private/film.mp4/video/0.m4s", headers={"range": "bytes=0-9"})
        assert (part.status_code, len(part.content)) == (206, 10)
        assert client.get("/live/demo/master.m3u8").status_code == 403
        assert client.get(FILM, headers={"origin": "http://evil.example"}).status_code == 403
        listed = client.get("/api/library?folder=private")
        assert [one["path"] for one in listed.json()] == ["private/film.mp4"]
        assert listed.headers["cache-control"] == "no-store"


def test_an_address_may_be_one_clients_alone(client: httpx.Client, folder: Path) -> None:
    def status(address: str, of: str) -> int:
        return client.get(address, headers={"x-forwarded-for": of}).status_code

    alone, network = signed(folder, FILM, "--address", "192.0.2.7"), ""
    made = client.post(
        "/api/sign", json={"path": FILM, "for": "2h", "address": "192.0.2.0/24"}, headers=BEARER
    )
    network = made.json()["url"].removeprefix(str(client.base_url).rstrip("/"))
    # Twice each: what was answered to one client isn't repeated to another.
    for _ in range(2):
        assert [status(alone, of) for of in ("192.0.2.7", "192.0.2.8", "2001:db8::1")] == [200, 403, 403]
        assert [status(network, of) for of in ("192.0.2.7", "192.0.2.8", "198.51.100.1")] == [200, 200, 403]
        assert client.get(alone).status_code == 403
        for of, expected in (("192.0.2.7", 204), ("192.0.2.8", 403)):
            fields = {"x-forwarded-for": of, "x-original-uri": alone}
            assert client.get("/api/signed", headers=fields).status_code == expected


def test_a_station_is_heard_with_its_playlist_file_and_titles(
    server: ServerProcess, client: httpx.Client, folder: Path
) -> None:
    prefix = f"/t/{token_in(signed(folder, '/radio/fm.mp3'))}"
    for path in (f"{prefix}/radio/fm.mp3", f"/radio/fm.mp3?token={token_in(prefix + '/')}"):
        with client.stream("GET", path) as answer:
            assert answer.status_code == 200
            assert len(next(answer.iter_bytes())) > 0
        playlist = client.get(path.replace("fm.mp3", "fm.mp3.m3u"))
        assert f"{server.url}{prefix}/radio/fm.mp3\r\n" in playlist.text
    with client.stream("GET", f"{prefix}/events/radio/fm.mp3") as answer:
        assert answer.status_code == 200
    assert [one["url"] for one in client.get(f"{prefix}/api/radio").json()] == [f"{prefix}/radio/fm.mp3"]
    assert "fm.mp3" in client.get(f"{prefix}/status-json.xsl").text


def test_the_administrator_signs_addresses_over_http(client: httpx.Client) -> None:
    wanted = {"path": FILM, "for": "2h", "name": "anna"}
    assert client.post("/api/sign", json=wanted).status_code == 401
    made = client.post("/api/sign", json=wanted, headers=BEARER)
    assert (made.status_code, made.headers["cache-control"], set(made.json())) == (
        200,
        "no-store",
        {"url", "page", "token", "expires", "open", "faults"},
    )
    assert made.json()["url"] == f"{client.base_url}/t/{made.json()['token']}{FILM}".replace("//t/", "/t/")
    assert client.get(made.json()["url"]).status_code == 200
    assert made.json()["open"] is False
    other = {**wanted, "path": "/vod/open.mp4/master.m3u8"}
    assert client.post("/api/sign", json=other, headers=BEARER).json()["open"] is True
    for changed in (
        {"path": "films//film"},
        {"for": "0"},
        {"for": "soon"},
        {"name": "a b"},
        {"other": 1},
        {"path": 3},
        {"address": "anna"},
    ):
        answer = client.post("/api/sign", json={**wanted, **changed}, headers=BEARER)
        assert answer.status_code == 400, changed
    assert client.post("/api/sign", content=b"{}", headers=BEARER).status_code == 415
    fields = {**BEARER, "content-type": "application/json"}
    assert client.post("/api/sign", content=b" " * 20_000, headers=fields).status_code == 413


def test_the_log_names_the_viewer_and_has_no_token(
    server: ServerProcess, client: httpx.Client, folder: Path
) -> None:
    address = signed(folder, FILM, "--name", "bertha")
    token = token_in(address)
    for path in (address, f"{FILM}?token={token}", f"/t/{token}/media/none.mp4", f"/t/{token}/none"):
        client.get(path)
    assert client.get(f"/t/{token}/live/demo/master.m3u8").status_code == 403
    wait_for(lambda: "bertha#" in server.text(), "the request in the log")
    assert "/t/v1" not in server.text()
    assert token.rpartition(".")[2] not in server.text()
    assert token.rpartition(".")[2] not in client.get("/metrics").text


def test_an_expired_token_is_refused_as_such(client: httpx.Client, folder: Path) -> None:
    address = signed(folder, FILM, "--for", "1s")
    answer = wait_for(lambda: (answer := client.get(address)).status_code == 403 and answer, "the end")
    assert answer
    assert answer.text == "the token has expired\n"


def test_the_command_says_what_is_wrong(tmp_path: Path, folder: Path) -> None:
    config = tmp_path / "open.toml"
    for text, status, words in (
        ("", 1, "nothing needs a token"),
        ('[library]\naccess = "signed"', 1, "server.data"),
        ('[library]\naccess = "signed"\n[access]\nkeys = ["a:short"]', 2, "access.keys"),
        ('[library]\nfolders = {"../a" = "signed"}', 2, "library.folders"),
        ('[library]\nfolders = {a = "closed"}', 2, "open, signed"),
    ):
        config.write_text(text)
        done = run_headwater("sign", "/vod/a", "--config", str(config))
        assert (done.returncode, words in done.stderr) == (status, True), done.stderr
        assert done.stderr.count("\n") == 1
    for wrong in (
        ("/vod//a",),
        ("/vod/a", "--for", "never"),
        ("/vod/a", "--name", "a b"),
        ("/a", "--address", "b"),
    ):
        done = run_headwater("sign", *wrong, "--config", str(folder / "headwater.toml"))
        assert (done.returncode, "allowed" in done.stderr) == (2, True)


def test_a_film_is_fetched_with_a_token_in_authorization(client: httpx.Client, folder: Path) -> None:
    token = token_in(signed(folder, FILM))
    headers = {"authorization": f"Bearer {token}"}
    assert client.get(FILM, headers=headers).status_code == 200
    part = client.get("/vod/private/film.mp4/video/0.m4s", headers={**headers, "range": "bytes=0-9"})
    assert (part.status_code, part.headers["cache-control"].split(",")[0]) == (206, "private")
    assert client.get("/live/demo/master.m3u8", headers=headers).status_code == 403
    assert client.get(FILM, headers=BEARER).status_code == 403


def test_spans_of_a_channel_as_a_file_need_a_token_that_allows_clips(
    folder: Path, client: httpx.Client
) -> None:
    plain = signed(folder, "/live/demo/master.m3u8").removesuffix("master.m3u8")
    clips = signed(folder, "/live/demo/master.m3u8?start=-3&end=now").partition("master.m3u8")[0]
    for query in ("clip.mp4?start=-3", "clip.m4a?start=-3&end=now"):
        assert client.get(f"/live/demo/{query}").status_code == 403
        assert client.get(plain + query).status_code == 403
        wait_for(functools.partial(_leads_on, client, clips + query), "three seconds")
        assert client.get(clips + query, follow_redirects=True).status_code == 200


def test_a_delayed_channel_and_a_programme_need_a_token_that_allows_clips(
    folder: Path, client: httpx.Client
) -> None:
    now = time.time()
    programme = [{"id": "news", "start": now - 2, "end": now + 600, "title": "News"}]
    assert client.put("/live/demo/programmes", json=programme, headers=BEARER).status_code == 200
    plain = signed(folder, "/live/demo/master.m3u8").removesuffix("master.m3u8")
    for query in ("delay=1s", "programme=news"):
        for name in ("master.m3u8", "manifest.mpd", "source/media.m3u8"):
            answer = client.get(f"{plain}{name}?{query}")
            assert (answer.status_code, "clips" in answer.text) == (403, True), (name, query)
        address = signed(folder, f"/live/demo/master.m3u8?{query}")
        wait_for(lambda: client.get(address, follow_redirects=True).status_code == 200, query)  # noqa: B023
        listed = client.get(address, follow_redirects=True)
        media = urljoin(str(listed.url), m3u8.loads(listed.text).playlists[0].uri)
        assert client.get(media, follow_redirects=True).status_code == 200


def test_a_token_in_the_query_is_enough_for_what_redirections_and_lists_of_pictures_lead_to(
    folder: Path, client: httpx.Client
) -> None:
    token = token_in(signed(folder, "/live/demo/master.m3u8?start=-3&end=now"))
    for name in ("clip.mp4?start=-3", "snapshot.jpg?at=-1"):
        address = f"/live/demo/{name}&token={token}"
        wait_for(functools.partial(_leads_on, client, address), "three seconds")
        assert client.get(address, follow_redirects=True).status_code == 200, name
    for path, query in (("/live/demo", "?start=-3"), ("/vod/private/film.mp4", "")):
        token = token_in(signed(folder, f"{path}/master.m3u8{query}"))
        listed = client.get(f"{path}/thumbnails.vtt?token={token}", follow_redirects=True)
        pictures = [line for line in listed.text.splitlines() if ".jpg" in line]
        assert client.get(urljoin(str(listed.url), pictures[0])).status_code == 200, listed.text


def _leads_on(client: httpx.Client, address: str) -> bool:
    return client.get(address).status_code == 302
