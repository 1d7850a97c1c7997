"""A date range that began at one packager of a cluster and is ended at the next is over at all nodes."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import m3u8
import pytest

from media.hls.date_range import TAG, DateRange, read_date_range
from packager.publish.date_ranges import ADDED, LATE_SECONDS
from tests.conftest import ServerProcess
from tests.keys import ADMIN_TOKEN
from tests.origin.cluster.nodes import get, nodes, owns, playlist, plays, post, shared_channel
from tests.redis_server import RedisServer
from tests.s3_server import BUCKET, S3Server
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

NODES = ("packager", "packager", "edge")
LASTED = {"long": 600, "short": 1}
"""Seconds of each date range: one stays in the playlists, and one leaves them once it is ended."""

IN_MEMORY: Sequence[str] = ()
LISTED_IN_S3 = ('dvr = "1h"',)
BEHIND_THE_LIST = ('dvr = "1h"', 'playlist_window = "1s"')


@pytest.mark.parametrize(
    "dvr", [IN_MEMORY, LISTED_IN_S3, BEHIND_THE_LIST], ids=["memory", "listed", "behind"]
)
def test_a_date_range_is_ended_at_another_packager_than_it_began(
    dvr: Sequence[str],
    tmp_path: Path,
    redis_server: RedisServer,
    s3_server: S3Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HEADWATER_SERVER_DVR_PATH", f"s3://{BUCKET}/ended-{len(dvr)}")
    monkeypatch.setenv("HEADWATER_SERVER_ADMIN_TOKEN", ADMIN_TOKEN)
    with nodes(tmp_path, redis_server, *NODES, channels=shared_channel(*dvr)) as every:
        wait_for(lambda: all(map(plays, every)), "the channel everywhere")
        wait_for(lambda: sum(map(owns, every)) == 1, "an owner")
        began = _date(every[2])
        for name in LASTED:
            begin = {"id": name, "class": "ad", "planned_duration": 900, "attributes": {"X-NAME": name}}
            assert post(every[2], "metadata", ADMIN_TOKEN, begin).status_code == 201
        wait_for(lambda: all(len(_ranges(playlist(one))) == 2 for one in every), "both at all nodes")
        begun = _ranges(playlist(every[2]))

        owner = next(one for one in every if owns(one))
        left = [one for one in every if one is not owner]
        owner.process.send_signal(signal.SIGKILL)
        owner.process.wait()
        wait_for(lambda: sum(map(owns, left)) == 1, "the standby's lease")
        for name, seconds in LASTED.items():
            end = {"id": name, "duration": seconds}
            wait_for(lambda end=end: _is_taken(left[1], end), "the owner")  # type: ignore[misc]
        for one in left:
            wait_for(lambda one=one: _is_over(playlist(one), "long"), "its end in a playlist")  # type: ignore[misc]
            assert _is_over(playlist(one), "short"), "or it has left the playlist"
        if not dvr:
            return
        ended = time.time()
        # Spans that were over long before a tag came never have it.
        wait_for(lambda: _date(left[1], -1) > ended - LATE_SECONDS / 2, "segments of the ranges' ends")
        short_end = begun[-1].start_date + LASTED["short"]
        wait_for(lambda: _date(left[1], -1) > short_end, "a segment behind the short one")
        span = f"/live/shared/source/media.m3u8?start={began:.3f}&end={_date(left[1], -1):.3f}"
        # It is over before the end of the long one; that of the short one may have come late.
        told = [*begun, _ended(begun[-1])]
        with contextlib.suppress(AssertionError):
            wait_for(lambda: all(_told(one, span) == told for one in left), "what both nodes know")
        assert [_told(one, span) for one in left] == [told, told]
        assert len({get(one, span).text for one in left}) == 1
        wait_for(lambda: _told_lately(left[1]) == {"long"}, "a span behind the short one")
        assert all("Traceback" not in one.text() for one in every)


def test_an_id_that_another_packager_used_is_refused(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_SERVER_ADMIN_TOKEN", ADMIN_TOKEN)
    with nodes(tmp_path, redis_server, *NODES, channels=shared_channel()) as every:
        wait_for(lambda: all(map(plays, every)), "the channel everywhere")
        wait_for(lambda: sum(map(owns, every)) == 1, "an owner")
        range_ = {"id": "news", "duration": 0.5}
        assert post(every[2], "metadata", ADMIN_TOKEN, range_).status_code == 201
        wait_for(lambda: all(len(_ranges(playlist(one))) == 1 for one in every), "the range at all nodes")
        wait_for(lambda: not any(_ranges(playlist(one)) for one in every), "nothing of the range")
        owner = next(one for one in every if owns(one))
        left = [one for one in every if one is not owner]
        owner.process.send_signal(signal.SIGKILL)
        owner.process.wait()
        wait_for(lambda: sum(map(owns, left)) == 1, "the standby's lease")
        wait_for(lambda: _is_taken(left[1], {"id": "weather", "duration": 0.5}), "the owner")
        refused = post(left[1], "metadata", ADMIN_TOKEN, range_)
        assert (refused.status_code, "used already" in refused.text) == (409, True)


def _ranges(text: str) -> list[DateRange]:
    return [read_date_range(line) for line in text.splitlines() if line.startswith(TAG)]


def _is_over(text: str, name: str) -> bool:
    """Return whether a playlist ends a range, unless it has none of its name."""
    tags = [one for one in _ranges(text) if one.id == name]
    return not tags or tags[-1].duration == LASTED[name]


def _told_lately(one: ServerProcess) -> set[str]:
    """Return which ranges a node tells of the last seconds."""
    answer = get(one, f"/live/shared/source/media.m3u8?start={_date(one, -3):.3f}")
    return {tag.id for tag in _ranges(answer.text)}


def _ended(tag: DateRange) -> DateRange:
    return DateRange(tag.id, tag.start_date, duration=Fraction(LASTED[tag.id]), client_attributes={})


def _given(tag: DateRange) -> dict[str, str | float]:
    return {name: value for name, value in tag.client_attributes.items() if name != ADDED}


def _is_taken(one: ServerProcess, metadata: object) -> bool:
    return post(one, "metadata", ADMIN_TOKEN, metadata).status_code == 201


def _told(one: ServerProcess, path: str) -> list[DateRange]:
    """Return the tags of a span that is over; none before."""
    text = get(one, path).text
    tags = _ranges(text) if "#EXT-X-ENDLIST" in text else []
    return [replace(tag, client_attributes=_given(tag)) for tag in tags]


def _date(one: ServerProcess, at: int = 0) -> float:
    """Return the date of a segment that a node lists."""
    dates = (segment.current_program_date_time for segment in m3u8.loads(playlist(one)).segments)
    return [float(date.timestamp()) for date in dates if date is not None][at]
