"""Spans of a channel's past as one file, as ffmpeg, curl and caches get them."""

from __future__ import annotations

import json
import math
import random
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import m3u8
import pytest

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import HERTZ, RATE, copied_channel
from tests.e2e.station_tones import tone
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

SEGMENTS = 8
FRAME = 1 / RATE
SPANS = 12
SIZES = ("320x180", "640x360")
MOST_OVERLAP = 0.46


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Serve a channel that was restarted, so that it has a gap and a discontinuity."""
    folder = tmp_path_factory.mktemp("clips")
    config = '[server]\nport = 0\ndata = "data"\n[limits]\nclip_hours = 1\n'
    (folder / "headwater.toml").write_text(
        config + copied_channel("a", 'dvr = "1h"', "segment_duration = 1.0", "part_duration = 0.25")
    )
    before = start_server(cwd=folder)
    wait_for(lambda: len(live(before).segments) > SEGMENTS, "some segments")
    assert before.stop() == 0
    with start_server(cwd=folder) as running:
        wait_for(lambda: behind_the_restart(running) > SEGMENTS, "segments behind the restart")
        yield running


def behind_the_restart(server: ServerProcess) -> int:
    segments = live(server).segments
    begins = [index for index, one in enumerate(segments) if one.discontinuity]
    return len(segments) - begins[-1] if begins else 0


def address(server: ServerProcess, name: str = "") -> str:
    return f"{server.url}/live/a/{name}"


def live(server: ServerProcess) -> m3u8.M3U8:
    text = httpx.get(address(server, "source/media.m3u8"))
    return m3u8.loads(text.text) if text.status_code == 200 else m3u8.loads("#EXTM3U\n")


@dataclass(frozen=True)
class Picture:
    """A picture of the channel: its date, and a hash of its packet."""

    date: float
    packet: str


def ffprobe(*arguments: str) -> dict[str, Any]:
    command = ["ffprobe", "-v", "error", *arguments, "-of", "json"]
    done = subprocess.run(command, check=True, capture_output=True, timeout=CLIENT_SECONDS)
    return dict(json.loads(done.stdout))


def packets(path: Path, stream: str = "v") -> list[dict[str, Any]]:
    shown = ("-select_streams", stream, "-show_packets", "-show_data_hash", "md5")
    return list(ffprobe(*shown, str(path))["packets"])


@pytest.fixture(scope="module")
def pictures(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> list[Picture]:
    """Read all pictures of the channel from its segments, by ffprobe, with the dates of the playlist."""
    folder, found = tmp_path_factory.mktemp("segments"), list[Picture]()
    for one in live(server).segments:
        if one.uri is None or one.gap_tag:
            continue
        base = address(server, "source/")
        data = httpx.get(base + one.init_section.uri).content + httpx.get(base + one.uri).content
        (folder / "segment.mp4").write_bytes(data)
        read = packets(folder / "segment.mp4")
        begin = float(read[0]["pts_time"])
        date = one.program_date_time.timestamp()
        found += [Picture(date + float(two["pts_time"]) - begin, two["data_hash"]) for two in read]
    return sorted(found, key=lambda picture: picture.date)


def clip(server: ServerProcess, start: float, end: float, path: Path, name: str = "clip.mp4") -> Path:
    answer = httpx.get(address(server, f"{name}?start={start:.4f}&end={end:.4f}"), timeout=CLIENT_SECONDS)
    assert answer.status_code == 200, answer.text
    assert int(answer.headers["content-length"]) == len(answer.content)
    path.write_bytes(answer.content)
    return path


def shown(path: Path) -> list[dict[str, Any]]:
    """Decode a clip, and return the pictures that the edit list shows."""
    return list(ffprobe("-select_streams", "v", "-show_frames", str(path))["frames"])


def hashes(path: Path, *arguments: str) -> list[str]:
    """Decode pictures by ffmpeg, and return a hash of each."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(path), *arguments, "-map", "0:v"]
    command += ["-fps_mode", "passthrough", "-f", "framemd5", "-"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=CLIENT_SECONDS)
    return [line.rpartition(",")[2].strip() for line in done.stdout.splitlines() if line[:1] != "#"]


def spans_of(dates: list[float]) -> list[tuple[float, float]]:
    """Return random spans, whose bounds aren't near the date of a picture."""
    chosen = random.Random(41)
    found = []
    for _ in range(SPANS):
        first, last = sorted(chosen.sample(range(len(dates) - 1), 2))
        found.append((dates[first] + FRAME / 2, dates[last] + FRAME / 2))
    return found


def test_random_spans_show_their_pictures_over_a_restart(
    server: ServerProcess, pictures: list[Picture], tmp_path: Path
) -> None:
    dates = [one.date for one in pictures]
    for start, end in spans_of(dates):
        expected = [one for one in pictures if start < one.date < end]
        path = clip(server, start, end, tmp_path / "clip.mp4")
        frames = shown(path)
        assert len(frames) == len(expected), (start, end)
        # Pauses are left out, as in HLS.
        times = [float(one["pts_time"]) for one in frames]
        assert times == pytest.approx([index * FRAME for index in range(len(frames))], abs=FRAME / 2)
        told = ffprobe("-show_streams", "-show_format", str(path))
        assert float(told["format"]["duration"]) == pytest.approx(len(expected) * FRAME, abs=FRAME)
        # The packets are those of the channel: what is decoded and not shown comes with them.
        flagged = packets(path)
        assert [one["data_hash"] for one in flagged if "D" not in one["flags"]] == [
            one.packet for one in expected
        ]
        sound = packets(path, "a")
        heard = sum(float(one["duration_time"]) for one in sound if "D" not in one["flags"])
        assert heard == pytest.approx(len(expected) * FRAME, abs=2 * FRAME + 2 * 1024 / HERTZ)


def test_a_clip_has_what_ffmpeg_cuts_at_the_same_times(
    server: ServerProcess, pictures: list[Picture], tmp_path: Path
) -> None:
    segments = [one for one in live(server).segments if one.uri and not one.gap_tag][1:6]
    begin = segments[0].program_date_time.timestamp()
    start, end = begin + 2.75 * FRAME, begin + 4 + 5.75 * FRAME
    base = address(server, "source/")
    names = [segments[0].init_section.uri, *(one.uri for one in segments)]
    whole = tmp_path / "whole.mp4"
    whole.write_bytes(b"".join(httpx.get(base + name).content for name in names))
    # ffmpeg counts from the first picture, and rounds times of what it writes to whole pictures.
    cut = hashes(whole, "-ss", f"{start - begin:.4f}", "-to", f"{end - begin:.4f}")
    ours = hashes(clip(server, start, end, tmp_path / "clip.mp4"))
    assert len(ours) == len([one for one in pictures if start < one.date < end]) == 51
    assert ours == cut


def test_ranges_are_those_of_the_whole(
    server: ServerProcess, pictures: list[Picture], tmp_path: Path
) -> None:
    start, end = pictures[5].date, pictures[80].date
    url = address(server, f"clip.mp4?start={start:.3f}&end={end:.3f}")
    whole = httpx.get(url, timeout=CLIENT_SECONDS)
    tag, size = whole.headers["etag"], len(whole.content)
    assert not tag.startswith("W/")
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.headers["accept-ranges"] == "bytes"
    name = whole.headers["content-disposition"]
    assert re.fullmatch(r'attachment; filename="a-[0-9]{8}T[0-9]{6}Z-6s\.mp4"', name), name
    assert httpx.head(url, timeout=CLIENT_SECONDS).headers["content-length"] == str(size)
    chosen = random.Random(7)
    edges = [0, size // 2, *(chosen.randrange(size) for _ in range(12))]
    for first in edges:
        last = min(first + chosen.randrange(1, 300_000), size) - 1
        path = tmp_path / "range"
        words = ["curl", "-sf", "-r", f"{first}-{last}", "-o", str(path), url]
        subprocess.run(words, check=True, timeout=CLIENT_SECONDS)
        assert path.read_bytes() == whole.content[first : last + 1], (first, last)

    def ask(**fields: str) -> httpx.Response:
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        return httpx.get(url, headers=headers, timeout=CLIENT_SECONDS)

    part = ask(range="bytes=1000-1999", if_range=tag)
    assert (part.status_code, part.content) == (206, whole.content[1000:2000])
    assert part.headers["content-range"] == f"bytes 1000-1999/{size}"
    other = ask(range="bytes=1000-1999", if_range='"other"')
    assert (other.status_code, len(other.content)) == (200, size)
    beyond = ask(range=f"bytes={size}-")
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    assert ask(if_none_match=tag).status_code == 304
    assert ask(if_match='"other"').status_code == 412


def test_the_sound_alone_and_a_chosen_rendition_are_files_too(
    server: ServerProcess, pictures: list[Picture], tmp_path: Path
) -> None:
    start, end = pictures[3].date + 0.01, pictures[40].date + 0.01
    for query in (f"clip.m4a?start={start:.3f}", f"clip.mp4?rendition=audio&start={start:.3f}"):
        answer = httpx.get(address(server, f"{query}&end={end:.3f}"), timeout=CLIENT_SECONDS)
        assert answer.headers["content-type"] == "audio/mp4"
        (tmp_path / "sound.m4a").write_bytes(answer.content)
        told = ffprobe("-show_streams", str(tmp_path / "sound.m4a"))
        assert [one["codec_name"] for one in told["streams"]] == ["aac"]
        # Sound is cut at its samples, by the pictures' times: dates follow a busy machine's clock.
        assert float(told["streams"][0]["duration"]) == pytest.approx(37 * FRAME, abs=0.0015)
    source = httpx.head(address(server, f"clip.mp4?rendition=source&start={start:.3f}&end={end:.3f}"))
    best = httpx.head(address(server, f"clip.mp4?start={start:.3f}&end={end:.3f}"))
    assert source.headers["etag"] == best.headers["etag"]
    none = httpx.get(address(server, f"clip.mp4?rendition=1080p&start={start:.3f}&end={end:.3f}"))
    assert (none.status_code, "source, audio" in none.text) == (404, True)


@pytest.mark.parametrize("query", ["start=-6", "start=-6&end=now", "start=-6&end=-2", "start=1000"])
def test_other_times_lead_to_dates_at_which_there_is_a_file(
    server: ServerProcess, query: str, tmp_path: Path
) -> None:
    answer = httpx.get(address(server, f"clip.mp4?{query}&rendition=source&token=mine"))
    if query == "start=1000":
        assert (answer.status_code, "limits.clip_hours" in answer.text) == (400, True)
        return
    assert answer.status_code == 302
    target = urljoin(str(answer.url), answer.headers["location"])
    found = httpx.URL(target).params
    assert (found["rendition"], found["token"]) == ("source", "mine")
    got = httpx.get(target, timeout=CLIENT_SECONDS)
    assert got.status_code == 200, got.text
    (tmp_path / "clip.mp4").write_bytes(got.content)
    seconds = float(found["end"]) - float(found["start"])
    assert 3 <= seconds <= 8
    # Dates follow a busy machine's clock by milliseconds, less than a picture lasts.
    assert len(shown(tmp_path / "clip.mp4")) == round(seconds * RATE)


def test_a_beginning_that_has_left_leads_to_the_oldest(
    server: ServerProcess, pictures: list[Picture]
) -> None:
    end = pictures[20].date
    answer = httpx.get(address(server, f"clip.mp4?start={pictures[0].date - 600:.3f}&end={end:.3f}"))
    assert answer.status_code == 302
    found = httpx.URL(urljoin(str(answer.url), answer.headers["location"])).params
    assert float(found["start"]) == pytest.approx(pictures[0].date, abs=0.002)
    assert float(found["end"]) == pytest.approx(end, abs=0.001)


@pytest.mark.promise("limits.clip_hours")
@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("", 400, "2026-"),
        ("?end=-5", 400, "2026-"),
        ("?start=yesterday&end=now", 400, "2026-"),
        ("?start=-5&end=-10", 400, "behind start"),
        ("?start=-7200&end=-1", 400, "limits.clip_hours"),
        ("?start=2000-01-01T00:00:00Z&end=2000-01-01T00:10:00Z", 404, "kept"),
    ],
)
def test_what_is_no_file_is_refused_with_the_reason(
    server: ServerProcess, query: str, status: int, words: str
) -> None:
    for name in ("clip.mp4", "clip.m4a"):
        answer = httpx.get(address(server, name + query))
        assert (answer.status_code, answer.headers["content-type"]) == (status, "text/plain; charset=utf-8")
        assert words in answer.text


def test_what_is_not_over_is_no_file_yet(server: ServerProcess, pictures: list[Picture]) -> None:
    start = pictures[-1].date - 3
    url = address(server, f"clip.mp4?start={start:.3f}&end={time.time() + 2:.3f}")
    assert httpx.get(url).status_code == 404
    wait_for(lambda: httpx.get(url, timeout=CLIENT_SECONDS).status_code == 200, "the end of the span")


def test_a_clip_is_the_same_after_a_restart_and_may_be_kept_for_ever(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("kept")
    (folder / "headwater.toml").write_text(
        '[server]\nport = 0\ndata = "data"\n'
        + copied_channel("a", 'dvr = "1h"', "segment_duration = 1.0", "part_duration = 0.25")
    )
    running = start_server(cwd=folder)
    wait_for(lambda: len(live(running).segments) > 5, "some segments")
    dates = [one.program_date_time.timestamp() for one in live(running).segments if one.uri]
    query = f"clip.mp4?start={dates[0] + 0.3:.3f}&end={dates[3] + 0.3:.3f}"
    before = httpx.get(address(running, query), timeout=CLIENT_SECONDS)
    assert running.stop() == 0
    running = start_server(cwd=folder)
    wait_for(lambda: len(live(running).segments) > 6, "the channel")
    after = httpx.get(address(running, query), timeout=CLIENT_SECONDS)
    assert running.stop() == 0
    assert (before.status_code, after.status_code) == (200, 200)
    assert after.content == before.content
    assert after.headers["etag"] == before.headers["etag"]


@pytest.mark.parametrize("rate", [1, 1.5])
def test_where_the_size_changes_the_refusal_names_each_stretch(tmp_path: Path, rate: float) -> None:
    (tmp_path / "headwater.toml").write_text(
        '[server]\nport = 0\ndata = "data"\n[[live]]\nname = "studio"\nsource = "publish"\n'
        'publish_key = "sesame"\nladder = ["source"]\ndvr = "1h"\nsegment_duration = 1.0\n'
        "part_duration = 0.25\n"
    )
    server = start_server(cwd=tmp_path)
    base = f"{server.url}/live/studio/"
    try:
        for size in SIZES:
            command = f"ffmpeg -nostdin -v error -readrate {rate}"
            command += f" -f lavfi -i testsrc2=size={size}:rate=24:duration=5"
            command += " -f lavfi -i sine=duration=5 -c:v libx264 -preset ultrafast -g 24 -pix_fmt yuv420p"
            command += f" -c:a aac -f mpegts -method PUT {base}ingest?key=sesame"
            subprocess.run(command.split(), check=True, timeout=240)
            wait_for(
                lambda: httpx.get(f"{server.url}/api/live").json()[0]["state"] != "live", "the stream's end"
            )
        segments = m3u8.loads(httpx.get(base + "source/media.m3u8").text).segments
        # The last one may be open yet, without a date.
        dates = [one.program_date_time.timestamp() for one in segments if one.program_date_time]
        start, end = dates[0], dates[-1]
        refused = httpx.get(f"{base}clip.mp4?start={start:.3f}&end={end:.3f}&rendition=source")
        assert refused.status_code == 409
        reason, *addresses = refused.text.strip().split("\n")
        assert "from 320x180 to 640x360" in reason
        # An encoder that is slow leaves gaps; dates of one that was fast or late reach into the next one's.
        begins: dict[str, float] = {}
        for one, date in zip(segments, dates, strict=False):
            begins.setdefault(one.init_section.uri, date)
        nexts = dict(zip(begins, [*list(begins.values())[1:], math.inf], strict=True))
        kept, ended = Counter[str](), set[str]()
        for one, date in zip(segments, dates, strict=False):
            stretch, behind = one.init_section.uri, date + one.duration
            until = min(nexts[stretch], end)
            # Dates don't find a segment that reaches further into the next stretch.
            if one.gap_tag or stretch in ended or date >= until or behind > nexts[stretch] + MOST_OVERLAP:
                continue
            kept[stretch] += int(24 * min(one.duration, until - date))
            # A clip ends where a date is reached first: that of the next segment may be before it again.
            if behind >= until + 1 / 24:
                ended.add(stretch)
        for size, one, count in zip(SIZES, addresses, kept.values(), strict=True):
            answer = httpx.get(urljoin(base, one), timeout=CLIENT_SECONDS)
            assert answer.status_code == 200, answer.text
            (tmp_path / "clip.mp4").write_bytes(answer.content)
            (video,) = ffprobe("-select_streams", "v", "-show_streams", str(tmp_path / "clip.mp4"))["streams"]
            assert f"{video['width']}x{video['height']}" == size
            assert len(shown(tmp_path / "clip.mp4")) >= count > 0
    finally:
        assert server.stop() == 0


def test_a_stations_last_seconds_are_a_file(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "one.mp3").write_bytes(tone(440, 60))
    (tmp_path / "headwater.toml").write_text(
        '[server]\nport = 0\n[[radio]]\nname = "fm"\nfolder = "music"\nbitrate = 64\n'
    )
    server = start_server(cwd=tmp_path)
    url = f"{server.url}/live/fm/clip.m4a?start=-5"
    try:
        # A station is a channel for as long as somebody plays it as one.
        playing = f"{server.url}/live/fm/master.m3u8"
        wait_for(lambda: httpx.get(playing, timeout=CLIENT_SECONDS).status_code == 200, "the channel")
        wait_for(lambda: httpx.get(url, timeout=CLIENT_SECONDS).status_code == 302, "five seconds")
        answer = httpx.get(url, follow_redirects=True, timeout=CLIENT_SECONDS)
        # The station's own address leads there.
        same = f"{server.url}/radio/fm?{answer.url.query.decode()}"
        led = httpx.get(same, follow_redirects=True, timeout=CLIENT_SECONDS)
        assert (led.url, led.headers["etag"]) == (answer.url, answer.headers["etag"])
        assert httpx.get(f"{server.url}/radio/fm?start=never", follow_redirects=True).status_code == 400
        # A station of MP3 is stored as AAC, too.
        for name in ("clip.mp3", "clip.ogg"):
            none = httpx.get(f"{server.url}/live/fm/{name}?start=-5")
            assert (none.status_code, "clip.m4a" in none.text) == (404, True)
    finally:
        assert server.stop() == 0
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/mp4"), answer.text
    (tmp_path / "clip.m4a").write_bytes(answer.content)
    told = ffprobe("-show_format", "-show_streams", str(tmp_path / "clip.m4a"))
    query = httpx.URL(str(answer.url)).params
    seconds = float(query["end"]) - float(query["start"])
    assert float(told["format"]["duration"]) == pytest.approx(seconds, abs=0.01)
    words = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(tmp_path / "clip.m4a"), "-f", "null", "-"]
    assert subprocess.run(words, capture_output=True, check=True, timeout=CLIENT_SECONDS).stderr == b""
