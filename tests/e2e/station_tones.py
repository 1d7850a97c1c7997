"""Tones that stations play, and how a browser's analyser recognises them."""

from __future__ import annotations

import math
import subprocess
from dataclasses import dataclass
from typing import Any

TITLES = {440: ("Low", "A four"), 880: ("Middle", "A five"), 1760: ("High", "A six")}

BITRATE = 64
"""kbit/s: the burst of 64 KiB is eight seconds, so that titles come well before they are heard."""

CLOSE_SECONDS = 1.0
"""How far apart the audible change and the title's may be."""


def tone(hertz: int, seconds: float, **tags: str) -> bytes:
    """An MP3 of a sine, made by ffmpeg."""
    source = ["-f", "lavfi", "-i", f"sine=frequency={hertz}:duration={seconds}:sample_rate=44100"]
    words = [*source, "-ac", "2", "-b:a", f"{BITRATE}k", "-write_xing", "0"]
    for name, value in tags.items():
        words += ["-metadata", f"{name}={value}"]
    command = ["ffmpeg", "-nostdin", "-v", "error", *words, "-f", "mp3", "pipe:1"]
    return subprocess.run(command, check=True, timeout=300, stdout=subprocess.PIPE).stdout


@dataclass(frozen=True)
class Notes:
    """What changed when, on the page's clock."""

    changes: dict[str, list[dict[str, Any]]]

    def moments(self, kind: str, value: object) -> list[float]:
        return [note["at"] for note in self.changes[kind] if note["value"] == value]

    def is_sure(self, moment: float) -> bool:
        """Whether the page noted all that was near a moment, in time."""
        early, late = moment - CLOSE_SECONDS, moment + CLOSE_SECONDS
        stood_still = any(still["from"] < late and still["to"] > early for still in self.changes["still"])
        return late < self.changes["now"][0]["at"] and not stood_still

    def judge(self) -> list[dict[str, float]]:
        """Compare each audible change with the title's, on the page, in the session, and as it was sent."""
        found = []
        for change in self.changes["heard"][1:]:
            if not self.is_sure(change["at"]):
                continue
            artist, title = TITLES[change["value"]]
            shown, session = (
                min(
                    (moment - change["at"] for moment in self.moments(kind, value)), key=abs, default=math.inf
                )
                for kind, value in (("shown", f"{artist} - {title}"), ("session", title))
            )
            sent = [moment - change["at"] for moment in self.moments("sent", f"{artist} - {title}")]
            before = max((moment for moment in sent if moment < 0), default=0.0)
            found.append({"shown": shown, "session": session, "sent": before})
        return found
