"""Feeds are RSS 2.0 with Apple's elements, whatever stands in titles."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from email.utils import parsedate_to_datetime

from media.television.rss import ITUNES, FeedDescription, FeedItem, write_feed

FEED = FeedDescription(
    title='Studio & "friends" <live>',
    link="https://tv.example/?a=1&b=2",
    url="https://tv.example/recordings/studio/feed.xml",
    description="Recordings of Studio",
    author="Studio",
    image="https://tv.example/live/studio/snapshot.jpg",
)
ITEM = FeedItem(
    guid="studio/20261130T185620Z",
    title="Evening & \x01more\uffff\nin two lines",
    date=1_796_064_980.2,
    seconds=3601.6,
    url='https://tv.example/live/st%22/"x"/event.mp4?a=1&b=2',
    nbytes=1_223_967,
    media_type="video/mp4",
    link="https://tv.example/#live/studio/20261130T185620Z",
)


def test_an_item_has_its_file_and_its_length() -> None:
    channel = ElementTree.fromstring(write_feed(FEED, [ITEM]))[0]
    assert (channel.findtext("title"), channel.findtext("link")) == (FEED.title, FEED.link)
    assert channel.findtext(f"{{{ITUNES}}}explicit") == "no"
    image = channel.find(f"{{{ITUNES}}}image")
    assert image is not None
    assert image.attrib == {"href": FEED.image}
    (item,) = channel.findall("item")
    enclosure = item.find("enclosure")
    assert enclosure is not None
    assert enclosure.attrib == {"url": ITEM.url, "length": "1223967", "type": "video/mp4"}
    assert item.findtext("title") == "Evening & more in two lines"
    guid = item.find("guid")
    assert guid is not None
    assert (guid.text, guid.attrib) == (ITEM.guid, {"isPermaLink": "false"})
    date = parsedate_to_datetime(item.findtext("pubDate") or "")
    assert date.timestamp() == 1_796_064_980
    assert item.findtext(f"{{{ITUNES}}}duration") == "3602"


def test_a_feed_without_recordings_is_one() -> None:
    channel = ElementTree.fromstring(write_feed(FEED, []))[0]
    assert channel.findall("item") == []
