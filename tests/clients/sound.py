"""A sound server without a sound card, for programs that play or record."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.waiting import wait_for

RECORDED = "null.monitor"
"""The source that hears what is played: silence, where nobody plays."""


@contextlib.contextmanager
def sound() -> Iterator[dict[str, str]]:
    """Run the sound server; give the variables by which programs find it."""
    with tempfile.TemporaryDirectory(prefix="headwater-sound-") as folder:
        address = Path(folder) / "native"
        modules = [
            "module-null-sink sink_name=null",
            f"module-native-protocol-unix socket={address} auth-anonymous=1",
        ]
        command = ["pulseaudio", "--daemonize=no", "--exit-idle-time=-1", "-n"]
        for module in modules:
            command += ["-L", module]
        process = subprocess.Popen(
            command,
            env={**os.environ, "HOME": folder, "XDG_RUNTIME_DIR": folder},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for(address.exists, "the sound server")
            yield {"PULSE_SERVER": f"unix:{address}"}
        finally:
            process.terminate()
            process.wait(120)
