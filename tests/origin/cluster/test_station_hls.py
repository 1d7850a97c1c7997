"""HLS and DASH of a station in a cluster: begun at any node, the same at all, and gone on with by another."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from tests.conftest import ServerProcess, start_server
from tests.origin.cluster.nodes import next_number, nodes, segments
from tests.redis_server import RedisServer
from tests.waiting import wait_for

STATION = """
[[radio]]
name = "one.mp3"
folder = "{folder}"
hls_bitrates = [48]

[[events]]
name = "news"
include = ["live/one.mp3"]

[limits]
hls_idle_seconds = {idle}
"""
ADDRESS = "/live/one.mp3"


def made(folder: Path) -> str:
    """Make the station's only track; its place is known to packagers alone."""
    music = folder / "music"
    music.mkdir()
    sound = ["-f", "lavfi", "-i", "sine=duration=30", "-ac", "2", "-b:a", "128k", "-metadata", "title=Tone"]
    track = str(music / "tone.mp3")
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *sound, track], check=True)
    return str(music)


@contextlib.contextmanager
def late_edge(folder: Path, workers: int) -> Iterator[ServerProcess]:
    """Run one more edge with the configuration of the others."""
    env = {"HEADWATER_CLUSTER_ROLE": "edge", "HEADWATER_SERVER_WORKERS": str(workers)}
    one = start_server("--config", str(folder / "headwater.toml"), "--port", "0", cwd=folder, env=env)
    try:
        yield one
    finally:
        one.stop()


# Making one for each request would take longer than the request.
CLIENT = httpx.Client(timeout=30, limits=httpx.Limits(max_keepalive_connections=0))


def get(one: ServerProcess, path: str) -> httpx.Response:
    return CLIENT.get(f"{one.url}{path}")


def owns(one: ServerProcess) -> bool:
    return 'headwater_cluster_owner{channel="one.mp3"} 1.0' in get(one, "/metrics").text


def playlist(one: ServerProcess, query: str = "") -> str:
    """Give the media playlist; empty where it has to be asked for again."""
    answer = get(one, f"{ADDRESS}/48k/media.m3u8{query}")
    assert answer.status_code in (200, 503)
    return answer.text if answer.status_code == 200 else ""


def breaks(text: str) -> int:
    """Give the discontinuity sequence number of a playlist's last segment."""
    sequence = text.partition("#EXT-X-DISCONTINUITY-SEQUENCE:")[2].partition("\n")[0]
    return int(sequence or 0) + text.splitlines().count("#EXT-X-DISCONTINUITY")


def numbers(text: str) -> list[int]:
    return [int(name.partition(".")[0]) for name in segments(text)]


def told_viewers(one: ServerProcess) -> list[int]:
    """Read how many viewers the packager that is heard has told of."""
    events = get(one, "/events/news?since=0-0").json()
    return [json.loads(each["data"])["viewers"] for each in events if each["event"] == "viewers"]


def state(one: ServerProcess) -> object:
    return get(one, "/health").json()["services"]["live/one.mp3"]


def encodes(one: ServerProcess) -> bool:
    return any(b"output_ts_offset" in line for line in one.command_lines().values())


def plays(one: ServerProcess) -> bool:
    return get(one, f"{ADDRESS}/master.m3u8").status_code == 200


def are_same(every: Sequence[ServerProcess], path: str) -> bool:
    answers = [get(one, f"{ADDRESS}/{path}") for one in every]
    return {one.status_code for one in answers} == {200} and len({one.content for one in answers}) == 1


def check_same(every: Sequence[ServerProcess]) -> None:
    """Check that all nodes give the same playlists, manifest, init segment, newest segment and its parts."""
    listed = segments(wait_for(lambda: playlist(every[-1]), "a playlist"))[-1]
    number = listed.partition(".")[0]
    text = playlist(every[-1])
    init = text.rpartition('#EXT-X-MAP:URI="')[2].partition('"')[0]
    media = (listed, f"{number}.0.m4s", init)
    for path in ("master.m3u8", "manifest.mpd", *(f"48k/{name}" for name in media)):
        wait_for(lambda: are_same(every, path), path)  # noqa: B023
    wait_for(lambda: are_same(every, f"48k/media.m3u8?_HLS_msn={int(number) + 1}"), "a playlist")


def test_a_stations_hls_is_the_same_at_each_node(tmp_path: Path, redis_server: RedisServer) -> None:
    channels = STATION.format(folder=made(tmp_path), idle=600)
    with nodes(tmp_path, redis_server, "packager", "packager", "edge", channels=channels) as every:
        packagers, edge = every[:2], every[2]
        for one in every:
            assert state(one) == "idle"
            assert get(one, "/api/live").json() == []
            assert get(one, "/api/radio").json()[0]["hls"] == f"{ADDRESS}/master.m3u8"
        # Nobody has asked for it before; packagers are told of it over Redis.
        wait_for(lambda: plays(edge), "what an edge asks for")
        wait_for(lambda: all(map(plays, every)), "the channel everywhere")
        check_same(every)
        assert state(edge) == "live"
        wait_for(lambda: 1 in told_viewers(edge), "the event that tells of viewers")
        assert get(edge, "/api/live").json() == []
        assert get(edge, "/api/radio").json()[0]["viewers"] == 1
        wait_for(lambda: sum(map(owns, packagers)) == 1, "an owner")
        with late_edge(tmp_path, workers=2) as late:
            check_same([*every, late])
            owner, standby = sorted(packagers, key=owns, reverse=True)
            before = breaks(playlist(edge))
            owner.process.kill()
            wait_for(lambda: breaks(playlist(edge)) > before, "what is behind the takeover")
            assert owns(standby)
            left = [standby, edge, late]
            check_same(left)
            # Of titles one is heard, under one ID, whoever has told it.
            ranges = [line for line in playlist(edge).splitlines() if line.startswith("#EXT-X-DATERANGE")]
            assert sum('X-TITLE="Tone"' in line for line in ranges) == 1
            behind = next_number(playlist(standby))
            redis_server.kill()
            try:
                wait_for(lambda: playlist(standby, f"?_HLS_msn={behind}"), "the owner without Redis")
            finally:
                redis_server.start()
            wait_for(lambda: playlist(edge, f"?_HLS_msn={behind}"), "what an edge missed")
            check_same(left)
            found = numbers(playlist(late))
            assert found == list(range(found[0], found[0] + len(found)))
            words = ["-v", "error", "-show_entries", "stream=codec_name,channels", "-of", "csv=p=0"]
            command = ["ffprobe", *words, f"{late.url}{ADDRESS}/master.m3u8"]
            probed = subprocess.run(command, capture_output=True, check=True, timeout=120)
            assert set(probed.stdout.split()) == {b"aac,2"}


def test_a_station_begins_anew_when_it_is_asked_for_again(tmp_path: Path, redis_server: RedisServer) -> None:
    channels = STATION.format(folder=made(tmp_path), idle=10)
    with nodes(tmp_path, redis_server, "packager", "edge", channels=channels) as every:
        packager, edge = every
        wait_for(lambda: plays(edge), "what an edge asks for")
        first = wait_for(lambda: playlist(edge), "its playlist")
        # Nobody makes it, and nobody is its owner.
        wait_for(lambda: [state(one) for one in every] == ["idle", "idle"], "the end")
        wait_for(lambda: not owns(packager), "the lease's end")
        wait_for(lambda: not encodes(packager), "the encoder's end")
        wait_for(lambda: plays(edge), "the next viewer's channel")
        text = wait_for(lambda: playlist(edge), "its playlist")
        assert numbers(text)[0] > numbers(first)[-1]
        assert breaks(text) > breaks(first)
        check_same(every)
        wait_for(lambda: [state(one) for one in every] == ["idle", "idle"], "the end once more")
        redis_server.kill()
        try:
            # A packager needs no Redis for those who ask it.
            wait_for(lambda: plays(packager), "a packager without Redis")
            alone = numbers(wait_for(lambda: playlist(packager), "its playlist"))
            assert alone[0] > numbers(text)[-1]
        finally:
            redis_server.start()
        wait_for(lambda: plays(edge), "the edge behind the outage")
        check_same(every)
        assert numbers(playlist(edge))[-1] >= alone[-1]
