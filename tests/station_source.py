"""A source client that sends a tone to a station."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence

from tests.clients.programs import environment
from tests.conftest import ServerProcess
from tests.processes import end

MP3 = ("-b:a", "64k", "-content_type", "audio/mpeg", "-f", "mp3")
"""How the tone is coded, where a test says nothing else."""


def source_client(
    server: ServerProcess, station: str, sound: str = "sine", coded: Sequence[str] = MP3
) -> subprocess.Popen[bytes]:
    """Start to send what ffmpeg makes to a station whose password is ``sesame``."""
    made = ["-re", "-f", "lavfi", "-i", sound, "-ac", "2", *coded]
    to = f"icecast://source:sesame@{server.url.partition('://')[2]}/radio/{station}"
    command = ["ffmpeg", "-nostdin", "-v", "error", *made, to]
    return subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def sending(
    server: ServerProcess, station: str, sound: str = "sine", coded: Sequence[str] = MP3
) -> Iterator[None]:
    """Send to a station while the context is open; see `source_client`."""
    with source_client(server, station, sound, coded) as process:
        try:
            yield
        finally:
            end(process)
