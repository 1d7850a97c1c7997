"""Who a request's client is: by a pure decision, and by a real server on both ways and behind nginx."""

from __future__ import annotations

import http.client
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from origin.http.trusted_proxies import MAX_HOPS, Client, TrustedProxies, read_address
from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.ports import kept_port
from tests.processes import end
from tests.waiting import wait_for

PROXIES = TrustedProxies(["10.0.0.0/8", "192.0.2.1", "2001:db8:1::/48"])
PEER = "10.0.0.1"
STRANGER = "198.51.100.7"


def asked(peer: str, *fields: str) -> Client:
    pairs = [field.encode().split(b": ", 1) for field in fields]
    return PROXIES.client(peer, [(name.lower(), value) for name, value in pairs])


@pytest.mark.clause("CWE-290")
@pytest.mark.parametrize(
    "fields",
    [
        ("X-Forwarded-For: 203.0.113.5", "X-Forwarded-Proto: https"),
        ("Forwarded: for=203.0.113.5;proto=https",),
        ("Via: 1.1 203.0.113.5",),
    ],
)
def test_who_is_not_trusted_is_the_client_whatever_it_says(fields: tuple[str, ...]) -> None:
    assert asked(STRANGER, *fields) == Client(STRANGER)
    assert TrustedProxies().client("127.0.0.1", [(b"x-forwarded-for", b"203.0.113.5")]) == Client("127.0.0.1")


@pytest.mark.parametrize(
    ("fields", "host", "scheme"),
    [
        (("X-Forwarded-For: 203.0.113.5",), "203.0.113.5", None),
        (("X-Forwarded-For: 203.0.113.5", "X-Forwarded-Proto: https"), "203.0.113.5", "https"),
        # What stands left of the first address that isn't trusted is that one's own word.
        (("X-Forwarded-For: 127.0.0.1, 203.0.113.5",), "203.0.113.5", None),
        (("X-Forwarded-For: 6.6.6.6, 203.0.113.5, 192.0.2.1, 10.9.9.9",), "203.0.113.5", None),
        (("X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 203.0.113.5"), "203.0.113.5", None),
        (("X-Forwarded-For: 6.6.6.6,, 203.0.113.5 ,",), "203.0.113.5", None),
        # One scheme for all, or that of the client's own hop.
        (("X-Forwarded-For: 203.0.113.5, 10.2.2.2", "X-Forwarded-Proto: HTTPS"), "203.0.113.5", "https"),
        (
            ("X-Forwarded-For: 203.0.113.5, 10.2.2.2", "X-Forwarded-Proto: https, http"),
            "203.0.113.5",
            "https",
        ),
        (("X-Forwarded-For: 6.6.6.6, 203.0.113.5", "X-Forwarded-Proto: https, http"), "203.0.113.5", "http"),
        (("X-Forwarded-For: 203.0.113.5", "X-Forwarded-Proto: javascript"), "203.0.113.5", None),
        (("X-Forwarded-For: 203.0.113.5:50123",), "203.0.113.5", None),
        (("X-Forwarded-For: 2001:db8:cafe::17",), "2001:db8:cafe::17", None),
        (("X-Forwarded-For: [2001:DB8:cafe::17]:4711",), "2001:db8:cafe::17", None),
        (("X-Forwarded-For: ::ffff:203.0.113.5",), "203.0.113.5", None),
        # RFC 7239 §4, §6, §7.1: its own examples.
        (("Forwarded: for=192.0.2.43, for=198.51.100.17",), "198.51.100.17", None),
        (('Forwarded: For="[2001:db8:cafe::17]:4711"',), "2001:db8:cafe::17", None),
        (("Forwarded: for=192.0.2.60;proto=http;by=203.0.113.43",), "192.0.2.60", "http"),
        (('Forwarded: for=192.0.2.60; proto=https, for="[2001:db8:1::9]:_x"',), "192.0.2.60", "https"),
        (('Forwarded: for=6.6.6.6, for=203.0.113.5;host="a,for=7.7.7.7"',), "203.0.113.5", None),
        (('Forwarded: for="unclosed, for=203.0.113.5',), "203.0.113.5", None),
        (('Forwarded: for=6.6.6.6;x="\\", for=203.0.113.5;proto="https"',), "203.0.113.5", "https"),
        (("Forwarded: for=203.0.113.5;proto=https", "X-Forwarded-For: 203.0.113.5"), "203.0.113.5", "https"),
        (("Forwarded: for=203.0.113.5", "X-Forwarded-Proto: https"), "203.0.113.5", "https"),
    ],
)
def test_a_trusted_proxy_tells_the_client(fields: tuple[str, ...], host: str, scheme: str | None) -> None:
    assert asked(PEER, *fields) == Client(host, scheme)
    # From whichever end of the connection it is.
    assert asked("2001:db8:1::2", *fields) == Client(host, scheme)
    assert asked("::ffff:10.0.0.1", *fields) == Client(host, scheme)


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ("Via: 1.1 203.0.113.5",),
        ("X-Forwarded-For: ",),
        ("X-Forwarded-For: unknown",),
        ("X-Forwarded-For: 203.0.113.5, unknown",),
        ("X-Forwarded-For: 203.0.113.5, unix:",),
        ("X-Forwarded-For: 203.0.113.5, 1.2.3",),
        ("X-Forwarded-For: 203.0.113.5, 999.1.1.1",),
        ("X-Forwarded-For: 203.0.113.5, ²03.0.113.6",),
        ("X-Forwarded-For: 203.0.113.5, 1.1.1.1:port",),
        ("X-Forwarded-For: 203.0.113.5, [::1",),
        # RFC 7239 §6.2, §6.3.
        ("Forwarded: for=unknown",),
        ("Forwarded: for=203.0.113.5, for=_hidden",),
        ("Forwarded: for=203.0.113.5, proto=http",),
        ("Forwarded: for=203.0.113.5, ===",),
        ("Forwarded: for=203.0.113.5, for=" + "1" * 600,),
    ],
)
def test_what_nobody_understands_names_nobody(fields: tuple[str, ...]) -> None:
    assert asked(PEER, *fields).host == PEER


@pytest.mark.parametrize(
    ("field", "fields", "host", "scheme"),
    [
        # A proxy that writes one of them hands on the other as its client has written it.
        ("any", ("X-Forwarded-For: 203.0.113.5", "Forwarded: for=6.6.6.6"), "203.0.113.5", None),
        (
            "any",
            ("X-Forwarded-For: 203.0.113.5", "X-Forwarded-Proto: http", "Forwarded: for=6.6.6.6;proto=https"),
            "203.0.113.5",
            "http",
        ),
        ("any", ("X-Forwarded-For: 203.0.113.5", "Forwarded: proto=https"), "203.0.113.5", None),
        ("any", ("X-Forwarded-For: 203.0.113.5", "Forwarded: for=unknown;proto=https"), "203.0.113.5", None),
        ("X-Forwarded-For", ("X-Forwarded-For: 203.0.113.5", "Forwarded: for=6.6.6.6"), "203.0.113.5", None),
        ("X-Forwarded-For", ("Forwarded: for=6.6.6.6;proto=https",), PEER, None),
        (
            "Forwarded",
            ("X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https", "Forwarded: for=203.0.113.5;proto=http"),
            "203.0.113.5",
            "http",
        ),
        ("Forwarded", ("X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https"), PEER, None),
    ],
)
def test_a_field_of_a_clients_own_beside_the_proxys_names_nobody_else(
    field: str, fields: tuple[str, ...], host: str, scheme: str | None
) -> None:
    given = [one.split(": ") for one in fields]
    raw = [(name.lower().encode(), value.encode()) for name, value in given]
    assert TrustedProxies(["10.0.0.0/8"], field).client(PEER, raw) == Client(host, scheme)


def test_a_client_inside_of_a_trusted_network_is_the_outermost_one() -> None:
    assert asked(PEER, "X-Forwarded-For: 10.1.1.1, 10.2.2.2") == Client("10.1.1.1")
    assert asked(PEER, "X-Forwarded-For: unknown, 10.2.2.2") == Client("10.2.2.2")


def test_long_lists_cost_no_more_than_a_hundred_hops() -> None:
    hops = ", ".join(f"10.0.{number // 256}.{number % 256}" for number in range(1000))
    assert asked(PEER, f"X-Forwarded-For: {hops}").host == f"10.0.3.{1000 - MAX_HOPS - 3 * 256}"
    forwarded = ", ".join(f"for={hop}" for hop in hops.split(", "))
    assert asked(PEER, f"Forwarded: {forwarded}").host == f"10.0.3.{1000 - MAX_HOPS - 3 * 256}"
    began = time.process_time()
    for text in (
        "," * 30_000,
        '",' * 15_000,
        "for=10.0.0.1," * 2300,
        'for="' + "\\," * 15_000,
        "a=b;" * 7500,
    ):
        asked(PEER, f"Forwarded: {text}", f"X-Forwarded-For: {text}", f"X-Forwarded-Proto: {text}")
    assert time.process_time() - began < 1


def test_addresses_are_read_as_they_are_written() -> None:
    assert str(read_address("192.0.2.43:47011")) == "192.0.2.43"
    assert read_address("1.2.3.4.5") is None
    assert read_address("fe80::1%eth0") is None
    assert TrustedProxies(["fe80::/10"]).trusts("fe80::1%eth0")
    with pytest.raises(ValueError, match="does not appear"):
        TrustedProxies(["nginx.example"])


# A real server, which trusts one address of this machine and not the others

CONFIG = """
[server]
port = 0
trusted_proxies = ["127.0.0.2"]

[[radio]]
name = "one.mp3"
source = "publish"
source_password = "secret"

[log]
requests = true
"""
PLAYLIST = "/live/test/source/media.m3u8"
PROXY, NOBODY = "127.0.0.2", "127.0.0.1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("proxied")
    (folder / "library").mkdir()
    for way in ("fast", "slow"):
        (folder / "library" / f"{way}.mp4").write_bytes(b"film")
    (folder / "headwater.toml").write_text(
        CONFIG + copied_channel("test", "part_duration = 0.5", "segment_duration = 1.0")
    )
    with start_server("--config", "headwater.toml", "--library", "library", cwd=folder) as server:
        wait_for(lambda: get(server, PLAYLIST)[0] == 200, "the first segment")
        yield server


def get(
    server: ServerProcess, target: str, *, peer: str = NOBODY, way: str = "fast", **fields: str
) -> tuple[int, str]:
    """Ask from an address of this machine; the slow way is the application's."""
    address = server.url.removeprefix("http://")
    client = http.client.HTTPConnection(address, timeout=60, source_address=(peer, 0))
    try:
        # Conditions are the application's business, and these always hold.
        conditions = {"If-Match": "*"} if way == "slow" else {}
        client.request(
            "GET", target, headers={**{k.replace("_", "-"): v for k, v in fields.items()}, **conditions}
        )
        answer = client.getresponse()
        return answer.status, answer.read().decode()
    finally:
        client.close()


def viewers(server: ServerProcess) -> int:
    text = get(server, "/metrics")[1]
    found = re.search(r'^headwater_live_viewers\{channel="test"\} (\d+)', text, re.MULTILINE)
    assert found is not None
    return int(found[1])


def clients_logged(server: ServerProcess, target: str) -> list[str]:
    text = re.sub(r"\x1b\[[0-9;]*m", "", server.text())
    lines = [line for line in text.splitlines() if f"path={target} " in line]
    return [found[1] for line in lines if (found := re.search(r" client=(\S+)", line))]


def nobody_watches(server: ServerProcess) -> bool:
    return viewers(server) == 0


@pytest.mark.clause("CWE-290")
def test_viewers_behind_a_proxy_are_counted_once_and_one_by_one(server: ServerProcess) -> None:
    """By the connection's way and by the application's: both mean the same client."""
    wait_for(lambda: nobody_watches(server), "those of before to be forgotten")
    for _ in range(2):
        for number in range(3):
            for way in ("fast", "slow"):
                status, _ = get(server, PLAYLIST, peer=PROXY, way=way, X_Forwarded_For=f"203.0.113.{number}")
                assert status == 200
        assert viewers(server) == 3


def test_strangers_do_not_count_as_many_by_naming_others(server: ServerProcess) -> None:
    wait_for(lambda: nobody_watches(server), "those of before to be forgotten")
    for number in range(3):
        for way in ("fast", "slow"):
            get(
                server,
                PLAYLIST,
                way=way,
                X_Forwarded_For=f"203.0.113.{number}",
                Forwarded=f"for=192.0.2.{number}",
            )
    assert viewers(server) == 1


@pytest.mark.promise("log.requests", "server.trusted_proxies")
@pytest.mark.parametrize("way", ["fast", "slow"])
def test_the_log_names_the_client(server: ServerProcess, way: str) -> None:
    target = f"/media/{way}.mp4"
    # The first one opens it, so that the connection knows it from then on.
    for peer, claim in ((NOBODY, "6.6.6.6"), (PROXY, "203.0.113.9"), (NOBODY, "6.6.6.6")):
        assert get(server, target, peer=peer, way=way, X_Forwarded_For=claim)[0] == 200
    wait_for(lambda: len(clients_logged(server, target)) == 3, "the lines")
    assert clients_logged(server, target) == [NOBODY, "203.0.113.9", NOBODY]


def test_addresses_are_written_with_the_scheme_that_the_client_has_used(server: ServerProcess) -> None:
    fields = {"Host": "radio.example", "X_Forwarded_For": "203.0.113.9", "X_Forwarded_Proto": "https"}
    for kind in ("m3u", "xspf"):
        assert (
            "https://radio.example/radio/one.mp3"
            in get(server, f"/radio/one.mp3.{kind}", peer=PROXY, **fields)[1]
        )
        assert "http://radio.example/radio/one.mp3" in get(server, f"/radio/one.mp3.{kind}", **fields)[1]


NGINX = """
daemon off;
worker_processes 1;
error_log stderr error;
pid nginx.pid;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {upstream};
            proxy_bind {bound};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}
    }}
}}
"""


@pytest.mark.skipif(shutil.which("nginx") is None, reason="there is no nginx")
def test_behind_nginx_viewers_are_told_apart_and_cannot_name_themselves(
    server: ServerProcess, tmp_path: Path
) -> None:
    with kept_port() as port:
        text = NGINX.format(port=port, upstream=server.url, bound=PROXY)
        (tmp_path / "nginx.conf").write_text(text)
        nginx = subprocess.Popen(["nginx", "-p", str(tmp_path), "-c", "nginx.conf"])
        try:
            front = ServerProcess(server.process, f"http://127.0.0.1:{port}")

            def is_up() -> bool:
                try:
                    return get(front, "/health")[0] in (200, 503)
                except OSError:
                    return False

            wait_for(is_up, "nginx")
            wait_for(lambda: nobody_watches(server), "those of before to be forgotten")
            for peer in ("127.0.0.4", "127.0.0.5"):
                for claim in ("6.6.6.6", "7.7.7.7"):
                    assert get(front, PLAYLIST, peer=peer, X_Forwarded_For=claim)[0] == 200
            assert viewers(server) == 2
        finally:
            end(nginx)
