"""How much of real time the machine carries now: an encoder's speed and a timer's lateness, by a short trial.

Tests that are marked ``realtime`` need a machine that keeps up with the clock. They run behind the others, as
many at a time as the trial says; where the machine is too slow, what depends on its speed isn't judged.
"""

from __future__ import annotations

import math
import subprocess
import threading
import time
from dataclasses import dataclass

from packager.process.ffmpeg_discovery import ToolsError, locate

FILM_SECONDS = 4.0
FILM = f"testsrc2=size=1280x720:rate=25:duration={FILM_SECONDS}"
ENCODE = ("-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-pix_fmt", "yuv420p")
TRIAL_SECONDS = 30.0
"""A machine that takes longer for the trial is too slow, whatever comes of it."""

TICK_SECONDS = 0.005
SPEED_OF_A_TEST = 2.5
"""What a test of a server, an encoder and a browser takes, in encoders that keep up with the clock."""

LEAST_SPEED = 5.0
MOST_LATE_SECONDS = 0.05
MOST_PROCESSES = 4


@dataclass(frozen=True, slots=True)
class Pace:
    """What the trial found.

    Attributes:
        speed: seconds of film that are encoded in a second.
        late: seconds by which one of twenty timers is late at least meanwhile.
    """

    speed: float
    late: float

    @property
    def keeps_up(self) -> bool:
        """Whether figures that need real time can be judged."""
        return self.speed >= LEAST_SPEED and self.late <= MOST_LATE_SECONDS

    @property
    def processes(self) -> int:
        """How many tests at a time the machine carries, at least one."""
        return min(max(int(self.speed / SPEED_OF_A_TEST), 1), MOST_PROCESSES)

    def __str__(self) -> str:
        return f"encodes at {self.speed:.1f} times real time, timers are {1000 * self.late:.0f} ms late"


def measure() -> Pace:
    """Encode a short film, and look how late timers are meanwhile."""
    lateness: list[float] = []
    encoded = threading.Event()

    def tick() -> None:
        while not encoded.is_set():
            begin = time.perf_counter()
            time.sleep(TICK_SECONDS)
            lateness.append(time.perf_counter() - begin - TICK_SECONDS)

    ticking = threading.Thread(target=tick)
    ticking.start()
    try:
        speed = _encoding_speed()
    finally:
        encoded.set()
        ticking.join()
    return Pace(speed, sorted(lateness)[len(lateness) * 19 // 20] if lateness else math.inf)


def _encoding_speed() -> float:
    try:
        ffmpeg = str(locate()[0])
        begin = time.perf_counter()
        command = [ffmpeg, "-v", "error", "-nostdin", "-f", "lavfi", "-i", FILM, *ENCODE, "-f", "null", "-"]
        subprocess.run(command, check=True, timeout=TRIAL_SECONDS)
    except (ToolsError, subprocess.SubprocessError):
        return 0.0
    return FILM_SECONDS / (time.perf_counter() - begin)
