"""The whole server as scripts and other programs meet it: every address, the lists, the metrics."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import m3u8
import pytest

from packager.process.ffmpeg_discovery import Tools
from packager.process.sandbox import missing
from tests.conformance.raw import Client
from tests.conftest import ServerProcess, start_server
from tests.keys import BEARER_LINE
from tests.origin.server.app_requests import fetch, fetch_json, live_is_on, samples
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port
from tests.waiting import wait_for


@pytest.mark.clause("RFC 9112 §8")
def test_who_ends_in_the_middle_of_a_body_is_no_error_of_ours(demo_server: ServerProcess) -> None:
    """Who only sends no more hears 400; who has gone leaves no traceback in the log."""
    host, _, port = demo_server.url.removeprefix("http://").rpartition(":")
    head = f"POST /live/demo/metadata HTTP/1.1\r\nHost: {host}\r\n{BEARER_LINE}\r\n"
    head += "Content-Type: application/json\r\n"
    for still_reads in (True, False):
        with Client((host, int(port))) as client:
            client.send(f"{head}Content-Length: 10\r\n\r\n{{")
            if not still_reads:
                client.reset()
                continue
            client.socket.shutdown(socket.SHUT_WR)
            assert client.answer().status == 400
            assert client.is_closed()
    assert fetch(f"{demo_server.url}/health")[0] == 200
    assert "Traceback" not in demo_server.text()


@pytest.mark.clause("RFC 9110 §7.2", "CWE-601")
@pytest.mark.parametrize("path", ["/api/library/", "/radio/demo.mp3/", "/status-json.xsl/", "/events/demo/"])
def test_no_address_leads_to_where_the_host_field_says(demo_server: ServerProcess, path: str) -> None:
    host, _, port = demo_server.url.removeprefix("http://").rpartition(":")
    with Client((host, int(port))) as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n")
        answer = client.answer()
    # 421 where the server answers to its own names alone, as on loopback.
    assert answer.status in (404, 421)
    assert "elsewhere" not in str(answer.fields) + answer.body.decode()


@pytest.mark.parametrize("method", ["SOURCE", "PUT"])
def test_a_source_client_at_no_station_is_a_line_of_the_log(demo_server: ServerProcess, method: str) -> None:
    """Icecast's mounts are at the top, where a station is only by an alias."""
    host, _, port = demo_server.url.removeprefix("http://").rpartition(":")
    with Client((host, int(port))) as client:
        head = f"{method} /{method}.mp3 HTTP/1.1\r\nHost: {host}\r\nContent-Type: audio/mpeg\r\n"
        client.send(f"{head}Content-Length: 0\r\n\r\n")
        assert client.answer().status == 404
    wait_for(lambda: f"mount=/{method}.mp3" in demo_server.text(), "the line")
    assert "its address is /radio/NAME, or one of the station's aliases" in demo_server.text()


@pytest.mark.promise("/vod/PATH/master.m3u8", "/vod/PATH/manifest.mpd")
@pytest.mark.parametrize(
    ("path", "streams", "seconds"),
    [
        ("/media/film.720p.mp4", {"h264", "aac"}, 72),
        ("/media/mandelbrot.mp4", {"h264", "aac"}, 40),
        ("/vod/film.480p.mp4/master.m3u8", {"h264", "aac"}, 72),
        ("/vod/mandelbrot.mp4/master.m3u8", {"h264", "aac"}, 40),
        ("/vod/film/master.m3u8", {"h264", "aac"}, 72),
        ("/vod/film/manifest.mpd", {"h264", "aac"}, 72),
        ("/live/demo/master.m3u8", {"h264", "aac"}, None),
        ("/radio/demo.mp3", {"mp3"}, None),
    ],
)
def test_another_player_reads_every_address(
    demo_server: ServerProcess, tools: Tools, path: str, streams: set[str], seconds: float | None
) -> None:
    wait_for(lambda: live_is_on(demo_server), what="the channel")
    argv = [
        str(tools.ffprobe),
        "-v",
        "error",
        "-show_entries",
        "stream=codec_name:format=duration",
        "-of",
        "json",
    ]
    result = subprocess.run([*argv, demo_server.url + path], capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert {stream["codec_name"] for stream in found["streams"]} == streams
    if seconds is not None:
        assert float(found["format"]["duration"]) == pytest.approx(seconds, abs=0.1)


def test_the_title_adapts_between_three_renditions_cut_alike(demo_server: ServerProcess) -> None:
    url = f"{demo_server.url}/vod/film/master.m3u8"
    master = m3u8.loads(fetch(url)[2].decode(), uri=url)
    assert [item.stream_info.resolution for item in master.playlists] == [(426, 240), (854, 480), (1280, 720)]
    cuts = []
    for item in master.playlists:
        media = m3u8.loads(fetch(item.absolute_uri)[2].decode())
        cuts.append([segment.duration for segment in media.segments])
    assert cuts[0] == cuts[1] == cuts[2]
    assert sum(cuts[0]) == pytest.approx(72, abs=0.01)


def known_library(server: ServerProcess) -> list[dict[str, Any]]:
    """The list once all files are looked at."""

    def known() -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = fetch_json(f"{server.url}/api/library")
        return items if all(item["playable"] is not None for item in items) else []

    return wait_for(known, "the library's list")


@pytest.mark.promise("/api/library", "/api/live", "/api/radio", "/api/events")
def test_the_lists_name_what_there_is(demo_server: ServerProcess) -> None:
    library = known_library(demo_server)
    assert [(item["kind"], item["path"]) for item in library] == [
        ("title", "film"),
        ("file", "film.240p.mp4"),
        ("file", "film.480p.mp4"),
        ("file", "film.720p.mp4"),
        ("file", "mandelbrot.mp4"),
        ("file", "music/01 Meltwater.mp3"),
        ("file", "music/02 Gravel Bed.mp3"),
        ("file", "music/03 Confluence.mp3"),
        ("file", "river.mkv"),
    ]
    assert all(item["playable"] for item in library)
    river, songs = library[-1], [item for item in library if item["media_type"] == "audio/mpeg"]
    assert [one["language"] for one in river["subtitles"]] == ["en", "de"]
    chapters = fetch_json(demo_server.url + river["chapters"])
    assert [one["titles"][0]["title"] for one in chapters] == ["Spring", "Rapids", "Delta"]
    assert len([item for item in songs if item["cover"]]) == 2
    (found,) = fetch_json(f"{demo_server.url}/api/library?search=TRIBUTARIES")
    assert found["path"] == songs[-1]["path"]
    for item in library:
        assert item in songs or fetch(demo_server.url + item["hls"])[0] == 200
        assert fetch(demo_server.url + item["media"], Range="bytes=0-0")[0] == 206
    (channel,) = fetch_json(f"{demo_server.url}/api/live")
    assert (channel["name"], channel["hls"]) == ("demo", "/live/demo/master.m3u8")
    assert channel["renditions"] == ["720p", "360p", "audio"]
    (station,) = fetch_json(f"{demo_server.url}/api/radio")
    assert (station["name"], station["url"], station["bitrate"]) == ("demo.mp3", "/radio/demo.mp3", 128)
    wait_for(lambda: " - " in fetch_json(f"{demo_server.url}/api/radio")[0]["title"], what="a title")
    (events,) = fetch_json(f"{demo_server.url}/api/events")
    assert (events["name"], events["url"], events["protected"]) == ("demo", "/events/demo", False)
    told = fetch_json(f"{demo_server.url}/events/demo?since=")
    sources = {json.loads(one["data"])["source"] for one in told if one["event"] == "state"}
    assert sources == {"live/demo", "radio/demo.mp3"}


@pytest.mark.promise("/health")
@pytest.mark.timeout(900)
def test_health_says_how_the_services_are(demo_server: ServerProcess) -> None:
    wait_for(lambda: live_is_on(demo_server), what="the channel")
    well = {
        "status": "ok",
        "live": True,
        "ready": True,
        "services": {
            "live/demo": "live",
            "live/demo.mp3": "idle",
            "radio/demo.mp3": "live",
            "events/demo": "live",
        },
        "sandbox": {"complete": not missing(), "missing": missing()},
    }
    # A busy machine may have starved it for a moment, which is told for fifteen seconds.
    wait_for(lambda: fetch_json(f"{demo_server.url}/health") == well, what="all well", seconds=600)


def test_an_answer_to_head_counts_no_bytes(demo_server: ServerProcess) -> None:
    requests = 'headwater_requests_total{area="api",status="200"}'
    sent = 'headwater_sent_bytes_total{area="api"}'
    before = samples(demo_server)
    request = urllib.request.Request(f"{demo_server.url}/api/library", method="HEAD")
    with urllib.request.urlopen(request, timeout=CLIENT_SECONDS) as answer:
        assert int(answer.headers["content-length"]) > 0
    wait_for(lambda: samples(demo_server).get(requests, 0) > before.get(requests, 0), what="the count")
    assert samples(demo_server).get(sent, 0) == before.get(sent, 0)


@pytest.mark.promise("/metrics")
def test_metrics_count_requests_bytes_and_parts(demo_server: ServerProcess) -> None:
    wait_for(lambda: live_is_on(demo_server), what="the channel")
    partial = 'headwater_requests_total{area="media",status="206"}'
    sent = 'headwater_sent_bytes_total{area="media"}'
    before = samples(demo_server)
    assert len(fetch(f"{demo_server.url}/media/film.720p.mp4", Range="bytes=100-1099")[2]) == 1000
    wait_for(lambda: samples(demo_server).get(partial, 0) > before.get(partial, 0), what="the count")
    after = samples(demo_server)
    assert after[partial] == before.get(partial, 0) + 1
    assert after[sent] == before.get(sent, 0) + 1000
    assert after['headwater_live_part_delay_seconds_count{channel="demo"}'] > 0
    assert {name.partition("{")[0] for name in after} >= {
        "headwater_tasks",
        "headwater_loop_lag_seconds",
        "process_resident_memory_bytes",
        "headwater_live_viewers",
        "headwater_live_blocked_requests",
        "headwater_ffmpeg_restarts_total",
        "headwater_radio_listeners",
        "headwater_radio_dropped_total",
        "headwater_events_readers",
        "headwater_events_dropped_total",
    }


def test_unknown_paths_do_not_grow_the_metrics(demo_server: ServerProcess) -> None:
    fetch(f"{demo_server.url}/nothing/0")
    # The first request for metrics counts for the next one, and has samples of its own.
    wait_for(lambda: samples(demo_server))
    before = len(samples(demo_server))
    for number in range(50):
        assert fetch(f"{demo_server.url}/nothing{number}/{number}")[0] == 404
    assert len(samples(demo_server)) == before


@pytest.mark.clause("WHATWG Fetch §3.3")
@pytest.mark.parametrize(
    "path",
    [
        "/media/film.720p.mp4",
        "/vod/film/master.m3u8",
        "/live/demo/master.m3u8",
        "/api/time",
        "/status-json.xsl",
        "/media/no",
    ],
)
def test_pages_of_other_origins_may_read_media(demo_server: ServerProcess, path: str) -> None:
    wait_for(lambda: live_is_on(demo_server), what="the channel")
    _, headers, _ = fetch(demo_server.url + path, Origin="http://elsewhere.example", Range="bytes=0-9")
    assert headers.get_all("access-control-allow-origin") == ["*"]
    exposed = {name.strip().lower() for name in headers["access-control-expose-headers"].split(",")}
    assert {"accept-ranges", "content-length", "content-range", "date", "etag", "icy-name"} <= exposed
    assert headers.get_all("x-content-type-options") == ["nosniff"]


# Ranges and titles, a password, and what players tell of themselves (CTA-5004 §2.1: hls.js, dash.js, Shaka).
ASKED = "range, icy-metadata, authorization, cmcd-object, cmcd-request, cmcd-session, cmcd-status"


def test_a_preflight_for_what_players_send_is_answered(demo_server: ServerProcess) -> None:
    request = urllib.request.Request(
        f"{demo_server.url}/media/film.720p.mp4",
        method="OPTIONS",
        headers={
            "Origin": "http://elsewhere.example",
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": ASKED,
        },
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        allowed = {name.strip().lower() for name in answer.headers["access-control-allow-headers"].split(",")}
        assert set(ASKED.split(", ")) <= allowed
        assert "GET" in answer.headers["access-control-allow-methods"]
        assert answer.headers["access-control-allow-origin"] == "*"


# RFC 9110 §9.3.7: it is asked of the server as a whole, here as libshout 2.4.6 asks for TLS (RFC 2817 §3.1).
def test_options_of_the_server_is_answered_without_the_upgrade(demo_server: ServerProcess) -> None:
    host, _, port = demo_server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), 60) as connection:
        connection.sendall(
            b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: TLS/1.0, HTTP/1.1\r\n\r\n"
        )
        answer = connection.makefile("rb").readline()
    assert answer.startswith(b"HTTP/1.1 204 ")


def test_somebodys_own_folder_is_served_instead_of_the_films(tools: Tools, tmp_path: Path) -> None:
    film = tmp_path / "a holiday" / "beach.mov"
    film.parent.mkdir()
    source = ("-f", "lavfi", "-i", "testsrc2=size=160x90:rate=25:duration=3")
    codec = ("-c:v", "libx264", "-pix_fmt", "yuv420p")
    subprocess.run([str(tools.ffmpeg), "-nostdin", "-v", "error", *source, *codec, str(film)], check=True)
    old = tmp_path / "old.avi"
    subprocess.run([str(tools.ffmpeg), "-nostdin", "-v", "error", *source, str(old)], check=True)
    server = start_server("--demo", "--library", str(tmp_path), "--port", "0")
    try:
        beach, avi = known_library(server)
        assert (beach["path"], beach["playable"]) == ("a holiday/beach.mov", True)
        assert fetch(server.url + beach["hls"])[0] == 200
        assert fetch(server.url + beach["media"])[2] == film.read_bytes()
        assert (avi["playable"], avi["encoded"], beach["encoded"]) == (True, True, False)
        assert fetch(server.url + avi["hls"])[0] == 200
        assert fetch_json(f"{server.url}/api/live")[0]["name"] == "demo"
    finally:
        assert server.stop() == 0


def test_what_is_configured_and_not_served_yet_is_said(tmp_path: Path) -> None:
    config = tmp_path / "headwater.toml"
    with kept_port() as port:
        config.write_text(
            f"""
            [server]
            rtmp_port = {port}
            [library]
            path = "{tmp_path}"
            [[live]]
            name = "studio"
            source = "testsrc"
            ladder = ["240p"]
            publish_key = "sesame"
            takeover = "backup"
            [[radio]]
            name = "public.mp3"
            source = "publish"
            source_password = "opensesame"
            fallback = "nowhere.mp3"
            """
        )
        server = start_server("--config", str(config), "--port", "0")
    assert server.stop() == 0
    text = server.text()
    keys = ("server.rtmp_port", "live 'studio'", "takeover", f"fallback '{tmp_path}/nowhere.mp3'")
    assert not [key for key in keys if key not in text]
    assert "sesame" not in text


@pytest.mark.parametrize("length", [None, 10_000_000])
def test_only_bytes_that_went_out_are_counted(demo_server: ServerProcess, length: int | None) -> None:
    """A player that seeks leaves most of a file unsent."""
    host, port = demo_server.url.removeprefix("http://").split(":")
    before = samples(demo_server)
    name = 'headwater_sent_bytes_total{area="media"}'
    span = "" if length is None else f"Range: bytes=0-{length - 1}\r\n"
    with socket.create_connection((host, int(port))) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        client.sendall(f"GET /media/film.720p.mp4?{length} HTTP/1.1\r\nHost: x\r\n{span}\r\n".encode())
        assert client.recv(4096)
    wait_for(lambda: samples(demo_server).get(name, 0) > before.get(name, 0), what="the count")
    assert samples(demo_server)[name] - before.get(name, 0) < 9_000_000


@pytest.mark.clause("RFC 9110 §8.8.1")
def test_what_is_still_changing_is_asked_for_again_each_time(tmp_path: Path) -> None:
    """Its weak tag becomes a strong one; a cache that kept it would never join the two."""
    new = tmp_path / "new.mp4"
    new.write_bytes(b"0123456789")
    server = start_server("--library", str(tmp_path), "--port", "0")
    try:
        # Changed a moment ago, however long it takes to ask.
        os.utime(new, (time.time() + 3600, time.time() + 3600))
        status, headers, _ = fetch(f"{server.url}/media/new.mp4")
        assert (status, headers["etag"][:2], headers["cache-control"]) == (200, "W/", "no-cache")
        new.write_bytes(b"9876543210")
        wait_for(lambda: fetch(f"{server.url}/media/new.mp4")[1]["etag"][0] == '"', what="a strong tag")
        assert fetch(f"{server.url}/media/new.mp4")[1]["cache-control"] == "public, max-age=3600"
    finally:
        assert server.stop() == 0
