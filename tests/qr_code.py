"""Reads QR codes by zbar, which knows nothing of this server."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from tests.programs import program

MODULE_PIXELS = 4


def read_picture(picture: Path) -> str:
    """Return what the code in a picture says."""
    options = ("--quiet", "--raw", "-Sdisable", "-Sqrcode.enable")
    command = (program("zbarimg", "zbar-tools"), *options, str(picture))
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout.strip()


def read(rows: Sequence[str]) -> str:
    """Return what a code says whose dark modules are ``#``, with its quiet zone."""
    code = Image.new("L", (len(rows[0]), len(rows)))
    code.putdata([0 if one == "#" else 255 for row in rows for one in row])
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "code.png"
        code.resize((code.width * MODULE_PIXELS, code.height * MODULE_PIXELS), Image.Resampling.NEAREST).save(
            picture
        )
        return read_picture(picture)
