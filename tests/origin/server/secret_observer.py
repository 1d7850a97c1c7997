"""An observer of where a server's secrets appear."""

from __future__ import annotations

import contextlib
import threading
import time
import typing
from pathlib import Path

from tests.conftest import ServerProcess


class Observer:
    """Reads the command lines and variables of a server's children, for as long as it runs."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._is_over = False
        self.seen: set[str] = set()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> typing.Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over:
            for pid in self._processes():
                for name in ("cmdline", "environ"):
                    with contextlib.suppress(OSError):
                        self.seen.add(Path(f"/proc/{pid}/{name}").read_bytes().decode("utf-8", "replace"))
            time.sleep(0.002)

    def _processes(self) -> tuple[int, ...]:
        """List the server and its children; none once it has ended."""
        try:
            return (self._server.process.pid, *self._server.children())
        except ProcessLookupError:
            return ()
