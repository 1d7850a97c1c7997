"""A live channel that shows a film as it comes.

Encoding even the smallest test source takes a fifth of a core for as long as a server runs; whoever looks at
what becomes of a channel, and not at its encoding, has the same parts and segments of this one for nothing.
"""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

from tests.made_once import made_once

WIDTH, HEIGHT = 320, 180
RATE = 12
"""Pictures per second: a part of a third or a quarter of a second has whole ones.

To draw, encode and show them takes half of what 25 take: other sources that are watched have as many.
"""

HERTZ = 48000
ROUND_SECONDS = 16
"""How long what is encoded lasts: whole pictures, and whole frames of sound."""

ROUNDS = 25
"""How often the film has that, without a break: longer than anybody watches until it begins anew itself."""

TONE = "-c:a aac -b:a 192k"
"""How a tone is encoded: to encode again what the usual 69 kbit/s leave of it takes four times as long."""

ROUND = (
    f"-f lavfi -i testsrc2=size={WIDTH}x{HEIGHT}:rate={RATE}:duration={ROUND_SECONDS} "
    f"-f lavfi -i sine=frequency=440:sample_rate={HERTZ}:duration={ROUND_SECONDS} "
    f"-c:v libx264 -preset ultrafast -g {RATE} -pix_fmt yuv420p "
    f"{TONE} -frames:a {ROUND_SECONDS * HERTZ // 1024}"
)
"""ffmpeg's arguments; a key frame begins each second."""


@functools.cache
def film() -> Path:
    """Give the film, which the processes of a run share."""
    once = f"{ROUND} round.ts"
    often = f"-stream_loop {ROUNDS - 1} -i round.ts -c copy film.mp4"

    def make(folder: Path) -> None:
        for words in (once, often):
            command = ["ffmpeg", "-nostdin", "-v", "error", *words.split()]
            subprocess.run(command, check=True, timeout=300, cwd=folder)

    return made_once([once, often], make) / "film.mp4"


def copied_channel(name: str, *lines: str) -> str:
    """Give the configuration of a channel that shows the film; more of its options are lines."""
    options = (f'name = "{name}"', f'source = "{film()}"', 'ladder = ["source"]', *lines)
    return "\n".join(("[[live]]", *options, ""))
