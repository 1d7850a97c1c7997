"""Publishers make channels by a pattern, over each protocol; they are played, recorded, kept, and ended."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from origin.access.address_tokens import SigningKeys, expiry
from tests.changing_server import DATA, ChangingServer, changing_server
from tests.copied_channel import film
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port
from tests.processes import end
from tests.srt import udp_port
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)

KEY = "a-key-of-the-rooms"
ROOMS = f'[[live]]\nname = "room/*"\nsource = "publish"\nladder = ["source"]\npublish_key = "{KEY}"\n'
RECORDED = ROOMS + 'dvr = "1h"\nrecord = "publications"\n'
SIGNING = "made:a-secret-of-this-server"


def ports(text: str, rtmp: int, srt: int = 0) -> str:
    return text.replace("rtmp_port = 0", f"rtmp_port = {rtmp}\nsrt_port = {srt}")


@contextlib.contextmanager
def publishing(*output: str) -> Iterator[subprocess.Popen[bytes]]:
    """Publish the film at its own pace while the block runs."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-re", "-i", str(film()), "-c", "copy", *output]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        end(process)


def over_http(server: ChangingServer, room: str, key: str = KEY) -> list[str]:
    return ["-f", "mpegts", "-method", "PUT", f"{server.url}/live/{room}/ingest?key={key}"]


def get(server: ChangingServer, path: str) -> httpx.Response:
    return httpx.get(f"{server.url}{path}", timeout=CLIENT_SECONDS)


def playlist(server: ChangingServer, room: str, token: str = "") -> str:
    answer = get(server, f"{token and '/t/'}{token}/live/{room}/source/media.m3u8")
    return answer.text if answer.status_code == 200 and "#EXTINF" in answer.text else ""


def plays(server: ChangingServer, room: str, token: str = "") -> str:
    return wait_for(lambda: playlist(server, room, token), what=f"segments of {room}")


def rooms(server: ChangingServer) -> set[str]:
    return {name for name in server.states() if name.startswith("live/")}


@pytest.mark.promise("live.name")
def test_publishers_make_channels_over_each_protocol(tmp_path: Path) -> None:
    srt = udp_port()
    with kept_port() as rtmp, changing_server(tmp_path, ports(DATA, rtmp, srt) + ROOMS) as server:
        assert rooms(server) == set()
        ways = {
            "room/by-http": over_http(server, "room/by-http"),
            "room/by-rtmp": ["-f", "flv", f"rtmp://127.0.0.1:{rtmp}/live/room/by-rtmp?key={KEY}"],
            "room/by-obs": [
                *("-f", "flv", "-rtmp_app", "live", "-rtmp_playpath", f"room/by-obs?key={KEY}"),
                f"rtmp://127.0.0.1:{rtmp}",
            ],
            "room/by-srt": ["-f", "mpegts", f"srt://127.0.0.1:{srt}?streamid=publish:room/by-srt:{KEY}"],
        }
        with contextlib.ExitStack() as stack:
            for way in ways.values():
                stack.enter_context(publishing(*way))
            for room in ways:
                assert ".m4s" in plays(server, room)
                assert get(server, f"/live/{room}/master.m3u8").status_code == 200
                assert get(server, f"/live/{room}/manifest.mpd").status_code == 200
            assert rooms(server) == {f"live/{room}" for room in ways}
            described = server.described("room/by-rtmp")
            assert described["hls"] == "/live/room/by-rtmp/master.m3u8"
            assert described["publisher"]["protocol"] == "rtmp"
            assert described["publisher"]["ingest"] == "/live/room/by-rtmp/ingest"
            answer = get(server, "/api/item/live/room/by-rtmp")
            assert [one["name"] for one in answer.json()] == ["room/by-rtmp"]


REFUSED = [
    *("room/anna/x", "room/", "room/..", "room/.", "room/*", "room/a*", "room/a b", "room/ä", "room/~a"),
    *("room/recordings", "room/ingest", "room/captions", "rooms/anna", "room", "Room/anna", "/anna"),
    *("room/" + "a" * 65, "room/%2e%2e", "room/a~b", "room/a%00", "room/a\\b"),
]


def test_nobody_makes_a_channel_but_by_the_key_and_a_plain_name(tmp_path: Path) -> None:
    with kept_port() as rtmp, changing_server(tmp_path, ports(DATA, rtmp) + ROOMS) as server:
        for key, room in product([KEY], REFUSED):
            answer = httpx.put(f"{server.url}/live/{quote(room)}/ingest?key={key}", content=b"x" * 2000)
            assert answer.status_code in (404, 405), (room, answer.text)
            once = ["-t", "1", "-f", "flv", f"rtmp://127.0.0.1:{rtmp}/live/{room}?key={key}"]
            with publishing(*once) as process:
                assert process.wait(CLIENT_SECONDS) != 0
        for key in ("", "wrong-key-of-the-rooms", "*"):
            answer = httpx.put(f"{server.url}/live/room/anna/ingest?key={key}", content=b"x" * 2000)
            assert answer.status_code == 401
        assert rooms(server) == set()
        data = tmp_path / "data"
        assert not [one for one in data.rglob("*") if "room" in one.name]
        assert list((data / "live").iterdir() if (data / "live").exists() else ()) == []


@pytest.mark.promise("live.keep_for")
def test_a_channel_ends_some_time_after_its_publisher_and_comes_again(tmp_path: Path) -> None:
    with changing_server(tmp_path, DATA + RECORDED + 'keep_for = "1s"\n') as server:
        with publishing(*over_http(server, "room/anna")), publishing(*over_http(server, "room/bob")):
            before = plays(server, "room/anna")
            plays(server, "room/bob")
        wait_for(lambda: not rooms(server), what="the end of the channels")
        assert get(server, "/live/room/anna/master.m3u8").status_code == 404
        assert get(server, "/api/item/live/room/anna").json() == []
        assert (tmp_path / "data" / "live" / "room~anna").is_dir()
        with publishing(*over_http(server, "room/anna")):
            again = plays(server, "room/anna")
            assert rooms(server) == {"live/room/anna"}
            # Its past is there, and its numbers go on.
            assert first_number(again) == first_number(before)
            wait_for(lambda: described_recordings(server, "room/anna"), what="its recording of before")


def first_number(text: str) -> int:
    return int(next(line for line in text.splitlines() if "MEDIA-SEQUENCE" in line).partition(":")[2])


def described_recordings(server: ChangingServer, room: str, token: str = "") -> list[dict[str, Any]]:
    answer = get(server, f"{token and '/t/'}{token}/api/live/{room}/recordings")
    assert answer.status_code == 200, answer.text
    listed: list[dict[str, Any]] = answer.json()
    return listed


def test_a_channel_with_its_recordings_is_there_after_kill_9(tmp_path: Path) -> None:
    with changing_server(tmp_path, DATA + RECORDED) as server:
        with publishing(*over_http(server, "room/anna")):
            plays(server, "room/anna")
        recording = wait_for(lambda: described_recordings(server, "room/anna"), what="the recording")[0]
        with publishing(*over_http(server, "room/anna")), publishing(*over_http(server, "room/bob")):
            wait_for(lambda: "DISCONTINUITY\n" in playlist(server, "room/anna"), what="its return")
            plays(server, "room/bob")
            server.server.process.send_signal(signal.SIGKILL)
            server.server.process.wait()
    with changing_server(tmp_path, DATA + RECORDED) as server:
        assert rooms(server) == {"live/room/anna", "live/room/bob"}
        assert ".m4s" in plays(server, "room/anna")
        names = [one["id"] for one in described_recordings(server, "room/anna")]
        assert recording["id"] in names
        movie = get(server, recording["mp4"])
        assert movie.status_code == 200
        assert movie.content[4:8] == b"ftyp"
        with publishing(*over_http(server, "room/bob")):
            wait_for(lambda: server.described("room/bob")["publisher"]["on_air"], what="its return")
            plays(server, "room/bob")
        assert rooms(server) == {"live/room/anna", "live/room/bob"}


def test_a_changed_pattern_changes_its_channels_and_its_end_ends_them(tmp_path: Path) -> None:
    other = (
        '[[live]]\nname = "other/*"\nsource = "publish"\nladder = ["source"]\npublish_key = "another-key-0"\n'
    )
    with changing_server(tmp_path, DATA + ROOMS) as server:
        with publishing(*over_http(server, "room/anna")):
            plays(server, "room/anna")
            assert server.reload(DATA + ROOMS + 'keep_for = "1h"\nforward = []\n' + other) == []
            with publishing(*over_http(server, "other/anna", "another-key-0")):
                plays(server, "other/anna")
            assert server.described("room/anna")["publisher"]["on_air"]
            # A key of another pattern is none.
            answer = httpx.put(f"{server.url}/live/room/x/ingest?key=another-key-0", content=b"x" * 2000)
            assert answer.status_code == 401
            # What makes a channel begin anew does so for those of the pattern.
            assert server.reload(DATA + RECORDED + other) == []
            assert rooms(server) == {"live/room/anna", "live/other/anna"}
            assert server.described("room/anna")["dvr_seconds"] == 3600
            changed = RECORDED.replace(KEY, "the-next-key-of-rooms")
        with publishing(*over_http(server, "room/anna")):
            wait_for(lambda: server.described("room/anna")["publisher"]["on_air"], what="its publisher")
            assert server.reload(DATA + changed + other) == []
            wait_for(
                lambda: not server.described("room/anna")["publisher"]["on_air"], what="its publisher's end"
            )
        assert server.reload(DATA + other) == []
        assert rooms(server) == {"live/other/anna"}
        assert httpx.put(f"{server.url}/live/room/anna/ingest?key={KEY}", content=b"x").status_code == 404
    # The channels of a pattern that has gone don't come again with it.
    with changing_server(tmp_path, DATA + ROOMS) as server:
        assert rooms(server) == set()


def test_a_pattern_is_made_by_a_request_and_its_channels_are_bounded(tmp_path: Path) -> None:
    limited = DATA + "[limits]\ncreated_channels = 2\n"
    with changing_server(tmp_path, limited) as server:
        table = {"source": "publish", "ladder": ["source"]}
        made = server.ask("PUT", "/api/live/room/*", table)
        assert made.status_code == 201
        key = made.json()["publish_key"]
        statuses = []
        for name in ("room/a", "room/b", "room/c", "room/a"):
            answer = httpx.put(f"{server.url}/live/{name}/ingest?key={key}", content=b"x" * 2000)
            statuses.append(answer.status_code)
        # What isn't a stream is refused once its channel is there.
        assert statuses == [415, 415, 503, 415]
        assert rooms(server) == {"live/room/a", "live/room/b"}
        assert server.ask("GET", "/api/live/room/a/publish_key").json() == {"publish_key": key}
        refused = server.ask("POST", "/api/live/room/a/publish_key")
        assert (refused.status_code, "room/*" in refused.text) == (409, True)
        assert server.ask("PUT", "/api/live/room", table).status_code == 422
        assert server.ask("DELETE", "/api/live/room/*").status_code == 204
        assert rooms(server) == set()


PLAYED = [
    *("master.m3u8", "manifest.mpd", "source/media.m3u8", "NUMBER.m4s", "INIT.mp4"),
    *("RECORDING/master.m3u8", "RECORDING/event.mp4", "RECORDING/source/media.m3u8"),
]

BELOW = [
    *PLAYED,
    *("source/iframes.m3u8", "clip.mp4?start=1&end=2", "clip.m4a?start=1", "snapshot.jpg", "thumbnails.vtt"),
    *("PART", "RECORDING/event-1.mp4", "clip.mp3?start=1", "clip.ogg?start=1"),
    *("master.m3u8?start=1", "master.m3u8?delay=5", "programmes"),
]


def test_no_address_of_a_signed_channel_opens_without_its_token(tmp_path: Path) -> None:
    text = DATA + f'[access]\nkeys = ["{SIGNING}"]\n' + RECORDED + 'access = "signed"\n'
    signing = SigningKeys([SIGNING])
    own, other = (
        signing.sign(one, expiry("1h"), allows_clips=True) for one in ("/live/room/anna", "/live/room/a")
    )
    with changing_server(tmp_path, text) as server, publishing(*over_http(server, "room/bob")):
        with publishing(*over_http(server, "room/anna")):
            first = plays(server, "room/anna", own)
        listed = wait_for(
            lambda: described_recordings(server, "room/anna", own),
            what="its recording",
        )
        segment = next(line for line in first.splitlines() if line.endswith(".m4s"))
        init = first.partition('URI="')[2].partition('"')[0]
        names = {
            "NUMBER.m4s": f"source/{segment}",
            "INIT.mp4": f"source/{init}",
            "PART": f"source/{segment.replace('.m4s', '.0.m4s')}",
        }
        recording = listed[0]["hls"].split("/recordings/")[1].partition("/")[0]
        for below in BELOW:
            path = names.get(below, below).replace("RECORDING", f"recordings/{recording}")
            path, _, query = path.partition("?")
            for room in ("room/anna", "room%2Fanna", "r%6fom/anna", "room/%61nna"):
                for spelled in {path, path.replace("/", "%2F", 1)}:
                    target = f"/live/{room}/{spelled}"
                    for token in ("", "nonsense", other):
                        for address in (
                            f"{target}?{query}",
                            f"{target}?{query}&token={token}",
                            f"/t/{token or 'x'}{target}?{query}",
                        ):
                            answer = get(server, address)
                            assert answer.status_code in (401, 403), (address, answer.status_code)
                            assert b"ftyp" not in answer.content
            allowed = get(server, f"/t/{own}/live/room/anna/{path}?{query}")
            assert allowed.status_code not in (401, 403), path
            assert allowed.status_code == 200 or below not in PLAYED, path
        # A token of one channel opens none of another one.
        assert get(server, f"/t/{own}/live/room/bob/master.m3u8").status_code == 403
        assert get(server, "/live/room/nobody/master.m3u8").status_code == 403
        visible = get(server, f"/t/{own}/api/live").json()
        assert [one["name"] for one in visible] == ["room/anna"]
