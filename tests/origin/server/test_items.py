"""Items of protected lists: described to who knows their address, and nothing else is."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator

import httpx
import pytest

from origin.access.address_tokens import SigningKeys
from tests.conftest import start_server
from tests.copied_channel import film
from tests.keys import ADMIN_TOKEN
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

KEY = "2026-11:a-secret-of-the-tests"
FOREVER = 1 << 31
CONFIG = f"""
[server]
protected = ["api"]
[access]
keys = ["{KEY}"]
[library]
path = "library"
folders = {{ "private" = "signed" }}
[[live]]
name = "studio"
source = "publish"
[[live]]
name = "secret"
source = "publish"
access = "signed"
[[radio]]
name = "station.mp3"
source = "publish"
[[events]]
name = "news"
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("items")
    (folder / "library" / "private").mkdir(parents=True)
    for name in ("film.mp4", "private/film.mp4"):
        shutil.copyfile(film(), folder / "library" / name)
    (folder / "headwater.toml").write_text(CONFIG)
    server = start_server("--config", str(folder / "headwater.toml"), "--port", "0")
    with httpx.Client(base_url=server.url, timeout=CLIENT_SECONDS) as client:
        yield client
    server.stop()


@pytest.mark.promise(
    "/api/item/library/PATH",
    "/api/item/live/CHANNEL",
    "/api/item/radio/NAME",
    "/api/item/events/NAME",
    "server.protected",
)
@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("library/film.mp4", "film.mp4"),
        ("live/studio", "studio"),
        ("radio/station.mp3", "station.mp3"),
        ("events/news", "news"),
    ],
)
def test_an_item_is_described_to_who_knows_it_while_its_list_is_protected(
    client: httpx.Client, path: str, name: str
) -> None:
    area = path.partition("/")[0]
    assert client.get(f"/api/{area}").status_code == 401
    (item,) = client.get(f"/api/item/{path}").json()
    assert item["name"] == name
    listed = client.get(f"/api/{area}", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}).json()
    whole = next(one for one in listed if one["name"] == name)
    assert item.keys() == whole.keys()
    assert item.get("publisher") is None
    assert not item.get("recordings")
    assert client.get(f"/api/item/{area}/other").json() == []


@pytest.mark.parametrize(
    ("path", "signed"), [("library/private/film.mp4", "/vod/private"), ("live/secret", "/live/secret")]
)
def test_a_signed_item_needs_its_token(client: httpx.Client, path: str, signed: str) -> None:
    assert client.get(f"/api/item/{path}").status_code == 401
    token = SigningKeys([KEY]).sign(signed, FOREVER)

    def hls() -> str | None:
        (item,) = client.get(f"/t/{token}/api/item/{path}").json()
        address: str | None = item["hls"]
        return address

    assert (wait_for(hls, "the film's inspection") or "").startswith(f"/t/{token}/")
    other = SigningKeys([KEY]).sign("/live/studio", FOREVER)
    assert client.get(f"/t/{other}/api/item/{path}").status_code == 401
    # Segments would be answered with this token for some seconds more.
    expired = client.get(f"/t/{SigningKeys([KEY]).sign(signed, int(time.time()) - 1)}/api/item/{path}")
    assert (expired.status_code, expired.text) == (401, "the token has expired\n")


@pytest.mark.parametrize(
    "path",
    [
        *("/api/item", "/api/item/", "/api/item/live", "/api/item/live/../../live", "/api/item/../live"),
        *("/api/item/live/studio/publish_key", "/api/item/prepared", "/api/item/viewers", "/api/item//live"),
    ],
)
def test_nothing_else_is_told_beneath_the_items_address(client: httpx.Client, path: str) -> None:
    request = client.build_request("GET", "/")
    request.url = request.url.copy_with(raw_path=path.encode())
    answer = client.send(request)
    assert answer.status_code in (401, 404) or [one["name"] for one in answer.json()] in ([], ["studio"])
    assert "publish_key" not in answer.text
    assert "secret" not in answer.text


@pytest.mark.promise("/api/visitor")
def test_the_page_learns_what_it_may_show(client: httpx.Client) -> None:
    nobody = {"lists": False, "owner": False, "administrator": False, "url": str(client.base_url).rstrip("/")}
    assert client.get("/api/visitor").json() == nobody
    wrong = client.get("/api/visitor", headers={"Authorization": "Bearer wrong"}).json()
    assert wrong == nobody
    right = client.get("/api/visitor", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}).json()
    assert right == {**nobody, "lists": True, "owner": True, "administrator": True}
