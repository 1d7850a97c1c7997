"""Stations and listeners of a cluster's nodes."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from pathlib import Path

import httpx

from tests.conftest import ServerProcess

STATION = """
[[radio]]
name = "one.mp3"
title = "One"
source = "publish"
source_password = "sesame"
fallback = "{fallback}"

[[events]]
name = "news"
include = ["radio/one.mp3"]
"""


def made(folder: Path) -> str:
    """Make what is heard while nobody sends; its place is known to packagers alone."""
    path = folder / "fallback.mp3"
    sound = ["-f", "lavfi", "-i", "sine=duration=20", "-b:a", "64k", "-metadata", "title=Nobody", str(path)]
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *sound], check=True)
    return str(path)


class Listener:
    """Somebody who listens at a node, with titles.

    Attributes:
        heard: bytes of audio so far.
        titles: those that came, in order.
        is_gone: whether the node has let them go.
    """

    def __init__(self, one: ServerProcess) -> None:
        self.heard = 0
        self.titles: list[str] = []
        self.is_gone = False
        self._client = httpx.Client(timeout=120)
        request = self._client.build_request("GET", f"{one.url}/radio/one.mp3", headers={"icy-metadata": "1"})
        self._answer = self._client.send(request, stream=True)
        assert self._answer.status_code == 200
        self._metaint = int(self._answer.headers["icy-metaint"])
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        data = bytearray()
        with contextlib.suppress(httpx.HTTPError):
            for chunk in self._answer.iter_bytes():
                data += chunk
                while len(data) > self._metaint and len(data) > self._metaint + 16 * data[self._metaint]:
                    begin = self._metaint + 1
                    size = 16 * data[self._metaint]
                    if size:
                        self.titles.append(bytes(data[begin : begin + size]).decode().split("'")[1])
                    self.heard += self._metaint
                    del data[: begin + size]
        self.is_gone = True

    def close(self) -> None:
        with contextlib.suppress(OSError):
            # Closing alone doesn't wake who reads.
            self._answer.extensions["network_stream"].get_extra_info("socket").shutdown(2)
        self._thread.join(60)
        self._client.close()


def state(one: ServerProcess) -> object:
    return httpx.get(f"{one.url}/health", timeout=60).json()["services"]["radio/one.mp3"]
