"""The list of channels is read as Kodi's IPTV client and others read it."""

from __future__ import annotations

from media.television.m3u import ListedChannel, write_playlist
from tests.television_lists import ATTRIBUTE, entries

STUDIO = ListedChannel(
    id="studio",
    name="Studio, one",
    url="https://tv.example/live/studio/master.m3u8",
    group="Live",
    logo="https://tv.example/live/studio/snapshot.jpg",
    number=1,
    catchup_days=7,
    catchup_url="https://tv.example/live/studio/master.m3u8?start={utc}&end={utcend}",
)


def test_an_entry_has_what_apps_ask_for() -> None:
    text = write_playlist([STUDIO], "https://tv.example/guide.xml")
    assert dict(ATTRIBUTE.findall(text.splitlines()[0])) == {
        "url-tvg": "https://tv.example/guide.xml",
        "x-tvg-url": "https://tv.example/guide.xml",
    }
    ((attributes, name, url),) = entries(text)
    assert (name, url) == ("Studio, one", STUDIO.url)
    assert attributes == {
        "tvg-id": "studio",
        "tvg-name": "Studio, one",
        "tvg-chno": "1",
        "tvg-logo": STUDIO.logo,
        "group-title": "Live",
        "catchup": "default",
        "catchup-days": "7",
        "catchup-source": STUDIO.catchup_url,
    }


def test_what_is_not_kept_has_no_catch_up_and_a_station_no_picture() -> None:
    station = ListedChannel(
        id="radio/a.mp3", name="A", url="https://tv.example/radio/a.mp3", group="Radio", is_radio=True
    )
    ((attributes, _, _),) = entries(write_playlist([station], "https://tv.example/guide.xml"))
    assert attributes == {"tvg-id": "radio/a.mp3", "tvg-name": "A", "group-title": "Radio", "radio": "true"}


def test_no_name_ends_an_attribute_or_a_line() -> None:
    name = 'The "News"\r\n#EXTM3U\u2028, and more'
    odd = ListedChannel(id='a"b', name=name, url="https://tv.example/x", group="Live")
    text = write_playlist([odd], "https://tv.example/guide.xml")
    assert len(text.splitlines()) == 3
    ((attributes, shown, _),) = entries(text)
    assert attributes["tvg-name"] == "The 'News' #EXTM3U , and more"
    assert shown == 'The "News" #EXTM3U , and more' or shown.endswith(", and more")
