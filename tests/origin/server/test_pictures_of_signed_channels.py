"""Pictures of a signed channel: a viewer sees those of what the playlists have, and none of before."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urljoin

import httpx
import pytest

from origin.access.address_tokens import SigningKeys
from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.keys import ADMIN_TOKEN
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

KEY = "2026-11:a-secret-of-november"
PRECISION = timedelta(milliseconds=1)
"""The least difference of dates in a playlist, which may be rounded down."""

WINDOW = ('access = "signed"', 'dvr = "1h"', "segment_duration = 1", 'playlist_window = "6s"')


DATED = re.compile(r"#EXT-X-PROGRAM-DATE-TIME:(\S+)\n(?:#EXT-X-PART:.*\n)*#EXTINF")
"""The date of a segment that isn't open any more."""


@pytest.fixture(scope="module", params=(1, 2), ids=("one process", "workers"))
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "headwater.toml").write_text(
        f'[server]\nport = 0\ndata = "data"\nworkers = {request.param}\n[access]\nkeys = ["{KEY}"]\n'
        f"{copied_channel('demo', *WINDOW)}"
    )
    with start_server(cwd=folder) as running:
        yield running


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=CLIENT_SECONDS) as client:
        yield client


def prefix(*, clips: bool) -> str:
    """Return the beginning of addresses with a token."""
    token = SigningKeys([KEY]).sign("/live/demo", int(time.time()) + 3600, allows_clips=clips)
    return f"/t/{token}/live/demo/"


def listed(client: httpx.Client) -> list[datetime]:
    """Return the dates of the whole segments that a viewer's playlist has."""
    answer = client.get(f"{prefix(clips=False)}source/media.m3u8")
    return [datetime.fromisoformat(one) for one in DATED.findall(answer.text)]


def picture(client: httpx.Client, at: datetime, *, clips: bool = False) -> httpx.Response:
    """Ask for the picture of a moment."""
    moment = quote((at + PRECISION).isoformat())
    return client.get(f"{prefix(clips=clips)}snapshot.jpg?at={moment}&width=192", follow_redirects=True)


def test_a_viewer_sees_pictures_of_what_the_playlist_has_and_not_of_before(client: httpx.Client) -> None:
    first = wait_for(functools.partial(listed, client), "the playlist")[0]
    whole = picture(client, first, clips=True)
    assert whole.headers["content-type"] == "image/jpeg", whole.text
    wait_for(lambda: listed(client)[0] > first, "the first segment has left the playlist")
    assert picture(client, first, clips=True).status_code == 200
    refused = picture(client, first)
    assert (refused.status_code, refused.text) == (403, "the token doesn't allow clips\n")
    inside = listed(client)[-2]
    shown = picture(client, inside)
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/jpeg")
    assert shown.headers["cache-control"].startswith("private")
    assert client.get(f"/live/demo/snapshot.jpg?at={quote(inside.isoformat())}").status_code == 403


def test_a_picture_is_refused_once_it_has_left_the_playlist(client: httpx.Client) -> None:
    dates = wait_for(functools.partial(listed, client), "the playlist")
    moment = dates[-1] + PRECISION
    # A connection that goes on, with the same address and token each time, as a player has it.
    address = f"{prefix(clips=False)}snapshot.jpg?at={quote(moment.isoformat())}"
    assert [client.get(address).status_code for _ in range(3)] == [200] * 3
    wait_for(lambda: listed(client)[0] > moment, "the segment has left the playlist")
    assert client.get(address).status_code == 403


def test_the_seek_bar_has_all_pictures_that_a_viewer_can_play(client: httpx.Client) -> None:
    address = f"{prefix(clips=False)}thumbnails.vtt"

    def shown() -> list[int]:
        names = [line for line in client.get(address).text.splitlines() if "snapshot.jpg" in line]
        answers = [client.get(urljoin(address, name)) for name in names]
        edge = next(iter(listed(client)), datetime.max.replace(tzinfo=UTC))
        # Dates in playlists and lists are in milliseconds.
        return [one.status_code for one in answers if float(one.url.params["at"]) > edge.timestamp() - 0.0005]

    assert set(wait_for(shown, "a picture")) == {200}


@pytest.mark.parametrize(
    "query", ["at={}&start=-3600", "at=-1800", "at={}&delay=1s", "at=now-40m", "at=x", "at="]
)
def test_nothing_else_opens_by_a_picture(client: httpx.Client, query: str) -> None:
    last = wait_for(functools.partial(listed, client), "the playlist")[-1]
    written = query.format(quote(last.isoformat()))
    for name in ("master.m3u8", "source/media.m3u8", "clip.mp4", "thumbnails.vtt"):
        assert client.get(f"{prefix(clips=False)}{name}?{written}").status_code == 403, name
    if "{}" not in query:
        assert client.get(f"{prefix(clips=False)}snapshot.jpg?{written}").status_code == 403


def test_a_cache_that_asks_whether_an_address_may_be_answered_hears_the_same(client: httpx.Client) -> None:
    first = wait_for(functools.partial(listed, client), "the playlist")[0]
    wait_for(lambda: listed(client)[0] > first, "the first segment has left the playlist")
    for moment, status in ((first, 403), (listed(client)[-2], 204)):
        asked = f"{prefix(clips=False)}snapshot.jpg?at={quote(moment.isoformat())}"
        assert client.get("/api/signed", headers={"x-original-uri": asked}).status_code == status


def test_a_viewer_without_clips_is_offered_nothing_of_the_past(client: httpx.Client) -> None:
    start = datetime.now(UTC) - timedelta(minutes=1)
    times = {"start": start.isoformat(), "end": (start + timedelta(hours=1)).isoformat()}
    programme = {"id": "now", "title": "The match", **times}
    wait_for(functools.partial(listed, client), "the playlist")
    admin = {"authorization": f"Bearer {ADMIN_TOKEN}"}
    assert client.put("/live/demo/programmes", json=[programme], headers=admin).is_success
    for clips in (True, False):
        base = prefix(clips=clips).removesuffix("/live/demo/")
        for address in ("/api/live", "/api/item/live/demo"):
            (channel,) = client.get(f"{base}{address}").json()
            assert (channel["available_from"] is not None) is clips
        (described,) = client.get(f"{base}/api/live/demo/programmes").json()
        assert (described["hls"] is not None) is clips
        assert ("catchup" in client.get(f"{base}/playlist.m3u").text) is clips
    # What is offered is answered, and what isn't would be refused.
    query = "master.m3u8?programme=now"
    assert client.get(f"{prefix(clips=True)}{query}", follow_redirects=True).status_code == 200
    assert client.get(f"{prefix(clips=False)}{query}").status_code == 403
