"""A live channel's first part for a viewer far away, on a network that loses packets, by each wire.

A viewer connects, and fetches the master playlist, the media playlist, the init segment and a part, one after
the other. The peer is an nginx with copies of these, by HTTP/2.

``python -m tests.benchmarks.distance view ROUNDS WIRE URL...`` is the viewer, at the near end of the link,
which prints the seconds of each round by each wire; ``… copy FOLDER URL`` copies what a viewer fetches.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urljoin

import httpx

from tests import made_once
from tests.benchmarks import link, peers
from tests.benchmarks.load import Figure
from tests.certificates import CHAIN, KEY, self_signed
from tests.conftest import start_server
from tests.copied_channel import copied_channel
from tests.fork_server import HEADWATER
from tests.http3_client import Http3Transport
from tests.patience import CLIENT_SECONDS
from tests.processes import end
from tests.waiting import wait_for

NAME = "first part, 100 ms, 1 % lost"
ROUND_TRIP_SECONDS, LOSS = 0.1, 0.01
ROUNDS = 40
MASTER = "/live/demo/master.m3u8"
PORT = 443

CONFIG = """
[server]
host = "{host}"
[tls]
certificate = "chain.pem"
key = "key.pem"
port = {port}
http3 = true
"""
NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  types {{ application/vnd.apple.mpegurl m3u8; video/mp4 mp4 m4s; }}
  gzip on; gzip_types application/vnd.apple.mpegurl; ssl_protocols TLSv1.2 TLSv1.3;
  ssl_certificate {chain}; ssl_certificate_key {key};
  server {{ listen {host}:{port} ssl http2; root {root}; }}
}}
"""
WIRES: dict[str, Callable[[], httpx.BaseTransport]] = {
    "HTTP/1.1": lambda: httpx.HTTPTransport(verify=False),
    "HTTP/2": lambda: httpx.HTTPTransport(verify=False, http1=False, http2=True),
    "HTTP/3": Http3Transport,
}


def first_part(client: httpx.Client, master: str) -> list[httpx.Response]:
    """Fetch what a player fetches until it has its first part."""

    def get(url: str) -> httpx.Response:
        found.append(client.get(url).raise_for_status())
        return found[-1]

    found: list[httpx.Response] = []
    media = re.search(r"^[^#\n].*$", get(master).text, re.MULTILINE)
    assert media is not None
    url = urljoin(master, media[0])
    playlist = get(url).text
    maps = re.findall(r'#EXT-X-MAP:URI="([^"]+)"', playlist)
    parts = re.findall(r'#EXT-X-PART:(?=.*INDEPENDENT=YES).*URI="([^"]+)"', playlist)
    for address in (maps[-1], parts[-1]):
        get(urljoin(url, address))
    return found


def view(rounds: int, wires: Sequence[tuple[str, str]]) -> list[list[float]]:
    """Fetch a first part by each wire in turn; return the seconds that each round took, by wire."""
    times: list[list[float]] = [[] for _ in wires]
    for _ in range(rounds):
        for (wire, url), seconds in zip(wires, times, strict=True):
            with httpx.Client(transport=WIRES[wire](), timeout=CLIENT_SECONDS) as client:
                began = time.perf_counter()
                first_part(client, url)
                seconds.append(time.perf_counter() - began)
    return times


def copy(folder: Path, url: str) -> None:
    """Write what a viewer fetches into a folder, by its paths."""
    with httpx.Client(verify=False, timeout=CLIENT_SECONDS) as client:
        for answer in first_part(client, url):
            path = folder / answer.url.path.strip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(answer.content)


@contextlib.contextmanager
def nginx_with(root: Path, folder: Path, far: Sequence[str], port: int) -> Iterator[str]:
    """Run an nginx at the far end with files; yields the address of the master playlist."""
    config, values = folder / "nginx.conf", {"chain": folder / CHAIN, "key": folder / KEY}
    config.write_text(NGINX.format(folder=folder, root=root, host=link.FAR_ADDRESS, port=port, **values))
    program = shutil.which("nginx") or "nginx"
    process = subprocess.Popen([*far, program, "-c", str(config), "-p", str(folder)])
    try:
        yield f"https://{link.FAR_ADDRESS}:{port}{MASTER}"
    finally:
        end(process)


def run(words: tuple[str, ...] = ()) -> Iterator[Figure]:
    """Give the figures of each wire, unless the words ask for something else or there can be no link."""
    if words and not any(word in NAME for word in words):
        return
    if not link.is_possible():
        print(f"{NAME}: needs the rights to make network namespaces")  # noqa: T201  # its purpose
        return
    peers.require("ip", "nginx")
    with (
        tempfile.TemporaryDirectory() as name,
        link.linked(ROUND_TRIP_SECONDS, LOSS) as lossy,
        contextlib.ExitStack() as stack,
    ):
        folder = Path(name)
        folder.chmod(0o755)
        os.environ.setdefault(made_once.VARIABLE, name)
        self_signed(folder)
        config = folder / "headwater.toml"
        text = CONFIG.format(host=link.FAR_ADDRESS, port=PORT)
        config.write_text(text + copied_channel("demo"))
        program = (*lossy.far, str(HEADWATER))
        server = start_server("--config", str(config), "--port", "0", program=program, fresh=True)
        stack.callback(server.stop)
        own = f"https://{link.FAR_ADDRESS}:{PORT}{MASTER}"
        viewer = [*lossy.near, sys.executable, "-m", __name__]
        copying = [*viewer, "copy", str(folder / "root"), own]
        wait_for(lambda: subprocess.run(copying, stderr=subprocess.DEVNULL).returncode == 0, "the channel")
        other = stack.enter_context(nginx_with(folder / "root", folder, lossy.far, PORT + 1))
        wires = [*((wire, own) for wire in WIRES), ("HTTP/2", other)]
        names = ["headwater, h1", "headwater, h2", "headwater, h3", "nginx, h2"]
        command = [*viewer, "view", str(ROUNDS), *(word for wire in wires for word in wire)]
        output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        times = list(zip(names, json.loads(output), strict=True))[::-1]
        for server_name, seconds in times:
            yield Figure(f"{NAME}: median", server_name, 1e3 * statistics.median(seconds), "ms")
        for server_name, seconds in times:
            p95 = statistics.quantiles(seconds, n=20)[-1]
            yield Figure(f"{NAME}: p95", server_name, 1e3 * p95, "ms")


if __name__ == "__main__":
    what, how, *others = sys.argv[1:]
    if what == "copy":
        copy(Path(how), *others)
    else:
        told = view(int(how), list(zip(others[::2], others[1::2], strict=True)))
        print(json.dumps(told))  # noqa: T201  # its report
