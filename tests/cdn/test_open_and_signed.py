"""One nginx in front of a server with open and signed addresses: both are kept, and nobody gets another's."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator

import httpx
import pytest

from origin.access.address_tokens import SigningKeys
from tests.cdn.caches import running
from tests.cdn.conftest import OLD
from tests.conftest import start_server
from tests.copied_channel import film
from tests.patience import CLIENT_SECONDS

KEYS = ("2026-11:a-secret-of-november",)
OPEN, CLOSED = "/vod/film.mp4/video/0.m4s", "/vod/private/film.mp4/video/0.m4s"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("front")
    for name in ("film.mp4", "private/film.mp4"):
        (folder / "library" / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copy(film(), folder / "library" / name)
        os.utime(copy, (OLD, OLD))
    (folder / "cache").mkdir()
    config = folder / "headwater.toml"
    config.write_text(
        f'[server]\nport = 0\ntrusted_proxies = ["127.0.0.1"]\n'
        f'[access]\nkeys = ["{KEYS[0]}"]\ncache = "front"\n'
        '[library]\npath = "library"\nfolders = { "private" = "signed" }\n'
        '[[events]]\nname = "chat"\n'
    )
    server = start_server("--config", "headwater.toml", cwd=folder)
    try:
        with running("signed", server.url, folder / "cache") as front:
            address = "http://{}:{}".format(*front.address)
            with httpx.Client(base_url=address, timeout=CLIENT_SECONDS) as client:
                yield client
    finally:
        assert server.stop() == 0


def token(name: str = "anna", path: str = "/vod/private") -> str:
    return SigningKeys(KEYS).sign(path, int(time.time()) + 3600, name)


def fetched(client: httpx.Client, target: str, **fields: str) -> tuple[int, str]:
    answer = client.get(target, headers=fields)
    return answer.status_code, answer.headers.get("x-cache", "")


def test_open_and_signed_films_are_kept_each_for_its_own_viewers(client: httpx.Client) -> None:
    assert [fetched(client, OPEN) for _ in range(2)] == [(200, "MISS"), (200, "HIT")]
    signed = [fetched(client, f"/t/{token(name)}{CLOSED}") for name in ("anna", "bertha")]
    assert signed == [(200, "MISS"), (200, "HIT")]
    for target in (CLOSED, f"/t/{token(path='/vod/other')}{CLOSED}", f"{CLOSED}?token=nonsense"):
        assert fetched(client, target)[0] == 403
    ranged = client.get("/media/film.mp4", headers={"range": "bytes=5-9"})
    assert (ranged.status_code, ranged.content) == (206, film().read_bytes()[5:10])
    assert fetched(client, "/media/private/film.mp4")[0] == 403


@pytest.mark.parametrize("target", [CLOSED, CLOSED.replace("video", "audio"), "/media/private/film.mp4"])
def test_what_is_answered_to_a_token_that_isnt_in_the_path_is_kept_for_nobody(
    client: httpx.Client, target: str
) -> None:
    presented = token(path="")
    for fields in ({"authorization": f"Bearer {presented}"}, {"cookie": f"headwater_token={presented}"}):
        assert fetched(client, target, **fields)[0] == 200
        assert fetched(client, target)[0] == 403
    assert fetched(client, f"{target}?token={presented}")[0] == 200
    assert fetched(client, target)[0] == 403


def test_the_page_lists_and_events_pass_through_and_nothing_is_changed(client: httpx.Client) -> None:
    page = client.get("/")
    assert (page.status_code, page.headers["content-type"].partition(";")[0]) == (200, "text/html")
    assert [one["name"] for one in client.get("/api/library").json() if one["kind"] == "file"] == ["film.mp4"]
    assert client.get("/events/chat?since=", headers={"accept": "application/json"}).status_code in (200, 204)
    assert client.get("/admin/stats").status_code == 404
    for path in ("/", "/events/chat", OPEN):
        assert client.post(path).status_code == 403
    asked = {"origin": "https://player.example", "access-control-request-method": "GET"}
    assert client.options(OPEN, headers=asked).status_code == 204
