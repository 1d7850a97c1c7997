"""The modules of the program."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent

ROOMS = {
    "media": {"media"},
    "packager": {"media", "packager"},
    "origin": {"media", "packager", "origin"},
}
"""Which rooms of ours a room may import."""

MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
