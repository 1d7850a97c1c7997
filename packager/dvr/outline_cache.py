"""The outlines that were read or made lately, of all channels' blocks on disk and in S3."""

from __future__ import annotations

from collections.abc import Hashable

from packager.past.outlines import OUTLINE_BYTES, Outline
from packager.single_flight_cache import CacheLimits, SingleFlightCache

MAX_OUTLINE_BYTES = 1 << 20
"""Longest outline that is read."""

OUTLINES_KEPT = CacheLimits(items=1 << 16, nbytes=64 << 20)
"""The outlines of all channels that stay in memory; a day of four renditions has 400."""

OUTLINES = SingleFlightCache[tuple[str, int, Hashable], Outline](OUTLINES_KEPT, lambda _: OUTLINE_BYTES)
"""By place, block, and the state of an index that still grows or may be another one's."""
