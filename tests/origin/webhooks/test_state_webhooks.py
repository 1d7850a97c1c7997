"""Webhooks of a running server: what happens on its channels and stations comes, by publishers of others."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.changing_server import DATA, ChangingServer, changing_server
from tests.copied_channel import film
from tests.origin.webhooks.receiver import SECRET, Receiver, receiving
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port
from tests.station_source import sending
from tests.waiting import wait_for

ROOM = (
    '[[live]]\nname = "room"\nsource = "publish"\npublish_key = "a-key-of-the-room"\n'
    'ladder = ["source"]\nrecord = "publications"\n'
)
DJ = '[[radio]]\nname = "dj.mp3"\nsource = "publish"\nsource_password = "sesame"\n'


def hook(url: str, more: str = "") -> str:
    return f'[[webhooks]]\nurl = "{url}"\nsecret = "{SECRET}"\n{more}'


def publish(server: ChangingServer) -> subprocess.Popen[bytes]:
    words = ["ffmpeg", "-v", "error", "-re", "-t", "8", "-i", str(film()), "-c", "copy", "-f", "mpegts"]
    target = f"{server.url}/live/room/ingest?key=a-key-of-the-room"
    return subprocess.Popen([*words, "-method", "PUT", target])


def await_kinds(receiver: Receiver, subject: str, *kinds: str) -> list[dict[str, Any]]:
    wait_for(lambda: receiver.kinds(subject)[: len(kinds)] == [*kinds], what=f"{kinds} of {subject}")
    return receiver.events(subject)


@pytest.mark.promise("webhooks.url", "webhooks.secret", "webhooks.events")
def test_what_happens_on_channels_and_stations_is_sent(tmp_path: Path) -> None:
    with receiving() as receiver, receiving() as titles:
        hooks = hook(receiver.url) + hook(titles.url, 'events = ["radio.title", "recording.ready"]\n')
        with changing_server(tmp_path, DATA + ROOM + DJ + hooks) as server:
            with publish(server) as publisher:
                await_kinds(receiver, "live/room", "live.started")
                publisher.wait(timeout=CLIENT_SECONDS)
            wait_for(lambda: len(receiver.events("live/room")) == 3, what="the end and the recording")
            events = {one["type"]: one["data"] for one in receiver.events("live/room")}
            assert set(events) == {"live.started", "live.ended", "recording.ready"}
            recording = events["recording.ready"]
            (listed,) = server.ask("GET", "/api/live/room/recordings").json()
            assert recording["id"] == listed["id"]
            assert recording["hls"].endswith(listed["hls"])
            assert recording["hls"].startswith("http://")
            with sending(server.server, "dj.mp3"):
                await_kinds(receiver, "radio/dj.mp3", "radio.source", "radio.started")
                server.ask("GET", "/admin/metadata?mount=/radio/dj.mp3&mode=updinfo&song=A+-+B")
                title = await_kinds(receiver, "radio/dj.mp3", "radio.source", "radio.started", "radio.title")
                assert title[-1]["data"] == {"title": "A - B"}
            wait_for(
                lambda: {"radio.source", "radio.ended"} <= {*receiver.kinds("radio/dj.mp3")[3:]},
                what="the station's end",
            )
            wait_for(
                lambda: {one["type"] for one in titles.events()} == {"radio.title", "recording.ready"},
                what="the events that the other one wants",
            )


def test_a_webhook_comes_by_a_reload_and_is_sent_what_it_missed_while_it_was_away(tmp_path: Path) -> None:
    with kept_port() as port:
        url = f"http://127.0.0.1:{port}/hook"
        with changing_server(tmp_path, DATA) as server:
            assert server.reload(DATA + hook(url)) == []
            table = {"source": "testsrc", "ladder": ["240p"]}
            assert server.ask("PUT", "/api/live/made", table).status_code == 201
            wait_for(
                lambda: "webhooks" in server.ask("GET", "/health").json().get("troubles", {}),
                what="the trouble",
            )
            wait_for(
                lambda: (tmp_path / "data" / "records.sqlite-wal").exists(), what="the event's being kept"
            )
            server.server.process.send_signal(signal.SIGKILL)
            server.server.process.wait()
        with receiving(port) as receiver, changing_server(tmp_path, DATA + hook(url)) as server:
            await_kinds(receiver, "live/made", "live.started")
            server.await_state("live/made", "live")
            await_kinds(receiver, "live/made", "live.started", "live.started")
            assert server.ask("DELETE", "/api/live/made").status_code == 204
            wait_for(lambda: "live.ended" in receiver.kinds("live/made"), what="the channel's removal")
            assert server.reload(DATA) == []
            assert "webhooks" not in server.ask("GET", "/health").json().get("troubles", {})


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ('[[webhooks]]\nurl = "http://localhost/"\n', "secret"),
        ('[[webhooks]]\nurl = "http://localhost/"\nsecret = "short"\n', "whsec_"),
        (f'[[webhooks]]\nurl = "ftp://localhost/"\nsecret = "{SECRET}"\n', "http or https"),
        (hook("http://localhost/", 'events = ["live.begun"]\n'), "live.started"),
        (hook("http://localhost/") * 2, "used twice"),
    ],
)
def test_a_webhook_that_can_not_be_is_refused_with_what_is_allowed(
    tmp_path: Path, table: str, line: str
) -> None:
    with pytest.raises(AssertionError, match=line), changing_server(tmp_path, DATA + table):
        pass
