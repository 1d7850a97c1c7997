"""Live channels over HTTP, from a real ffmpeg and a real server: what players, caches and m3u8 see."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import m3u8
import pytest

from origin.http.negotiation import accepts_gzip
from packager.live.channel import Channel
from packager.live.options import ChannelOptions
from packager.process.ffmpeg_discovery import Tools
from tests.live_server import LiveServer, broadcasting
from tests.packager import films
from tests.patience import CLIENT_SECONDS, LIVE, PATIENCE_SECONDS, REQUESTS
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)

NAMES = ("360p", "240p", "audio")
OPTIONS = ChannelOptions(
    "test",
    ladder=("360p", "240p"),
    part_duration=0.25,
    segment_duration=1.0,
    # Who asks late finds what was there when it looked.
    dvr_window=30,
    # Nobody is forgotten while we are late.
    limits=replace(
        LIVE,
        publish=replace(REQUESTS, viewer_target_durations=round(PATIENCE_SECONDS)),
    ),
)
SOON_SECONDS = 60.0
"""Far less than what isn't answered at once is waited for here."""


@pytest.fixture(scope="module")
def live(tools: Tools) -> Iterator[LiveServer]:
    """A channel whose ffmpeg may be late, and whose requests wait for it."""
    with broadcasting(Channel(OPTIONS, tools)) as server:
        wait_for(lambda: server.channel.ready, "the channel")
        yield server


@pytest.fixture
def client(live: LiveServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=live.url + "/", timeout=CLIENT_SECONDS) as client:
        yield client


def playlist(client: httpx.Client, name: str = "360p", query: str = "") -> str:
    response = client.get(f"{name}/media.m3u8{query}")
    assert response.status_code == 200, response.text
    return response.text


def newest(text: str) -> tuple[int, int]:
    """Media sequence number and index of the part that the playlist hints at."""
    hint = re.search(r'PRELOAD-HINT:TYPE=PART,URI="(\d+)\.(\d+)\.m4s"', text)
    assert hint is not None
    return int(hint[1]), int(hint[2])


def settled(client: httpx.Client) -> str:
    """Give the playlist of a channel whose ffmpeg was stopped, once what was in its pipes has been read."""
    texts = [playlist(client) for _ in range(5)]
    return texts[0] if len(set(texts)) == 1 else ""


@pytest.mark.clause("RFC 8216bis §6.2.4 SHOULD 1")
def test_the_m3u8_package_reads_every_playlist(client: httpx.Client) -> None:
    response = client.get("master.m3u8")
    assert response.headers["content-type"] == "application/vnd.apple.mpegurl"
    master = m3u8.loads(response.text)
    assert [variant.uri for variant in master.playlists] == ["360p/media.m3u8", "240p/media.m3u8"]
    for variant in master.playlists:
        # constrained baseline by x264's ultrafast and zerolatency
        assert re.fullmatch(r"avc1\.42c0[0-9a-f]{2},mp4a\.40\.2", variant.stream_info.codecs)
        assert variant.stream_info.bandwidth > 100_000
    for name in NAMES:
        media = m3u8.loads(playlist(client, name))
        assert media.part_inf.part_target == 0.256  # twelve frames of AAC at 48 kHz
        assert media.target_duration == 1
        assert media.segments
        assert all(segment.duration < 1.5 for segment in media.segments if segment.uri)


def test_parts_are_gap_free_to_the_tick_and_make_up_their_segments(
    client: httpx.Client, tmp_path: Path
) -> None:
    number = newest(playlist(client))[0]
    for name in NAMES:
        text = playlist(client, name, f"?_HLS_msn={number}")
        init = re.search(r'EXT-X-MAP:URI="([^"]+)"', text)
        assert init is not None
        parts = re.findall(r'#EXT-X-PART:DURATION=([0-9.]+),URI="([^"]+)"', text)
        whole = client.get(f"{name}/{init[1]}").content
        for _, uri in parts:
            whole += client.get(f"{name}/{uri}").content
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(whole)
        found = films.probe(path, "-show_entries", "packet=dts")["packets"]
        # a frame of picture in ffmpeg's timescale of 15,360, one of sound at 48 kHz
        ticks = 1024 if name == "audio" else 512
        assert {following["dts"] - packet["dts"] for packet, following in itertools.pairwise(found)} == {
            ticks
        }
        assert sum(float(duration) for duration, _ in parts) == pytest.approx(
            len(found) * ticks / (48000 if name == "audio" else 15360), abs=1e-4
        )
        first = int(parts[0][1].split(".")[0])
        same = b"".join(
            client.get(f"{name}/{uri}").content for _, uri in parts if uri.startswith(f"{first}.")
        )
        assert client.get(f"{name}/{first}.m4s").content == same


@pytest.mark.clause("RFC 8216bis §6.2.1 SHOULD 1", "RFC 8216bis §6.2.4 MUST 2", "RFC 8216bis §6.2.4 MUST 2b")
def test_segments_of_all_renditions_begin_at_the_same_time_within_a_frame(
    client: httpx.Client, tmp_path: Path
) -> None:
    number = newest(playlist(client))[0]
    times = []
    for name in NAMES:
        text = playlist(client, name, f"?_HLS_msn={number}")
        init = re.findall(r'EXT-X-MAP:URI="([^"]+)"', text)[-1]
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(client.get(f"{name}/{init}").content + client.get(f"{name}/{number}.m4s").content)
        command = ["ffprobe", "-v", "error", "-show_entries", "packet=dts_time,flags", "-of", "json"]
        answer = subprocess.run([*command, str(path)], check=True, capture_output=True).stdout
        first = json.loads(answer)["packets"][0]
        assert first["flags"].startswith("K")
        times.append(float(first["dts_time"]))
        dates = re.findall(rf"DATE-TIME:(\S+)\n(?:#EXT-X-PART\S+\n)*#EXTINF:\S+\n{number}\.m4s", text)
        assert len(dates) == 1
    assert times[0] == times[1] == number
    assert 0 <= times[2] - times[0] <= 1024 / 48000 + 1e-6


@pytest.mark.clause("RFC 8216bis §6.2.1 MUST 22", "RFC 8216bis §6.2.4 MUST 2h")
def test_dates_agree_between_renditions_and_with_the_wall_clock(client: httpx.Client) -> None:
    number, part = newest(playlist(client))
    dates = []
    for name in NAMES:
        text = playlist(client, name, f"?_HLS_msn={number}&_HLS_part={part}")
        segments = m3u8.loads(text).segments
        dates.append(next(one.program_date_time for one in segments if one.uri == f"{number - 1}.m4s"))
    assert abs(dates[0] - dates[1]).total_seconds() == 0
    assert abs(dates[0] - dates[2]).total_seconds() < 0.034
    # The part that is there since just now ended just now. A starved machine is late, and so were its first
    # dates, which then are corrected by less than a frame a segment.
    wait_for(lambda: -0.1 < lateness(client) < 0.6, what="a part at its date")


def lateness(client: httpx.Client) -> float:
    """Seconds from the end of a part, by the playlist's date, to its being there."""
    number, _ = newest(playlist(client))
    text = playlist(client, "360p", f"?_HLS_msn={number + 1}&_HLS_part=0")
    now = time.time()
    segment = next(one for one in m3u8.loads(text).segments if one.uri == f"{number}.m4s")
    began: float = segment.program_date_time.timestamp()
    return now - (began + 1.0 + 0.267)


@pytest.mark.clause("RFC 8216bis §6.2.1 MUST 21", "RFC 8216bis §6.2.5.2 MUST 2")
def test_a_request_for_the_next_part_blocks_until_the_playlist_contains_it(client: httpx.Client) -> None:
    held = 0
    while held < 5:
        number, part = newest(playlist(client))
        text = playlist(client, "360p", f"?_HLS_msn={number}&_HLS_part={part}")
        assert newest(text) > (number, part)
        # Who asks two segments late finds no parts of that one any more.
        if newest(text)[0] < number + 2:
            assert f'URI="{number}.{part}.m4s"' in text.replace("PRELOAD-HINT:TYPE=PART,URI", "")
            held += 1


@pytest.mark.clause("RFC 8216bis §6.2.5.2 MUST 1")
def test_a_request_for_a_segment_blocks_until_it_is_whole(client: httpx.Client) -> None:
    number, _ = newest(playlist(client))
    assert f"\n{number}.m4s\n" in playlist(client, "240p", f"?_HLS_msn={number}")


def test_all_who_wait_for_a_part_get_the_same_bytes(live: LiveServer, client: httpx.Client) -> None:
    pid = live.channel.pid
    assert pid is not None
    # Nothing comes before all of them wait, however long that takes.
    os.kill(pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(20) as pool:
            number, part = newest(wait_for(lambda: settled(client), what="what was on its way"))
            number += 2 if part else 1  # two beyond the newest part's
            url = f"360p/media.m3u8?_HLS_msn={number}&_HLS_part=0"
            requests = [pool.submit(client.get, url) for _ in range(20)]
            wait_for(lambda: live.channel.stream.blocked >= 20, what="twenty blocked requests")
            os.kill(pid, signal.SIGCONT)
            answers = {request.result().text for request in requests}
    finally:
        os.kill(pid, signal.SIGCONT)
    assert len(answers) == 1
    # Of a segment that is long whole, where much came at once, no parts are listed.
    assert re.search(rf'#EXT-X-PART:.*URI="{number}\.0\.m4s"|^{number}\.m4s$', answers.pop(), re.MULTILINE)


def test_a_number_that_has_left_the_window_gets_the_current_playlist_at_once(client: httpx.Client) -> None:
    assert newest(playlist(client, "360p", "?_HLS_msn=5&_HLS_part=3"))


@pytest.mark.parametrize(
    "query", ["_HLS_part=0", "_HLS_msn=abc", "_HLS_msn=-1", "_HLS_msn=1000000000000", "_HLS_msn=1&_HLS_msn=2"]
)
def test_impossible_directives_are_bad_requests(client: httpx.Client, query: str) -> None:
    response = client.get(f"360p/media.m3u8?{query}")
    assert response.status_code == 400
    assert response.text.count("\n") == 1


@pytest.mark.clause("RFC 8216bis §6.2.6 MUST 2")
def test_the_hinted_part_is_held_and_then_whole_and_unknown_ones_are_not_found(client: httpx.Client) -> None:
    number, part = newest(playlist(client))
    response = client.get(f"360p/{number}.{part}.m4s")
    assert response.status_code == 200
    assert response.content[4:8] == b"moof"
    assert client.get(f"360p/{number}.{part}.m4s").content == response.content
    for name in (
        # Far ahead: neither are we so late that this one could be there, nor is any encoder so late that it
        # could be due.
        f"{number + 5000}.0.m4s",
        f"{number - 1}.99.m4s",
        f"{number + 5000}.m4s",
        "init-1.mp4",
        "01.m4s",
        "x",
    ):
        begin = time.monotonic()
        assert client.get(f"360p/{name}").status_code == 404
        assert time.monotonic() - begin < SOON_SECONDS


@pytest.mark.clause("RFC 8216bis §6.2.1 SHOULD 4")
@pytest.mark.parametrize(
    ("field", "accepted"),
    [
        ("gzip", True),
        ("deflate, gzip, br", True),
        ("GZIP;q=0.001", True),
        ("*", True),
        ("", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000, br", False),
        ("*, gzip;q=0", False),
        ("*;q=0, gzip", True),
        ("xgzip", False),
    ],
)
def test_gzip_is_sent_to_who_accepts_it(field: str, accepted: bool) -> None:
    assert accepts_gzip(field) == accepted


def test_nothing_is_found_where_no_channel_or_rendition_is(live: LiveServer, client: httpx.Client) -> None:
    root = live.url.removesuffix("/test")
    for path in ("other/master.m3u8", "other/360p/media.m3u8", "test/144p/media.m3u8", "test/144p/1.m4s"):
        assert httpx.get(f"{root}/{path}", timeout=CLIENT_SECONDS).status_code == 404


def test_playlists_are_compressed_on_request_and_segments_never(client: httpx.Client) -> None:
    plain = client.get("360p/media.m3u8", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.headers["vary"] == "Accept-Encoding"
    coded = client.get("360p/media.m3u8", headers={"accept-encoding": "br, gzip;q=0.5"})
    assert coded.headers["content-encoding"] == "gzip"
    assert coded.text.startswith("#EXTM3U")
    refused = client.get("360p/media.m3u8", headers={"accept-encoding": "gzip;q=0"})
    assert "content-encoding" not in refused.headers
    number = newest(plain.text)[0]
    segment = client.get(f"360p/{number - 1}.m4s", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in segment.headers


@pytest.mark.clause("RFC 8216bis §6.2.2 SHOULD 2")
def test_segments_have_ranges_strong_tags_and_a_long_life(client: httpx.Client) -> None:
    number = newest(playlist(client))[0] - 1
    whole = client.get(f"360p/{number}.m4s")
    assert whole.headers["content-type"] == "video/mp4"
    assert re.fullmatch(r'"[^"]+"', whole.headers["etag"])
    # fetchable for the playlist's time and as long again
    assert re.fullmatch(r"public, max-age=\d\d, immutable", whole.headers["cache-control"])
    assert "age" not in whole.headers
    some = client.get(f"360p/{number}.m4s", headers={"range": "bytes=10-19"})
    assert some.status_code == 206
    assert some.content == whole.content[10:20]
    head = client.head(f"360p/{number}.m4s")
    assert head.headers["content-length"] == str(len(whole.content))
    same = client.get(f"360p/{number}.m4s", headers={"if-none-match": whole.headers["etag"]})
    assert same.status_code == 304
    sound = client.get(f"audio/{number}.m4s")
    assert sound.headers["content-type"] == "audio/mp4"


def test_caches_may_keep_playlists_by_appendix_b(client: httpx.Client) -> None:
    number, part = newest(playlist(client))
    kept = {
        "master.m3u8": "public, max-age=1",
        "360p/media.m3u8": "public, max-age=1",
        f"360p/media.m3u8?_HLS_msn={number}&_HLS_part={part}": "public, max-age=6",
        "360p/media.m3u8?_HLS_msn=999999999999": "public, max-age=4",
    }
    for path, value in kept.items():
        assert client.get(path).headers["cache-control"] == value


def test_tokens_are_carried_onto_the_uris_and_can_not_break_out_of_them(client: httpx.Client) -> None:
    number, _ = newest(playlist(client))
    text = playlist(client, "360p", f"?token=a%22%0d%0a%3Cscript&_HLS_msn={number}&_HLS_part=0")
    uris = re.findall(r'URI="([^"]+)"', text) + re.findall(r"^[^#].*$", text, re.MULTILINE)
    assert len(uris) > 5
    assert {uri.partition("?")[2] for uri in uris} == {"token=a%22%0D%0A%3Cscript"}
    assert "_HLS_" not in text


def test_ffmpeg_plays_the_channel_and_each_rendition(live: LiveServer) -> None:
    def play(name: str) -> str:
        command = [
            "ffmpeg",
            "-nostdin",
            "-v",
            "error",
            # It asks again for as long as the encoder may be late.
            "-max_reload",
            "10000",
            "-i",
            f"{live.url}/{name}",
            "-t",
            "3",
            "-f",
            "null",
            "-",
        ]
        return subprocess.run(command, check=True, capture_output=True, timeout=240, text=True).stderr

    names = ["master.m3u8", *(f"{name}/media.m3u8" for name in NAMES)]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(play, names)) == [""] * 4


def test_who_fetches_playlists_is_counted_as_a_viewer(live: LiveServer) -> None:
    before = live.channel.stream.viewers
    for agent in ("one", "two", "two"):
        url, headers = f"{live.url}/360p/media.m3u8", {"user-agent": agent}
        assert httpx.get(url, headers=headers, timeout=CLIENT_SECONDS).status_code == 200
    assert live.channel.stream.viewers == before + 2


def test_a_channel_tells_its_state(live: LiveServer, client: httpx.Client) -> None:
    assert client.get("master.m3u8").status_code == 200
    assert live.channel.state == "live"
    assert list(live.channel.renditions) == list(NAMES)
    assert live.channel.restarts == 0
