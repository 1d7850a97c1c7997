"""Finds the programs that tests run beside the server, or skips the test with the package that has one."""

from __future__ import annotations

import os
import shutil

import pytest

FURTHER = "/usr/sbin"
"""Where servers lie: an ordinary user's PATH doesn't look there."""


def program(name: str, package: str = "") -> str:
    """Return a program's path.

    Args:
        package: Debian's, where it has another name.
    """
    path = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), FURTHER)))
    if path is None:
        pytest.skip(f"{name} isn't installed (Debian: apt-get install {package or name})")
    return path
