"""``python -m tests.benchmarks.handover``: servers replace each other under load, and nobody notices.

Each next one is started on the same socket while the one before serves, which is then sent SIGTERM. Half of
the load keeps its connections, the other half makes one for each request; ``wrk`` counts what fails.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
import time
from pathlib import Path

from tests.succession import Succession, end

REPLACED = 3
CONNECTIONS = 8
CALM_SECONDS = 2.0
"""Of load before and behind each change."""

MOST_SECONDS = 120
"""After which the load ends by itself."""


def load(url: str, *fields: str) -> subprocess.Popen[str]:
    """Begin to ask for a file, as fast as it is given."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{MOST_SECONDS}s", "--timeout", "20s"]
    words = [word for field in fields for word in ("-H", field)]
    return subprocess.Popen([*command, *words, f"{url}media/film.mp4"], stdout=subprocess.PIPE, text=True)


def result(client: subprocess.Popen[str]) -> tuple[int, str]:
    """End a load. Returns the number of answers, and what failed."""
    client.send_signal(2)  # SIGINT: wrk ends, and tells
    output = client.communicate(timeout=60)[0]
    requests = re.search(r"(\d+) requests in", output)
    failures = re.findall(r"(?:Socket errors|Non-2xx).*", output)
    return int(requests[1]) if requests else 0, "; ".join(failures) or "no errors"


def main() -> None:
    """Run it, and print what came of it."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        (folder / "film.mp4").write_bytes(bytes(2048))
        servers = Succession(folder, stack)
        server = servers.start(fresh=True)
        url = "http://{}:{}/".format(*servers.address)
        began = time.monotonic()
        clients = [load(url), load(url, "Connection: close")]
        drains = []
        for _ in range(REPLACED):
            time.sleep(CALM_SECONDS)
            following = servers.start(fresh=True)
            time.sleep(CALM_SECONDS)
            told = time.monotonic()
            end(server)
            drains.append(time.monotonic() - told)
            server = following
        time.sleep(CALM_SECONDS)
        seconds = time.monotonic() - began
        for kind, client in zip(("kept", "new"), clients, strict=True):
            count, failures = result(client)
            show(f"{kind} connections: {count} requests, {count / seconds:.0f} a second; {failures}")
        show(f"the servers before took {', '.join(f'{drain:.2f} s' for drain in drains)} to end")
        end(server)


def show(text: str) -> None:
    """Print at once."""
    print(text, flush=True)  # noqa: T201  # its purpose


if __name__ == "__main__":
    main()
