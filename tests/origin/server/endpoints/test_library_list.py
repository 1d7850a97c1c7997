"""The library as scripts and strangers meet it: its list in pages, and nothing of the server's own."""

from __future__ import annotations

import asyncio
import json
import os
import urllib.error
import urllib.request
from collections.abc import Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

import httpx
import numpy as np
import pytest
from starlette.requests import Request
from starlette.responses import Response

from origin.server.endpoints.library_list import LibraryList
from packager.concurrency import background_task
from packager.library.catalogue import Catalogue
from packager.library.file_listing import ListedFolder
from tests.conftest import ServerProcess, start_server
from tests.fork_server import run_headwater
from tests.loop_watch import LoopWatch, slowness
from tests.origin.cli.error_lines import assert_one_line
from tests.packager import crafted
from tests.waiting import wait_for

BROKEN_FFMPEG = {"FFMPEG": "/nowhere/ffmpeg", "FFPROBE": "/nowhere/ffprobe"}
"""Files are listed without facts then, and no process is started for each of them."""

EVENT_CHANNEL = '[server]\nport = 0\n[[events]]\nname = "news"\n'
"""What needs neither a library nor ffmpeg."""


@contextmanager
def serving(*arguments: str, cwd: Path | None = None) -> Iterator[ServerProcess]:
    server = start_server(*arguments, "--port", "0", cwd=cwd, env=BROKEN_FFMPEG)
    try:
        yield server
    finally:
        server.stop()


def fetch(url: str, method: str = "GET") -> tuple[int, Message, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=120) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def listed(server: ServerProcess, query: str = "") -> list[dict[str, Any]]:
    status, headers, body = fetch(f"{server.url}/api/library{query}")
    assert (status, headers["content-type"]) == (200, "application/json")
    found: list[dict[str, Any]] = json.loads(body)
    return found


def error_line(text: str) -> str:
    """The line that a command ends with; what is said before it are warnings."""
    (line,) = [line for line in text.splitlines() if line.startswith("headwater: ")]
    assert "Traceback" not in text
    return line


def fill(root: Path, names: list[str]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"1234")


def test_a_default_library_that_is_not_there_is_no_error_where_something_else_is_configured(
    tmp_path: Path,
) -> None:
    (tmp_path / "headwater.toml").write_text(EVENT_CHANNEL)
    with serving(cwd=tmp_path) as server:
        assert listed(server) == []
        assert fetch(f"{server.url}/media/film.mp4")[0] == 404
        assert fetch(f"{server.url}/vod/film.mp4/master.m3u8")[0] == 404
        # Made later, it is served like any other.
        fill(tmp_path, ["library/film.mp4"])
        wait_for(lambda: [one["path"] for one in listed(server)] == ["film.mp4"], "the file's listing")
        assert fetch(f"{server.url}/media/film.mp4")[2] == b"1234"
        assert "Traceback" not in server.text()


@pytest.mark.parametrize("named", ["file", "option", "environment"])
def test_a_library_that_was_named_and_is_not_there_is_an_error(tmp_path: Path, named: str) -> None:
    (tmp_path / "headwater.toml").write_text(
        EVENT_CHANNEL + ('[library]\npath = "library"\n' if named == "file" else "")
    )
    arguments = ("--library", "library") if named == "option" else ()
    environment = {"HEADWATER_LIBRARY_PATH": "library"} if named == "environment" else {}
    result = run_headwater("serve", *arguments, cwd=tmp_path, env=environment)
    assert result.returncode == 1
    told = error_line(result.stderr)
    assert "library: No such file" in told
    assert "--library" in told


def test_a_default_library_that_is_not_there_is_an_error_where_there_is_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "headwater.toml").write_text("[server]\nport = 0\n")
    assert_one_line(run_headwater("serve", cwd=tmp_path), 1, "library", "No such file", "--library")


@pytest.mark.clause("RFC 8288 §3")
def test_the_list_comes_in_pages_that_name_the_next_one(tmp_path: Path) -> None:
    """A Link field of relation "next"; the body stays an array."""
    names = sorted(f"ä {folder}/{number:03}, film.mp4" for folder in "ab" for number in range(150))
    fill(tmp_path, [*names, "film.240p.mp4", "film.720p.mp4"])
    with serving("--library", str(tmp_path)) as server:
        found: list[tuple[str, str]] = []
        address, pages = "/api/library", 0
        while address:
            status, headers, body = fetch(urljoin(server.url, address))
            assert status == 200
            items = json.loads(body)
            assert len(items) <= 200
            found += [(item["kind"], item["path"]) for item in items]
            address = (headers["link"] or "").partition(">")[0].removeprefix("<")
            assert not address or headers["link"].endswith('; rel="next"')
            pages += 1
        assert pages == 2
        assert found[0] == ("title", "film")
        assert sorted(found[1:]) == [
            ("file", name) for name in sorted([*names, "film.240p.mp4", "film.720p.mp4"])
        ]
        assert fetch(f"{server.url}/api/library?limit=2")[1]["link"].count("limit=2") == 1
        (one,) = listed(server, f"?path={quote(names[7])}")
        assert one["path"] == names[7]
        assert listed(server, "?path=nothing") == []


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=501", "limit=-1", "limit=٣", "limit=", "limit=1e9", "after=film.mp4", "after=file/"],
)
def test_a_wrong_page_is_answered_with_what_is_right(own: ServerProcess, query: str) -> None:
    status, _, body = fetch(f"{own.url}/api/library?{quote(query, safe='=')}")
    assert status == 400
    assert body.decode().startswith(("limit: a whole number from 1 to 500", "after: title/ or file/"))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("library")
    fill(root, ["film.mp4"])
    with serving("--library", str(root)) as server:
        yield server


def test_a_server_without_an_admin_token_says_that_it_has_none(tmp_path: Path) -> None:
    fill(tmp_path, ["film.mp4"])
    server = start_server("--library", str(tmp_path), "--port", "0", env=BROKEN_FFMPEG, admin_token=None)
    try:
        answer = httpx.post(f"{server.url}/api/reload", headers={"Authorization": "Bearer any"}, timeout=120)
    finally:
        server.stop()
    told = "server.admin_token is needed; the configuration has none: set one, and start the server again"
    assert (answer.status_code, answer.text) == (401, f"wrong key: {told}\n")


def test_a_list_whose_folder_is_gone_is_503_and_comes_back_by_itself(tmp_path: Path) -> None:
    root = tmp_path / "library"
    fill(root, ["film.mp4"])
    with serving("--library", str(root)) as server:
        assert len(listed(server)) == 1
        root.rename(tmp_path / "elsewhere")
        wait_for(lambda: fetch(f"{server.url}/api/library")[0] == 503, "the answer that it is gone")
        status, headers, body = fetch(f"{server.url}/api/library")
        assert (status, headers["retry-after"]) == (503, "5")
        assert b"can't be read now" in body
        # Nobody knows which files are in it, so no cache may keep that one is missing.
        for address in ("/media/film.mp4", "/media/other.mp4", "/vod/other.mp4/master.m3u8"):
            status, headers, body = fetch(f"{server.url}{address}")
            if address != "/media/film.mp4" or status != 200:
                assert (status, headers["cache-control"], headers["retry-after"]) == (503, "no-store", "5")
        health = json.loads(fetch(f"{server.url}/health")[2])
        assert health["status"] == "degraded"
        assert health["troubles"]["library"] == f"{root} can't be read: No such file or directory"
        (tmp_path / "elsewhere").rename(root)
        wait_for(lambda: fetch(f"{server.url}/api/library")[0] == 200, "the list")
        assert [one["path"] for one in listed(server)] == ["film.mp4"]
        wait_for(
            lambda: json.loads(fetch(f"{server.url}/health")[2])["status"] == "ok", "the end of the trouble"
        )
        wait_for(lambda: "the library can be read again" in server.text(), "its line in the log")
        assert server.text().count("the library can't be read ") == 1
        assert server.text().count("the library can be read again") == 1
        assert "Traceback" not in server.text()


async def test_a_library_of_many_files_holds_nobody_up(
    tmp_path: Path, nothing_holds_the_event_loop: LoopWatch
) -> None:
    await asyncio.to_thread(
        fill, tmp_path, [f"{number // 4_000}/{number:06}.mp4" for number in range(10_000)]
    )
    catalogue = Catalogue(ListedFolder(tmp_path), None)
    answers = LibraryList(catalogue, lambda: True)

    def ask(query: str) -> Awaitable[Response]:
        scope = {"type": "http", "method": "GET", "path": "/", "query_string": query.encode(), "headers": []}
        return answers.answer(Request(scope))

    async with background_task(catalogue.run()):
        nothing_holds_the_event_loop.reset()
        first = await asyncio.gather(*(ask("") for _ in range(100)))
        # What this test itself computes isn't a step of the event loop.
        assert await asyncio.to_thread(lambda: {len(json.loads(bytes(one.body))) for one in first}) == {200}
        assert catalogue.listing.walks == 1
        for number in range(0, 8_000, 4_000):
            page = await ask(f"limit=500&after=file/{number // 4_000}/{number:06}.mp4")
            assert len(json.loads(bytes(page.body))) == 500
    held = nothing_holds_the_event_loop.longest
    assert held.seconds < 0.02 * slowness(), held.where


SECRET = 'publish_token = "canary"'

COPIES = [
    "headwater.toml", "HEADWATER.TOML", "other.toml", "headwater.toml.bak", "headwater.toml~",
    "headwater.toml.swp", ".headwater.toml.swp", "headwater.toml.orig", "headwater.toml.save",
    "headwater.toml.save.1", "headwater.toml.old", "headwater.toml.dpkg-old", "headwater.toml.dpkg-dist",
    "headwater.toml.rpmsave", "headwater.toml.ucf-old", "#headwater.toml#", ".#headwater.toml",
    "headwater.toml.~1~", "headwater.toml.1", "headwater.toml.gz", "headwater.toml.2025-01-01",
    "headwater.toml_old", "headwater.toml (copy)", "headwater.bak", "headwater.old", "headwater~",
    "a/deep/headwater.toml.tmp", "hw.conf", "hw.conf.bak", "hw.conf~", "#hw.conf#", "hw.conf.1",
    "hw.conf-2025", "HW.CONF",
]  # fmt: skip


@pytest.fixture(scope="module")
def beside_films(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, Path]]:
    """A server whose configuration and data lie in its library, under names of all kinds."""
    root = tmp_path_factory.mktemp("library")
    fill(root, ["film.mp4", "tomlinson.mp4", "a story.tomlin.mp4", "hw.mp4", "data.mp4", "folder/film.mp4"])
    for name in COPIES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(SECRET)
    config = root / "hw.conf"
    data = root / "data"
    config.write_text(
        f'[server]\nport = 0\ndata = "{data}"\n[library]\npath = "{root}"\n'
        f'[[events]]\nname = "news"\n{SECRET}\n'
    )
    fill(root, ["data/keys.json", "data/live/demo/dvr/0.mp4", "data/live/demo/film.720p.mp4"])
    fill(root, ["data/live/demo/film.240p.mp4"])
    (root / "folder" / "link.mp4").symlink_to(config)
    os.link(config, root / "folder" / "same.mp4")
    (root / "linked").symlink_to(data)
    (root / "folder" / "segment.mp4").symlink_to("../data/live/demo/dvr/0.mp4")
    with serving("--config", str(config)) as server:
        yield server, root


def test_the_configuration_is_not_served_by_any_name(beside_films: tuple[ServerProcess, Path]) -> None:
    server, _ = beside_films
    for name in [*COPIES, "folder/link.mp4", "folder/same.mp4"]:
        path = quote(name)
        for method in ("GET", "HEAD"):
            assert fetch(f"{server.url}/media/{path}", method)[0] == 404, name
        for way in ("master.m3u8", "manifest.mpd", "1/media.m3u8", "1/0.m4s", "thumbnails.vtt"):
            assert fetch(f"{server.url}/vod/{path}/{way}")[0] == 404, name


def test_the_servers_data_is_not_served_where_it_lies_in_the_library(
    beside_films: tuple[ServerProcess, Path],
) -> None:
    server, _ = beside_films
    for folder in ("data", "linked", "data/../data"):
        for name in ("keys.json", "live/demo/dvr/0.mp4", "live/demo/film.240p.mp4"):
            assert fetch(f"{server.url}/media/{folder}/{name}")[0] == 404
        assert fetch(f"{server.url}/vod/{folder}/live/demo/film/master.m3u8")[0] == 404
    assert fetch(f"{server.url}/media/folder/segment.mp4")[0] == 404


def test_nothing_of_it_is_listed_and_films_are(beside_films: tuple[ServerProcess, Path]) -> None:
    server, _ = beside_films
    films = ["a story.tomlin.mp4", "data.mp4", "film.mp4", "folder/film.mp4", "hw.mp4", "tomlinson.mp4"]
    assert [one["path"] for one in listed(server)] == films
    for name in films:
        assert fetch(f"{server.url}/media/{quote(name)}")[2] == b"1234"


def test_a_configuration_that_an_editor_has_replaced_is_not_served(
    beside_films: tuple[ServerProcess, Path],
) -> None:
    """Another file has its name now, and a link to it may be older than it."""
    server, root = beside_films
    text = (root / "hw.conf").read_text()
    (root / "new").write_text(text)
    (root / "new").replace(root / "hw.conf")
    os.link(root / "hw.conf", root / "folder" / "again.mp4")
    for name in ("hw.conf", "folder/link.mp4", "folder/again.mp4"):
        assert fetch(f"{server.url}/media/{name}")[0] == 404


@pytest.mark.promise("library.follow_symlinks")
@pytest.mark.parametrize("follow", ["true", "false"])
def test_links_that_may_lead_out_lead_neither_to_the_configuration_nor_to_the_data(
    tmp_path: Path, follow: str
) -> None:
    fill(tmp_path, ["data/keys.json", "outside/film.mp4", "library/own.mp4"])
    config = tmp_path / "hw.conf"
    root = tmp_path / "library"
    config.write_text(
        f'[server]\nport = 0\ndata = "{tmp_path}/data"\n'
        f'[library]\npath = "{root}"\nfollow_symlinks = {follow}\n'
    )
    (tmp_path / "other.toml").write_text(SECRET)
    for name, target in [
        ("one.mp4", config), ("two.mp4", tmp_path / "data" / "keys.json"), ("three", tmp_path / "data"),
        ("four.mp4", tmp_path / "other.toml"), ("five.mp4", tmp_path / "outside" / "film.mp4"),
    ]:  # fmt: skip
        (root / name).symlink_to(target)
    with serving("--config", str(config)) as server:
        for name in ("one.mp4", "two.mp4", "three/keys.json", "four.mp4"):
            assert fetch(f"{server.url}/media/{name}")[0] == 404
        assert fetch(f"{server.url}/media/five.mp4")[0] == (200 if follow == "true" else 404)
        assert fetch(f"{server.url}/media/own.mp4")[0] == 200


@pytest.mark.parametrize("library", ["data", "data/live", "link"])
def test_a_library_that_is_the_data_folder_is_one_line(tmp_path: Path, library: str) -> None:
    (tmp_path / "data" / "live").mkdir(parents=True)
    (tmp_path / "link").symlink_to("data")
    (tmp_path / "headwater.toml").write_text(
        f'[server]\nport = 0\ndata = "data"\n[library]\npath = "{library}"\n'
    )
    result = run_headwater("serve", cwd=tmp_path, env=BROKEN_FFMPEG)
    assert result.returncode == 1
    assert "server.data" in error_line(result.stderr)


def test_a_library_of_bombs_costs_the_memory_of_two_at_a_time(tmp_path: Path) -> None:
    """Whoever asks for whatever at once: the list, playlists and segments of files that say billions."""
    library = tmp_path / "library"
    library.mkdir()
    for number in range(40):
        crafted.write(library / f"{number:02}.mp4", crafted.bomb(1 + number % 32, 1 << (20 + number % 5)))
    flood = np.zeros((1 << 21, 2), np.int64)
    flood[-1] = 1000, 1024
    tables = {"stts": crafted.rows(flood), "stsc": crafted.rows([[1, 1000, 1]])}
    tables |= {"stsz": crafted.constant(1, 1000), "stco": crafted.rows([4096]), "ctts": crafted.rows(flood)}
    for number in range(6):
        crafted.write(library / f"large {number}.mp4", crafted.moov(crafted.Track(tables)))
    names = sorted(path.name for path in library.iterdir())
    limits = {"HEADWATER_LIMITS_VOD_INDEX_BYTES": str(16 << 20)}
    server = start_server("--library", str(library), "--port", "0", env={**BROKEN_FFMPEG, **limits})
    try:
        before = resident(server, "VmRSS")
        wanted = ["/api/library?limit=100"] * 8 + [
            f"/vod/{quote(name)}/{what}"
            for name in names
            for what in ("master.m3u8", "manifest.mpd", "audio/media.m3u8", "audio/0.m4s")
        ]
        with ThreadPoolExecutor(16) as executor:
            answers = list(executor.map(lambda path: fetch(f"{server.url}{path}")[0], wanted))
        assert set(answers) == {200, 422}
        wait_for(
            lambda: all(one["playable"] is not None for one in listed(server, "?limit=100")),
            what="the facts of all files",
        )
        assert {one["name"] for one in listed(server, "?limit=100")} == set(names)
        # Two of 64 MiB, the indexes that are kept, and what the answers take.
        assert resident(server, "VmHWM") - before < (2 * 64 + 16 + 48) << 20
    finally:
        server.stop()


def resident(server: ServerProcess, field: str) -> int:
    """Memory of the server's process in bytes, now or at most."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) << 10
