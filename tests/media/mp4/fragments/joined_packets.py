"""Packets of joined streams, and what of them must stay the same."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any


def packets(data: bytes, path: Path) -> dict[str, list[dict[str, Any]]]:
    """Its packets by kind, in the order in which they lie in the file."""
    path.write_bytes(data)
    command = ["ffprobe", "-v", "error", "-show_data_hash", "md5", "-show_packets", "-of", "json", str(path)]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["packets"]
    kinds: dict[str, list[dict[str, Any]]] = {"video": [], "audio": []}
    for packet in listed:
        kinds[packet["codec_type"]].append(packet)
    return kinds


def essence(found: list[dict[str, Any]]) -> list[tuple[str, float, float, str]]:
    return [(one["data_hash"], float(one["pts_time"]), float(one["dts_time"]), one["flags"]) for one in found]
