"""Thousands of configured event channels that nobody uses: what they cost, and that each is there."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import start_server

CHANNELS = 3000
MOST_BYTES = 4 << 10
TOKEN = "an-idle-channel-0001"


def written_bytes(process: int) -> int:
    """Return the bytes of memory that a process has written to, which no file backs."""
    found = re.search(
        r"^Anonymous: +([0-9]+) kB", Path(f"/proc/{process}/smaps_rollup").read_text(), re.MULTILINE
    )
    assert found is not None
    return int(found[1]) << 10


def used_bytes(folder: Path, count: int) -> int:
    """Return what a server with so many event channels takes, whose last is used behind that."""
    folder.mkdir()
    channels = "".join(
        f'[[events]]\nname = "e{number}"\npublish_token = "{TOKEN}"\n' for number in range(count)
    )
    (folder / "headwater.toml").write_text(
        f"[server]\nport = 0\n[limits]\nevent_channels = {CHANNELS}\n{channels}"
    )
    (folder / "headwater.toml").chmod(0o600)
    server = start_server(
        "--config", str(folder / "headwater.toml"), "--library", str(folder), cwd=folder, fresh=True
    )
    try:
        with urllib.request.urlopen(f"{server.url}/health", timeout=120) as answer:
            assert answer.status == 200
        used = written_bytes(server.process.pid)
        if count:
            fields = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "text/plain"}
            address = f"{server.url}/events/e{count - 1}"
            with urllib.request.urlopen(urllib.request.Request(address, b"hello", fields), timeout=120):
                pass
            with urllib.request.urlopen(f"{address}?since=", timeout=120) as answer:
                assert b"hello" in answer.read()
        return used
    finally:
        server.stop()


@pytest.mark.slow
def test_an_idle_channel_of_the_configuration_takes_four_kibibytes_at_most(tmp_path: Path) -> None:
    without = used_bytes(tmp_path / "none", 0)
    assert (used_bytes(tmp_path / "many", CHANNELS) - without) / CHANNELS <= MOST_BYTES
