"""``/playlist.m3u``, ``/guide.xml`` and the feeds of recordings: what apps find, and for whom."""

from __future__ import annotations

import gzip
import re
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from origin.access.address_tokens import SigningKeys
from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.keys import ADMIN_TOKEN, BEARER
from tests.patience import CLIENT_SECONDS
from tests.programmed_channel import date_of, keep, live
from tests.television_lists import by_jellyfin, entries
from tests.waiting import wait_for

KEY = "one:0123456789abcdef0123456789abcdef"

CONFIG = f"""
[server]
port = 0
data = "data"

[access]
keys = ["{KEY}"]

[[live]]
name = "closed"
source = "publish"
access = "signed"

[[radio]]
name = "morning.mp3"
source = "publish"
title = "Morning, with news"

[[radio]]
name = "members.mp3"
source = "publish"
listener_password = "for-members-alone"

[[radio]]
name = "hidden.mp3"
source = "publish"
hidden = true
"""

DVR = ("segment_duration = 1.0", "part_duration = 0.25", 'dvr = "36h"')


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("television")
    (folder / "headwater.toml").write_text(CONFIG + copied_channel("a", *DVR))
    server = start_server(cwd=folder)
    yield server
    assert server.stop() == 0


def get(server: ServerProcess, path: str, **fields: str) -> httpx.Response:
    return httpx.get(f"{server.url}{path}", headers=fields, timeout=CLIENT_SECONDS)


def listed(server: ServerProcess, path: str = "/playlist.m3u", **fields: str) -> dict[str, str]:
    """Return the URLs of a list, by the channels' ids."""
    answer = get(server, path, **fields)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "audio/x-mpegurl"
    return {attributes["tvg-id"]: url for attributes, _, url in entries(answer.text)}


def guide(server: ServerProcess, path: str = "/guide.xml") -> ElementTree.Element:
    answer = get(server, path)
    assert answer.headers["content-type"] == "application/xml"
    return ElementTree.fromstring(answer.content)


def seconds(date: str) -> float:
    return datetime.strptime(date, "%Y%m%d%H%M%S %z").timestamp()


@pytest.mark.promise("/playlist.m3u")
def test_everybody_finds_what_everybody_may_play(server: ServerProcess) -> None:
    urls = listed(server)
    assert urls == {
        "a": f"{server.url}/live/a/master.m3u8",
        "radio/morning.mp3": f"{server.url}/radio/morning.mp3",
    }
    assert listed(server, "/playlist.m3u8") == urls
    assert [*listed(server, "/playlist.m3u?type=radio")] == ["radio/morning.mp3"]
    assert [*listed(server, "/playlist.m3u?group=Live")] == ["a"]
    assert get(server, "/playlist.m3u?type=films").status_code == 400
    text = get(server, "/playlist.m3u").text
    assert text.startswith(f'#EXTM3U url-tvg="{server.url}/guide.xml"')
    attributes, name, _ = entries(text)[1]
    assert (name, attributes["radio"]) == ("Morning, with news", "true")
    assert by_jellyfin(text) == [
        ("a", "a", urls["a"]),
        ("radio/morning.mp3", "with news", urls["radio/morning.mp3"]),
    ]


def test_a_day_and_a_half_are_two_days_of_catch_up_which_plays(server: ServerProcess) -> None:
    wait_for(lambda: len(live(server).segments) > 2, "two segments")
    attributes, _, _ = entries(get(server, "/playlist.m3u").text)[0]
    assert attributes["catchup-days"] == "2"
    now = int(time.time())
    # A programme that is on ends in the future, and begins before what is kept.
    url = attributes["catchup-source"].replace("{utc}", str(now - 3600)).replace("{utcend}", str(now + 3600))
    answer = httpx.get(url, follow_redirects=True, timeout=CLIENT_SECONDS)
    assert answer.status_code == 200
    assert "#EXT-X-STREAM-INF" in answer.text


def test_who_has_a_token_or_a_password_finds_more_and_its_addresses_have_it(server: ServerProcess) -> None:
    token = SigningKeys([KEY]).sign("/live/closed", int(time.time()) + 60)
    base = f"{server.url}/t/{token}"
    urls = listed(server, f"/t/{token}/playlist.m3u")
    assert urls["closed"] == f"{base}/live/closed/master.m3u8"
    assert all(url.startswith(f"{base}/") for url in urls.values())
    assert listed(server, f"/playlist.m3u?token={token}") == urls
    assert "closed" in {one.get("id") for one in guide(server, f"/t/{token}/guide.xml")}
    assert "closed" in listed(server, **BEARER)
    url = listed(server, "/playlist.m3u?key=for-members-alone")["radio/members.mp3"]
    assert url == f"{server.url}/radio/members.mp3?key=for-members-alone"
    every = {*listed(server), *urls, *listed(server, **BEARER)}
    assert "radio/hidden.mp3" not in every


@pytest.mark.promise("/guide.xml")
def test_a_channel_without_programmes_has_one_for_each_hour(server: ServerProcess) -> None:
    top = guide(server)
    assert [one.get("id") for one in top.findall("channel")] == ["a", "radio/morning.mp3"]
    spans = [
        (seconds(one.get("start", "")), seconds(one.get("stop", "")))
        for one in top.findall("programme")
        if one.get("channel") == "radio/morning.mp3"
    ]
    now = time.time()
    assert spans[0][0] <= now < spans[0][1]
    assert all(stop - start == 3600 for start, stop in spans)
    assert [stop for _, stop in spans[:-1]] == [start for start, _ in spans[1:]]
    assert spans[-1][1] > now + 80_000
    titles = {one.findtext("title") for one in top.findall("programme")}
    assert titles >= {"Morning, with news"}


def test_what_xmltv_says_comes_out_again(server: ServerProcess) -> None:
    hour = int(time.time()) // 3600 * 3600
    dates = [
        datetime.fromtimestamp(hour + step * 3600, UTC).strftime("%Y%m%d%H%M%S +0000") for step in (0, 1, 2)
    ]
    texts = (
        "<title lang='en'>News &amp; more</title><title lang='de'>Nachrichten</title>"
        "<sub-title>Evening</sub-title>"
        "<desc>What the day brought.</desc><category>News</category><category>Live</category>"
    )
    put = "".join(
        f'<programme start="{start}" stop="{stop}" channel="x">{text}</programme>'
        for start, stop, text in ((dates[0], dates[1], texts), (dates[1], dates[2], "<title>Late</title>"))
    )
    answer = httpx.put(
        f"{server.url}/live/a/programmes",
        content=f"<tv>{put}</tv>",
        headers={**BEARER, "content-type": "application/xml"},
        timeout=CLIENT_SECONDS,
    )
    assert answer.status_code == 200
    wait_for(lambda: len(own_programmes(server)) == 2, "the guide with the programmes")
    first, second = own_programmes(server)
    assert (first.get("start"), first.get("stop")) == (dates[0], dates[1])
    assert [(one.tag, one.text) for one in first] == [
        ("title", "News & more"),
        ("sub-title", "Evening"),
        ("desc", "What the day brought."),
        ("category", "News"),
        ("category", "Live"),
    ]
    assert [(one.tag, one.text) for one in second] == [("title", "Late")]
    described = get(server, "/api/live/a/programmes").json()[0]
    assert (described["subtitle"], described["categories"]) == ("Evening", ["News", "Live"])


def own_programmes(server: ServerProcess) -> list[ElementTree.Element]:
    return [one for one in guide(server).findall("programme") if one.get("channel") == "a"]


def test_lists_are_compressed_and_have_validators(server: ServerProcess) -> None:
    plain = get(server, "/playlist.m3u", **{"accept-encoding": "identity"})
    assert plain.headers["cache-control"].startswith("private")
    tag = plain.headers["etag"]
    assert (
        get(server, "/playlist.m3u", **{"accept-encoding": "identity", "if-none-match": tag}).status_code
        == 304
    )
    with httpx.stream("GET", f"{server.url}/playlist.m3u", headers={"accept-encoding": "gzip"}) as packed:
        assert packed.headers["content-encoding"] == "gzip"
        assert gzip.decompress(b"".join(packed.iter_raw())) == plain.content


@pytest.mark.promise("/recordings/feed.xml", "/recordings/NAME/feed.xml")
def test_a_feed_has_each_recording_with_the_exact_length_of_its_mp4(server: ServerProcess) -> None:
    wait_for(lambda: len(live(server).segments) > 4, "segments")
    start = date_of(server, 0)
    titles = ["Evening & more", ""]
    for at, title in enumerate(titles):
        assert keep(server, start + at, start + at + 2, title).status_code in (201, 202)
    wait_for(lambda: len(items(server)) == 2, "two recordings in the feed")
    newest, oldest = items(server)
    assert oldest.findtext("title") == titles[0]
    assert re.fullmatch(r"a, \d{4}-\d\d-\d\d \d\d:\d\d UTC", newest.findtext("title") or "")
    for item in (newest, oldest):
        enclosure = item.find("enclosure")
        assert enclosure is not None
        media = httpx.get(enclosure.get("url", ""), timeout=CLIENT_SECONDS)
        assert (media.status_code, str(len(media.content))) == (200, enclosure.get("length"))
        assert media.headers["content-type"] == enclosure.get("type") == "video/mp4"
    assert [one.findtext("guid") for one in items(server, "a/")] == [
        one.findtext("guid") for one in (newest, oldest)
    ]
    assert get(server, "/recordings/other/feed.xml").status_code == 404


def items(server: ServerProcess, channel: str = "") -> list[ElementTree.Element]:
    answer = get(server, f"/recordings/{channel}feed.xml")
    assert answer.headers["content-type"] == "application/rss+xml"
    return ElementTree.fromstring(answer.content).findall("channel/item")


def test_where_lists_are_protected_so_are_these(tmp_path: Path) -> None:
    (tmp_path / "headwater.toml").write_text(
        f'[server]\nport = 0\nprotected = ["api"]\n[access]\nkeys = ["{KEY}"]\n'
        '[[live]]\nname = "closed"\nsource = "publish"\naccess = "signed"\n'
        '[[live]]\nname = "open"\nsource = "publish"\n'
    )
    server = start_server(cwd=tmp_path)
    try:
        paths = (
            "/playlist.m3u",
            "/playlist.m3u8",
            "/guide.xml",
            "/recordings/feed.xml",
            "/recordings/x/feed.xml",
        )
        assert [get(server, path).status_code for path in paths] == [401] * len(paths)
        assert [*listed(server, **BEARER)] == ["closed", "open"]
        assert [*listed(server, f"/playlist.m3u?key={ADMIN_TOKEN}")] == ["closed", "open"]
        token = SigningKeys([KEY]).sign("/live/closed", int(time.time()) + 60)
        # The holder of a token sees what it covers, and nothing else.
        assert [*listed(server, f"/t/{token}/playlist.m3u")] == ["closed"]
    finally:
        assert server.stop() == 0
