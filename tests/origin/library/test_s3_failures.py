"""What clients and operators see where S3 is gone, refuses, or has another version of an object."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import obstore
import pytest

from tests.conftest import ServerProcess, start_server
from tests.fork_server import run_headwater
from tests.packager import films
from tests.s3_server import BUCKET, SECRET, S3Proxy, S3Server
from tests.waiting import wait_for

PREFIX = "failures"
LARGE = 48 << 20


@dataclass
class InS3:
    """A server with a library in S3 behind a proxy."""

    server: ServerProcess
    proxy: S3Proxy
    s3: S3Server

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(f"{self.server.url}{path}", headers=headers, timeout=60)

    def reached(self) -> bool:
        return self.get("/health").json().get("troubles", {}).get("library") is None


@pytest.fixture(scope="module")
def in_s3(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InS3]:
    store = s3_server.store(PREFIX)
    for name in ("one.mp4", "two.mp4"):
        obstore.put(store, name, films.film("bframes.mp4").read_bytes())
    obstore.put(store, "large.mp4", b"o" * LARGE)
    proxy = S3Proxy(s3_server)
    config = tmp_path_factory.mktemp("config") / "headwater.toml"
    data = config.with_name("data")
    config.write_text(f'[server]\nport = 0\ndata = "{data}"\n[library]\npath = "s3://{BUCKET}/{PREFIX}"\n')
    server = start_server("--config", str(config), env=s3_server.environment(proxy.url))
    yield InS3(server, proxy, s3_server)
    assert server.stop() == 0
    proxy.close()
    assert "Traceback" not in server.text()
    assert SECRET not in server.text()
    assert [*(data / "s3").iterdir()] == []


def test_without_s3_what_is_cached_goes_on_and_the_rest_is_told_to_come_again(in_s3: InS3) -> None:
    cached = ("/vod/one.mp4/master.m3u8", "/vod/one.mp4/video/media.m3u8", "/vod/one.mp4/video/0.m4s")
    before = {path: in_s3.get(path) for path in (*cached, "/media/one.mp4")}
    assert {response.status_code for response in before.values()} == {200}
    with in_s3.proxy.refusing():
        for _ in range(10):
            for path in ("/media/two.mp4", "/vod/two.mp4/master.m3u8", "/vod/two.mp4/video/0.m4s"):
                gone = in_s3.get(path)
                assert gone.status_code == 503
                assert int(gone.headers["retry-after"]) >= 1
                assert gone.headers["cache-control"] == "no-store"
        assert not in_s3.reached()
        assert in_s3.get("/health").json()["status"] == "degraded"
        for path, response in before.items():
            assert in_s3.get(path).content == response.content
        assert (
            in_s3.get("/media/one.mp4", range="bytes=5-9").content == before["/media/one.mp4"].content[5:10]
        )
        assert in_s3.get("/media/large.mp4", range="bytes=40000000-40000001").status_code == 503
    wait_for(lambda: in_s3.get("/vod/two.mp4/master.m3u8").status_code == 200, "S3 is reached again")
    wait_for(in_s3.reached, "all is well")


def test_metrics_count_requests_what_failed_and_what_the_cache_spared(in_s3: InS3) -> None:
    def told(name: str) -> float:
        lines = [
            line
            for line in in_s3.get("/metrics").text.splitlines()
            if line.startswith(f"headwater_s3_{name} ")
        ]
        return float(lines[0].split()[1])

    in_s3.get("/media/one.mp4")
    names = "requests_total", "received_bytes_total", "cache_hits_total", "cache_misses_total", "cache_bytes"
    before = {name: told(name) for name in names}
    assert in_s3.get("/media/one.mp4", range="bytes=0-9").status_code == 206
    assert told("cache_hits_total") > before["cache_hits_total"]
    assert told("cache_misses_total") == before["cache_misses_total"]
    assert told("received_bytes_total") == before["received_bytes_total"]
    assert 0 < before["cache_bytes"] <= before["received_bytes_total"]
    assert told("request_seconds_count") == told("requests_total")
    obstore.put(in_s3.s3.store(PREFIX), "counted.mp4", b"c" * 1000)
    assert in_s3.get("/media/counted.mp4").content == b"c" * 1000
    assert told("received_bytes_total") == before["received_bytes_total"] + 1000
    assert told("cache_misses_total") == before["cache_misses_total"]  # it came with the first look at it
    failed = told('failures_total{reason="unavailable"}')
    with in_s3.proxy.refusing():
        assert in_s3.get("/media/uncounted.mp4").status_code == 503
        assert told('failures_total{reason="unavailable"}') > failed
    wait_for(lambda: in_s3.get("/media/uncounted.mp4").status_code == 404, "S3 is reached again")


def test_an_s3_that_stalls_holds_up_nobody_who_needs_it_not(in_s3: InS3) -> None:
    wait_for(lambda: in_s3.get("/vod/one.mp4/video/0.m4s").status_code == 200, "the film")
    with in_s3.s3.stopped():
        assert in_s3.get("/media/large.mp4", range="bytes=30000000-30000001").status_code == 503
        assert in_s3.get("/vod/one.mp4/video/0.m4s").status_code == 200
        assert in_s3.get("/health").status_code in (200, 503)
    wait_for(lambda: in_s3.get("/media/large.mp4", range="bytes=30000000-30000001").status_code == 206, "S3")


def test_a_download_is_cut_where_the_object_is_replaced_and_never_of_two_versions(in_s3: InS3) -> None:
    store = in_s3.s3.store(PREFIX)
    obstore.put(store, "replaced.mp4", b"o" * LARGE)
    wait_for(lambda: in_s3.get("/media/replaced.mp4", range="bytes=0-0").status_code == 206, "the object")
    received = bytearray()

    def read(pieces: Iterator[bytes]) -> None:
        for piece in pieces:
            received.extend(piece)

    with httpx.stream("GET", f"{in_s3.server.url}/media/replaced.mp4", timeout=60) as response:
        former = response.headers["etag"]
        pieces = response.iter_raw()
        received += next(pieces)
        # Who doesn't read on holds the server up: it is far from the end now.
        obstore.put(store, "replaced.mp4", b"n" * LARGE)
        with pytest.raises(httpx.RemoteProtocolError):
            read(pieces)
    assert 0 < len(received) < LARGE
    assert set(received) == {ord("o")}
    wait_for(lambda: in_s3.get("/media/replaced.mp4", range="bytes=0-0").content == b"n", "the new one")
    again = in_s3.get("/media/replaced.mp4")
    assert again.headers["etag"] != former
    assert again.content == b"n" * LARGE
    resumed = in_s3.get("/media/replaced.mp4", **{"range": "bytes=100-", "if-range": former})
    assert (resumed.status_code, len(resumed.content)) == (200, LARGE)


def test_an_object_that_was_replaced_before_the_first_byte_is_answered_as_it_is_now(in_s3: InS3) -> None:
    store = in_s3.s3.store(PREFIX)
    film = films.film("silent.mp4").read_bytes()
    obstore.put(store, "now.mp4", films.film("bframes.mp4").read_bytes() + bytes(4 << 20))
    former = in_s3.get("/vod/now.mp4/video/0.m4s")
    # What is known of it holds for two seconds; what wasn't fetched yet isn't there any more.
    for number in range(1, 4):
        obstore.put(store, "now.mp4", film + bytes([number]) * (4 << 20))
        place = len(film) + (number << 20)
        answer = in_s3.get("/media/now.mp4", range=f"bytes={place - 1}-{place - 1}")
        assert (answer.status_code, answer.content) == (206, bytes([number]))
    assert in_s3.get("/vod/now.mp4/video/0.m4s").headers["etag"] != former.headers["etag"]


def test_slow_clients_of_large_objects_cost_little_memory(in_s3: InS3) -> None:
    address = in_s3.server.url.removeprefix("http://").split(":")
    clients, memory = 40, Path(f"/proc/{in_s3.server.process.pid}/statm")

    def resident() -> int:
        return int(memory.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    assert in_s3.get("/media/large.mp4").status_code == 200  # the cache has it, and the system's memory
    before = resident()
    with contextlib.ExitStack() as stack:
        for _ in range(clients):
            one = stack.enter_context(socket.create_connection((address[0], int(address[1])), 60))
            one.sendall(b"GET /media/large.mp4 HTTP/1.1\r\nHost: a\r\n\r\n")
            assert one.recv(1)
        assert in_s3.get("/media/one.mp4", range="bytes=0-0").status_code == 206
        assert resident() - before < clients * (2 << 20)


def _serve(library: str, environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    return run_headwater("serve", "--library", library, "--port", "0", *options, env=environment)


@pytest.mark.parametrize(
    ("library", "changed", "expected"),
    [
        ("s3://nowhere", {}, "NoSuchBucket"),
        (f"s3://{BUCKET}", {"AWS_SECRET_ACCESS_KEY": "wrong-and-secret"}, "SignatureDoesNotMatch"),
        ("s3://key:password@bucket", {}, "allowed: s3://bucket/prefix"),
        ("s3://bucket/../x?y", {}, "allowed: s3://bucket/prefix"),
    ],
)
def test_a_library_that_s3_will_never_give_ends_the_start_with_one_line(
    s3_server: S3Server, library: str, changed: dict[str, str], expected: str
) -> None:
    done = _serve(library, {**s3_server.environment(), **changed})
    assert done.returncode == 1
    (line,) = [line for line in (done.stdout + done.stderr).splitlines() if "library.path" in line]
    assert expected in line
    for hidden in ("Traceback", "password", "wrong-and-secret", SECRET):
        assert hidden not in done.stdout + done.stderr


def test_the_shown_configuration_has_the_address_and_no_credentials(s3_server: S3Server) -> None:
    done = _serve(f"s3://{BUCKET}/x", s3_server.environment(), "--print-config")
    assert f'path = "s3://{BUCKET}/x"' in done.stdout
    assert SECRET not in done.stdout


def test_without_the_extra_it_is_said_what_to_install_and_nothing_of_it_is_imported() -> None:
    code = (
        "import sys\nsys.modules['obstore'] = None\n"
        "from origin.cli.main import main\nimport origin.server.serve\n"
        "assert {name for name in sys.modules if 'packager.s3.' in name} == {'packager.s3.limits'}\n"
        f"sys.argv[1:] = ['serve', '--library', 's3://{BUCKET}', '--port', '0']\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "install headwater[s3]" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
