"""The cost of a token: files, segments and playlists of an open folder, and of a signed one beside it."""

from __future__ import annotations

import contextlib
import re
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urljoin

from origin.access.address_tokens import SigningKeys
from tests.benchmarks import load, peers
from tests.benchmarks.load import Figure, Workload
from tests.benchmarks.peers import Peer
from tests.packager.films import run_ffmpeg

KEY = "2026-11:a-secret-of-the-benchmark"
VIEWERS = 200
"""How many viewers ask in turn: heads of requests differ in the token, or where there is none in a cookie, so
that neither place is answered by the bytes of a head that came before."""

SMALL_BYTES = 2048
FILM = "-f lavfi -i testsrc2=size=640x360:rate=25:duration=600 -c:v libx264 -preset ultrafast -g 50"
CONFIG = f"""
[library]
path = "{{library}}"
folders = {{{{ signed = "signed" }}}}
[access]
keys = ["{KEY}"]
"""
OPEN, SIGNED = "open", "signed"

_REQUEST = """
local prefixes = {{{prefixes}}}
request = function()
  local headers = {{{headers}}}
  if #prefixes == 1 then headers["Cookie"] = "viewer=" .. math.random({viewers}) end
  return wrk.format("GET", prefixes[math.random(#prefixes)] .. "{path}", headers)
end
"""

KINDS = (
    ("signed: 2 KB file", "/media/{}/small.mp4", ""),
    ("signed: 64 KiB range", "/media/{}/film.mp4", 'Range = "bytes=1000-66535"'),
    ("signed: playlist", "playlist", ""),
    ("signed: segment", "segment", ""),
)
"""What is asked for: its name in the figures, path or kind of address, and a header."""


def run(words: tuple[str, ...] = ()) -> Iterator[Figure]:
    """Measure each kind of address, or those whose names have one of the words."""
    wanted = [kind for kind in KINDS if not words or any(word in kind[0] for word in words)]
    if not wanted:
        return
    peers.require("wrk", "taskset", "ffmpeg")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        for place in (OPEN, SIGNED):
            (folder / "library" / place).mkdir(parents=True)
            (folder / "library" / place / "small.mp4").write_bytes(bytes(SMALL_BYTES))
        film = folder / "library" / OPEN / "film.mp4"
        run_ffmpeg(*FILM.split(), film)
        (folder / "library" / SIGNED / "film.mp4").write_bytes(film.read_bytes())
        config = folder / "headwater.toml"
        config.write_text(CONFIG.format(library=folder / "library"))
        port = peers.free_port()
        program = str(Path(sys.executable).parent / "headwater")
        command = [program, "serve", "--config", str(config), "--port", str(port)]
        server = stack.enter_context(peers.running("headwater", command, port))
        tokens = [SigningKeys([KEY]).sign("", int(time.time()) + 86400, f"v{one}") for one in range(VIEWERS)]
        asked = [replace(server, name=OPEN), replace(server, name=SIGNED)]
        playlist, segment = _addresses(server)
        paths = {"playlist": playlist, "segment": segment}
        for what, path, headers in wanted:
            yield from _cost(what, paths.get(path, path), headers, tokens, asked, folder)


def _cost(
    what: str, path: str, headers: str, tokens: list[str], asked: list[Peer], folder: Path
) -> Iterator[Figure]:
    prefixes = {OPEN: ['""'], SIGNED: [f'"/t/{token}"' for token in tokens]}
    scripts: dict[str, Path] = {}
    for place in (OPEN, SIGNED):
        (folder / place).mkdir(exist_ok=True)
        words = _REQUEST.format(
            prefixes=", ".join(prefixes[place]),
            headers=headers,
            path=path.format(place),
            viewers=VIEWERS,
        )
        scripts[place] = load.write_script(folder / place, Workload(what, words))

    def client(peer: Peer, workload: Workload) -> tuple[int, int]:
        return load.run(peer, scripts[peer.name], workload.connections, workload.seconds)

    yield from load.measure(Workload(what, ""), asked, folder, client=client)


def _addresses(server: Peer) -> tuple[str, str]:
    """Return the addresses of a media playlist and of a segment, with the folder's name left open."""
    master = f"{server.url}/vod/{OPEN}/film.mp4/master.m3u8"
    playlist = urljoin(master, _first(r"(?m)^[^#\n]+", master))
    segment = urljoin(playlist, _first(r"(?m)^[^#\n]+", playlist))
    first, second = (one.removeprefix(server.url).replace(f"/{OPEN}/", "/{}/") for one in (playlist, segment))
    return first, second


def _first(pattern: str, address: str) -> str:
    with urllib.request.urlopen(address) as answer:
        found = re.search(pattern, answer.read().decode())
    assert found is not None
    return found[0]
