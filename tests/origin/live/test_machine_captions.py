"""The page on captions by a machine: its script makes captions of what the filter of ffmpeg writes."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import httpx

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.patience import CLIENT_SECONDS
from tests.processes import end
from tests.waiting import wait_for

DOCUMENT = (Path(__file__).parents[3] / "docs" / "captions-by-a-machine.md").read_text("utf-8")
KEY = "a-key-of-the-channel"

FILTER = """#!/bin/sh
# In the place of an ffmpeg with the filter whisper: what that writes, as it writes it.
case "$*" in *"whisper=model=tiny.bin:language=en:"*"destination=-:format=srt"*) ;; *) exit 1 ;; esac
n=0
while :; do
  printf '%d\\n00:00:%02d,000 --> 00:00:%02d,500\\nWords %d, and more\\n\\n' $n $n $n $n
  n=$((n + 1)); sleep 1
done
"""


def captions(server: ServerProcess) -> str:
    """Return all text of the captions' rendition."""
    folder = f"{server.url}/live/studio"
    master = httpx.get(f"{folder}/master.m3u8", timeout=CLIENT_SECONDS).text
    found = re.search(r'TYPE=SUBTITLES.*?URI="([^"]+)"', master)
    assert found is not None, master
    name, _, _ = found[1].partition("/")
    listed = httpx.get(f"{folder}/{found[1]}", timeout=CLIENT_SECONDS).text
    segments = re.findall(r"^[^#\n]+", listed, re.MULTILINE)
    return "".join(httpx.get(f"{folder}/{name}/{one}", timeout=CLIENT_SECONDS).text for one in segments)


def test_the_script_captions_a_channel_as_it_goes(tmp_path: Path) -> None:
    (script,) = re.findall(r"```sh\n(.+?)```", DOCUMENT, re.DOTALL)
    (tmp_path / "captions.sh").write_text(script)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ffmpeg").write_text(FILTER)
    for program in ("captions.sh", "bin/ffmpeg"):
        (tmp_path / program).chmod(0o755)
    (tmp_path / "headwater.toml").write_text(
        "[server]\nport = 0\n" + copied_channel("studio", 'captions = ["en"]', f'publish_key = "{KEY}"')
    )
    with start_server(cwd=tmp_path) as server:
        master = f"{server.url}/live/studio/master.m3u8"
        wait_for(lambda: httpx.get(master, timeout=CLIENT_SECONDS).status_code == 200, "the channel")
        running = subprocess.Popen(
            ["./captions.sh", server.url, "studio", "en", "tiny.bin", "4"],
            cwd=tmp_path,
            env={**os.environ, "KEY": KEY, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"},
            start_new_session=True,
        )
        try:
            wait_for(lambda: "Words 4, and more" in captions(server), "the captions")
            assert running.poll() is None
        finally:
            end(running)
