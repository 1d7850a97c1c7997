"""In what surroundings other programs run."""

from __future__ import annotations

import os

SETTINGS = {"LC_ALL": "C.UTF-8", "HOME": "/nonexistent", "no_proxy": "127.0.0.1"}
"""Clients speak English and have no configuration of their own."""

UNPRIVILEGED = 65534
"""The user that programs become that refuse to run as root."""


def environment() -> dict[str, str]:
    """Ours, without what would make a client behave differently."""
    ours = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**ours, **SETTINGS}
