"""Outlines of listed blocks are kept for other spans, and for none in which a segment has become a gap."""

from __future__ import annotations

from fractions import Fraction

import pytest
from msgspec.structs import replace

from media.hls.precompressed_text import PackedText, Pieces, rendered
from origin.live.past.listed_outlines import ListedOutlines
from packager.past.outlines import BLOCK_SEGMENTS
from packager.past.past_window import past_window
from packager.past.span_playlists import span_playlist
from packager.window.model import LiveSegment, StoredSegment, WindowOptions
from packager.window.rendition import Rendition
from packager.window.window import Window
from tests.conformance.handfed import Track
from tests.packager.stored_segments import timeline_of

NAMES = "720p", "audio"
FIRST = 2 * BLOCK_SEGMENTS - 40
COUNT = 2 * BLOCK_SEGMENTS


@pytest.fixture
def renditions(material: dict[str, Track]) -> dict[str, Rendition]:
    timeline = timeline_of(material["240p"], FIRST)
    found = {}
    for name in NAMES:
        window = Window(WindowOptions(2, FIRST))
        window.listed.extend(
            LiveSegment(
                number,
                timeline,
                (2 * number, 1),
                duration=Fraction(2),
                stored=StoredSegment.of([100], (number, 1)),
            )
            for number in range(FIRST, FIRST + COUNT)
        )
        found[name] = Rendition(name, window, video=name != "audio", bitrate=1)
    return found


def lines(listed: ListedOutlines, renditions: dict[str, Rendition], first: int, last: int) -> Pieces:
    past = past_window(renditions, Fraction(2 * first), Fraction(2 * last + 2))
    assert past is not None
    assert past.is_whole
    return span_playlist(listed.span(past), "720p", past.start, 2, (), "").pieces()


def numbers(pieces: Pieces) -> list[int]:
    text = b"".join(rendered(pieces)).decode().splitlines()
    return [int(line.partition(".")[0]) for line in text if not line.startswith("#")]


def test_a_span_has_all_of_its_segments_and_the_pieces_of_others(renditions: dict[str, Rendition]) -> None:
    listed = ListedOutlines()
    found = []
    for first, last in ((FIRST, FIRST + COUNT - 1), (FIRST + 45, FIRST + 900), (FIRST + 3, FIRST + 3)):
        pieces = lines(listed, renditions, first, last)
        assert numbers(pieces) == list(range(first, last + 1))
        found.append({id(one) for one in pieces if isinstance(one, PackedText)})
    assert len(found[0] & found[1]) > 4, "they are the same objects"


def test_a_segment_that_is_lost_is_a_gap_in_the_next_span(renditions: dict[str, Rendition]) -> None:
    listed, last = ListedOutlines(), FIRST + COUNT - 1
    before = lines(listed, renditions, FIRST, last)
    assert b"".join(rendered(before)).count(b"#EXT-X-GAP") == 0
    window, lost = renditions["720p"].window, BLOCK_SEGMENTS + 7
    window.listed[lost] = replace(window.listed[lost], gap=True, stored=None)
    after = lines(listed, renditions, FIRST, last)
    text = b"".join(rendered(after))
    assert text.count(b"#EXT-X-GAP") == 1
    assert f"#EXT-X-GAP\n#EXTINF:2.00000,\n{FIRST + lost}.m4s\n".encode() in text
    window.listed.popleft()
    assert numbers(lines(listed, renditions, FIRST + 1, last)) == list(range(FIRST + 1, last + 1))
