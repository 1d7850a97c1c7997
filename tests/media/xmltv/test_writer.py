"""A guide that is written is read again, and has its elements in the order of XMLTV's DTD."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from hypothesis import given
from hypothesis import strategies as st

from media.xmltv.reader import in_one_line, read_xmltv
from media.xmltv.writer import GuideChannel, GuideProgramme, write_guide

ORDER = ("title", "sub-title", "desc", "category", "icon")
"""The order of xmltv.dtd: title+, sub-title*, desc*, …, category*, …, icon*."""

LINES = st.text(max_size=40).map(lambda text: in_one_line(text, 40))


def test_a_guide_has_channels_before_programmes() -> None:
    channels = [GuideChannel("studio", "Studio & more", "https://tv.example/a?b=1&c=2")]
    news = GuideProgramme(
        "studio",
        1_796_018_400,
        1_796_020_200,
        "News",
        "Evening",
        "What the day brought.",
        ("News", "Live"),
        "https://tv.example/news.jpg",
    )
    top = ElementTree.fromstring("".join(write_guide("Headwater", channels, [news])))
    assert (top.tag, top.attrib) == ("tv", {"generator-info-name": "Headwater"})
    channel, programme = top
    assert channel.attrib == {"id": "studio"}
    assert [one.tag for one in channel] == ["display-name", "icon"]
    assert programme.attrib == {
        "start": "20261130060000 +0000",
        "stop": "20261130063000 +0000",
        "channel": "studio",
    }
    assert [one.tag for one in programme] == ["title", "sub-title", "desc", "category", "category", "icon"]


@given(
    st.lists(
        st.builds(
            GuideProgramme,
            channel=LINES,
            start=st.integers(0, 4_000_000_000),
            stop=st.integers(0, 4_000_000_000),
            title=LINES,
            subtitle=LINES,
            description=LINES,
            categories=st.lists(LINES.filter(bool), max_size=3).map(tuple),
        ),
        max_size=4,
        unique_by=lambda one: one.start,
    )
)
def test_what_is_written_is_read_again(programmes: list[GuideProgramme]) -> None:
    data = "".join(write_guide("Headwater", [], programmes)).encode()
    read = [
        GuideProgramme(
            one.channel, one.start, one.stop or 0, one.title, one.subtitle, one.description, one.categories
        )
        for one in read_xmltv(data)
    ]
    assert read == sorted(programmes, key=lambda one: one.start)
    for programme in ElementTree.fromstring(data):
        places = [ORDER.index(one.tag) for one in programme]
        assert places == sorted(places)
