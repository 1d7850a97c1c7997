"""VLC without a screen, which tests control over a socket."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.clients.programs import UNPRIVILEGED, environment
from tests.processes import end
from tests.programs import program
from tests.waiting import wait_for


class Vlc:
    """VLC, told what to do over a socket.

    Args:
        address: what it plays.
        folder: an empty one that anybody may write to.
    """

    def __init__(self, address: str, folder: Path) -> None:
        path = folder / "control"
        options = ("--no-color", "--aout=adummy", "--vout=vdummy", "--no-dbus", "--intf=oldrc")
        command = [program("cvlc", "vlc-bin"), *options, "--rc-fake-tty", f"--rc-unix={path}", address]
        if os.geteuid() == 0:
            # It refuses to run as root.
            ids = (f"--reuid={UNPRIVILEGED}", f"--regid={UNPRIVILEGED}", "--clear-groups")
            command = ["setpriv", *ids, *command]
        self.process = subprocess.Popen(
            command,
            env={**environment(), "HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._control = socket.socket(socket.AF_UNIX)
        wait_for(lambda: self._connected(path), what="VLC's start")

    def _connected(self, path: Path) -> bool:
        with contextlib.suppress(OSError):
            self._control.connect(str(path))
            return True
        return False

    def tell(self, command: str) -> None:
        self._control.sendall(f"{command}\n".encode())

    def number(self, command: str) -> int:
        """Ask for a number; 0 while it has none."""
        self.tell(command)
        with contextlib.suppress(TimeoutError):
            self._control.settimeout(0.3)
            found = re.findall(rb"^(\d+)\r?$", self._control.recv(1 << 16), re.MULTILINE)
            return int(found[-1]) if found else 0
        return 0

    def stop(self) -> None:
        self._control.close()
        end(self.process)


@contextlib.contextmanager
def playing(address: str) -> Iterator[Vlc]:
    """Run a VLC that has played an address for a second."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        vlc = Vlc(address, folder)
        try:
            wait_for(lambda: vlc.number("get_time") >= 1, what=f"VLC to play {address}")
            yield vlc
        finally:
            vlc.stop()


def check_plays(address: str) -> None:
    """Check that VLC plays an address for a second."""
    with playing(address):
        pass
