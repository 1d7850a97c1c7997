"""Worker processes of a server, by their process IDs."""

from __future__ import annotations

from pathlib import Path

RANGE = b"GET /media/film.mp4 HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-9\r\nConnection: close\r\n\r\n"


def is_there(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and waits for its parent doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
