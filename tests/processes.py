"""Ends programs that tests start: how they end when they are asked to is their own affair."""

from __future__ import annotations

import subprocess

END_SECONDS = 60.0
"""How long one may take to end by itself: a killed nginx would leave its worker behind."""


def end(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """Ask a program to end, and end it where it doesn't."""
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
