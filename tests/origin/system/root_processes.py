"""Servers that root starts, and the users and capabilities that they run with."""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NOBODY = "nobody"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

SITE = Path(pytest.__file__).parent.parent

HERE = Path(__file__).parents[4]


@functools.cache
def everybodys() -> tuple[tuple[str, ...], dict[str, str]]:
    """How to run the command with a Python that others than root may read; it needn't be the tests' own.

    Gives the program and its environment.
    """
    user, path = pwd.getpwnam(NOBODY), os.pathsep.join([str(HERE), str(SITE)])
    same = f"import sys, uvloop; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    for python in (sys.executable, "/usr/bin/python3"):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            ids: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            env = {"PYTHONPATH": path}
            subprocess.run([python, "-c", same], check=True, capture_output=True, env=env, **ids)
            return (python, "-c", "from origin.cli.main import main; main()"), env
    pytest.skip(f"{NOBODY} can run no Python that has what Headwater needs")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may look into, which pytest's own aren't."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        for part in ("library", "music", "data"):
            (path / part).mkdir()
        yield path


def free_low_port() -> int:
    """A port that only root may listen on."""
    for port in range(1023, 600, -1):
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    pytest.skip("no port below 1024 is free")


def states(pid: int) -> list[dict[str, str]]:
    """What the kernel says of each thread of a process."""
    texts = []
    for path in Path(f"/proc/{pid}/task").glob("*/status"):
        with contextlib.suppress(OSError):  # the thread has ended
            texts.append(path.read_text())
    return [dict(re.findall(r"^(\w+):\s*(.*?)\s*$", text, re.MULTILINE)) for text in texts]
