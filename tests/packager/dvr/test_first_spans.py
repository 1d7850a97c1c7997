"""The first span of a DVR in S3 that a process is asked for doesn't wait until all of it is listed."""

from __future__ import annotations

from fractions import Fraction

import obstore
import pytest

from packager.dvr import stored_cadence
from packager.dvr.bucket.index_pieces import CLOCK_SECONDS, PieceName
from packager.dvr.index import IndexLine, encode
from packager.dvr.limits import DvrLimits
from packager.past.outlines import BLOCK_SEGMENTS
from packager.window.model import Timeline
from tests.conformance.handfed import Track
from tests.packager.dvr.rendition_in_bucket import KEY, TIMES, RenditionInBucket
from tests.packager.stored_segments import timeline_of
from tests.s3_server import S3Proxy

pytestmark = pytest.mark.timeout(300)

LIMITS = DvrLimits()
NUMBERS = range(400 * BLOCK_SEGMENTS - 100, 410 * BLOCK_SEGMENTS + 30)
ALWAYS = 10**12


@pytest.fixture
def timeline(material: dict[str, Track]) -> Timeline:
    return timeline_of(material["240p"], NUMBERS.start)


def put(rendition: RenditionInBucket, timeline: Timeline, behind: int, dated: bool = True) -> None:
    """Store segments of a second each.

    Args:
        behind: by how many seconds the numbers are behind the clock.
        dated: whether names of pieces have dates.
    """
    obstore.put(rendition.store, f"{KEY}/init-{timeline.number}-1.mp4", timeline.init)
    count = LIMITS.piece_lines
    for begin in range(NUMBERS.start - NUMBERS.start % count, NUMBERS.stop, count):
        lines = [
            IndexLine(
                number,
                (number + behind, 1),
                (1, 1),
                init=timeline.number,
                parts=(100,),
                presentation_time=(number, 1),
                stored_by=1,
            )
            for number in range(begin, begin + count)
            if number in NUMBERS
        ]
        name = str(PieceName.of(lines[0], 1, 100 * (lines[0].number - NUMBERS.start)))
        name = name if dated else "-".join(name.split("-")[:2])
        data = b"".join((stored_cadence.encode(TIMES), b"\n", *map(encode, lines)))
        obstore.put(rendition.store, f"{KEY}/index/{name}", data)


def read(rendition: RenditionInBucket, start: int, end: int, behind: int) -> tuple[list[int], list[int]]:
    """Return the numbers of a span that new processes read, as segments and as outlines."""
    dates = Fraction(start + behind), Fraction(end + behind)
    segments = rendition.past().read(*dates, ALWAYS)
    outlines = rendition.past().outlines(*dates, ALWAYS)
    numbers = [one.first + at for one in outlines for at in one.there.tolist()]
    return [one.number for one in segments], [number for number in numbers if start <= number < end]


@pytest.mark.parametrize(
    ("behind", "dated"), [(0, True), (CLOCK_SECONDS // 2, True), (2 * CLOCK_SECONDS, True), (0, False)]
)
def test_the_first_span_has_all_of_its_segments_wherever_it_is(
    rendition: RenditionInBucket, timeline: Timeline, behind: int, dated: bool
) -> None:
    put(rendition, timeline, behind, dated)
    edges = (
        NUMBERS.start,
        NUMBERS.start + 90,
        401 * BLOCK_SEGMENTS,
        405 * BLOCK_SEGMENTS + 77,
        NUMBERS.stop - 9,
    )
    for start in edges:
        for end in (start + 5, start + 700):
            expected = [number for number in range(start, end) if number in NUMBERS]
            assert read(rendition, start, end, behind) == (expected, expected)


def test_it_is_looked_for_by_the_clock(
    rendition: RenditionInBucket, timeline: Timeline, s3_proxy: S3Proxy
) -> None:
    put(rendition, timeline, 0)
    start = 405 * BLOCK_SEGMENTS
    s3_proxy.requests.clear()
    past = rendition.past()
    assert [one.number for one in past.read(Fraction(start), Fraction(start + 2), ALWAYS)] == [
        start,
        start + 1,
    ]
    assert len(s3_proxy.asked("GET", "list-type", f"{start - CLOCK_SECONDS:015d}")) == 1
    assert len(past.read(Fraction(NUMBERS.start), None, ALWAYS)) == len(NUMBERS), "all is listed meanwhile"
    before = len(s3_proxy.asked("GET", "list-type"))
    assert len(past.read(Fraction(start), Fraction(start + 2), ALWAYS)) == 2
    assert len(s3_proxy.asked("GET", "list-type")) == before
