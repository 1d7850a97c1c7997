"""Other sites are told how to show what may be embedded, as oEmbed 1.0 has it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from origin.server.endpoints import embed
from origin.server.endpoints.page import PLAYER

BASE = "https://stream.example"


def client(*allow_embed: str) -> TestClient:
    return TestClient(Starlette(routes=embed.routes(PLAYER, allow_embed)), base_url=BASE)


class Frame(HTMLParser):
    """The attributes of the only element of a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_a_page_leads_to_what_says_how_to_show_it() -> None:
    asking = client("https://site.example")
    page = asking.get("/embed/vod/shows/A%20film%20%26%20more.mp4?autoplay")
    link = re.fullmatch(r'<([^>]+)>; rel="alternate"; type="application/json\+oembed"', page.headers["link"])
    assert link is not None
    answer = asking.get(link[1])
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    # oEmbed §2.3.4: what every answer has, and one of type video besides.
    assert (told["version"], told["type"], told["title"]) == ("1.0", "video", "A film & more.mp4")
    assert (told["width"], told["height"]) == (640, 360)
    ((tag, fields),) = Frame(told["html"]).found
    assert (tag, fields["width"], fields["height"]) == ("iframe", "640", "360")
    assert fields["src"] == f"{BASE}/embed/vod/shows/A%20film%20%26%20more.mp4"
    assert asking.get(urlsplit(str(fields["src"])).path).status_code == 200


@pytest.mark.parametrize(
    ("query", "size"),
    [
        ("maxwidth=320", (320, 180)),
        ("maxheight=90&maxwidth=1000", (160, 90)),
        ("maxwidth=9999&maxheight=9999", (640, 360)),
        ("maxwidth=1", (1, 1)),
    ],
)
def test_a_frame_is_as_large_as_the_other_site_has_room(query: str, size: tuple[int, int]) -> None:
    told = client("*").get(f"/oembed?{query}&url={BASE}/embed/live/demo").json()
    assert (told["width"], told["height"]) == size
    assert f'width="{size[0]}" height="{size[1]}"' in told["html"]


def test_a_moment_of_a_film_stays_in_its_address_and_nothing_else_does() -> None:
    url = f"{BASE}/embed/vod/film%3Fstart%3D90.5%26x%3D1".replace("%3F", "?").replace("%3D", "=")
    told = client("*").get(f"/oembed?url={url}").json()
    ((_, fields),) = Frame(told["html"]).found
    assert fields["src"] == f"{BASE}/embed/vod/film?start=90.5"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 404),
        (f"url={BASE}/", 404),
        (f"url={BASE}/embed/events/demo", 404),
        (f"url={BASE}/embed/vod/", 404),
        ("url=https://elsewhere.example/embed/vod/film", 404),
        ("url=javascript://stream.example/embed/vod/film", 404),
        ("url=https://[stream.example/embed/vod/film", 404),
        (f"url={BASE}/embed/vod/{'x' * 5000}", 404),
        (f"format=xml&url={BASE}/embed/live/demo", 501),
        (f"maxwidth=0&url={BASE}/embed/live/demo", 400),
        (f"maxheight=wide&url={BASE}/embed/live/demo", 400),
    ],
)
def test_what_is_no_page_of_this_server_is_refused(query: str, status: int) -> None:
    assert client("*").get(f"/oembed?{query}").status_code == status


def test_names_that_are_markup_stay_text() -> None:
    name = "%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E"
    told = client("*").get(f"/oembed?url={BASE}/embed/vod/{name.replace('%', '%25')}").json()
    assert [tag for tag, _ in Frame(told["html"]).found] == ["iframe"]


def test_where_nobody_may_embed_nobody_is_told_how() -> None:
    asking = client()
    assert "link" not in asking.get("/embed/live/demo").headers
    assert asking.get(f"/oembed?url={BASE}/embed/live/demo").status_code == 404
