"""Lists of more items than a page: all lists have the same parameters and fields."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import start_server
from tests.keys import BEARER
from tests.patience import CLIENT_SECONDS
from tests.recorded_events import make_recordings
from tests.waiting import wait_for

SEVERAL = 7
RECORDINGS = 450
PROGRAMMES = 550
MOST, USUAL = 500, 200
"""Items of a page: the most, and without a ``limit``."""

LISTS = ("live", "radio", "events", "relays")
PAGED = (*(f"/api/{one}" for one in LISTS), "/api/live/l1/programmes", "/api/live/l0/recordings")
NEXT = re.compile(r'<([^>]+)>; rel="next"')


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("lists")
    config = '[server]\nport = 0\ndata = "data"\n'
    for number in range(SEVERAL):
        event = 'event = true\ndvr = "1h"' if number < 3 else 'dvr = "1h"'
        config += f'[[live]]\nname = "l{number}"\nsource = "publish"\n{event}\n'
        config += f'[[radio]]\nname = "r{number}.mp3"\nsource = "publish"\n'
        config += f'[[events]]\nname = "e{number}"\n[[relay]]\nname = "a{number}"\n'
        config += 'upstreams = ["http://127.0.0.1:9/v1"]\n'
    (folder / "headwater.toml").write_text(config)
    for number in range(3):
        make_recordings(folder / "data" / "live" / f"l{number}" / "recordings", RECORDINGS)
    server = start_server("--config", str(folder / "headwater.toml"))
    with httpx.Client(base_url=server.url, timeout=CLIENT_SECONDS, headers=BEARER) as client:
        programmes = [
            {"id": f"p{one:03}", "start": 60 * one, "end": 60 * one + 60} for one in range(PROGRAMMES)
        ]
        answer = client.put("/live/l1/programmes", json=programmes)
        assert answer.status_code == 200, answer.text
        wait_for(lambda: client.get("/api/live/l2/recordings").json(), "the recordings")
        yield client
    server.stop()
    assert "Traceback" not in server.text()


def pages(client: httpx.Client, address: str | None) -> Iterator[list[dict[str, object]]]:
    """Fetch a list page by page, as its Link fields say."""
    while address is not None:
        answer = client.get(address)
        assert answer.status_code == 200, answer.text
        yield answer.json()
        following = NEXT.fullmatch(answer.headers.get("link", ""))
        address = None if following is None else following[1]


@pytest.mark.parametrize("address", PAGED)
def test_a_list_comes_in_pages_that_together_have_each_item_once(client: httpx.Client, address: str) -> None:
    whole = [*itertools.chain.from_iterable(pages(client, f"{address}?limit={MOST}"))]
    total = int(client.get(address).headers["x-total-count"])
    assert len(whole) == total >= SEVERAL
    size = max(3, total // 5)
    parts = [*pages(client, f"{address}?limit={size}")]
    assert all(0 < len(part) <= size for part in parts)
    key = "id" if "id" in whole[0] else "name"
    assert [one[key] for one in itertools.chain.from_iterable(parts)] == [one[key] for one in whole]
    beyond = client.get(f"{address}?offset={total}")
    assert (beyond.json(), beyond.headers.get("link")) == ([], None)


@pytest.mark.parametrize("address", PAGED)
@pytest.mark.parametrize(
    "query", ["limit=0", f"limit={MOST + 1}", "limit=x", "offset=-1", "offset=1234567890"]
)
def test_a_malformed_page_is_refused_in_one_line(client: httpx.Client, address: str, query: str) -> None:
    answer = client.get(f"{address}?{query}")
    assert answer.status_code == 400
    assert answer.text.startswith(query.partition("=")[0])


def test_a_page_of_channels_has_a_bounded_number_of_recordings_and_names_where_the_others_are(
    client: httpx.Client,
) -> None:
    for page in pages(client, "/api/live"):
        assert sum(len(one["recordings"]) for one in page) < MOST + USUAL  # type: ignore[misc, arg-type]
    first = client.get("/api/live").json()[0]
    assert len(first["recordings"]) == USUAL
    earlier = [one["id"] for one in itertools.chain.from_iterable(pages(client, first["earlier_recordings"]))]
    ids = [one["id"] for one in first["recordings"]] + earlier
    assert len(set(ids)) == RECORDINGS
    assert ids == sorted(ids, reverse=True)


@pytest.mark.promise("/api/live/CHANNEL/recordings")
def test_recordings_and_programmes_have_a_list_and_programmes_an_order(client: httpx.Client) -> None:
    answer = client.get("/api/live/l0/recordings")
    assert (len(answer.json()), answer.headers["x-total-count"]) == (USUAL, str(RECORDINGS))
    answer = client.get("/api/live/l1/programmes?order=desc&limit=2&start=0&end=6000&token=secret")
    assert [one["id"] for one in answer.json()] == ["p099", "p098"]
    following = NEXT.fullmatch(answer.headers["link"])
    assert following is not None
    assert "secret" not in following[1]
    assert [one["id"] for one in client.get(following[1]).json()] == ["p097", "p096"]
    assert client.get("/api/live/l1/programmes?order=up").status_code == 400
    assert client.get("/api/live/nothing/recordings").status_code == 404
