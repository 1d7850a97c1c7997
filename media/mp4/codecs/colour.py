"""A picture's colours by the numbers of ISO/IEC 23091-2, read from ``colr`` or from the coded stream."""

from __future__ import annotations

from dataclasses import dataclass

from media.errors import MalformedError
from media.mp4.codecs.av1 import find_sequence
from media.mp4.codecs.sequence_parameters import (
    SequenceParameters,
    avc_parameters,
    hevc_parameter_sets,
    hevc_parameters,
)

RGB = 0
"""MatrixCoefficients of pictures that aren't converted to YUV."""

BT709, UNSPECIFIED, BT601 = 1, 2, 6
PQ = 16
HLG = 18
BT2020 = BT2020_NON_CONSTANT = 9
"""ColourPrimaries, and MatrixCoefficients, of ITU-R BT.2020."""

HIGHEST_OF_BT601 = 576
"""Pixels of the shorter side up to which untagged pictures are taken to have the matrix of ITU-R BT.601."""


@dataclass(frozen=True, slots=True)
class Colour:
    """ColourPrimaries, TransferCharacteristics and MatrixCoefficients of video."""

    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    matrix: int = UNSPECIFIED

    @property
    def video_range(self) -> str:
        """SDR, HLG or PQ (RFC 8216bis §4.4.6.2); SDR if unspecified."""
        return {PQ: "PQ", HLG: "HLG"}.get(self.transfer, "SDR")


def usual_matrix(size: tuple[int, int]) -> int:
    """Return the MatrixCoefficients that players take for untagged pictures of a size."""
    return BT601 if min(size) <= HIGHEST_OF_BT601 else BT709


def colour_of_box(colr: bytes) -> Colour | None:
    """Read the payload of a ``colr`` box (ISO/IEC 14496-12 §12.1.5): nclx, or QuickTime's nclc."""
    if colr[:4] not in (b"nclx", b"nclc") or len(colr) < 10:
        return None
    return Colour(*(int.from_bytes(colr[at : at + 2], "big") for at in (4, 6, 8)))


def colour_of_configuration(kind: bytes, configuration: bytes) -> Colour | None:
    """Read the colours of a decoder's configuration; return None if it has none, or is malformed.

    Args:
        kind: ``avcC``, ``hvcC``, ``av1C`` or ``vpcC``.
    """
    try:
        if kind == b"avcC":
            length = int.from_bytes(configuration[6:8], "big")
            if not configuration[5] & 31:
                return None
            return _colour(avc_parameters(configuration[8 : 8 + length]))
        if kind == b"hvcC":
            unit = next((unit for kind, unit in hevc_parameter_sets(configuration) if kind == 33), b"")
            return _colour(hevc_parameters(unit)) if unit else None
        if kind == b"av1C" and (found := find_sequence(configuration[4:])) is not None:
            colour = found[1].colour
            return None if colour is None else Colour(*colour)
        if kind == b"vpcC" and len(configuration) >= 10:
            return Colour(*configuration[7:10])
    except (MalformedError, IndexError):
        pass  # whether the configuration is valid is for the decoder to judge
    return None


def _colour(parameters: SequenceParameters) -> Colour | None:
    return None if parameters.colour is None else Colour(*parameters.colour)
