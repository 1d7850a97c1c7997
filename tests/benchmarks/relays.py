"""Conversations with a model by a relay: processor time and delay of a token, memory of a conversation.

The peers are nginx, which passes bytes on and keeps none, and LiteLLM's proxy where `litellm` is on the path
(``pip install "litellm[proxy]"``). The delay counts from when the model's server sends a token; without
anything between it is that of ``none``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from tests.benchmarks import events, peers
from tests.benchmarks.event_publisher import TOKEN
from tests.benchmarks.load import Figure
from tests.benchmarks.peers import Peer

NAME = "relays"
CONVERSATIONS, RATE = 1000, 2
"""Answers at the same time, and tokens a second of each."""

SECONDS, SETTLE_SECONDS = 15.0, 3.0
JOIN_SECONDS = 10.0

CONFIG = """
[server]
port = {port}
[library]
path = "{folder}"
[[relay]]
name = "bench"
upstreams = ["http://127.0.0.1:{upstream}/v1"]
token = "{token}"
[limits]
relay_requests = 2000
event_readers = 4000
all_event_readers = 4000
event_readers_per_address = 4000
connections = 4000
connections_per_address = 4000
"""

NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
worker_rlimit_nofile 20000;
events {{ worker_connections 15000; }}
http {{
  access_log off; tcp_nodelay on;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port} backlog=4096;
    location /v1/ {{ proxy_pass http://127.0.0.1:{upstream}; proxy_buffering off;
      proxy_http_version 1.1; }} }}
}}
"""

LITELLM = """
model_list:
  - model_name: bench
    litellm_params: {{model: openai/bench, api_base: "http://127.0.0.1:{upstream}/v1", api_key: none}}
"""


@contextlib.contextmanager
def headwater(folder: Path, upstream: int) -> Iterator[tuple[Peer, str]]:
    """Ours, and the path of its questions."""
    port, config = peers.free_port(), folder / "headwater.toml"
    config.write_text(CONFIG.format(port=port, folder=folder, upstream=upstream, token=TOKEN))
    program = str(Path(sys.executable).parent / "headwater")
    with peers.running("headwater", [program, "serve", "--config", str(config)], port) as peer:
        yield peer, "/relay/bench/v1/chat/completions"


@contextlib.contextmanager
def nginx(folder: Path, upstream: int) -> Iterator[tuple[Peer, str]]:
    """nginx, which passes answers on as they come."""
    port, config = peers.free_port(), folder / "nginx.conf"
    config.write_text(NGINX.format(port=port, folder=folder, upstream=upstream))
    command = [shutil.which("nginx") or "nginx", "-c", str(config), "-p", str(folder)]
    with peers.running_workers("nginx", command, port) as peer:
        yield peer, "/v1/chat/completions"


@contextlib.contextmanager
def litellm(folder: Path, upstream: int) -> Iterator[tuple[Peer, str]]:
    """LiteLLM's proxy with one worker."""
    port, config = peers.free_port(), folder / "litellm.yaml"
    config.write_text(LITELLM.format(upstream=upstream))
    variables = ["env", "LITELLM_LOCAL_MODEL_COST_MAP=True", f"HOME={folder}"]
    variables += ["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY=true"]
    command = [*variables, shutil.which("litellm") or "litellm", "--config", str(config)]
    with peers.running("LiteLLM", [*command, "--port", str(port), "--host", "127.0.0.1"], port) as peer:
        yield peer, "/v1/chat/completions"


@contextlib.contextmanager
def nothing(folder: Path, upstream: int) -> Iterator[tuple[Peer, str]]:
    """The model's server itself."""
    yield Peer("none", f"http://127.0.0.1:{upstream}", ()), "/v1/chat/completions"


SERVERS: tuple[Callable[[Path, int], AbstractContextManager[tuple[Peer, str]]], ...] = (
    nginx,
    nothing,
    headwater,
    litellm,
)


def run(words: tuple[str, ...] = ()) -> Iterator[Figure]:
    """Measure each server with as many conversations."""
    name = f"{NAME}, {CONVERSATIONS:,} conversations"
    if words and not any(word in name for word in words):
        return
    peers.require("taskset", "nginx")
    # In the order of the servers; the figures of one kind belong together.
    found: dict[str, list[Figure]] = {}
    for server in SERVERS:
        if server is litellm and shutil.which("litellm") is None:
            continue
        for figure in _costs(server, name):
            found.setdefault(figure.benchmark, []).append(figure)
    for figures in found.values():
        yield from figures


def _costs(
    server: Callable[[Path, int], AbstractContextManager[tuple[Peer, str]]], name: str
) -> Iterator[Figure]:
    upstream = peers.free_port()
    words = ["-m", "tests.benchmarks.relay_upstream", str(upstream), str(RATE)]
    with (
        tempfile.TemporaryDirectory() as folder,
        peers.running("upstream", [sys.executable, *words], upstream, peers.CLIENT_CORE),
        server(Path(folder), upstream) as (peer, path),
    ):
        os.chmod(folder, 0o755)
        time.sleep(SETTLE_SECONDS)
        empty = peer.resident_bytes()
        with events.crowd(peer, path, CONVERSATIONS, JOIN_SECONDS, "asking") as crowd:
            time.sleep(SETTLE_SECONDS)
            used, began = peer.scheduled_seconds(), time.monotonic()
            readers, witnesses = crowd.note(SECONDS)
            used, elapsed = peer.scheduled_seconds() - used, time.monotonic() - began
            full = peer.resident_bytes()
    if readers["ended"] or witnesses["ended"]:
        ended = readers["ended"] + witnesses["ended"]
        raise RuntimeError(f"{peer.name}: {ended:.0f} conversations were ended")
    got = readers["events"] + witnesses["events"]
    if peer.pids:
        yield Figure(f"{name}: CPU", peer.name, 1e6 * used / max(got, 1), "µs/token")
        yield Figure(f"{name}: server busy", peer.name, 100 * used / elapsed, "% of a core")
        yield Figure(f"{name}: RSS", peer.name, (full - empty) / CONVERSATIONS / 1024, "KiB each")
    yield Figure(f"{name}: delivered", peer.name, got / elapsed, "tokens/s")
    yield Figure(f"{name}: delay p50", peer.name, 1e3 * witnesses["delay_p50"], "ms")
    yield Figure(f"{name}: delay p99", peer.name, 1e3 * witnesses["delay_p99"], "ms")
