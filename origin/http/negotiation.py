"""Content negotiation: what a request's header fields say of codings (RFC 9110 §12.5.3)."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from origin.http.answer import Headers

FIELDS_KEPT = 256
"""Most parsed Accept-Encoding fields that are cached."""

_GZIP = re.compile(r"(?:^|,)\s*(?P<coding>gzip|\*)\s*(?:;\s*q=(?P<q>[0-9.]+)\s*)?(?=,|$)", re.IGNORECASE)
_RANGES = frozenset((b"range", b"if-match", b"if-unmodified-since"))


@dataclass(frozen=True, slots=True)
class RequestTraits:
    """The header fields of a request that affect a cached response.

    Attributes:
        is_ranged: whether there is a Range, or a precondition that may fail.
    """

    is_ranged: bool = False
    accept_encoding: str = ""
    agent: bytes = b""

    @property
    def takes_gzip(self) -> bool:
        """Whether the response may be compressed."""
        # A compressed response to a range or precondition would need its own validators for every status.
        return not self.is_ranged and accepts_gzip(self.accept_encoding)

    @classmethod
    def from_headers(cls, fields: Headers) -> RequestTraits:
        """Read a request's raw header fields, names in lower case."""
        ranged, encoding, agent = False, "", b""
        for name, value in fields:
            if name in _RANGES:
                ranged = True
            elif name == b"accept-encoding":
                encoding = f"{encoding},{value.decode('latin-1')}" if encoding else value.decode("latin-1")
            elif name == b"user-agent":
                agent = value
        return cls(ranged, encoding, agent)


@functools.lru_cache(maxsize=FIELDS_KEPT)
def accepts_gzip(field: str) -> bool:
    """Return whether an Accept-Encoding field allows gzip (RFC 9110 §12.5.3)."""
    # RFC 9110 §12.5.3: "*" matches any coding that isn't listed.
    found = max(_GZIP.finditer(field), key=lambda named: named["coding"] != "*", default=None)
    return found is not None and (found["q"] is None or found["q"].strip("0.") != "")
