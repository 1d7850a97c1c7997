"""A server with channels that are published to, and encoders that publish to them."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests import programs
from tests.conftest import ServerProcess, start_server
from tests.patience import CLIENT_SECONDS, patient_server
from tests.waiting import wait_for

KEY = "of-the-studio-3f7a"
CODING = "-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -c:a aac"
LADDER = 'ladder = ["240p"]\n'
PATIENT: Mapping[str, float] = {"publisher_seconds": CLIENT_SECONDS, "unacknowledged_seconds": 600}
"""No encoder has gone because the machine let it stand still, nor a client since it read nothing."""

PROMPT: Mapping[str, float] = {"publisher_seconds": 10}
"""An encoder that a test stops is noticed, and one that the machine lets stand still for a while isn't."""

CHANNEL = f'source = "publish"\n{LADDER}segment_duration = 1.0\npart_duration = 0.25\n'


@dataclass
class Studio:
    """A server with the channel ``studio``."""

    server: ServerProcess
    client: httpx.Client
    has_played: bool = False

    @property
    def address(self) -> str:
        """Where the channel is published to."""
        return f"{self.server.url}/live/studio/ingest"

    def channel(self, name: str = "studio") -> dict[str, Any]:
        """Give what ``/api/live`` says of a channel."""
        found = self.client.get(f"{self.server.url}/api/live").json()
        return next(one for one in found if one["name"] == name)

    def media_playlist(self, name: str = "studio", rendition: str = "240p") -> str:
        """Give a playlist as it is now; empty while there is none."""
        answer = self.client.get(f"{self.server.url}/live/{name}/{rendition}/media.m3u8")
        return answer.text if answer.status_code == 200 else ""

    def media_playlist_so_far(self) -> str:
        """Give the playlist of the streams before; empty before the first, for which a request would wait."""
        return self.media_playlist() if self.has_played else ""

    def wait_for_state(self, state: str) -> None:
        """Wait until the channel is in a state."""
        wait_for(lambda: self.channel()["state"] == state, f"the state {state}")

    def wait_for_timeline(self, after: str = "", rendition: str = "240p", name: str = "studio") -> str:
        """Wait until media of another stream is listed than in an earlier playlist; give the playlist."""
        known = timelines(after)

        def listed() -> str:
            text = self.media_playlist(name, rendition)
            return text if timelines(text) > known and is_media_listed_last(text) else ""

        try:
            playlist = wait_for(listed, "another timeline")
        except AssertionError as error:
            error.add_note(
                f"{self.channel(name)}\n{self.media_playlist(name, rendition)}\n{self.server.text()}"
            )
            raise
        self.has_played = True
        return playlist


def timelines(playlist: str) -> int:
    """Count the timelines up to the end of a playlist; 0 for none (RFC 8216bis §4.4.3.3)."""
    found = 1 if playlist else 0
    for line in playlist.splitlines():
        name, _, value = line.partition(":")
        if name == "#EXT-X-DISCONTINUITY-SEQUENCE":
            found += int(value)
        found += line == "#EXT-X-DISCONTINUITY"
    return found


def is_media_listed_last(playlist: str) -> bool:
    """Tell whether a complete segment, and no gap, follows the last discontinuity."""
    newest = playlist.rpartition("#EXT-X-DISCONTINUITY\n")[2]
    return "#EXTINF" in newest and "#EXT-X-GAP" not in newest


@contextlib.contextmanager
def studio(
    folder: Path,
    more: str = "",
    head: str = "",
    port: int = 0,
    *,
    ladder: bool = True,
    limits: Mapping[str, float] = PATIENT,
) -> Iterator[Studio]:
    """Run a server with the channel.

    Args:
        folder: where its configuration is.
        more: keys of the channel.
        head: sections before it.
        port: where it listens; 0: anywhere.
        ladder: whether it has the usual ladder.
        limits: of the configuration.
    """
    config = folder / "headwater.toml"
    told = "".join(f"{name} = {value}\n" for name, value in {**PATIENT, **limits}.items())
    channel = CHANNEL if ladder else CHANNEL.replace(LADDER, "")
    config.write_text(
        f'{head}\n[limits]\n{told}\n[[live]]\nname = "studio"\npublish_key = "{KEY}"\n{channel}{more}\n'
    )
    server = start_server("--config", str(config), "--port", str(port), program=patient_server())
    try:
        with httpx.Client(timeout=CLIENT_SECONDS) as client:
            yield Studio(server, client)
    finally:
        assert server.stop() == 0


def encoder_arguments(
    container: str = "mpegts", size: str = "160x120", rate: int = 10, more: str = "", coding: str = CODING
) -> str:
    """Give ffmpeg's arguments that make a stream in real time, up to its output."""
    picture = f"-re -f lavfi -i testsrc2=size={size}:rate={rate} -re -f lavfi -i sine=440:sample_rate=48000"
    return f"-nostdin -v error {picture} {coding} -g {rate} {more} -f {container}"


@contextlib.contextmanager
def encoding(*arguments: str, program: str = "ffmpeg") -> Iterator[subprocess.Popen[bytes]]:
    """Run an encoder, one of ffmpeg's releases, until the block ends."""
    process = subprocess.Popen(
        [programs.program(program), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
