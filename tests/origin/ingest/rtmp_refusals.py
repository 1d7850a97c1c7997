"""Refusals of RTMP publishers."""

from __future__ import annotations

import subprocess

from tests.origin.ingest.studio import encoder_arguments
from tests.patience import CLIENT_SECONDS

FLV = encoder_arguments("flv").split()


def refused(arguments: list[str]) -> str:
    """Run an encoder that is to fail; give what it prints."""
    run = subprocess.run(
        ["ffmpeg", *arguments],
        capture_output=True,
        text=True,
        timeout=CLIENT_SECONDS,
        stdin=subprocess.DEVNULL,
    )
    assert run.returncode != 0
    return run.stderr
