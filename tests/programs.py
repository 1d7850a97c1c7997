"""Finds the programs that tests run beside the server, or skips the test with the package that has one."""

from __future__ import annotations

import os
import shutil

import pytest

SYSTEM_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
"""Servers lie where an ordinary user's PATH doesn't look."""


def program(name: str, package: str = "") -> str:
    """Return a program's path.

    Args:
        package: Debian's, where it has another name.
    """
    path = shutil.which(name, path=SYSTEM_PATH)
    if path is None:
        pytest.skip(f"{name} isn't installed (Debian: apt-get install {package or name})")
    return path
