"""Dolby's configuration boxes: channels of AC-3 and E-AC-3 sound, and the profile of Dolby Vision video."""

from __future__ import annotations

from dataclasses import dataclass

from media.errors import MalformedError

_ACMOD_CHANNELS = (2, 1, 2, 3, 3, 4, 4, 5)
"""Channels of each audio coding mode (ETSI TS 102 366 table 4.3), the low-frequency one not counted."""

_LOCATION_CHANNELS = (2, 2, 1, 1, 2, 2, 2, 1, 1)
"""Channels of each bit of ``chan_loc`` (ETSI TS 102 366 table F.6.1), the lowest bit first."""

_BRANDS = {1: b"db1p", 2: b"db2g", 4: b"db4h"}
"""Brand of a stream whose base layer plays as HDR10, SDR or HLG, by its signal compatibility."""


def ac3_channels(dac3: bytes) -> int:
    """Read the channels of an ``AC3SpecificBox`` (ETSI TS 102 366 §F.4).

    Raises:
        MalformedError: it is cut off.
    """
    if len(dac3) < 3:
        raise MalformedError(f"dac3 of {len(dac3)} bytes is cut off")
    # fscod 2 bits, bsid 5, bsmod 3, acmod 3, lfeon 1, bit_rate_code 5, 5 reserved
    bits = int.from_bytes(dac3[:3], "big")
    return _ACMOD_CHANNELS[bits >> 11 & 7] + (bits >> 10 & 1)


@dataclass(frozen=True, slots=True)
class EnhancedAC3:
    """The parsed ``EC3SpecificBox`` of E-AC-3 sound.

    Attributes:
        channels: of the default programme, with its dependent substreams.
        joc_complexity: objects of joint object coding (Dolby Atmos); 0 without it.
    """

    channels: int
    joc_complexity: int = 0


def enhanced_ac3(dec3: bytes) -> EnhancedAC3:
    """Read an ``EC3SpecificBox`` (ETSI TS 102 366 §F.6) and its extension (ETSI TS 103 420 §C.3).

    Raises:
        MalformedError: it is cut off.
    """
    if len(dec3) < 5:
        raise MalformedError(f"dec3 of {len(dec3)} bytes is cut off")
    position, channels = 2, 0
    # data_rate 13 bits, num_ind_sub 3: one less than there are
    for number in range((dec3[1] & 7) + 1):
        # fscod 2 bits, bsid 5, reserved 1, asvc 1, bsmod 3, acmod 3, lfeon 1, reserved 3, num_dep_sub 4,
        # then chan_loc 9 where there are any, else 1 reserved
        if len(dec3) < position + 3:
            raise MalformedError(f"dec3 of {len(dec3)} bytes is cut off")
        bits = int.from_bytes(dec3[position : position + 4].ljust(4, b"\0"), "big")
        dependent = bits >> 9 & 15
        if dependent and len(dec3) < position + 4:
            raise MalformedError(f"dec3 of {len(dec3)} bytes is cut off")
        if number == 0:  # further independent substreams are other programmes
            channels = _ACMOD_CHANNELS[bits >> 17 & 7] + (bits >> 16 & 1)
            located = bits & 0x1FF if dependent else 0
            channels += sum(count for bit, count in enumerate(_LOCATION_CHANNELS) if located >> bit & 1)
        position += 4 if dependent else 3
    # flag_ec3_extension_type_a is the last bit of a byte, complexity_index_type_a the next one
    extended = len(dec3) >= position + 2 and dec3[position] & 1
    return EnhancedAC3(channels, dec3[position + 1] if extended else 0)


@dataclass(frozen=True, slots=True)
class DolbyVision:
    """The parsed configuration box of Dolby Vision.

    Attributes:
        profile: such as 5 (nothing else can show it) or 8 (HDR10, HLG or SDR with metadata).
        level: of picture size and rate.
        compatibility: format of the base layer for other players: 0 none, 1 HDR10, 2 SDR, 4 HLG.
    """

    profile: int
    level: int
    compatibility: int

    def codec(self, kind: str) -> str:
        """Return the RFC 6381 string: sample entry, profile and level of two digits each."""
        return f"{kind}.{self.profile:02d}.{self.level:02d}"

    @property
    def brand(self) -> bytes | None:
        """The compatible brand of the base layer; None if other players can't show it."""
        return _BRANDS.get(self.compatibility)


def dolby_vision(configuration: bytes) -> DolbyVision:
    """Read a Dolby Vision configuration ("Dolby Vision streams within the ISO base media file format" §3).

    Args:
        configuration: the payload of a ``dvcC``, ``dvvC`` or ``dvwC`` box.

    Raises:
        MalformedError: it is cut off.
    """
    if len(configuration) < 5:
        raise MalformedError(f"Dolby Vision configuration of {len(configuration)} bytes is cut off")
    # version 2 bytes, profile 7 bits, level 6, metadata, enhancement and base layer 1 each, compatibility 4
    bits = int.from_bytes(configuration[2:5], "big")
    return DolbyVision(bits >> 17, bits >> 11 & 63, bits >> 4 & 15)
