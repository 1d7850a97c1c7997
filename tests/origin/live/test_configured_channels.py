"""Options of live channels and their limits, each with another value than its default, at a real server."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import ServerProcess, start_server
from tests.fork_server import run_headwater
from tests.keys import BEARER
from tests.packager import films
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port
from tests.server_sockets import options_of
from tests.waiting import wait_for

KEY = "a-key-of-publishers"
RECEIVE_BYTES = 50_000
KEYS = "2026-11:a-secret-of-november"
CONFIG = f"""
[server]
port = 0
data = "data"
trusted_proxies = ["127.0.0.1"]
forwarded_field = "Forwarded"

[access]
keys = ["{KEYS}"]
viewers_per_name = 1
takeover = "refuse"
channels = ["elsewhere"]

[[live]]
name = "small"
source = "noise.ts"
ladder = ["source"]
segment_duration = 1.0
dvr = "1h"
dvr_size = "1M"

[[live]]
name = "forgetful"
source = "noise.ts"
ladder = ["source"]
segment_duration = 1.0
dvr = "1h"
captions = ["en"]

[[live]]
name = "signed"
source = "noise.ts"
ladder = ["source"]
access = "signed"

[[live]]
name = "show"
source = "publish"
publish_key = "{KEY}"
ladder = ["source"]
dvr = "1h"
after_end = "start"

[[live]]
name = "other"
source = "publish"
publish_key = "{KEY}"
ladder = ["source"]

[[live]]
name = "datagrams"
source = "udp://127.0.0.1:{{port}}"
ladder = ["source"]

[limits]
metadata_bytes = 200
captions_bytes = 200
publishers = 1
blocked_requests = 2
udp_receive_bytes = {RECEIVE_BYTES}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("channels")
    noise = "-f lavfi -i nullsrc=size=160x90:rate=12:duration=8,geq=random(1)*255:128:128"
    sound = "-f lavfi -i sine=sample_rate=48000:duration=8"
    coding = "-c:v libx264 -preset ultrafast -qp 8 -g 12 -pix_fmt yuv420p -c:a aac"
    films.run_ffmpeg(*f"{noise} {sound} {coding}".split(), folder / "noise.ts")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    with kept_port() as port:
        (folder / "headwater.toml").write_text(CONFIG.format(port=port))
        server = start_server(cwd=folder)
        yield server
        server.stop()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=CLIENT_SECONDS) as client:
        yield client


def numbers(client: httpx.Client, channel: str) -> list[int]:
    answer = client.get(f"/live/{channel}/source/media.m3u8")
    return [int(number) for number in re.findall(r"^(\d+)\.m4s", answer.text, re.MULTILINE)]


@pytest.mark.promise("live.dvr_size")
def test_a_dvr_takes_no_more_room_than_configured(client: httpx.Client) -> None:
    first = wait_for(lambda: numbers(client, "small"), "a segment")[0]
    wait_for(lambda: numbers(client, "small")[0] > first, "the oldest segment to go", seconds=60)


@pytest.mark.promise("limits.metadata_bytes", "limits.captions_bytes")
def test_larger_metadata_and_captions_than_configured_are_refused(client: httpx.Client) -> None:
    wait_for(lambda: numbers(client, "forgetful"), "a segment")
    for size, status in ((10, 201), (300, 413)):
        metadata = {"id": f"of-{size}", "duration": 1, "attributes": {"X-TEXT": "x" * size}}
        answer = client.post("/live/forgetful/metadata", json=metadata, headers=BEARER)
        assert answer.status_code in (status, 200 if status == 201 else status), answer.text
        cue = f"WEBVTT\n\n00:00.000 --> 00:01.000\n{'x' * size}\n"
        fields = {**BEARER, "content-type": "text/vtt"}
        answer = client.post("/live/forgetful/captions/en?offset=2", content=cue, headers=fields)
        assert answer.status_code == status, answer.text


@pytest.mark.promise("limits.blocked_requests")
def test_no_more_requests_wait_for_a_part_than_configured(client: httpx.Client) -> None:
    last = wait_for(lambda: numbers(client, "forgetful"), "a segment")[-1]
    target = f"/live/forgetful/source/media.m3u8?_HLS_msn={last + 2}"
    statuses: list[int] = []

    def ask(number: int) -> None:
        # Of clients of a proxy, each of whom may have less by itself.
        fields = {"forwarded": f"for=192.0.2.{number}"}
        with httpx.Client(base_url=client.base_url, timeout=CLIENT_SECONDS) as one:
            statuses.append(one.get(target, headers=fields).status_code)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) == {200, 503}


@pytest.mark.promise("limits.udp_receive_bytes")
def test_a_source_over_udp_has_the_configured_receive_buffer(server: ServerProcess) -> None:
    def sizes() -> list[int]:
        return options_of(server.process.pid, socket.SOCK_DGRAM, socket.SOL_SOCKET, socket.SO_RCVBUF)

    # socket(7): the kernel doubles the value.
    wait_for(lambda: 2 * RECEIVE_BYTES in sizes(), "the source's socket")


@contextlib.contextmanager
def publishing(client: httpx.Client, channel: str, data: bytes) -> Iterator[socket.socket]:
    """Publish so much, and go on without sending anything."""
    with socket.create_connection(
        (client.base_url.host, client.base_url.port or 80), CLIENT_SECONDS
    ) as sending:
        lines = [
            f"PUT /live/{channel}/ingest?key={KEY} HTTP/1.1",
            "Host: a.localhost",
            "Content-Length: 99999999",
        ]
        head = "\r\n".join((*lines, "", ""))
        sending.sendall(head.encode() + data)
        yield sending


@pytest.mark.promise("live.after_end", "limits.publishers")
def test_a_publisher_begins_the_next_event_and_there_are_as_many_as_configured(
    client: httpx.Client, folder: Path
) -> None:
    def state() -> str:
        channels = client.get("/api/live", headers=BEARER).json()
        found: str = next(one["state"] for one in channels if one["name"] == "show")
        return found

    data = (folder / "noise.ts").read_bytes()
    with publishing(client, "show", data):
        wait_for(lambda: state() == "live", "the first event")
        with publishing(client, "other", data) as refused:
            assert refused.recv(12) == b"HTTP/1.1 503"
        assert client.post("/live/show/end", headers=BEARER).status_code in (200, 202)
    wait_for(lambda: state() == "ended", "its end")
    with publishing(client, "show", data):
        wait_for(lambda: state() == "live", "the next event")


def signed(path: str) -> str:
    command = ("sign", path, "--for", "2h", "--name", "anna")
    url = run_headwater(*command, env={"HEADWATER_ACCESS_KEYS": KEYS}).stdout.strip()
    return httpx.URL(url).raw_path.decode()


@pytest.mark.promise("live.access", "access.channels")
@pytest.mark.parametrize("channel", ["signed", "elsewhere"])
def test_a_channel_here_or_elsewhere_is_for_those_with_a_token(client: httpx.Client, channel: str) -> None:
    assert client.get(f"/live/{channel}/master.m3u8").status_code == 403
    assert client.get("/live/nowhere/master.m3u8").status_code == 404


@pytest.mark.promise("access.takeover", "server.forwarded_field")
def test_a_further_session_of_a_name_is_refused_by_the_address_in_the_configured_field(
    client: httpx.Client,
) -> None:
    path = signed("/live/signed/master.m3u8")

    def status(client_address: str, field: str = "forwarded") -> int:
        value = f"for={client_address}" if field == "forwarded" else client_address
        return client.get(path, headers={field: value}).status_code

    wait_for(lambda: status("192.0.2.1") == 200, "the channel")
    assert status("192.0.2.2") == 403
    assert status("192.0.2.1") == 200
    # X-Forwarded-For isn't believed: that is a client without a name of its own.
    assert status("192.0.2.1", "x-forwarded-for") == 403
