"""The encoders of H.264 for films, x264 and those of hardware: ffmpeg's options, and what their drivers need.

The pictures are decoded, scaled and composed by ffmpeg in any case; a device only encodes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

THREADS = 2
"""Threads of an encoder of pictures; another number gives other bytes."""

DRIVER_FILES = (
    "/sys/dev/char", "/sys/devices", "/sys/bus/pci", "/sys/class/drm", "/sys/module/nvidia",
    "/proc/driver/nvidia", "/proc/devices", "/proc/modules", "/proc/cpuinfo", "/proc/meminfo",
    "/proc/self/maps", "/etc/drirc", "/etc/libva.conf", "/run/opengl-driver",
)  # fmt: skip
"""Files and folders that the user-space drivers of devices read, beside the system's libraries."""

Options = Mapping[str, object]


def _constant_rate_factor(quality: int, rate: int) -> Options:
    del rate
    return {"crf": quality}


def _constant_quality(quality: int, rate: int) -> Options:
    return {"cq": quality, "b:v": 0, "maxrate": rate, "bufsize": rate}


def _variable_rate(quality: int, rate: int) -> Options:
    """Return options of an encoder without a scale of quality: x264 makes half as many bits of 6 more."""
    return {"b:v": int(rate * 0.8 * 2 ** ((23 - quality) / 6)), "maxrate": rate, "bufsize": rate}


@dataclass(frozen=True, slots=True)
class PictureEncoder:
    """An encoder of H.264.

    Attributes:
        name: as ``library.encoder`` names it.
        options: ffmpeg's options that are the same for all segments; those of bit stream filters may have a
            place for the level.
        rate_options: returns the options for a constant rate factor of x264, and the largest bits per second,
            to which x264 doesn't keep: its bytes would depend on the timing of its threads.
        pixel_format: of the pictures that it takes.
        hardware_type: the type of ffmpeg's hardware device to which pictures are uploaded; "" for none.
        patterns: patterns of the names of its device nodes in ``/dev``; none for software.
        nodes: the paths of the device nodes that it uses.
    """

    name: str
    options: Options
    rate_options: Callable[[int, int], Options] = field(compare=False)
    pixel_format: str = "yuv420p"
    hardware_type: str = ""
    patterns: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()

    @property
    def profile(self) -> str:
        """The encoder's part of the profile of segments; "" for software."""
        return self.name if self.nodes else ""

    @property
    def device_arguments(self) -> list[str]:
        """Arguments of ffmpeg that open the device to which pictures are uploaded."""
        if not self.hardware_type:
            return []
        return [
            "-init_hw_device",
            f"{self.hardware_type}=device:{self.nodes[0]}",
            "-filter_hw_device",
            "device",
        ]


# Without "sync-lookahead", a thread looks ahead as far as the timing lets it.
SOFTWARE = PictureEncoder(
    "software",
    {
        "c:v": "libx264",
        "preset": "veryfast",
        "threads": THREADS,
        "bf": 2,
        "g": 1 << 16,
        "x264-params": "stitchable=1:b-pyramid=none:scenecut=0:open-gop=0:sync-lookahead=0",
    },
    _constant_rate_factor,
)
"""x264, which works everywhere."""

# A device's parameter sets may depend on the segment: each of its segments begins with its own.
_DEVICE: Options = {"bf": 0, "g": 1 << 14, "bsf:v": "dump_extra"}

_VAAPI = PictureEncoder(
    "vaapi",
    {"c:v": "h264_vaapi", "rc_mode": "VBR", **_DEVICE},
    _variable_rate,
    pixel_format="nv12",
    hardware_type="vaapi",
    patterns=("dri/renderD*",),
)

HARDWARE = (
    _VAAPI,
    # Some of Intel's have this mode alone, with their free driver or in their newest generations.
    replace(_VAAPI, options={**_VAAPI.options, "low_power": 1}),
    PictureEncoder(
        "nvenc",
        {"c:v": "h264_nvenc", "preset": "p4", "rc": "vbr", "spatial-aq": 1, **_DEVICE},
        _constant_quality,
        patterns=("nvidia*",),
    ),
    PictureEncoder(
        "qsv",
        {"c:v": "h264_qsv", "preset": "veryfast", **_DEVICE},
        _variable_rate,
        pixel_format="nv12",
        patterns=("dri/renderD*",),
    ),
    PictureEncoder(
        "v4l2",
        # ffmpeg has no name for this encoder's profile, and doesn't pass the level on.
        {
            "c:v": "h264_v4l2m2m",
            "profile:v": 100,
            "num_capture_buffers": 16,
            **_DEVICE,
            "bsf:v": "h264_metadata=level={level},dump_extra",
        },
        _variable_rate,
        pixel_format="nv12",
        patterns=("video*",),
    ),
)
"""The encoders of hardware, in the order in which they are tried."""

PROFILES = ("", *dict.fromkeys(encoder.name for encoder in HARDWARE))
"""All profiles that encoders may have."""


def encoders_with_nodes(folder: Path) -> list[PictureEncoder]:
    """Return the encoders of hardware whose device nodes exist, in the order in which they are tried.

    Args:
        folder: of device nodes, such as ``/dev``.
    """
    found = list[PictureEncoder]()
    for encoder in HARDWARE:
        nodes = sorted(str(path) for pattern in encoder.patterns for path in folder.glob(pattern))
        # The arguments name a device to which pictures are uploaded; ffmpeg finds others by itself.
        shares = [(node,) for node in nodes] if encoder.hardware_type else [tuple(nodes)] if nodes else []
        found += [replace(encoder, nodes=share) for share in shares]
    return found
