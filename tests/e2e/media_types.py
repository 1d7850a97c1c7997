"""Media types of sounds, as browsers are asked about them."""

from __future__ import annotations

SOUNDS = {"opus.mp4": "Opus", "flac.mp4": "fLaC", "sound.m4a": "mp4a.40.2"}


def media_type(codec: str) -> str:
    return f'audio/mp4; codecs="{codec}"'
