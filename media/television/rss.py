"""Writes feeds of recordings in RSS 2.0, with the elements that Apple's podcast directory has added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate
from xml.sax.saxutils import escape, quoteattr

from media.xmltv.reader import in_one_line

MEDIA_TYPE = "application/rss+xml"

ITUNES = "http://www.itunes.com/dtds/podcast-1.0.dtd"
ATOM = "http://www.w3.org/2005/Atom"

MOST_TEXT = 4000
"""Most characters of a text, as Apple allows them for descriptions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedDescription:
    """The description of a feed.

    Attributes:
        link: URL of the page for people.
        url: of the feed, where readers find it again.
        image: URL of a picture; empty for none.
    """

    title: str
    link: str
    url: str
    description: str
    author: str
    image: str = ""
    language: str = "en"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedItem:
    """A recording of a feed.

    Attributes:
        guid: names the recording for ever; no URL.
        date: seconds since the epoch.
        seconds: for which it plays.
        url: of the file with its media.
        nbytes: exact size of the media.
        link: URL of the page for people.
    """

    guid: str
    title: str
    date: float
    seconds: float
    url: str
    nbytes: int
    media_type: str
    link: str


def write_feed(feed: FeedDescription, items: Sequence[FeedItem]) -> str:
    """Write a feed; its items are in their order, the newest first."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<rss version="2.0" xmlns:itunes="{ITUNES}" xmlns:atom="{ATOM}">',
        "<channel>",
        _element("title", feed.title),
        _element("link", feed.link),
        _element("description", feed.description),
        _element("language", feed.language),
        f'<atom:link href={quoteattr(feed.url)} rel="self" type="{MEDIA_TYPE}"/>',
        _element("itunes:author", feed.author),
        _element("itunes:explicit", "no"),
    ]
    if feed.image:
        lines.append(f"<itunes:image href={quoteattr(feed.image)}/>")
    if items:
        # RSS 2.0, "lastBuildDate": when the content changed last.
        lines.append(_element("lastBuildDate", formatdate(items[0].date, usegmt=True)))
    for one in items:
        media_type = quoteattr(one.media_type)
        lines += [
            "<item>",
            _element("title", one.title),
            _element("link", one.link),
            f'<guid isPermaLink="false">{escape(one.guid)}</guid>',
            _element("pubDate", formatdate(one.date, usegmt=True)),
            f'<enclosure url={quoteattr(one.url)} length="{one.nbytes}" type={media_type}/>',
            _element("itunes:duration", str(round(one.seconds))),
            _element("itunes:explicit", "no"),
            "</item>",
        ]
    return "\n".join([*lines, "</channel>", "</rss>", ""])


def _element(name: str, text: str) -> str:
    return f"<{name}>{escape(in_one_line(text, MOST_TEXT))}</{name}>"
