"""The page's files: which there are, how they are described, what they may load."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette

from origin.server.endpoints import page

PLAYER = Path(__file__).resolve().parents[4] / "player"


@pytest.fixture
def app() -> Starlette:
    return Starlette(routes=page.routes(PLAYER))


@pytest_asyncio.fixture
async def client(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://headwater") as client:
        yield client


async def test_the_page_is_html_that_may_load_from_its_own_server_only(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["style-src"] == "'self'"
    assert policy["media-src"] == "'self' blob: data:"


async def test_everything_that_the_page_and_its_modules_name_is_served(client: httpx.AsyncClient) -> None:
    html = (await client.get("/")).text
    pending = re.findall(r'(?:src|href)="/player/([^"]+)"', html)
    assert "player.js" in pending
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        answer = await client.get(f"/player/{name}")
        assert answer.status_code == 200, name
        if name.endswith(".js"):
            imported = re.findall(r'(?:from |import |import\()"(\.{1,2}/[^"]+)"', answer.text)
            pending += [urljoin(f"/player/{name}", one).removeprefix("/player/") for one in imported]
    assert seen >= {"player.js", "player.css", "icon.svg", "playback.js", "instruments/instruments.js"}
    assert seen >= {"vendor/hls.min.mjs", "vendor/shaka-player.dash.js"}


def test_every_file_of_the_page_is_on_the_list_and_every_listed_file_is_there() -> None:
    package = {"package.json", "package-lock.json", "vendor/integrity.txt"}
    there = {path.relative_to(PLAYER).as_posix() for path in PLAYER.rglob("*") if path.is_file()}
    assert there - package == set(page.FILES)


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("player.js", "text/javascript; charset=utf-8"),
        ("vendor/hls.min.mjs", "text/javascript; charset=utf-8"),
        ("player.css", "text/css; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ],
)
async def test_each_kind_of_file_has_the_type_a_browser_insists_on(
    client: httpx.AsyncClient, name: str, media_type: str
) -> None:
    answer = await client.get(f"/player/{name}")
    assert answer.headers["content-type"] == media_type
    assert answer.content == (PLAYER / name).read_bytes()


async def test_a_browser_that_has_the_file_is_told_so(client: httpx.AsyncClient) -> None:
    first = await client.get("/player/player.js")
    assert first.headers["cache-control"] == "no-cache"
    again = await client.get("/player/player.js", headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""


@pytest.mark.parametrize(
    "name",
    ["package.json", "vendor/integrity.txt", "nothing.js", "../pyproject.toml", "%2e%2e/pyproject.toml", ""],
)
async def test_other_names_are_not_found(client: httpx.AsyncClient, name: str) -> None:
    assert (await client.get(f"/player/{name}")).status_code == 404


async def test_the_page_can_be_asked_for_without_its_body(client: httpx.AsyncClient) -> None:
    answer = await client.head("/")
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) == (PLAYER / "index.html").stat().st_size
    assert answer.content == b""


def test_a_missing_file_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make setup"):
        page.routes(tmp_path)
