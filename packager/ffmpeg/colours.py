"""The filters that convert colours: of HDR to those of ordinary screens, and of films to those of JPEG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from media.mp4.codecs.colour import BT2020, BT2020_NON_CONSTANT, RGB, UNSPECIFIED, Colour
from packager.process.ffmpeg_discovery import Tools

Filters = Sequence[tuple[str, Mapping[str, object]]]
"""Names of filters with their settings, in the order in which pictures pass them."""

HDR_FILTERS = ("zscale", "tonemap")
"""Filters without which HDR isn't mapped."""

_TO_SDR: Filters = (
    ("zscale", {"transfer": "linear", "npl": 100}),
    ("format", {"pix_fmts": "gbrpf32le"}),
    ("zscale", {"primaries": "bt709"}),
    ("tonemap", {"tonemap": "hable", "desat": 0}),
    ("zscale", {"transfer": "bt709", "matrix": "bt709", "range": "limited"}),
    ("format", {"pix_fmts": "yuv420p"}),
)

MATRICES = {1: "bt709", 5: "bt470", 6: "smpte170m", 9: "bt2020"}
"""The names of MatrixCoefficients as the filter ``scale`` has them."""

# JFIF has the matrix of ITU-R BT.601, whatever the picture's size.
_TO_JPEG: Filters = (("scale", {"out_color_matrix": "bt601"}), ("format", {"pix_fmts": "yuvj420p"}))


def known_colour(colour: Colour | None, tools: Tools) -> Colour | None:
    """Return the colours of a source if an ffmpeg converts them: of HDR only some do; else None."""
    is_hdr = colour is not None and colour.video_range != "SDR"
    return None if is_hdr and tools.missing(filters=HDR_FILTERS) else colour


def to_sdr(colour: Colour | None) -> Filters:
    """Return the filters that map the wide range of brightness of HDR to that of ordinary screens.

    Args:
        colour: the source's; that of SDR only tags the pictures; None: they are tagged as they are.
    """
    if colour is None or colour.matrix == RGB:
        return ()
    if colour.video_range == "SDR":
        return (("setparams", {"colorspace": colour.matrix}),) if colour.matrix in MATRICES else ()
    # Not all decoders pass on the colours that the container alone has, and zscale refuses to guess.
    told = {
        "color_primaries": BT2020 if colour.primaries == UNSPECIFIED else colour.primaries,
        "color_trc": colour.transfer,
        "colorspace": BT2020_NON_CONSTANT if colour.matrix == UNSPECIFIED else colour.matrix,
    }
    return (("setparams", told), *_TO_SDR)


def to_jpeg(colour: Colour | None) -> Filters:
    """Return the filters that convert pictures to those of JPEG; as `to_sdr`."""
    return (*to_sdr(colour), *_TO_JPEG)


def matrix_names(colour: Colour) -> dict[str, object]:
    """Return settings of ``scale`` with which RGB is converted by a matrix, and YUV stays as it is."""
    name = MATRICES[colour.matrix]
    return {"in_color_matrix": name, "out_color_matrix": name}


def filtered(pictures: Any, filters: Filters) -> Any:
    """Return a stream of ffmpeg-python behind some filters."""
    for name, settings in filters:
        pictures = pictures.filter(name, **settings)
    return pictures


def filter_text(filters: Filters) -> str:
    """Write filters as ffmpeg's option ``-vf`` has them."""
    return ",".join(
        f"{name}={':'.join(f'{key}={value}' for key, value in settings.items())}"
        for name, settings in filters
    )
