"""A server with the channel `studio` that is published to over SRT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.origin.ingest.studio import KEY, PATIENT, Studio, studio
from tests.srt import calling, udp_port
from tests.waiting import wait_for

RIGHT = f"publish:studio:{KEY}"
PASSPHRASE = "of the vault: 6f1c"
"""Of those channels that need one."""


@dataclass
class SrtStudio:
    """A server with the channel ``studio``, and the port to which it is published."""

    studio: Studio
    port: int

    def output(self, stream_id: str = RIGHT) -> list[str]:
        """Give ffmpeg's output."""
        return ["-srt_streamid", stream_id, f"srt://127.0.0.1:{self.port}"]

    def refusal(self, stream_id: str, passphrase: str = "", key_bytes: int = 16) -> int:
        """Call, and give the reason for the refusal; 0 for none."""
        with calling(self.port, stream_id, passphrase, key_bytes) as caller:
            return caller.refusal

    def wait_until_listening(self) -> None:
        """Wait until the port is bound, which is not before the server's start."""
        wait_for(lambda: self.refusal("publish:nowhere:key") == 1404, "the port")


def srt_studio(
    folder: Path, more: str = "", others: str = "", limits: Mapping[str, float] = PATIENT
) -> Iterator[SrtStudio]:
    port = udp_port()
    with studio(folder, f"{more}\n{others}", f"[server]\nsrt_port = {port}\n", limits=limits) as one:
        hall = SrtStudio(one, port)
        hall.wait_until_listening()
        yield hall
    assert "Traceback" not in one.server.text()
    assert not [secret for secret in (KEY, PASSPHRASE) if secret in one.server.text()]
