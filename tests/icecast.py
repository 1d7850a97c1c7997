"""Icecast itself, as a peer to compare with and to relay from: in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.ports import kept_port

PASSWORD = "hackme"
START_SECONDS = 120.0
STOP_SECONDS = 120.0

CONFIG = """
<icecast>
  <limits>
    <clients>{clients}</clients><sources>4</sources><queue-size>524288</queue-size>
    <client-timeout>30</client-timeout><header-timeout>15</header-timeout><source-timeout>60</source-timeout>
    <burst-on-connect>1</burst-on-connect><burst-size>65535</burst-size>
  </limits>
  <authentication>
    <source-password>{password}</source-password><relay-password>{password}</relay-password>
    <admin-user>admin</admin-user><admin-password>{password}</admin-password>
  </authentication>
  <hostname>localhost</hostname>
  <listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>
  <mount type="default"><charset>UTF-8</charset></mount>
  <fileserve>0</fileserve>
  <paths>
    <basedir>{folder}</basedir><logdir>{folder}/log</logdir>
    <webroot>/usr/share/icecast2/web</webroot><adminroot>/usr/share/icecast2/admin</adminroot>
  </paths>
  <logging><accesslog>access.log</accesslog><errorlog>error.log</errorlog><loglevel>2</loglevel></logging>
  <security><chroot>0</chroot></security>
</icecast>
"""


@dataclass(frozen=True, slots=True)
class Icecast:
    """A running Icecast."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def source_url(self, mount: str) -> str:
        """What ffmpeg publishes to."""
        return f"icecast://source:{PASSWORD}@127.0.0.1:{self.port}/{mount}"


def is_installed() -> bool:
    return shutil.which("icecast2") is not None


@contextlib.contextmanager
def running(prefix: Sequence[str] = (), port: int = 0, clients: int = 100) -> Iterator[Icecast]:
    """Run Icecast until the block ends.

    Args:
        prefix: words in front of its command, such as ``taskset -c 0``.
        port: to listen on, 0 for a free one.
        clients: most listeners.
    """
    # It refuses to run as root, and nobody may look into pytest's folders.
    with tempfile.TemporaryDirectory() as name, kept_port() as free:
        Path(name).chmod(0o755)
        with _running(Path(name), prefix, port or free, clients) as server:
            yield server


@contextlib.contextmanager
def _running(folder: Path, prefix: Sequence[str], port: int, clients: int) -> Iterator[Icecast]:
    (folder / "log").mkdir(exist_ok=True)
    (folder / "log").chmod(0o777)
    config = folder / "icecast.xml"
    text = CONFIG.format(folder=folder, port=port, password=PASSWORD, clients=clients)
    config.write_text(text)
    user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups") if os.geteuid() == 0 else ()
    process = subprocess.Popen(
        [*prefix, *user, "icecast2", "-c", str(config)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port, process)
        yield Icecast(process.pid, port)
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as probe:
            # Where nobody listens yet, a port may be connected with itself.
            if probe.getsockname() != probe.getpeername():
                return
        if time.monotonic() > end or process.poll() is not None:
            raise RuntimeError("Icecast didn't start")
        time.sleep(0.05)
