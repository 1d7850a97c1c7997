"""Where a channel is published to is in the list for everybody; its key is for the administrator alone."""

from __future__ import annotations

import contextlib
import signal
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.keys import ADMIN_TOKEN, BEARER
from tests.origin.ingest.studio import KEY, Studio, studio
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

OTHER_KEY = "of-tomorrow-51e0"
PATH = "/api/live/studio/publish_key"
SCRIPT = {"accept": "application/json"}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Studio]:
    with kept_port() as admin_port, kept_port() as rtmp_port:
        head = f"[server]\nadmin_port = {admin_port}\nrtmp_port = {rtmp_port}\nprotected = ['metrics']\n"
        with studio(tmp_path, copied_channel("other"), head, limits={"wrong_passwords": 1}) as one:
            yield one


def ask(desk: Studio, channel: str = "studio", **headers: str) -> httpx.Response:
    address = f"{desk.server.url}/api/live/{channel}/publish_key"
    answer = desk.client.get(
        address, headers={name.replace("_", "-"): text for name, text in headers.items()}
    )
    assert answer.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answer.headers
    if answer.status_code != 200:
        assert KEY not in answer.text
    return answer


@pytest.mark.promise("/api/live/CHANNEL/publish_key")
@pytest.mark.clause("The publish key is told to the administrator alone")
def test_only_the_admin_token_opens_the_key(desk: Studio) -> None:
    stranger = ask(desk, **SCRIPT)
    assert (stranger.status_code, stranger.headers["www-authenticate"]) == (401, 'Bearer realm="Headwater"')
    assert ask(desk, authorization=f"Bearer {KEY}").status_code == 401, "a publisher isn't the administrator"
    told = ask(desk, **BEARER)
    assert (told.status_code, told.json()) == (200, {"publish_key": KEY})
    assert ask(desk, sec_fetch_site="cross-site", **BEARER).status_code == 403
    assert ask(desk, host="rebound.example", **BEARER).status_code == 421
    assert ask(desk, "other", **BEARER).status_code == 404, "a channel without a key"
    assert ask(desk, "none", **BEARER).status_code == 404


@pytest.mark.promise("server.admin_port")
def test_the_port_that_answers_lists_without_the_token_tells_no_key(desk: Studio, tmp_path: Path) -> None:
    port = tomllib.loads((tmp_path / "headwater.toml").read_text())["server"]["admin_port"]
    assert desk.client.get(f"http://127.0.0.1:{port}/metrics").status_code == 200
    answer = desk.client.get(f"http://127.0.0.1:{port}/api/live/studio/publish_key")
    assert (answer.status_code, KEY in answer.text) == (401, False)


def test_who_guesses_the_token_waits_longer_and_longer(desk: Studio) -> None:
    began = time.monotonic()
    for number in range(4):
        assert ask(desk, authorization=f"Bearer wrong{number}").status_code == 401
    # 0, 0.1, 0.2 and 0.4 s.
    assert time.monotonic() - began >= 0.7


def test_another_key_is_told_after_sighup(desk: Studio, tmp_path: Path) -> None:
    config = tmp_path / "headwater.toml"
    config.write_text(config.read_text().replace(KEY, OTHER_KEY))
    desk.server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: ask(desk, **BEARER).json() == {"publish_key": OTHER_KEY}, "the other key")
    text = desk.server.text()
    assert not [secret for secret in (KEY, OTHER_KEY, ADMIN_TOKEN) if secret in text]


def test_the_list_says_where_to_publish_to_without_the_key(desk: Studio) -> None:
    told = desk.channel()["publisher"]
    assert told["ingest"] == "/live/studio/ingest"
    # The log line may come behind the first answer.
    wait_for(lambda: str(told["rtmp_port"]) in desk.server.text(), "the port in the log")
    assert not told["on_air"]
    assert desk.channel("other")["publisher"] is None
    assert KEY not in desk.client.get(f"{desk.server.url}/api/live").text


@contextlib.contextmanager
def started(folder: Path) -> Iterator[tuple[ServerProcess, httpx.Client]]:
    server = start_server(cwd=folder)
    try:
        with httpx.Client(base_url=server.url, timeout=CLIENT_SECONDS) as client:
            yield server, client
    finally:
        server.stop()


def statuses(client: httpx.Client, keys: Sequence[str]) -> list[int]:
    """Publish with each key; 415 says that only the stream was none."""
    return [client.put(f"/live/studio/ingest?key={key}", content=b"x").status_code for key in keys]


@pytest.mark.clause("Of a generated publish key only a hash is kept, and it is renewed without a restart")
def test_a_generated_key_is_told_by_the_start_that_made_it_and_renewed_later(tmp_path: Path) -> None:
    config = tmp_path / "headwater.toml"
    channel = '[[live]]\nname = "studio"\nsource = "publish"\nladder = ["240p"]\n'
    config.write_text(f'[server]\nport = 0\ndata = "data"\n[library]\npath = "."\n{channel}')
    with started(tmp_path) as (server, client):
        first = client.get(PATH, headers=BEARER).json()["publish_key"]
        assert statuses(client, [first]) == [415]
        wait_for(lambda: server.text().count(first) == 1, "the announcement of the key")
    with started(tmp_path) as (server, client):
        assert client.get(PATH, headers=BEARER).json() == {"publish_key": None}
        assert statuses(client, [first]) == [415]
        second, third = [client.post(PATH, headers=BEARER).json()["publish_key"] for _ in range(2)]
        assert client.get(PATH, headers=BEARER).json() == {"publish_key": third}
        assert statuses(client, [first, second, third]) == [401, 401, 415]
        assert client.post(PATH).status_code == 401
        cross_site = {**BEARER, "sec-fetch-site": "cross-site"}
        assert client.post(PATH, headers=cross_site).status_code == 403
        config.write_text(config.read_text() + f'publish_key = "{OTHER_KEY}"\n')
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: statuses(client, [OTHER_KEY]) == [415], "the configured key")
        assert client.post(PATH, headers=BEARER).status_code == 409
        assert not [key for key in (first, second, third, OTHER_KEY) if key in server.text()]
    kept = (tmp_path / "data" / ".secrets.toml").read_text()
    assert not [key for key in (first, second, third) if key in kept]
