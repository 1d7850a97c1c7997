"""Tables of the file come, change and go by a reload, one by one, and nobody notices elsewhere."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import m3u8
import pytest

from tests.changing_server import DATA, HEAD, ChangingServer, changing_server
from tests.copied_channel import film
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port
from tests.station_source import sending
from tests.waiting import wait_for

WATCHED = '[[live]]\nname = "watched"\nsource = "testsrc"\nladder = ["240p"]\ndvr = "5m"\n'
HEARD = '[[radio]]\nname = "heard.mp3"\nsource = "publish"\nsource_password = "sesame"\n'
NEWS = '[[events]]\nname = "news"\npublish_token = "a-publish-token-0"\n'
ROOM = '[[live]]\nname = "room"\nsource = "publish"\npublish_key = "a-key-of-the-room"\nladder = ["source"]\n'
DJ = '[[radio]]\nname = "dj.mp3"\nsource = "publish"\nsource_password = "sesame"\n'
MODEL = '[[relay]]\nname = "model"\nupstreams = ["http://127.0.0.1:9/v1"]\ntoken = "a-token-of-model"\n'

FARTHER = ("first", "second")


def playlist(server: ChangingServer) -> m3u8.M3U8 | None:
    answer = httpx.get(f"{server.url}/live/watched/240p/media.m3u8", timeout=CLIENT_SECONDS)
    return m3u8.loads(answer.text) if answer.status_code == 200 and "#EXTINF" in answer.text else None


@contextmanager
def connected(server: ChangingServer, address: str) -> Iterator[list[bytes]]:
    """Read an endless answer in a thread while the block runs; it must not end before."""
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    received, ended = list[bytes](), threading.Event()
    with socket.create_connection((host, int(port)), timeout=CLIENT_SECONDS) as sock:

        def read() -> None:
            while data := sock.recv(65536):
                received.append(data)
            ended.set()

        sock.sendall(f"GET {address} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        wait_for(lambda: received, what="the answer's beginning")
        try:
            yield received
            assert not ended.is_set(), "the connection was ended"
        finally:
            sock.shutdown(socket.SHUT_RDWR)
            thread.join()


def number_of(found: m3u8.M3U8) -> int:
    return int(found.media_sequence or 0) + len(found.segments)


@pytest.mark.promise("headwater reload")
def test_tables_come_change_and_go_while_others_are_watched(tmp_path: Path) -> None:
    others = WATCHED + HEARD + NEWS
    with changing_server(tmp_path, DATA + others + ROOM + DJ + MODEL) as server:
        wait_for(lambda: playlist(server), what="the channel's first segments")
        before = server.ask("GET", "/api/live?configuration").json()
        with (
            sending(server.server, "heard.mp3"),
            connected(server, "/events/news") as events,
            connected(server, "/radio/heard.mp3") as audio,
        ):
            began = playlist(server)
            assert began is not None
            more = "".join(ROOM.replace("room", f"room-{number}") for number in range(20))
            changed = ROOM + 'dvr = "1h"\n', DJ + "bitrate = 96\n", MODEL + "relay_keep = true\n"
            assert server.reload(DATA + others + "".join(changed) + more) == []
            states = server.states()
            assert {name for name in states if name.startswith("live/room-")} == {
                f"live/room-{number}" for number in range(20)
            }
            tables = {one["name"]: one for one in server.ask("GET", "/api/live?configuration").json()}
            assert tables["room"]["options"]["dvr"] == "1h"
            assert tables["watched"] == next(one for one in before if one["name"] == "watched")
            assert server.reload(DATA + others) == []
            assert set(server.states()) == {
                "live/watched",
                "live/heard.mp3",
                "radio/heard.mp3",
                "events/news",
            }
            for gone in ("/live/room/master.m3u8", "/radio/dj.mp3", "/live/dj.mp3/master.m3u8"):
                assert httpx.get(f"{server.url}{gone}", timeout=CLIENT_SECONDS).status_code == 404
            # All of the others went on meanwhile, and go on.
            had = len(audio)
            wait_for(lambda: len(audio) > had, what="more of the station's audio")
            httpx.post(
                f"{server.url}/events/news",
                content=b"after it",
                headers={"authorization": "Bearer a-publish-token-0"},
            )
            wait_for(lambda: b"after it" in b"".join(events), what="an event")
            wait_for(
                lambda: (now := playlist(server)) and number_of(now) > number_of(began) + 1,
                what="the channel's going on",
            )
            ended = playlist(server)
            assert ended is not None
            assert all(not one.discontinuity for one in ended.segments)
            (described,) = server.ask("GET", "/api/live").json()[:1]
            assert (described["name"], described["restarts"]) == ("watched", 0)


def test_a_table_whose_key_can_not_be_read_leaves_the_channel_of_before(tmp_path: Path) -> None:
    table = ROOM.replace('publish_key = "a-key-of-the-room"\n', "")
    with changing_server(tmp_path, DATA + table) as server:
        server.await_state("live/room", "idle")
        (tmp_path / "data" / ".secrets.toml").chmod(0o644)
        assert server.reload(DATA + table + 'dvr = "1h"\n') == ["live 'room' (dvr)"]
        assert "others may have read it" in server.server.text()
        assert server.states() == {"live/room": "idle"}
        (tmp_path / "data" / ".secrets.toml").chmod(0o600)
        assert server.reload(DATA + table + 'dvr = "1h"\n') == []
        assert server.states() == {"live/room": "idle"}


def test_a_channel_that_changes_begins_anew_with_what_it_had_kept(tmp_path: Path) -> None:
    with changing_server(tmp_path, DATA + WATCHED) as server:
        wait_for(lambda: playlist(server), what="the channel's first segments")
        began = playlist(server)
        assert began is not None
        assert server.reload(DATA + WATCHED.replace('"240p"', '"240p", "360p"')) == []
        wait_for(
            lambda: (now := playlist(server)) and any(one.discontinuity for one in now.segments),
            what="the next run's segments",
        )
        now = playlist(server)
        assert now is not None
        assert now.media_sequence == began.media_sequence
        larger = httpx.get(f"{server.url}/live/watched/360p/media.m3u8", timeout=CLIENT_SECONDS)
        assert larger.status_code == 200


def test_a_channel_is_recorded_and_forwarded_from_now_on_while_its_publisher_goes_on(tmp_path: Path) -> None:
    room, channels = ROOM + 'dvr = "5m"\n', ""
    for name in ("first", "second"):
        channels += ROOM.replace('"room"', f'"{name}"')
    with kept_port() as port:
        head = DATA.replace("rtmp_port = 0", f"rtmp_port = {port}")
        first, second = (f"rtmp://127.0.0.1:{port}/live/{name}?key=a-key-of-the-room" for name in FARTHER)
        with changing_server(tmp_path, head + channels + room) as server:
            words = ["ffmpeg", "-v", "error", "-re", "-stream_loop", "-1", "-i", str(film()), "-c", "copy"]
            target = f"{server.url}/live/room/ingest?key=a-key-of-the-room"
            with subprocess.Popen([*words, "-f", "mpegts", "-method", "PUT", target]) as publisher:
                try:
                    server.await_state("live/room", "live")
                    before = server.described("room")["publisher"]
                    assert server.reload(f"{head}{channels}{room}forward = ['{first}']\n") == []
                    server.await_state("live/first", "live")
                    received = server.described("first")["publisher"]
                    began, more = time.time(), 'record = "publications"\ntakeover = "refuse"\n'
                    both = f"{head}{channels}{room}forward = ['{second}', '{first}']\n{more}"
                    assert server.reload(both) == []
                    server.await_state("live/second", "live")
                    assert server.described("first")["publisher"]["since"] == received["since"]
                    second_publisher = httpx.put(target, content=b"another", timeout=CLIENT_SECONDS)
                    assert second_publisher.status_code == 409
                    assert server.reload(head + channels + room) == []
                    for name in FARTHER:
                        server.await_state(f"live/{name}", "idle")
                    (recording,) = wait_for(
                        lambda: server.ask("GET", "/api/live/room/recordings").json(), what="the recording"
                    )
                    # From the segment on in which it was asked for.
                    assert recording["start"] > began - 15
                    assert publisher.poll() is None
                    assert server.described("room")["publisher"]["since"] == before["since"]
                    assert server.described("room")["restarts"] == 0
                finally:
                    publisher.kill()


def test_a_publisher_of_a_channel_that_goes_is_disconnected_and_its_recording_stays(tmp_path: Path) -> None:
    recorded = ROOM + 'record = "publications"\n'
    with changing_server(tmp_path, DATA + recorded) as server:
        words = ["ffmpeg", "-v", "error", "-re", "-stream_loop", "-1", "-i", str(film()), "-c", "copy"]
        target = f"{server.url}/live/room/ingest?key=a-key-of-the-room"
        with subprocess.Popen([*words, "-f", "mpegts", "-method", "PUT", target]) as publisher:
            server.await_state("live/room", "live")
            assert server.reload(DATA) == []
            publisher.wait(timeout=CLIENT_SECONDS)
        assert "live/room" not in server.states()
        assert server.reload(DATA + recorded) == []
        server.await_state("live/room", "idle")
        wait_for(
            lambda: server.ask("GET", "/api/live/room/recordings").json(), what="the recording of before"
        )


def test_a_key_that_the_file_lacks_is_made_and_shown_once(tmp_path: Path) -> None:
    without = ROOM.replace('publish_key = "a-key-of-the-room"\n', "")
    with changing_server(tmp_path, DATA) as server:
        assert server.reload(DATA + without) == []
        shown = wait_for(
            lambda: [line for line in server.server.output if "live/room/ingest?key=" in line],
            what="the key",
        )
        key = shown[0].partition("key=")[2].split()[0]
        address = f"{server.url}/live/room/ingest?key={key}"
        assert httpx.put(address, content=b"x" * 2000, timeout=CLIENT_SECONDS).status_code == 415
        assert server.reload(DATA) == []
        assert server.reload(DATA + without) == []
        assert httpx.put(address, content=b"x" * 2000, timeout=CLIENT_SECONDS).status_code == 415
        assert len([line for line in server.server.output if "ingest?key=" in line]) == 1


def test_secrets_that_others_may_read_cost_the_new_channel_alone(tmp_path: Path) -> None:
    without = ROOM.replace('publish_key = "a-key-of-the-room"\n', "")
    with changing_server(tmp_path, DATA + without) as server:
        secrets = tmp_path / "data" / ".secrets.toml"
        secrets.chmod(0o644)
        other = without.replace("room", "hall")
        assert server.reload(DATA + without + other) == ["live 'hall'"]
        assert set(server.states()) == {"live/room"}
        assert "others may have read it" in server.server.text()
        secrets.chmod(0o600)
        assert server.reload(DATA + without + other) == []
        assert set(server.states()) == {"live/room", "live/hall"}


NEED_A_RESTART = {
    "a channel for those with a token": ROOM + 'access = "signed"\n',
    "a station for those with a token": DJ + 'access = "signed"\n',
    "copies in S3": ROOM + 'recordings_copy = "s3://bucket/prefix"\n',
}


@pytest.mark.parametrize("kind", NEED_A_RESTART)
def test_what_can_not_begin_now_needs_a_restart_and_the_log_says_why(tmp_path: Path, kind: str) -> None:
    with changing_server(tmp_path, HEAD) as server:
        (needed,) = server.reload(HEAD + NEED_A_RESTART[kind])
        assert needed in ("live 'room'", "radio 'dj.mp3'")
        assert server.states() == {}
        assert "a table can't change now" in server.server.text()
        assert server.reload(HEAD) == []


def test_a_station_that_is_anothers_fallback_stays_and_may_change(tmp_path: Path) -> None:
    spare = DJ.replace("dj", "spare")
    both = DJ + 'fallback = "spare.mp3"\n' + spare
    with changing_server(tmp_path, DATA + both) as server:
        (needed,) = server.reload(DATA + DJ + 'fallback = "spare.mp3"\n')
        assert needed == "radio 'spare.mp3'"
        assert server.reload(DATA + both + "bitrate = 64\n") == []
        with (
            sending(server.server, "spare.mp3"),
            connected(server, "/radio/dj.mp3") as audio,
        ):
            wait_for(lambda: sum(map(len, audio)) > 20_000, what="the fallback's audio")
        assert server.reload(DATA + DJ + spare) == []
        assert server.reload(DATA + DJ) == []


@pytest.mark.parametrize("workers", [2])
def test_workers_serve_what_comes_and_no_more_what_goes(tmp_path: Path, workers: int) -> None:
    text = DATA.replace("port = 0\n", f"port = 0\nworkers = {workers}\n", 1)
    with changing_server(tmp_path, text) as server:
        assert server.reload(text + WATCHED + DJ) == []
        address = f"{server.url}/live/watched/240p/media.m3u8"

        def statuses() -> set[int]:
            return {httpx.get(address, timeout=CLIENT_SECONDS).status_code for _ in range(8)}

        wait_for(lambda: statuses() == {200}, what="the channel in all workers")
        with (
            sending(server.server, "dj.mp3"),
            connected(server, "/radio/dj.mp3") as audio,
        ):
            wait_for(lambda: sum(map(len, audio)) > 20_000, what="the station's audio")
        assert server.reload(text) == []
        wait_for(lambda: statuses() == {404}, what="the channel's end in all workers")


def test_a_terminated_server_ends_while_tables_change(tmp_path: Path) -> None:
    with changing_server(tmp_path, DATA) as server:
        many = "".join(ROOM.replace("room", f"room-{number}") for number in range(50))
        server.file.write_text(DATA + many)
        server.server.process.send_signal(signal.SIGHUP)
        server.server.process.send_signal(signal.SIGTERM)
