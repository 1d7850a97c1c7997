"""Films with captions in the picture (CEA-608, CEA-708), as user data of H.264."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.packager.films import run_ffmpeg

FRAMES = 100
PICTURE = f"-f lavfi -i testsrc2=s=128x96:r=25 -frames:v {FRAMES} -c:v libx264 -preset ultrafast -bf 0"

Pair = tuple[int, int]
Triple = tuple[int, int, int]
"""Type of CEA-708's construct, and its two bytes."""


def sei(triples: Sequence[Triple]) -> bytes:
    """Write a unit of SEI (ANSI/SCTE 128-1 §8.1) with caption constructs, all of which are valid."""
    constructs = b"".join(bytes((0xFC | kind, first, second)) for kind, first, second in triples)
    payload = b"\xb5\x00\x31GA94\x03" + bytes((0x40 | len(triples), 0xFF)) + constructs + b"\xff"
    unit = bytes((6, 4, len(payload))) + payload + b"\x80"
    while b"\0\0\0" in unit or b"\0\0\1" in unit or b"\0\0\2" in unit:
        for last in (0, 1, 2):
            unit = unit.replace(bytes((0, 0, last)), bytes((0, 0, 3, last)))
    return unit


def odd(byte: int) -> int:
    """Return a byte of CEA-608 with its parity."""
    return byte | 0x80 if byte.bit_count() % 2 == 0 else byte


def popped_on(text: str, channel: int) -> list[Pair]:
    """Return the pairs of a pop-on caption (CEA-608 Annex B) in the first or second channel of a field."""
    control = 0x14 + 8 * (channel - 1)
    letters = [(ord(one), ord(other)) for one, other in zip(text[::2], text[1::2], strict=True)]
    codes = ((control, 0x20), (control, 0x2E), (control, 0x70), *letters, (control, 0x2F))
    return [(odd(first), odd(second)) for first, second in codes]


def film(path: Path, captions: Sequence[Sequence[Triple]]) -> Path:
    """Make a film whose pictures, from the last but so many on, have caption constructs."""
    raw = path.with_suffix(".h264")
    run_ffmpeg(
        *PICTURE.split(), "-pix_fmt", "yuv420p", "-g", "50", "-x264-params", "scenecut=0:slices=1:aud=0", raw
    )
    units = [unit for unit in raw.read_bytes().replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if unit]
    first, number, written = FRAMES - len(captions), 0, bytearray()
    for unit in units:
        if unit[0] & 31 in (1, 5):
            written += b"\0\0\0\1" + sei(captions[number - first]) if number >= first else b""
            number += 1
        written += b"\0\0\0\1" + unit
    raw.write_bytes(written)
    run_ffmpeg("-r", "25", "-i", raw, "-c", "copy", path)
    raw.unlink()
    return path


def constructs(pairs: Sequence[Pair], field: int, length: int) -> list[list[Triple]]:
    """Put a caption's pairs into pictures, one each, with padding before them."""
    padding = [(0x80, 0x80)] * (length - len(pairs))
    return [[(field, first, second)] for first, second in (*padding, *pairs)]


def shown_by_ffmpeg(path: Path) -> str:
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        f"movie={path}[out+subcc]",
        "-map",
        "s",
        "-f",
        "srt",
        "-",
    ]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
