"""Listeners and sources of a real server's stations: threads, and programs that can be stopped."""

from __future__ import annotations

import base64
import contextlib
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

from media.mp3.reader import Frame, MpegAudioReader
from tests.conftest import ServerProcess
from tests.waiting import wait_for

PASSWORD = "sesame"


KEY = base64.b64encode(f"source:{PASSWORD}".encode()).decode()


CROWD = 150


LISTENERS = """
import select, socket, sys
port, path, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
poll, present = select.poll(), {}
for _ in range(count):
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    one.connect(("127.0.0.1", port))
    one.sendall(f"GET {path} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n".encode())
    one.setblocking(False)
    poll.register(one, select.POLLIN)
    present[one.fileno()] = one
print("in", flush=True)
while present:
    for number, _ in poll.poll():
        if not present[number].recv(65536):
            poll.unregister(number)
            present.pop(number).close()
"""


def port_of(server: ServerProcess) -> int:
    return int(server.url.rpartition(":")[2])


@contextlib.contextmanager
def crowd(server: ServerProcess, mount: str, count: int = CROWD) -> Iterator[subprocess.Popen[bytes]]:
    """Listeners in one process of their own, which is killed at the end of the block."""
    words = [sys.executable, "-c", LISTENERS, str(port_of(server)), f"/radio/{mount}", str(count)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"in\n"
            yield process
        finally:
            process.kill()


class Hearing:
    """A listener in a thread."""

    def __init__(self, url: str) -> None:
        self.data = bytearray()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, args=(url,))
        self._thread.start()

    def _listen(self, url: str) -> None:
        while not self._over.is_set():
            try:
                self._hear(url)
                return
            except urllib.error.HTTPError as error:
                # A source that stands still for some seconds is silent, which is told to who comes then.
                if error.code != 503:
                    raise
                error.close()
                time.sleep(0.1)

    def _hear(self, url: str) -> None:
        with urllib.request.urlopen(url, timeout=120) as answer:
            while not self._over.is_set() and (part := answer.read1(65536)):
                self.data += part

    def frames(self) -> list[Frame]:
        reader = MpegAudioReader()
        reader.receive_data(bytes(self.data))
        return [event for event in reader.events() if isinstance(event, Frame)]

    def end(self) -> None:
        """Leave; there must be audio on its way still."""
        self._over.set()
        self._thread.join(150)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def source(server: ServerProcess, rate: int = 44100, channels: int = 2) -> Iterator[subprocess.Popen[bytes]]:
    """ffmpeg as the source of ``open``, once it is heard."""
    url = f"icecast://source:{PASSWORD}@127.0.0.1:{port_of(server)}/radio/open"
    tones = ["-re", "-f", "lavfi", "-i", f"sine=sample_rate={rate}", "-ac", str(channels), "-b:a", "64k"]
    words = ["-flush_packets", "1", "-write_xing", "0", "-content_type", "audio/mpeg", "-f", "mp3", url]
    count = server.text().count("source connected")
    with subprocess.Popen(["ffmpeg", "-nostdin", "-v", "error", *tones, *words]) as process:
        try:
            wait_for(lambda: server.text().count("source connected") > count, what="the source")
            yield process
        finally:
            process.kill()


def gone(server: ServerProcess, count: int) -> None:
    wait_for(lambda: server.text().count("source gone") >= count, what="the source's going")
