"""Writes programme guides in XMLTV, by its DTD: the order of elements is the DTD's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.sax.saxutils import escape, quoteattr

MEDIA_TYPE = "application/xml"


@dataclass(frozen=True, slots=True)
class GuideChannel:
    """A channel of a guide.

    Attributes:
        icon: URL of a picture; empty for none.
    """

    id: str
    name: str
    icon: str = ""


@dataclass(frozen=True, slots=True)
class GuideProgramme:
    """A programme of a guide.

    Attributes:
        channel: the id of its channel.
        start: seconds since the epoch.
        stop: seconds since the epoch.
        icon: URL of a picture; empty for none.
    """

    channel: str
    start: int
    stop: int
    title: str
    subtitle: str = ""
    description: str = ""
    categories: Sequence[str] = ()
    icon: str = ""


def write_guide(
    generator: str, channels: Iterable[GuideChannel], programmes: Iterable[GuideProgramme]
) -> Iterator[str]:
    """Yield the lines of a guide.

    Args:
        programmes: in the order of channels and starts.
    """
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE tv SYSTEM "xmltv.dtd">\n'
    yield f"<tv generator-info-name={quoteattr(generator)}>\n"
    for channel in channels:
        icon = f"<icon src={quoteattr(channel.icon)}/>" if channel.icon else ""
        name = f"<display-name>{escape(channel.name)}</display-name>"
        yield f"<channel id={quoteattr(channel.id)}>{name}{icon}</channel>\n"
    for one in programmes:
        span = f'start="{_date(one.start)}" stop="{_date(one.stop)}"'
        texts = [f"<title>{escape(one.title)}</title>"]
        texts += [f"<sub-title>{escape(one.subtitle)}</sub-title>"] if one.subtitle else []
        texts += [f"<desc>{escape(one.description)}</desc>"] if one.description else []
        texts += [f"<category>{escape(category)}</category>" for category in one.categories]
        texts += [f"<icon src={quoteattr(one.icon)}/>"] if one.icon else []
        yield f"<programme {span} channel={quoteattr(one.channel)}>{''.join(texts)}</programme>\n"
    yield "</tv>\n"


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d%H%M%S +0000")
