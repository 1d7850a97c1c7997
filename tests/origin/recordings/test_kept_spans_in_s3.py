"""Spans of a channel whose DVR is in S3 are recorded: beyond it, over a kill, and while S3 is away."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import httpx
import m3u8

from tests.conftest import start_server
from tests.copied_channel import RATE
from tests.programmed_channel import (
    configure,
    dates,
    keep,
    kill,
    live,
    numbers,
    pictures,
    playlist,
    put,
    recordings,
)
from tests.s3_server import BUCKET, SECRET, S3Proxy, S3Server
from tests.waiting import wait_for


def begin_of(segment: m3u8.Segment) -> float:
    assert segment.current_program_date_time is not None
    return float(segment.current_program_date_time.timestamp())


def m3u8_of(url: str, name: str) -> m3u8.M3U8:
    answer = httpx.get(f"{url}/live/a/recordings/{name}/source/media.m3u8", timeout=60)
    assert answer.status_code == 200
    return m3u8.loads(answer.text)


def test_spans_of_a_dvr_in_s3_are_kept_beyond_it_and_over_a_kill(
    s3_server: S3Server, s3_proxy: S3Proxy, tmp_path: Path
) -> None:
    place = f'dvr_path = "s3://{BUCKET}/spans"\n'
    configure(tmp_path, 'dvr = "10s"', 'record = "programmes"', server=place)
    environment = s3_server.environment(s3_proxy.url)
    server = start_server(cwd=tmp_path, env=environment)
    try:
        wait_for(lambda: len(live(server).segments) > 10, "segments that have left memory")
        begin = dates(server)[1]
        past = keep(server, begin + 0.5, begin + 2.5, "After it")
        assert past.status_code == 201, past.text
        made = past.json()["recording"]
        address = f"{server.url}/live/a/recordings/{made['id']}"
        assert pictures(f"{address}/master.m3u8") == pictures(f"{address}/event.mp4") == 3 * RATE
        start = dates(server)[-3]
        assert put(server, [{"id": "long", "start": start, "end": start + 3600}]).status_code == 200
        wait_for(lambda: dates(server)[0] > start + 3, "the DVR to forget its beginning")
        kill(server)
        killed = time.time()
        server = start_server(cwd=tmp_path, env=environment)
        wait_for(lambda: dates(server)[-1:] > [killed], "a segment behind the kill")
        end = dates(server)[-1] + 3
        assert put(server, [{"id": "long", "start": start, "end": end}]).status_code == 200
        wait_for(lambda: len(recordings(server)) == 2, "the recording of the programme", seconds=90)
        wait_for(lambda: dates(server)[0] > start + 3, "the DVR")
        whole = playlist(server, "long")
        assert whole is not None
        assert whole.is_endlist
        found = numbers(whole)
        holes = sum(after != before + 1 for before, after in itertools.pairwise(found))
        assert holes <= sum(one.discontinuity for one in whole.segments)
        # Numbers go on where they were, however long the restart takes.
        first, last = begin_of(whole.segments[0]), begin_of(whole.segments[-1])
        assert first <= start + 0.001
        assert last + whole.segments[-1].duration >= end - 0.1
        master = f"{server.url}/live/a/master.m3u8?programme=long"
        assert httpx.get(master, timeout=60).status_code == 302
        # What was on its way to S3 when the server was killed is a gap.
        played = [one for one in whole.segments if not one.gap_tag]
        assert pictures(master) == sum(round(one.duration * RATE) for one in played)
        pending = tmp_path / "data" / "live" / "a" / "pending"
        wait_for(lambda: not pending.exists(), "nothing to be left of what was collected")
    finally:
        server.stop()
    assert "Traceback" not in server.text()
    assert SECRET not in server.text()


def test_a_span_waits_while_s3_is_away_and_lacks_nothing(
    s3_server: S3Server, s3_proxy: S3Proxy, tmp_path: Path
) -> None:
    configure(tmp_path, 'dvr = "10m"', server=f'dvr_path = "s3://{BUCKET}/away"\n')
    server = start_server(cwd=tmp_path, env=s3_server.environment(s3_proxy.url))
    try:
        wait_for(lambda: len(live(server).segments) > 10, "segments that have left memory")
        begin = dates(server)[1] + 0.5
        with s3_proxy.refusing():
            end = dates(server)[-1] + 2.5
            wait_for(lambda: dates(server)[-1] > end + 16, "the time for which late segments are waited for")
            answer = keep(server, begin, end)
            assert (answer.status_code, answer.json()["state"]) == (202, "waiting")
            assert recordings(server) == []
            wait_for(
                lambda: "S3" in str(httpx.get(f"{server.url}/health", timeout=60).json().get("troubles")),
                "the trouble",
            )
        wait_for(lambda: recordings(server), "the recording", seconds=90)
        kept = m3u8_of(server.url, recordings(server)[0]["id"])
        listed = [one for one, date in zip(numbers(live(server)), dates(server), strict=True) if date < end]
        assert numbers(kept) == [one for one in listed if one >= numbers(kept)[0]]
        assert not any(one.gap_tag for one in kept.segments)
        assert not any(one.discontinuity for one in kept.segments)
    finally:
        server.stop()
    assert "Traceback" not in server.text()
