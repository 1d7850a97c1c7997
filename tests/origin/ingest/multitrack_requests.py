"""Requests of OBS for a configuration of several video tracks."""

from __future__ import annotations

from typing import Any

# OBS's frontend/utility/models/multitrack-video.hpp and GoLiveAPI_PostData.cpp: all that it sends.
ASKED: dict[str, Any] = {
    "service": "IVS",
    "schema_version": "2025-01-25",
    "authentication": "studio?key=KEY",
    "client": {"name": "obs-studio", "version": "32.0.1", "supported_codecs": ["h264", "av1"]},
    "capabilities": {
        "cpu": {"physical_cores": 16, "logical_cores": 32, "speed": 4200, "name": None},
        "memory": {"total": 34359738368, "free": 17179869184},
        "gaming_features": None,
        "system": {
            "version": "10.0",
            "name": "Windows",
            "build": 22631,
            "release": "23H2",
            "revision": "1",
            "bits": 64,
            "arm": False,
            "armEmulation": False,
        },
        "gpu": None,
    },
    "preferences": {
        "maximum_aggregate_bitrate": None,
        "maximum_video_tracks": None,
        "vod_track_audio": False,
        "composition_gpu_index": 0,
        "audio_samples_per_sec": 48000,
        "audio_channels": 2,
        "audio_max_buffering_ms": 960,
        "audio_fixed_buffering": False,
        "canvases": [
            {
                "width": 1920,
                "height": 1080,
                "canvas_width": 1920,
                "canvas_height": 1080,
                "framerate": {"numerator": 30, "denominator": 1},
            }
        ],
    },
}

CANVAS = ASKED["preferences"]["canvases"][0]


def changed(value: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """Change fields of the request, those of its parts one by one."""
    return {
        name: changed(old, **parts.get(name, {})) if isinstance(old, dict) else parts.get(name, old)
        for name, old in {**value, **{new: one for new, one in parts.items() if new not in value}}.items()
    }
